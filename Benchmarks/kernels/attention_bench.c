/* How fast int8 attention, the head and the float functions run, beside the two ceilings of the machine.
 *
 *   attention.sh [PATH] [PART...]      PATH: avx512vnni, avx2, ... or best; PART: attention, head, floats
 *
 * Each figure is the median of seven runs, and the best one behind it; a run takes as long as the processor time of its slowest thread, so
 * that other processes disturb little. Products count as 15 by 8 bits, which are two instructions' worth of 8 by 8 bits. */
#include "ct_ternary.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { runs = 7, most_threads = 2 };

static const ct_kernels *k;

static double now(void) {  // of this thread
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

typedef void (*work)(void *argument, int thread, int threads);

typedef struct {
  work body;
  void *argument;
  int thread, threads, repeats;
  double seconds;
} share;

static void *run_share(void *p) {
  share *s = p;
  double start = now();
  for (int i = 0; i < s->repeats; i++) s->body(s->argument, s->thread, s->threads);
  s->seconds = (now() - start) / s->repeats;
  return NULL;
}

/* Median and best seconds of `repeats` calls on so many threads. */
static double measure(work body, void *argument, int threads, int repeats, double *best) {
  double seconds[runs];
  for (int r = -1; r < runs; r++) {  // one run to warm up
    pthread_t others[most_threads];
    share shares[most_threads];
    for (int t = 0; t < threads; t++) shares[t] = (share){body, argument, t, threads, repeats, 0};
    for (int t = 1; t < threads; t++) pthread_create(&others[t], NULL, run_share, &shares[t]);
    run_share(&shares[0]);
    for (int t = 1; t < threads; t++) pthread_join(others[t], NULL);
    for (int t = 0; r >= 0 && t < threads; t++) {
      if (t == 0 || shares[t].seconds > seconds[r]) seconds[r] = shares[t].seconds;
    }
  }
  qsort(seconds, runs, sizeof *seconds, ascending);
  *best = seconds[0];
  return seconds[runs / 2];
}

static void *filled(size_t bytes) {
  bytes = (bytes + 4095) / 4096 * 4096;
  uint64_t *p = aligned_alloc(4096, bytes), state = 88172645463325252u;
  if (p == NULL) exit(1);
  for (size_t i = 0; i < bytes / 8; i++) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    p[i] = state;
  }
  return p;
}

// MARK: ceilings

enum { big = 384 << 20 };
static uint8_t *memory;
static volatile uint64_t sink;

static void read_all(void *argument, int thread, int threads) {
  (void)argument;
  typedef uint64_t v8 __attribute__((ext_vector_type(8)));
  const v8 *p = (const v8 *)(memory + (size_t)big / threads * thread);
  v8 a = 0, b = 0, c = 0, d = 0;
  for (size_t i = 0; i < (size_t)big / threads / 64; i += 4) {
    a ^= p[i], b ^= p[i + 1], c ^= p[i + 2], d ^= p[i + 3];
    __builtin_prefetch((const char *)(p + i) + 4096);
    __builtin_prefetch((const char *)(p + i) + 4096 + 128);
  }
  a ^= b ^ c ^ d;
  sink = a.s0 ^ a.s1 ^ a.s2 ^ a.s3 ^ a.s4 ^ a.s5 ^ a.s6 ^ a.s7;
}

static void multiply(void *argument, int thread, int threads) {
  (void)argument, (void)thread, (void)threads;
  static _Alignas(64) uint8_t weights[16 * 640 / 4];
  static _Alignas(64) int8_t x[12 * 640];
  static _Thread_local int32_t out[12 * 16];
  int32_t sums[12] = {0};
  for (int i = 0; i < 100; i++) k->fast_matmul(weights, 1, 640, x, 640, sums, 12, out, 16);
}

static void ceilings(void) {
  double best;
  for (int threads = 1; threads <= most_threads; threads++) {
    double median = measure(read_all, NULL, threads, 1, &best);
    printf("read from memory, %d threads: %.1f GB/s (best %.1f)\n", threads, big / median * 1e-9, big / best * 1e-9);
  }
  double median = measure(multiply, NULL, 1, 20, &best), products = 100.0 * 12 * 16 * 640;
  printf("ternary product of 12 columns in the cache, 1 thread: %.0f GMAC/s of 8 bits (best %.0f)\n", products / median * 1e-9, products / best * 1e-9);
}

// MARK: attention

typedef struct {
  size_t positions, head_size, queries, heads;  // heads lie one behind the other: 1 stays in the cache, many come from memory
  const int8_t *cache;
  const float *scales, *query_scales;
  int8_t *prepared;
  float *scores;
  int16_t *w;
  int32_t *out;
} attention;

