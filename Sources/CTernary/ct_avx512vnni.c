/* AVX-512 VNNI without VBMI: Cascade Lake, Cooper Lake. */
#if defined(__x86_64__)

#include <immintrin.h>

#include "ct_internal.h"

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c"))), apply_to = function)

#define CT_HALF_F16C 1
#include "ct_float_body.h"
#include "ct_attention_body.h"
#include "ct_head_body.h"
#define CT_VBMI 0
#include "ct_avx512_body.h"
#include "ct_avx512_attention.h"
#include "ct_avx512_bricks.h"

#pragma clang attribute pop

const ct_kernels ct_avx512vnni_kernels = {.name = "avx512vnni", CT_TERNARY_FUNCTIONS, CT_FLOAT_FUNCTIONS, CT_ATTENTION_FUNCTIONS(avx512), CT_HEAD_FUNCTIONS(avx512), CT_BRICK_FUNCTIONS};

#endif
