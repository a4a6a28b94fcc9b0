// Reading and checking of index operands, shared by gathers and scatters.
#ifndef APUS_INDICES_H
#define APUS_INDICES_H
#include "strided.h"

enum { APUS_SPLIT_BYTES = 128 << 10, APUS_SPLIT_TASK = 32 << 10, APUS_SPLIT_MOST = 64 };

// Into how many tasks work on so many bytes is cut, `units` being the most it can be cut into.
static inline int64_t apus_split(int64_t units, int64_t bytes) {
  if (bytes < APUS_SPLIT_BYTES) return units > 0 ? 1 : 0;
  return apus_smaller(apus_smaller(units, bytes / APUS_SPLIT_TASK), APUS_SPLIT_MOST);
}

static inline int64_t apus_index(const char *at, int type) {
  if (type == APUS_I64) {
    int64_t i;
    __builtin_memcpy(&i, at, 8);
    return i;
  }
  int32_t i;
  __builtin_memcpy(&i, at, 4);
  return i;
}

// An index that has been checked, counted from the start.
static inline int64_t apus_wrap(int64_t index, int64_t n) { return index < 0 ? index + n : index; }

// The position of the first of `count` indices outside -n..<n, or -1.
int64_t apus_check_indices(int64_t count, const void *indices, int type, int64_t n);
// The same for strided indices.
int64_t apus_check_strided_indices(int rank, const int64_t *dims, const int64_t *strides, const void *indices, int type, int64_t n);

#endif
