/* The integer part of attention and head in NEON: int8 is extended to int16 and multiplied by 15-bit integers into int32. Sums wrap only
 * where the result does not fit either. */

// The paths with dot products use a part of this.
#pragma clang diagnostic ignored "-Wunused-function"

// MARK: keys

enum { neon_query_tile = 4, neon_largest_head = 1024 };

/* Four positions times `count` queries (a constant, at most 4): a 64-bit half of a register is four dimensions of one position. */
CT_INLINE void neon_key_quarter(const int count, const int8_t *keys, const float *key_scales, size_t stored, size_t head_size,
                                const int16_t (*v)[neon_largest_head], const float *query_scales, float *scores, size_t scores_stride) {
  int32x4_t sums[4][4];
  UNROLL for (int q = 0; q < count; q++) {
    UNROLL for (int i = 0; i < 4; i++) sums[q][i] = vdupq_n_s32(0);
  }
  for (size_t d = 0; d < head_size; d += 4, keys += 64) {
    int8x16_t bytes = vld1q_s8(keys);
    int16x8_t first = vmovl_s8(vget_low_s8(bytes)), second = vmovl_high_s8(bytes);
    UNROLL for (int q = 0; q < count; q++) {
      int16x4_t query = vld1_s16(v[q] + d);
      sums[q][0] = vmlal_s16(sums[q][0], vget_low_s16(first), query);
      sums[q][1] = vmlal_s16(sums[q][1], vget_high_s16(first), query);
      sums[q][2] = vmlal_s16(sums[q][2], vget_low_s16(second), query);
      sums[q][3] = vmlal_s16(sums[q][3], vget_high_s16(second), query);
    }
  }
  UNROLL for (int q = 0; q < count; q++) {
    int32_t dots[4];
    vst1q_s32(dots, vpaddq_s32(vpaddq_s32(sums[q][0], sums[q][1]), vpaddq_s32(sums[q][2], sums[q][3])));
    for (size_t i = 0; i < stored; i++) scores[(size_t)q * scores_stride + i] = (float)dots[i] * (query_scales[q] * key_scales[i]);
  }
}

#define KEY_QUARTER(count)                                                                                              \
  static void neon_key_quarter_##count(const int8_t *keys, const float *key_scales, size_t stored, size_t head_size,    \
                                       const int16_t (*v)[neon_largest_head], const float *query_scales, float *scores, \
                                       size_t scores_stride) {                                                          \
    neon_key_quarter(count, keys, key_scales, stored, head_size, v, query_scales, scores, scores_stride);               \
  }
KEY_QUARTER(1)
KEY_QUARTER(2)
KEY_QUARTER(3)
KEY_QUARTER(4)

typedef void (*key_quarter_function)(const int8_t *, const float *, size_t, size_t, const int16_t (*)[neon_largest_head], const float *, float *, size_t);
static const key_quarter_function key_quarter_functions[5] = {
  NULL, neon_key_quarter_1, neon_key_quarter_2, neon_key_quarter_3, neon_key_quarter_4,
};

/* Up to 4 queries at a time as int16. */
static void neon_key_scores(const int8_t *keys, const float *key_scales, size_t count, size_t head_size,
                            const int8_t *prepared, const float *query_scales, size_t queries, float *scores, size_t scores_stride) {
  int16_t v[neon_query_tile][neon_largest_head];
  for (size_t tiles = (queries + neon_query_tile - 1) / neon_query_tile; tiles > 0; tiles--) {
    size_t tile = queries / tiles;  // even tiles: 5 queries are 2 and 3, not 4 and 1
    for (size_t q = 0; q < tile; q++, prepared += 2 * head_size) {
      for (size_t d = 0; d < head_size; d += 8) {
        vst1q_s16(v[q] + d, vaddw_s8(vshll_n_s8(vld1_s8(prepared + d), 7), vld1_s8(prepared + head_size + d)));
      }
    }
    for (size_t i = 0; i < count; i += 4) {
      key_quarter_functions[tile](keys + i / 16 * 16 * head_size + i % 16 * 4, key_scales + i, count - i < 4 ? count - i : 4, head_size,
                                  (const int16_t (*)[neon_largest_head])v, query_scales, scores + i, scores_stride);
    }
    queries -= tile;
    query_scales += tile;
    scores += tile * scores_stride;
  }
}

