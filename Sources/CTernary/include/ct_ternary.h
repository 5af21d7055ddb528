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
 * Layout "small", 1.6 bits a weight
 *
 *   A unit is 64 bytes = 16 rows x 20 columns: byte 4*r + j (r 0..15, j 0..3) holds the codes t[p] of row r, columns
 *   4*p + j (p 0..4) as 81*t[4] + 27*t[3] + 9*t[2] + 3*t[1] + t[0]: 0..242. Bytes above 242 never occur in bytes that passed
 *   ct_small_validate. Otherwise as above, with columns padded to a multiple of 20.
 *
 * Scales by groups of 128 columns
 *
 *   Where a matrix has a scale for each row and 128 columns, each group of 128 columns is stored as whole units: 8 of the fast
 *   layout, 7 of the small one (140 columns, the last 12 zero weights). So a row is groups * 128 or groups * 140 stored
 *   columns, and the activations of a group begin at that multiple too. Columns are a multiple of 128.
 *
 * Bricks: weights of 4 or 8 bits with a scale for each row and 32 columns
 *
 *   A brick is 16 rows x 32 columns of one ct_brick_kind. Bricks of 16 rows follow each other along the columns in groups that share one
 *   line of 64 bytes with their scales: that line, then the codes of 2 bricks (MXFP4: 4). Groups of one block of 16 rows follow each other,
 *   then those of the next 16 rows; the last group of a block is padded with zero scales, and rows with zero weights.
 *   Scales: byte 2*(16*i + r) of the line is the half of brick i, row r; MXFP4: byte 16*i + r is its exponent e, scale 2^(e-128)
 *   (as the OCP format has it, halved, since the codes below are doubled).
 *   Codes of 8 bits: 512 bytes, byte 64*s + 4*r + j is the weight of row r, column 4*s + j, in two's complement.
 *   Codes of 4 bits: 256 bytes, byte 64*u + 4*r + j holds the codes of row r, columns 8*u + j (low nibble) and 8*u + 4 + j.
 *   A code means: Q4_0 code - 8; MXFP4 0, 1, 2, 3, 4, 6, 8, 12 and from code 8 on the same, negative; IQ4_NL the 16 values of that name.
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

/* How the weights of a brick are stored, by GGUF's names of the types that they come from. */
typedef enum { CT_BRICK_Q8_0 = 0, CT_BRICK_Q4_0 = 1, CT_BRICK_MXFP4 = 2, CT_BRICK_IQ4_NL = 3 } ct_brick_kind;

