/* What the NEON paths share: unpacking 16 bytes, which are 4 rows. */

#define UNROLL _Pragma("clang loop unroll(full)")

/* v modulo power, for v < 3 * power: the smallest of v, v - power and v - 2 * power, where a negative number is a large one. */
CT_INLINE uint8x16_t modulo(uint8x16_t v, uint8_t power) {
  v = vminq_u8(v, vsubq_u8(v, vdupq_n_u8(power)));
  return vminq_u8(v, vsubq_u8(v, vdupq_n_u8(power)));
}

/* The planes of 16 bytes of weights: plane p holds the codes of columns 4 * p + j of 4 rows. */
CT_INLINE void decode(const bool small, uint8x16_t v, int8x16_t planes[5]) {
  static const uint8_t digits[3][16] = {{0, 1, 2, 0, 1, 2, 0, 1, 2}, {0, 0, 0, 1, 1, 1, 2, 2, 2}, {0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1}};
  const uint8x16_t mask = vdupq_n_u8(3);
  if (small) {
    uint8x16_t low4 = modulo(v, 81), low3 = modulo(low4, 27), low2 = modulo(low3, 9);
    planes[4] = vreinterpretq_s8_u8(vandq_u8(vsubq_u8(v, low4), mask));  // 0, 81 or 162: 0, 1, 2 modulo 4
    uint8x16_t digit_3 = vandq_u8(vsubq_u8(low4, low3), vdupq_n_u8(15));  // 0, 27 or 54: 0, 11, 6 modulo 16
    planes[3] = vreinterpretq_s8_u8(vqtbl1q_u8(vld1q_u8(digits[2]), digit_3));
    planes[2] = vreinterpretq_s8_u8(vandq_u8(vsubq_u8(low3, low2), mask));  // 0, 9 or 18: 0, 1, 2 modulo 4
    planes[1] = vreinterpretq_s8_u8(vqtbl1q_u8(vld1q_u8(digits[1]), low2));
    planes[0] = vreinterpretq_s8_u8(vqtbl1q_u8(vld1q_u8(digits[0]), low2));
  } else {
    planes[0] = vreinterpretq_s8_u8(vandq_u8(v, mask));
    planes[1] = vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(v, 2), mask));
    planes[2] = vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(v, 4), mask));
    planes[3] = vreinterpretq_s8_u8(vshrq_n_u8(v, 6));
  }
}

CT_INLINE void unpack_units(const bool small, const uint8_t *weights, size_t units, ptrdiff_t ahead, uint8_t *panel) {
  const int planes = small ? 5 : 4;
  for (; units > 0; units--, weights += ct_unit_bytes, panel += ct_unit_bytes * planes) {
    __builtin_prefetch(weights + ahead);
    UNROLL for (int i = 0; i < 4; i++) {
      int8x16_t plane[5];
      decode(small, vld1q_u8(weights + 16 * i), plane);
      UNROLL for (int p = 0; p < planes; p++) vst1q_u8(panel + ct_unit_bytes * p + 16 * i, vreinterpretq_u8_s8(plane[p]));
    }
  }
}

/* Four activations in every 32 bits. */
CT_INLINE int8x16_t four(const int8_t *x) {
  int32_t word;
  memcpy(&word, x, sizeof word);
  return vreinterpretq_s8_s32(vdupq_n_s32(word));
}

CT_INLINE int32x4_t minus(int32_t x_sum) { return vdupq_n_s32((int32_t)(0u - (uint32_t)x_sum)); }

#define CT_TILE(count)                                                                                                 \
  static void tile_##count(const uint8_t *panel, size_t panel_stride, size_t steps, const int8_t *x, size_t x_stride,  \
                           const int32_t *x_sums, int32_t *out, size_t out_stride) {                                   \
    (void)panel_stride;                                                                                                \
    tile_times(count, panel, steps, x, x_stride, x_sums, out, out_stride);                                             \
  }
