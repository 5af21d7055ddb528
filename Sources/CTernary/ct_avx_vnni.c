/* AVX2 with AVX-VNNI: Alder Lake and later, Zen 5. */
#if defined(__x86_64__)

#include <immintrin.h>

#include "ct_internal.h"

#pragma clang attribute push(__attribute__((target("avx2,avxvnni,f16c"))), apply_to = function)

#define CT_HALF_F16C 1
#include "ct_float_body.h"
#include "ct_attention_body.h"
#include "ct_head_body.h"
#define CT_AVX_VNNI 1
#include "ct_avx2_body.h"
#include "ct_avx2_attention.h"
#include "ct_avx2_bricks.h"

#pragma clang attribute pop

const ct_kernels ct_avx_vnni_kernels = {.name = "avx_vnni", CT_TERNARY_FUNCTIONS, CT_FLOAT_FUNCTIONS, CT_ATTENTION_FUNCTIONS(avx2), CT_HEAD_FUNCTIONS(avx2), CT_BRICK_FUNCTIONS};

#endif
