// Loops over strided dimensions, shared by the movement and indexing kernels.
#ifndef APUS_STRIDED_H
#define APUS_STRIDED_H
#include "apus_base.h"
#include <string.h>

// Two operands' dimensions in loop order. dims of extent 1 are gone, neighbours that run on are merged.
typedef struct {
  int rank;
  int64_t dims[APUS_MAX_RANK], dst_strides[APUS_MAX_RANK], src_strides[APUS_MAX_RANK];
} apus_strided_pair;

static inline int64_t apus_count_elements(int rank, const int64_t *dims) {
  int64_t count = 1;
  for (int i = 0; i < rank; i++) count *= dims[i];
  return count;
}

static inline int64_t apus_magnitude(int64_t x) { return x < 0 ? -x : x; }

static inline bool apus_is_contiguous(int rank, const int64_t *dims, const int64_t *strides, int64_t element_size) {
  int64_t expected = element_size;
  for (int i = rank - 1; i >= 0; i--) {
    if (dims[i] != 1 && strides[i] != expected) return false;
    expected *= dims[i];
  }
  return true;
}

static inline void apus_contiguous_strides(int rank, const int64_t *dims, int64_t element_size, int64_t *strides) {
  for (int i = rank - 1; i >= 0; i--) {
    strides[i] = element_size;
    element_size *= dims[i];
  }
}

static inline int64_t apus_smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t apus_larger(int64_t a, int64_t b) { return a > b ? a : b; }

// The first unit of task t when `units` are shared out evenly among `tasks`.
static inline int64_t apus_share(int64_t units, int64_t tasks, int64_t t) {
  return units / tasks * t + apus_smaller(units % tasks, t);
}

#endif
