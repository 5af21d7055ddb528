/* The float part, once for all instruction sets: each instruction set's file includes this under its target attribute, and the
 * compiler splits the 16 lanes into what the set has.
 *
 * Bit-identical results come from three rules: sums run over 16 lanes and four accumulators in an order that depends only
 * on n; no multiply and add is ever fused; nothing comes from libm. The last n % 16 elements are worked on in a zero-padded copy.
 *
 * CT_HALF_F16C and CT_HALF_NEON choose the processor's own conversions of halves; they round as the software below does. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF
// Vectors wider than the target's registers are only passed between always_inline functions, so there is no ABI to differ.
#pragma clang diagnostic ignored "-Wpsabi"

typedef float v16f __attribute__((ext_vector_type(16)));
typedef int32_t v16i __attribute__((ext_vector_type(16)));
typedef uint32_t v16u __attribute__((ext_vector_type(16)));
typedef uint16_t v16h __attribute__((ext_vector_type(16)));
typedef int8_t v16b __attribute__((ext_vector_type(16)));
typedef float v8f __attribute__((ext_vector_type(8)));
typedef float v4f __attribute__((ext_vector_type(4)));

CT_INLINE v16f f_load(const float *p) {
  v16f v;
  memcpy(&v, p, sizeof v);
  return v;
}

CT_INLINE void f_store(float *p, v16f v) { memcpy(p, &v, sizeof v); }

/* The first n < 16 elements, the rest zero. */
CT_INLINE v16f f_load_part(const float *p, size_t n) {
  float padded[16] = {0};
  memcpy(padded, p, n * sizeof(float));
  return f_load(padded);
}

CT_INLINE void f_store_part(float *p, v16f v, size_t n) {
  float padded[16];
  f_store(padded, v);
  memcpy(p, padded, n * sizeof(float));
}

/* Lane i with lane i + 8, then + 4, + 2, + 1. */
CT_INLINE float f_sum(v16f v) {
  v8f a = v.lo + v.hi;
  v4f b = a.lo + a.hi;
  return (b.s0 + b.s2) + (b.s1 + b.s3);
}

CT_INLINE float f_max(v16f v) {
  v8f a = v.lo > v.hi ? v.lo : v.hi;
  v4f b = a.lo > a.hi ? a.lo : a.hi;
  float even = b.s0 > b.s2 ? b.s0 : b.s2;
  float odd = b.s1 > b.s3 ? b.s1 : b.s3;
  return even > odd ? even : odd;
}

CT_INLINE v16f f_abs(v16f v) { return (v16f)((v16u)v & 0x7fffffffu); }

// MARK: halves

#if defined(CT_HALF_F16C)

CT_INLINE v16f f_from_half(const uint16_t *p) {
  v16f v;
  v.lo = (v8f)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
  v.hi = (v8f)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)));
  return v;
}

CT_INLINE void f_to_half(v16f v, uint16_t *p) {
  _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)v.lo, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph((__m256)v.hi, _MM_FROUND_TO_NEAREST_INT));
}

#elif defined(CT_HALF_NEON)

CT_INLINE v16f f_from_half(const uint16_t *p) {
  v16f v;
  v.lo.lo = (v4f)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
  v.lo.hi = (v4f)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4)));
  v.hi.lo = (v4f)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 8)));
  v.hi.hi = (v4f)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 12)));
  return v;
}

CT_INLINE void f_to_half(v16f v, uint16_t *p) {
  vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v.lo.lo)));
  vst1_u16(p + 4, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v.lo.hi)));
  vst1_u16(p + 8, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v.hi.lo)));
  vst1_u16(p + 12, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v.hi.hi)));
}

#else

