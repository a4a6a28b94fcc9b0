// Stable sort, topK and binary search. Every type is mapped to an unsigned key of the same order: NaN greatest, -0 = +0.
#include "apus_indexing.h"
#include "apus_movement.h"
#include "indices.h"
#include "sorting.h"

static inline __attribute__((always_inline)) uint64_t float_key(uint64_t bits, int width, uint64_t infinity) {
  uint64_t sign = (uint64_t)1 << (width - 1), all = sign | (sign - 1);
  if ((bits & ~sign) > infinity) return all;
  if (bits == sign) return sign;
  return bits & sign ? ~bits & all : bits | sign;
}

#define DEFINE_KEY(NAME, T, EXPRESSION)                                                         \
  static inline __attribute__((always_inline)) uint64_t key_##NAME(const char *at) {            \
    T x;                                                                                        \
    __builtin_memcpy(&x, at, sizeof x);                                                         \
    return EXPRESSION;                                                                          \
  }
DEFINE_KEY(bool, uint8_t, x != 0)
DEFINE_KEY(u8, uint8_t, x)
DEFINE_KEY(i8, uint8_t, x ^ 0x80u)
DEFINE_KEY(i16, uint16_t, x ^ 0x8000u)
DEFINE_KEY(i32, uint32_t, x ^ 0x80000000u)
DEFINE_KEY(i64, uint64_t, x ^ 0x8000000000000000u)
DEFINE_KEY(f16, uint16_t, float_key(x, 16, 0x7c00))
DEFINE_KEY(bf16, uint16_t, float_key(x, 16, 0x7f80))
DEFINE_KEY(f32, uint32_t, float_key(x, 32, 0x7f800000))
DEFINE_KEY(f64, uint64_t, float_key(x, 64, 0x7ff0000000000000))

// One case per type; KEY_CASES(M) is M(name, size) for each.
#define KEY_CASES(M)                                                                            \
  case APUS_BOOL: M(bool, 1) break;                                                             \
  case APUS_U8: M(u8, 1) break;                                                                 \
  case APUS_I8: M(i8, 1) break;                                                                 \
  case APUS_I16: M(i16, 2) break;                                                               \
  case APUS_I32: M(i32, 4) break;                                                               \
  case APUS_I64: M(i64, 8) break;                                                               \
  case APUS_F16: M(f16, 2) break;                                                               \
  case APUS_BF16: M(bf16, 2) break;                                                             \
  case APUS_F32: M(f32, 4) break;                                                               \
  case APUS_F64: M(f64, 8) break;

typedef struct {
  int type;
  bool descending, packed;  // packed: key << 32 | position in one word
  int64_t lines, n, k, tasks;
  const char *src;     // [lines, n]
  char *values;        // [lines, k] or NULL
  int64_t *indices;    // [lines, k] or NULL
} sorting;

static inline int key_bits(int type) { return (int)(8 * apus_type_size(type)); }

