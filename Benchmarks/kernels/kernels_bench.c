/* Speed of the ternary products, beside what the machine can do at most. Built and run by kernels.sh.
 *
 *   kernels_bench [-k COLUMNS] [-m MEGABYTES] [-r RUNS] [-t THREADS,...] [-n TOKENS,...] [-p PATH,...]
 *
 * Weights are random, MEGABYTES of them in pages of the usual size, as in a mapped file, and each is used once a run. A run of many
 * tokens uses only as many weights as it takes to be long enough. Every figure is the best of RUNS runs. Rates count the
 * processor time of the slowest thread, so that other programs on the machine disturb them less; `wall` is the share of that time in
 * the time from the first thread's start to the last one's end: under 0.9, somebody else had the processors, and the threads did not
 * share the memory all the while. Memory that others use at the same time is not seen by this: watch the ceiling. */
#include "ct_internal.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

enum { most_threads = 64, most_tokens = 512, rows_of_a_call = 320 };

static double seconds(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// MARK: what threads do

struct job {
  double (*body)(const struct job *job);  // returns the work done
  const ct_kernels *kernels;
  enum { fast, small, fast_grouped, small_grouped } layout;
  const uint8_t *weights;
  const uint16_t *scales;
  size_t bytes, columns, tokens;  // columns: as stored
  const int8_t *x;
  size_t x_stride;
  const int32_t *sums;
  const float *x_scales;
  double work, busy, start, end;  // seconds; busy: of processor time
};

static const size_t unit_columns[] = {16, 20, 16, 20};
static const char *const layout_names[] = {"fast", "small", "fast_grouped", "small_grouped"};

static double multiply(const struct job *j) {
  size_t block_bytes = j->columns / unit_columns[j->layout] * ct_unit_bytes, blocks = j->bytes / block_bytes, most = rows_of_a_call / 16;
  size_t groups = j->columns / (j->layout == fast_grouped ? 128 : 140);
  int32_t *out = malloc(j->tokens * rows_of_a_call * sizeof *out);
  for (size_t b = 0; b < blocks; b += most) {
    size_t count = blocks - b < most ? blocks - b : most;
    const uint8_t *w = j->weights + b * block_bytes;
    switch (j->layout) {
    case fast:
      j->kernels->fast_matmul(w, count, j->columns, j->x, j->x_stride, j->sums, j->tokens, out, rows_of_a_call);
      break;
    case small:
      j->kernels->small_matmul(w, count, j->columns, j->x, j->x_stride, j->sums, j->tokens, out, rows_of_a_call);
      break;
    case fast_grouped:
      j->kernels->fast_grouped(w, j->scales, count, groups, j->x, j->x_stride, j->sums, j->x_scales, j->tokens, (float *)out, rows_of_a_call);
      break;
    case small_grouped:
      j->kernels->small_grouped(w, j->scales, count, groups, j->x, j->x_stride, j->sums, j->x_scales, j->tokens, (float *)out, rows_of_a_call);
      break;
    }
  }
  free(out);
  return (double)(blocks * block_bytes);
}

static double read_all(const struct job *j) {
  typedef uint64_t v8 __attribute__((vector_size(64)));
  v8 a = {0}, b = {0}, c = {0}, d = {0};
  const v8 *p = (const v8 *)j->weights;
  for (size_t i = 0; i + 4 <= j->bytes / 64; i += 4) {
    __builtin_prefetch(p + i + 64), __builtin_prefetch(p + i + 65), __builtin_prefetch(p + i + 66), __builtin_prefetch(p + i + 67);
    a ^= p[i], b ^= p[i + 1], c ^= p[i + 2], d ^= p[i + 3];
  }
  a ^= b ^ c ^ d;
  __asm__ volatile("" ::"m"(a));
  return (double)j->bytes;
}

/* Products of int8 a second from registers alone, with the best instruction there is for it. */
enum { peak_rounds = 2000000 };
#define REPEAT(I) I(0) I(1) I(2) I(3) I(4) I(5) I(6) I(7) I(8) I(9) I(10) I(11)

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512vnni"))) static double peak_avx512(const struct job *j) {
  (void)j;
  __m512i a[12], b = _mm512_set1_epi8(1);
  for (int i = 0; i < 12; i++) a[i] = _mm512_set1_epi32(i);
  for (int r = 0; r < peak_rounds; r++) {
#define ONE(i) __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(a[i]) : "v"(b));
    REPEAT(ONE)
#undef ONE
  }
  return peak_rounds * 12.0 * 64;
}

