/* The integer part of attention and head as the header defines it, one value at a time: what the fast versions are tested against. */

static void plain_key_scores(const int8_t *keys, const float *key_scales, size_t count, size_t head_size,
                             const int8_t *prepared, const float *query_scales, size_t queries, float *scores, size_t scores_stride) {
  for (size_t q = 0; q < queries; q++) {
    const int8_t *high = prepared + 2 * q * head_size, *low = high + head_size;
    for (size_t i = 0; i < count; i++) {
      int32_t dot = 0;
      for (size_t d = 0; d < head_size; d++) {
        dot += (128 * high[d] + low[d]) * keys[i / 16 * 16 * head_size + d / 4 * 64 + i % 16 * 4 + d % 4];
      }
      scores[q * scores_stride + i] = (float)dot * (query_scales[q] * key_scales[i]);
    }
  }
}

static void plain_value_sums(const int8_t *values, size_t count, size_t head_size,
                             const int16_t *w, size_t w_stride, size_t queries, int32_t *out) {
  for (size_t q = 0; q < queries; q++) {
    for (size_t i = 0; i < count; i++) {
      for (size_t d = 0; d < head_size; d++) {
        out[q * head_size + d] += w[q * w_stride + i] * values[i / 2 * 2 * head_size + 2 * d + i % 2];
      }
    }
  }
}

CT_INLINE v16i plain_dots_q8_0(const uint8_t *blocks, const head_group *x) {
  v16i dots = 0;
  for (int b = 0; b < 16; b++) {
    int32_t dot = 0;
    for (int i = 0; i < 32; i++) dot += (int8_t)blocks[34 * b + 2 + i] * x->values[32 * b + i];
    dots[b] = dot;
  }
  return dots;
}

CT_INLINE v16i plain_dots_iq4_nl(const uint8_t *blocks, const head_group *x) {
  v16i dots = 0;
  for (int b = 0; b < 16; b++) {
    int32_t dot = 0;
    for (int i = 0; i < 32; i++) dot += ct_iq4_nl_value(blocks + 18 * b, (size_t)i) * x->values[32 * b + i];
    dots[b] = dot;
  }
  return dots;
}

CT_INLINE v16i plain_dots_q6_k(const uint8_t *block, const head_group *x, size_t half) {
  v16i dots = 0;
  for (int run = 0; run < 16; run++) {
    int32_t dot = 0;
    for (int i = 0; i < 16; i++) {
      dot += ct_q6_k_value(block, (size_t)(16 * run + i)) * x->values[256 * half + 16 * (size_t)run + (size_t)i];
    }
    dots[run] = dot;
  }
  return dots;
}

#define plain_head_scales h_scales
CT_HEAD_ROWS(plain)
