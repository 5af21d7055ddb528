/* AVX-512 with VNNI: each 32-bit lane is a row, and vpdpbusd adds four neighbouring columns to it, so there are no horizontal
 * sums. The four activations are a broadcast from memory, which costs nothing.
 *
 * Codes (0..2) are summed instead of weights (-1..1), and the sum of x is subtracted once a row. vpdpbusd wraps, so this is exact
 * modulo 2^32, and the true result is at most 2^30. The one bound that is less: ct_fold_units.
 *
 * CT_VBMI is 1 where the byte permutations of AVX-512 VBMI may be used. */
#define UNROLL _Pragma("clang loop unroll(full)")

enum { ct_few = 12, ct_tile_tokens = 14, ct_tile_blocks = 2 };

/* Up to this many tokens, planes are not shifted down to codes: the products of plane p are 4^p times too large, exactly, so each plane
 * has its own sum and one shift at the end. A unit adds at most 4 * 2 * 64 * 128 = 2^16 to plane 3, so sums of 2^14 units are at most
 * 2^30. Powers of three need no bound: they are odd, so multiplying with their inverse divides modulo 2^32. */
enum { ct_scaled_tokens = 3, ct_fold_units = 1 << 14 };

/* Four activations in every lane. */
CT_INLINE __m512i four(const int8_t *x) {
  int32_t word;
  memcpy(&word, x, sizeof word);
  return _mm512_set1_epi32(word);
}

/* v modulo power, for v < 3 * power: the smallest of v, v - power and v - 2 * power, where a negative number is a large one. */
CT_INLINE __m512i modulo(__m512i v, int power) {
  v = _mm512_min_epu8(v, _mm512_sub_epi8(v, _mm512_set1_epi8((char)power)));
  return _mm512_min_epu8(v, _mm512_sub_epi8(v, _mm512_set1_epi8((char)power)));
}

#if CT_VBMI
/* 0...80 to its four base-3 digits in two bits each, lowest first: a byte of the fast layout. */
static const uint8_t two_bits_of[128] __attribute__((aligned(64))) = {
#define DIGITS(high) high, high | 1, high | 2, high | 4, high | 5, high | 6, high | 8, high | 9, high | 10
  DIGITS(0x00), DIGITS(0x10), DIGITS(0x20), DIGITS(0x40), DIGITS(0x50), DIGITS(0x60), DIGITS(0x80), DIGITS(0x90), DIGITS(0xa0),
#undef DIGITS
};
#endif

/* 64 bytes of weights half decoded. Small layout: `high` is 81 times the highest digit, `low` the other four, with VBMI as a byte of the
 * fast layout. */
struct digits {
  __m512i low, high;
};

CT_INLINE struct digits digits_of(const bool small, const uint8_t *weights) {
  __m512i v = _mm512_load_si512(weights);
  if (!small) return (struct digits){v, v};
  __m512i low = modulo(v, 81), high = _mm512_sub_epi8(v, low);
#if CT_VBMI
  low = _mm512_permutex2var_epi8(_mm512_load_si512(two_bits_of), low, _mm512_load_si512(two_bits_of + 64));
#endif
  return (struct digits){low, high};
}

#if !CT_VBMI
CT_INLINE __m512i look_up(__m128i table, __m512i indices) { return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), indices); }

/* Planes 0 to 3 of the small layout without VBMI. */
CT_INLINE void decode_low(const bool scaled, __m512i low, __m512i planes[5]) {
  __m512i low3 = modulo(low, 27), low2 = modulo(low3, 9);
  planes[3] = _mm512_sub_epi8(low, low3);  // 0, 27 or 54: 0, 11, 6 modulo 16
  if (!scaled) planes[3] = look_up(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0), planes[3]);
  planes[2] = _mm512_sub_epi8(low3, low2);  // 0, 9 or 18: 0, 1, 2 modulo 4
  if (!scaled) planes[2] = _mm512_and_si512(planes[2], _mm512_set1_epi8(3));
  planes[1] = look_up(_mm_setr_epi8(0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0), low2);
  planes[0] = look_up(_mm_setr_epi8(0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0), low2);
}
#endif

