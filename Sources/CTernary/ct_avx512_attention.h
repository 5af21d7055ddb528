/* The integer part of attention and head in AVX-512 with VNNI.
 *
 * vpdpbusd takes its first factor unsigned: int8 keys and weights get 128 added (their sign bit flipped), and 128 times the sum of the
 * other factor is subtracted at the end. Sums wrap on the way; the result fits. 15-bit integers are multiplied as two bytes, high and
 * low: twice 64 products of 8 bits are as fast as four times 16 of 16 bits, and need no sign extension. */

// MARK: keys

/* One block of 16 positions times `count` queries (a constant, at most 8: 16 accumulators). Two accumulators a sum where there
 * are few queries, so that vpdpbusd does not wait for itself. offsets[q]: 128 * the sum of the query's integers. */
CT_INLINE void avx512_key_block(const int count, const int8_t *keys, __m512 key_scales, __mmask16 stored, size_t head_size, const int8_t *prepared,
                                const float *query_scales, const int32_t *offsets, float *scores, size_t scores_stride) {
  const int split = count <= 3 ? 2 : 1;
  const __m512i sign = _mm512_set1_epi8((char)0x80);
  __m512i high[8][2], low[8][2];
  UNROLL for (int q = 0; q < count; q++) {
    UNROLL for (int s = 0; s < split; s++) high[q][s] = low[q][s] = _mm512_setzero_si512();
  }
  for (size_t d = 0; d < head_size; d += 8) {
    if (count <= 4) {  // few queries wait for memory, and the processor's own prefetch stops at every page
      _mm_prefetch((const char *)keys + 2048, _MM_HINT_T0);
      _mm_prefetch((const char *)keys + 2112, _MM_HINT_T0);
    }
    UNROLL for (int s = 0; s < 2; s++, keys += 64) {
      __m512i k = _mm512_xor_si512(_mm512_load_si512(keys), sign);
      UNROLL for (int q = 0; q < count; q++) {
        const int8_t *query = prepared + 2 * (size_t)q * head_size + d + 4 * (size_t)s;
        high[q][s % split] = _mm512_dpbusd_epi32(high[q][s % split], k, four(query));
        low[q][s % split] = _mm512_dpbusd_epi32(low[q][s % split], k, four(query + head_size));
      }
    }
  }
  UNROLL for (int q = 0; q < count; q++) {
    if (split == 2) {
      high[q][0] = _mm512_add_epi32(high[q][0], high[q][1]);
      low[q][0] = _mm512_add_epi32(low[q][0], low[q][1]);
    }
    __m512i dot = _mm512_add_epi32(_mm512_slli_epi32(high[q][0], 7), _mm512_sub_epi32(low[q][0], _mm512_set1_epi32(offsets[q])));
    __m512 scale = _mm512_mul_ps(_mm512_set1_ps(query_scales[q]), key_scales);
    _mm512_mask_storeu_ps(scores + (size_t)q * scores_stride, stored, _mm512_mul_ps(_mm512_cvtepi32_ps(dot), scale));
  }
}

#define KEY_BLOCK(count)                                                                                                \
  static void avx512_key_block_##count(const int8_t *keys, __m512 key_scales, __mmask16 stored, size_t head_size,       \
                                       const int8_t *prepared, const float *query_scales, const int32_t *offsets,       \
                                       float *scores, size_t scores_stride) {                                           \
    avx512_key_block(count, keys, key_scales, stored, head_size, prepared, query_scales, offsets, scores, scores_stride); \
  }
KEY_BLOCK(1)
KEY_BLOCK(2)
KEY_BLOCK(3)
KEY_BLOCK(4)
KEY_BLOCK(5)
KEY_BLOCK(6)
KEY_BLOCK(7)
KEY_BLOCK(8)

