/* Which instruction sets this processor advertises, and which of them really work. */
#include "ct_internal.h"

#include <pthread.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#if defined(__x86_64__)

/* The register sets that the operating system saves (XCR0). Only valid where CPUID says OSXSAVE. */
static uint64_t saved_state(void) {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t)high << 32 | low;
}

struct x86_sets {
  bool avx2, avx_vnni, avx512vnni, avx512vbmi;
};

static struct x86_sets detect(void) {
  struct x86_sets sets = {false, false, false, false};
  unsigned a, b, c, d, highest;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return sets;
  if (!(c & bit_OSXSAVE) || !(c & bit_AVX) || !(c & bit_F16C)) return sets;
  uint64_t state = saved_state();
  if (!__get_cpuid_count(7, 0, &highest, &b, &c, &d)) return sets;
  const uint64_t ymm = 0x6, zmm = 0xe6;
  sets.avx2 = (b & bit_AVX2) && (state & ymm) == ymm;
  sets.avx512vnni = sets.avx2 && (state & zmm) == zmm && (b & bit_AVX512F) && (b & bit_AVX512BW) && (b & bit_AVX512VL)
    && (b & bit_AVX512DQ) && (c & bit_AVX512VNNI);
  sets.avx512vbmi = sets.avx512vnni && (c & bit_AVX512VBMI);
  const unsigned avx_vnni = 1u << 4;  // of subleaf 1, EAX
  sets.avx_vnni = sets.avx2 && highest >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & avx_vnni);
  return sets;
}

#endif

size_t ct_available(const ct_kernels **list, size_t capacity) {
  const ct_kernels *found[CT_KERNELS_MAX];
  size_t count = 0;
#if defined(__x86_64__)
  struct x86_sets sets = detect();
  if (sets.avx512vbmi) found[count++] = &ct_avx512vbmi_kernels;
  if (sets.avx512vnni) found[count++] = &ct_avx512vnni_kernels;
  if (sets.avx_vnni) found[count++] = &ct_avx_vnni_kernels;
  if (sets.avx2) found[count++] = &ct_avx2_kernels;
#elif defined(__aarch64__)
#if defined(__linux__)
  const unsigned long asimddp = 1ul << 20, i8mm = 1ul << 13;  // HWCAP_ASIMDDP, HWCAP2_I8MM
  const bool dotprod = getauxval(AT_HWCAP) & asimddp;
  if (dotprod && getauxval(AT_HWCAP2) & i8mm) found[count++] = &ct_neon_i8mm_kernels;
  if (dotprod) found[count++] = &ct_neon_dotprod_kernels;
#endif
  found[count++] = &ct_neon_kernels;
#endif
  found[count++] = &ct_scalar_kernels;
  for (size_t i = 0; i < count && i < capacity; i++) list[i] = found[i];
  return count;
}

const ct_kernels *ct_select(const char *name) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  static enum { unknown, works, fails } states[CT_KERNELS_MAX];

  const ct_kernels *list[CT_KERNELS_MAX];
  size_t count = ct_available(list, CT_KERNELS_MAX);
  const ct_kernels *chosen = NULL;
  pthread_mutex_lock(&mutex);
  for (size_t i = 0; i < count && chosen == NULL; i++) {
    if (name != NULL && strcmp(name, list[i]->name) != 0) continue;
    if (states[i] == unknown) states[i] = ct_self_test(list[i]) ? works : fails;
    if (states[i] == works) chosen = list[i];
  }
  pthread_mutex_unlock(&mutex);
  return chosen;
}
