/* Weights in bricks, once for all instruction sets: each one's file includes this under its target attribute, after ct_float_body.h and after
 * it has defined
 *
 *   brick_tokens                       the most tokens that are worked on together
 *   BRICK_OFFSET(kind)                 what its brick_dots adds to every weight; its sum is taken out here
 *   brick_dots(kind, count, codes, x, x_stride, dots)
 *                                      adds the exact products of one brick and `count` tokens to dots [count]; kind and count are constants
 *
 * A weight is decoded in registers and used at once for up to brick_tokens tokens: with a dozen of them decoding costs a tenth of the
 * products, so there are no unpacked panels. A block of 16 rows (18 KiB for 2048 columns of 4 bits) stays in the first cache while the tokens
 * go by, so weights come from memory once, as one linear stream. */

/* The scales of a brick, from its group's line. */
CT_INLINE v16f brick_scales(const ct_brick_kind kind, const uint8_t *line, size_t within) {
  if (kind != CT_BRICK_MXFP4) return f_from_half((const uint16_t *)(const void *)(line + 32 * within));
  typedef uint8_t v16byte __attribute__((ext_vector_type(16)));
  v16byte bytes;
  memcpy(&bytes, line + 16 * within, sizeof bytes);
  v16u e = __builtin_convertvector(bytes, v16u);
  v16u subnormal = e == 0 ? (v16u)0x00200000u : (v16u)0x00400000u;
  return (v16f)(e < 2 ? subnormal : (e - 1) << 23);
}

/* The activations of some tokens, as brick_matmul has them. */
struct brick_input {
  const int8_t *x;
  size_t stride;
  const int32_t *sums;
  const float *scales;
};

CT_INLINE void brick_add(const ct_brick_kind kind, const int count, const uint8_t *line, size_t within, size_t brick, size_t bricks,
                         struct brick_input input, v16f *sums) {
  v16i dots[brick_tokens];
  UNROLL for (int c = 0; c < count; c++) dots[c] = (v16i)(-BRICK_OFFSET(kind) * input.sums[(size_t)c * bricks + brick]);
  const uint8_t *codes = line + ct_brick_line + within * ct_brick_code_bytes(kind);
  brick_dots(kind, count, codes, input.x + ct_brick_columns * brick, input.stride, dots);
  const v16f scales = brick_scales(kind, line, within);
  UNROLL for (int c = 0; c < count; c++) {
    sums[c] += __builtin_convertvector(dots[c], v16f) * (scales * input.scales[(size_t)c * bricks + brick]);
  }
}

/* One block of 16 rows times `count` tokens. */
CT_INLINE void brick_times(const ct_brick_kind kind, const int count, const uint8_t *line, size_t bricks, struct brick_input input,
                           float *out, size_t out_stride) {
  const size_t group = ct_brick_group(kind), group_bytes = ct_brick_line + group * ct_brick_code_bytes(kind);
  v16f sums[brick_tokens];
  UNROLL for (int c = 0; c < count; c++) sums[c] = (v16f)0.0f;
  size_t brick = 0;
  for (; brick + group <= bricks; brick += group, line += group_bytes) {
    // The processor's own prefetch stops at every page; past the end this does nothing.
    for (size_t at = 0; at < group_bytes; at += 64) __builtin_prefetch(line + 4096 + at);
    for (size_t i = 0; i < group; i++) brick_add(kind, count, line, i, brick + i, bricks, input, sums);
  }
  for (size_t i = 0; brick + i < bricks; i++) brick_add(kind, count, line, i, brick + i, bricks, input, sums);
  UNROLL for (int c = 0; c < count; c++) f_store(out + (size_t)c * out_stride, sums[c]);
}

typedef void (*brick_function)(const uint8_t *weights, size_t bricks, struct brick_input input, float *out, size_t out_stride);

#define CT_BRICKS_OF(kind, count)                                                                                      \
  static void brick_##kind##_##count(const uint8_t *weights, size_t bricks, struct brick_input input, float *out, size_t out_stride) { \
    brick_times(CT_BRICK_##kind, count, weights, bricks, input, out, out_stride);                                      \
  }
