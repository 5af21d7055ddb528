/* The plain reference. Its products come straight from the definition of the layouts, with / and %, so that a mistake in an
 * instruction set cannot hide behind the same mistake here. Its float part is the common one, compiled for the baseline. */
#include "ct_internal.h"

#include "ct_float_body.h"
#include "ct_attention_body.h"
#include "ct_head_body.h"
#include "ct_plain_attention.h"
#include "ct_plain_bricks.h"

typedef int (*code_function)(const uint8_t *weights, size_t columns, size_t row, size_t column);

static int fast_code(const uint8_t *weights, size_t columns, size_t row, size_t column) {
  size_t unit = (row / 16) * (columns / 16) + column / 16;
  int byte = weights[64 * unit + 4 * (row % 16) + column % 4];
  static const int divisor[4] = {1, 4, 16, 64};
  return byte / divisor[(column % 16) / 4] % 4;
}

static int small_code(const uint8_t *weights, size_t columns, size_t row, size_t column) {
  size_t unit = (row / 16) * (columns / 20) + column / 20;
  int byte = weights[64 * unit + 4 * (row % 16) + column % 4];
  static const int divisor[5] = {1, 3, 9, 27, 81};
  return byte / divisor[(column % 20) / 4] % 3;
}

CT_INLINE void matmul(code_function code, const uint8_t *weights, size_t row_blocks, size_t columns,
                      const int8_t *x, size_t x_stride, size_t tokens, int32_t *out, size_t out_stride) {
  for (size_t row = 0; row < 16 * row_blocks; row++) {
    for (size_t t = 0; t < tokens; t++) out[t * out_stride + row] = 0;
    for (size_t column = 0; column < columns; column++) {
      int weight = code(weights, columns, row, column) - 1;
      if (weight == 0) continue;
      for (size_t t = 0; t < tokens; t++) out[t * out_stride + row] += weight * x[t * x_stride + column];
    }
  }
}

/* Groups of 128 columns, stored as `stored` columns. */
CT_INLINE void grouped(code_function code, size_t stored, const uint8_t *weights, const uint16_t *scales, size_t row_blocks, size_t groups,
                       const int8_t *x, size_t x_stride, const float *x_scales, size_t tokens, float *out, size_t out_stride) {
  for (size_t row = 0; row < 16 * row_blocks; row++) {
    for (size_t t = 0; t < tokens; t++) out[t * out_stride + row] = 0;
    for (size_t g = 0; g < groups; g++) {
      int8_t w[128];
      for (size_t c = 0; c < 128; c++) w[c] = (int8_t)(code(weights, groups * stored, row, g * stored + c) - 1);
      float scale;
      f_f16_to_f32(scales + (row / 16 * groups + g) * 16 + row % 16, &scale, 1);
      for (size_t t = 0; t < tokens; t++) {
        int32_t dot = 0;
        for (size_t c = 0; c < 128; c++) dot += w[c] * x[t * x_stride + g * stored + c];
        out[t * out_stride + row] += (float)dot * (scale * x_scales[t * groups + g]);
      }
    }
  }
}

// x_sums are needed where codes are summed; here weights are.

static void fast_matmul(const uint8_t *weights, size_t row_blocks, size_t columns, const int8_t *x, size_t x_stride,
                        const int32_t *x_sums, size_t tokens, int32_t *out, size_t out_stride) {
  (void)x_sums;
  matmul(fast_code, weights, row_blocks, columns, x, x_stride, tokens, out, out_stride);
}

static void small_matmul(const uint8_t *weights, size_t row_blocks, size_t columns, const int8_t *x, size_t x_stride,
                         const int32_t *x_sums, size_t tokens, int32_t *out, size_t out_stride) {
  (void)x_sums;
  matmul(small_code, weights, row_blocks, columns, x, x_stride, tokens, out, out_stride);
}

static void fast_grouped(const uint8_t *weights, const uint16_t *scales, size_t row_blocks, size_t groups, const int8_t *x,
                         size_t x_stride, const int32_t *x_sums, const float *x_scales, size_t tokens, float *out, size_t out_stride) {
  (void)x_sums;
  grouped(fast_code, 128, weights, scales, row_blocks, groups, x, x_stride, x_scales, tokens, out, out_stride);
}

static void small_grouped(const uint8_t *weights, const uint16_t *scales, size_t row_blocks, size_t groups, const int8_t *x,
                          size_t x_stride, const int32_t *x_sums, const float *x_scales, size_t tokens, float *out, size_t out_stride) {
  (void)x_sums;
  grouped(small_code, 140, weights, scales, row_blocks, groups, x, x_stride, x_scales, tokens, out, out_stride);
}

#define CT_TERNARY_FUNCTIONS \
  .fast_matmul = fast_matmul, .small_matmul = small_matmul, .fast_grouped = fast_grouped, .small_grouped = small_grouped

const ct_kernels ct_scalar_kernels = {.name = "scalar", CT_TERNARY_FUNCTIONS, CT_FLOAT_FUNCTIONS, CT_ATTENTION_FUNCTIONS(plain), CT_HEAD_FUNCTIONS(plain), CT_BRICK_FUNCTIONS};

const ct_kernels *ct_scalar(void) { return &ct_scalar_kernels; }
