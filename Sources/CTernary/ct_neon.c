/* NEON as every 64-bit ARM processor has it.
 *
 * smlal multiplies codes (0..2) by activations into int16 sums of one product a step, at least 2 * -128 and at most 2 * 127. They are
 * folded into int32 after at most ct_fold_steps = 128 steps: -32768 <= sum <= 32512, just what int16 holds. */
#if defined(__aarch64__)

#include <arm_neon.h>

#include "ct_internal.h"

#define CT_HALF_NEON 1
#include "ct_float_body.h"
#include "ct_attention_body.h"
#include "ct_head_body.h"
#include "ct_neon_body.h"
#include "ct_neon_attention.h"
#define CT_DOTPROD 0
#include "ct_neon_bricks.h"

enum { ct_few = 4, ct_tile_tokens = 4, ct_tile_blocks = 1, ct_fold_steps = 128 };

/* 8 rows times four columns of a token. Lanes of the sums: four columns of a row, two rows. */
CT_INLINE void multiply_add(int16x8_t sums[4], int8x16_t low, int8x16_t high, int8x16_t x) {
  sums[0] = vmlal_s8(sums[0], vget_low_s8(low), vget_low_s8(x));
  sums[1] = vmlal_high_s8(sums[1], low, x);
  sums[2] = vmlal_s8(sums[2], vget_low_s8(high), vget_low_s8(x));
  sums[3] = vmlal_high_s8(sums[3], high, x);
}

/* Adds the sums of 8 rows to out. */
CT_INLINE void add_folded(const int32x4_t totals[4], int32x4_t first, int32x4_t second, int32_t *out) {
  vst1q_s32(out, vaddq_s32(first, vpaddq_s32(totals[0], totals[1])));
  vst1q_s32(out + 4, vaddq_s32(second, vpaddq_s32(totals[2], totals[3])));
}

/* Half a block (8 rows) at a time, times `count` tokens (a constant, at most 4): 16 sums leave half of the registers for codes,
 * planes and activations. */
CT_INLINE void few_times(const bool small, const int count, const uint8_t *weights, size_t units, const int8_t *x, size_t x_stride,
                         const int32_t *x_sums, int32_t *out, size_t out_stride) {
  const int planes = small ? 5 : 4;
  const size_t fold_units = ct_fold_steps / (unsigned)planes;
  for (int half = 0; half < 2; half++) {
    const uint8_t *w = weights + 32 * half;
    const int8_t *a = x;
    int32x4_t totals[4][4];
    UNROLL for (int c = 0; c < count; c++) {
      UNROLL for (int i = 0; i < 4; i++) totals[c][i] = vdupq_n_s32(0);
    }
    for (size_t rest = units; rest > 0;) {
      size_t left = rest < fold_units ? rest : fold_units;
      rest -= left;
      int16x8_t sums[4][4];
      UNROLL for (int c = 0; c < count; c++) {
        UNROLL for (int i = 0; i < 4; i++) sums[c][i] = vdupq_n_s16(0);
      }
      for (; left > 0; left--, w += ct_unit_bytes, a += 4 * planes) {
        __builtin_prefetch(w + 1024);
        int8x16_t low[5], high[5];
        decode(small, vld1q_u8(w), low);
        decode(small, vld1q_u8(w + 16), high);
        UNROLL for (int p = 0; p < planes; p++) {
          UNROLL for (int c = 0; c < count; c++) multiply_add(sums[c], low[p], high[p], four(a + (size_t)c * x_stride + 4 * p));
        }
      }
      UNROLL for (int c = 0; c < count; c++) {
        UNROLL for (int i = 0; i < 4; i++) totals[c][i] = vpadalq_s16(totals[c][i], sums[c][i]);
      }
    }
    UNROLL for (int c = 0; c < count; c++) {
      add_folded(totals[c], minus(x_sums[c]), minus(x_sums[c]), out + (size_t)c * out_stride + 8 * half);
    }
  }
}

FEW_OF(fast, false, 1) FEW_OF(fast, false, 2) FEW_OF(fast, false, 3) FEW_OF(fast, false, 4)
FEW_OF(small, true, 1) FEW_OF(small, true, 2) FEW_OF(small, true, 3) FEW_OF(small, true, 4)

static const few_function few_functions[2][ct_few + 1] = {
  {NULL, few_fast_1, few_fast_2, few_fast_3, few_fast_4},
  {NULL, few_small_1, few_small_2, few_small_3, few_small_4},
};

/* The same from a panel. */
CT_INLINE void tile_times(const int count, const uint8_t *panel, size_t steps, const int8_t *x, size_t x_stride,
                          const int32_t *x_sums, int32_t *out, size_t out_stride) {
  for (int half = 0; half < 2; half++) {
    const uint8_t *w = panel + 32 * half;
    const int8_t *a = x;
    int32x4_t totals[4][4];
    UNROLL for (int c = 0; c < count; c++) {
      UNROLL for (int i = 0; i < 4; i++) totals[c][i] = vdupq_n_s32(0);
    }
    for (size_t rest = steps; rest > 0;) {
      size_t left = rest < ct_fold_steps ? rest : ct_fold_steps;
      rest -= left;
      int16x8_t sums[4][4];
      UNROLL for (int c = 0; c < count; c++) {
        UNROLL for (int i = 0; i < 4; i++) sums[c][i] = vdupq_n_s16(0);
      }
      for (; left > 0; left--, w += ct_unit_bytes, a += 4) {
        int8x16_t low = vreinterpretq_s8_u8(vld1q_u8(w)), high = vreinterpretq_s8_u8(vld1q_u8(w + 16));
        UNROLL for (int c = 0; c < count; c++) multiply_add(sums[c], low, high, four(a + (size_t)c * x_stride));
      }
      UNROLL for (int c = 0; c < count; c++) {
        UNROLL for (int i = 0; i < 4; i++) totals[c][i] = vpadalq_s16(totals[c][i], sums[c][i]);
      }
    }
    UNROLL for (int c = 0; c < count; c++) {
      int32_t *o = out + (size_t)c * out_stride + 8 * half;
      if (x_sums != NULL) add_folded(totals[c], minus(x_sums[c]), minus(x_sums[c]), o);
      else add_folded(totals[c], vld1q_s32(o), vld1q_s32(o + 4), o);
    }
  }
}

CT_TILE(1) CT_TILE(2) CT_TILE(3) CT_TILE(4)

static const tile_function tile_functions[ct_tile_blocks + 1][ct_tile_tokens + 1] = {{NULL}, {NULL, tile_1, tile_2, tile_3, tile_4}};

#include "ct_matmul_body.h"

const ct_kernels ct_neon_kernels = {.name = "neon", CT_TERNARY_FUNCTIONS, CT_FLOAT_FUNCTIONS, CT_ATTENTION_FUNCTIONS(neon), CT_HEAD_FUNCTIONS(neon), CT_BRICK_FUNCTIONS};

#endif
