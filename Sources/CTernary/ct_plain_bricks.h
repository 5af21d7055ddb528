/* Products with bricks from the definition of the layout, weight by weight. */
#define BRICK_TOKENS 4
enum { brick_tokens = BRICK_TOKENS };
#define BRICK_OFFSET(kind) 0
#define UNROLL

CT_INLINE void brick_dots(const ct_brick_kind kind, const int count, const uint8_t *codes, const int8_t *x, size_t x_stride, v16i *dots) {
  for (size_t row = 0; row < ct_brick_rows; row++) {
    for (size_t column = 0; column < ct_brick_columns; column++) {
      int weight = ct_brick_value(kind, codes, row, column);
      for (int c = 0; c < count; c++) dots[c][row] += weight * x[(size_t)c * x_stride + column];
    }
  }
}

#include "ct_bricks_body.h"
