/* The integer part of attention and head in AVX2: int8 is extended to int16, vpmaddwd multiplies it by 15-bit integers and adds
 * neighbours into int32. 16256 * 128 * 2 is far from its bound, and sums wrap only where the result does not fit either.
 *
 * With AVX-VNNI (CT_AVX_VNNI) vpdpwssd does both in one instruction. */
#if CT_AVX_VNNI
#define CT_MADD_ADD(sum, a, b) _mm256_dpwssd_avx_epi32(sum, a, b)
#else
#define CT_MADD_ADD(sum, a, b) _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
#endif

typedef int32_t v8i __attribute__((ext_vector_type(8)));

/* 16 bytes, extended. */
CT_INLINE __m256i avx2_extended(const void *p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p)); }

// MARK: keys

enum { avx2_query_tile = 8, avx2_largest_head = 1024 };

/* Half a block (8 positions) times `count` queries (a constant, at most 4): a 64-bit lane is four dimensions of one position. */
CT_INLINE void avx2_key_half(const int count, const int8_t *keys, const float *key_scales, size_t stored, size_t head_size,
                             const int16_t (*v)[avx2_largest_head], const float *query_scales, float *scores, size_t scores_stride) {
  __m256i sums[4][2];
  UNROLL for (int q = 0; q < count; q++) sums[q][0] = sums[q][1] = _mm256_setzero_si256();
  for (size_t d = 0; d < head_size; d += 4, keys += 64) {
    if (count <= 2) _mm_prefetch((const char *)keys + 2048, _MM_HINT_T0);
    __m256i first = avx2_extended(keys), second = avx2_extended(keys + 16);
    UNROLL for (int q = 0; q < count; q++) {
      int64_t word;
      memcpy(&word, &v[q][d], sizeof word);
      __m256i query = _mm256_set1_epi64x(word);
      sums[q][0] = CT_MADD_ADD(sums[q][0], first, query);
      sums[q][1] = CT_MADD_ADD(sums[q][1], second, query);
    }
  }
  float padded_scales[8] = {0};
  memcpy(padded_scales, key_scales, stored * sizeof(float));
  __m256 scales = _mm256_loadu_ps(padded_scales);
  UNROLL for (int q = 0; q < count; q++) {
    // Positions 0 1 4 5, 2 3 6 7 after hadd.
    __m256i dots = _mm256_permute4x64_epi64(_mm256_hadd_epi32(sums[q][0], sums[q][1]), 0xd8);
    __m256 values = _mm256_mul_ps(_mm256_cvtepi32_ps(dots), _mm256_mul_ps(_mm256_set1_ps(query_scales[q]), scales));
    float *out = scores + (size_t)q * scores_stride;
    if (stored == 8) {
      _mm256_storeu_ps(out, values);
    } else {
      float padded[8];
      _mm256_storeu_ps(padded, values);
      memcpy(out, padded, stored * sizeof(float));
    }
  }
}

#define KEY_HALF(count)                                                                                                 \
  static void avx2_key_half_##count(const int8_t *keys, const float *key_scales, size_t stored, size_t head_size,       \
                                    const int16_t (*v)[avx2_largest_head], const float *query_scales, float *scores,    \
                                    size_t scores_stride) {                                                             \
    avx2_key_half(count, keys, key_scales, stored, head_size, v, query_scales, scores, scores_stride);                  \
  }
KEY_HALF(1)
KEY_HALF(2)
KEY_HALF(3)
KEY_HALF(4)

typedef void (*key_half_function)(const int8_t *, const float *, size_t, size_t, const int16_t (*)[avx2_largest_head], const float *, float *, size_t);
static const key_half_function key_half_functions[5] = {NULL, avx2_key_half_1, avx2_key_half_2, avx2_key_half_3, avx2_key_half_4};

