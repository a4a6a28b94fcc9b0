// Rotary position embedding: rows to tasks, 16-bit types through f32.
#include "apus_attention.h"
#include "lanes.h"
#include <stdlib.h>
#include <string.h>

enum { TASK = 16384 };

typedef struct {
  const apus_lanes *lanes;
  int type, rank;
  bool interleaved, inverse;
  int64_t dims[APUS_MAX_RANK], rows, per_task, dim, half;
  const char *in[3];  // x, cos, sin
  int64_t in_strides[3][APUS_MAX_RANK], out_strides[APUS_MAX_RANK];
  char *out;
} job;

static void task(void *context, int64_t index) {
  const job *j = context;
  int64_t first = index * j->per_task, end = first + j->per_task < j->rows ? first + j->per_task : j->rows;
  int64_t size = apus_type_size(j->type), turned = 2 * j->half;
  const apus_fused *fused = &j->lanes->fused[j->type == APUS_F64];
  bool half = j->type == APUS_F16 || j->type == APUS_BF16;
  size_t bytes = (size_t)(2 * turned) * 4;
  char *buffer = half ? apus_allocate(bytes) : NULL;
  int64_t place[APUS_MAX_RANK], rest = first;
  const char *in[3] = {j->in[0], j->in[1], j->in[2]};
  char *out = j->out;
  for (int d = j->rank - 1; d >= 0; d--) {
    place[d] = rest % j->dims[d];
    rest /= j->dims[d];
    for (int k = 0; k < 3; k++) in[k] += place[d] * j->in_strides[k][d];
    out += place[d] * j->out_strides[d];
  }
  for (int64_t row = first; row < end; row++) {
    if (half) {
      char *result = buffer + turned * 4;
      j->lanes->convert[APUS_F32][j->type](buffer, in[0], turned);
      fused->rope(result, buffer, in[1], in[2], j->half, j->interleaved, j->inverse);
      j->lanes->convert[j->type][APUS_F32](out, result, turned);
    } else {
      fused->rope(out, in[0], in[1], in[2], j->half, j->interleaved, j->inverse);
    }
    if (turned < j->dim) memcpy(out + turned * size, in[0] + turned * size, (size_t)((j->dim - turned) * size));
    for (int d = j->rank - 1; d >= 0; d--) {  // to the next row
      int64_t back = ++place[d] < j->dims[d] ? 0 : j->dims[d];
      for (int k = 0; k < 3; k++) in[k] += (1 - back) * j->in_strides[k][d];
      out += (1 - back) * j->out_strides[d];
      if (!back) break;
      place[d] = 0;
    }
  }
  if (half) apus_deallocate(buffer, bytes);
}

void apus_rope(int type, bool interleaved, bool inverse, int rank, const int64_t *dims, int64_t dim, int64_t half, const void *x,
               const int64_t *x_strides, const void *cos, const int64_t *cos_strides, const void *sin, const int64_t *sin_strides,
               void *y, const int64_t *y_strides) {
  job j = {.lanes = apus_current_lanes(), .type = type, .rank = rank, .interleaved = interleaved, .inverse = inverse, .rows = 1,
           .per_task = 1 + TASK / (dim + 16), .dim = dim, .half = half, .in = {x, cos, sin}, .out = y};
  for (int d = 0; d < rank; d++) {
    // In the order of x's memory: heads are mostly a transposed view of rows.
    int place = d;
    while (place > 0 && llabs(j.in_strides[0][place - 1]) < llabs(x_strides[d])) place--;
    for (int k = d; k > place; k--) {
      j.dims[k] = j.dims[k - 1];
      j.out_strides[k] = j.out_strides[k - 1];
      for (int i = 0; i < 3; i++) j.in_strides[i][k] = j.in_strides[i][k - 1];
    }
    j.dims[place] = dims[d];
    j.out_strides[place] = y_strides[d];
    j.in_strides[0][place] = x_strides[d];
    j.in_strides[1][place] = cos_strides[d];
    j.in_strides[2][place] = sin_strides[d];
    j.rows *= dims[d];
  }
  if (j.rows == 0 || dim == 0) return;
  apus_parallel((j.rows + j.per_task - 1) / j.per_task, task, &j);
}
