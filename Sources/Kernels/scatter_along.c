// Scatter along an axis. The lines along the axis have no destination in common, so they are what is shared out; within
// one, updates are applied in order of position.
#include "apus_indexing.h"
#include "indices.h"
#include "scatter_ops.h"

typedef struct {
  int kind, type, index_type;
  // The dimensions other than the axis.
  int rank;
  int64_t dims[APUS_MAX_RANK], dst_strides[APUS_MAX_RANK], update_strides[APUS_MAX_RANK], index_strides[APUS_MAX_RANK];
  int64_t length, axis_size, dst_axis, update_axis, index_axis;
  int64_t block, blocks, units, tasks;
  char *dst;
  const char *updates, *indices;
} scatter_lines;

// `count` neighbouring lines.
typedef void (*lines_function)(const scatter_lines *p, char *dst, const char *updates, const char *indices, int64_t count);

#define DEFINE_LINES(name, T, C, LOAD, STORE, OP)                                                                    \
  static void lines_##name(const scatter_lines *p, char *dst, const char *updates, const char *indices, int64_t count) { \
    int last = p->rank - 1, index_type = p->index_type;                                                              \
    int64_t ds = p->dst_strides[last], us = p->update_strides[last], is = p->index_strides[last];                    \
    int64_t length = p->length, n = p->axis_size, dst_axis = p->dst_axis;                                            \
    int64_t update_axis = p->update_axis, index_axis = p->index_axis;                                                \
    if (count == 1) { /* the same two loops with the long one inside */                                              \
      count = length;                                                                                                \
      length = 1;                                                                                                    \
      ds = 0;                                                                                                        \
      us = update_axis;                                                                                              \
      is = index_axis;                                                                                               \
    }                                                                                                                \
    for (int64_t i = 0; i < length; i++) {                                                                           \
      const char *u_at = updates + i * update_axis, *i_at = indices + i * index_axis;                                \
      for (int64_t j = 0; j < count; j++) {                                                                          \
        int64_t index = apus_wrap(apus_index(i_at + j * is, index_type), n);                                         \
        T *to = (T *)(void *)(dst + index * dst_axis + j * ds);                                                      \
        C v = LOAD(*to), u = LOAD(*(const T *)(const void *)(u_at + j * us));                                        \
        (void)v;                                                                                                     \
        *to = (T)STORE((C)(OP(v, u)));                                                                               \
      }                                                                                                              \
    }                                                                                                                \
  }
APUS_PUT_CASES(DEFINE_LINES)
static const lines_function lines_functions[5][10] = APUS_PUT_TABLE(lines);

// Sums and products of float16 and bfloat16: the lines are kept in float32 meanwhile.
static void half_lines(const scatter_lines *p, char *dst, const char *updates, const char *indices, int64_t count, float *kept) {
  int last = p->rank - 1;
  int64_t ds = p->dst_strides[last], us = p->update_strides[last], is = p->index_strides[last];
  for (int64_t x = 0; x < p->axis_size; x++)
    for (int64_t j = 0; j < count; j++) kept[x * count + j] = apus_load_half(dst + x * p->dst_axis + j * ds, p->type);
  for (int64_t i = 0; i < p->length; i++) {
    for (int64_t j = 0; j < count; j++) {
      int64_t index = apus_wrap(apus_index(indices + i * p->index_axis + j * is, p->index_type), p->axis_size);
      float u = apus_load_half(updates + i * p->update_axis + j * us, p->type), *v = &kept[index * count + j];
      *v = p->kind == APUS_PUT_ADD ? *v + u : *v * u;
    }
  }
  for (int64_t x = 0; x < p->axis_size; x++)
    for (int64_t j = 0; j < count; j++) apus_store_half(dst + x * p->dst_axis + j * ds, p->type, kept[x * count + j]);
}

static void scatter_lines_task(void *context, int64_t t) {
  const scatter_lines *p = context;
  int last = p->rank - 1;
  lines_function apply = lines_functions[p->kind][p->type];
  size_t bytes = apply ? 0 : (size_t)(p->axis_size * p->block) * sizeof(float);
  float *kept = apply ? NULL : apus_allocate(bytes);
  for (int64_t unit = apus_share(p->units, p->tasks, t); unit < apus_share(p->units, p->tasks, t + 1); unit++) {
    int64_t rest = unit / p->blocks, start = unit % p->blocks * p->block, count = apus_smaller(p->block, p->dims[last] - start);
    char *dst = p->dst + start * p->dst_strides[last];
    const char *updates = p->updates + start * p->update_strides[last], *indices = p->indices + start * p->index_strides[last];
    for (int i = last - 1; i >= 0; i--) {
      int64_t index = rest % p->dims[i];
      rest /= p->dims[i];
      dst += index * p->dst_strides[i];
      updates += index * p->update_strides[i];
      indices += index * p->index_strides[i];
    }
    if (apply) apply(p, dst, updates, indices, count);
    else half_lines(p, dst, updates, indices, count, kept);
  }
  if (kept) apus_deallocate(kept, bytes);
}

int64_t apus_put_along(int kind, int type, int rank, const int64_t *dims, int axis, int64_t axis_size, void *dst,
                       const int64_t *dst_strides, const void *updates, const int64_t *update_strides, const void *indices,
                       const int64_t *index_strides, int index_type) {
  int64_t count = apus_count_elements(rank, dims);
  if (count == 0) return -1;
  int64_t bad = apus_check_strided_indices(rank, dims, index_strides, indices, index_type, axis_size);
  if (bad >= 0) return bad;
  scatter_lines p = {.kind = kind, .type = type, .index_type = index_type, .length = dims[axis], .axis_size = axis_size,
                     .dst_axis = dst_strides[axis], .update_axis = update_strides[axis], .index_axis = index_strides[axis],
                     .dst = dst, .updates = updates, .indices = indices};
  for (int i = 0; i < rank; i++) {
    if (i == axis || dims[i] == 1) continue;
    int k = p.rank;
    int64_t n = dims[i];
    if (k > 0 && p.dst_strides[k - 1] == n * dst_strides[i] && p.update_strides[k - 1] == n * update_strides[i] &&
        p.index_strides[k - 1] == n * index_strides[i]) {
      p.dims[--k] *= n;
    } else {
      p.dims[k] = n;
    }
    p.dst_strides[k] = dst_strides[i];
    p.update_strides[k] = update_strides[i];
    p.index_strides[k] = index_strides[i];
    p.rank = k + 1;
  }
  if (p.rank == 0) {
    p.dims[0] = 1;
    p.rank = 1;
  }
  bool kept = !lines_functions[kind][type];
  int64_t width = p.dims[p.rank - 1];
  // Neighbouring lines go together, so that cache lines are used whole; what half_lines keeps stays small.
  p.block = kept ? apus_larger(1, apus_smaller(width, 16384 / axis_size)) : apus_smaller(width, apus_larger(64, 16384 / p.length));
  p.blocks = (width + p.block - 1) / p.block;
  p.units = count / p.length / width * p.blocks;
  p.tasks = apus_split(p.units, count * (apus_type_size(type) + 8) + (kept ? p.units * p.block * axis_size * 4 : 0));
  apus_parallel(p.tasks, scatter_lines_task, &p);
  return -1;
}
