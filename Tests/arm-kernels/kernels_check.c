/* Runs every kernel that this processor has and prints what must be the same on every other one.
 *
 * Lines "ok ..." and "FAIL ..." are checks within this run; lines "digest FUNCTION HEX" are the bits of results, to be compared
 * between architectures. Ends with 1 if a check failed. Built and run by ../arm-kernels.sh for x86 and for ARM under qemu. */
#include "ct_internal.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
extern const ct_kernels ct_avx_vnni_by_evex;
#endif

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

/* Memory that ends, but for its alignment of 64, where reading ends the process. */
struct guarded {
  uint8_t *pages, *start;
  size_t length;
};

static struct guarded guarded(size_t bytes) {
  struct guarded g;
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  g.length = (bytes + 64 + page - 1) / page * page + page;
  g.pages = mmap(NULL, g.length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (g.pages == MAP_FAILED || mprotect(g.pages + g.length - page, page, PROT_NONE) != 0) exit(3);
  g.start = g.pages + (g.length - page - bytes) / 64 * 64;
  return g;
}

static void release(struct guarded g) { munmap(g.pages, g.length); }

enum { most_tokens = 33 };

/* Token counts to try: all of them, or those on both sides of the widths that the paths use. */
static size_t next_count(size_t count, int sparse) {
  static const size_t some[] = {1, 2, 4, 5, 6, 7, 12, 13, 15, 29, most_tokens};
  if (!sparse) return count + 1;
  for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
    if (some[i] > count) return some[i];
  }
  return most_tokens + 1;
}

/* Integer products against the reference's. Pattern 0 is random, 1 to 4 are extremes. */
static bool matmul_agrees(const ct_kernels *k, bool small, size_t rows, size_t columns, int pattern, int sparse, uint64_t *hash) {
  const size_t unit = small ? 20 : 16, padded_columns = (columns + unit - 1) / unit * unit, blocks = (rows + 15) / 16, padded_rows = 16 * blocks;
  const size_t stride = (padded_columns + 63) / 64 * 64, out_bytes = most_tokens * padded_rows * 4;
  const size_t x_bytes = (most_tokens - 1) * stride + padded_columns;
  void (*product)(const uint8_t *, size_t, size_t, const int8_t *, size_t, const int32_t *, size_t, int32_t *, size_t) =
    small ? k->small_matmul : k->fast_matmul;
  int8_t *w = malloc(rows * columns);
  struct guarded packed = guarded((small ? ct_small_bytes : ct_fast_bytes)(rows, columns)), activations = guarded(x_bytes);
  struct guarded results = guarded(out_bytes), sums_memory = guarded(most_tokens * 4);
  int8_t *x = (int8_t *)activations.start;
  int32_t *out = (int32_t *)(void *)results.start, *sums = (int32_t *)(void *)sums_memory.start, *expected = malloc(out_bytes);
  for (size_t i = 0; i < rows * columns; i++) w[i] = pattern == 0 ? (int8_t)(next() % 3) - 1 : pattern & 1 ? 1 : -1;
  (small ? ct_small_pack : ct_fast_pack)(w, rows, columns, packed.start);
  memset(x, 0, x_bytes);
  for (size_t t = 0; t < most_tokens; t++) {
    sums[t] = 0;
    for (size_t c = 0; c < columns; c++) {
      int8_t v = pattern == 0 ? (int8_t)next() : pattern & 2 ? 127 : -128;
      x[t * stride + c] = v;
      sums[t] += v;
    }
  }
  (small ? ct_scalar()->small_matmul : ct_scalar()->fast_matmul)(packed.start, blocks, padded_columns, x, stride, sums, most_tokens, expected, padded_rows);
  bool agrees = true;
  for (size_t count = 1; count <= most_tokens; count = next_count(count, sparse)) {
    memset(out, 0x55, out_bytes);
    product(packed.start, blocks, padded_columns, x, stride, sums, count, out, padded_rows);
    agrees = agrees && memcmp(out, expected, count * padded_rows * 4) == 0;
    for (size_t i = count * padded_rows; i < most_tokens * padded_rows; i++) agrees = agrees && out[i] == 0x55555555;
  }
  *hash = digest(*hash, out, out_bytes);
  free(w), free(expected), release(packed), release(activations), release(results), release(sums_memory);
  return agrees;
}

