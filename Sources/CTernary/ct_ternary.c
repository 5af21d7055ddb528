#include "ct_ternary.h"
int ct_version(void) { return 1; }
