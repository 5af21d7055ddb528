/* NEON, with and without the dot product instructions of ARMv8.2.
 *
 * Base: smlal multiplies codes (0..2) by activations into int16 sums of one product a lane, at most 256 each. Folded into int32
 * every 16 units, after 64 of them: |sum| <= 16384, half of what int16 holds.
 * Dotprod: sdot adds four neighbouring columns to a row's int32, no bound but that of the result. */
#if defined(__aarch64__)

#include <arm_neon.h>

#include "ct_internal.h"

#define CT_HALF_NEON 1
#include "ct_float_body.h"
#include "ct_attention_body.h"
#include "ct_head_body.h"

#define UNROLL _Pragma("clang loop unroll(full)")

#include "ct_neon_attention.h"

typedef void (*block_function)(const uint8_t *, size_t, const int8_t *, size_t, const int32_t *, int32_t *, size_t);

/* Blocks outside, columns inside, in even groups of at most `widest`. */
static void blocks_times(const block_function *functions, size_t widest, const uint8_t *weights, size_t row_blocks,
                         size_t columns, const int8_t *x, size_t x_stride, const int32_t *x_sums, size_t tokens,
                         int32_t *out, size_t out_stride) {
  const size_t units = columns / ct_unit_columns;
  const size_t groups = (tokens + widest - 1) / widest;
  for (size_t b = 0; b < row_blocks; b++, weights += units * ct_unit_bytes, out += ct_unit_rows) {
    size_t t = 0;
    for (size_t g = 0; g < groups; g++) {
      size_t count = (tokens - t) / (groups - g);
      functions[count](weights, units, x + t * x_stride, x_stride, x_sums + t, out + t * out_stride, out_stride);
      t += count;
    }
  }
}

#define BLOCK_TIMES(kind, count)                                                                                       \
  static void kind##_block_times_##count(const uint8_t *weights, size_t units, const int8_t *x, size_t x_stride,       \
                                         const int32_t *x_sums, int32_t *out, size_t out_stride) {                     \
    kind##_block_times(count, weights, units, x, x_stride, x_sums, out, out_stride);                                   \
  }

/* A plane of codes of 16 bytes: 4 rows x 4 columns. A shift by 0 has no instruction of its own. */
CT_INLINE int8x16_t plane_of(const int p, uint8x16_t codes) {
  const uint8x16_t mask = vdupq_n_u8(3);
  switch (p) {
  case 0: return vreinterpretq_s8_u8(vandq_u8(codes, mask));
  case 1: return vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(codes, 2), mask));
  case 2: return vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(codes, 4), mask));
  default: return vreinterpretq_s8_u8(vshrq_n_u8(codes, 6));
  }
}

static void scalar_small_matmul(const uint8_t *weights, size_t row_blocks, size_t columns, const int8_t *x, size_t x_stride,
                                const int32_t *x_sums, size_t tokens, int32_t *out, size_t out_stride) {
  ct_scalar_kernels.small_matmul(weights, row_blocks, columns, x, x_stride, x_sums, tokens, out, out_stride);
}

// MARK: base

/* Half a block (8 rows) at a time, times `count` columns (a constant, at most 4): 16 int16 accumulators leave half of the
 * registers for codes, planes and activations. */
CT_INLINE void neon_block_times(const int count, const uint8_t *weights, size_t units, const int8_t *x, size_t x_stride,
                                const int32_t *x_sums, int32_t *out, size_t out_stride) {
  const size_t fold_units = 16;
  for (int half = 0; half < 2; half++) {
    const uint8_t *w = weights + 32 * half;
    const int8_t *a = x;
    int32x4_t totals[4][4];  // lanes: two pairs of columns of a row, two rows
    UNROLL for (int c = 0; c < count; c++) {
      UNROLL for (int i = 0; i < 4; i++) totals[c][i] = vdupq_n_s32(0);
    }
    for (size_t left = units; left > 0;) {
      size_t steps = left < fold_units ? left : fold_units;
      left -= steps;
      int16x8_t sums[4][4];  // lanes: four columns of a row, two rows
      UNROLL for (int c = 0; c < count; c++) {
        UNROLL for (int i = 0; i < 4; i++) sums[c][i] = vdupq_n_s16(0);
      }
      for (; steps > 0; steps--, w += ct_unit_bytes, a += ct_unit_columns) {
        uint8x16_t low = vld1q_u8(w), high = vld1q_u8(w + 16);
        UNROLL for (int p = 0; p < 4; p++) {
          int8x16_t low_plane = plane_of(p, low), high_plane = plane_of(p, high);
          UNROLL for (int c = 0; c < count; c++) {
            int32_t word;
            memcpy(&word, a + (size_t)c * x_stride + 4 * p, sizeof word);
            int8x16_t four = vreinterpretq_s8_s32(vdupq_n_s32(word));
            sums[c][0] = vmlal_s8(sums[c][0], vget_low_s8(low_plane), vget_low_s8(four));
            sums[c][1] = vmlal_high_s8(sums[c][1], low_plane, four);
            sums[c][2] = vmlal_s8(sums[c][2], vget_low_s8(high_plane), vget_low_s8(four));
            sums[c][3] = vmlal_high_s8(sums[c][3], high_plane, four);
          }
        }
      }
      UNROLL for (int c = 0; c < count; c++) {
        UNROLL for (int i = 0; i < 4; i++) totals[c][i] = vpadalq_s16(totals[c][i], sums[c][i]);
      }
    }
    UNROLL for (int c = 0; c < count; c++) {
      int32x4_t x_sum = vdupq_n_s32(x_sums[c]);
      int32_t *o = out + (size_t)c * out_stride + 8 * half;
      vst1q_s32(o, vsubq_s32(vpaddq_s32(totals[c][0], totals[c][1]), x_sum));
      vst1q_s32(o + 4, vsubq_s32(vpaddq_s32(totals[c][2], totals[c][3]), x_sum));
    }
  }
}

