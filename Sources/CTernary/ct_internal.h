/* What the files of this module know of each other. */
#pragma once

#include "ct_ternary.h"

#define CT_INLINE static inline __attribute__((always_inline))

extern const ct_kernels ct_scalar_kernels;
#if defined(__x86_64__)
extern const ct_kernels ct_avx2_kernels;
extern const ct_kernels ct_avx_vnni_kernels;
extern const ct_kernels ct_avx512vnni_kernels;
extern const ct_kernels ct_avx512vbmi_kernels;
#endif
#if defined(__aarch64__)
extern const ct_kernels ct_neon_kernels;
extern const ct_kernels ct_neon_dotprod_kernels;
extern const ct_kernels ct_neon_i8mm_kernels;
#endif

enum { ct_unit_bytes = 64, ct_unit_rows = 16, ct_unit_columns = 16, ct_small_unit_columns = 20, ct_group_columns = 128 };

/* 512 values of the head's input, as head_prepare lays them out (ct_head_body.h). */
enum { ct_head_group = 512, ct_head_group_bytes = 2432 };

/* Weight i of a block, before scaling. */
int ct_iq4_nl_value(const uint8_t *block, size_t i);
int ct_q6_k_value(const uint8_t *block, size_t i);

/* Parts of ct_self_test: attention and head; bricks. */
bool ct_attention_agrees(const ct_kernels *k);
bool ct_bricks_agree(const ct_kernels *k);

/* Bricks (ct_ternary.h). Rows and columns of a brick, and the line of scales that a group of them shares. */
enum { ct_brick_rows = 16, ct_brick_columns = 32, ct_brick_line = 64 };

/* Bricks that share a line of scales, and bytes of a brick's codes. */
CT_INLINE size_t ct_brick_group(ct_brick_kind kind) { return kind == CT_BRICK_MXFP4 ? 4 : 2; }
CT_INLINE size_t ct_brick_code_bytes(ct_brick_kind kind) { return kind == CT_BRICK_Q8_0 ? 512 : 256; }

/* What is added to the weights of a kind so that they are unsigned bytes, for instruction sets that multiply those. */
CT_INLINE int ct_brick_offset(ct_brick_kind kind) { return kind == CT_BRICK_Q4_0 ? 8 : kind == CT_BRICK_MXFP4 ? 12 : 128; }

/* Weight (row, column) of a brick before scaling, from its codes, after the definition. */
int ct_brick_value(ct_brick_kind kind, const uint8_t *codes, size_t row, size_t column);

/* The scale of a row in a brick, from its place in the line. */
float ct_brick_scale(ct_brick_kind kind, const uint8_t *place);

/* 1/9, 1/27 and 1/81 modulo 2^32: they divide sums that are multiples, wrapped or not. */
#define ct_inverse_9 0x38e38e39u
#define ct_inverse_27 0x684bda13u
#define ct_inverse_81 0x781948b1u

/* The pieces that ct_matmul_body.h puts together. x_sums NULL: the tile goes on from what is in `out`. */
typedef void (*few_function)(const uint8_t *weights, size_t units, const int8_t *x, size_t x_stride, const int32_t *x_sums,
                             int32_t *out, size_t out_stride);
typedef void (*tile_function)(const uint8_t *panel, size_t panel_stride, size_t steps, const int8_t *x, size_t x_stride,
                              const int32_t *x_sums, int32_t *out, size_t out_stride);

/* A function for one layout and number of tokens, from few_times(small, count, ...). */
#define FEW_OF(layout, small, count)                                                                                   \
  static void few_##layout##_##count(const uint8_t *weights, size_t units, const int8_t *x, size_t x_stride,           \
                                     const int32_t *x_sums, int32_t *out, size_t out_stride) {                         \
    few_times(small, count, weights, units, x, x_stride, x_sums, out, out_stride);                                     \
  }
