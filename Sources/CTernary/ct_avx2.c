/* AVX2: a unit is two registers of 8 rows. vpmaddubsw multiplies codes (0..2) by activations and adds neighbours into int16, two of
 * them a row; vpmaddwd with ones folds these into an int32 a row.
 *
 * Bound: a vpmaddubsw lane is at most 2 * 2 * 128 = 512. Sums are folded every 8 units, after 32 of them: |sum| <= 16384, half
 * of what int16 holds. */
#if defined(__x86_64__)

#include <immintrin.h>

#include "ct_internal.h"

#pragma clang attribute push(__attribute__((target("avx2,f16c"))), apply_to = function)

#define CT_HALF_F16C 1
#include "ct_float_body.h"
#include "ct_attention_body.h"
#include "ct_head_body.h"

#define UNROLL _Pragma("clang loop unroll(full)")

/* Four activations in every lane. */
CT_INLINE __m256i four(const int8_t *x) {
  int32_t word;
  memcpy(&word, x, sizeof word);
  return _mm256_set1_epi32(word);
}

#include "ct_avx2_attention.h"

/* One block of 16 rows times `count` columns (a constant, at most 4): 8 int16 accumulators, 2 registers of codes, 2 of a
 * plane, the mask and the activations fill the 16 registers. */
CT_INLINE void block_times(const int count, const uint8_t *weights, size_t units,
                           const int8_t *x, size_t x_stride, const int32_t *x_sums, int32_t *out, size_t out_stride) {
  const size_t fold_units = 8;
  const __m256i mask = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
  __m256i totals[4][2];
  UNROLL for (int c = 0; c < count; c++) {
    totals[c][0] = totals[c][1] = _mm256_set1_epi32((int32_t)(0u - (uint32_t)x_sums[c]));
  }
  while (units > 0) {
    size_t steps = units < fold_units ? units : fold_units;
    units -= steps;
    __m256i sums[4][2];
    UNROLL for (int c = 0; c < count; c++) sums[c][0] = sums[c][1] = _mm256_setzero_si256();
    for (; steps > 0; steps--, weights += ct_unit_bytes, x += ct_unit_columns) {
      if (count > 2) _mm_prefetch((const char *)weights + 4096, _MM_HINT_T0);  // 10 % where weights come from memory
      __m256i low = _mm256_load_si256((const __m256i *)weights);
      __m256i high = _mm256_load_si256((const __m256i *)(weights + 32));
      UNROLL for (int p = 0; p < 4; p++) {
        __m256i low_plane = _mm256_and_si256(_mm256_srli_epi16(low, 2 * p), mask);
        __m256i high_plane = _mm256_and_si256(_mm256_srli_epi16(high, 2 * p), mask);
        UNROLL for (int c = 0; c < count; c++) {
          __m256i a = four(x + (size_t)c * x_stride + 4 * (size_t)p);
          sums[c][0] = _mm256_add_epi16(sums[c][0], _mm256_maddubs_epi16(low_plane, a));
          sums[c][1] = _mm256_add_epi16(sums[c][1], _mm256_maddubs_epi16(high_plane, a));
        }
      }
    }
    UNROLL for (int c = 0; c < count; c++) {
      totals[c][0] = _mm256_add_epi32(totals[c][0], _mm256_madd_epi16(sums[c][0], ones));
      totals[c][1] = _mm256_add_epi32(totals[c][1], _mm256_madd_epi16(sums[c][1], ones));
    }
  }
  UNROLL for (int c = 0; c < count; c++) {
    _mm256_storeu_si256((__m256i *)(out + (size_t)c * out_stride), totals[c][0]);
    _mm256_storeu_si256((__m256i *)(out + (size_t)c * out_stride + 8), totals[c][1]);
  }
}

#define BLOCK_TIMES(count)                                                                                             \
  static void block_times_##count(const uint8_t *weights, size_t units, const int8_t *x, size_t x_stride,              \
                                  const int32_t *x_sums, int32_t *out, size_t out_stride) {                            \
    block_times(count, weights, units, x, x_stride, x_sums, out, out_stride);                                          \
  }
BLOCK_TIMES(1)
BLOCK_TIMES(2)
BLOCK_TIMES(3)
BLOCK_TIMES(4)

typedef void (*block_function)(const uint8_t *, size_t, const int8_t *, size_t, const int32_t *, int32_t *, size_t);
static const block_function block_functions[5] = {NULL, block_times_1, block_times_2, block_times_3, block_times_4};

/* Blocks outside, columns inside: weights leave memory once, a block stays in the first cache while all columns use it. */
static void avx2_fast_matmul(const uint8_t *weights, size_t row_blocks, size_t columns,
                             const int8_t *x, size_t x_stride, const int32_t *x_sums, size_t tokens,
                             int32_t *out, size_t out_stride) {
  const size_t units = columns / ct_unit_columns;
  const size_t groups = (tokens + 3) / 4;
  for (size_t b = 0; b < row_blocks; b++, weights += units * ct_unit_bytes, out += ct_unit_rows) {
    size_t t = 0;
    for (size_t g = 0; g < groups; g++) {
      size_t count = (tokens - t) / (groups - g);  // even groups: 5 tokens are 2 and 3, not 4 and 1
      block_functions[count](weights, units, x + t * x_stride, x_stride, x_sums + t, out + t * out_stride, out_stride);
      t += count;
    }
  }
}

static void scalar_small_matmul(const uint8_t *weights, size_t row_blocks, size_t columns, const int8_t *x, size_t x_stride,
                                const int32_t *x_sums, size_t tokens, int32_t *out, size_t out_stride) {
  ct_scalar_kernels.small_matmul(weights, row_blocks, columns, x, x_stride, x_sums, tokens, out, out_stride);
}

#pragma clang attribute pop

const ct_kernels ct_avx2_kernels = {.name = "avx2", .fast_matmul = avx2_fast_matmul, .small_matmul = scalar_small_matmul, CT_FLOAT_FUNCTIONS, CT_ATTENTION_FUNCTIONS(avx2), CT_HEAD_FUNCTIONS(avx2)};

#endif