CT_INLINE v16f f_from_half(const uint16_t *p) {
  v16h h;
  memcpy(&h, p, sizeof h);
  v16u bits = __builtin_convertvector(h, v16u);
  v16u magnitude = bits & 0x7fff;
  // Exponent and mantissa moved to a float's places make a number 2^112 too small, subnormals included.
  v16u finite = (v16u)((v16f)(magnitude << 13) * 0x1p112f);
  v16u special = 0x7f800000u | (bits & 0x3ff) << 13;
  special |= (v16u)(magnitude > 0x7c00) & 0x400000;  // a NaN becomes quiet
  v16u value = magnitude >= 0x7c00 ? special : finite;
  return (v16f)(value | (bits & 0x8000) << 16);
}

CT_INLINE void f_to_half(v16f v, uint16_t *p) {
  v16u bits = (v16u)v;
  v16u magnitude = bits & 0x7fffffff;
  // Normal: change the exponent's bias from 127 to 15 and round 13 bits away, ties to even; a carry may reach infinity.
  v16u normal = (magnitude - 0x38000000u + 0xfff + (magnitude >> 13 & 1)) >> 13;
  // Subnormal: the last bit of 0.5 + x is 2^-24, the last bit of a subnormal half.
  v16u subnormal = (v16u)((v16f)magnitude + 0.5f) - 0x3f000000u;
  v16u nan = 0x7e00 | (magnitude >> 13 & 0x3ff);
  v16u value = magnitude < 0x38800000u ? subnormal : normal;
  value = magnitude >= 0x47800000u ? (v16u)0x7c00u : value;  // 65536 and more
  value = magnitude > 0x7f800000u ? nan : value;
  v16h h = __builtin_convertvector(value | (bits >> 16 & 0x8000), v16h);
  memcpy(p, &h, sizeof h);
}

#endif

CT_INLINE v16f f_from_half_part(const uint16_t *p, size_t n) {
  uint16_t padded[16] = {0};
  memcpy(padded, p, n * sizeof(uint16_t));
  return f_from_half(padded);
}

static void f_f32_to_f16(const float *x, uint16_t *out, size_t n) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) f_to_half(f_load(x + i), out + i);
  if (i < n) {
    uint16_t padded[16];
    f_to_half(f_load_part(x + i, n - i), padded);
    memcpy(out + i, padded, (n - i) * sizeof(uint16_t));
  }
}

static void f_f16_to_f32(const uint16_t *x, float *out, size_t n) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) f_store(out + i, f_from_half(x + i));
  if (i < n) f_store_part(out + i, f_from_half_part(x + i, n - i), n - i);
}

// MARK: sums

/* Sum over groups of 16 elements: group g goes to accumulator g % 4, a last partial group as a whole one with zeros.
 * PRODUCT(i) and PART(i, n) give the 16 terms at element i. */
#define CT_SUM_GROUPS(PRODUCT, PART)                     \
  v16f a0 = 0, a1 = 0, a2 = 0, a3 = 0;                   \
  size_t i = 0;                                          \
  for (; i + 64 <= n; i += 64) {                         \
    a0 += PRODUCT(i);                                    \
    a1 += PRODUCT(i + 16);                               \
    a2 += PRODUCT(i + 32);                               \
    a3 += PRODUCT(i + 48);                               \
  }                                                      \
  size_t rest = (n - i) / 16;                            \
  if (rest > 0) a0 += PRODUCT(i);                        \
  if (rest > 1) a1 += PRODUCT(i + 16);                   \
  if (rest > 2) a2 += PRODUCT(i + 32);                   \
  i += 16 * rest;                                        \
  if (i < n) {                                           \
    v16f last = PART(i, n - i);                          \
    if (rest == 0) a0 += last;                           \
    else if (rest == 1) a1 += last;                      \
    else if (rest == 2) a2 += last;                      \
    else a3 += last;                                     \
  }                                                      \
  float total = f_sum((a0 + a1) + (a2 + a3));

static float f_dot_f32(const float *a, const float *x, size_t n) {
#define PRODUCT(i) (f_load(a + (i)) * f_load(x + (i)))
#define PART(i, n) (f_load_part(a + (i), n) * f_load_part(x + (i), n))
  CT_SUM_GROUPS(PRODUCT, PART)
#undef PRODUCT
#undef PART
  return total;
}

