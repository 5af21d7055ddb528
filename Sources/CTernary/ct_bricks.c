/* Bricks: sizes, packing from GGUF blocks, reading back. Formulas: include/ct_ternary.h. */
#include "ct_internal.h"

#include <string.h>

#pragma STDC FP_CONTRACT OFF

static size_t block_bytes(ct_brick_kind kind) { return kind == CT_BRICK_Q8_0 ? 34 : kind == CT_BRICK_MXFP4 ? 17 : 18; }

/* Bytes of 16 rows. */
static size_t row_block_bytes(ct_brick_kind kind, size_t bricks) {
  size_t group = ct_brick_group(kind), groups = bricks / group + (bricks % group != 0), bytes;
  if (__builtin_mul_overflow(groups, ct_brick_line + group * ct_brick_code_bytes(kind), &bytes)) return 0;
  return bytes;
}

size_t ct_brick_bytes(ct_brick_kind kind, size_t rows, size_t columns) {
  size_t bytes;
  if (columns % ct_brick_columns != 0) return 0;
  if (__builtin_mul_overflow(rows / 16 + (rows % 16 != 0), row_block_bytes(kind, columns / ct_brick_columns), &bytes)) return 0;
  return bytes;
}

/* Where brick b of a row's block has its scale, and where its codes begin. */
static size_t scale_offset(ct_brick_kind kind, size_t bricks, size_t row, size_t b) {
  size_t group = ct_brick_group(kind), line = ct_brick_line + group * ct_brick_code_bytes(kind);
  size_t place = 16 * (b % group) + row % 16;
  return row / 16 * row_block_bytes(kind, bricks) + b / group * line + (kind == CT_BRICK_MXFP4 ? place : 2 * place);
}

static size_t code_offset(ct_brick_kind kind, size_t bricks, size_t row, size_t b) {
  size_t group = ct_brick_group(kind), line = ct_brick_line + group * ct_brick_code_bytes(kind);
  return row / 16 * row_block_bytes(kind, bricks) + b / group * line + ct_brick_line + b % group * ct_brick_code_bytes(kind);
}

/* GGUF has weight i < 16 of a block in the low nibble of byte i and weight 16 + i in the high one. */
static unsigned block_code(const uint8_t *nibbles, size_t i) { return i < 16 ? nibbles[i] & 15u : nibbles[i - 16] >> 4; }

/* The code of a zero weight, for rows that are padding. */
static uint8_t zero_codes(ct_brick_kind kind) { return kind == CT_BRICK_Q4_0 ? 0x88 : 0; }

void ct_brick_pack(ct_brick_kind kind, const void *blocks, size_t rows, size_t columns, uint8_t *out) {
  const size_t bricks = columns / ct_brick_columns, scale_bytes = kind == CT_BRICK_MXFP4 ? 1 : 2;
  memset(out, 0, ct_brick_bytes(kind, rows, columns));
  for (size_t row = 0; row < (rows + 15) / 16 * 16; row++) {
    for (size_t b = 0; b < bricks; b++) {
      uint8_t *to = out + code_offset(kind, bricks, row, b) + 4 * (row % 16);
      if (row >= rows) {
        for (size_t u = 0; u < ct_brick_code_bytes(kind) / 64; u++) memset(to + 64 * u, zero_codes(kind), 4);
        continue;
      }
      const uint8_t *block = (const uint8_t *)blocks + (row * bricks + b) * block_bytes(kind);
      memcpy(out + scale_offset(kind, bricks, row, b), block, scale_bytes);
      const uint8_t *codes = block + scale_bytes;
      if (kind == CT_BRICK_Q8_0) {
        for (size_t s = 0; s < 8; s++) memcpy(to + 64 * s, codes + 4 * s, 4);
        continue;
      }
      for (size_t u = 0; u < 4; u++) {
        for (size_t j = 0; j < 4; j++) to[64 * u + j] = (uint8_t)(block_code(codes, 8 * u + j) | block_code(codes, 8 * u + 4 + j) << 4);
      }
    }
  }
}

int ct_brick_value(ct_brick_kind kind, const uint8_t *codes, size_t row, size_t column) {
  static const int8_t mxfp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  static const int8_t iq4_nl[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  if (kind == CT_BRICK_Q8_0) return (int8_t)codes[64 * (column / 4) + 4 * row + column % 4];
  int byte = codes[64 * (column / 8) + 4 * row + column % 4];
  int code = column % 8 < 4 ? byte % 16 : byte / 16;
  return kind == CT_BRICK_Q4_0 ? code - 8 : kind == CT_BRICK_MXFP4 ? mxfp4[code] : iq4_nl[code];
}

void ct_brick_unpack(ct_brick_kind kind, const uint8_t *packed, size_t columns, size_t row, float *out) {
  const size_t bricks = columns / ct_brick_columns;
  for (size_t b = 0; b < bricks; b++) {
    const uint8_t *codes = packed + code_offset(kind, bricks, row, b);
    float scale = ct_brick_scale(kind, packed + scale_offset(kind, bricks, row, b));
    for (size_t c = 0; c < ct_brick_columns; c++) out[ct_brick_columns * b + c] = (float)ct_brick_value(kind, codes, row % 16, c) * scale;
  }
}
