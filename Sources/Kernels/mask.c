// Masks: where elements are not zero, and rows picked or filled by a mask.
#include "apus_indexing.h"
#include "apus_movement.h"
#include "indices.h"

enum { BLOCK = 4096 };

// Whether the element at `at` differs from zero: of floats, whether any bit but the sign is set.
#define NONZERO(T, MASK)                                                                          \
  for (int64_t i = 0; i < n; i++) {                                                               \
    T x;                                                                                          \
    __builtin_memcpy(&x, at + i * stride, sizeof x);                                              \
    flags[i] = (x & (T)(MASK)) != 0;                                                              \
  }
static void flag_nonzero(int type, int64_t n, const char *at, int64_t stride, uint8_t *flags) {
  switch (type) {
    case APUS_BOOL: case APUS_U8: case APUS_I8: NONZERO(uint8_t, 0xff) break;
    case APUS_I16: NONZERO(uint16_t, 0xffff) break;
    case APUS_I32: NONZERO(uint32_t, 0xffffffff) break;
    case APUS_I64: NONZERO(uint64_t, 0xffffffffffffffff) break;
    case APUS_F16: case APUS_BF16: NONZERO(uint16_t, 0x7fff) break;
    case APUS_F32: NONZERO(uint32_t, 0x7fffffff) break;
    case APUS_F64: NONZERO(uint64_t, 0x7fffffffffffffff) break;
  }
}

static int64_t count_flags(int64_t n, const uint8_t *flags) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; i++) count += flags[i] != 0;
  return count;
}

// Blocks of BLOCK elements in row-major order; `counts` per block, then where each block's results begin.
typedef struct {
  int type, rank;
  int64_t dims[APUS_MAX_RANK], size, count;
  const char *src;  // contiguous
  int64_t *counts, *dst;
} nonzero;

static inline int64_t block_count(int64_t count) { return (count + BLOCK - 1) / BLOCK; }

static void count_task(void *context, int64_t b) {
  const nonzero *p = context;
  uint8_t flags[BLOCK];
  int64_t n = apus_smaller(BLOCK, p->count - b * BLOCK);
  flag_nonzero(p->type, n, p->src + b * BLOCK * p->size, p->size, flags);
  p->counts[b] = count_flags(n, flags);
}

static void list_task(void *context, int64_t b) {
  const nonzero *p = context;
  uint8_t flags[BLOCK];
  int64_t n = apus_smaller(BLOCK, p->count - b * BLOCK), index[APUS_MAX_RANK], rest = b * BLOCK;
  flag_nonzero(p->type, n, p->src + b * BLOCK * p->size, p->size, flags);
  int64_t *to = p->dst + p->counts[b] * p->rank;
  if (p->rank == 1) {
    int64_t found = 0, total = count_flags(n, flags);
    for (int64_t i = 0; found < total; i++) {
      to[found] = b * BLOCK + i;
      found += flags[i];
    }
    return;
  }
  for (int i = p->rank - 1; i >= 0; i--) {
    index[i] = rest % p->dims[i];
    rest /= p->dims[i];
  }
  for (int64_t i = 0; i < n; i++) {
    if (flags[i])
      for (int d = 0; d < p->rank; d++) *to++ = index[d];
    for (int d = p->rank - 1; d >= 0 && ++index[d] == p->dims[d]; d--) index[d] = 0;
  }
}

// Counts the blocks; the source, contiguous, in *copy if it had to be made so.
static int64_t prepare(nonzero *p, int type, int rank, const int64_t *dims, const void *src, const int64_t *strides, void **copy) {
  *p = (nonzero){.type = type, .rank = rank, .size = apus_type_size(type), .count = apus_count_elements(rank, dims), .src = src};
  *copy = NULL;
  if (p->count == 0) return 0;
  if (rank > 0) memcpy(p->dims, dims, (size_t)rank * sizeof *dims);
  if (!apus_is_contiguous(rank, dims, strides, p->size)) {
    int64_t packed[APUS_MAX_RANK];
    *copy = apus_allocate((size_t)(p->count * p->size));
    apus_contiguous_strides(rank, dims, p->size, packed);
    apus_copy_strided(rank, dims, *copy, packed, src, strides, p->size);
    p->src = *copy;
  }
  int64_t blocks = block_count(p->count), total = 0;
  p->counts = apus_allocate((size_t)blocks * 8);
  apus_parallel(blocks, count_task, p);
  for (int64_t b = 0; b < blocks; b++) {
    int64_t n = p->counts[b];
    p->counts[b] = total;
    total += n;
  }
  return total;
}

