/* Runs a path before it is trusted: some virtual machines advertise instructions that they do not have, or get them wrong. */
#include "ct_internal.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF

// Odd counts on purpose: tails of pairs of blocks, of tiles and of 16 lanes. 43 units pass every fold of the int16 sums and need two panels.
enum { row_blocks = 3, units = 43, groups = 6, tokens = 15, rows = 16 * row_blocks, floats = 167 };
enum { most_units = units > 8 * groups ? units : 8 * groups, most_columns = 20 * most_units, stride = (most_columns + 63) / 64 * 64 };

/* One product to test, and room for it. */
struct product {
  _Alignas(64) uint8_t weights[row_blocks * most_units * ct_unit_bytes];
  _Alignas(64) int8_t x[tokens][stride];
  int32_t sums[tokens * groups], out[tokens][rows], expected[tokens][rows];
  float x_scales[tokens * groups], float_out[tokens][rows], float_expected[tokens][rows];
  uint16_t scales[row_blocks][groups][16];
};

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

/* Random weights of a layout. */
static void fill(struct product *p, bool small, uint32_t *seed) {
  for (size_t i = 0; i < sizeof p->weights; i++) {
    uint32_t r = next(seed);
    p->weights[i] = (uint8_t)(small ? r % 243 : r % 3 | r / 3 % 3 << 2 | r / 9 % 3 << 4 | r / 27 % 3 << 6);
  }
}

/* One row of weights, read one by one. */
static void read_row(const struct product *p, bool small, size_t columns, size_t row, int8_t *out) {
  int (*weight)(const uint8_t *, size_t, size_t, size_t, size_t) = small ? ct_small_weight : ct_fast_weight;
  for (size_t c = 0; c < columns; c++) out[c] = (int8_t)weight(p->weights, rows, columns, row, c);
}

static bool product_agrees(const ct_kernels *k, bool small, struct product *p, size_t count) {
  memset(p->out, 0x77, sizeof p->out);
  (small ? k->small_matmul : k->fast_matmul)(p->weights, row_blocks, units * (small ? 20 : 16), p->x[0], stride, p->sums, count, p->out[0], rows);
  return memcmp(p->out, p->expected, count * sizeof p->out[0]) == 0;
}

/* Integer products of random data against sums made here from single weights, and of extremes, which reach the bound of every partial sum. */
static bool products_agree(const ct_kernels *k, bool small, struct product *p) {
  const size_t columns = units * (small ? 20 : 16);
  uint32_t seed = 20 + small;
  fill(p, small, &seed);
  memset(p->x, 0, sizeof p->x);
  for (int t = 0; t < tokens; t++) {
    p->sums[t] = 0;
    for (size_t c = 0; c < columns; c++) p->sums[t] += p->x[t][c] = (int8_t)(next(&seed) % 256 - 128);
  }
  memset(p->expected, 0, sizeof p->expected);
  for (size_t r = 0; r < rows; r++) {
    int8_t row[most_columns];
    read_row(p, small, columns, r, row);
    for (int t = 0; t < tokens; t++) {
      for (size_t c = 0; c < columns; c++) p->expected[t][r] += row[c] * p->x[t][c];
    }
  }
  static const size_t counts[] = {1, 2, 3, 5, 12, tokens};
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
    if (!product_agrees(k, small, p, counts[i])) return false;
  }

  for (int pattern = 0; pattern < 4; pattern++) {
    const int weight = pattern & 1 ? 1 : -1, value = pattern & 2 ? 127 : -128;
    memset(p->weights, weight < 0 ? 0 : small ? 242 : 0xaa, sizeof p->weights);
    for (int t = 0; t < tokens; t++) {
      memset(p->x[t], value, columns);
      p->sums[t] = value * (int32_t)columns;
      for (int r = 0; r < rows; r++) p->expected[t][r] = weight * p->sums[t];
    }
    if (!product_agrees(k, small, p, 1) || !product_agrees(k, small, p, 4) || !product_agrees(k, small, p, tokens)) return false;
  }
  return true;
}

/* Products with scales by groups, after their definition, bit for bit. */
static bool grouped_agree(const ct_kernels *k, bool small, struct product *p) {
  const size_t stored = small ? 140 : 128, columns = groups * stored;
  uint32_t seed = 30 + small;
  fill(p, small, &seed);
  memset(p->x, 0, sizeof p->x);
  for (int i = 0; i < tokens * groups; i++) {
    p->sums[i] = 0;
    p->x_scales[i] = (float)next(&seed) * 0x1p-27f;
    int8_t *x = p->x[i / groups] + (size_t)(i % groups) * stored;
    for (int c = 0; c < 128; c++) p->sums[i] += x[c] = (int8_t)(next(&seed) % 256 - 128);
  }
  for (int i = 0; i < row_blocks * groups * 16; i++) p->scales[i / 16 / groups][i / 16 % groups][i % 16] = (uint16_t)(next(&seed) % 0x4000 | (uint32_t)(i & 1) << 15);
  for (size_t r = 0; r < rows; r++) {
    int8_t row[most_columns];
    read_row(p, small, columns, r, row);
    for (size_t t = 0; t < tokens; t++) {
      float sum = 0;
      for (size_t g = 0; g < groups; g++) {
        int32_t dot = 0;
        for (size_t c = g * stored; c < g * stored + 128; c++) dot += row[c] * p->x[t][c];
        float scale;
        ct_scalar_kernels.f16_to_f32(&p->scales[r / 16][g][r % 16], &scale, 1);
        sum += (float)dot * (scale * p->x_scales[t * groups + g]);
      }
      p->float_expected[t][r] = sum;
    }
  }
  static const size_t counts[] = {1, 4, tokens};
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
    memset(p->float_out, 0x77, sizeof p->float_out);
    (small ? k->small_grouped : k->fast_grouped)(p->weights, p->scales[0][0], row_blocks, groups, p->x[0], stride, p->sums, p->x_scales,
                                                 counts[i], p->float_out[0], rows);
    if (memcmp(p->float_out, p->float_expected, counts[i] * sizeof p->float_out[0]) != 0) return false;
  }
  return true;
}

/* Every float function against the baseline's, bit for bit. */
static bool floats_agree(const ct_kernels *k) {
  const ct_kernels *paths[2] = {k, &ct_scalar_kernels};
  struct {
    float dots[3], scale, lists[8][floats];
    uint16_t halves[floats];
    int8_t q[floats + 9], group_q[140];
    int32_t sum, group_sum;
    float group_scale;
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
    path->quantize_groups(a, results[p].group_q, 128, 140, &results[p].group_sum, &results[p].group_scale);
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
    static struct product product;  // under the mutex; too large for a small thread's stack
    for (int small = 0; small < 2 && passed; small++) passed = products_agree(k, small, &product) && grouped_agree(k, small, &product);
    if (passed) passed = floats_agree(k);
    if (passed) passed = ct_attention_agrees(k) && ct_bricks_agree(k);
  } else {
    passed = false;
  }
  escape = NULL;

  if (guarded) sigaction(SIGILL, &old, NULL);
  pthread_mutex_unlock(&mutex);
  return passed;
}
