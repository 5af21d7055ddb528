/* The two layouts: packing, reading one weight, checking foreign bytes. Formulas: include/ct_ternary.h. */
#include "ct_internal.h"

#include <string.h>

/* Bytes of rows x columns in units of 16 rows x unit_columns; 0 on overflow. */
static size_t packed_bytes(size_t rows, size_t columns, size_t unit_columns) {
  size_t row_blocks = rows / ct_unit_rows + (rows % ct_unit_rows != 0);
  size_t units = columns / unit_columns + (columns % unit_columns != 0);
  size_t bytes;
  if (__builtin_mul_overflow(row_blocks, units, &bytes)) return 0;
  if (__builtin_mul_overflow(bytes, (size_t)ct_unit_bytes, &bytes)) return 0;
  return bytes;
}

/* Offset of the byte that holds (row, column). */
static size_t byte_offset(size_t columns, size_t unit_columns, size_t row, size_t column) {
  size_t units = (columns + unit_columns - 1) / unit_columns;
  size_t unit = row / ct_unit_rows * units + column / unit_columns;
  return unit * ct_unit_bytes + 4 * (row % ct_unit_rows) + column % unit_columns % 4;
}

static unsigned code_of(int8_t weight) { return weight > 0 ? 2 : weight < 0 ? 0 : 1; }

// MARK: fast

size_t ct_fast_bytes(size_t rows, size_t columns) { return packed_bytes(rows, columns, ct_unit_columns); }

/* First bit of the code of a column in its byte. */
static unsigned bit_offset(size_t column) { return 2 * (unsigned)(column % ct_unit_columns / 4); }

/* The four bytes of a row in one unit, from its 16 weights. */
CT_INLINE void fast_pack_row(const int8_t *w, uint8_t *out) {
  for (int j = 0; j < 4; j++) {
    out[j] = (uint8_t)(code_of(w[j]) | code_of(w[4 + j]) << 2 | code_of(w[8 + j]) << 4 | code_of(w[12 + j]) << 6);
  }
}

void ct_fast_pack(const int8_t *weights, size_t rows, size_t columns, uint8_t *out) {
  size_t units = (columns + ct_unit_columns - 1) / ct_unit_columns;
  memset(out, 0x55, ct_fast_bytes(rows, columns));  // code 1 everywhere: the padding
  for (size_t row = 0; row < rows; row++) {
    const int8_t *from = weights + row * columns;
    uint8_t *to = out + row / ct_unit_rows * units * ct_unit_bytes + 4 * (row % ct_unit_rows);
    size_t column = 0;
    for (; column + ct_unit_columns <= columns; column += ct_unit_columns, to += ct_unit_bytes) fast_pack_row(from + column, to);
    if (column < columns) {
      int8_t last[ct_unit_columns] = {0};
      memcpy(last, from + column, columns - column);
      fast_pack_row(last, to);
    }
  }
}

int ct_fast_weight(const uint8_t *packed, size_t rows, size_t columns, size_t row, size_t column) {
  (void)rows;
  return (int)(packed[byte_offset(columns, ct_unit_columns, row, column)] >> bit_offset(column) & 3) - 1;
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

// MARK: small

static const unsigned powers_of_three[5] = {1, 3, 9, 27, 81};

size_t ct_small_bytes(size_t rows, size_t columns) { return packed_bytes(rows, columns, ct_small_unit_columns); }

/* The place of a column's code in its byte, as a power of three. */
static unsigned digit_value(size_t column) { return powers_of_three[column % ct_small_unit_columns / 4]; }

CT_INLINE void small_pack_row(const int8_t *w, uint8_t *out) {
  for (int j = 0; j < 4; j++) {
    out[j] = (uint8_t)(code_of(w[j]) + 3 * code_of(w[4 + j]) + 9 * code_of(w[8 + j]) + 27 * code_of(w[12 + j]) + 81 * code_of(w[16 + j]));
  }
}

void ct_small_pack(const int8_t *weights, size_t rows, size_t columns, uint8_t *out) {
  size_t units = (columns + ct_small_unit_columns - 1) / ct_small_unit_columns;
  memset(out, 1 + 3 + 9 + 27 + 81, ct_small_bytes(rows, columns));  // code 1 everywhere: the padding
  for (size_t row = 0; row < rows; row++) {
    const int8_t *from = weights + row * columns;
    uint8_t *to = out + row / ct_unit_rows * units * ct_unit_bytes + 4 * (row % ct_unit_rows);
    size_t column = 0;
    for (; column + ct_small_unit_columns <= columns; column += ct_small_unit_columns, to += ct_unit_bytes) small_pack_row(from + column, to);
    if (column < columns) {
      int8_t last[ct_small_unit_columns] = {0};
      memcpy(last, from + column, columns - column);
      small_pack_row(last, to);
    }
  }
}

int ct_small_weight(const uint8_t *packed, size_t rows, size_t columns, size_t row, size_t column) {
  (void)rows;
  return (int)(packed[byte_offset(columns, ct_small_unit_columns, row, column)] / digit_value(column) % 3) - 1;
}

ptrdiff_t ct_small_validate(const uint8_t *packed, size_t bytes) {
  enum { chunk = 1024 };  // a loop without an early end becomes vector code
  size_t i = 0;
  for (; i + chunk <= bytes; i += chunk) {
    uint8_t largest = 0;
    for (size_t j = 0; j < chunk; j++) largest = packed[i + j] > largest ? packed[i + j] : largest;
    if (largest > 242) break;  // the byte is found below
  }
  for (; i < bytes; i++) {
    if (packed[i] > 242) return (ptrdiff_t)i;
  }
  return -1;
}
