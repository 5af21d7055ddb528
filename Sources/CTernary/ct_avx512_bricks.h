/* Products with bricks in AVX-512 VNNI: a register is 16 rows by 4 columns. vpdpbusd multiplies unsigned bytes, so weights are raised by
 * BRICK_OFFSET; its sums wrap, and the true result is under 2^19. 12 tokens have 12 sums of floats and 12 of a brick's integers. */
#define BRICK_TOKENS 12
enum { brick_tokens = BRICK_TOKENS };
#define BRICK_OFFSET(kind) ct_brick_offset(kind)

/* Codes of 4 bits (at most 15) as weights, raised. */
CT_INLINE __m512i avx512_brick_weights(const ct_brick_kind kind, __m512i codes) {
  const __m128i mxfp4 = _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0);
  const __m128i iq4_nl = _mm_setr_epi8(
    1, 24, 45, 63, 79, 93, 106, 118, (char)129, (char)141, (char)153, (char)166, (char)181, (char)197, (char)217, (char)241);
  if (kind == CT_BRICK_Q4_0) return codes;
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(kind == CT_BRICK_MXFP4 ? mxfp4 : iq4_nl), codes);
}

CT_INLINE __m512i avx512_four(const int8_t *x) {
  int32_t word;
  memcpy(&word, x, sizeof word);
  return _mm512_set1_epi32(word);
}

CT_INLINE void brick_dots(const ct_brick_kind kind, const int count, const uint8_t *codes, const int8_t *x, size_t x_stride, v16i *dots) {
  const __m512i nibble = _mm512_set1_epi8(15), sign = _mm512_set1_epi8((char)0x80);
  UNROLL for (int u = 0; u < 4; u++) {  // 8 columns
    __m512i first, second;
    if (kind == CT_BRICK_Q8_0) {
      first = _mm512_xor_si512(_mm512_load_si512(codes + 128 * u), sign);
      second = _mm512_xor_si512(_mm512_load_si512(codes + 128 * u + 64), sign);
    } else {
      __m512i both = _mm512_load_si512(codes + 64 * u);
      first = avx512_brick_weights(kind, _mm512_and_si512(both, nibble));
      second = avx512_brick_weights(kind, _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble));
    }
    UNROLL for (int c = 0; c < count; c++) {
      const int8_t *a = x + (size_t)c * x_stride + 8 * u;
      dots[c] = (v16i)_mm512_dpbusd_epi32((__m512i)dots[c], first, avx512_four(a));
      dots[c] = (v16i)_mm512_dpbusd_epi32((__m512i)dots[c], second, avx512_four(a + 4));
    }
  }
}

#include "ct_bricks_body.h"