static void finish(nonzero *p, void *copy) {
  if (p->counts) apus_deallocate(p->counts, (size_t)block_count(p->count) * 8);
  if (copy) apus_deallocate(copy, (size_t)(p->count * p->size));
}

int64_t apus_count_nonzero(int type, int rank, const int64_t *dims, const void *src, const int64_t *src_strides) {
  nonzero p;
  void *copy;
  int64_t total = prepare(&p, type, rank, dims, src, src_strides, &copy);
  finish(&p, copy);
  return total;
}

void apus_nonzero(int type, int rank, const int64_t *dims, const void *src, const int64_t *src_strides, int64_t *dst) {
  nonzero p;
  void *copy;
  prepare(&p, type, rank, dims, src, src_strides, &copy);
  p.dst = dst;
  if (p.count > 0 && rank > 0) apus_parallel(block_count(p.count), list_task, &p);
  finish(&p, copy);
}

// ---- Rows by mask -----------------------------------------------------------------------------------------
typedef struct {
  int64_t count, bytes;
  const uint8_t *mask;
  const char *src;
  char *dst;
  int64_t *counts;
} picking;

static void pick_count_task(void *context, int64_t b) {
  const picking *p = context;
  p->counts[b] = count_flags(apus_smaller(BLOCK, p->count - b * BLOCK), p->mask + b * BLOCK);
}

// Every element is copied, to where the next kept one will overwrite it: no branch to mispredict. The block's own last
// place is not passed, since the loop ends with the last kept element.
#define PICK(T)                                                                                   \
  for (int64_t i = b * BLOCK, left = kept; left > 0; i++) {                                       \
    __builtin_memcpy(dst, src + i * (int64_t)sizeof(T), sizeof(T));                               \
    dst += p->mask[i] ? sizeof(T) : 0;                                                            \
    left -= p->mask[i] != 0;                                                                      \
  }
static void compress_task(void *context, int64_t b) {
  const picking *p = context;
  int64_t n = apus_smaller(BLOCK, p->count - b * BLOCK), kept = count_flags(n, p->mask + b * BLOCK);
  const char *src = p->src;
  char *dst = p->dst + p->counts[b] * p->bytes;
  switch (p->bytes) {
    case 1: PICK(uint8_t) break;
    case 2: PICK(uint16_t) break;
    case 4: PICK(uint32_t) break;
    case 8: PICK(uint64_t) break;
    default:  // any other length of row
      for (int64_t i = b * BLOCK; i < b * BLOCK + n; i++) {
        if (!p->mask[i]) continue;
        memcpy(dst, src + i * p->bytes, (size_t)p->bytes);
        dst += p->bytes;
      }
      break;
  }
}

static void expand_task(void *context, int64_t b) {
  const picking *p = context;
  int64_t n = apus_smaller(BLOCK, p->count - b * BLOCK);
  const char *src = p->src + p->counts[b] * p->bytes;
  for (int64_t i = b * BLOCK; i < b * BLOCK + n; i++) {
    if (!p->mask[i]) continue;
    memcpy(p->dst + i * p->bytes, src, (size_t)p->bytes);
    src += p->bytes;
  }
}

static int64_t pick(picking *p, apus_task task) {
  int64_t blocks = block_count(p->count), total = 0;
  if (blocks == 0) return 0;
  p->counts = apus_allocate((size_t)blocks * 8);
  apus_parallel(blocks, pick_count_task, p);
  for (int64_t b = 0; b < blocks; b++) {
    int64_t n = p->counts[b];
    p->counts[b] = total;
    total += n;
  }
  if (p->bytes > 0) apus_parallel(blocks, task, p);
  apus_deallocate(p->counts, (size_t)blocks * 8);
  return total;
}

int64_t apus_compress(int64_t count, const uint8_t *mask, int64_t row_bytes, const void *src, void *dst) {
  picking p = {count, row_bytes, mask, src, dst, NULL};
  return pick(&p, compress_task);
}

int64_t apus_expand(int64_t count, const uint8_t *mask, int64_t row_bytes, const void *values, void *dst) {
  picking p = {count, row_bytes, mask, values, dst, NULL};
  return pick(&p, expand_task);
}