static void scores_of(void *argument, int thread, int threads) {
  attention *a = argument;
  (void)thread, (void)threads;
  for (size_t h = 0; h < a->heads; h++) {
    k->key_scores(a->cache + h * a->positions * a->head_size, a->scales, a->positions, a->head_size, a->prepared, a->query_scales, a->queries, a->scores, a->positions);
  }
}

static void sums_of(void *argument, int thread, int threads) {
  attention *a = argument;
  (void)thread, (void)threads;
  for (size_t h = 0; h < a->heads; h++) {
    k->value_sums(a->cache + h * a->positions * a->head_size, a->positions, a->head_size, a->w, a->positions, a->queries, a->out);
  }
}

static void weights_of(void *argument, int thread, int threads) {
  attention *a = argument;
  (void)thread, (void)threads;
  for (size_t q = 0; q < a->queries; q++) k->value_weights(a->scores + q * a->positions, a->scales, a->positions, a->w + q * a->positions);
}

static void attention_rates(void) {
  static const size_t query_counts[] = {1, 2, 4, 8, 16, 64};
  printf("\nhead size, positions, queries: key_scores, value_sums in the cache; the same from memory; value_weights\n");
  for (size_t head_size = 64; head_size <= 128; head_size *= 2) {
    for (size_t i = 0; i < sizeof query_counts / sizeof *query_counts; i++) {
      attention a = {.positions = 1024, .head_size = head_size, .queries = query_counts[i], .heads = 1, .cache = (const int8_t *)memory};
      a.prepared = aligned_alloc(64, 2 * head_size * a.queries);
      a.scores = calloc(a.queries * a.positions, 4), a.w = calloc(a.queries * a.positions, 2), a.out = calloc(a.queries * head_size, 4);
      float *scales = calloc(a.positions + a.queries, 4), *x = calloc(head_size, 4);
      for (size_t p = 0; p < a.positions + a.queries; p++) scales[p] = 0.01f + 0.001f * (float)(p % 7);
      a.scales = scales, a.query_scales = scales + a.positions;
      for (size_t d = 0; d < head_size; d++) x[d] = (float)(d % 17) - 8;
      for (size_t q = 0; q < a.queries; q++) k->query_prepare(x, a.prepared + 2 * q * head_size, head_size);

      double best, bytes = (double)a.positions * (double)head_size, products = bytes * (double)a.queries;
      int repeats = (int)(3e8 / products) + 1;
      printf("%4zu %5zu %3zu: ", head_size, a.positions, a.queries);
      double median = measure(scores_of, &a, 1, repeats, &best);
      printf("keys %5.1f GB/s %5.1f GMAC/s (best %5.1f), ", bytes / median * 1e-9, products / median * 1e-9, products / best * 1e-9);
      median = measure(sums_of, &a, 1, repeats, &best);
      printf("values %5.1f GB/s %5.1f GMAC/s (best %5.1f); ", bytes / median * 1e-9, products / median * 1e-9, products / best * 1e-9);
      a.heads = (size_t)big / (a.positions * head_size);
      if (a.queries <= 4) {
        median = measure(scores_of, &a, 1, 1, &best);
        printf("keys %5.1f GB/s, ", bytes * (double)a.heads / median * 1e-9);
        median = measure(sums_of, &a, 1, 1, &best);
        printf("values %5.1f GB/s; ", bytes * (double)a.heads / median * 1e-9);
      }
      median = measure(weights_of, &a, 1, 100, &best);
      printf("weights %.2f ns a position\n", median * 1e9 / (double)(a.positions * a.queries));
      free(a.prepared), free(a.scores), free(a.w), free(a.out), free(scales), free(x);
    }
  }
}

// MARK: head

typedef struct {
  void (*rows)(const void *, size_t, size_t, const void *, float *);
  const uint8_t *weights;
  size_t count, n, row_bytes;
  const void *prepared;
  float *out;
} head;

static void head_rows(void *argument, int thread, int threads) {
  head *h = argument;
  size_t from = h->count * (size_t)thread / (size_t)threads, to = h->count * (size_t)(thread + 1) / (size_t)threads;
  h->rows(h->weights + from * h->row_bytes, to - from, h->n, h->prepared, h->out + from);
}

static void prepare_head(void *argument, int thread, int threads) {
  head *h = argument;
  (void)thread, (void)threads;
  k->head_prepare(h->out, h->n, (void *)h->prepared);
}

