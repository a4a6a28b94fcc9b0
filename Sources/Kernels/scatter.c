// Scatters of rows: apus_put and apus_scatter. No atomics: every element is brought up to date by one task, in the order
// of positions, so how the work is shared out never shows in the bits. Sums and products of float16 and bfloat16 are
// sorted, stably, by the row they go to, so that each row is kept in float32 until it is complete.
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

// Rows of one element: those of the `m` updates whose destination, an offset in bytes, belongs to `owner` of `owners`.
typedef void (*element_function)(char *dst, const int64_t *offsets, const char *updates, int64_t m, int64_t owner, int64_t owners);

// Pages of the destination are dealt out by a hash: neither strides nor clustered indices burden one owner.
static inline __attribute__((always_inline)) int64_t owner_of(int64_t offset, int64_t owners) {
  return (int64_t)((((uint64_t)(offset >> 12) * 0x9E3779B97F4A7C15u) >> 32) * (uint64_t)owners >> 32);
}

#define DEFINE_ELEMENT(name, T, C, LOAD, STORE, OP)                                                 \
  static void element_##name(char *dst, const int64_t *offsets, const char *updates, int64_t m, int64_t owner, int64_t owners) { \
    for (int64_t i = 0; i < m; i++) {                                                               \
      if (owners > 1 && owner_of(offsets[i], owners) != owner) continue;                            \
      T *to = (T *)(void *)(dst + offsets[i]);                                                      \
      C v = LOAD(*to), u = LOAD(((const T *)(const void *)updates)[i]);                             \
      (void)v;                                                                                      \
      *to = (T)STORE((C)(OP(v, u)));                                                                \
    }                                                                                               \
  }
APUS_PUT_CASES(DEFINE_ELEMENT)
static const element_function element_functions[5][10] = APUS_PUT_TABLE(element);

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
  // Of sums and products of float16 and bfloat16: sorted updates in one of the two forms, cut into chunks.
  const uint64_t *words;
  const apus_record *records;
  int64_t chunks;
  // Else: where the rows are, in bytes; tasks share out columns, or rows by their owners.
  const int64_t *offsets;
  int64_t owners;
} scattering;

static inline int64_t row_of(const scattering *p, int64_t i) {
  return p->words ? (int64_t)(p->words[i] >> 32) : (int64_t)p->records[i].key;
}

static inline int64_t position_of(const scattering *p, int64_t i) {
  return p->words ? (int64_t)(p->words[i] & 0xffffffff) : (int64_t)p->records[i].position;
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

// float16 and bfloat16 to float32 and back, contiguous.
#if defined(__x86_64__)
typedef _Float16 halves __attribute__((ext_vector_type(8)));
typedef float floats __attribute__((ext_vector_type(8)));
__attribute__((target("avx,f16c"))) static int64_t widen_f16(const uint16_t *from, float *to, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    halves h;
    memcpy(&h, from + i, sizeof h);
    floats f = __builtin_convertvector(h, floats);
    memcpy(to + i, &f, sizeof f);
  }
  return i;
}
__attribute__((target("avx,f16c"))) static int64_t narrow_f16(const float *from, uint16_t *to, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    floats f;
    memcpy(&f, from + i, sizeof f);
    halves h = __builtin_convertvector(f, halves);
    memcpy(to + i, &h, sizeof h);
  }
  return i;
}
static bool converts_f16(void) { return apus_current_isa() != APUS_ISA_BASELINE; }
#else
static int64_t widen_f16(const uint16_t *from, float *to, int64_t n) { return (void)from, (void)to, (void)n, 0; }
static int64_t narrow_f16(const float *from, uint16_t *to, int64_t n) { return (void)from, (void)to, (void)n, 0; }
static bool converts_f16(void) { return false; }
#endif

static void load_halves(const char *at, int64_t stride, int type, float *to, int64_t n) {
  const uint16_t *from = (const uint16_t *)(const void *)at;
  if (stride != 2) {
    for (int64_t j = 0; j < n; j++) to[j] = apus_load_half(at + j * stride, type);
  } else if (type == APUS_BF16) {
    for (int64_t j = 0; j < n; j++) to[j] = apus_float_of_bf16(from[j]);
  } else {
    for (int64_t j = converts_f16() ? widen_f16(from, to, n) : 0; j < n; j++) to[j] = apus_float_of_f16(from[j]);
  }
}

static void store_halves(char *at, int64_t stride, int type, const float *from, int64_t n) {
  uint16_t *to = (uint16_t *)(void *)at;
  if (stride != 2) {
    for (int64_t j = 0; j < n; j++) apus_store_half(at + j * stride, type, from[j]);
  } else if (type == APUS_BF16) {
    for (int64_t j = 0; j < n; j++) to[j] = apus_bf16_of_float(from[j]);
  } else {
    for (int64_t j = converts_f16() ? narrow_f16(from, to, n) : 0; j < n; j++) to[j] = apus_f16_of_float(from[j]);
  }
}