// MARK: values

/* `pairs` pairs of positions times `count` queries (a constant, at most 4), 16 dimensions at a time. vld2 takes the two positions apart,
 * and smlal by a lane multiplies each by its weight. */
CT_INLINE void neon_value_strips(const int count, const int8_t *values, size_t pairs, size_t head_size, const int16_t *w, size_t w_stride, int32_t *out) {
  for (size_t d = 0; d < head_size; d += 16) {
    const int8_t *v = values + 2 * d;
    int32x4_t sums[4][4];
    UNROLL for (int q = 0; q < count; q++) {
      UNROLL for (int r = 0; r < 4; r++) sums[q][r] = vld1q_s32(out + (size_t)q * head_size + d + 4 * r);
    }
    for (size_t p = 0; p < pairs; p++, v += 2 * head_size) {
      int8x16x2_t bytes = vld2q_s8(v);
      UNROLL for (int i = 0; i < 2; i++) {
        int16x8_t first = vmovl_s8(vget_low_s8(bytes.val[i])), second = vmovl_high_s8(bytes.val[i]);
        UNROLL for (int q = 0; q < count; q++) {
          int16_t weight = w[(size_t)q * w_stride + 2 * p + (size_t)i];
          sums[q][0] = vmlal_n_s16(sums[q][0], vget_low_s16(first), weight);
          sums[q][1] = vmlal_high_n_s16(sums[q][1], first, weight);
          sums[q][2] = vmlal_n_s16(sums[q][2], vget_low_s16(second), weight);
          sums[q][3] = vmlal_high_n_s16(sums[q][3], second, weight);
        }
      }
    }
    UNROLL for (int q = 0; q < count; q++) {
      UNROLL for (int r = 0; r < 4; r++) vst1q_s32(out + (size_t)q * head_size + d + 4 * r, sums[q][r]);
    }
  }
}

#define VALUE_STRIPS(count)                                                                                             \
  static void neon_value_strips_##count(const int8_t *values, size_t pairs, size_t head_size, const int16_t *w,         \
                                        size_t w_stride, int32_t *out) {                                                \
    neon_value_strips(count, values, pairs, head_size, w, w_stride, out);                                               \
  }
VALUE_STRIPS(1)
VALUE_STRIPS(2)
VALUE_STRIPS(3)
VALUE_STRIPS(4)

static const value_function neon_value_functions[5] = {NULL, neon_value_strips_1, neon_value_strips_2, neon_value_strips_3, neon_value_strips_4};

static void neon_value_sums(const int8_t *values, size_t count, size_t head_size, const int16_t *w, size_t w_stride, size_t queries, int32_t *out) {
  a_value_sums(neon_value_functions, 4, values, count, head_size, w, w_stride, queries, out);
}

// MARK: head

/* 16 registers, each with 4 partial sums of one block or run, to a sum each. */
CT_INLINE v16i neon_sums_of_16(const int32x4_t *parts) {
  v16i dots;
  UNROLL for (int j = 0; j < 4; j++) {
    int32x4_t four = vpaddq_s32(vpaddq_s32(parts[4 * j], parts[4 * j + 1]), vpaddq_s32(parts[4 * j + 2], parts[4 * j + 3]));
    memcpy((int32_t *)&dots + 4 * j, &four, sizeof four);
  }
  return dots;
}

/* 16 weights times 15-bit integers: 4 partial sums added to `sum`. */
CT_INLINE int32x4_t neon_products(int32x4_t sum, int8x16_t weights, const int16_t *values) {
  int16x8_t first = vmovl_s8(vget_low_s8(weights)), second = vmovl_high_s8(weights), a = vld1q_s16(values), b = vld1q_s16(values + 8);
  int32x4_t other = vmull_s16(vget_low_s16(second), vget_low_s16(b));
  sum = vmlal_s16(sum, vget_low_s16(first), vget_low_s16(a));
  sum = vmlal_high_s16(sum, first, a);
  other = vmlal_high_s16(other, second, b);
  return vaddq_s32(sum, other);
}

