/* AVX-512 with VNNI: each 32-bit lane is a row, and vpdpbusd adds four neighbouring columns to it, so there are no horizontal
 * sums. The four activations are a broadcast memory operand, which costs nothing.
 *
 * Codes (0..2) are summed instead of weights (-1..1), and the sum of x is subtracted once a row. vpdpbusd wraps, so this is exact
 * modulo 2^32, and the true result is at most 2^30. */
#if defined(__x86_64__)

#include <immintrin.h>

#include "ct_internal.h"

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c"))), apply_to = function)

#define CT_HALF_F16C 1
#include "ct_float_body.h"
#include "ct_attention_body.h"
#include "ct_head_body.h"

#define UNROLL _Pragma("clang loop unroll(full)")

/* Four activations in every lane. */
CT_INLINE __m512i four(const int8_t *x) {
  int32_t word;
  memcpy(&word, x, sizeof word);
  return _mm512_set1_epi32(word);
}

#include "ct_avx512_attention.h"

/* One block of 16 rows times one column.
 *
 * Planes are only masked, not shifted: the products of plane p are 4^p times too large, exactly, so each plane has its own
 * accumulator and one shift at the end. A step adds at most 4 * 128 * 128 = 2^16 in plane 3, and the accumulators are folded
 * every 2^14 units, at 2^30. Two units at a time hide the latency of vpdpbusd. */
static void block_times_one(const uint8_t *weights, size_t units, const int8_t *x, int32_t x_sum, int32_t *out) {
  const size_t fold_units = 1 << 14;
  const __m512i masks[4] = {_mm512_set1_epi8(0x03), _mm512_set1_epi8(0x0c), _mm512_set1_epi8(0x30), _mm512_set1_epi8((char)0xc0)};
  __m512i total = _mm512_set1_epi32((int32_t)(0u - (uint32_t)x_sum));
  while (units > 0) {
    size_t count = units < fold_units ? units : fold_units;
    units -= count;
    __m512i even[4], odd[4];
    UNROLL for (int p = 0; p < 4; p++) even[p] = odd[p] = _mm512_setzero_si512();
    for (; count >= 2; count -= 2, weights += 128, x += 32) {
      __m512i v = _mm512_load_si512(weights), w = _mm512_load_si512(weights + 64);
      UNROLL for (int p = 0; p < 4; p++) {
        even[p] = _mm512_dpbusd_epi32(even[p], _mm512_and_si512(v, masks[p]), four(x + 4 * p));
        odd[p] = _mm512_dpbusd_epi32(odd[p], _mm512_and_si512(w, masks[p]), four(x + 16 + 4 * p));
      }
    }
    if (count > 0) {
      __m512i v = _mm512_load_si512(weights);
      UNROLL for (int p = 0; p < 4; p++) even[p] = _mm512_dpbusd_epi32(even[p], _mm512_and_si512(v, masks[p]), four(x + 4 * p));
      weights += 64;
      x += 16;
    }
    // Shifted one by one: an even and an odd sum together might not fit.
    UNROLL for (int p = 0; p < 4; p++) {
      total = _mm512_add_epi32(total, _mm512_srai_epi32(even[p], 2 * p));
      total = _mm512_add_epi32(total, _mm512_srai_epi32(odd[p], 2 * p));
    }
  }
  _mm512_storeu_si512(out, total);
}

/* One block of 16 rows times `count` columns (a constant, at most 12): a unit is decoded once and used for all of them.
 * Planes are shifted down, so one accumulator a column is enough; where there are few columns, `split` accumulators a column
 * (1, 2 or 4) keep vpdpbusd from waiting for itself. */