/* Up to 8 queries at a time as int16; a block of keys is read once for all of them. */
static void avx2_key_scores(const int8_t *keys, const float *key_scales, size_t count, size_t head_size,
                            const int8_t *prepared, const float *query_scales, size_t queries, float *scores, size_t scores_stride) {
  int16_t v[avx2_query_tile][avx2_largest_head];
  while (queries > 0) {
    size_t tile = queries < avx2_query_tile ? queries : avx2_query_tile, groups = (tile + 3) / 4;
    for (size_t q = 0; q < tile; q++, prepared += 2 * head_size) {
      for (size_t d = 0; d < head_size; d += 16) {
        __m256i high = avx2_extended(prepared + d), low = avx2_extended(prepared + head_size + d);
        _mm256_storeu_si256((__m256i *)(v[q] + d), _mm256_add_epi16(_mm256_slli_epi16(high, 7), low));
      }
    }
    for (size_t i = 0; i < count; i += 8) {
      size_t stored = count - i < 8 ? count - i : 8;
      size_t q = 0;
      for (size_t g = 0; g < groups; g++) {
        size_t width = (tile - q) / (groups - g);
        key_half_functions[width](keys + i / 16 * 16 * head_size + i % 16 * 4, key_scales + i, stored, head_size, (const int16_t (*)[avx2_largest_head])v + q,
                                  query_scales + q, scores + q * scores_stride + i, scores_stride);
        q += width;
      }
    }
    queries -= tile;
    query_scales += tile;
    scores += tile * scores_stride;
  }
}

// MARK: values

/* `pairs` pairs of positions times `count` queries (a constant, at most 4), 16 dimensions at a time: a pair of values is a
 * 32-bit lane, and so is the pair of their weights. */
CT_INLINE void avx2_value_strips(const int count, const int8_t *values, size_t pairs, size_t head_size, const int16_t *w, size_t w_stride, int32_t *out) {
  for (size_t d = 0; d < head_size; d += 16) {
    const int8_t *v = values + 2 * d;
    __m256i sums[4][2];
    UNROLL for (int q = 0; q < count; q++) {
      UNROLL for (int r = 0; r < 2; r++) sums[q][r] = _mm256_loadu_si256((const __m256i *)(out + (size_t)q * head_size + d) + r);
    }
    for (size_t p = 0; p < pairs; p++, v += 2 * head_size) {
      if (d % 32 == 0) _mm_prefetch((const char *)v + 4096, _MM_HINT_T0);
      __m256i first = avx2_extended(v), second = avx2_extended(v + 16);
      UNROLL for (int q = 0; q < count; q++) {
        __m256i weights = four((const int8_t *)(w + (size_t)q * w_stride + 2 * p));
        sums[q][0] = CT_MADD_ADD(sums[q][0], first, weights);
        sums[q][1] = CT_MADD_ADD(sums[q][1], second, weights);
      }
    }
    UNROLL for (int q = 0; q < count; q++) {
      UNROLL for (int r = 0; r < 2; r++) _mm256_storeu_si256((__m256i *)(out + (size_t)q * head_size + d) + r, sums[q][r]);
    }
  }
}

#define VALUE_STRIPS(count)                                                                                             \
  static void avx2_value_strips_##count(const int8_t *values, size_t pairs, size_t head_size, const int16_t *w,         \
                                        size_t w_stride, int32_t *out) {                                                \
    avx2_value_strips(count, values, pairs, head_size, w, w_stride, out);                                               \
  }
VALUE_STRIPS(1)
VALUE_STRIPS(2)
VALUE_STRIPS(3)
VALUE_STRIPS(4)

static const value_function avx2_value_functions[5] = {NULL, avx2_value_strips_1, avx2_value_strips_2, avx2_value_strips_3, avx2_value_strips_4};

static void avx2_value_sums(const int8_t *values, size_t count, size_t head_size, const int16_t *w, size_t w_stride, size_t queries, int32_t *out) {
  a_value_sums(avx2_value_functions, 4, values, count, head_size, w, w_stride, queries, out);
}

// MARK: head

/* 8 registers, each with 8 partial sums of one block, to one with a sum a block. */
CT_INLINE v8i avx2_sums_of_8(const __m256i *parts) {
  __m256i fours[2];
  UNROLL for (int j = 0; j < 2; j++) {
    fours[j] = _mm256_hadd_epi32(_mm256_hadd_epi32(parts[4 * j], parts[4 * j + 1]), _mm256_hadd_epi32(parts[4 * j + 2], parts[4 * j + 3]));
  }
  return (v8i)_mm256_add_epi32(_mm256_permute2x128_si256(fours[0], fours[1], 0x20), _mm256_permute2x128_si256(fours[0], fours[1], 0x31));
}