static void head_rates(void) {
  const size_t n = 2560, rows = 128256;
  struct { const char *name; size_t block, bytes; void (*rows)(const void *, size_t, size_t, const void *, float *); } types[] = {
    {"q8_0", 32, 34, k->head_q8_0}, {"q6_k", 256, 210, k->head_q6_k}, {"iq4_nl", 32, 18, k->head_iq4_nl},
  };
  float *x = calloc(n, 4), *out = calloc(rows, 4);
  for (size_t i = 0; i < n; i++) x[i] = (float)(i % 31) - 15;
  void *prepared = aligned_alloc(64, ct_head_bytes(n));
  k->head_prepare(x, n, prepared);
  printf("\nhead of %zu rows of %zu\n", rows, n);
  for (int i = 0; i < 3; i++) {
    head h = {types[i].rows, memory, rows, n, n / types[i].block * types[i].bytes, prepared, out};
    for (int threads = 1; threads <= most_threads; threads++) {
      double best, bytes = (double)(rows * h.row_bytes), median = measure(head_rows, &h, threads, 1, &best);
      printf("%-6s %.0f MB, %d threads: %.1f GB/s, %.2f ms (best %.1f, %.2f)\n", types[i].name, bytes * 1e-6, threads, bytes / median * 1e-9, median * 1e3, bytes / best * 1e-9, best * 1e3);
    }
    h.count = 8;
    double best, median = measure(head_rows, &h, 1, 2000, &best), bytes = (double)(h.count * h.row_bytes);
    printf("%-6s in the cache, 1 thread: %.1f GB/s (best %.1f)\n", types[i].name, bytes / median * 1e-9, bytes / best * 1e-9);
  }
  head h = {.n = n, .prepared = prepared, .out = x};
  double best, median = measure(prepare_head, &h, 1, 200, &best);
  printf("head_prepare: %.2f us\n", median * 1e6);
  free(x), free(out), free(prepared);
}

// MARK: floats

static float xs[8192], ys[8192], zs[8192], cosines[64], sines[64];
static int8_t qs[8192];
static size_t width;
static void rms_norm(void *a, int t, int n) { (void)a, (void)t, (void)n, k->rms_norm(xs, ys, zs, width, width, 1e-5f); }
static void quantize(void *a, int t, int n) { (void)a, (void)t, (void)n; float s; k->quantize(xs, qs, width, width, &s); }
static void relu2(void *a, int t, int n) { (void)a, (void)t, (void)n, k->relu2_mul(xs, ys, zs, width); }
static void silu(void *a, int t, int n) { (void)a, (void)t, (void)n, k->silu_mul(xs, ys, zs, width); }
static void softmax(void *a, int t, int n) { (void)a, (void)t, (void)n, k->softmax(zs, width); }
static void rope(void *a, int t, int n) {
  (void)a, (void)t, (void)n;
  for (size_t i = 0; i + 128 <= width; i += 128) k->rope_half(zs + i, cosines, sines, 64);
}

static void float_rates(void) {
  static const struct { const char *name; work body; } list[] = {
    {"rms_norm", rms_norm}, {"quantize", quantize}, {"relu2_mul", relu2}, {"silu_mul", silu}, {"softmax", softmax}, {"rope_half of 128", rope},
  };
  for (int i = 0; i < 64; i++) cosines[i] = 0.6f, sines[i] = 0.8f;
  printf("\nns for 2560 and 6912 floats\n");
  for (size_t f = 0; f < sizeof list / sizeof *list; f++) {
    printf("%-16s", list[f].name);
    for (int w = 0; w < 2; w++) {
      width = w ? 6912 : 2560;
      for (size_t i = 0; i < width; i++) xs[i] = (float)(i % 37) * 0.1f - 1.8f, ys[i] = (float)(i % 29) * 0.05f, zs[i] = xs[i];
      double best, median = measure(list[f].body, NULL, 1, 2000, &best);
      printf("  %7.0f (best %7.0f)", median * 1e9, best * 1e9);
    }
    printf("\n");
  }
}

int main(int count, char **arguments) {
  const char *name = count > 1 && strcmp(arguments[1], "best") != 0 ? arguments[1] : NULL;
  k = ct_select(name);
  if (k == NULL) {
    fprintf(stderr, "no path %s on this processor\n", name == NULL ? "" : name);
    return 1;
  }
  bool all = count < 3;
  memory = filled(big);
  printf("%s\n", k->name);
  ceilings();
  for (int i = 2; i < count || all; i++) {
    if (all || strcmp(arguments[i], "attention") == 0) attention_rates();
    if (all || strcmp(arguments[i], "head") == 0) head_rates();
    if (all || strcmp(arguments[i], "floats") == 0) float_rates();
    if (all) break;
  }
  return 0;
}
