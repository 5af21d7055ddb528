/* The integer part of attention and head with ARMv8.2's dot products: 15-bit integers are multiplied as two bytes, high and low. Values
 * have 16-bit weights, which sdot does not take: those are NEON's. */

// MARK: keys

/* Half a block (8 positions) times `count` queries (a constant, at most 4): 16 accumulators. A lane is a position; 16 dimensions of a
 * query are one register, whose lanes sdot takes as they are. */
CT_INLINE void dotprod_key_half(const int count, const int8_t *keys, const float *key_scales, size_t stored, size_t head_size,
                                const int8_t *prepared, const float *query_scales, float *scores, size_t scores_stride) {
  int32x4_t high[4][2], low[4][2];
  UNROLL for (int q = 0; q < count; q++) {
    UNROLL for (int i = 0; i < 2; i++) high[q][i] = low[q][i] = vdupq_n_s32(0);
  }
  for (size_t d = 0; d < head_size; d += 16, keys += 256) {
    int8x16_t k[2][4];
    UNROLL for (int j = 0; j < 4; j++) k[0][j] = vld1q_s8(keys + 64 * j), k[1][j] = vld1q_s8(keys + 64 * j + 16);
    UNROLL for (int q = 0; q < count; q++) {
      int8x16_t upper = vld1q_s8(prepared + 2 * (size_t)q * head_size + d), lower = vld1q_s8(prepared + (2 * (size_t)q + 1) * head_size + d);
      UNROLL for (int i = 0; i < 2; i++) {
        high[q][i] = vdotq_laneq_s32(high[q][i], k[i][0], upper, 0);
        low[q][i] = vdotq_laneq_s32(low[q][i], k[i][0], lower, 0);
        high[q][i] = vdotq_laneq_s32(high[q][i], k[i][1], upper, 1);
        low[q][i] = vdotq_laneq_s32(low[q][i], k[i][1], lower, 1);
        high[q][i] = vdotq_laneq_s32(high[q][i], k[i][2], upper, 2);
        low[q][i] = vdotq_laneq_s32(low[q][i], k[i][2], lower, 2);
        high[q][i] = vdotq_laneq_s32(high[q][i], k[i][3], upper, 3);
        low[q][i] = vdotq_laneq_s32(low[q][i], k[i][3], lower, 3);
      }
    }
  }
  UNROLL for (int q = 0; q < count; q++) {
    int32_t dots[8];
    UNROLL for (int i = 0; i < 2; i++) vst1q_s32(dots + 4 * i, vaddq_s32(vshlq_n_s32(high[q][i], 7), low[q][i]));
    for (size_t i = 0; i < stored; i++) scores[(size_t)q * scores_stride + i] = (float)dots[i] * (query_scales[q] * key_scales[i]);
  }
}

#define KEY_HALF(count)                                                                                                 \
  static void dotprod_key_half_##count(const int8_t *keys, const float *key_scales, size_t stored, size_t head_size,    \
                                       const int8_t *prepared, const float *query_scales, float *scores,                \
                                       size_t scores_stride) {                                                          \
    dotprod_key_half(count, keys, key_scales, stored, head_size, prepared, query_scales, scores, scores_stride);        \
  }
KEY_HALF(1)
KEY_HALF(2)
KEY_HALF(3)
KEY_HALF(4)

typedef void (*key_half_function)(const int8_t *, const float *, size_t, size_t, const int8_t *, const float *, float *, size_t);
static const key_half_function key_half_functions[5] = {NULL, dotprod_key_half_1, dotprod_key_half_2, dotprod_key_half_3, dotprod_key_half_4};

/* Up to 16 queries at a time stay in the first cache; a block of keys is read once for all of them. */
static void dotprod_key_scores(const int8_t *keys, const float *key_scales, size_t count, size_t head_size,
                               const int8_t *prepared, const float *query_scales, size_t queries, float *scores, size_t scores_stride) {
  while (queries > 0) {
    size_t tile = queries < 16 ? queries : 16, groups = (tile + 3) / 4;
    for (size_t i = 0; i < count; i += 8) {
      size_t q = 0;
      for (size_t g = 0; g < groups; g++) {
        size_t width = (tile - q) / (groups - g);
        key_half_functions[width](keys + i / 16 * 16 * head_size + i % 16 * 4, key_scales + i, count - i < 8 ? count - i : 8, head_size,
                                  prepared + 2 * q * head_size, query_scales + q, scores + q * scores_stride + i, scores_stride);
        q += width;
      }
    }
    queries -= tile;
    prepared += 2 * tile * head_size;
    query_scales += tile;
    scores += tile * scores_stride;
  }
}

#define dotprod_value_sums neon_value_sums

// MARK: head

/* 16 weights times 15-bit integers: 4 partial sums. */
CT_INLINE int32x4_t dotprod_products(int8x16_t weights, const int8_t *high, const int8_t *low) {
  int32x4_t upper = vdotq_s32(vdupq_n_s32(0), weights, vld1q_s8(high));
  return vdotq_s32(vshlq_n_s32(upper, 7), weights, vld1q_s8(low));
}

/* The same for 32. */
CT_INLINE int32x4_t dotprod_block_products(int8x16_t first, int8x16_t second, const int8_t *high, const int8_t *low) {
  int32x4_t upper = vdotq_s32(vdotq_s32(vdupq_n_s32(0), first, vld1q_s8(high)), second, vld1q_s8(high + 16));
  return vdotq_s32(vdotq_s32(vshlq_n_s32(upper, 7), first, vld1q_s8(low)), second, vld1q_s8(low + 16));
}

CT_INLINE v16i dotprod_dots_q8_0(const uint8_t *blocks, const head_group *x) {
  int32x4_t parts[16];
  UNROLL for (int b = 0; b < 16; b++) {
    const int8_t *weights = (const int8_t *)blocks + 34 * b + 2;
    parts[b] = dotprod_block_products(vld1q_s8(weights), vld1q_s8(weights + 16), x->high + 32 * b, x->low + 32 * b);
  }
  return neon_sums_of_16(parts);
}

CT_INLINE v16i dotprod_dots_iq4_nl(const uint8_t *blocks, const head_group *x) {
  int32x4_t parts[16];
  UNROLL for (int b = 0; b < 16; b++) {
    int8x16x2_t weights = neon_iq4_nl_weights(blocks + 18 * b);
    parts[b] = dotprod_block_products(weights.val[0], weights.val[1], x->high + 32 * b, x->low + 32 * b);
  }
  return neon_sums_of_16(parts);
}

CT_INLINE v16i dotprod_dots_q6_k(const uint8_t *block, const head_group *x, size_t half) {
  int32x4_t parts[16];
  UNROLL for (int t = 0; t < 2; t++) {
    int8x16_t weights[8];
    neon_q6_k_weights(block + 64 * t, block + 128 + 32 * t, weights);
    UNROLL for (int run = 0; run < 8; run++) {
      size_t offset = 256 * half + 128 * (size_t)t + 16 * (size_t)run;
      parts[8 * t + run] = dotprod_products(weights[run], x->high + offset, x->low + offset);
    }
  }
  return neon_sums_of_16(parts);
}

#define dotprod_head_scales h_scales
CT_HEAD_ROWS(dotprod)
