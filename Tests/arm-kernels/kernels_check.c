/* Runs every kernel that this processor has and prints what must be the same on every other one.
 *
 * Lines "ok ..." and "FAIL ..." are checks within this run; lines "digest FUNCTION HEX" are the bits of float results, to be compared
 * between architectures. Ends with 1 if a check failed. Built and run by ../arm-kernels.sh for x86 and for ARM under qemu. */
#include "ct_internal.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

static void check(bool passed, const char *kernel, const char *what) {
  printf("%s %s %s\n", passed ? "ok" : "FAIL", kernel, what);
  if (!passed) failures++;
}

static uint64_t state = 1;
static uint32_t next(void) {  // xorshift*
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return (uint32_t)(state * 0x2545f4914f6cdd1du >> 32);
}

static float uniform(float limit) { return ((float)(next() >> 8) * 0x1p-23f - 1.0f) * limit; }

static uint64_t digest(uint64_t hash, const void *bytes, size_t count) {  // FNV-1a
  const uint8_t *p = bytes;
  for (size_t i = 0; i < count; i++) hash = (hash ^ p[i]) * 0x100000001b3u;
  return hash;
}

static uint64_t digest_floats(uint64_t hash, const float *x, size_t n) {
  for (size_t i = 0; i < n; i++) {
    float value = x[i] == x[i] ? x[i] : 0x1p127f;  // every NaN counts as one
    hash = digest(hash, &value, sizeof value);
  }
  return hash;
}

static bool matmul_agrees(const ct_kernels *k, size_t rows, size_t columns, int pattern) {
  enum { tokens = 17 };
  size_t padded_columns = (columns + 15) / 16 * 16, blocks = (rows + 15) / 16, padded_rows = 16 * blocks;
  size_t stride = (columns + 63) / 64 * 64;
  int8_t *w = malloc(rows * columns);
  uint8_t *packed = aligned_alloc(64, ct_fast_bytes(rows, columns));
  int8_t *x = aligned_alloc(64, tokens * stride);
  int32_t sums[tokens] = {0};
  int32_t *expected = calloc(tokens * padded_rows, 4), *out = malloc(tokens * padded_rows * 4);
  for (size_t i = 0; i < rows * columns; i++) w[i] = pattern == 0 ? (int8_t)(next() % 3) - 1 : pattern & 1 ? 1 : -1;
  ct_fast_pack(w, rows, columns, packed);
  memset(x, 0, tokens * stride);
  for (size_t t = 0; t < tokens; t++) {
    for (size_t c = 0; c < columns; c++) {
      int8_t v = pattern == 0 ? (int8_t)next() : pattern & 2 ? 127 : -128;
      x[t * stride + c] = v;
      sums[t] += v;
    }
  }
  ct_scalar()->fast_matmul(packed, blocks, padded_columns, x, stride, sums, tokens, expected, padded_rows);
  bool agrees = true;
  for (size_t count = 1; count <= tokens; count++) {
    memset(out, 0x55, tokens * padded_rows * 4);
    k->fast_matmul(packed, blocks, padded_columns, x, stride, sums, count, out, padded_rows);
    agrees = agrees && memcmp(out, expected, count * padded_rows * 4) == 0;
    for (size_t i = count * padded_rows; i < tokens * padded_rows; i++) agrees = agrees && out[i] == 0x55555555;
  }
  free(w), free(packed), free(x), free(expected), free(out);
  return agrees;
}

enum { functions = 14 };
static const char *const function_names[functions] = {
  "dot_f32", "dot_f16", "dot_q8_0", "axpy_f32", "axpy_f16", "f32_to_f16", "f16_to_f32",
  "rms_norm", "quantize", "softmax", "exp", "silu_mul", "relu2_mul", "rope_half",
};

