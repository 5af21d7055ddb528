/* Products with bricks in NEON, with dot products (CT_DOTPROD) and without: a step of 4 columns is four registers of 4 rows.
 *
 * With: sdot into int32. Without: smull gives products of at most 128 * 127 in int16, sadalp adds neighbours into int32; two lanes a row are
 * added at the end of a brick. */
#define BRICK_TOKENS 4
enum { brick_tokens = BRICK_TOKENS };
#define BRICK_OFFSET(kind) 0

/* Codes of 4 bits (at most 15) as weights. */
CT_INLINE int8x16_t neon_brick_weights(const ct_brick_kind kind, uint8x16_t codes) {
  static const int8_t mxfp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  static const int8_t iq4_nl[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  if (kind == CT_BRICK_Q4_0) return vsubq_s8(vreinterpretq_s8_u8(codes), vdupq_n_s8(8));
  return vqtbl1q_s8(vld1q_s8(kind == CT_BRICK_MXFP4 ? mxfp4 : iq4_nl), codes);
}

#if CT_DOTPROD
typedef int32x4_t neon_brick_sum;
CT_INLINE neon_brick_sum neon_brick_step(neon_brick_sum sum, int8x16_t weights, int8x16_t x) { return vdotq_s32(sum, weights, x); }
CT_INLINE int32x4_t neon_brick_total(neon_brick_sum sum) { return sum; }
CT_INLINE neon_brick_sum neon_brick_zero(void) { return vdupq_n_s32(0); }
#else
typedef int32x4x2_t neon_brick_sum;  // two lanes a row, two rows a register
CT_INLINE neon_brick_sum neon_brick_step(neon_brick_sum sum, int8x16_t weights, int8x16_t x) {
  sum.val[0] = vpadalq_s16(sum.val[0], vmull_s8(vget_low_s8(weights), vget_low_s8(x)));
  sum.val[1] = vpadalq_s16(sum.val[1], vmull_high_s8(weights, x));
  return sum;
}
CT_INLINE int32x4_t neon_brick_total(neon_brick_sum sum) { return vpaddq_s32(sum.val[0], sum.val[1]); }
CT_INLINE neon_brick_sum neon_brick_zero(void) { return (neon_brick_sum){{vdupq_n_s32(0), vdupq_n_s32(0)}}; }
#endif

CT_INLINE void brick_dots(const ct_brick_kind kind, const int count, const uint8_t *codes, const int8_t *x, size_t x_stride, v16i *dots) {
  UNROLL for (int i = 0; i < 4; i++) {  // 4 rows
    neon_brick_sum sums[brick_tokens];
    UNROLL for (int c = 0; c < count; c++) sums[c] = neon_brick_zero();
    UNROLL for (int u = 0; u < 4; u++) {  // 8 columns
      int8x16_t first, second;
      if (kind == CT_BRICK_Q8_0) {
        first = vreinterpretq_s8_u8(vld1q_u8(codes + 128 * u + 16 * i));
        second = vreinterpretq_s8_u8(vld1q_u8(codes + 128 * u + 64 + 16 * i));
      } else {
        uint8x16_t both = vld1q_u8(codes + 64 * u + 16 * i);
        first = neon_brick_weights(kind, vandq_u8(both, vdupq_n_u8(15)));
        second = neon_brick_weights(kind, vshrq_n_u8(both, 4));
      }
      UNROLL for (int c = 0; c < count; c++) {
        const int8_t *a = x + (size_t)c * x_stride + 8 * u;
        sums[c] = neon_brick_step(neon_brick_step(sums[c], first, four(a)), second, four(a + 4));
      }
    }
    UNROLL for (int c = 0; c < count; c++) {
      int32_t rows[4];
      vst1q_s32(rows, neon_brick_total(sums[c]));
      UNROLL for (int row = 0; row < 4; row++) dots[c][4 * i + row] += rows[row];
    }
  }
}

#include "ct_bricks_body.h"