// All updates first..<last go to one row: elements start..<start + count of one line of it.
static void update_group(const scattering *p, int64_t first, int64_t last, char *dst, int64_t line, int64_t start, int64_t count) {
  char *to = dst + offset_of_line(p, line) + start * p->stride;
  int64_t from = (line * p->width + start) * 2, pitch = p->inner * 2;
  float kept[HALF_BLOCK], u[HALF_BLOCK];
  for (int64_t done = 0; done < count; done += HALF_BLOCK) {
    int64_t n = apus_smaller(HALF_BLOCK, count - done);
    load_halves(to + done * p->stride, p->stride, p->type, kept, n);
    for (int64_t i = first; i < last; i++) {
      load_halves(p->updates + position_of(p, i) * pitch + from + done * 2, 2, p->type, u, n);
      if (p->kind == APUS_PUT_ADD) {
        for (int64_t j = 0; j < n; j++) kept[j] += u[j];
      } else {
        for (int64_t j = 0; j < n; j++) kept[j] *= u[j];
      }
    }
    store_halves(to + done * p->stride, p->stride, p->type, kept, n);
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

// Task: the rows of one owner, or one block of columns of every row.
static void ordered_task(void *context, int64_t t) {
  const scattering *p = context;
  if (p->inner == 1) {
    element_functions[p->kind][p->type](p->dst, p->offsets, p->updates, p->m, t, p->owners);
    return;
  }
  int64_t start = p->owners > 1 ? 0 : t * p->block, count = apus_smaller(p->block, p->width - start);
  for (int64_t i = 0; i < p->m; i++) {
    if (p->owners > 1 && owner_of(p->offsets[i], p->owners) != t) continue;
    for (int64_t line = 0; line < p->lines; line++)
      p->row(p->dst + p->offsets[i] + offset_of_line(p, line) + start * p->stride, p->stride,
             p->updates + (i * p->inner + line * p->width + start) * p->size, count);
  }
}

static void scatter_ordered(scattering *p, const int64_t *offsets) {
  p->offsets = offsets;
  p->block = p->width;
  p->owners = 1;
  int64_t tasks = 1, threads = apus_smaller(apus_thread_count(), 16);
  if (p->m * p->inner * p->size >= APUS_SPLIT_BYTES && threads > 1) {
    if (p->width >= 64 * threads) {
      p->block = (p->width / threads + 63) / 64 * 64;
      tasks = (p->width + p->block - 1) / p->block;
    } else {
      tasks = p->owners = threads;
    }
  }
  apus_parallel(tasks, ordered_task, p);
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

// ids: the destination row of each update, below `rows`. For the sums and products that are kept in float32.
static void scatter_sorted(scattering *p, const int64_t *ids, int64_t rows) {
  int64_t work = p->m * p->inner * p->size;
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
  // Offsets in bytes, or, where rows are sorted, their numbers.
  int64_t *places = apus_allocate((size_t)m * 8), width = apus_type_size(index_type);
  for (int64_t j = 0; j < m; j++) {
    int64_t place = 0;
    for (int a = 0; a < k; a++) {
      int64_t index = apus_wrap(apus_index((const char *)indices[a] + j * width, index_type), extents[a]);
      place = p.row ? place + index * strides[a] : place * extents[a] + index;
    }
    places[j] = place;
  }
  if (p.row) scatter_ordered(&p, places);
  else scatter_sorted(&p, places, apus_count_elements(k, extents));
  apus_deallocate(places, (size_t)m * 8);
  return -1;
}

int64_t apus_put(int kind, int type, int64_t outer, int64_t n, int64_t m, int64_t row, void *dst, const void *indices,
                 int index_type, const void *updates) {
  int64_t bad = apus_check_indices(m, indices, index_type, n);
  if (bad >= 0) return bad;
  if (outer == 0 || m == 0 || row == 0) return -1;
  int64_t size = apus_type_size(type), width = apus_type_size(index_type), rows = outer * n, stride = row * size;
  scattering p = {.kind = kind, .type = type, .size = (int)size, .row = row_functions[kind][type], .k = 1,
                  .extents = &rows, .strides = &stride, .dst = dst, .updates = updates, .m = outer * m};
  set_inner(&p, 1, &row, &size);
  int64_t *places = apus_allocate((size_t)p.m * 8), step = p.row ? stride : 1;
  for (int64_t o = 0, i = 0; o < outer; o++)
    for (int64_t j = 0; j < m; j++)
      places[i++] = (o * n + apus_wrap(apus_index((const char *)indices + j * width, index_type), n)) * step;
  if (p.row) scatter_ordered(&p, places);
  else scatter_sorted(&p, places, rows);
  apus_deallocate(places, (size_t)p.m * 8);
  return -1;
}