/* The two halves of 16 weights of a block of 16 nibbles. */
CT_INLINE int8x16x2_t neon_iq4_nl_weights(const uint8_t *block) {
  static const int8_t values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  const int8x16_t codebook = vld1q_s8(values);
  uint8x16_t bytes = vld1q_u8(block + 2);
  return (int8x16x2_t){{vqtbl1q_s8(codebook, vandq_u8(bytes, vdupq_n_u8(15))), vqtbl1q_s8(codebook, vshrq_n_u8(bytes, 4))}};
}

/* 128 weights of a q6_k block: 8 runs of 16, minus 32. */
CT_INLINE void neon_q6_k_weights(const uint8_t *low_bits, const uint8_t *high_bits, int8x16_t *weights) {
  const uint8x16_t nibble = vdupq_n_u8(15), top = vdupq_n_u8(0x30);
  const int8x16_t offset = vdupq_n_s8(32);
  UNROLL for (int i = 0; i < 2; i++) {  // the first and second 16 of each quarter of 32
    uint8x16_t a = vld1q_u8(low_bits + 16 * i), b = vld1q_u8(low_bits + 32 + 16 * i), highs = vld1q_u8(high_bits + 16 * i);
    uint8x16_t q0 = vorrq_u8(vandq_u8(a, nibble), vandq_u8(vshlq_n_u8(highs, 4), top));
    uint8x16_t q1 = vorrq_u8(vandq_u8(b, nibble), vandq_u8(vshlq_n_u8(highs, 2), top));
    uint8x16_t q2 = vorrq_u8(vshrq_n_u8(a, 4), vandq_u8(highs, top));
    uint8x16_t q3 = vorrq_u8(vshrq_n_u8(b, 4), vandq_u8(vshrq_n_u8(highs, 2), top));
    weights[i] = vsubq_s8(vreinterpretq_s8_u8(q0), offset);
    weights[2 + i] = vsubq_s8(vreinterpretq_s8_u8(q1), offset);
    weights[4 + i] = vsubq_s8(vreinterpretq_s8_u8(q2), offset);
    weights[6 + i] = vsubq_s8(vreinterpretq_s8_u8(q3), offset);
  }
}

CT_INLINE v16i neon_dots_q8_0(const uint8_t *blocks, const head_group *x) {
  int32x4_t parts[16];
  UNROLL for (int b = 0; b < 16; b++) {
    const int8_t *weights = (const int8_t *)blocks + 34 * b + 2;
    parts[b] = neon_products(neon_products(vdupq_n_s32(0), vld1q_s8(weights), x->values + 32 * b), vld1q_s8(weights + 16), x->values + 32 * b + 16);
  }
  return neon_sums_of_16(parts);
}

CT_INLINE v16i neon_dots_iq4_nl(const uint8_t *blocks, const head_group *x) {
  int32x4_t parts[16];
  UNROLL for (int b = 0; b < 16; b++) {
    int8x16x2_t weights = neon_iq4_nl_weights(blocks + 18 * b);
    parts[b] = neon_products(neon_products(vdupq_n_s32(0), weights.val[0], x->values + 32 * b), weights.val[1], x->values + 32 * b + 16);
  }
  return neon_sums_of_16(parts);
}

CT_INLINE v16i neon_dots_q6_k(const uint8_t *block, const head_group *x, size_t half) {
  int32x4_t parts[16];
  UNROLL for (int t = 0; t < 2; t++) {
    int8x16_t weights[8];
    neon_q6_k_weights(block + 64 * t, block + 128 + 32 * t, weights);
    UNROLL for (int run = 0; run < 8; run++) {
      parts[8 * t + run] = neon_products(vdupq_n_s32(0), weights[run], x->values + 256 * half + 128 * (size_t)t + 16 * (size_t)run);
    }
  }
  return neon_sums_of_16(parts);
}

#define neon_head_scales h_scales
CT_HEAD_ROWS(neon)