/* 32 extended weights times 15-bit integers: 8 partial sums. */
CT_INLINE __m256i avx2_products(__m256i first, __m256i second, const int16_t *values) {
  __m256i sum = _mm256_madd_epi16(first, _mm256_loadu_si256((const __m256i *)values));
  return CT_MADD_ADD(sum, second, _mm256_loadu_si256((const __m256i *)(values + 16)));
}

CT_INLINE v16i avx2_dots_q8_0(const uint8_t *blocks, const head_group *x) {
  v16i dots;
  __m256i parts[8];
  UNROLL for (int b = 0; b < 16; b++) {
    const uint8_t *block = blocks + 34 * b + 2;
    parts[b % 8] = avx2_products(avx2_extended(block), avx2_extended(block + 16), x->values + 32 * b);
    if (b == 7) dots.lo = avx2_sums_of_8(parts);
  }
  dots.hi = avx2_sums_of_8(parts);
  return dots;
}

CT_INLINE v16i avx2_dots_iq4_nl(const uint8_t *blocks, const head_group *x) {
  const __m128i codebook = _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113), nibble = _mm_set1_epi8(15);
  v16i dots;
  __m256i parts[8];
  UNROLL for (int b = 0; b < 16; b++) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)(blocks + 18 * b + 2));
    __m128i first = _mm_shuffle_epi8(codebook, _mm_and_si128(bytes, nibble));
    __m128i second = _mm_shuffle_epi8(codebook, _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble));
    parts[b % 8] = avx2_products(_mm256_cvtepi8_epi16(first), _mm256_cvtepi8_epi16(second), x->values + 32 * b);
    if (b == 7) dots.lo = avx2_sums_of_8(parts);
  }
  dots.hi = avx2_sums_of_8(parts);
  return dots;
}

/* 6-bit weights stay unsigned bytes: vpmaddubsw with the high bytes is at most 2 * 63 * 127 = 16002, with the low ones 8064. */
CT_INLINE v16i avx2_dots_q6_k(const uint8_t *block, const head_group *x, size_t half) {
  const int8_t *high = x->high + 256 * half, *low = x->low + 256 * half;
  const __m256i nibble = _mm256_set1_epi8(15), top = _mm256_set1_epi8(0x30), ones = _mm256_set1_epi16(1), of_high = _mm256_set1_epi16(128);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  v8i dots[2];
  UNROLL for (int t = 0; t < 2; t++) {  // 128 weights: four quarters of two runs
    __m256i lows[2] = {_mm256_loadu_si256((const __m256i *)(block + 64 * t)), _mm256_loadu_si256((const __m256i *)(block + 64 * t + 32))};
    __m256i highs = _mm256_loadu_si256((const __m256i *)(block + 128 + 32 * t));
    __m256i tops[4] = {_mm256_slli_epi16(highs, 4), _mm256_slli_epi16(highs, 2), highs, _mm256_srli_epi16(highs, 2)};
    __m256i parts[4];
    UNROLL for (int quarter = 0; quarter < 4; quarter++) {
      __m256i bits = quarter < 2 ? lows[quarter] : _mm256_srli_epi16(lows[quarter - 2], 4);
      __m256i weights = _mm256_or_si256(_mm256_and_si256(bits, nibble), _mm256_and_si256(tops[quarter], top));
      size_t offset = 128 * (size_t)t + 32 * (size_t)quarter;
      __m256i by_high = _mm256_maddubs_epi16(weights, _mm256_loadu_si256((const __m256i *)(high + offset)));
      __m256i by_low = _mm256_maddubs_epi16(weights, _mm256_loadu_si256((const __m256i *)(low + offset)));
      parts[quarter] = CT_MADD_ADD(_mm256_madd_epi16(by_high, of_high), by_low, ones);
    }
    __m256i mixed = _mm256_hadd_epi32(_mm256_hadd_epi32(parts[0], parts[1]), _mm256_hadd_epi32(parts[2], parts[3]));
    dots[t] = (v8i)_mm256_permutevar8x32_epi32(mixed, order);
  }
  v16i sums, all;
  memcpy(&sums, x->half_sums + 16 * half, sizeof sums);
  all.lo = dots[0], all.hi = dots[1];
  return all - sums * 32;
}

#define avx2_head_scales h_scales
CT_HEAD_ROWS(avx2)
