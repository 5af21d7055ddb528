/* NEON with dot products: sdot adds four neighbouring columns to a row's int32. It wraps, so this is exact modulo 2^32, and the true
 * result is at most 2^30. */

/* One block of 16 rows times `count` tokens (a constant, at most 4). */
CT_INLINE void few_times(const bool small, const int count, const uint8_t *weights, size_t units, const int8_t *x, size_t x_stride,
                         const int32_t *x_sums, int32_t *out, size_t out_stride) {
  const int planes = small ? 5 : 4;
  int32x4_t sums[4][4];
  UNROLL for (int c = 0; c < count; c++) {
    UNROLL for (int i = 0; i < 4; i++) sums[c][i] = minus(x_sums[c]);
  }
  for (; units > 0; units--, weights += ct_unit_bytes, x += 4 * planes) {
    __builtin_prefetch(weights + 1024);
    UNROLL for (int i = 0; i < 4; i++) {
      int8x16_t plane[5];
      decode(small, vld1q_u8(weights + 16 * i), plane);
      UNROLL for (int p = 0; p < planes; p++) {
        UNROLL for (int c = 0; c < count; c++) sums[c][i] = vdotq_s32(sums[c][i], plane[p], four(x + (size_t)c * x_stride + 4 * p));
      }
    }
  }
  UNROLL for (int c = 0; c < count; c++) {
    UNROLL for (int i = 0; i < 4; i++) vst1q_s32(out + (size_t)c * out_stride + 4 * i, sums[c][i]);
  }
}

FEW_OF(fast, false, 1) FEW_OF(fast, false, 2) FEW_OF(fast, false, 3) FEW_OF(fast, false, 4)
FEW_OF(small, true, 1) FEW_OF(small, true, 2) FEW_OF(small, true, 3) FEW_OF(small, true, 4)

enum { ct_few = 4 };
static const few_function few_functions[2][ct_few + 1] = {
  {NULL, few_fast_1, few_fast_2, few_fast_3, few_fast_4},
  {NULL, few_small_1, few_small_2, few_small_3, few_small_4},
};
