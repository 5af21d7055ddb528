/* NEON with the dot products of ARMv8.2: Cortex-A55, A76 and later. */
#if defined(__aarch64__)

#include <arm_neon.h>

#include "ct_internal.h"

#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)

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

/* One block by `count` tokens (a constant): 24 sums for 6 tokens, four registers of codes, one of activations. */
CT_INLINE void tile_times(const int count, const uint8_t *panel, size_t steps, const int8_t *x, size_t x_stride,
                          const int32_t *x_sums, int32_t *out, size_t out_stride) {
  int32x4_t sums[ct_tile_tokens][4];
  UNROLL for (int c = 0; c < count; c++) {
    UNROLL for (int i = 0; i < 4; i++) sums[c][i] = x_sums != NULL ? minus(x_sums[c]) : vld1q_s32(out + (size_t)c * out_stride + 4 * i);
  }
  for (; steps > 0; steps--, panel += ct_unit_bytes, x += 4) {
    int8x16_t codes[4];
    UNROLL for (int i = 0; i < 4; i++) codes[i] = vreinterpretq_s8_u8(vld1q_u8(panel + 16 * i));
    UNROLL for (int c = 0; c < count; c++) {
      int8x16_t a = four(x + (size_t)c * x_stride);
      UNROLL for (int i = 0; i < 4; i++) sums[c][i] = vdotq_s32(sums[c][i], codes[i], a);
    }
  }
  UNROLL for (int c = 0; c < count; c++) {
    UNROLL for (int i = 0; i < 4; i++) vst1q_s32(out + (size_t)c * out_stride + 4 * i, sums[c][i]);
  }
}

CT_TILE(1) CT_TILE(2) CT_TILE(3) CT_TILE(4) CT_TILE(5) CT_TILE(6)

static const tile_function tile_functions[ct_tile_blocks + 1][ct_tile_tokens + 1] = {
  {NULL}, {NULL, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6},
};

#include "ct_matmul_body.h"

#pragma clang attribute pop

const ct_kernels ct_neon_dotprod_kernels = {.name = "neon_dotprod", CT_TERNARY_FUNCTIONS, CT_FLOAT_FUNCTIONS, CT_ATTENTION_FUNCTIONS(dotprod), CT_HEAD_FUNCTIONS(dotprod), CT_BRICK_FUNCTIONS};

#endif
