/* AVX2, with and without AVX-VNNI (CT_AVX_VNNI): a unit is two registers of 8 rows.
 *
 * Without: vpmaddubsw multiplies codes (0..2) by activations and adds neighbours into int16, two of them a row: at most
 * 2 * 2 * 128 = 512 a step of four columns. vpmaddwd with ones folds these into an int32 a row after at most ct_fold_steps = 64 steps:
 * -32768 <= sum <= 2 * 2 * 127 * 64 = 32512, just what int16 holds.
 *
 * With: vpdpbusd adds four neighbouring columns to a row's int32. It wraps, so this is exact modulo 2^32, and the true result is at most 2^30. */

#define UNROLL _Pragma("clang loop unroll(full)")

/* With four tokens 16 registers no longer hold sums and codes of a whole unit. */
enum { ct_few = 3, ct_tile_tokens = CT_AVX_VNNI ? 6 : 4, ct_tile_blocks = 1, ct_fold_steps = 64 };

/* Four activations in every lane. */
CT_INLINE __m256i four(const int8_t *x) {
  int32_t word;
  memcpy(&word, x, sizeof word);
  return _mm256_set1_epi32(word);
}

/* v modulo power, for v < 3 * power: the smallest of v, v - power and v - 2 * power, where a negative number is a large one. */
CT_INLINE __m256i modulo(__m256i v, int power) {
  v = _mm256_min_epu8(v, _mm256_sub_epi8(v, _mm256_set1_epi8((char)power)));
  return _mm256_min_epu8(v, _mm256_sub_epi8(v, _mm256_set1_epi8((char)power)));
}

CT_INLINE __m256i look_up(__m128i table, __m256i indices) { return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), indices); }

/* The planes of 32 bytes of weights: plane p holds the codes of columns 4 * p + j of 8 rows. `scaled` leaves powers of three in planes 2 to 4
 * of the small layout, which unscaled() takes out of the sums. */
CT_INLINE void decode(const bool small, const bool scaled, __m256i v, __m256i planes[5]) {
  const __m256i mask = _mm256_set1_epi8(3);
  if (!small) {
    UNROLL for (int p = 0; p < 4; p++) planes[p] = _mm256_and_si256(_mm256_srli_epi16(v, 2 * p), mask);
    return;
  }
  __m256i low4 = modulo(v, 81), low3 = modulo(low4, 27), low2 = modulo(low3, 9);
  planes[4] = _mm256_sub_epi8(v, low4);     // 0, 81 or 162: 0, 1, 2 modulo 4
  planes[3] = _mm256_sub_epi8(low4, low3);  // 0, 27 or 54: 0, 11, 6 modulo 16
  planes[2] = _mm256_sub_epi8(low3, low2);  // 0, 9 or 18: 0, 1, 2 modulo 4
  planes[1] = look_up(_mm_setr_epi8(0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0), low2);
  planes[0] = look_up(_mm_setr_epi8(0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0), low2);
  if (scaled) return;
  planes[4] = _mm256_and_si256(planes[4], mask);
  planes[3] = look_up(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0), planes[3]);
  planes[2] = _mm256_and_si256(planes[2], mask);
}

/* Sums of plane p of the small layout without its factor. Powers of three are odd: multiplying with their inverse divides modulo 2^32. */
CT_INLINE __m256i unscaled(const int p, __m256i sums) {
  const uint32_t inverse = p == 4 ? ct_inverse_81 : p == 3 ? ct_inverse_27 : ct_inverse_9;
  return p < 2 ? sums : _mm256_mullo_epi32(sums, _mm256_set1_epi32((int)inverse));
}

#if CT_AVX_VNNI
CT_INLINE __m256i multiply_add(__m256i sums, __m256i codes, __m256i x) { return _mm256_dpbusd_avx_epi32(sums, codes, x); }
CT_INLINE __m256i folded(__m256i sums) { return sums; }
#else
CT_INLINE __m256i multiply_add(__m256i sums, __m256i codes, __m256i x) { return _mm256_add_epi16(sums, _mm256_maddubs_epi16(codes, x)); }
CT_INLINE __m256i folded(__m256i sums) { return _mm256_madd_epi16(sums, _mm256_set1_epi16(1)); }
#endif

CT_INLINE __m256i minus(int32_t x_sum) { return _mm256_set1_epi32((int32_t)(0u - (uint32_t)x_sum)); }

// MARK: few tokens

