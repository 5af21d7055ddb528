/* System calls that Swift cannot reach: those with variable arguments. */
#if defined(__linux__)
#define _GNU_SOURCE
#endif
#include "ct_ternary.h"

#include <sys/mman.h>

bool ct_move_mapping(void *from, size_t bytes, void *to) {
#if defined(__linux__)
  return mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to;
#else
  (void)from, (void)bytes, (void)to;
  return false;
#endif
}