/* One instruction set. Constant tables of functions, so sharing them between threads is safe. */
typedef struct __attribute__((swift_attr("@Sendable"))) ct_kernels {
  /* "avx512vbmi", "avx512vnni", "avx_vnni", "avx2", "neon_i8mm", "neon_dotprod", "neon" or "scalar". */
  const char *name;

  /* out[t*out_stride + r] = sum over k < columns of weight[r][k] * x[t*x_stride + k], for r < 16*row_blocks and t < tokens.
   *
   * columns: padded, a multiple of 16, at most 2^23. x_stride >= columns, a multiple of 64 (bytes = elements); a stride that
   * is a multiple of 4096 puts the rows of x into the same cache sets: add 64. x_sums[t] = sum of the row x[t], zero padded.
   * weights and x are aligned to 64 bytes. out_stride >= 16*row_blocks. Any number of tokens, 0 included. */
  void (*fast_matmul)(const uint8_t *weights, size_t row_blocks, size_t columns,
                      const int8_t *x, size_t x_stride, const int32_t *x_sums, size_t tokens,
                      int32_t *out, size_t out_stride);

  /* The same for the small layout; columns is a multiple of 20. */
  void (*small_matmul)(const uint8_t *weights, size_t row_blocks, size_t columns,
                       const int8_t *x, size_t x_stride, const int32_t *x_sums, size_t tokens,
                       int32_t *out, size_t out_stride);

  /* Scales by groups: out[t*out_stride + r] = sum over groups g, in order, of (float)dot(r, t, g) * (scale[r][g] * x_scales[t*groups + g]),
   * dot being the exact integer product over the 128 columns of the group. Never fused.
   *
   * scales: half precision, [row_blocks, groups, 16 rows]. x: group g of a token begins at 128*g (fast) or 140*g (small), zeros
   * behind its 128 values. x_sums, x_scales: [tokens, groups]. Alignments and strides as for fast_matmul, but in the small layout x
   * only needs that of its element. */
  void (*fast_grouped)(const uint8_t *weights, const uint16_t *scales, size_t row_blocks, size_t groups,
                       const int8_t *x, size_t x_stride, const int32_t *x_sums, const float *x_scales, size_t tokens,
                       float *out, size_t out_stride);
  void (*small_grouped)(const uint8_t *weights, const uint16_t *scales, size_t row_blocks, size_t groups,
                        const int8_t *x, size_t x_stride, const int32_t *x_sums, const float *x_scales, size_t tokens,
                        float *out, size_t out_stride);

  /* out[t*out_stride + r] = sum over bricks b, in order, of (float)dot(r, t, b) * (scale[r][b] * x_scales[t*bricks + b]), dot being the exact
   * integer product over the 32 columns of the brick: |dot| <= 128 * 127 * 32 < 2^19. Never fused. r < 16*row_blocks, t < tokens.
   *
   * weights is aligned to 64 bytes: row_blocks * ct_brick_bytes(kind, 16, 32*bricks). x: brick b of a token begins at 32*b; values are
   * -127...127; x_sums, x_scales: [tokens, bricks], sums of the 32 values and their scales. x_stride: as for fast_matmul. Any number of tokens. */
  void (*brick_matmul)(ct_brick_kind kind, const uint8_t *weights, size_t row_blocks, size_t bricks,
                       const int8_t *x, size_t x_stride, const int32_t *x_sums, const float *x_scales, size_t tokens,
                       float *out, size_t out_stride);

  /* Activations for brick_matmul: for each 32 values q[i] = x[i] * s rounded half to even, s = 127 / max(largest |x|, 1e-10f), their sum,
   * and 1 / s. n: a multiple of 32. NaN becomes 0. Where an x is infinite, its 32 q are 0 and 1 / s is infinite: products with it are NaN. */
  void (*quantize_bricks)(const float *x, int8_t *q, size_t n, int32_t *sums, float *scales);

  /* A checksum against damage, not against malice: 64 lanes of 32 bits, each as XXH32 has its four, and XXH32's last step over all of
   * them in order. bytes: a multiple of 256. Any alignment. */
  uint64_t (*checksum)(const void *bytes, size_t count);

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

  /* out[i] = (x[i] / sqrt(sum of squares / divisor + eps)) * weight[i]. divisor: n, or more where zeros were left out. out may be x. */
  void (*rms_norm)(const float *x, const float *weight, float *out, size_t n, size_t divisor, float eps);

  /* q[i] = x[i] * s rounded half to even, clamped to -128...127, with s = 127 / max(largest |x|, 1e-5). q[n..<padded] = 0.
   * NaN becomes 0. Returns the sum of q and stores s in *scale. n <= 2^23. */
  int32_t (*quantize)(const float *x, int8_t *q, size_t n, size_t padded, float *scale);

  /* Groups of 128: out q, its sum and 1/s for each group g of n / 128, as quantize does. Group g begins at q[g*stride]; q[128..<stride] = 0.
   * stride 128 or 140. */
  void (*quantize_groups)(const float *x, int8_t *q, size_t n, size_t stride, int32_t *sums, float *scales);

  /* Attention over keys and values in int8 with a scale for each (docs/kernels.md). head_size is padded with zeros to a multiple of 16 and is
   * at most 1024: |dot| <= 16256 * 128 * 1024 < 2^31.
   *
   * Keys lie in blocks of 16 positions: byte (i / 16) * 16 * head_size + (d / 4) * 64 + (i % 16) * 4 + d % 4 is dimension d of
   * position i. Values lie in pairs: byte (i / 2) * 2 * head_size + 2 * d + i % 2. Both bases are aligned to 64 bytes. Positions that were
   * never stored may hold anything, but the memory of the whole last block or pair is read. A call may begin at any block (keys) or pair
   * (values); splitting the positions between calls changes no result.
   *
   * kv_quantize: q[d] = x[d] * s rounded half to even with s = 127 / max(largest |x|, 1e-10f); returns 1 / s. q: [head_size] contiguous,
   *   -127...127. NaN becomes 0. Where an x is infinite, all q are 0 and 1 / s is infinite: such a score or sum is NaN.
   * ct_key_store and ct_value_store put q of position i into its place.
   * query_prepare: 15 bits: v[d] = x[d] * s rounded half to even, s = 16256 / max(largest |x|, 1e-10f), as high = (v + 64) >> 7 and
   *   low = v - 128 * high; prepared: [2 * head_size] int8, high (-127...127) then low (-64...63). Returns 1 / s. NaN and infinity as above.
   * key_scores: scores[q*scores_stride + i] = (float)dot * (query_scales[q] * key_scales[i]), i < count, q < queries; dot is the exact
   *   integer product (128 * high + low) . key. prepared of query q begins at q * 2 * head_size, aligned to 64 bytes.
   * value_weights: scores become probabilities: p[i] = exp(scores[i] - max), total = their sum as softmax has it; then
   *   w[i] = p[i] * value_scales[i] * S rounded half to even to int16, S = min(32767 / largest, (2^24 - count) / sum) over p[i] * value_scales[i];
   *   returns 1 / (S * total), or 0 where largest is 0. scores is overwritten. w: [count] int16. value_scales >= 0, count < 2^23. Scores as for softmax;
   *   where one is NaN all w are 0 and NaN is returned.
   * value_sums: out[q*head_size + d] += sum over i < count of w[q*w_stride + i] * value(i, d), exact in int32 since the w of a query add up
   *   to at most 2^24 and a value is at most 127. w is aligned to its element only; w beyond count is not read.
   */
  float (*kv_quantize)(const float *x, int8_t *q, size_t head_size);
  float (*query_prepare)(const float *x, int8_t *prepared, size_t head_size);
  void (*key_scores)(const int8_t *keys, const float *key_scales, size_t count, size_t head_size,
                     const int8_t *prepared, const float *query_scales, size_t queries, float *scores, size_t scores_stride);
  float (*value_weights)(float *scores, const float *value_scales, size_t count, int16_t *w);
  void (*value_sums)(const int8_t *values, size_t count, size_t head_size,
                     const int16_t *w, size_t w_stride, size_t queries, int32_t *out);

  /* The head: out[r] = row r . x for `rows` consecutive rows of GGUF blocks, at any alignment. x is prepared once by head_prepare into
   * ct_head_bytes(n) bytes, aligned to 64: for each block of 32 values 15-bit integers v and their scale, as query_prepare has them for a head.
   * n: a multiple of 32 (q8_0, iq4_nl) or 256 (q6_k).
   *
   * q8_0, iq4_nl: a block's term is (float)dot * (d * scale), dot the exact integer product of its 32 weights and v. q6_k: a run of 16 weights
   * has the term (float)dot * ((float)run scale * (d * scale)). Block (run) i goes to lane i % 16, groups of 16 are added in order, then lane i with
   * lane i + 8, + 4, + 2, + 1. |dot| <= 16256 * 128 * 32 < 2^27. */
  void (*head_prepare)(const float *x, size_t n, void *prepared);
  void (*head_q8_0)(const void *weights, size_t rows, size_t n, const void *prepared, float *out);
  void (*head_q6_k)(const void *weights, size_t rows, size_t n, const void *prepared, float *out);
  void (*head_iq4_nl)(const void *weights, size_t rows, size_t n, const void *prepared, float *out);

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
#define CT_KERNELS_MAX 5
size_t ct_available(const ct_kernels *_Nullable *_Nullable list, size_t capacity);

/* Runs k on random and worst cases and compares with ct_scalar's rules. An illegal instruction counts as failure: SIGILL is
 * caught meanwhile, and the old handler is put back. */
bool ct_self_test(const ct_kernels *k);

/* The first of ct_available that passes its self test (name NULL), or the one of that name if it is available and passes;
 * else NULL. Results are kept, so only the first call costs (one or two milliseconds a path, scalar 14). */
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

/* The same four for the small layout; validate finds bytes above 242. */
size_t ct_small_bytes(size_t rows, size_t columns);
void ct_small_pack(const int8_t *weights, size_t rows, size_t columns, uint8_t *out);
int ct_small_weight(const uint8_t *packed, size_t rows, size_t columns, size_t row, size_t column);
ptrdiff_t ct_small_validate(const uint8_t *packed, size_t bytes);

/* Bytes of rows x columns in bricks; columns is a multiple of 32. Sizes that overflow, and other columns, give 0. */
size_t ct_brick_bytes(ct_brick_kind kind, size_t rows, size_t columns);

/* Lays rows of GGUF blocks of the kind's type ({half d; codes} of 34 or 18 bytes, MXFP4 {exponent; codes} of 17) into bricks, bit for bit.
 * blocks: [rows, columns / 32] contiguous; out: ct_brick_bytes(kind, rows, columns). */
void ct_brick_pack(ct_brick_kind kind, const void *blocks, size_t rows, size_t columns, uint8_t *out);

/* A row as floats: exactly what the GGUF blocks mean. row < rows. */
void ct_brick_unpack(ct_brick_kind kind, const uint8_t *packed, size_t columns, size_t row, float *out);

/* Where dimension d of position i lies in int8 keys and values, and putting a quantised head there. */
void ct_key_store(const int8_t *q, int8_t *keys, size_t position, size_t head_size);
void ct_value_store(const int8_t *q, int8_t *values, size_t position, size_t head_size);

/* For loops that wait for another thread: lets a hyperthread on the same core have it meanwhile. */
static inline void ct_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");
#endif
}

/* Bytes that head_prepare writes for n values. */
size_t ct_head_bytes(size_t n);

/* A row of GGUF blocks as floats, exactly. n: a multiple of 32 or 256. */
void ct_unpack_q8_0(const void *row, float *out, size_t n);
void ct_unpack_q6_k(const void *row, float *out, size_t n);
void ct_unpack_iq4_nl(const void *row, float *out, size_t n);

/* Moves whole pages to another address, in the place of what is mapped there, in one step for the kernel. */
bool ct_move_mapping(void *from, size_t bytes, void *to);

/* Cores that this process may run on: of a machine's, those that systemd, a container or taskset leaves it. */
int ct_usable_cores(void);

#pragma clang assume_nonnull end

#if defined(__cplusplus)
}
#endif