/* Products with scales by groups against the reference's, bit for bit. */
static bool grouped_agrees(const ct_kernels *k, bool small, size_t rows, size_t groups, int sparse, uint64_t *hash) {
  const size_t stored = small ? 140 : 128, columns = groups * stored, blocks = (rows + 15) / 16, padded_rows = 16 * blocks;
  const size_t stride = (columns + 63) / 64 * 64, out_bytes = most_tokens * padded_rows * 4;
  const size_t x_bytes = (most_tokens - 1) * stride + columns;
  int8_t *w = calloc(rows, columns);
  struct guarded packed = guarded((small ? ct_small_bytes : ct_fast_bytes)(rows, columns)), activations = guarded(x_bytes);
  struct guarded results = guarded(out_bytes), scale_memory = guarded(padded_rows * groups * 2);
  struct guarded sums_memory = guarded(most_tokens * groups * 4), x_scale_memory = guarded(most_tokens * groups * 4);
  int8_t *x = (int8_t *)activations.start;
  uint16_t *scales = (uint16_t *)(void *)scale_memory.start;
  int32_t *sums = (int32_t *)(void *)sums_memory.start;
  float *x_scales = (float *)(void *)x_scale_memory.start, *out = (float *)(void *)results.start, *expected = malloc(out_bytes);
  for (size_t i = 0; i < rows * columns; i++) w[i] = i % columns % stored < 128 ? (int8_t)(next() % 3) - 1 : 0;
  (small ? ct_small_pack : ct_fast_pack)(w, rows, columns, packed.start);
  for (size_t i = 0; i < padded_rows * groups; i++) scales[i] = (uint16_t)(next() % 0x5000 | (next() & 1) << 15);
  memset(x, 0, x_bytes);
  for (size_t i = 0; i < most_tokens * groups; i++) {
    float values[128];
    for (size_t c = 0; c < 128; c++) values[c] = uniform(2);
    k->quantize_groups(values, x + i / groups * stride + i % groups * stored, 128, stored, sums + i, x_scales + i);
  }
  (small ? ct_scalar()->small_grouped : ct_scalar()->fast_grouped)(packed.start, scales, blocks, groups, x, stride, sums, x_scales, most_tokens, expected, padded_rows);
  bool agrees = true;
  for (size_t count = 1; count <= most_tokens; count = next_count(count, sparse)) {
    memset(out, 0x55, out_bytes);
    (small ? k->small_grouped : k->fast_grouped)(packed.start, scales, blocks, groups, x, stride, sums, x_scales, count, out, padded_rows);
    agrees = agrees && memcmp(out, expected, count * padded_rows * 4) == 0;
    for (size_t i = count * padded_rows; i < most_tokens * padded_rows; i++) {
      uint32_t bits;
      memcpy(&bits, out + i, 4);
      agrees = agrees && bits == 0x55555555;
    }
  }
  *hash = digest(*hash, out, out_bytes);
  free(w), free(expected), release(packed), release(activations), release(results);
  release(scale_memory), release(sums_memory), release(x_scale_memory);
  return agrees;
}

enum { products = 4 };
static const char *const product_names[products] = {"fast_matmul", "small_matmul", "fast_grouped", "small_grouped"};

/* Every layout and shape; the digests of the last results of each function. */
static bool products_agree(const ct_kernels *k, uint64_t digests[products]) {
  static const size_t shapes[][2] = {{33, 2560}, {16, 6912}, {17, 2048}, {16, 5120}, {49, 64}, {40, 160}, {31, 176}, {1, 1}, {15, 250},
                                     {16, 656}, {33, 660}, {32, 800}};
  bool agrees = true;
  state = 7;
  for (int small = 0; small < 2; small++) {
    digests[small] = digests[2 + small] = 0xcbf29ce484222325u;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
      for (int pattern = 0; pattern <= 4; pattern++) {
        agrees = agrees && matmul_agrees(k, small, shapes[s][0], shapes[s][1], pattern, shapes[s][0] * shapes[s][1] > 10000, &digests[small]);
      }
    }
    for (size_t groups = 1; groups <= 13; groups += 3) agrees = agrees && grouped_agrees(k, small, 33, groups, groups != 7, &digests[2 + small]);
  }
  return agrees;
}