/* vpmaddubsw, and vpaddw to add it up. */
__attribute__((target("avx2"))) static double peak_avx2(const struct job *j) {
  (void)j;
  __m256i a[12], b = _mm256_set1_epi8(1);
  for (int i = 0; i < 12; i++) a[i] = _mm256_set1_epi16((short)i);
  for (int r = 0; r < peak_rounds; r++) {
#define ONE(i) { __m256i p; __asm__ volatile("vpmaddubsw %2, %2, %1\n vpaddw %1, %0, %0" : "+x"(a[i]), "=&x"(p) : "x"(b)); }
    REPEAT(ONE)
#undef ONE
  }
  return peak_rounds * 12.0 * 32;
}

__attribute__((target("avx2,avxvnni"))) static double peak_avx_vnni(const struct job *j) {
  (void)j;
  __m256i a[12], b = _mm256_set1_epi8(1);
  for (int i = 0; i < 12; i++) a[i] = _mm256_set1_epi32(i);
  for (int r = 0; r < peak_rounds; r++) {
#define ONE(i) __asm__ volatile("%{vex%} vpdpbusd %1, %1, %0" : "+x"(a[i]) : "x"(b));
    REPEAT(ONE)
#undef ONE
  }
  return peak_rounds * 12.0 * 32;
}
#elif defined(__aarch64__)
__attribute__((target("dotprod"))) static double peak_dotprod(const struct job *j) {
  (void)j;
  int32x4_t a[12];
  int8x16_t b = vdupq_n_s8(1);
  for (int i = 0; i < 12; i++) a[i] = vdupq_n_s32(i);
  for (int r = 0; r < peak_rounds; r++) {
#define ONE(i) __asm__ volatile("sdot %0.4s, %1.16b, %1.16b" : "+w"(a[i]) : "w"(b));
    REPEAT(ONE)
#undef ONE
  }
  return peak_rounds * 12.0 * 16;
}

__attribute__((target("i8mm"))) static double peak_i8mm(const struct job *j) {
  (void)j;
  int32x4_t a[12];
  int8x16_t b = vdupq_n_s8(1);
  for (int i = 0; i < 12; i++) a[i] = vdupq_n_s32(i);
  for (int r = 0; r < peak_rounds; r++) {
#define ONE(i) __asm__ volatile("smmla %0.4s, %1.16b, %1.16b" : "+w"(a[i]) : "w"(b));
    REPEAT(ONE)
#undef ONE
  }
  return peak_rounds * 12.0 * 32;
}

static double peak_neon(const struct job *j) {
  (void)j;
  int16x8_t a[12];
  int8x16_t b = vdupq_n_s8(1);
  for (int i = 0; i < 12; i++) a[i] = vdupq_n_s16(i);
  for (int r = 0; r < peak_rounds; r++) {
#define ONE(i) __asm__ volatile("smlal %0.8h, %1.8b, %1.8b" : "+w"(a[i]) : "w"(b));
    REPEAT(ONE)
#undef ONE
  }
  return peak_rounds * 12.0 * 8;
}
#endif

/* The loop for a path, or NULL. */
static double (*peak_of(const char *name))(const struct job *) {
#if defined(__x86_64__)
  if (strncmp(name, "avx512", 6) == 0) return peak_avx512;
  if (strcmp(name, "avx_vnni") == 0) return peak_avx_vnni;
  if (strcmp(name, "avx2") == 0) return peak_avx2;
#elif defined(__aarch64__)
  if (strcmp(name, "neon_i8mm") == 0) return peak_i8mm;
  if (strcmp(name, "neon_dotprod") == 0) return peak_dotprod;
  if (strcmp(name, "neon") == 0) return peak_neon;
#endif
  return NULL;
}

