// Gathers: rows of one dimension, elements along an axis, and NumPy's several index arrays.
#include "apus_indexing.h"
#include "apus_movement.h"
#include "indices.h"

// ---- Checking -----------------------------------------------------------------------------------------
#define DEFINE_CHECK(T, U)                                                                        \
  static int64_t check_##T(int64_t count, const T *indices, int64_t n) {                         \
    /* index + n as unsigned is below 2n just if -n <= index < n. An extent beyond the index type bounds nothing. */ \
    U half = n > (int64_t)(((U)~(U)0) >> 1) ? (U)((((U)~(U)0) >> 1)) : (U)n;                      \
    for (int64_t i = 0; i < count;) {                                                             \
      int64_t end = apus_smaller(count, i + 256);                                                 \
      U bad = 0;                                                                                  \
      for (int64_t j = i; j < end; j++) bad |= (U)((U)indices[j] + half >= (U)(2 * half));        \
      if (bad) {                                                                                  \
        for (; i < end; i++) if (indices[i] < -n || indices[i] >= n) return i;                    \
      }                                                                                           \
      i = end;                                                                                    \
    }                                                                                             \
    return -1;                                                                                    \
  }
DEFINE_CHECK(int32_t, uint32_t)
DEFINE_CHECK(int64_t, uint64_t)

int64_t apus_check_indices(int64_t count, const void *indices, int type, int64_t n) {
  return type == APUS_I64 ? check_int64_t(count, indices, n) : check_int32_t(count, indices, n);
}

int64_t apus_check_strided_indices(int rank, const int64_t *dims, const int64_t *strides, const void *indices, int type, int64_t n) {
  int64_t count = apus_count_elements(rank, dims), size = apus_type_size(type);
  if (apus_is_contiguous(rank, dims, strides, size)) return apus_check_indices(count, indices, type, n);
  int64_t width = rank > 0 ? dims[rank - 1] : 1, step = rank > 0 ? strides[rank - 1] : 0;
  for (int64_t row = 0; row * width < count; row++) {
    const char *at = indices;
    int64_t rest = row;
    for (int i = rank - 2; i >= 0; i--) {
      at += rest % dims[i] * strides[i];
      rest /= dims[i];
    }
    for (int64_t j = 0; j < width; j++) {
      int64_t index = apus_index(at + j * step, type);
      if (index < -n || index >= n) return row * width + j;
    }
  }
  return -1;
}

// ---- Rows -----------------------------------------------------------------------------------------------
static inline __attribute__((always_inline)) void copy_row(char *dst, const char *src, int64_t bytes) {
  if (bytes > 256) {
    memcpy(dst, src, (size_t)bytes);
  } else if (bytes >= 16) {
    char v[16];
    for (int64_t i = 0; i < bytes - 16; i += 16) {
      __builtin_memcpy(v, src + i, 16);
      __builtin_memcpy(dst + i, v, 16);
    }
    __builtin_memcpy(v, src + bytes - 16, 16);
    __builtin_memcpy(dst + bytes - 16, v, 16);
  } else if (bytes >= 4) {
    uint32_t v, tail;
    __builtin_memcpy(&tail, src + bytes - 4, 4);
    for (int64_t i = 0; i < bytes - 4; i += 4) {
      __builtin_memcpy(&v, src + i, 4);
      __builtin_memcpy(dst + i, &v, 4);
    }
    __builtin_memcpy(dst + bytes - 4, &tail, 4);
  } else {
    for (int64_t i = 0; i < bytes; i++) dst[i] = src[i];
  }
}

typedef struct {
  int64_t outer, n, m, bytes, tasks;
  char *dst;
  const char *src, *indices;
  int type;
} take;

static inline __attribute__((always_inline)) void take_rows(const take *p, int64_t first, int64_t last, int64_t bytes) {
  int64_t width = apus_type_size(p->type);
  int64_t o = first / p->m, j = first % p->m;
  const char *src = p->src + o * p->n * bytes;
  for (int64_t i = first; i < last; i++) {
    int64_t index = apus_wrap(apus_index(p->indices + j * width, p->type), p->n);
    copy_row(p->dst + i * bytes, src + index * bytes, bytes);
    if (++j == p->m) {
      j = 0;
      src += p->n * bytes;
    }
  }
}

