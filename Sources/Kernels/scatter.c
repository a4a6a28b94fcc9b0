// Scatters of rows: apus_put and apus_scatter. Updates are sorted, stably, by the row they go to; each row is then
// brought up to date by one task, in the order of positions. No atomics, and the same bits at any thread count.
#include "apus_indexing.h"
#include "indices.h"
#include "scatter_ops.h"
#include "sorting.h"

// `count` elements, dst `stride` bytes apart, meet contiguous updates.
typedef void (*row_function)(char *dst, int64_t stride, const char *updates, int64_t count);

#define DEFINE_ROW(name, T, C, LOAD, STORE, OP)                                                     \
  static void row_##name(char *dst, int64_t stride, const char *updates, int64_t count) {          \
    if (stride == sizeof(T)) {                                                                      \
      T *restrict to = (T *)(void *)dst;                                                            \
      const T *restrict from = (const T *)(const void *)updates;                                    \
      for (int64_t i = 0; i < count; i++) {                                                         \
        C v = LOAD(to[i]), u = LOAD(from[i]);                                                       \
        (void)v;                                                                                    \
        to[i] = (T)STORE((C)(OP(v, u)));                                                            \
      }                                                                                             \
    } else {                                                                                        \
      for (int64_t i = 0; i < count; i++) {                                                         \
        T *to = (T *)(void *)(dst + i * stride);                                                    \
        C v = LOAD(*to), u = LOAD(((const T *)(const void *)updates)[i]);                           \
        (void)v;                                                                                    \
        *to = (T)STORE((C)(OP(v, u)));                                                              \
      }                                                                                             \
    }                                                                                               \
  }
APUS_PUT_CASES(DEFINE_ROW)
static const row_function row_functions[5][10] = APUS_PUT_TABLE(row);

typedef struct {
  int kind, type, size;
  row_function row;
  // A destination row: inner_rank dimensions of byte strides; lines of `width` elements, cut into blocks.
  int inner_rank;
  int64_t inner_dims[APUS_MAX_RANK], inner_strides[APUS_MAX_RANK];
  int64_t inner, width, stride, lines, block, blocks;
  // Where row `id` is: mixed radix digits of id over extents, times strides.
  int k;
  const int64_t *extents, *strides;
  char *dst;
  const char *updates;
  int64_t m;
  // Sorted updates, one of the two forms; NULL: in order of positions, ids in `ids`.
  const uint64_t *words;
  const apus_record *records;
  const int64_t *ids;
  int64_t chunks;
} scattering;

static inline int64_t row_of(const scattering *p, int64_t i) {
  return p->words ? (int64_t)(p->words[i] >> 32) : p->records ? (int64_t)p->records[i].key : p->ids[i];
}

static inline int64_t position_of(const scattering *p, int64_t i) {
  return p->words ? (int64_t)(p->words[i] & 0xffffffff) : p->records ? (int64_t)p->records[i].position : i;
}

static inline char *address_of_row(const scattering *p, int64_t id) {
  char *at = p->dst;
  for (int a = p->k - 1; a > 0; a--) {
    at += id % p->extents[a] * p->strides[a];
    id /= p->extents[a];
  }
  return at + id * p->strides[0];
}

static inline int64_t offset_of_line(const scattering *p, int64_t line) {
  int64_t offset = 0;
  for (int i = p->inner_rank - 2; i >= 0; i--) {
    offset += line % p->inner_dims[i] * p->inner_strides[i];
    line /= p->inner_dims[i];
  }
  return offset;
}

enum { HALF_BLOCK = 512 };