enum { functions = 15 };
static const char *const function_names[functions] = {
  "dot_f32", "dot_f16", "dot_q8_0", "axpy_f32", "axpy_f16", "f32_to_f16", "f16_to_f32",
  "rms_norm", "quantize", "softmax", "exp", "silu_mul", "relu2_mul", "rope_half", "quantize_groups",
};

static void float_digests(const ct_kernels *k, uint64_t digests[functions]) {
  enum { most = 700 };
  static float a[most], b[most], out[most], wide[65536];
  static uint16_t h[most], halves[65536];
  static int8_t q[most / 128 * 140 + 64];
  int32_t group_sums[most / 128];
  float group_scales[most / 128];
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
    k->quantize_groups(a, q, n / 128 * 128, 140, group_sums, group_scales);
    digests[14] = digest(digest(digest_floats(digests[14], group_scales, n / 128), group_sums, n / 128 * 4), q, n / 128 * 140);
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
#include "blocks_check.h"
#include "bricks_check.h"

int main(void) {
  const ct_kernels *list[CT_KERNELS_MAX + 1];
  size_t count = ct_available(list, CT_KERNELS_MAX);
  const ct_kernels *best = ct_select(NULL);
  check(best == list[0], best == NULL ? "none" : best->name, "is chosen");
  uint64_t first[functions], digests[functions], first_products[products], product_digests[products];
  uint64_t first_attention[attention_functions], attention[attention_functions];
  uint64_t first_bricks[brick_functions_checked], bricks[brick_functions_checked];

#if defined(__aarch64__)
  const ct_kernels *newest[] = {&ct_neon_i8mm_kernels, &ct_neon_dotprod_kernels};
  for (size_t i = 0; i < 2; i++) {
    if (count + i >= 4) continue;
    struct sigaction before, after;  // calling what does not exist here must be survived
    sigaction(SIGILL, NULL, &before);
    check(!ct_self_test(newest[i]), newest[i]->name, "fails its self test where it does not exist");
    sigaction(SIGILL, NULL, &after);
    check(before.sa_handler == after.sa_handler, newest[i]->name, "leaves the old signal handler");
    check(ct_select(newest[i]->name) == NULL, newest[i]->name, "cannot be selected");
  }
#endif
#if defined(__x86_64__)
  if (ct_select("avx512vnni") != NULL) list[count++] = &ct_avx_vnni_by_evex;
#endif

  for (size_t i = 0; i < count; i++) {
    const ct_kernels *k = list[i];
    check(ct_self_test(k), k->name, "passes its self test");
    check(products_agree(k, i == 0 ? first_products : product_digests), k->name, "gives the reference's integers and scaled sums");
    float_digests(k, i == 0 ? first : digests);
    if (i > 0) check(memcmp(first, digests, sizeof first) == 0, k->name, "gives the same floats as the first");
    if (i > 0) check(memcmp(first_products, product_digests, sizeof first_products) == 0, k->name, "gives the same products as the first");
    attention_digests(k, i == 0 ? first_attention : attention);
    if (i > 0) check(memcmp(first_attention, attention, sizeof attention) == 0, k->name, "attends as the first");
    brick_digests(k, i == 0 ? first_bricks : bricks);
    if (i > 0) check(memcmp(first_bricks, bricks, sizeof bricks) == 0, k->name, "multiplies bricks as the first");
  }
  for (int f = 0; f < products; f++) printf("digest %s %016llx\n", product_names[f], (unsigned long long)first_products[f]);
  for (int f = 0; f < functions; f++) printf("digest %s %016llx\n", function_names[f], (unsigned long long)first[f]);
  for (int f = 0; f < attention_functions; f++) printf("digest %s %016llx\n", attention_names[f], (unsigned long long)first_attention[f]);
  for (int f = 0; f < brick_functions_checked; f++) printf("digest %s %016llx\n", brick_names[f], (unsigned long long)first_bricks[f]);
  uint64_t unpacked[unpack_functions];
  unpack_digests(unpacked);
  for (int f = 0; f < unpack_functions; f++) printf("digest %s %016llx\n", unpack_names[f], (unsigned long long)unpacked[f]);
  return failures == 0 ? 0 : 1;
}
