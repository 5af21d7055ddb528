/* The part of the self test for attention and head: against ct_scalar's, bit for bit, on random data and on extremes. */
#include "ct_internal.h"

#include <string.h>

// Odd counts: a last block of 5 keys and a last pair of one value, groups of queries of every width, a head of 19 blocks of 32.
enum { positions = 37, head_size = 80, queries = 15, head_columns = 32 * 19, q6_k_columns = 256 * 3, head_rows = 2 };

static uint32_t next(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

static float uniform(uint32_t *state) { return (float)((int32_t)next(state) - (1 << 23)) * 0x1p-22f; }

typedef struct {
  int8_t q[positions][head_size];
  int8_t prepared[2 * head_size];
  float scales[positions], query_scale, scores[queries][positions];
  float total, probabilities[positions];
  int16_t w[positions];
  int32_t sums[queries][head_size];
} attention_results;

/* extreme: keys, values, queries and weights of the largest magnitude and one sign. */
static void attend(const ct_kernels *k, bool extreme, attention_results *results) {
  _Alignas(64) int8_t keys[(positions + 15) / 16 * 16 * head_size], values[(positions + 1) / 2 * 2 * head_size];
  _Alignas(64) int8_t prepared[queries][2 * head_size];
  float query_scales[queries], x[head_size];
  int16_t w[queries][positions];
  uint32_t seed = 31;
  memset(results, 0, sizeof *results);
  memset(keys, 0x80, sizeof keys);
  memset(values, 0x80, sizeof values);
  for (size_t i = 0; i < positions; i++) {
    for (int d = 0; d < head_size; d++) x[d] = extreme ? -3.0f : uniform(&seed);
    results->scales[i] = k->kv_quantize(x, results->q[i], head_size);
    ct_key_store(results->q[i], keys, i, head_size);
    ct_value_store(results->q[i], values, i, head_size);
  }
  for (int q = 0; q < queries; q++) {
    for (int d = 0; d < head_size; d++) x[d] = extreme ? 5.0f : uniform(&seed);
    query_scales[q] = k->query_prepare(x, prepared[q], head_size);
    for (int i = 0; i < positions; i++) w[q][i] = extreme ? 32767 : (int16_t)(next(&seed) & 0x7fff);
  }
  memcpy(results->prepared, prepared[queries - 1], sizeof results->prepared);
  results->query_scale = query_scales[queries - 1];
  k->key_scores(keys, results->scales, positions, head_size, prepared[0], query_scales, queries, results->scores[0], positions);
  for (int width = 1, q = 0; q < queries; q += width++) {  // 1 + 2 + 3 + 4 + 5 queries
    k->value_sums(values, positions, head_size, w[q], positions, (size_t)width, results->sums[q]);
  }
  k->value_sums(values, positions, head_size, w[0], positions, queries, results->sums[0]);
  memcpy(results->probabilities, results->scores[queries - 1], sizeof results->probabilities);
  results->total = k->value_weights(results->probabilities, results->scales, positions, results->w);
}

typedef struct {
  float q8_0[head_rows], q6_k[head_rows], iq4_nl[head_rows];
} head_results;

static void multiply_head(const ct_kernels *k, bool extreme, head_results *results) {
  enum { groups = (q6_k_columns + ct_head_group - 1) / ct_head_group };
  _Alignas(64) uint8_t prepared[groups * ct_head_group_bytes];
  uint8_t weights[head_rows * q6_k_columns / 32 * 34 + 1], *unaligned = weights + 1;
  float x[q6_k_columns];
  uint32_t seed = 41;
  memset(results, 0, sizeof *results);
  for (int i = 0; i < q6_k_columns; i++) x[i] = extreme ? 7.0f : uniform(&seed);
  for (size_t i = 0; i < sizeof weights; i++) weights[i] = extreme ? 0x80 : (uint8_t)next(&seed);
  k->head_prepare(x, head_columns, prepared);
  for (size_t i = 0; i < head_rows * head_columns / 32; i++) unaligned[34 * i + 1] = 0x2c;  // scales near 1/16
  k->head_q8_0(unaligned, head_rows, head_columns, prepared, results->q8_0);
  for (size_t i = 0; i < head_rows * head_columns / 32; i++) unaligned[18 * i + 1] = 0x2c;
  k->head_iq4_nl(unaligned, head_rows, head_columns, prepared, results->iq4_nl);
  k->head_prepare(x, q6_k_columns, prepared);
  for (size_t i = 0; i < head_rows * q6_k_columns / 256; i++) unaligned[210 * i + 209] = 0x2c;
  k->head_q6_k(unaligned, head_rows, q6_k_columns, prepared, results->q6_k);
}

bool ct_attention_agrees(const ct_kernels *k) {
  for (int extreme = 0; extreme < 2; extreme++) {
    attention_results mine, expected;
    attend(k, extreme, &mine);
    attend(&ct_scalar_kernels, extreme, &expected);
    if (memcmp(&mine, &expected, sizeof mine) != 0) return false;
    head_results my_rows, expected_rows;
    multiply_head(k, extreme, &my_rows);
    multiply_head(&ct_scalar_kernels, extreme, &expected_rows);
    if (memcmp(&my_rows, &expected_rows, sizeof my_rows) != 0) return false;
  }
  return true;
}
