/* Runs a path before it is trusted: some virtual machines advertise instructions that they do not have, or get them wrong. */
#include "ct_internal.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>

// Odd counts on purpose: tails of units, of token groups and of 16 lanes. The columns pass every fold of the int16 sums.
enum { row_blocks = 2, columns = 16 * 37, tokens = 15, rows = 16 * row_blocks, floats = 167 };

static _Thread_local sigjmp_buf *escape;

static void on_illegal_instruction(int number) {
  if (escape != NULL) siglongjmp(*escape, 1);
  // Not ours: another thread's. Its instruction runs again and ends the process, as it would have without us.
  signal(number, SIG_DFL);
}

static uint32_t next(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

/* Compares the products with sums made here from ct_fast_weight, for random data (pattern 0) and for extremes. */
static bool products_agree(const ct_kernels *k, int pattern) {
  static const int8_t extremes[2] = {-128, 127};
  _Alignas(64) uint8_t weights[row_blocks * columns / 16 * ct_unit_bytes];
  _Alignas(64) int8_t x[tokens][(columns + 63) / 64 * 64];
  int32_t x_sums[tokens], out[tokens][rows];
  uint32_t seed = 20 + (uint32_t)pattern;

  memset(x, 0, sizeof x);
  for (size_t i = 0; i < sizeof weights; i++) {
    uint32_t r = next(&seed);
    weights[i] = pattern == 0 ? (uint8_t)(r % 3 | r / 3 % 3 << 2 | r / 9 % 3 << 4 | r / 27 % 3 << 6) : pattern & 1 ? 0xaa : 0x00;
  }
  for (int t = 0; t < tokens; t++) {
    x_sums[t] = 0;
    for (int c = 0; c < columns; c++) {
      x[t][c] = pattern == 0 ? (int8_t)(next(&seed) % 256 - 128) : extremes[pattern >> 1 & 1];
      x_sums[t] += x[t][c];
    }
  }

  int32_t expected[tokens][rows];
  memset(expected, 0, sizeof expected);
  for (int r = 0; r < rows; r++) {
    int8_t row[columns];
    for (int c = 0; c < columns; c++) row[c] = (int8_t)ct_fast_weight(weights, rows, columns, (size_t)r, (size_t)c);
    for (int t = 0; t < tokens; t++) {
      for (int c = 0; c < columns; c++) expected[t][r] += row[c] * x[t][c];
    }
  }
  static const size_t counts[] = {1, 2, 3, 5, 12, tokens};
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
    memset(out, 0x77, sizeof out);
    k->fast_matmul(weights, row_blocks, columns, x[0], sizeof x[0], x_sums, counts[i], out[0], rows);
    if (memcmp(out, expected, counts[i] * sizeof out[0]) != 0) return false;
  }
  return true;
}

/* Every float function against the baseline's, bit for bit. */
static bool floats_agree(const ct_kernels *k) {
  const ct_kernels *paths[2] = {k, &ct_scalar_kernels};
  struct {
    float dots[3], scale, lists[8][floats];
    uint16_t halves[floats];
    int8_t q[floats + 9];
    int32_t sum;
  } results[2];
  memset(results, 0, sizeof results);
  for (int p = 0; p < 2; p++) {
    uint32_t seed = 7;
    float a[floats], b[floats];
    uint16_t h[floats];
    uint8_t blocks[(floats + 31) / 32 * 34];
    for (int i = 0; i < floats; i++) {
      a[i] = (float)((int32_t)next(&seed) - (1 << 23)) * 0x1p-20f;
      b[i] = (float)((int32_t)next(&seed) - (1 << 23)) * 0x1p-22f;
      h[i] = (uint16_t)(next(&seed) % 0x7c00 | (uint32_t)(i & 1) << 15);
    }
    for (size_t i = 0; i < sizeof blocks; i++) blocks[i] = i % 34 == 1 ? 0x2c : (uint8_t)next(&seed);

    const ct_kernels *path = paths[p];
    float(*lists)[floats] = results[p].lists;
    results[p].dots[0] = path->dot_f32(a, b, floats);
    results[p].dots[1] = path->dot_f16(h, b, floats);
    results[p].dots[2] = path->dot_q8_0(blocks, b, floats);
    memcpy(lists[0], a, sizeof a);
    path->axpy_f32(0.3f, b, lists[0], floats);
    memcpy(lists[1], a, sizeof a);
    path->axpy_f16(0.3f, h, lists[1], floats);
    path->f32_to_f16(a, results[p].halves, floats);
    path->f16_to_f32(h, lists[2], floats);
    path->rms_norm(a, b, lists[3], floats, floats + 1, 1e-5f);
    results[p].sum = path->quantize(a, results[p].q, floats, floats + 9, &results[p].scale);
    memcpy(lists[4], a, sizeof a);
    path->softmax(lists[4], floats);
    path->silu_mul(a, b, lists[5], floats);
    path->relu2_mul(a, b, lists[6], floats);
    path->exp(a, lists[7], floats);
    path->rope_half(lists[7], a, b, floats / 2);
  }
  return memcmp(&results[0], &results[1], sizeof results[0]) == 0;
}

bool ct_self_test(const ct_kernels *k) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&mutex);  // one owner of the signal at a time

  struct sigaction guard, old;
  memset(&guard, 0, sizeof guard);
  guard.sa_handler = on_illegal_instruction;
  sigemptyset(&guard.sa_mask);
  bool guarded = sigaction(SIGILL, &guard, &old) == 0;

  sigjmp_buf buffer;
  volatile bool passed = false;
  if (guarded && sigsetjmp(buffer, 1) == 0) {
    escape = &buffer;
    passed = true;
    for (int pattern = 0; pattern <= 4 && passed; pattern++) passed = products_agree(k, pattern);
    if (passed) passed = floats_agree(k);
    if (passed) passed = ct_attention_agrees(k);
  } else {
    passed = false;
  }
  escape = NULL;

  if (guarded) sigaction(SIGILL, &old, NULL);
  pthread_mutex_unlock(&mutex);
  return passed;
}