CT_INLINE void block_times(const int count, const int split, const uint8_t *weights, size_t units,
                           const int8_t *x, size_t x_stride, const int32_t *x_sums, int32_t *out, size_t out_stride) {
  const __m512i mask = _mm512_set1_epi8(3);
  __m512i sums[12][4];
  UNROLL for (int c = 0; c < count; c++) {
    sums[c][0] = _mm512_set1_epi32((int32_t)(0u - (uint32_t)x_sums[c]));
    UNROLL for (int s = 1; s < split; s++) sums[c][s] = _mm512_setzero_si512();
  }
  for (size_t u = 0; u < units; u++, weights += ct_unit_bytes) {
    // The processor's own prefetch starts too late for a stream this slow: 8 columns reach 195 GMAC/s without this, 232 with it.
    if (count > 2) _mm_prefetch((const char *)weights + 4096, _MM_HINT_T0);  // past the end it does nothing
    __m512i codes = _mm512_load_si512(weights);
    UNROLL for (int p = 0; p < 4; p++) {
      __m512i plane = _mm512_and_si512(_mm512_srli_epi16(codes, 2 * (unsigned)p), mask);
      UNROLL for (int c = 0; c < count; c++) {
        const int8_t *column = x + (size_t)c * x_stride + ct_unit_columns * u + 4 * (size_t)p;
        sums[c][p % split] = _mm512_dpbusd_epi32(sums[c][p % split], plane, four(column));
      }
    }
  }
  UNROLL for (int c = 0; c < count; c++) {
    UNROLL for (int s = 1; s < split; s++) sums[c][0] = _mm512_add_epi32(sums[c][0], sums[c][s]);
    _mm512_storeu_si512(out + (size_t)c * out_stride, sums[c][0]);
  }
}

#define BLOCK_TIMES(count, split)                                                                                      \
  static void block_times_##count(const uint8_t *weights, size_t units, const int8_t *x, size_t x_stride,              \
                                  const int32_t *x_sums, int32_t *out, size_t out_stride) {                            \
    block_times(count, split, weights, units, x, x_stride, x_sums, out, out_stride);                                   \
  }
BLOCK_TIMES(2, 4)
BLOCK_TIMES(3, 4)
BLOCK_TIMES(4, 2)
BLOCK_TIMES(5, 2)
BLOCK_TIMES(6, 2)
BLOCK_TIMES(7, 1)
BLOCK_TIMES(8, 1)
BLOCK_TIMES(9, 1)
BLOCK_TIMES(10, 1)
BLOCK_TIMES(11, 1)
BLOCK_TIMES(12, 1)

typedef void (*block_function)(const uint8_t *, size_t, const int8_t *, size_t, const int32_t *, int32_t *, size_t);
static const block_function block_functions[13] = {
  NULL, NULL, block_times_2, block_times_3, block_times_4, block_times_5, block_times_6, block_times_7, block_times_8,
  block_times_9, block_times_10, block_times_11, block_times_12,
};

/* Blocks outside, columns inside: weights leave memory once, a block stays in the first cache while all columns use it. */
static void avx512vnni_fast_matmul(const uint8_t *weights, size_t row_blocks, size_t columns,
                                   const int8_t *x, size_t x_stride, const int32_t *x_sums, size_t tokens,
                                   int32_t *out, size_t out_stride) {
  const size_t units = columns / ct_unit_columns;
  const size_t groups = (tokens + 11) / 12;
  for (size_t b = 0; b < row_blocks; b++, weights += units * ct_unit_bytes, out += ct_unit_rows) {
    size_t t = 0;
    for (size_t g = 0; g < groups; g++) {
      size_t count = (tokens - t) / (groups - g);  // even groups: 13 tokens are 6 and 7, not 12 and 1
      if (count == 1) {
        block_times_one(weights, units, x + t * x_stride, x_sums[t], out + t * out_stride);
      } else {
        block_functions[count](weights, units, x + t * x_stride, x_stride, x_sums + t, out + t * out_stride, out_stride);
      }
      t += count;
    }
  }
}

#pragma clang attribute pop

const ct_kernels ct_avx512vnni_kernels = {.name = "avx512vnni", .fast_matmul = avx512vnni_fast_matmul, CT_FLOAT_FUNCTIONS, CT_ATTENTION_FUNCTIONS(avx512), CT_HEAD_FUNCTIONS(avx512)};

#endif