// MARK: measuring

static pthread_barrier_t barrier;

static void *run_thread(void *argument) {
  struct job *j = argument;
  pthread_barrier_wait(&barrier);
  j->start = seconds(CLOCK_MONOTONIC);
  double start = seconds(CLOCK_THREAD_CPUTIME_ID);
  j->work = j->body(j);
  j->busy = seconds(CLOCK_THREAD_CPUTIME_ID) - start;
  j->end = seconds(CLOCK_MONOTONIC);
  return NULL;
}

struct rate {
  double per_second, wall;
};

/* The best of `runs`: work a second of processor time of the slowest thread. Each thread takes its share of `job.bytes`, in whole pages. */
static struct rate best_of(int runs, size_t threads, struct job job) {
  struct rate best = {0, 0};
  for (int run = 0; run < runs; run++) {
    struct job jobs[most_threads];
    pthread_t handles[most_threads];
    pthread_barrier_init(&barrier, NULL, (unsigned)threads);
    for (size_t t = 0; t < threads; t++) {
      jobs[t] = job;
      size_t first = job.bytes / 4096 * t / threads * 4096, end = job.bytes / 4096 * (t + 1) / threads * 4096;
      jobs[t].weights = job.weights + first, jobs[t].bytes = end - first;
      if (pthread_create(&handles[t], NULL, run_thread, &jobs[t]) != 0) exit(1);
    }
    double work = 0, busy = 0, first = 0, last = 0;
    for (size_t t = 0; t < threads; t++) {
      pthread_join(handles[t], NULL);
      work += jobs[t].work;
      busy = jobs[t].busy > busy ? jobs[t].busy : busy;
      first = t == 0 || jobs[t].start < first ? jobs[t].start : first;
      last = jobs[t].end > last ? jobs[t].end : last;
    }
    pthread_barrier_destroy(&barrier);
    if (work / busy > best.per_second) best = (struct rate){work / busy, busy / (last - first)};
  }
  return best;
}

/* "1,2,8" to numbers; returns how many. */
static size_t numbers(const char *text, size_t *list, size_t capacity) {
  size_t count = 0;
  while (*text != 0 && count < capacity) {
    char *end;
    list[count++] = strtoul(text, &end, 10);
    text = *end == ',' ? end + 1 : "";
  }
  return count;
}

