/* The float part of attention over int8 keys and values, once for all instruction sets like ct_float_body.h, which comes before it.
 * The integer part, key_scores and value_sums, is each instruction set's own. */

typedef int16_t v16s __attribute__((ext_vector_type(16)));

CT_INLINE v16i a_rounded(v16f x, float s) { return f_rounded(x, s) - CT_ROUND_BITS; }

static float a_kv_quantize(const float *x, int8_t *q, size_t head_size) {
  float s = 127.0f / f_largest(x, head_size, 1e-10f);
  for (size_t d = 0; d < head_size; d += 16) {
    v16b bytes = __builtin_convertvector(a_rounded(f_load(x + d), s), v16b);
    memcpy(q + d, &bytes, sizeof bytes);
  }
  return 1.0f / s;
}

/* 16 values of 15 bits as high and low bytes: v = 128 * high + low, high -127..127, low -64..63. */
CT_INLINE void a_split(v16i v, int8_t *high, int8_t *low) {
  v16i upper = (v + 64) >> 7;
  v16b upper_bytes = __builtin_convertvector(upper, v16b);
  v16b lower_bytes = __builtin_convertvector(v - upper * 128, v16b);
  memcpy(high, &upper_bytes, sizeof upper_bytes);
  memcpy(low, &lower_bytes, sizeof lower_bytes);
}

static float a_query_prepare(const float *x, int8_t *prepared, size_t head_size) {
  float s = 16256.0f / f_largest(x, head_size, 1e-10f);
  for (size_t d = 0; d < head_size; d += 16) {
    a_split(a_rounded(f_load(x + d), s), prepared + d, prepared + head_size + d);
  }
  return 1.0f / s;
}

/* The sum of the rounded weights stays within 2^24: rounding adds at most count / 2, and the float sum is wrong by at most
 * (count / 16 + 5) * 2^-24 of 2^24; together less than the `count` that was kept free, from the 512 positions on where the second limit of S can
 * be the smaller one. */
static float a_value_weights(float *scores, const float *value_scales, size_t count, int16_t *w) {
  if (count == 0) return 0.0f;
  v16f most = scores[0];
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    v16f v = f_load(scores + i);
    most = v > most ? v : most;
  }
  float top = f_max(most);
  for (; i < count; i++) top = scores[i] > top ? scores[i] : top;

  v16f totals = 0, sums = 0, largests = 0;
  for (i = 0; i + 16 <= count; i += 16) {
    v16f p = f_exp(f_load(scores + i) - top);
    v16f scaled = p * f_load(value_scales + i);
    totals += p;
    sums += scaled;
    largests = scaled > largests ? scaled : largests;
    f_store(scores + i, scaled);
  }
  if (i < count) {
    f_store_part(scores + i, f_exp(f_load_part(scores + i, count - i) - top), count - i);
    v16f p = f_load_part(scores + i, count - i);
    v16f scaled = p * f_load_part(value_scales + i, count - i);
    totals += p;
    sums += scaled;
    largests = scaled > largests ? scaled : largests;
    f_store_part(scores + i, scaled, count - i);
  }
  float largest = f_max(largests), sum = f_sum(sums);
  if (!(largest > 0.0f)) {
    memset(w, 0, count * sizeof(int16_t));
    return sum;  // 0 or NaN
  }
  float by_largest = 32767.0f / largest, by_sum = (float)(16777216 - (int32_t)count) / sum;
  float s = by_largest < by_sum ? by_largest : by_sum;

  for (i = 0; i + 16 <= count; i += 16) {
    v16s rounded = __builtin_convertvector(a_rounded(f_load(scores + i), s), v16s);
    memcpy(w + i, &rounded, sizeof rounded);
  }
  if (i < count) {
    v16s rounded = __builtin_convertvector(a_rounded(f_load_part(scores + i, count - i), s), v16s);
    memcpy(w + i, &rounded, (count - i) * sizeof(int16_t));
  }
  return 1.0f / (s * f_sum(totals));
}

/* Adds the sums of `pairs` pairs of positions for a number of queries that is the function's own. */
typedef void (*value_function)(const int8_t *values, size_t pairs, size_t head_size, const int16_t *w, size_t w_stride, int32_t *out);

/* Values go through the first cache in chunks, each chunk meets all queries in even groups of at most `widest`. */
CT_INLINE void a_value_sums(const value_function *functions, size_t widest, const int8_t *values, size_t count, size_t head_size,
                            const int16_t *w, size_t w_stride, size_t queries, int32_t *out) {
  const size_t chunk = 16384 / (2 * head_size) + 1, groups = (queries + widest - 1) / widest;
  for (size_t pairs = count / 2, done = 0; done < pairs;) {
    size_t step = pairs - done < chunk ? pairs - done : chunk, q = 0;
    for (size_t g = 0; g < groups; g++) {
      size_t width = (queries - q) / (groups - g);
      functions[width](values + 2 * done * head_size, step, head_size, w + q * w_stride + 2 * done, w_stride, out + q * head_size);
      q += width;
    }
    done += step;
  }
  if (count % 2 == 0) return;
  for (size_t q = 0; q < queries; q++) {  // the last position, beside one that has no weight
    int16_t last[2] = {w[q * w_stride + count - 1], 0};
    functions[1](values + (count - 1) * head_size, 1, head_size, last, 2, out + q * head_size);
  }
}

/* SET names the integer functions: SET_key_scores and SET_value_sums. */
#define CT_ATTENTION_FUNCTIONS(SET)                                                                                     \
  .kv_quantize = a_kv_quantize, .query_prepare = a_query_prepare, .value_weights = a_value_weights,                     \
  .key_scores = SET##_key_scores, .value_sums = SET##_value_sums
