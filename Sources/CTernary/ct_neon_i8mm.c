/* NEON with the matrix products of ARMv8.6: Neoverse V1 and N2, Cortex-A510, A710 and later. Few tokens as with dot products.
 *
 * smmla multiplies 2 rows by 8 columns of codes with 8 columns by 2 tokens of activations into four int32. It wraps, so this is exact
 * modulo 2^32, and the true result is at most 2^30. */
#if defined(__aarch64__)

#include <arm_neon.h>

#include "ct_internal.h"

#pragma clang attribute push(__attribute__((target("dotprod,i8mm"))), apply_to = function)

#define CT_HALF_NEON 1
#include "ct_float_body.h"
#include "ct_attention_body.h"
#include "ct_head_body.h"
#include "ct_neon_body.h"
#include "ct_neon_dotprod_body.h"
#include "ct_neon_attention.h"
#include "ct_dotprod_attention.h"
#define CT_DOTPROD 1
#include "ct_neon_bricks.h"

enum { ct_tile_tokens = 6, ct_tile_blocks = 1 };

/* `bytes` (4 or 8, a constant) activations of two tokens, each in one half. */
CT_INLINE int8x16_t two_tokens(const int bytes, const int8_t *first, const int8_t *second) {
  uint64_t a = 0, b = 0;
  memcpy(&a, first, (size_t)bytes);
  memcpy(&b, second, (size_t)bytes);
  return vcombine_s8(vcreate_s8(a), vcreate_s8(b));
}

/* Steps s and s + 1 (the latter zeros where bytes is 4) by all tokens. */
CT_INLINE void two_steps(const int count, const int bytes, const uint8_t *panel, const int8_t *x, size_t x_stride, int32x4_t sums[3][8]) {
  int8x16_t a[3];
  UNROLL for (int pair = 0; 2 * pair < count; pair++) {
    const int8_t *first = x + (size_t)(2 * pair) * x_stride;
    a[pair] = two_tokens(bytes, first, 2 * pair + 1 < count ? first + x_stride : first);
  }
  UNROLL for (int i = 0; i < 4; i++) {
    int32x4_t even = vreinterpretq_s32_u8(vld1q_u8(panel + 16 * i));
    int32x4_t odd = bytes == 8 ? vreinterpretq_s32_u8(vld1q_u8(panel + ct_unit_bytes + 16 * i)) : vdupq_n_s32(0);
    int8x16_t low = vreinterpretq_s8_s32(vzip1q_s32(even, odd)), high = vreinterpretq_s8_s32(vzip2q_s32(even, odd));
    UNROLL for (int pair = 0; 2 * pair < count; pair++) {
      sums[pair][2 * i] = vmmlaq_s32(sums[pair][2 * i], low, a[pair]);
      sums[pair][2 * i + 1] = vmmlaq_s32(sums[pair][2 * i + 1], high, a[pair]);
    }
  }
}

/* One block by `count` tokens (a constant) in pairs; of an odd last token the other half is not used. Lanes of the sums: two
 * tokens of a row, two rows. */
CT_INLINE void tile_times(const int count, const uint8_t *panel, size_t steps, const int8_t *x, size_t x_stride,
                          const int32_t *x_sums, int32_t *out, size_t out_stride) {
  int32x4_t sums[3][8];
  UNROLL for (int pair = 0; 2 * pair < count; pair++) {
    UNROLL for (int i = 0; i < 8; i++) sums[pair][i] = vdupq_n_s32(0);
  }
  for (; steps >= 2; steps -= 2, panel += 2 * ct_unit_bytes, x += 8) two_steps(count, 8, panel, x, x_stride, sums);
  if (steps > 0) two_steps(count, 4, panel, x, x_stride, sums);
  UNROLL for (int c = 0; c < count; c++) {
    UNROLL for (int i = 0; i < 4; i++) {
      int32x4_t first = sums[c / 2][2 * i], second = sums[c / 2][2 * i + 1];
      int32x4_t rows = c % 2 == 0 ? vuzp1q_s32(first, second) : vuzp2q_s32(first, second);
      int32_t *o = out + (size_t)c * out_stride + 4 * i;
      vst1q_s32(o, vaddq_s32(rows, x_sums != NULL ? minus(x_sums[c]) : vld1q_s32(o)));
    }
  }
}

CT_TILE(1) CT_TILE(2) CT_TILE(3) CT_TILE(4) CT_TILE(5) CT_TILE(6)

static const tile_function tile_functions[ct_tile_blocks + 1][ct_tile_tokens + 1] = {
  {NULL}, {NULL, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6},
};

#include "ct_matmul_body.h"

#pragma clang attribute pop

const ct_kernels ct_neon_i8mm_kernels = {.name = "neon_i8mm", CT_TERNARY_FUNCTIONS, CT_FLOAT_FUNCTIONS, CT_ATTENTION_FUNCTIONS(dotprod), CT_HEAD_FUNCTIONS(dotprod), CT_BRICK_FUNCTIONS};

#endif