// All updates first..<last go to one row: elements start..<start + count of one line of it.
static void update_group(const scattering *p, int64_t first, int64_t last, char *dst, int64_t line, int64_t start, int64_t count) {
  char *to = dst + offset_of_line(p, line) + start * p->stride;
  int64_t from = (line * p->width + start) * p->size, pitch = p->inner * p->size;
  if (p->row) {
    // Of updates that merely replace, the last alone counts.
    for (int64_t i = p->kind == APUS_PUT_SET ? last - 1 : first; i < last; i++)
      p->row(to, p->stride, p->updates + position_of(p, i) * pitch + from, count);
    return;
  }
  float sums[HALF_BLOCK];
  for (int64_t done = 0; done < count; done += HALF_BLOCK) {
    int64_t n = apus_smaller(HALF_BLOCK, count - done);
    for (int64_t j = 0; j < n; j++) sums[j] = apus_load_half(to + (done + j) * p->stride, p->type);
    for (int64_t i = first; i < last; i++) {
      const char *u = p->updates + position_of(p, i) * pitch + from + done * 2;
      if (p->kind == APUS_PUT_ADD) {
        for (int64_t j = 0; j < n; j++) sums[j] += apus_load_half(u + 2 * j, p->type);
      } else {
        for (int64_t j = 0; j < n; j++) sums[j] *= apus_load_half(u + 2 * j, p->type);
      }
    }
    for (int64_t j = 0; j < n; j++) apus_store_half(to + (done + j) * p->stride, p->type, sums[j]);
  }
}

// Task: a chunk of the sorted updates (the groups that begin in it) and one block of one line of every row.
static void scatter_task(void *context, int64_t t) {
  const scattering *p = context;
  int64_t chunk = t % p->chunks, part = t / p->chunks, line = part / p->blocks, start = part % p->blocks * p->block;
  int64_t count = apus_smaller(p->block, p->width - start);
  int64_t i = apus_share(p->m, p->chunks, chunk), end = apus_share(p->m, p->chunks, chunk + 1);
  while (i > 0 && i < end && row_of(p, i) == row_of(p, i - 1)) i++;
  while (i < end) {
    int64_t row = row_of(p, i), next = i + 1;
    while (next < p->m && row_of(p, next) == row) next++;
    update_group(p, i, next, address_of_row(p, row), line, start, count);
    i = next;
  }
}

// Without sorting, by one thread, position after position: for little work, where the order of application alone
// already gives what the sorted form gives.
static void scatter_in_order(const scattering *p) {
  for (int64_t i = 0; i < p->m; i++) {
    char *row = address_of_row(p, p->ids[i]);
    for (int64_t line = 0; line < p->lines; line++)
      p->row(row + offset_of_line(p, line), p->stride, p->updates + (i * p->inner + line * p->width) * p->size, p->width);
  }
}

// Merges the inner dimensions that run on.
static void set_inner(scattering *p, int rank, const int64_t *dims, const int64_t *strides) {
  p->inner = apus_count_elements(rank, dims);
  for (int i = 0; i < rank; i++) {
    if (dims[i] == 1) continue;
    int r = p->inner_rank;
    if (r > 0 && p->inner_strides[r - 1] == dims[i] * strides[i]) p->inner_dims[--r] *= dims[i];
    else p->inner_dims[r] = dims[i];
    p->inner_strides[r] = strides[i];
    p->inner_rank = r + 1;
  }
  p->width = p->inner_rank > 0 ? p->inner_dims[p->inner_rank - 1] : 1;
  p->stride = p->inner_rank > 0 ? p->inner_strides[p->inner_rank - 1] : p->size;
  p->lines = p->width > 0 ? p->inner / p->width : 0;
}

