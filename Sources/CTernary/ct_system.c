/* System calls that Swift cannot reach: those with variable arguments, and those that glibc has for GNU programs only. */
#if defined(__linux__)
#define _GNU_SOURCE
#endif
#include "ct_ternary.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

bool ct_move_mapping(void *from, size_t bytes, void *to) {
#if defined(__linux__)
  return mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to;
#else
  (void)from, (void)bytes, (void)to;
  return false;
#endif
}

int ct_usable_cores(void) {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return CPU_COUNT(&allowed);
#endif
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  return cores < 1 ? 1 : (int)cores;
}
