/* The fast layout: packing, reading one weight, checking foreign bytes. Formula: include/ct_ternary.h. */
#include "ct_internal.h"

#include <string.h>

size_t ct_fast_bytes(size_t rows, size_t columns) {
  size_t row_blocks = rows / ct_unit_rows + (rows % ct_unit_rows != 0);
  size_t units = columns / ct_unit_columns + (columns % ct_unit_columns != 0);
  size_t bytes;
  if (__builtin_mul_overflow(row_blocks, units, &bytes)) return 0;
  if (__builtin_mul_overflow(bytes, (size_t)ct_unit_bytes, &bytes)) return 0;
  return bytes;
}

/* Offset of the byte that holds (row, column). */
static size_t byte_offset(size_t columns, size_t row, size_t column) {
  size_t units = (columns + ct_unit_columns - 1) / ct_unit_columns;
  size_t unit = row / ct_unit_rows * units + column / ct_unit_columns;
  return unit * ct_unit_bytes + 4 * (row % ct_unit_rows) + column % 4;
}

/* First bit of the code of a column in its byte. */
static unsigned bit_offset(size_t column) { return 2 * (unsigned)(column % ct_unit_columns / 4); }

void ct_fast_pack(const int8_t *weights, size_t rows, size_t columns, uint8_t *out) {
  memset(out, 0x55, ct_fast_bytes(rows, columns));  // code 1 everywhere
  for (size_t row = 0; row < rows; row++) {
    for (size_t column = 0; column < columns; column++) {
      int8_t w = weights[row * columns + column];
      unsigned code = w > 0 ? 2 : w < 0 ? 0 : 1;
      uint8_t *byte = out + byte_offset(columns, row, column);
      unsigned shift = bit_offset(column);
      *byte = (uint8_t)((*byte & ~(3u << shift)) | code << shift);
    }
  }
}

int ct_fast_weight(const uint8_t *packed, size_t rows, size_t columns, size_t row, size_t column) {
  (void)rows;
  return (int)(packed[byte_offset(columns, row, column)] >> bit_offset(column) & 3) - 1;
}

ptrdiff_t ct_fast_validate(const uint8_t *packed, size_t bytes) {
  const uint64_t low_bits = 0x5555555555555555u;
  size_t i = 0;
  for (; i + 8 <= bytes; i += 8) {
    uint64_t word;
    memcpy(&word, packed + i, 8);
    if (word & word >> 1 & low_bits) break;  // both bits of a code set; the byte is found below
  }
  for (; i < bytes; i++) {
    if (packed[i] & packed[i] >> 1 & 0x55) return (ptrdiff_t)i;
  }
  return -1;
}