static float f_dot_f16(const uint16_t *a, const float *x, size_t n) {
#define PRODUCT(i) (f_from_half(a + (i)) * f_load(x + (i)))
#define PART(i, n) (f_from_half_part(a + (i), n) * f_load_part(x + (i), n))
  CT_SUM_GROUPS(PRODUCT, PART)
#undef PRODUCT
#undef PART
  return total;
}

CT_INLINE v16f f_from_bytes(const uint8_t *p) {
  v16b b;
  memcpy(&b, p, sizeof b);
  return __builtin_convertvector(__builtin_convertvector(b, v16i), v16f);
}

/* The scale of a block. Exact; a plain integer path, because one half at a time does not fill a vector. No float on the way is
 * subnormal: Q6_K's scales, absmax / 4064 of their values, are subnormal halves in a table of small values, and each took so long here that a head in Q6_K
 * took three times what it takes now. */
CT_INLINE float f_block_scale(const uint8_t *block) {
  uint32_t h = (uint32_t)block[0] | (uint32_t)block[1] << 8;
  uint32_t magnitude = h & 0x7fff;
  uint32_t bits = (magnitude << 13) + 0x38000000u;  // exponent's bias from 15 to 127
  if (magnitude >= 0x7c00) bits |= 0x7f800000u;
  float value;
  memcpy(&value, &bits, sizeof value);
  if (magnitude < 0x400) value = (float)(int32_t)magnitude * 0x1p-24f;
  return h & 0x8000 ? -value : value;
}

/* A block's 32 terms as 16 lanes: element l with element l + 16, times the scale. Block b goes to accumulator b % 4. */
static float f_dot_q8_0(const void *blocks, const float *x, size_t n) {
  enum { block_bytes = 34 };
  const uint8_t *block = blocks;
  v16f a[4] = {0, 0, 0, 0};
#define TERMS(b, x) (f_block_scale(b) * (f_from_bytes((b) + 2) * f_load(x) + f_from_bytes((b) + 18) * f_load((x) + 16)))
  size_t i = 0;
  for (; i + 128 <= n; i += 128, block += 4 * block_bytes) {
    a[0] += TERMS(block, x + i);
    a[1] += TERMS(block + block_bytes, x + i + 32);
    a[2] += TERMS(block + 2 * block_bytes, x + i + 64);
    a[3] += TERMS(block + 3 * block_bytes, x + i + 96);
  }
  for (size_t b = 0; i < n; b++, i += 32, block += block_bytes) {
    float padded[32] = {0};
    memcpy(padded, x + i, (n - i < 32 ? n - i : 32) * sizeof(float));
    a[b] += TERMS(block, padded);
  }
#undef TERMS
  return f_sum((a[0] + a[1]) + (a[2] + a[3]));
}

static void f_axpy_f32(float a, const float *x, float *y, size_t n) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) f_store(y + i, f_load(y + i) + a * f_load(x + i));
  if (i < n) f_store_part(y + i, f_load_part(y + i, n - i) + a * f_load_part(x + i, n - i), n - i);
}

static void f_axpy_f16(float a, const uint16_t *x, float *y, size_t n) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) f_store(y + i, f_load(y + i) + a * f_from_half(x + i));
  if (i < n) f_store_part(y + i, f_load_part(y + i, n - i) + a * f_from_half_part(x + i, n - i), n - i);
}

static void f_rms_norm(const float *x, const float *weight, float *out, size_t n, size_t divisor, float eps) {
  if (n == 0) return;
  float squares = f_dot_f32(x, x, n);
  v4f mean = squares / (float)divisor + eps;
  v4f root = __builtin_elementwise_sqrt(mean);  // the vector form: sqrtf would be libm's where it sets errno
  float scale = 1.0f / root.s0;
  size_t i = 0;
  for (; i + 16 <= n; i += 16) f_store(out + i, f_load(x + i) * scale * f_load(weight + i));
  if (i < n) f_store_part(out + i, f_load_part(x + i, n - i) * scale * f_load_part(weight + i, n - i), n - i);
}

