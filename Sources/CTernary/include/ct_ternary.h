/* Kernels: ternary weights times int8 activations, and the float work between those products.
 *
 * Layout "fast", 2 bits a weight (docs/kernels.md)
 *
 *   A code is weight + 1: 0, 1 or 2. Code 3 never occurs in bytes that passed ct_fast_validate.
 *   A unit is 64 bytes = 16 rows x 16 columns: byte 4*r + j (r 0..15, j 0..3) holds at bits 2p (p 0..3) the code of
 *   row r, column 4*p + j of the unit.
 *   Units of one block of 16 rows follow each other along the columns, blocks follow each other down the rows.
 *   Rows and columns are padded to multiples of 16 with code 1 (a zero weight).
 *
 * Exactness
 *
 *   Integer results are exact for up to 2^23 columns: |sum| <= 128 * 2^23 = 2^30. Every instruction set gives the same int32.
 *   Float results are bit-identical on every instruction set: 16 lanes, a fixed tree of sums that depends only on n, no
 *   fused multiply-add, an exponential of our own. Only the bits of a NaN may differ.
 *
 * No function allocates, or takes a lock or keeps state (except ct_select and ct_self_test); all may be called from any number of threads.
 * Pointers need the alignment of their element only, except where a function says more. n may be 0.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

#pragma clang assume_nonnull begin

/* One instruction set. Constant tables of functions, so sharing them between threads is safe. */
typedef struct __attribute__((swift_attr("@Sendable"))) ct_kernels {
  /* "avx512vnni", "avx2", "neon_dotprod", "neon" or "scalar". */
  const char *name;

  /* out[t*out_stride + r] = sum over k < columns of weight[r][k] * x[t*x_stride + k], for r < 16*row_blocks and t < tokens.
   *
   * columns: padded, a multiple of 16, at most 2^23. x_stride >= columns, a multiple of 64 (bytes = elements); a stride that
   * is a multiple of 4096 puts the rows of x into the same cache sets: add 64. x_sums[t] = sum of the row x[t], zero padded.
   * weights and x are aligned to 64 bytes. out_stride >= 16*row_blocks. Any number of tokens, 0 included. */
  void (*fast_matmul)(const uint8_t *weights, size_t row_blocks, size_t columns,
                      const int8_t *x, size_t x_stride, const int32_t *x_sums, size_t tokens,
                      int32_t *out, size_t out_stride);

  /* Sum of a[i] * x[i]. f16: a in IEEE half. q8_0: a row of GGUF blocks {half d; int8 q[32]} of 34 bytes, a whole block also for
   * the last n % 32 elements. */
  float (*dot_f32)(const float *a, const float *x, size_t n);
  float (*dot_f16)(const uint16_t *a, const float *x, size_t n);
  float (*dot_q8_0)(const void *blocks, const float *x, size_t n);

  /* y[i] += a * x[i]. */
  void (*axpy_f32)(float a, const float *x, float *y, size_t n);
  void (*axpy_f16)(float a, const uint16_t *x, float *y, size_t n);

  /* IEEE half, rounded to nearest even, subnormals kept, overflow to infinity, NaN to a quiet NaN. */
  void (*f32_to_f16)(const float *x, uint16_t *out, size_t n);
  void (*f16_to_f32)(const uint16_t *x, float *out, size_t n);

  /* out[i] = (x[i] / sqrt(mean of squares + eps)) * weight[i]. out may be x. */
  void (*rms_norm)(const float *x, const float *weight, float *out, size_t n, float eps);

  /* q[i] = x[i] * s rounded half to even, clamped to -128...127, with s = 127 / max(largest |x|, 1e-5). q[n..<padded] = 0.
   * NaN becomes 0. Returns the sum of q and stores s in *scale. n <= 2^23. */
  int32_t (*quantize)(const float *x, int8_t *q, size_t n, size_t padded, float *scale);

  /* x[i] = exp(x[i] - max) / sum, in place. At least one x must be finite and none +infinity. */
  void (*softmax)(float *x, size_t n);

  /* out[i] = exp(x[i]), error under 1.5 units in the last place; 0 below -104, infinity above 88.73. out may be x. */
  void (*exp)(const float *x, float *out, size_t n);

  /* silu: out[i] = gate[i] / (1 + exp(-gate[i])) * up[i]. relu2: out[i] = max(gate[i], 0)^2 * up[i]. out may be gate or up. */
  void (*silu_mul)(const float *gate, const float *up, float *out, size_t n);
  void (*relu2_mul)(const float *gate, const float *up, float *out, size_t n);

  /* Rotates the pairs (x[i], x[i + half]) by the angles with these cosines and sines [half]. x: [2 * half], in place. */
  void (*rope_half)(float *x, const float *cosines, const float *sines, size_t half);
} ct_kernels;

/* The plain reference: integer part written independently of the others, float part compiled for the baseline. */
const ct_kernels *ct_scalar(void);

/* Fills list with the paths this processor advertises, best first, scalar last, and returns how many there are (perhaps more
 * than capacity; at most CT_KERNELS_MAX). list may be NULL when capacity is 0. */
#define CT_KERNELS_MAX 4
size_t ct_available(const ct_kernels *_Nullable *_Nullable list, size_t capacity);

/* Runs k on random and worst cases and compares with ct_scalar's rules. An illegal instruction counts as failure: SIGILL is
 * caught meanwhile, and the old handler is put back. */
bool ct_self_test(const ct_kernels *k);

/* The first of ct_available that passes its self test (name NULL), or the one of that name if it is available and passes;
 * else NULL. Results are kept, so only the first call costs (about a millisecond a path, scalar 8). */
const ct_kernels *_Nullable ct_select(const char *_Nullable name);

/* Bytes of rows x columns in the fast layout. Sizes that overflow give 0. */
size_t ct_fast_bytes(size_t rows, size_t columns);

/* Packs rows x columns of -1, 0, 1 (row major, contiguous) into out[ct_fast_bytes(rows, columns)]. Other values count by
 * their sign. */
void ct_fast_pack(const int8_t *weights, size_t rows, size_t columns, uint8_t *out);

/* One weight: -1, 0 or 1. row < rows, column < columns. */
int ct_fast_weight(const uint8_t *packed, size_t rows, size_t columns, size_t row, size_t column);

/* Offset of the first byte that holds code 3, or -1 if there is none. */
ptrdiff_t ct_fast_validate(const uint8_t *packed, size_t bytes);

#pragma clang assume_nonnull end

#if defined(__cplusplus)
}
#endif
