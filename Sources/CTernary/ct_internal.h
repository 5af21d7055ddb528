/* What the files of this module know of each other. */
#pragma once

#include "ct_ternary.h"

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

#define CT_INLINE static inline __attribute__((always_inline))

/* 512 values of the head's input, as head_prepare lays them out (ct_head_body.h). */
enum { ct_head_group = 512, ct_head_group_bytes = 2432 };

/* Weight i of a block, before scaling. */
int ct_iq4_nl_value(const uint8_t *block, size_t i);
int ct_q6_k_value(const uint8_t *block, size_t i);

/* Part of ct_self_test: attention and head. */
bool ct_attention_agrees(const ct_kernels *k);

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
