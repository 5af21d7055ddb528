/* What a machine can do at most: bytes read from memory and int8 products made, a second.
 *
 *     cc -O3 -march=native -pthread Benchmarks/ceilings.c -o ceilings && ./ceilings 2
 *
 * Prints {"threads":2,"read_bytes_per_s":...,"int8_macs_per_s":...}, the best of several rounds.
 * Reading: every thread sums its own part of one gigabyte in order. Products: vpdpbusd on registers alone (dot products on ARM);
 * 0 where the processor has neither.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__AVX512VNNI__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

enum { ROUNDS = 8, MAX_THREADS = 256 };
static const size_t BYTES = 1u << 30;
static const long STEPS = 20 * 1000 * 1000;

static uint8_t *memory;
static int threads;
static pthread_barrier_t barrier;
static volatile uint64_t sink;

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + now.tv_nsec * 1e-9;
}

/* Many sums, so that no addition waits for the one before it. */
static uint64_t read_all(const uint64_t *p, size_t count) {
  uint64_t sums[64] = {0};
  for (size_t i = 0; i + 64 <= count; i += 64)
    for (int k = 0; k < 64; k++) sums[k] += p[i + k];
  uint64_t sum = 0;
  for (int k = 0; k < 64; k++) sum += sums[k];
  return sum;
}

/* Products of one step of multiply(). */
#if defined(__AVX512VNNI__)
enum { PRODUCTS = 12 * 64 };
static uint64_t multiply(long steps) {
  __m512i sums[12], a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
  for (int k = 0; k < 12; k++) sums[k] = _mm512_setzero_si512();
  for (long i = 0; i < steps; i++) {
    for (int k = 0; k < 12; k++) sums[k] = _mm512_dpbusd_epi32(sums[k], a, b);
    __asm__ volatile("" : "+v"(a), "+v"(b)); /* not the same work for the compiler to do once */
  }
  __m512i sum = sums[0];
  for (int k = 1; k < 12; k++) sum = _mm512_add_epi32(sum, sums[k]);
  return (uint64_t)_mm512_reduce_add_epi32(sum);
}
#elif defined(__ARM_FEATURE_DOTPROD)
enum { PRODUCTS = 12 * 16 };
static uint64_t multiply(long steps) {
  int32x4_t sums[12];
  int8x16_t a = vdupq_n_s8(3), b = vdupq_n_s8(5);
  for (int k = 0; k < 12; k++) sums[k] = vdupq_n_s32(0);
  for (long i = 0; i < steps; i++) {
    for (int k = 0; k < 12; k++) sums[k] = vdotq_s32(sums[k], a, b);
    __asm__ volatile("" : "+w"(a), "+w"(b));
  }
  int32x4_t sum = sums[0];
  for (int k = 1; k < 12; k++) sum = vaddq_s32(sum, sums[k]);
  return (uint64_t)vaddvq_s32(sum);
}
#else
enum { PRODUCTS = 0 };
static uint64_t multiply(long steps) { return (uint64_t)steps; }
#endif

static void *work(void *argument) {
  const long index = (long)argument;
  const size_t part = BYTES / (size_t)threads / 512 * 512;
  uint8_t *mine = memory + part * (size_t)index;
  memset(mine, (int)index + 1, part); /* real pages, on this thread's node */
  for (int round = 0; round < ROUNDS; round++) {
    pthread_barrier_wait(&barrier);
    sink += read_all((const uint64_t *)mine, part / 8);
    pthread_barrier_wait(&barrier);
    sink += multiply(PRODUCTS ? STEPS : 0);
    pthread_barrier_wait(&barrier);
  }
  return NULL;
}

int main(int count, char **arguments) {
  threads = count == 2 ? atoi(arguments[1]) : 0;
  if (threads < 1 || threads > MAX_THREADS) {
    fprintf(stderr, "usage: ceilings THREADS (1...%d)\n", MAX_THREADS);
    return 1;
  }
  memory = aligned_alloc(4096, BYTES);
  if (!memory) {
    fprintf(stderr, "ceilings: no memory for %zu bytes\n", BYTES);
    return 1;
  }
  pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
  pthread_t ids[MAX_THREADS];
  for (long i = 0; i < threads; i++) {
    if (pthread_create(&ids[i], NULL, work, (void *)i) != 0) {
      fprintf(stderr, "ceilings: cannot start thread %ld\n", i);
      return 1;
    }
  }
  double read_best = 0, multiply_best = 0;
  for (int round = 0; round < ROUNDS; round++) {
    pthread_barrier_wait(&barrier);
    const double start = seconds();
    pthread_barrier_wait(&barrier);
    const double read = seconds();
    pthread_barrier_wait(&barrier);
    const double end = seconds();
    const double bytes = (double)(BYTES / (size_t)threads / 512 * 512) * threads / (read - start);
    const double products = (double)PRODUCTS * STEPS * threads / (end - read);
    if (bytes > read_best) read_best = bytes;
    if (products > multiply_best) multiply_best = products;
  }
  for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
  printf("{\"threads\":%d,\"read_bytes_per_s\":%.0f,\"int8_macs_per_s\":%.0f}\n", threads, read_best, multiply_best);
  return 0;
}