BLOCK_TIMES(neon, 1)
BLOCK_TIMES(neon, 2)
BLOCK_TIMES(neon, 3)
BLOCK_TIMES(neon, 4)

static void neon_fast_matmul(const uint8_t *weights, size_t row_blocks, size_t columns, const int8_t *x, size_t x_stride,
                             const int32_t *x_sums, size_t tokens, int32_t *out, size_t out_stride) {
  static const block_function functions[5] = {
    NULL, neon_block_times_1, neon_block_times_2, neon_block_times_3, neon_block_times_4,
  };
  blocks_times(functions, 4, weights, row_blocks, columns, x, x_stride, x_sums, tokens, out, out_stride);
}

const ct_kernels ct_neon_kernels = {.name = "neon", .fast_matmul = neon_fast_matmul, .small_matmul = scalar_small_matmul, CT_FLOAT_FUNCTIONS, CT_ATTENTION_FUNCTIONS(neon), CT_HEAD_FUNCTIONS(neon)};

// MARK: dotprod

#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)

#include "ct_dotprod_attention.h"

/* One block of 16 rows times `count` columns (a constant, at most 4): 16 accumulators, and the activations of a unit are one
 * register a column, whose lanes sdot takes as they are. */
CT_INLINE void dotprod_block_times(const int count, const uint8_t *weights, size_t units, const int8_t *x, size_t x_stride,
                                   const int32_t *x_sums, int32_t *out, size_t out_stride) {
  int32x4_t sums[4][4];
  UNROLL for (int c = 0; c < count; c++) {
    UNROLL for (int i = 0; i < 4; i++) sums[c][i] = vdupq_n_s32((int32_t)(0u - (uint32_t)x_sums[c]));
  }
  for (; units > 0; units--, weights += ct_unit_bytes, x += ct_unit_columns) {
    int8x16_t a[4];
    UNROLL for (int c = 0; c < count; c++) a[c] = vld1q_s8(x + (size_t)c * x_stride);
    UNROLL for (int i = 0; i < 4; i++) {
      uint8x16_t codes = vld1q_u8(weights + 16 * i);
      UNROLL for (int c = 0; c < count; c++) {
        sums[c][i] = vdotq_laneq_s32(sums[c][i], plane_of(0, codes), a[c], 0);
        sums[c][i] = vdotq_laneq_s32(sums[c][i], plane_of(1, codes), a[c], 1);
        sums[c][i] = vdotq_laneq_s32(sums[c][i], plane_of(2, codes), a[c], 2);
        sums[c][i] = vdotq_laneq_s32(sums[c][i], plane_of(3, codes), a[c], 3);
      }
    }
  }
  UNROLL for (int c = 0; c < count; c++) {
    UNROLL for (int i = 0; i < 4; i++) vst1q_s32(out + (size_t)c * out_stride + 4 * i, sums[c][i]);
  }
}

BLOCK_TIMES(dotprod, 1)
BLOCK_TIMES(dotprod, 2)
BLOCK_TIMES(dotprod, 3)
BLOCK_TIMES(dotprod, 4)

static void dotprod_fast_matmul(const uint8_t *weights, size_t row_blocks, size_t columns, const int8_t *x, size_t x_stride,
                                const int32_t *x_sums, size_t tokens, int32_t *out, size_t out_stride) {
  static const block_function functions[5] = {
    NULL, dotprod_block_times_1, dotprod_block_times_2, dotprod_block_times_3, dotprod_block_times_4,
  };
  blocks_times(functions, 4, weights, row_blocks, columns, x, x_stride, x_sums, tokens, out, out_stride);
}

#pragma clang attribute pop

const ct_kernels ct_neon_dotprod_kernels = {.name = "neon_dotprod", .fast_matmul = dotprod_fast_matmul, .small_matmul = scalar_small_matmul, CT_FLOAT_FUNCTIONS, CT_ATTENTION_FUNCTIONS(dotprod), CT_HEAD_FUNCTIONS(dotprod)};

#endif