static void take_task(void *context, int64_t t) {
  const take *p = context;
  int64_t rows = p->outer * p->m, first = apus_share(rows, p->tasks, t), last = apus_share(rows, p->tasks, t + 1);
  switch (p->bytes) {
    case 1: take_rows(p, first, last, 1); break;
    case 2: take_rows(p, first, last, 2); break;
    case 4: take_rows(p, first, last, 4); break;
    case 8: take_rows(p, first, last, 8); break;
    case 16: take_rows(p, first, last, 16); break;
    default: take_rows(p, first, last, p->bytes); break;  // any other length of row
  }
}

int64_t apus_take(int64_t outer, int64_t n, int64_t m, int64_t row_bytes, void *dst, const void *src, const void *indices,
                  int index_type) {
  int64_t bad = apus_check_indices(m, indices, index_type, n);
  if (bad >= 0) return bad;
  if (row_bytes == 0) return -1;
  take p = {outer, n, m, row_bytes, apus_split(outer * m, outer * m * (row_bytes + 4)), dst, src, indices, index_type};
  apus_parallel(p.tasks, take_task, &p);
  return -1;
}

// ---- Along an axis ----------------------------------------------------------------------------------------
// The axis position moves dst and indices only: in the loops its src stride is zero, and the index times
// axis_stride is added instead. So all dimensions are alike and neighbours can be merged.
typedef struct {
  int rank;
  int64_t dims[APUS_MAX_RANK], dst_strides[APUS_MAX_RANK], src_strides[APUS_MAX_RANK], index_strides[APUS_MAX_RANK];
  int64_t axis_stride, axis_size, blocks, block, units, tasks;
  int size, type;
  char *dst;
  const char *src, *indices;
} along;

#define TAKE_LINE(T, I)                                                                          \
  for (int64_t j = 0; j < n; j++) {                                                              \
    I index;                                                                                     \
    T value;                                                                                     \
    __builtin_memcpy(&index, at + j * is, sizeof index);                                         \
    __builtin_memcpy(&value, src + apus_wrap(index, p->axis_size) * p->axis_stride + j * ss, sizeof value); \
    __builtin_memcpy(dst + j * ds, &value, sizeof value);                                        \
  }

static void take_along_task(void *context, int64_t t) {
  const along *p = context;
  int last = p->rank - 1;
  int64_t ds = p->dst_strides[last], ss = p->src_strides[last], is = p->index_strides[last];
  for (int64_t unit = apus_share(p->units, p->tasks, t); unit < apus_share(p->units, p->tasks, t + 1); unit++) {
    int64_t rest = unit / p->blocks, start = unit % p->blocks * p->block, n = apus_smaller(p->block, p->dims[last] - start);
    char *dst = p->dst + start * ds;
    const char *src = p->src + start * ss, *at = p->indices + start * is;
    for (int i = last - 1; i >= 0; i--) {
      int64_t index = rest % p->dims[i];
      rest /= p->dims[i];
      dst += index * p->dst_strides[i];
      src += index * p->src_strides[i];
      at += index * p->index_strides[i];
    }
    bool wide = p->type == APUS_I64;
    switch (p->size) {
      case 1: if (wide) TAKE_LINE(uint8_t, int64_t) else TAKE_LINE(uint8_t, int32_t) break;
      case 2: if (wide) TAKE_LINE(uint16_t, int64_t) else TAKE_LINE(uint16_t, int32_t) break;
      case 4: if (wide) TAKE_LINE(uint32_t, int64_t) else TAKE_LINE(uint32_t, int32_t) break;
      case 8: if (wide) TAKE_LINE(uint64_t, int64_t) else TAKE_LINE(uint64_t, int32_t) break;
    }
  }
}