/* One block of 16 rows times `count` tokens (a constant, at most 3). */
CT_INLINE void few_times(const bool small, const int count, const uint8_t *weights, size_t units, const int8_t *x, size_t x_stride,
                         const int32_t *x_sums, int32_t *out, size_t out_stride) {
  const int planes = small ? 5 : 4, unit_columns = 4 * planes;
  const bool scaled = CT_AVX_VNNI && small && count == 1;
  const int parts = scaled ? planes : 1;
  const size_t fold_units = CT_AVX_VNNI ? SIZE_MAX : ct_fold_steps / (unsigned)planes;
  __m256i totals[ct_few][2];
  UNROLL for (int c = 0; c < count; c++) totals[c][0] = totals[c][1] = minus(x_sums[c]);
  while (units > 0) {
    size_t left = units < fold_units ? units : fold_units;
    units -= left;
    __m256i sums[ct_few][2][5];
    UNROLL for (int c = 0; c < count; c++) {
      UNROLL for (int i = 0; i < parts; i++) sums[c][0][i] = sums[c][1][i] = _mm256_setzero_si256();
    }
    for (; left > 0; left--, weights += ct_unit_bytes, x += unit_columns) {
      _mm_prefetch((const char *)weights + 4096, _MM_HINT_T1);  // past the end it does nothing
      UNROLL for (int half = 0; half < 2; half++) {
        __m256i plane[5];
        decode(small, scaled, _mm256_load_si256((const __m256i *)(weights + 32 * half)), plane);
        UNROLL for (int p = 0; p < planes; p++) {
          UNROLL for (int c = 0; c < count; c++) {
            __m256i *sum = &sums[c][half][scaled ? p : 0];
            *sum = multiply_add(*sum, plane[p], four(x + (size_t)c * x_stride + 4 * p));
          }
        }
      }
    }
    UNROLL for (int c = 0; c < count; c++) {
      UNROLL for (int half = 0; half < 2; half++) {
        UNROLL for (int i = 0; i < parts; i++) {
          __m256i sum = sums[c][half][i];
          totals[c][half] = _mm256_add_epi32(totals[c][half], scaled ? unscaled(i, sum) : folded(sum));
        }
      }
    }
  }
  UNROLL for (int c = 0; c < count; c++) {
    UNROLL for (int half = 0; half < 2; half++) _mm256_storeu_si256((__m256i *)(out + (size_t)c * out_stride + 8 * half), totals[c][half]);
  }
}

// MARK: many tokens

CT_INLINE void unpack_units(const bool small, const uint8_t *weights, size_t units, ptrdiff_t ahead, uint8_t *panel) {
  const int planes = small ? 5 : 4;
  for (; units > 0; units--, weights += ct_unit_bytes, panel += ct_unit_bytes * planes) {
    _mm_prefetch((const char *)weights + ahead, _MM_HINT_T1);
    UNROLL for (int half = 0; half < 2; half++) {
      __m256i plane[5];
      decode(small, false, _mm256_load_si256((const __m256i *)(weights + 32 * half)), plane);
      UNROLL for (int p = 0; p < planes; p++) _mm256_store_si256((__m256i *)(panel + ct_unit_bytes * p + 32 * half), plane[p]);
    }
  }
}

/* One block by `count` tokens (a constant): two sums a token, two registers of codes, one of activations, and without VNNI one of products. */
CT_INLINE void tile_times(const int count, const uint8_t *panel, size_t steps, const int8_t *x, size_t x_stride,
                          const int32_t *x_sums, int32_t *out, size_t out_stride) {
  const size_t fold_steps = CT_AVX_VNNI ? SIZE_MAX : ct_fold_steps;
  __m256i totals[ct_tile_tokens][2];
  UNROLL for (int c = 0; c < count; c++) {
    UNROLL for (int half = 0; half < 2; half++) {
      totals[c][half] = x_sums != NULL ? minus(x_sums[c]) : _mm256_loadu_si256((const __m256i *)(out + (size_t)c * out_stride + 8 * half));
    }
  }
  while (steps > 0) {
    size_t left = steps < fold_steps ? steps : fold_steps;
    steps -= left;
    __m256i sums[ct_tile_tokens][2];
    UNROLL for (int c = 0; c < count; c++) {
      UNROLL for (int half = 0; half < 2; half++) sums[c][half] = CT_AVX_VNNI ? totals[c][half] : _mm256_setzero_si256();
    }
    for (; left > 0; left--, panel += ct_unit_bytes, x += 4) {
      __m256i low = _mm256_load_si256((const __m256i *)panel), high = _mm256_load_si256((const __m256i *)(panel + 32));
      UNROLL for (int c = 0; c < count; c++) {
        __m256i a = four(x + (size_t)c * x_stride);
        sums[c][0] = multiply_add(sums[c][0], low, a);
        sums[c][1] = multiply_add(sums[c][1], high, a);
      }
    }
    UNROLL for (int c = 0; c < count; c++) {
      UNROLL for (int half = 0; half < 2; half++) {
        totals[c][half] = CT_AVX_VNNI ? sums[c][half] : _mm256_add_epi32(totals[c][half], folded(sums[c][half]));
      }
    }
  }
  UNROLL for (int c = 0; c < count; c++) {
    UNROLL for (int half = 0; half < 2; half++) _mm256_storeu_si256((__m256i *)(out + (size_t)c * out_stride + 8 * half), totals[c][half]);
  }
}

#define TILE(count)                                                                                                    \
  static void tile_##count(const uint8_t *panel, size_t panel_stride, size_t steps, const int8_t *x, size_t x_stride,  \
                           const int32_t *x_sums, int32_t *out, size_t out_stride) {                                   \
    (void)panel_stride;                                                                                                \
    tile_times(count, panel, steps, x, x_stride, x_sums, out, out_stride);                                             \
  }
TILE(1) TILE(2) TILE(3) TILE(4)
#if CT_AVX_VNNI
TILE(5) TILE(6)
#endif

static const tile_function tile_functions[ct_tile_blocks + 1][ct_tile_tokens + 1] = {
  {NULL},
  {NULL, tile_1, tile_2, tile_3, tile_4,
#if CT_AVX_VNNI
   tile_5, tile_6,
#endif
  },
};

FEW_OF(fast, false, 1) FEW_OF(fast, false, 2) FEW_OF(fast, false, 3)
FEW_OF(small, true, 1) FEW_OF(small, true, 2) FEW_OF(small, true, 3)

static const few_function few_functions[2][ct_few + 1] = {
  {NULL, few_fast_1, few_fast_2, few_fast_3},
  {NULL, few_small_1, few_small_2, few_small_3},
};

#include "ct_matmul_body.h"
