/* The two layouts: packing, reading one weight, checking foreign bytes; GGUF blocks as floats. Formulas: include/ct_ternary.h. */
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

/* The code of a weight: 0, 1 or 2. */
CT_INLINE unsigned code_of(int8_t weight) { return (unsigned)((weight > 0) - (weight < 0) + 1); }

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

enum { small_unit_columns = 20 };

size_t ct_small_bytes(size_t rows, size_t columns) {
  size_t row_blocks = rows / ct_unit_rows + (rows % ct_unit_rows != 0);
  size_t units = columns / small_unit_columns + (columns % small_unit_columns != 0);
  size_t bytes;
  if (__builtin_mul_overflow(row_blocks, units, &bytes)) return 0;
  if (__builtin_mul_overflow(bytes, (size_t)ct_unit_bytes, &bytes)) return 0;
  return bytes;
}

CT_INLINE void small_pack_row(const int8_t *w, uint8_t *out) {
  for (int j = 0; j < 4; j++) {
    out[j] = (uint8_t)(code_of(w[j]) + 3 * code_of(w[4 + j]) + 9 * code_of(w[8 + j]) + 27 * code_of(w[12 + j]) + 81 * code_of(w[16 + j]));
  }
}

void ct_small_pack(const int8_t *weights, size_t rows, size_t columns, uint8_t *out) {
  size_t units = (columns + small_unit_columns - 1) / small_unit_columns;
  memset(out, 1 + 3 + 9 + 27 + 81, ct_small_bytes(rows, columns));  // code 1 everywhere: the padding
  for (size_t row = 0; row < rows; row++) {
    const int8_t *from = weights + row * columns;
    uint8_t *to = out + row / ct_unit_rows * units * ct_unit_bytes + 4 * (row % ct_unit_rows);
    size_t column = 0;
    for (; column + small_unit_columns <= columns; column += small_unit_columns, to += ct_unit_bytes) small_pack_row(from + column, to);
    if (column < columns) {
      int8_t last[small_unit_columns] = {0};
      memcpy(last, from + column, columns - column);
      small_pack_row(last, to);
    }
  }
}

int ct_small_weight(const uint8_t *packed, size_t rows, size_t columns, size_t row, size_t column) {
  static const unsigned power[5] = {1, 3, 9, 27, 81};
  (void)rows;
  size_t units = (columns + small_unit_columns - 1) / small_unit_columns;
  size_t unit = row / ct_unit_rows * units + column / small_unit_columns;
  unsigned byte = packed[unit * ct_unit_bytes + 4 * (row % ct_unit_rows) + column % 4];
  return (int)(byte / power[column % small_unit_columns / 4] % 3) - 1;
}

ptrdiff_t ct_small_validate(const uint8_t *packed, size_t bytes) {
  size_t i = 0;
  for (; i + 64 <= bytes; i += 64) {
    uint8_t largest = 0;
    for (size_t k = 0; k < 64; k++) largest = packed[i + k] > largest ? packed[i + k] : largest;
    if (largest > 242) break;  // the byte is found below
  }
  for (; i < bytes; i++) {
    if (packed[i] > 242) return (ptrdiff_t)i;
  }
  return -1;
}

static float half_as_float(const uint8_t *bytes) {
  uint32_t half = (uint32_t)(bytes[0] | bytes[1] << 8);
  uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 31, mantissa = half & 0x3FFu, bits;
  float value;
  if (exponent == 0) {  // subnormal: mantissa * 2^-24
    value = (float)mantissa * 0x1p-24f;
    memcpy(&bits, &value, 4);
    bits |= sign;
  } else {
    bits = sign | (exponent == 31 ? 0x7F800000u : (exponent + 112) << 23) | mantissa << 13;
  }
  memcpy(&value, &bits, 4);
  return value;
}

void ct_unpack_q8_0(const void *row, float *out, size_t n) {
  const uint8_t *block = row;
  for (size_t i = 0; i < n; i += 32, block += 34) {
    float d = half_as_float(block);
    for (size_t k = 0; k < 32; k++) out[i + k] = d * (float)(int8_t)block[2 + k];
  }
}

void ct_unpack_q6_k(const void *row, float *out, size_t n) {
  const uint8_t *block = row;  // 128 low nibbles, 64 pairs of high bits, 16 scales, d
  for (size_t i = 0; i < n; i += 256, block += 210) {
    float d = half_as_float(block + 208);
    for (size_t k = 0; k < 256; k++) {
      size_t part = k / 128, quarter = k % 128 / 32, column = k % 32;
      unsigned low = block[part * 64 + quarter % 2 * 32 + column] >> (quarter / 2 * 4) & 15;
      unsigned high = block[128 + part * 32 + column] >> (quarter * 2) & 3;
      float scale = d * (float)(int8_t)block[192 + k / 16];
      out[i + k] = scale * (float)((int)(low | high << 4) - 32);
    }
  }
}

void ct_unpack_iq4_nl(const void *row, float *out, size_t n) {
  static const int8_t values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  const uint8_t *block = row;
  for (size_t i = 0; i < n; i += 32, block += 18) {
    float d = half_as_float(block);
    for (size_t k = 0; k < 16; k++) {
      out[i + k] = d * (float)values[block[2 + k] & 15];
      out[i + 16 + k] = d * (float)values[block[2 + k] >> 4];
    }
  }
}
