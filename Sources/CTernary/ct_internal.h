/* What the files of this module know of each other. */
#pragma once

#include "ct_ternary.h"

extern const ct_kernels ct_scalar_kernels;
#if defined(__x86_64__)
extern const ct_kernels ct_avx2_kernels;
extern const ct_kernels ct_avx512vnni_kernels;
#endif
#if defined(__aarch64__)
extern const ct_kernels ct_neon_kernels;
extern const ct_kernels ct_neon_dotprod_kernels;
#endif

enum { ct_unit_bytes = 64, ct_unit_rows = 16, ct_unit_columns = 16 };

#define CT_INLINE static inline __attribute__((always_inline))
