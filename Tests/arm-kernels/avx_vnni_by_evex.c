/* The AVX-VNNI path with its two new instructions encoded as AVX-512 has them, so that processors without AVX-VNNI can test all but the encoding. */
#if defined(__x86_64__)

#include <immintrin.h>

#include "ct_internal.h"

#pragma clang attribute push(__attribute__((target("avx2,avx512vl,avx512vnni,f16c"))), apply_to = function)

#define CT_HALF_F16C 1
#include "ct_float_body.h"
#include "ct_attention_body.h"
#include "ct_head_body.h"
#define CT_AVX_VNNI 1
#define _mm256_dpbusd_avx_epi32 _mm256_dpbusd_epi32
#define _mm256_dpwssd_avx_epi32 _mm256_dpwssd_epi32
#include "ct_avx2_body.h"
#include "ct_avx2_attention.h"
#include "ct_avx2_bricks.h"

#pragma clang attribute pop

extern const ct_kernels ct_avx_vnni_by_evex;
const ct_kernels ct_avx_vnni_by_evex = {.name = "avx_vnni by evex", CT_TERNARY_FUNCTIONS, CT_FLOAT_FUNCTIONS, CT_ATTENTION_FUNCTIONS(avx2), CT_HEAD_FUNCTIONS(avx2), CT_BRICK_FUNCTIONS};

#endif