// The keys of a line, complemented for descending order: in either case the smallest come first and, positions
// ascending, equal ones keep their order.
static void load_words(const sorting *p, const char *line, uint64_t *words) {
  uint64_t flip = p->descending ? ((uint64_t)1 << key_bits(p->type)) - 1 : 0;
#define LOAD(NAME, SIZE)                                                                        \
  for (int64_t i = 0; i < p->n; i++) words[i] = (key_##NAME(line + i * SIZE) ^ flip) << 32 | (uint64_t)i;
  switch (p->type) { KEY_CASES(LOAD) }
#undef LOAD
}

static void load_records(const sorting *p, const char *line, apus_record *records) {
  uint64_t flip = p->descending ? ~(uint64_t)0 >> (64 - key_bits(p->type)) : 0;
#define LOAD(NAME, SIZE)                                                                        \
  for (int64_t i = 0; i < p->n; i++) records[i] = (apus_record){key_##NAME(line + i * SIZE) ^ flip, (uint64_t)i};
  switch (p->type) { KEY_CASES(LOAD) }
#undef LOAD
}

// The k smallest words of a line, in order, for k much smaller than n: candidates below the best k-th so far are
// collected and cut back to k when the buffer is full. Equal keys that come later never displace earlier ones.
#define SELECT(NAME, SIZE)                                                                      \
  for (int64_t i = 0; i < p->n; i++) {                                                          \
    uint64_t word = (key_##NAME(line + i * SIZE) ^ flip) << 32 | (uint64_t)i;                   \
    if (word >= limit) continue;                                                                \
    words[held++] = word;                                                                       \
    if (held == capacity) {                                                                     \
      apus_sort_words(words, scratch, held, 32, 32 + key_bits(p->type));                        \
      held = p->k;                                                                              \
      limit = words[held - 1];                                                                  \
    }                                                                                           \
  }
static void select_words(const sorting *p, const char *line, uint64_t *words, uint64_t *scratch, int64_t capacity) {
  uint64_t flip = p->descending ? ((uint64_t)1 << key_bits(p->type)) - 1 : 0, limit = ~(uint64_t)0;
  int64_t held = 0;
  switch (p->type) { KEY_CASES(SELECT) }
  apus_sort_words(words, scratch, held, 32, 32 + key_bits(p->type));
}
#undef SELECT

#define SELECT(NAME, SIZE)                                                                      \
  for (int64_t i = 0; i < p->n; i++) {                                                          \
    uint64_t key = key_##NAME(line + i * SIZE) ^ flip;                                          \
    if (limited && key >= limit) continue;                                                      \
    records[held++] = (apus_record){key, (uint64_t)i};                                          \
    if (held == capacity) {                                                                     \
      apus_sort_records(records, scratch, held, 0, key_bits(p->type));                          \
      held = p->k;                                                                              \
      limit = records[held - 1].key;                                                            \
      limited = true;                                                                           \
    }                                                                                           \
  }
static void select_records(const sorting *p, const char *line, apus_record *records, apus_record *scratch, int64_t capacity) {
  uint64_t flip = p->descending ? ~(uint64_t)0 >> (64 - key_bits(p->type)) : 0, limit = 0;
  bool limited = false;
  int64_t held = 0;
  switch (p->type) { KEY_CASES(SELECT) }
  apus_sort_records(records, scratch, held, 0, key_bits(p->type));
}
#undef SELECT

#define STORE(POSITION)                                                                         \
  for (int64_t i = 0; i < p->k; i++) {                                                          \
    int64_t position = (int64_t)(POSITION);                                                     \
    if (indices) indices[i] = position;                                                         \
    switch (size * (values != NULL)) {                                                          \
      case 1: values[i] = line[position]; break;                                                \
      case 2: __builtin_memcpy(values + 2 * i, line + 2 * position, 2); break;                  \
      case 4: __builtin_memcpy(values + 4 * i, line + 4 * position, 4); break;                  \
      case 8: __builtin_memcpy(values + 8 * i, line + 8 * position, 8); break;                  \
    }                                                                                           \
  }

static void sort_task(void *context, int64_t t) {
  const sorting *p = context;
  int64_t size = apus_type_size(p->type);
  bool few = p->k <= p->n / 8;
  int64_t capacity = few ? apus_larger(4 * p->k, 64) : p->n;
  if (capacity >= p->n) {
    capacity = p->n;
    few = false;
  }
  size_t record = p->packed ? sizeof(uint64_t) : sizeof(apus_record), bytes = 2 * (size_t)capacity * record;
  void *space = apus_allocate(bytes), *scratch = (char *)space + bytes / 2;
  for (int64_t row = apus_share(p->lines, p->tasks, t); row < apus_share(p->lines, p->tasks, t + 1); row++) {
    const char *line = p->src + row * p->n * size;
    char *values = p->values ? p->values + row * p->k * size : NULL;
    int64_t *indices = p->indices ? p->indices + row * p->k : NULL;
    if (p->packed) {
      uint64_t *words = space;
      if (few) {
        select_words(p, line, words, scratch, capacity);
      } else {
        load_words(p, line, words);
        apus_sort_words(words, scratch, p->n, 32, 32 + key_bits(p->type));
      }
      STORE(words[i] & 0xffffffff)
    } else {
      apus_record *records = space;
      if (few) {
        select_records(p, line, records, scratch, capacity);
      } else {
        load_records(p, line, records);
        apus_sort_records(records, scratch, p->n, 0, key_bits(p->type));
      }
      STORE(records[i].position)
    }
  }
  apus_deallocate(space, bytes);
}

void apus_top_k(int type, int rank, const int64_t *dims, int axis, int64_t k, const void *src, const int64_t *src_strides,
                void *values, int64_t *indices, bool largest) {
  int64_t count = apus_count_elements(rank, dims), n = dims[axis], size = apus_type_size(type);
  if (count == 0 || k == 0) return;
  int64_t lines = count / n;
  // The axis is brought to the end, where it is not.
  int64_t order[APUS_MAX_RANK], in_dims[APUS_MAX_RANK], in_strides[APUS_MAX_RANK], line_strides[APUS_MAX_RANK];
  int filled = 0;
  for (int i = 0; i < rank; i++) if (i != axis) order[filled++] = i;
  order[filled] = axis;
  bool moved = false;
  for (int i = axis + 1; i < rank; i++) moved |= dims[i] != 1;
  for (int i = 0; i < rank; i++) {
    in_dims[i] = dims[order[i]];
    in_strides[i] = src_strides[order[i]];
  }
  char *copy = NULL;
  if (!apus_is_contiguous(rank, in_dims, in_strides, size)) {
    copy = apus_allocate((size_t)(count * size));
    apus_contiguous_strides(rank, in_dims, size, line_strides);
    apus_copy_strided(rank, in_dims, copy, line_strides, src, in_strides, size);
    src = copy;
  }
  int64_t out_count = lines * k;
  char *line_values = values;
  int64_t *line_indices = indices;
  if (moved && values) line_values = apus_allocate((size_t)(out_count * size));
  if (moved && indices) line_indices = apus_allocate((size_t)out_count * 8);

  sorting p = {type, largest, size <= 4 && n <= (int64_t)UINT32_MAX, lines, n, k, 1, src, line_values, line_indices};
  // Few long lines are sorted one after another, each in parallel inside.
  p.tasks = n >= 1 << 18 && k > n / 8 && lines < 8 ? 1 : apus_split(lines, count * 16);
  apus_parallel(p.tasks, sort_task, &p);

  if (copy) apus_deallocate(copy, (size_t)(count * size));
  if (!moved) return;
  int64_t out_dims[APUS_MAX_RANK], out_strides[APUS_MAX_RANK], permuted[APUS_MAX_RANK], element = size;
  memcpy(out_dims, dims, (size_t)rank * sizeof *dims);
  out_dims[axis] = k;
  in_dims[rank - 1] = k;
  for (int pass = 0; pass < 2; pass++, element = 8) {
    void *to = pass ? (void *)indices : values, *from = pass ? (void *)line_indices : line_values;
    if (!to) continue;
    apus_contiguous_strides(rank, in_dims, element, line_strides);
    apus_contiguous_strides(rank, out_dims, element, out_strides);
    for (int i = 0; i < rank; i++) permuted[i] = out_strides[order[i]];
    apus_copy_strided(rank, in_dims, to, permuted, from, line_strides, element);
    apus_deallocate(from, (size_t)(out_count * element));
  }
}

void apus_sort(int type, int rank, const int64_t *dims, int axis, const void *src, const int64_t *src_strides, void *values,
               int64_t *indices, bool descending) {
  apus_top_k(type, rank, dims, axis, dims[axis], src, src_strides, values, indices, descending);
}

// ---- Binary search ----------------------------------------------------------------------------------------
typedef struct {
  int type;
  int64_t rows, sorted_rows, n, m, tasks;
  const char *sorted, *values;
  int64_t *dst;
  bool right;
} searching;

// The answer is kept within low...low + length; `right` asks for key(element) <= key(value), that is < key + 1.
#define SEARCH(NAME, SIZE)                                                                      \
  for (int64_t i = first; i < last; i++) {                                                      \
    const char *row = p->sorted_rows == 1 ? p->sorted : p->sorted + i / p->m * p->n * SIZE;     \
    uint64_t key = key_##NAME(p->values + i * SIZE);                                            \
    int64_t low = 0, length = p->n;                                                             \
    while (length > 0) {                                                                        \
      int64_t half = length / 2;                                                                \
      uint64_t probe = key_##NAME(row + (low + half) * SIZE);                                   \
      bool after = p->right ? probe <= key : probe < key;                                       \
      low = after ? low + half + 1 : low;                                                       \
      length = after ? length - half - 1 : half;                                                \
    }                                                                                           \
    p->dst[i] = low;                                                                            \
  }

static void search_task(void *context, int64_t t) {
  const searching *p = context;
  int64_t count = p->rows * p->m, first = apus_share(count, p->tasks, t), last = apus_share(count, p->tasks, t + 1);
  switch (p->type) { KEY_CASES(SEARCH) }
}

void apus_search_sorted(int type, int64_t rows, int64_t sorted_rows, int64_t n, const void *sorted, int64_t m,
                        const void *values, int64_t *dst, bool right) {
  searching p = {type, rows, sorted_rows, n, m, apus_split(rows * m, rows * m * 16), sorted, values, dst, right};
  apus_parallel(p.tasks, search_task, &p);
}
