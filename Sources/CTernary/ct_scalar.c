/* The plain reference. Its products come straight from the definition of the layout, with / and %, so that a mistake in an
 * instruction set cannot hide behind the same mistake here. Its float part is the common one, compiled for the baseline. */
#include "ct_internal.h"

#include "ct_float_body.h"
#include "ct_attention_body.h"
#include "ct_head_body.h"
#include "ct_plain_attention.h"

static int code_of(const uint8_t *weights, size_t columns, size_t row, size_t column) {
  size_t unit = (row / 16) * (columns / 16) + column / 16;
  int byte = weights[64 * unit + 4 * (row % 16) + column % 4];
  static const int divisor[4] = {1, 4, 16, 64};
  return byte / divisor[(column % 16) / 4] % 4;
}

static void scalar_fast_matmul(const uint8_t *weights, size_t row_blocks, size_t columns,
                               const int8_t *x, size_t x_stride, const int32_t *x_sums, size_t tokens,
                               int32_t *out, size_t out_stride) {
  (void)x_sums;  // needed where codes are summed; here weights are
  for (size_t row = 0; row < 16 * row_blocks; row++) {
    for (size_t t = 0; t < tokens; t++) out[t * out_stride + row] = 0;
    for (size_t column = 0; column < columns; column++) {
      int weight = code_of(weights, columns, row, column) - 1;
      if (weight == 0) continue;
      for (size_t t = 0; t < tokens; t++) out[t * out_stride + row] += weight * x[t * x_stride + column];
    }
  }
}

const ct_kernels ct_scalar_kernels = {.name = "scalar", .fast_matmul = scalar_fast_matmul, CT_FLOAT_FUNCTIONS, CT_ATTENTION_FUNCTIONS(plain), CT_HEAD_FUNCTIONS(plain)};

const ct_kernels *ct_scalar(void) { return &ct_scalar_kernels; }
