/* Rows of GGUF blocks for kernels_check.c: what strangers' files hold, in memory that ends where the blocks do. */

enum { unpack_functions = 3 };
static const char *const unpack_names[unpack_functions] = {"unpack_q8_0", "unpack_q6_k", "unpack_iq4_nl"};

static void unpack_digests(uint64_t digests[unpack_functions]) {
  static void (*const unpack[unpack_functions])(const void *, float *, size_t) = {ct_unpack_q8_0, ct_unpack_q6_k, ct_unpack_iq4_nl};
  static const size_t values[] = {32, 256, 32}, bytes[] = {34, 210, 18}, scale[] = {0, 208, 0};
  state = 77;
  for (int f = 0; f < unpack_functions; f++) {
    digests[f] = 0xcbf29ce484222325u;
    for (size_t blocks = 1; blocks <= 9; blocks++) {
      uint8_t *row = malloc(blocks * bytes[f]);
      float *out = malloc(blocks * values[f] * sizeof *out);
      for (size_t i = 0; i < blocks * bytes[f]; i++) row[i] = (uint8_t)next();
      unpack[f](row, out, blocks * values[f]); /* any scale, infinite or none */
      for (size_t b = 0; b < blocks; b++) row[b * bytes[f] + scale[f] + 1] &= 0xbb;
      unpack[f](row, out, blocks * values[f]);
      digests[f] = digest_floats(digests[f], out, blocks * values[f]);
      free(row), free(out);
    }
  }
}
