/* Attention and head for kernels_check.c: the bits of their results on random data, extremes and infinities. */

enum { attention_functions = 8 };
static const char *const attention_names[attention_functions] = {
  "kv_quantize", "query_prepare", "key_scores", "value_weights", "value_sums", "head_q8_0", "head_q6_k", "head_iq4_nl",
};

static void *aligned(size_t bytes) {  // to 64, and no byte more, so that a sanitizer sees every read past the end
  void *p = NULL;
  if (posix_memalign(&p, 64, bytes) != 0) exit(1);
  return p;
}

static void attention_round(const ct_kernels *k, size_t head_size, size_t count, size_t queries, int pattern, uint64_t *digests) {
  size_t key_bytes = (count + 15) / 16 * 16 * head_size, value_bytes = (count + 1) / 2 * 2 * head_size;
  int8_t *keys = aligned(key_bytes), *values = aligned(value_bytes), *prepared = aligned(2 * queries * head_size), *q = malloc(head_size);
  float *x = malloc(head_size * 4), *key_scales = malloc(count * 4), *value_scales = malloc(count * 4), *query_scales = malloc(queries * 4);
  float *scores = malloc(queries * count * 4), *totals = malloc(queries * 4);
  int16_t *w = malloc(queries * count * 2 + 2), *unaligned = w + 1;
  int32_t *sums = calloc(queries * head_size, 4);
  memset(keys, 0x80, key_bytes), memset(values, 0x80, value_bytes);
  for (size_t i = 0; i < 2 * count + queries; i++) {
    for (size_t d = 0; d < head_size; d++) x[d] = pattern == 1 ? 4.0f : uniform(2);
    if (pattern == 2 && i % 5 == 0) x[i % head_size] = 1e30f;
    if (pattern == 3) x[(i + 1) % head_size] = NAN;
    if (i < count) {
      key_scales[i] = k->kv_quantize(x, q, head_size), ct_key_store(q, keys, i, head_size);
      digests[0] = digest_floats(digest(digests[0], q, head_size), &key_scales[i], 1);
    } else if (i < 2 * count) {
      value_scales[i - count] = k->kv_quantize(x, q, head_size), ct_value_store(q, values, i - count, head_size);
    } else {
      query_scales[i - 2 * count] = k->query_prepare(x, prepared + 2 * (i - 2 * count) * head_size, head_size);
    }
  }
  digests[1] = digest_floats(digest(digests[1], prepared, 2 * queries * head_size), query_scales, queries);
  k->key_scores(keys, key_scales, count, head_size, prepared, query_scales, queries, scores, count);
  digests[2] = digest_floats(digests[2], scores, queries * count);
  for (size_t i = 0; i < queries; i++) totals[i] = k->value_weights(scores + i * count, value_scales, count, unaligned + i * count);
  digests[3] = digest_floats(digest(digests[3], unaligned, queries * count * 2), totals, queries);
  k->value_sums(values, count, head_size, unaligned, count, queries, sums);
  digests[4] = digest(digests[4], sums, queries * head_size * 4);
  free(keys), free(values), free(prepared), free(q), free(x), free(key_scales), free(value_scales), free(query_scales);
  free(scores), free(totals), free(w), free(sums);
}

static void head_round(const ct_kernels *k, size_t n, int pattern, uint64_t *digests) {
  enum { rows = 3 };
  size_t bytes = rows * n / 32 * 34;
  uint8_t *weights = malloc(bytes + 1), *unaligned = weights + 1;
  void *prepared = aligned(ct_head_bytes(n));
  float *x = malloc(n * 4), out[rows];
  for (size_t i = 0; i < n; i++) x[i] = pattern == 1 ? -3.0f : uniform(i / 32 % 2 ? 5 : 0.01f);
  for (size_t i = 0; i < bytes; i++) unaligned[i] = pattern == 1 ? 0x80 : (uint8_t)next();
  k->head_prepare(x, n, prepared);
  for (size_t i = 0; i < rows * n / 32; i++) unaligned[34 * i + 1] &= 0xbb;  // no infinite scales
  k->head_q8_0(unaligned, rows, n, prepared, out), digests[5] = digest_floats(digests[5], out, rows);
  unaligned = weights + 1 + bytes - rows * n / 32 * 18;  // at the end of the memory, too
  for (size_t i = 0; i < rows * n / 32; i++) unaligned[18 * i + 1] &= 0xbb;
  k->head_iq4_nl(unaligned, rows, n, prepared, out), digests[7] = digest_floats(digests[7], out, rows);
  if (n % 256 == 0) {
    unaligned = weights + 1 + bytes - rows * n / 256 * 210;
    for (size_t i = 0; i < rows * n / 256; i++) unaligned[210 * i + 209] &= 0xbb;
    k->head_q6_k(unaligned, rows, n, prepared, out), digests[6] = digest_floats(digests[6], out, rows);
  }
  free(weights), free(prepared), free(x);
}

static void attention_digests(const ct_kernels *k, uint64_t digests[attention_functions]) {
  static const size_t head_sizes[] = {16, 48, 64, 128, 256, 1024}, counts[] = {1, 2, 3, 15, 16, 17, 31, 200, 513};
  for (int f = 0; f < attention_functions; f++) digests[f] = 0xcbf29ce484222325u;
  state = 77;
  for (size_t h = 0; h < 6; h++) {
    for (size_t c = 0; c < 9; c++) {
      for (int pattern = 0; pattern < 4; pattern++) attention_round(k, head_sizes[h], counts[c], 1 + (h + c + (size_t)pattern) % 10, pattern, digests);
    }
  }
  attention_round(k, 64, 100, 37, 0, digests);
  for (size_t n = 32; n <= 1536; n += n < 640 ? 32 : 64) {
    for (int pattern = 0; pattern < 2; pattern++) head_round(k, n, pattern, digests);
  }
}
