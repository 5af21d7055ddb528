/* The part of the self test that is about bricks: bit for bit against the plain reference, on random data and on extremes. */
#include "ct_internal.h"

#include <string.h>

// Odd counts on purpose: a last group of one brick, tails of every tile of tokens.
enum { row_blocks = 2, bricks = 5, tokens = 15, rows = 16 * row_blocks, stride = 192 };
enum { most_bytes = row_blocks * 3 * (ct_brick_line + 2 * 512) };

typedef struct {
  _Alignas(64) int8_t x[tokens][stride];
  int32_t sums[tokens][bricks];
  float scales[tokens][bricks], out[4][tokens][rows], few[4][4][rows];
  uint64_t checksum;
} results;

static uint32_t next(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

static void multiply(const ct_kernels *k, bool extreme, results *r) {
  _Alignas(64) uint8_t weights[most_bytes];
  uint32_t seed = 51;
  memset(r, 0, sizeof *r);
  for (int t = 0; t < tokens; t++) {
    float x[32 * bricks];
    for (int i = 0; i < 32 * bricks; i++) x[i] = extreme ? (t % 2 ? -3.0f : 3.0f) : (float)((int32_t)next(&seed) - (1 << 23)) * 0x1p-20f;
    k->quantize_bricks(x, r->x[t], 32 * bricks, r->sums[t], r->scales[t]);
  }
  for (int kind = 0; kind < 4; kind++) {
    for (size_t i = 0; i < sizeof weights; i++) weights[i] = extreme ? (kind == CT_BRICK_Q8_0 ? 0x80 : 0) : (uint8_t)next(&seed);
    const size_t group_bytes = ct_brick_line + ct_brick_group(kind) * ct_brick_code_bytes(kind);
    for (size_t line = 0; line + ct_brick_line <= sizeof weights; line += group_bytes) {
      for (size_t i = 0; i < ct_brick_line; i++) weights[line + i] = kind == CT_BRICK_MXFP4 ? (uint8_t)(118 + i % 20) : i % 2 ? 0x2c : (uint8_t)(7 * i);
    }
    k->brick_matmul(kind, weights, row_blocks, bricks, r->x[0], stride, r->sums[0], r->scales[0], tokens, r->out[kind][0], rows);
    for (size_t t = 1; t < 4; t++) {
      k->brick_matmul(kind, weights, row_blocks, bricks, r->x[0], stride, r->sums[0], r->scales[0], t, r->few[kind][0], rows);
    }
    r->checksum ^= k->checksum(weights, most_bytes / 256 * 256);
  }
}

bool ct_bricks_agree(const ct_kernels *k) {
  static results mine, expected;  // under the self test's mutex
  for (int extreme = 0; extreme < 2; extreme++) {
    multiply(k, extreme, &mine);
    multiply(&ct_scalar_kernels, extreme, &expected);
    if (memcmp(&mine, &expected, sizeof mine) != 0) return false;
  }
  return true;
}
