/* Weights in blocks of GGUF types as single values and as rows of floats. Formats: docs/kernels.md, "Head" and "Bricks". */
#include "ct_internal.h"

#include <string.h>

#pragma STDC FP_CONTRACT OFF

/* Halves are exact in float: exponent and mantissa moved to a float's places make a number 2^112 too small, subnormals included. */
static float half_at(const uint8_t *p) {
  uint32_t half = (uint32_t)p[0] | (uint32_t)p[1] << 8, magnitude = half & 0x7fff;
  uint32_t bits = magnitude << 13 | (magnitude >= 0x7c00 ? 0x7f800000u : 0);
  float value;
  memcpy(&value, &bits, sizeof value);
  if (magnitude < 0x7c00) value *= 0x1p112f;
  return half & 0x8000 ? -value : value;
}

/* Powers of two: 2^(e - 128), subnormal for the two smallest. */
static float exponent_at(const uint8_t *p) {
  uint32_t bits = *p < 2 ? 0x00200000u << *p : (uint32_t)(*p - 1) << 23;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

float ct_brick_scale(ct_brick_kind kind, const uint8_t *place) { return kind == CT_BRICK_MXFP4 ? exponent_at(place) : half_at(place); }

int ct_iq4_nl_value(const uint8_t *block, size_t i) {
  static const int8_t codebook[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  int byte = block[2 + i % 16];
  return codebook[i < 16 ? byte % 16 : byte / 16];
}

/* Each half of 128 values has 64 bytes of low bits and 32 bytes of high bits. Quarters of 32 values: low nibbles of bytes 0..31, low
 * nibbles of 32..63, then their high nibbles; quarter t has its high bits at bits 2t, 2t+1 of the 32 bytes. */
int ct_q6_k_value(const uint8_t *block, size_t i) {
  size_t half = i / 128, quarter = i % 128 / 32, l = i % 32;
  int low = block[64 * half + quarter % 2 * 32 + l];
  int high = block[128 + 32 * half + l];
  static const int divisor[4] = {1, 4, 16, 64};
  return (quarter < 2 ? low % 16 : low / 16) + high / divisor[quarter] % 4 * 16 - 32;
}

void ct_unpack_q8_0(const void *row, float *out, size_t n) {
  const uint8_t *block = row;
  for (size_t i = 0; i < n; i += 32, block += 34) {
    float d = half_at(block);
    for (size_t j = 0; j < 32; j++) out[i + j] = (float)(int8_t)block[2 + j] * d;
  }
}

void ct_unpack_q6_k(const void *row, float *out, size_t n) {
  const uint8_t *block = row;
  for (size_t i = 0; i < n; i += 256, block += 210) {
    float d = half_at(block + 208);
    for (size_t j = 0; j < 256; j++) {
      // Exact: 11 bits of d, 7 of the scale, 5 of the weight (or powers of two).
      out[i + j] = (float)(ct_q6_k_value(block, j) * (int8_t)block[192 + j / 16]) * d;
    }
  }
}

void ct_unpack_iq4_nl(const void *row, float *out, size_t n) {
  const uint8_t *block = row;
  for (size_t i = 0; i < n; i += 32, block += 18) {
    float d = half_at(block);
    for (size_t j = 0; j < 32; j++) out[i + j] = (float)ct_iq4_nl_value(block, j) * d;
  }
}

size_t ct_head_bytes(size_t n) {
  size_t groups = n / ct_head_group + (n % ct_head_group != 0), bytes;
  return __builtin_mul_overflow(groups, (size_t)ct_head_group_bytes, &bytes) ? 0 : bytes;
}