int main(int argc, char **argv) {
  size_t columns = 2560, megabytes = 400, threads[8] = {1, 2}, thread_counts = 2, tokens[16] = {1, 2, 4, 8, 16, 64, 512}, token_counts = 7;
  int runs = 8;
  const char *paths = NULL;
  for (int i = 1; i + 1 < argc; i += 2) {
    const char *value = argv[i + 1];
    if (strcmp(argv[i], "-k") == 0) columns = strtoul(value, NULL, 10);
    else if (strcmp(argv[i], "-m") == 0) megabytes = strtoul(value, NULL, 10);
    else if (strcmp(argv[i], "-r") == 0) runs = atoi(value);
    else if (strcmp(argv[i], "-t") == 0) thread_counts = numbers(value, threads, 8);
    else if (strcmp(argv[i], "-n") == 0) token_counts = numbers(value, tokens, 16);
    else if (strcmp(argv[i], "-p") == 0) paths = value;
    else return fprintf(stderr, "unknown option %s\n", argv[i]), 2;
  }
  columns = (columns + 639) / 640 * 640;  // whole units and groups in all layouts
  size_t bytes = megabytes << 20, stride = (columns / 128 * 140 + 63) / 64 * 64 + 64;
  uint8_t *weights = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (weights == MAP_FAILED) return perror("weights"), 1;
  madvise(weights, bytes, MADV_NOHUGEPAGE);
  enum { pattern = 1 << 20 };
  uint32_t seed = 1;
  for (size_t i = 0; i < bytes; i++) {  // four codes of 0...2, at most 170: valid in both layouts
    seed = seed * 1664525u + 1013904223u;
    uint32_t r = seed >> 8;
    weights[i] = i < pattern ? (uint8_t)(r % 3 | r / 3 % 3 << 2 | r / 9 % 3 << 4 | r / 27 % 3 << 6) : weights[i - pattern];
  }
  int8_t *x = aligned_alloc(64, most_tokens * stride);
  size_t groups = columns / 128;
  int32_t *sums = calloc(most_tokens * groups, sizeof *sums);  // wrong sums are as fast as right ones
  float *x_scales = malloc(most_tokens * groups * sizeof *x_scales);
  uint16_t *scales = malloc(rows_of_a_call * groups * sizeof *scales);
  for (size_t i = 0; i < most_tokens * stride; i++) x[i] = (int8_t)(i * 2654435761u >> 13);
  for (size_t i = 0; i < most_tokens * groups; i++) x_scales[i] = 0.01f;
  for (size_t i = 0; i < rows_of_a_call * groups; i++) scales[i] = 0x3000;

  const ct_kernels *list[CT_KERNELS_MAX];
  size_t available = ct_available(list, CT_KERNELS_MAX);
  printf("columns %zu, %zu MB of weights, best of %d\n", columns, megabytes, runs);
  printf("%-13s %-14s %7s %6s %8s %8s %6s %8s %8s\n", "path", "layout", "threads", "tokens", "GB/s", "GMAC/s", "wall", "of read", "of int8");
  for (size_t i = 0; i < thread_counts; i++) {
    size_t n = threads[i] < 1 ? 1 : threads[i] > most_threads ? most_threads : threads[i];
    struct job job = {.body = read_all, .weights = weights, .bytes = bytes};
    struct rate read = best_of(2 * runs, n, job);
    printf("%-13s %-14s %7zu %6s %8.1f %8s %6.2f\n", "-", "read", n, "", read.per_second * 1e-9, "", read.wall);
    for (size_t p = 0; p < available; p++) {
      const ct_kernels *k = list[p];
      if (paths != NULL ? strstr(paths, k->name) == NULL : strcmp(k->name, "scalar") == 0) continue;
      struct rate peak = {0, 0};
      if (peak_of(k->name) != NULL) {
        job.body = peak_of(k->name), job.bytes = 0;
        peak = best_of(runs, n, job);
        printf("%-13s %-14s %7zu %6s %8s %8.1f %6.2f\n", k->name, "int8 peak", n, "", "", peak.per_second * 1e-9, peak.wall);
      }
      for (int layout = fast; layout <= small_grouped; layout++) {
        for (size_t t = 0; t < token_counts; t++) {
          if (tokens[t] < 1 || tokens[t] > most_tokens) continue;
          double per_byte = layout % 2 == small ? 5 : 4;
          if (layout == small_grouped) per_byte *= 128.0 / 140;
          job = (struct job){.body = multiply, .kernels = k, .layout = (int)layout, .weights = weights, .scales = scales, .x = x,
                             .columns = layout == small_grouped ? groups * 140 : columns, .x_stride = stride, .sums = sums,
                             .x_scales = x_scales, .tokens = tokens[t]};
          double limit = 3e10 * (double)n / (double)tokens[t] / per_byte;  // multiply-adds of a run
          job.bytes = limit < (double)bytes ? (size_t)limit : bytes;
          struct rate rate = best_of(runs, n, job);
          double macs = rate.per_second * per_byte * (double)tokens[t];
          printf("%-13s %-14s %7zu %6zu %8.1f %8.1f %6.2f %7.0f%% %7.0f%%\n", k->name, layout_names[layout], n, tokens[t],
                 rate.per_second * 1e-9, macs * 1e-9, rate.wall, 100 * rate.per_second / read.per_second,
                 peak.per_second > 0 ? 100 * macs / peak.per_second : 0.0);
          fflush(stdout);
        }
      }
    }
  }
  return 0;
}