// MARK: int8 activations

/* 1.5 * 2^23: adding it rounds a float under 2^22 to an integer, ties to even, and leaves that integer in the low bits. */
#define CT_ROUND 12582912.0f
#define CT_ROUND_BITS 0x4b400000

/* x * s rounded, NaN as 0, in the low bits of CT_ROUND_BITS. |x * s| under 2^22. */
CT_INLINE v16i f_rounded(v16f x, float s) {
  v16f scaled = x * s;
  return (v16i)((scaled == scaled ? scaled : (v16f)0.0f) + CT_ROUND);
}

/* The largest |x|, at least `least`. NaN is passed over. Four accumulators, so that none waits for itself. */
CT_INLINE float f_largest(const float *x, size_t n, float least) {
#define LARGER(a, v) ((v) > (a) ? (v) : (a))
  v16f a[4] = {least, least, least, least};
  size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    for (int j = 0; j < 4; j++) {
      v16f v = f_abs(f_load(x + i + 16 * j));
      a[j] = LARGER(a[j], v);
    }
  }
  for (; i + 16 <= n; i += 16) {
    v16f v = f_abs(f_load(x + i));
    a[0] = LARGER(a[0], v);
  }
  if (i < n) {
    v16f v = f_abs(f_load_part(x + i, n - i));
    a[1] = LARGER(a[1], v);
  }
  a[0] = LARGER(a[0], a[1]);
  a[2] = LARGER(a[2], a[3]);
  return f_max(LARGER(a[0], a[2]));
#undef LARGER
}

/* Nothing is clamped: |x * s| <= 127 * (1 + 2^-23). An infinite x makes s 0, and all q with it. */
static int32_t f_quantize(const float *x, int8_t *q, size_t n, size_t padded, float *scale) {
  float s = 127.0f / f_largest(x, n, 1e-5f);
  v16u sums = 0;  // of q + CT_ROUND_BITS: they wrap
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    v16i rounded = f_rounded(f_load(x + i), s);
    sums += (v16u)rounded;
    v16b bytes = __builtin_convertvector(rounded, v16b);
    memcpy(q + i, &bytes, sizeof bytes);
  }
  if (i < n) {
    v16i rounded = f_rounded(f_load_part(x + i, n - i), s);
    sums += (v16u)rounded;
    v16b bytes = __builtin_convertvector(rounded, v16b);
    memcpy(q + i, &bytes, n - i);
  }
  if (padded > n) memset(q + n, 0, padded - n);

  uint32_t total = 0u - (uint32_t)CT_ROUND_BITS * (uint32_t)((n + 15) / 16 * 16);
  for (int lane = 0; lane < 16; lane++) total += sums[lane];
  *scale = s;
  return (int32_t)total;
}

static void f_quantize_groups(const float *x, int8_t *q, size_t n, size_t stride, int32_t *sums, float *scales) {
  for (size_t g = 0; g < n / 128; g++) {
    float s;
    sums[g] = f_quantize(x + 128 * g, q + stride * g, 128, stride, &s);
    scales[g] = 1.0f / s;
  }
}

// MARK: exponential

/* exp(x) = 2^k * exp(r), k = x / ln 2 rounded, |r| <= ln 2 / 2.
 *
 * ln 2 is split in two so that k * 0.693359375 is exact (9 + 8 bits). exp(r) = 1 + r + r^2 * p(r); the coefficients of p are a
 * minimax fit of degree 4 made for this file. Two scale factors reach the ends of the range. */
CT_INLINE v16f f_exp(v16f x) {
  v16f bounded = x > 89.0f ? (v16f)89.0f : x;
  bounded = bounded < -104.0f ? (v16f)-104.0f : bounded;
  v16f rounded = bounded * 1.44269504f + CT_ROUND;
  v16i k = (v16i)rounded - CT_ROUND_BITS;
  v16f whole = rounded - CT_ROUND;
  v16f r = bounded - whole * 0.693359375f + whole * 2.12194440e-4f;
  v16f p = 0.001381454f;
  p = p * r + 0.008368745f;
  p = p * r + 0.04166839f;
  p = p * r + 0.16666521f;
  p = p * r + 0.49999994f;
  v16f value = (p * (r * r) + r) + 1.0f;
  v16i half = k >> 1;
  v16f first = (v16f)((half + 127) << 23);
  v16f second = (v16f)((k - half + 127) << 23);
  return value * first * second;
}