// ids: the destination row of each update, below `rows`.
static void scatter_rows(scattering *p, const int64_t *ids, int64_t rows) {
  p->ids = ids;
  int64_t work = p->m * p->inner * p->size;
  if (p->row && work < APUS_SPLIT_BYTES) {
    scatter_in_order(p);
    return;
  }
  int bits = 64 - __builtin_clzll((unsigned long long)(rows | 1));
  bool packed = bits <= 32 && p->m <= (int64_t)UINT32_MAX;
  size_t bytes = 2 * (size_t)p->m * (packed ? sizeof(uint64_t) : sizeof(apus_record));
  void *space = apus_allocate(bytes), *scratch = (char *)space + bytes / 2;
  if (packed) {
    uint64_t *words = space;
    for (int64_t i = 0; i < p->m; i++) words[i] = (uint64_t)ids[i] << 32 | (uint64_t)i;
    apus_sort_words(words, scratch, p->m, 32, 32 + bits);
    p->words = words;
  } else {
    apus_record *records = space;
    for (int64_t i = 0; i < p->m; i++) records[i] = (apus_record){(uint64_t)ids[i], (uint64_t)i};
    apus_sort_records(records, scratch, p->m, 0, bits);
    p->records = records;
  }
  // Wide rows are cut too, so that updates which all go to one row still keep every thread busy.
  p->block = p->width >= 2048 ? 1024 : p->width;
  p->blocks = (p->width + p->block - 1) / p->block;
  int64_t parts = p->lines * p->blocks;
  p->chunks = work < APUS_SPLIT_BYTES ? 1 : apus_larger(1, apus_smaller(p->m, apus_smaller(work / APUS_SPLIT_TASK, 64) / parts));
  apus_parallel(p->chunks * parts, scatter_task, p);
  apus_deallocate(space, bytes);
}

int64_t apus_scatter(int kind, int type, int k, const int64_t *extents, const int64_t *strides, int inner_rank,
                     const int64_t *inner_dims, const int64_t *inner_strides, void *dst, const void *updates, int64_t m,
                     const void *const *indices, int index_type) {
  for (int a = 0; a < k; a++) {
    int64_t bad = apus_check_indices(m, indices[a], index_type, extents[a]);
    if (bad >= 0) return a * m + bad;
  }
  scattering p = {.kind = kind, .type = type, .size = (int)apus_type_size(type), .row = row_functions[kind][type],
                  .k = k, .extents = extents, .strides = strides, .dst = dst, .updates = updates, .m = m};
  set_inner(&p, inner_rank, inner_dims, inner_strides);
  if (m == 0 || p.inner == 0) return -1;
  int64_t *ids = apus_allocate((size_t)m * 8), width = apus_type_size(index_type);
  for (int64_t j = 0; j < m; j++) {
    int64_t id = 0;
    for (int a = 0; a < k; a++)
      id = id * extents[a] + apus_wrap(apus_index((const char *)indices[a] + j * width, index_type), extents[a]);
    ids[j] = id;
  }
  scatter_rows(&p, ids, apus_count_elements(k, extents));
  apus_deallocate(ids, (size_t)m * 8);
  return -1;
}

int64_t apus_put(int kind, int type, int64_t outer, int64_t n, int64_t m, int64_t row, void *dst, const void *indices,
                 int index_type, const void *updates) {
  int64_t bad = apus_check_indices(m, indices, index_type, n);
  if (bad >= 0) return bad;
  if (outer == 0 || m == 0 || row == 0) return -1;
  int64_t size = apus_type_size(type), width = apus_type_size(index_type), extents[2] = {outer, n}, strides[2] = {n * row * size, row * size};
  scattering p = {.kind = kind, .type = type, .size = (int)size, .row = row_functions[kind][type], .k = 2,
                  .extents = extents, .strides = strides, .dst = dst, .updates = updates, .m = outer * m};
  if (outer == 1) {
    p.k = 1;
    p.extents++;
    p.strides++;
  }
  int64_t inner_stride = size;
  set_inner(&p, 1, &row, &inner_stride);
  int64_t *ids = apus_allocate((size_t)p.m * 8);
  for (int64_t o = 0, i = 0; o < outer; o++)
    for (int64_t j = 0; j < m; j++) ids[i++] = o * n + apus_wrap(apus_index((const char *)indices + j * width, index_type), n);
  scatter_rows(&p, ids, outer * n);
  apus_deallocate(ids, (size_t)p.m * 8);
  return -1;
}