typedef void (*key_block_function)(const int8_t *, __m512, __mmask16, size_t, const int8_t *, const float *, const int32_t *, float *, size_t);
static const key_block_function key_block_functions[9] = {
  NULL, avx512_key_block_1, avx512_key_block_2, avx512_key_block_3, avx512_key_block_4,
  avx512_key_block_5, avx512_key_block_6, avx512_key_block_7, avx512_key_block_8,
};

/* 128 * the sum of a query's integers. It may wrap, as the sums that it is subtracted from do. */
CT_INLINE int32_t avx512_key_offset(const int8_t *prepared, size_t head_size) {
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i high = _mm512_setzero_si512(), low = high;
  for (size_t d = 0; d < head_size; d += 64) {
    __mmask64 within = head_size - d < 64 ? (__mmask64)-1 >> (64 - (head_size - d)) : (__mmask64)-1;
    high = _mm512_dpbusd_epi32(high, ones, _mm512_maskz_loadu_epi8(within, prepared + d));
    low = _mm512_dpbusd_epi32(low, ones, _mm512_maskz_loadu_epi8(within, prepared + head_size + d));
  }
  return _mm512_reduce_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(high, 14), _mm512_slli_epi32(low, 7)));
}

/* Up to 32 queries at a time stay in the first cache; a block of keys is read once for all of them. */
static void avx512_key_scores(const int8_t *keys, const float *key_scales, size_t count, size_t head_size,
                              const int8_t *prepared, const float *query_scales, size_t queries, float *scores, size_t scores_stride) {
  while (queries > 0) {
    size_t tile = queries < 32 ? queries : 32, groups = (tile + 7) / 8;
    int32_t offsets[32];
    for (size_t q = 0; q < tile; q++) offsets[q] = avx512_key_offset(prepared + 2 * q * head_size, head_size);
    for (size_t i = 0; i < count; i += 16) {
      __mmask16 stored = count - i < 16 ? (__mmask16)((1u << (count - i)) - 1) : (__mmask16)0xffff;
      __m512 scales = _mm512_maskz_loadu_ps(stored, key_scales + i);
      size_t q = 0;
      for (size_t g = 0; g < groups; g++) {
        size_t width = (tile - q) / (groups - g);
        key_block_functions[width](keys + i * head_size, scales, stored, head_size, prepared + 2 * q * head_size, query_scales + q,
                                   offsets + q, scores + q * scores_stride + i, scores_stride);
        q += width;
      }
    }
    queries -= tile;
    prepared += 2 * tile * head_size;
    query_scales += tile;
    scores += tile * scores_stride;
  }
}

// MARK: values

/* `pairs` pairs of positions times `count` queries (a constant, at most 4), for 16 * `registers` dimensions: a pair of values is a
 * 32-bit lane, and so is the pair of their weights. */
CT_INLINE void avx512_value_strip(const int count, const int registers, const int8_t *values, size_t pairs, size_t head_size,
                                  const int16_t *w, size_t w_stride, int32_t *out) {
  __m512i sums[4][4];
  UNROLL for (int q = 0; q < count; q++) {
    UNROLL for (int r = 0; r < registers; r++) sums[q][r] = _mm512_loadu_si512(out + (size_t)q * head_size + 16 * (size_t)r);
  }
  for (size_t p = 0; p < pairs; p++, values += 2 * head_size) {
    __m512i v[4];
    if (registers == 4) {
      _mm_prefetch((const char *)values + 4096, _MM_HINT_T0);
      _mm_prefetch((const char *)values + 4160, _MM_HINT_T0);
    }
    UNROLL for (int r = 0; r < registers; r++) v[r] = _mm512_cvtepi8_epi16(_mm256_load_si256((const __m256i *)values + r));
    UNROLL for (int q = 0; q < count; q++) {
      __m512i weights = four((const int8_t *)(w + (size_t)q * w_stride + 2 * p));
      UNROLL for (int r = 0; r < registers; r++) sums[q][r] = _mm512_dpwssd_epi32(sums[q][r], v[r], weights);
    }
  }
  UNROLL for (int q = 0; q < count; q++) {
    UNROLL for (int r = 0; r < registers; r++) _mm512_storeu_si512(out + (size_t)q * head_size + 16 * (size_t)r, sums[q][r]);
  }
}

