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

typedef uint64_t lanes __attribute__((vector_size(64)));

/* Many sums, so that no addition waits for the one before it; a page is asked for ahead, since the processor's own prefetch stops at its end. */
static uint64_t read_all(const lanes *p, size_t count) {
  lanes a = {0}, b = {0}, c = {0}, d = {0};
  for (size_t i = 0; i + 4 <= count; i += 4) {
    for (size_t k = 0; k < 4; k++) __builtin_prefetch(p + i + k + 64, 0, 2); /* past the end it does nothing */
    a += p[i];
    b += p[i + 1];
    c += p[i + 2];
    d += p[i + 3];
  }
  a += b + c + d;
  uint64_t sum = 0;
  for (int k = 0; k < 8; k++) sum += a[k];
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

/* Times are taken by one of the threads that work: one more, that only watches, would come late when all cores are busy, and see too
 * short a time. */
static double read_best, multiply_best;

static void *work(void *argument) {
  const long index = (long)argument;
  const size_t part = BYTES / (size_t)threads / 512 * 512;
  uint8_t *mine = memory + part * (size_t)index;
  memset(mine, (int)index + 1, part); /* real pages, on this thread's node */
  for (int round = 0; round < ROUNDS; round++) {
    pthread_barrier_wait(&barrier);
    const double start = seconds();
    sink += read_all((const lanes *)mine, part / sizeof(lanes));
    pthread_barrier_wait(&barrier);
    const double read = seconds();
    sink += multiply(PRODUCTS ? STEPS : 0);
    pthread_barrier_wait(&barrier);
    const double end = seconds();
    if (index != 0) continue;
    const double bytes = (double)part * threads / (read - start);
    const double products = (double)PRODUCTS * STEPS * threads / (end - read);
    if (bytes > read_best) read_best = bytes;
    if (products > multiply_best) multiply_best = products;
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
  pthread_barrier_init(&barrier, NULL, (unsigned)threads);
  pthread_t ids[MAX_THREADS];
  for (long i = 1; i < threads; i++) {
    if (pthread_create(&ids[i], NULL, work, (void *)i) != 0) {
      fprintf(stderr, "ceilings: cannot start thread %ld\n", i);
      return 1;
    }
  }
  work((void *)0);
  for (int i = 1; i < threads; i++) pthread_join(ids[i], NULL);
  printf("{\"threads\":%d,\"read_bytes_per_s\":%.0f,\"int8_macs_per_s\":%.0f}\n", threads, read_best, multiply_best);
  return 0;
}
