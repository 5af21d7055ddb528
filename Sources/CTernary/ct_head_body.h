/* The float part of the head, once for all instruction sets; ct_attention_body.h comes before it. The integer part is each
 * instruction set's own: the exact products of 16 blocks of 32 weights (q8_0, iq4_nl) or 16 runs of 16 (q6_k).
 *
 * A row's sum: blocks go to 16 lanes in turn, groups of 16 are added in order, then the lanes as f_sum has it. */

/* 512 values of x, quantised in blocks of 32; values behind the last are zero, and so are their scales. Each instruction set
 * reads the form it has an instruction for: 15-bit integers, or their high and low bytes. */
typedef struct {
  int16_t values[ct_head_group];
  int8_t high[ct_head_group], low[ct_head_group];
  float scales[16];        // of each block of 32
  float half_scales[32];   // the same, twice each: one for each 16 values
  int32_t sums[16];        // of the values of each block of 32
  int32_t half_sums[32];   // of each 16 values
} head_group;

_Static_assert(sizeof(head_group) == ct_head_group_bytes, "ct_head_bytes counts with this");

static void h_prepare(const float *x, size_t n, void *prepared) {
  head_group *groups = prepared;
  memset(groups, 0, ct_head_bytes(n));
  for (size_t start = 0; start < n; start += 32) {
    head_group *group = groups + start / ct_head_group;
    size_t offset = start % ct_head_group;
    float s = 16256.0f / f_largest(x + start, 32, 1e-10f);
    for (size_t i = 0; i < 32; i += 16) {
      v16i v = a_rounded(f_load(x + start + i), s);
      v16s shorts = __builtin_convertvector(v, v16s);
      memcpy(group->values + offset + i, &shorts, sizeof shorts);
      a_split(v, group->high + offset + i, group->low + offset + i);
      int32_t sum = 0;
      for (int lane = 0; lane < 16; lane++) sum += v[lane];
      group->half_sums[(offset + i) / 16] = sum;
      group->half_scales[(offset + i) / 16] = 1.0f / s;
      group->sums[offset / 32] += sum;
    }
    group->scales[offset / 32] = 1.0f / s;
  }
}

/* 16 integer products: of blocks of 32 that lie `block_bytes` apart, or of the 16 runs of a q6_k block (half: which 256 values of
 * the group). */
typedef v16i (*head_dots)(const uint8_t *blocks, const head_group *x);
typedef v16i (*head_half_dots)(const uint8_t *block, const head_group *x, size_t half);

/* The halves at the beginnings of 16 blocks. */
typedef v16f (*head_scales)(const uint8_t *blocks, const int block_bytes);

CT_INLINE v16f h_scales(const uint8_t *blocks, const int block_bytes) {
  uint16_t halves[16];
  for (int b = 0; b < 16; b++) memcpy(&halves[b], blocks + b * block_bytes, sizeof *halves);
  return f_from_half(halves);
}

/* The stream is read a few KiB ahead: without it the processor's own prefetch stops at every page. Past the end it does nothing. */
CT_INLINE void h_prefetch(const uint8_t *p, const int bytes) {
  for (int line = 0; line < bytes; line += 64) __builtin_prefetch(p + 2048 + line);
}

/* Rows of blocks {half d; weights} of 32. A last group of fewer than 16 blocks is worked on in a zero-padded copy. */
CT_INLINE void h_rows(head_dots dots, head_scales scales, const int block_bytes, const void *weights, size_t rows, size_t n, const head_group *x, float *out) {
  const uint8_t *block = weights;
  for (size_t r = 0; r < rows; r++) {
    v16f sums = 0;
    for (size_t done = 0, g = 0; done < n; done += ct_head_group, g++) {
      size_t left = (n - done) / 32, count = left < 16 ? left : 16;
      h_prefetch(block, 16 * block_bytes);
      uint8_t padded[16 * 34];
      const uint8_t *group = block;
      if (count < 16) {
        memcpy(padded, block, count * (size_t)block_bytes);
        memset(padded + count * (size_t)block_bytes, 0, (16 - count) * (size_t)block_bytes);
        group = padded;
      }
      sums += __builtin_convertvector(dots(group, &x[g]), v16f) * (scales(group, block_bytes) * f_load(x[g].scales));
      block += count * (size_t)block_bytes;
    }
    out[r] = f_sum(sums);
  }
}

/* Rows of blocks {4 low bits [128]; 2 high bits [64]; int8 scales [16]; half d} of 256. */
CT_INLINE void h_rows_q6_k(head_half_dots dots, const void *weights, size_t rows, size_t n, const head_group *x, float *out) {
  const uint8_t *block = weights;
  for (size_t r = 0; r < rows; r++) {
    v16f sums = 0;
    for (size_t b = 0; b < n / 256; b++, block += 210) {
      h_prefetch(block, 210);
      const head_group *group = x + b / 2;
      v16f scales = f_from_bytes(block + 192) * (f_block_scale(block + 208) * f_load(group->half_scales + 16 * (b % 2)));
      sums += __builtin_convertvector(dots(block, group, b % 2), v16f) * scales;
    }
    out[r] = f_sum(sums);
  }
}

/* The rows of the three types for one instruction set, from SET_dots_q8_0, SET_dots_iq4_nl, SET_dots_q6_k and SET_head_scales. */
#define CT_HEAD_ROWS(SET)                                                                                               \
  static void SET##_head_q8_0(const void *weights, size_t rows, size_t n, const void *prepared, float *out) {           \
    h_rows(SET##_dots_q8_0, SET##_head_scales, 34, weights, rows, n, prepared, out);                                                       \
  }                                                                                                                     \
  static void SET##_head_iq4_nl(const void *weights, size_t rows, size_t n, const void *prepared, float *out) {         \
    h_rows(SET##_dots_iq4_nl, SET##_head_scales, 18, weights, rows, n, prepared, out);                                                     \
  }                                                                                                                     \
  static void SET##_head_q6_k(const void *weights, size_t rows, size_t n, const void *prepared, float *out) {           \
    h_rows_q6_k(SET##_dots_q6_k, weights, rows, n, prepared, out);                                                      \
  }

#define CT_HEAD_FUNCTIONS(SET)                                                                                          \
  .head_prepare = h_prepare, .head_q8_0 = SET##_head_q8_0, .head_q6_k = SET##_head_q6_k, .head_iq4_nl = SET##_head_iq4_nl