CT_INLINE void avx512_value_strips(const int count, const int8_t *values, size_t pairs, size_t head_size,
                                   const int16_t *w, size_t w_stride, int32_t *out) {
  size_t d = 0;
  for (; d + 64 <= head_size; d += 64) avx512_value_strip(count, 4, values + 2 * d, pairs, head_size, w, w_stride, out + d);
  for (; d < head_size; d += 16) avx512_value_strip(count, 1, values + 2 * d, pairs, head_size, w, w_stride, out + d);
}

#define VALUE_STRIPS(count)                                                                                             \
  static void avx512_value_strips_##count(const int8_t *values, size_t pairs, size_t head_size, const int16_t *w,       \
                                          size_t w_stride, int32_t *out) {                                              \
    avx512_value_strips(count, values, pairs, head_size, w, w_stride, out);                                             \
  }
VALUE_STRIPS(1)
VALUE_STRIPS(2)
VALUE_STRIPS(3)
VALUE_STRIPS(4)

static const value_function avx512_value_functions[5] = {
  NULL, avx512_value_strips_1, avx512_value_strips_2, avx512_value_strips_3, avx512_value_strips_4,
};

static void avx512_value_sums(const int8_t *values, size_t count, size_t head_size, const int16_t *w, size_t w_stride, size_t queries, int32_t *out) {
  a_value_sums(avx512_value_functions, 4, values, count, head_size, w, w_stride, queries, out);
}

// MARK: head

/* 8 registers, each with 8 partial sums of block 2j and 8 of block 2j + 1, to one with a sum a block. */
CT_INLINE v16i avx512_sums_of_16(const __m512i *parts) {
  __m512i pairs[4], fours[2];
  UNROLL for (int j = 0; j < 4; j++) {
    pairs[j] = _mm512_add_epi32(_mm512_unpacklo_epi32(parts[2 * j], parts[2 * j + 1]), _mm512_unpackhi_epi32(parts[2 * j], parts[2 * j + 1]));
  }
  UNROLL for (int j = 0; j < 2; j++) {
    fours[j] = _mm512_add_epi32(_mm512_unpacklo_epi64(pairs[2 * j], pairs[2 * j + 1]), _mm512_unpackhi_epi64(pairs[2 * j], pairs[2 * j + 1]));
  }
  __m512i mixed = _mm512_add_epi32(_mm512_shuffle_i32x4(fours[0], fours[1], 0x88), _mm512_shuffle_i32x4(fours[0], fours[1], 0xdd));
  const __m512i order = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
  return (v16i)_mm512_permutexvar_epi32(order, mixed);
}

/* 64 unsigned bytes times 15-bit integers: 16 partial sums. */
CT_INLINE __m512i avx512_products(__m512i bytes, const int8_t *high, const int8_t *low) {
  __m512i upper = _mm512_dpbusd_epi32(_mm512_setzero_si512(), bytes, _mm512_loadu_si512(high));
  return _mm512_dpbusd_epi32(_mm512_slli_epi32(upper, 7), bytes, _mm512_loadu_si512(low));
}

CT_INLINE v16i avx512_dots_q8_0(const uint8_t *blocks, const head_group *x) {
  const __m512i sign = _mm512_set1_epi8((char)0x80);
  __m512i parts[8];
  UNROLL for (int j = 0; j < 8; j++) {
    const uint8_t *b = blocks + 68 * j;
    __m512i bytes = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(b + 2))), _mm256_loadu_si256((const __m256i *)(b + 36)), 1);
    parts[j] = avx512_products(_mm512_xor_si512(bytes, sign), x->high + 64 * j, x->low + 64 * j);
  }
  v16i sums;
  memcpy(&sums, x->sums, sizeof sums);
  return avx512_sums_of_16(parts) - sums * 128;
}

