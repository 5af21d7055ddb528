/* Where int8 keys and values lie. Formulas: include/ct_ternary.h. */
#include "ct_internal.h"

#include <string.h>

void ct_key_store(const int8_t *q, int8_t *keys, size_t position, size_t head_size) {
  int8_t *place = keys + position / 16 * 16 * head_size + position % 16 * 4;
  for (size_t d = 0; d < head_size; d += 4, place += 64) memcpy(place, q + d, 4);
}

void ct_value_store(const int8_t *q, int8_t *values, size_t position, size_t head_size) {
  int8_t *place = values + position / 2 * 2 * head_size + position % 2;
  for (size_t d = 0; d < head_size; d++) place[2 * d] = q[d];
}
