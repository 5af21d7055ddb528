/* Bricks for kernels_check.c: the bits of their results on random data and extremes. */

enum { brick_functions_checked = 6 };
static const char *const brick_names[brick_functions_checked] = {"brick_q8_0", "brick_q4_0", "brick_mxfp4", "brick_iq4_nl", "quantize_bricks", "checksum"};

static void brick_round(const ct_kernels *k, ct_brick_kind kind, size_t rows, size_t bricks, int extreme, uint64_t *digests) {
  enum { tokens = 29 };
  const size_t block = kind == CT_BRICK_Q8_0 ? 34 : kind == CT_BRICK_MXFP4 ? 17 : 18, scale = kind == CT_BRICK_MXFP4 ? 1 : 2;
  const size_t stride = (32 * bricks + 63) / 64 * 64, padded = (rows + 15) / 16 * 16, bytes = ct_brick_bytes(kind, rows, 32 * bricks);
  uint8_t *blocks = malloc(rows * bricks * block), *packed = aligned(bytes);
  int8_t *x = aligned(tokens * stride);
  float *values = malloc(32 * bricks * 4), *scales = malloc(tokens * bricks * 4), *out = malloc(tokens * padded * 4);
  int32_t *sums = malloc(tokens * bricks * 4);
  for (size_t i = 0; i < rows * bricks * block; i++) {
    size_t at = i % block;
    blocks[i] = at >= scale ? (extreme ? (kind == CT_BRICK_Q8_0 ? 0x80 : 0) : (uint8_t)next()) : scale == 1 ? (uint8_t)(next() % 150) : (uint8_t)(next() & 0xbb);
  }
  ct_brick_pack(kind, blocks, rows, 32 * bricks, packed);
  memset(x, 0, tokens * stride);
  for (size_t t = 0; t < tokens; t++) {
    for (size_t i = 0; i < 32 * bricks; i++) values[i] = extreme ? (t % 2 ? 5.0f : -5.0f) : uniform(i / 32 % 2 ? 5 : 0.01f);
    k->quantize_bricks(values, x + t * stride, 32 * bricks, sums + t * bricks, scales + t * bricks);
  }
  digests[4] = digest_floats(digest(digest(digests[4], x, tokens * stride), sums, tokens * bricks * 4), scales, tokens * bricks);
  for (size_t count = 0; count <= tokens; count += count < 5 ? 1 : 8) {
    k->brick_matmul(kind, packed, padded / 16, bricks, x, stride, sums, scales, count, out, padded);
    digests[kind] = digest_floats(digests[kind], out, count * padded);
  }
  uint64_t checksum = k->checksum(packed, bytes / 256 * 256);
  digests[5] = digest(digests[5], &checksum, sizeof checksum);
  free(blocks), free(packed), free(x), free(values), free(scales), free(out), free(sums);
}

static void brick_digests(const ct_kernels *k, uint64_t digests[brick_functions_checked]) {
  static const size_t bricks[] = {1, 2, 3, 4, 7, 24};
  for (int f = 0; f < brick_functions_checked; f++) digests[f] = 0xcbf29ce484222325u;
  state = 55;
  for (int kind = 0; kind < 4; kind++) {
    for (size_t b = 0; b < sizeof bricks / sizeof *bricks; b++) {
      brick_round(k, (ct_brick_kind)kind, 19, bricks[b], 0, digests);
      brick_round(k, (ct_brick_kind)kind, 16, bricks[b], 1, digests);
    }
  }
}