CT_INLINE v16i avx512_dots_iq4_nl(const uint8_t *blocks, const head_group *x) {
  // The codebook plus 128.
  const __m512i codebook = _mm512_broadcast_i32x4(
    _mm_setr_epi8(1, 24, 45, 63, 79, 93, 106, 118, (char)129, (char)141, (char)153, (char)166, (char)181, (char)197, (char)217, (char)241));
  const __m512i shifts = _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4), nibble = _mm512_set1_epi8(15);
  __m512i parts[8];
  UNROLL for (int j = 0; j < 8; j++) {
    const uint8_t *b = blocks + 36 * j;
    __m512i first = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(b + 2)));
    __m512i both = _mm512_mask_broadcast_i32x4(first, 0xff00, _mm_loadu_si128((const __m128i *)(b + 20)));
    __m512i codes = _mm512_and_si512(_mm512_srlv_epi64(both, shifts), nibble);
    parts[j] = avx512_products(_mm512_shuffle_epi8(codebook, codes), x->high + 64 * j, x->low + 64 * j);
  }
  v16i sums;
  memcpy(&sums, x->sums, sizeof sums);
  return avx512_sums_of_16(parts) - sums * 128;
}

CT_INLINE v16i avx512_dots_q6_k(const uint8_t *block, const head_group *x, size_t half) {
  const int8_t *high = x->high + 256 * half, *low = x->low + 256 * half;
  const __m512i nibble = _mm512_set1_epi8(15), six = _mm512_set1_epi8(63);
  const __m512i left = _mm512_setr_epi64(4, 4, 4, 4, 2, 2, 2, 2), right = _mm512_setr_epi64(0, 0, 0, 0, 2, 2, 2, 2);
  __m512i parts[4];
  UNROLL for (int t = 0; t < 2; t++) {  // 128 weights: quarters 0 and 1, then 2 and 3
    __m512i lows = _mm512_loadu_si512(block + 64 * t);
    __m512i highs = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(block + 128 + 32 * t)));
    // Bits 4 and 5 come from the shifted high bits, bits 0..3 from the low ones; 0xca: where nibble, lows, else highs.
    __m512i a = _mm512_and_si512(_mm512_ternarylogic_epi64(nibble, lows, _mm512_sllv_epi64(highs, left), 0xca), six);
    __m512i b = _mm512_and_si512(_mm512_ternarylogic_epi64(nibble, _mm512_srli_epi16(lows, 4), _mm512_srlv_epi64(highs, right), 0xca), six);
    parts[2 * t] = avx512_products(a, high + 128 * t, low + 128 * t);
    parts[2 * t + 1] = avx512_products(b, high + 128 * t + 64, low + 128 * t + 64);
  }
  __m512i pairs[2];
  UNROLL for (int j = 0; j < 2; j++) {
    pairs[j] = _mm512_add_epi32(_mm512_unpacklo_epi32(parts[2 * j], parts[2 * j + 1]), _mm512_unpackhi_epi32(parts[2 * j], parts[2 * j + 1]));
  }
  __m512i mixed = _mm512_add_epi32(_mm512_unpacklo_epi64(pairs[0], pairs[1]), _mm512_unpackhi_epi64(pairs[0], pairs[1]));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  v16i sums;
  memcpy(&sums, x->half_sums + 16 * half, sizeof sums);
  return (v16i)_mm512_permutexvar_epi32(order, mixed) - sums * 32;
}

CT_INLINE v16f avx512_head_scales(const uint8_t *blocks, const int block_bytes) {
  const __m512i offsets = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), _mm512_set1_epi32(block_bytes));
  __m256i halves = _mm512_cvtepi32_epi16(_mm512_i32gather_epi32(offsets, (const int *)blocks, 1));
  return (v16f)_mm512_cvtph_ps(halves);
}

CT_HEAD_ROWS(avx512)