int64_t apus_take_along(int rank, const int64_t *dims, int axis, int64_t axis_size, void *dst, const int64_t *dst_strides,
                        const void *src, const int64_t *src_strides, int64_t element_size, const void *indices,
                        const int64_t *index_strides, int index_type) {
  int64_t count = apus_count_elements(rank, dims);
  if (count == 0) return -1;
  int64_t bad = apus_check_strided_indices(rank, dims, index_strides, indices, index_type, axis_size);
  if (bad >= 0) return bad;
  along p = {.axis_stride = src_strides[axis], .axis_size = axis_size, .size = (int)element_size, .type = index_type,
             .dst = dst, .src = src, .indices = indices};
  for (int i = 0; i < rank; i++) {
    if (dims[i] == 1) continue;
    int64_t n = dims[i], d = dst_strides[i], s = i == axis ? 0 : src_strides[i], x = index_strides[i];
    int k = p.rank;
    if (k > 0 && p.dst_strides[k - 1] == n * d && p.src_strides[k - 1] == n * s && p.index_strides[k - 1] == n * x) {
      p.dims[--k] *= n;
    } else {
      p.dims[k] = n;
    }
    p.dst_strides[k] = d;
    p.src_strides[k] = s;
    p.index_strides[k] = x;
    p.rank = k + 1;
  }
  if (p.rank == 0) {
    p.dims[0] = 1;
    p.rank = 1;
  }
  p.block = 8192;
  p.blocks = (p.dims[p.rank - 1] + p.block - 1) / p.block;
  p.units = count / p.dims[p.rank - 1] * p.blocks;
  p.tasks = apus_split(p.units, count * (element_size + 4));
  apus_parallel(p.tasks, take_along_task, &p);
  return -1;
}

// ---- Several index arrays ---------------------------------------------------------------------------------
typedef struct {
  int k, inner_rank, type;
  const int64_t *extents, *strides, *inner_dims, *inner_strides;
  int64_t inner, size, m, tasks;
  bool contiguous;
  char *dst;
  const char *src;
  const void *const *indices;
} gather;

static inline __attribute__((always_inline)) void gather_rows(const gather *p, int64_t first, int64_t last, int64_t bytes) {
  int64_t width = apus_type_size(p->type), out_strides[APUS_MAX_RANK];
  apus_contiguous_strides(p->inner_rank, p->inner_dims, p->size, out_strides);
  for (int64_t j = first; j < last; j++) {
    const char *src = p->src;
    for (int a = 0; a < p->k; a++)
      src += apus_wrap(apus_index((const char *)p->indices[a] + j * width, p->type), p->extents[a]) * p->strides[a];
    if (p->contiguous) {
      copy_row(p->dst + j * bytes, src, bytes);
    } else {
      apus_copy_strided(p->inner_rank, p->inner_dims, p->dst + j * bytes, out_strides, src, p->inner_strides, p->size);
    }
  }
}

static void gather_task(void *context, int64_t t) {
  const gather *p = context;
  int64_t first = apus_share(p->m, p->tasks, t), last = apus_share(p->m, p->tasks, t + 1), bytes = p->inner * p->size;
  if (p->contiguous && bytes == 4) gather_rows(p, first, last, 4);
  else if (p->contiguous && bytes == 8) gather_rows(p, first, last, 8);
  else gather_rows(p, first, last, bytes);
}

int64_t apus_gather(int k, const int64_t *extents, const int64_t *strides, int inner_rank, const int64_t *inner_dims,
                    const int64_t *inner_strides, const void *src, void *dst, int64_t element_size, int64_t m,
                    const void *const *indices, int index_type) {
  for (int a = 0; a < k; a++) {
    int64_t bad = apus_check_indices(m, indices[a], index_type, extents[a]);
    if (bad >= 0) return a * m + bad;
  }
  gather p = {k, inner_rank, index_type, extents, strides, inner_dims, inner_strides,
              apus_count_elements(inner_rank, inner_dims), element_size, m, 1,
              apus_is_contiguous(inner_rank, inner_dims, inner_strides, element_size), dst, src, indices};
  if (p.inner == 0 || m == 0) return -1;
  p.tasks = apus_split(m, m * (p.inner * element_size + 4 * k));
  apus_parallel(p.tasks, gather_task, &p);
  return -1;
}
