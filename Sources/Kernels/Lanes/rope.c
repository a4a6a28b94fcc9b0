// Rotary position embedding: rows to tasks, 16-bit types through f32.
#include "apus_attention.h"
#include "lanes.h"
#include <string.h>

enum { TASK = 16384 };

typedef struct {
  const apus_lanes *lanes;
  int type, rank;
  bool interleaved, inverse;
  const int64_t *dims;
  int64_t rows, per_task, dim, half;
  const char *in[3];  // x, cos, sin
  const int64_t *in_strides[3], *out_strides;
  char *out;
} job;

static void task(void *context, int64_t index) {
  const job *j = context;
  int64_t first = index * j->per_task, end = first + j->per_task < j->rows ? first + j->per_task : j->rows;
  int64_t size = apus_type_size(j->type), turned = 2 * j->half;
  bool half = j->type == APUS_F16 || j->type == APUS_BF16;
  size_t bytes = (size_t)(2 * turned) * 4;
  char *buffer = half ? apus_allocate(bytes) : NULL;
  for (int64_t row = first; row < end; row++) {
    const char *in[3] = {j->in[0], j->in[1], j->in[2]};
    char *out = j->out;
    int64_t rest = row;
    for (int d = j->rank - 1; d >= 0; d--) {
      int64_t i = rest % j->dims[d];
      rest /= j->dims[d];
      for (int k = 0; k < 3; k++) in[k] += i * j->in_strides[k][d];
      out += i * j->out_strides[d];
    }
    const apus_fused *fused = &j->lanes->fused[j->type == APUS_F64];
    if (half) {
      char *result = buffer + turned * 4;
      j->lanes->convert[APUS_F32][j->type](buffer, in[0], turned);
      fused->rope(result, buffer, in[1], in[2], j->half, j->interleaved, j->inverse);
      j->lanes->convert[j->type][APUS_F32](out, result, turned);
    } else {
      fused->rope(out, in[0], in[1], in[2], j->half, j->interleaved, j->inverse);
    }
    if (turned < j->dim) memcpy(out + turned * size, in[0] + turned * size, (size_t)((j->dim - turned) * size));
  }
  if (half) apus_deallocate(buffer, bytes);
}

void apus_rope(int type, bool interleaved, bool inverse, int rank, const int64_t *dims, int64_t dim, int64_t half, const void *x,
               const int64_t *x_strides, const void *cos, const int64_t *cos_strides, const void *sin, const int64_t *sin_strides,
               void *y, const int64_t *y_strides) {
  job j = {.lanes = apus_current_lanes(), .type = type, .rank = rank, .interleaved = interleaved, .inverse = inverse, .dims = dims,
           .rows = 1, .per_task = 1 + TASK / (dim + 16), .dim = dim, .half = half, .in = {x, cos, sin},
           .in_strides = {x_strides, cos_strides, sin_strides}, .out_strides = y_strides, .out = y};
  for (int d = 0; d < rank; d++) j.rows *= dims[d];
  if (j.rows == 0 || dim == 0) return;
  apus_parallel((j.rows + j.per_task - 1) / j.per_task, task, &j);
}