static void float_digests(const ct_kernels *k, uint64_t digests[functions]) {
  enum { most = 700 };
  static float a[most], b[most], out[most], wide[65536];
  static uint16_t h[most], halves[65536];
  static int8_t q[most + 64];
  static uint8_t blocks[(most + 31) / 32 * 34];
  for (int f = 0; f < functions; f++) digests[f] = 0xcbf29ce484222325u;
  state = 99;
  for (size_t n = 0; n <= most; n += n < 200 ? 1 : 100) {
    float limit = n % 7 == 0 ? 100.0f : n % 7 == 1 ? 0x1p-130f : 8.0f;
    for (size_t i = 0; i < n; i++) a[i] = uniform(limit), b[i] = uniform(3), h[i] = (uint16_t)(next() & 0xfbff);
    for (size_t i = 0; i < sizeof blocks; i++) blocks[i] = (uint8_t)next();
    for (size_t i = 1; i < sizeof blocks; i += 34) blocks[i] &= 0xbb;  // no infinite scales
    float v;
    v = k->dot_f32(a, b, n), digests[0] = digest_floats(digests[0], &v, 1);
    v = k->dot_f16(h, b, n), digests[1] = digest_floats(digests[1], &v, 1);
    v = k->dot_q8_0(blocks, b, n), digests[2] = digest_floats(digests[2], &v, 1);
    memcpy(out, b, sizeof out), k->axpy_f32(1.7f, a, out, n), digests[3] = digest_floats(digests[3], out, n);
    memcpy(out, b, sizeof out), k->axpy_f16(1.7f, h, out, n), digests[4] = digest_floats(digests[4], out, n);
    k->rms_norm(a, b, out, n, n, 1e-5f), digests[7] = digest_floats(digests[7], out, n);
    int32_t sum = k->quantize(a, q, n, n + 5, &v);
    digests[8] = digest(digest_floats(digest(digests[8], &sum, 4), &v, 1), q, n + 5);
    memcpy(out, a, sizeof out), k->softmax(out, n), digests[9] = digest_floats(digests[9], out, n);
    k->exp(a, out, n), digests[10] = digest_floats(digests[10], out, n);
    k->silu_mul(a, b, out, n), digests[11] = digest_floats(digests[11], out, n);
    k->relu2_mul(a, b, out, n), digests[12] = digest_floats(digests[12], out, n);
    memcpy(out, a, sizeof out), k->rope_half(out, b, b + n / 2, n / 2), digests[13] = digest_floats(digests[13], out, n);
  }
  for (int round = 0; round < 8; round++) {  // floats of any bits, most of them within the range of halves
    for (size_t i = 0; i < 65536; i++) {
      uint32_t bits = next();
      if (round > 0) bits = (next() & 0x807fffffu) | (100u + next() % 45) << 23;
      memcpy(&wide[i], &bits, 4);
    }
    k->f32_to_f16(wide, halves, 65536);
    for (size_t i = 0; i < 65536; i++) {
      if ((halves[i] & 0x7fff) > 0x7c00) halves[i] = 0x7e00;
    }
    digests[5] = digest(digests[5], halves, sizeof halves);
  }
  for (size_t i = 0; i < 65536; i++) halves[i] = (uint16_t)i;
  k->f16_to_f32(halves, wide, 65536);
  digests[6] = digest_floats(digests[6], wide, 65536);
}

#include "attention_check.h"

int main(void) {
  static const size_t shapes[][2] = {{33, 2560}, {16, 6912}, {17, 2048}, {16, 5120}, {49, 64}, {40, 160}, {31, 176}, {1, 1}, {15, 250}};
  const ct_kernels *list[CT_KERNELS_MAX];
  size_t count = ct_available(list, CT_KERNELS_MAX);
  uint64_t first[functions], digests[functions], first_attention[attention_functions], attention[attention_functions];

  for (size_t i = 0; i < count; i++) {
    const ct_kernels *k = list[i];
    check(ct_self_test(k), k->name, "passes its self test");
    bool agrees = true;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
      for (int pattern = 0; pattern < 4; pattern++) agrees = agrees && matmul_agrees(k, shapes[s][0], shapes[s][1], pattern);
    }
    check(agrees, k->name, "gives the reference's integers");
    float_digests(k, i == 0 ? first : digests);
    if (i > 0) check(memcmp(first, digests, sizeof first) == 0, k->name, "gives the same floats as the first");
    attention_digests(k, i == 0 ? first_attention : attention);
    if (i > 0) check(memcmp(first_attention, attention, sizeof attention) == 0, k->name, "attends as the first");
  }
  const ct_kernels *best = ct_select(NULL);
  check(best == list[0], best == NULL ? "none" : best->name, "is chosen");

#if defined(__aarch64__)
  if (count < 3) {  // no dotprod here: calling it must be survived
    struct sigaction before, after;
    sigaction(SIGILL, NULL, &before);
    check(!ct_self_test(&ct_neon_dotprod_kernels), "neon_dotprod", "fails its self test where it does not exist");
    sigaction(SIGILL, NULL, &after);
    check(before.sa_handler == after.sa_handler, "neon_dotprod", "leaves the old signal handler");
    check(ct_select("neon_dotprod") == NULL, "neon_dotprod", "cannot be selected");
  }
#endif

  for (int f = 0; f < functions; f++) printf("digest %s %016llx\n", function_names[f], (unsigned long long)first[f]);
  for (int f = 0; f < attention_functions; f++) printf("digest %s %016llx\n", attention_names[f], (unsigned long long)first_attention[f]);
  return failures == 0 ? 0 : 1;
}