/* Plane p holds the codes of columns 4 * p + j of the unit. Where `scaled`, times the factor that unscaled() takes out of the sums. */
CT_INLINE void decode(const bool small, const bool scaled, struct digits digits, __m512i planes[5]) {
  const __m512i mask = _mm512_set1_epi8(3);
  if (small) planes[4] = scaled ? digits.high : _mm512_and_si512(digits.high, mask);  // 0, 81 or 162: 0, 1, 2 modulo 4
#if !CT_VBMI
  if (small) {
    decode_low(scaled, digits.low, planes);
    return;
  }
#endif
  UNROLL for (int p = 0; p < 4; p++) {
    planes[p] = scaled ? _mm512_and_si512(digits.low, _mm512_set1_epi8((char)(3 << 2 * p)))
                       : _mm512_and_si512(_mm512_srli_epi16(digits.low, 2 * (unsigned)p), mask);
  }
}

/* Sums of plane p without its factor. */
CT_INLINE __m512i unscaled(const bool small, const int p, __m512i sums) {
  if (small && p == 4) return _mm512_mullo_epi32(sums, _mm512_set1_epi32((int)ct_inverse_81));
#if !CT_VBMI
  if (small && p == 3) return _mm512_mullo_epi32(sums, _mm512_set1_epi32((int)ct_inverse_27));
  if (small && p == 2) return _mm512_mullo_epi32(sums, _mm512_set1_epi32((int)ct_inverse_9));
  if (small) return sums;
#endif
  return _mm512_srai_epi32(sums, 2 * (unsigned)p);
}

// MARK: few tokens

/* One block of 16 rows times `count` tokens (a constant). Where there are few sums, several for each token keep vpdpbusd from
 * waiting for itself. */
CT_INLINE void few_times(const bool small, const int count, const uint8_t *weights, size_t units, const int8_t *x, size_t x_stride,
                         const int32_t *x_sums, int32_t *out, size_t out_stride) {
  const int planes = small ? 5 : 4, unit_columns = 4 * planes;
  const bool scaled = count <= ct_scaled_tokens;
  const int parts = scaled ? planes : count <= 8 ? 2 : 1;
  __m512i totals[12];
  UNROLL for (int c = 0; c < count; c++) totals[c] = _mm512_set1_epi32((int32_t)(0u - (uint32_t)x_sums[c]));
  while (units > 0) {
    size_t steps = scaled && units > ct_fold_units ? ct_fold_units : units;
    units -= steps;
    __m512i sums[12][5];
    UNROLL for (int c = 0; c < count; c++) {
      UNROLL for (int i = 0; i < parts; i++) sums[c][i] = i == 0 && !scaled ? totals[c] : _mm512_setzero_si512();
    }
    struct digits next = digits_of(small, weights);
    for (; steps > 0; steps--, weights += ct_unit_bytes, x += unit_columns) {
      _mm_prefetch((const char *)weights + 4096, _MM_HINT_T1);  // past the end it does nothing
      __m512i plane[5];
      decode(small, scaled, next, plane);
      // The next unit is begun before the products of this one, or it would wait behind them: 30 % of one token in the small layout. The empty
      // statement keeps the compiler from moving it back. The last turn begins its own unit again.
      next = digits_of(small, weights + (steps > 1 ? ct_unit_bytes : 0));
      __asm__ volatile("" : "+v"(next.low), "+v"(next.high));
      UNROLL for (int p = 0; p < planes; p++) {
        UNROLL for (int c = 0; c < count; c++) {
          const int i = scaled ? p : p % parts;
          sums[c][i] = _mm512_dpbusd_epi32(sums[c][i], plane[p], four(x + (size_t)c * x_stride + 4 * p));
        }
      }
    }
    UNROLL for (int c = 0; c < count; c++) {
      if (!scaled) totals[c] = sums[c][0];
      UNROLL for (int i = !scaled; i < parts; i++) totals[c] = _mm512_add_epi32(totals[c], scaled ? unscaled(small, i, sums[c][i]) : sums[c][i]);
    }
  }
  UNROLL for (int c = 0; c < count; c++) _mm512_storeu_si512(out + (size_t)c * out_stride, totals[c]);
}