#define CT_BRICKS_OF_COUNT(count) CT_BRICKS_OF(Q8_0, count) CT_BRICKS_OF(Q4_0, count) CT_BRICKS_OF(MXFP4, count) CT_BRICKS_OF(IQ4_NL, count)
CT_BRICKS_OF_COUNT(1) CT_BRICKS_OF_COUNT(2) CT_BRICKS_OF_COUNT(3) CT_BRICKS_OF_COUNT(4)
#if BRICK_TOKENS > 4
CT_BRICKS_OF_COUNT(5) CT_BRICKS_OF_COUNT(6) CT_BRICKS_OF_COUNT(7) CT_BRICKS_OF_COUNT(8)
CT_BRICKS_OF_COUNT(9) CT_BRICKS_OF_COUNT(10) CT_BRICKS_OF_COUNT(11) CT_BRICKS_OF_COUNT(12)
#define CT_BRICK_ROW(kind)                                                                                             \
  {NULL, brick_##kind##_1, brick_##kind##_2, brick_##kind##_3, brick_##kind##_4, brick_##kind##_5, brick_##kind##_6,   \
   brick_##kind##_7, brick_##kind##_8, brick_##kind##_9, brick_##kind##_10, brick_##kind##_11, brick_##kind##_12}
#else
#define CT_BRICK_ROW(kind) {NULL, brick_##kind##_1, brick_##kind##_2, brick_##kind##_3, brick_##kind##_4}
#endif

static const brick_function brick_functions[4][brick_tokens + 1] = {
  CT_BRICK_ROW(Q8_0), CT_BRICK_ROW(Q4_0), CT_BRICK_ROW(MXFP4), CT_BRICK_ROW(IQ4_NL),
};

static void brick_matmul(ct_brick_kind kind, const uint8_t *weights, size_t row_blocks, size_t bricks, const int8_t *x, size_t x_stride,
                         const int32_t *x_sums, const float *x_scales, size_t tokens, float *out, size_t out_stride) {
  const size_t row_bytes = ct_brick_bytes(kind, ct_brick_rows, ct_brick_columns * bricks), tiles = (tokens + brick_tokens - 1) / brick_tokens;
  for (size_t b = 0; b < row_blocks; b++, weights += row_bytes) {
    for (size_t tile = 0, t = 0; tile < tiles; tile++) {
      const size_t width = (tokens - t) / (tiles - tile);  // even tiles: 15 tokens are 7 and 8, not 12 and 3
      const struct brick_input input = {x + t * x_stride, x_stride, x_sums + t * bricks, x_scales + t * bricks};
      brick_functions[kind][width](weights, bricks, input, out + t * out_stride + b * ct_brick_rows, out_stride);
      t += width;
    }
  }
}

static void f_quantize_bricks(const float *x, int8_t *q, size_t n, int32_t *sums, float *scales) {
  for (size_t b = 0; b < n / ct_brick_columns; b++, x += ct_brick_columns, q += ct_brick_columns) {
    float s = 127.0f / f_largest(x, ct_brick_columns, 1e-10f);
    v16i first = f_rounded(f_load(x), s), second = f_rounded(f_load(x + 16), s);
    v16b bytes[2] = {__builtin_convertvector(first, v16b), __builtin_convertvector(second, v16b)};
    memcpy(q, bytes, sizeof bytes);
    v16i both = (first - CT_ROUND_BITS) + (second - CT_ROUND_BITS);
    int32_t sum = 0;
    for (int lane = 0; lane < 16; lane++) sum += both[lane];
    sums[b] = sum;
    scales[b] = 1.0f / s;
  }
}

/* XXH32's rounds in 64 lanes, and its end over all of them in order: bits 0...31 with one seed, 32...63 with another. */
static uint64_t f_checksum(const void *bytes, size_t count) {
  enum { first = 0x9e3779b1, second = 0x85ebca77, third = 0xc2b2ae3d, fourth = 0x27d4eb2f, fifth = 0x165667b1 };
  const uint8_t *p = bytes;
  v16u lanes[4];
  for (uint32_t i = 0; i < 4; i++) {
    for (uint32_t lane = 0; lane < 16; lane++) lanes[i][lane] = (16 * i + lane) * (uint32_t)first + (uint32_t)second;
  }
  for (size_t done = 0; done + 256 <= count; done += 256, p += 256) {
    for (int i = 0; i < 4; i++) {
      v16u words;
      memcpy(&words, p + 64 * i, sizeof words);
      v16u sum = lanes[i] + words * (uint32_t)second;
      lanes[i] = (sum << 13 | sum >> 19) * (uint32_t)first;
    }
  }
  uint32_t halves[2];
  for (uint32_t half = 0; half < 2; half++) {
    uint32_t hash = (uint32_t)fifth + half * (uint32_t)first + (uint32_t)count;
    for (int i = 0; i < 4; i++) {
      for (int lane = 0; lane < 16; lane++) {
        hash += lanes[i][lane] * (uint32_t)third;
        hash = (hash << 17 | hash >> 15) * (uint32_t)fourth;
      }
    }
    hash = (hash ^ hash >> 15) * (uint32_t)second;
    hash = (hash ^ hash >> 13) * (uint32_t)third;
    halves[half] = hash ^ hash >> 16;
  }
  return (uint64_t)halves[1] << 32 | halves[0];
}

#define CT_BRICK_FUNCTIONS .brick_matmul = brick_matmul, .quantize_bricks = f_quantize_bricks, .checksum = f_checksum
