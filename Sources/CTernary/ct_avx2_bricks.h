/* Products with bricks in AVX2, with and without AVX-VNNI (CT_AVX_VNNI): a brick's step of 4 columns is two registers of 8 rows.
 *
 * With: vpdpbusd, weights raised to unsigned bytes; sums wrap, and the true result is under 2^19.
 * Without: vpmaddubsw adds two products in int16. Weights of 4 bits, raised: at most 2 * 24 * 127 = 6096 a step (Q4_0 3810), folded into
 * int32 every 2 steps: 12,192 < 2^15. Weights of 8 bits: |weight| times the activation with the weight's sign, at most 2 * 128 * 127 =
 * 32,512 < 2^15, folded every step; an activation is never -128. */
#define BRICK_TOKENS 4
enum { brick_tokens = BRICK_TOKENS };

/* Whether weights of the kind have the range of a signed byte. */
#define AVX2_BRICK_SIGNED(kind) (!CT_AVX_VNNI && ((kind) == CT_BRICK_Q8_0 || (kind) == CT_BRICK_IQ4_NL))
#define BRICK_OFFSET(kind) (AVX2_BRICK_SIGNED(kind) ? 0 : ct_brick_offset(kind))

/* Codes of 4 bits (at most 15) as weights, raised where BRICK_OFFSET says so. */
CT_INLINE __m256i avx2_brick_weights(const ct_brick_kind kind, __m256i codes) {
  if (kind == CT_BRICK_Q4_0) return codes;
  if (kind == CT_BRICK_MXFP4) return look_up(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0), codes);
  __m128i signed_values = _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
  return look_up(AVX2_BRICK_SIGNED(kind) ? signed_values : _mm_xor_si128(signed_values, _mm_set1_epi8((char)0x80)), codes);
}

/* Two steps of 8 rows and `count` tokens. */
CT_INLINE void avx2_brick_steps(const ct_brick_kind kind, const int count, __m256i first, __m256i second, const int8_t *x, size_t x_stride,
                                __m256i *dots) {
#if CT_AVX_VNNI
  (void)kind;
  UNROLL for (int c = 0; c < count; c++) {
    const int8_t *a = x + (size_t)c * x_stride;
    dots[c] = _mm256_dpbusd_avx_epi32(_mm256_dpbusd_avx_epi32(dots[c], first, four(a)), second, four(a + 4));
  }
#else
  const __m256i ones = _mm256_set1_epi16(1);
  UNROLL for (int c = 0; c < count; c++) {
    const int8_t *a = x + (size_t)c * x_stride;
    if (AVX2_BRICK_SIGNED(kind)) {
      __m256i p = _mm256_maddubs_epi16(_mm256_abs_epi8(first), _mm256_sign_epi8(four(a), first));
      __m256i q = _mm256_maddubs_epi16(_mm256_abs_epi8(second), _mm256_sign_epi8(four(a + 4), second));
      dots[c] = _mm256_add_epi32(dots[c], _mm256_add_epi32(_mm256_madd_epi16(p, ones), _mm256_madd_epi16(q, ones)));
    } else {
      __m256i p = _mm256_add_epi16(_mm256_maddubs_epi16(first, four(a)), _mm256_maddubs_epi16(second, four(a + 4)));
      dots[c] = _mm256_add_epi32(dots[c], _mm256_madd_epi16(p, ones));
    }
  }
#endif
}

CT_INLINE void brick_dots(const ct_brick_kind kind, const int count, const uint8_t *codes, const int8_t *x, size_t x_stride, v16i *dots) {
  const __m256i nibble = _mm256_set1_epi8(15);
  UNROLL for (int half = 0; half < 2; half++) {
    __m256i sums[brick_tokens];
    UNROLL for (int c = 0; c < count; c++) sums[c] = half == 0 ? (__m256i)dots[c].lo : (__m256i)dots[c].hi;
    UNROLL for (int u = 0; u < 4; u++) {  // 8 columns
      __m256i first, second;
      if (kind == CT_BRICK_Q8_0) {
        const __m256i sign = _mm256_set1_epi8(AVX2_BRICK_SIGNED(kind) ? 0 : (char)0x80);
        first = _mm256_xor_si256(_mm256_load_si256((const __m256i *)(codes + 128 * u + 32 * half)), sign);
        second = _mm256_xor_si256(_mm256_load_si256((const __m256i *)(codes + 128 * u + 64 + 32 * half)), sign);
      } else {
        __m256i both = _mm256_load_si256((const __m256i *)(codes + 64 * u + 32 * half));
        first = avx2_brick_weights(kind, _mm256_and_si256(both, nibble));
        second = avx2_brick_weights(kind, _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble));
      }
      avx2_brick_steps(kind, count, first, second, x + 8 * u, x_stride, sums);
    }
    UNROLL for (int c = 0; c < count; c++) {
      if (half == 0) dots[c].lo = (v8i)sums[c];
      else dots[c].hi = (v8i)sums[c];
    }
  }
}

#include "ct_bricks_body.h"