#define FEW(count) FEW_OF(fast, false, count) FEW_OF(small, true, count)
FEW(1) FEW(2) FEW(3) FEW(4) FEW(5) FEW(6) FEW(7) FEW(8) FEW(9) FEW(10) FEW(11) FEW(12)

static const few_function few_functions[2][ct_few + 1] = {
  {NULL, few_fast_1, few_fast_2, few_fast_3, few_fast_4, few_fast_5, few_fast_6,
   few_fast_7, few_fast_8, few_fast_9, few_fast_10, few_fast_11, few_fast_12},
  {NULL, few_small_1, few_small_2, few_small_3, few_small_4, few_small_5, few_small_6,
   few_small_7, few_small_8, few_small_9, few_small_10, few_small_11, few_small_12},
};

// MARK: many tokens

CT_INLINE void unpack_units(const bool small, const uint8_t *weights, size_t units, ptrdiff_t ahead, uint8_t *panel) {
  const int planes = small ? 5 : 4;
  for (; units > 0; units--, weights += ct_unit_bytes, panel += ct_unit_bytes * planes) {
    _mm_prefetch((const char *)weights + ahead, _MM_HINT_T1);
    __m512i plane[5];
    decode(small, false, digits_of(small, weights), plane);
    UNROLL for (int p = 0; p < planes; p++) _mm512_store_si512(panel + ct_unit_bytes * p, plane[p]);
  }
}

/* 32 rows by 14 tokens are 28 sums; two registers of codes and one of activations are left: 16 loads for 28 vpdpbusd. x_sums NULL: goes on
 * from what is in `out`. */
CT_INLINE void tile_times(const int blocks, const int count, const uint8_t *panel, size_t panel_stride, size_t steps,
                          const int8_t *x, size_t x_stride, const int32_t *x_sums, int32_t *out, size_t out_stride) {
  __m512i sums[14][2];
  UNROLL for (int c = 0; c < count; c++) {
    UNROLL for (int b = 0; b < blocks; b++) {
      sums[c][b] = x_sums != NULL ? _mm512_set1_epi32((int32_t)(0u - (uint32_t)x_sums[c])) : _mm512_loadu_si512(out + (size_t)c * out_stride + 16 * b);
    }
  }
  for (; steps > 0; steps--, panel += 64, x += 4) {
    __m512i codes[2];
    UNROLL for (int b = 0; b < blocks; b++) codes[b] = _mm512_load_si512(panel + panel_stride * (size_t)b);
    UNROLL for (int c = 0; c < count; c++) {
      __m512i a = four(x + (size_t)c * x_stride);
      UNROLL for (int b = 0; b < blocks; b++) sums[c][b] = _mm512_dpbusd_epi32(sums[c][b], codes[b], a);
    }
  }
  UNROLL for (int c = 0; c < count; c++) {
    UNROLL for (int b = 0; b < blocks; b++) _mm512_storeu_si512(out + (size_t)c * out_stride + 16 * b, sums[c][b]);
  }
}

#define TILE(blocks, count)                                                                                            \
  static void tile_##blocks##_##count(const uint8_t *panel, size_t panel_stride, size_t steps, const int8_t *x, size_t x_stride, \
                                      const int32_t *x_sums, int32_t *out, size_t out_stride) {                        \
    tile_times(blocks, count, panel, panel_stride, steps, x, x_stride, x_sums, out, out_stride);                       \
  }
#define TILES(count) TILE(1, count) TILE(2, count)
TILES(1) TILES(2) TILES(3) TILES(4) TILES(5) TILES(6) TILES(7) TILES(8) TILES(9) TILES(10) TILES(11) TILES(12) TILES(13) TILES(14)

#define TILES_OF(blocks)                                                                                               \
  {NULL, tile_##blocks##_1, tile_##blocks##_2, tile_##blocks##_3, tile_##blocks##_4, tile_##blocks##_5, tile_##blocks##_6, tile_##blocks##_7, \
   tile_##blocks##_8, tile_##blocks##_9, tile_##blocks##_10, tile_##blocks##_11, tile_##blocks##_12, tile_##blocks##_13, tile_##blocks##_14}
static const tile_function tile_functions[ct_tile_blocks + 1][ct_tile_tokens + 1] = {{NULL}, TILES_OF(1), TILES_OF(2)};

#include "ct_matmul_body.h"