static void f_exp_all(const float *x, float *out, size_t n) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) f_store(out + i, f_exp(f_load(x + i)));
  if (i < n) f_store_part(out + i, f_exp(f_load_part(x + i, n - i)), n - i);
}

static void f_softmax(float *x, size_t n) {
  if (n == 0) return;
  v16f largest = x[0];
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    v16f v = f_load(x + i);
    largest = v > largest ? v : largest;
  }
  float top = f_max(largest);
  for (; i < n; i++) top = x[i] > top ? x[i] : top;

  v16f sums = 0;
  for (i = 0; i + 16 <= n; i += 16) {
    v16f e = f_exp(f_load(x + i) - top);
    f_store(x + i, e);
    sums += e;
  }
  if (i < n) {
    f_store_part(x + i, f_exp(f_load_part(x + i, n - i) - top), n - i);
    sums += f_load_part(x + i, n - i);
  }
  float scale = 1.0f / f_sum(sums);
  for (i = 0; i + 16 <= n; i += 16) f_store(x + i, f_load(x + i) * scale);
  if (i < n) f_store_part(x + i, f_load_part(x + i, n - i) * scale, n - i);
}

// MARK: elementwise

CT_INLINE v16f f_silu(v16f x) { return x / (1.0f + f_exp(-x)); }

CT_INLINE v16f f_relu2(v16f x) {
  v16f positive = x > 0.0f ? x : (v16f)0.0f;
  return positive * positive;
}

static void f_silu_mul(const float *gate, const float *up, float *out, size_t n) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) f_store(out + i, f_silu(f_load(gate + i)) * f_load(up + i));
  if (i < n) f_store_part(out + i, f_silu(f_load_part(gate + i, n - i)) * f_load_part(up + i, n - i), n - i);
}

static void f_relu2_mul(const float *gate, const float *up, float *out, size_t n) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) f_store(out + i, f_relu2(f_load(gate + i)) * f_load(up + i));
  if (i < n) f_store_part(out + i, f_relu2(f_load_part(gate + i, n - i)) * f_load_part(up + i, n - i), n - i);
}

static void f_rope_half(float *x, const float *cosines, const float *sines, size_t half) {
  float *y = x + half;
  size_t i = 0;
  for (; i + 16 <= half; i += 16) {
    v16f a = f_load(x + i), b = f_load(y + i), c = f_load(cosines + i), s = f_load(sines + i);
    f_store(x + i, a * c - b * s);
    f_store(y + i, b * c + a * s);
  }
  if (i < half) {
    size_t n = half - i;
    v16f a = f_load_part(x + i, n), b = f_load_part(y + i, n);
    v16f c = f_load_part(cosines + i, n), s = f_load_part(sines + i, n);
    f_store_part(x + i, a * c - b * s, n);
    f_store_part(y + i, b * c + a * s, n);
  }
}

#define CT_FLOAT_FUNCTIONS                                                                                              \
  .dot_f32 = f_dot_f32, .dot_f16 = f_dot_f16, .dot_q8_0 = f_dot_q8_0, .axpy_f32 = f_axpy_f32, .axpy_f16 = f_axpy_f16,  \
  .f32_to_f16 = f_f32_to_f16, .f16_to_f32 = f_f16_to_f32, .rms_norm = f_rms_norm, .quantize = f_quantize,              \
  .quantize_groups = f_quantize_groups,                                                                                 \
  .softmax = f_softmax, .exp = f_exp_all, .silu_mul = f_silu_mul, .relu2_mul = f_relu2_mul, .rope_half = f_rope_half
