// Reductions and moments over any axes of any strided input.
//
// The input becomes [kept…, reduced…] with mergeable dimensions merged. If the dimension that is nearest in memory is
// reduced, rows along it are folded ("row" form); if it is kept, many columns are folded at once ("column" form). Both
// cut the reduced space into chunks fixed by the shape; when there are several, a second reduction folds their results.
#include "lanes.h"
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 4096, SUBROWS = 64, COLUMNS = 256, SERIAL = 1 << 15 };

typedef struct {
  const apus_lanes *lanes;
  int kind, type, accumulate;   // accumulate: f32, f64 or i64
  const char *x;
  int size;
  int kept, reduced;            // numbers of dimensions
  int64_t kept_dims[APUS_MAX_RANK], kept_strides[APUS_MAX_RANK], kept_out[APUS_MAX_RANK];  // kept_out: elements
  int64_t dims[APUS_MAX_RANK], strides[APUS_MAX_RANK];  // reduced, nearest last
  int64_t outputs, count;       // products
  bool columns;
  int64_t width, width_stride, width_out;  // column form: the kept dimension that is nearest
  int64_t inner, rows;          // row form: the last reduced dimension, and how many rows of it; column form: rows only
  int64_t chunks, rows_per_chunk, piece;   // row form, long rows: pieces of `piece` elements
  int64_t tiles;                // column form: tiles of columns
  char *partial;                // [outputs][chunks] or [outputs][chunks][width], of type `accumulate`
  char *second;                 // moments: squared deviations beside the means
  bool moments;
  int64_t group;                // items per task
} reduction;

static int accumulator_of(int type) { return type == APUS_F64 ? APUS_F64 : type >= APUS_F16 ? APUS_F32 : APUS_I64; }

// n elements with a stride, converted to the accumulation type; returns where they are (in place if nothing is to do).
static const char *fetch(const reduction *r, const char *from, int64_t n, int64_t stride, char *buffer, char *raw) {
  if (stride != r->size) {
    char *to = r->type == r->accumulate ? buffer : raw;
    switch (r->size) {
    case 1: for (int64_t i = 0; i < n; i++) ((uint8_t *)to)[i] = *(const uint8_t *)(from + i * stride); break;
    case 2: for (int64_t i = 0; i < n; i++) ((uint16_t *)to)[i] = *(const uint16_t *)(from + i * stride); break;
    case 4: for (int64_t i = 0; i < n; i++) ((uint32_t *)to)[i] = *(const uint32_t *)(from + i * stride); break;
    default: for (int64_t i = 0; i < n; i++) ((uint64_t *)to)[i] = *(const uint64_t *)(from + i * stride); break;
    }
    from = to;
  }
  if ((r->kind == APUS_REDUCE_ANY || r->kind == APUS_REDUCE_ALL) && !r->moments) {
    uint8_t truth[256];
    for (int64_t i = 0; i < n; i += 256) {
      int64_t m = n - i < 256 ? n - i : 256;
      const char *part = from + i * r->size;
      if (r->type != APUS_BOOL) r->lanes->convert[APUS_BOOL][r->type](truth, part, m);
      r->lanes->convert[APUS_I64][APUS_BOOL](buffer + i * 8, r->type == APUS_BOOL ? (const void *)part : truth, m);
    }
    return buffer;
  }
  if (r->type == r->accumulate) return from;
  r->lanes->convert[r->accumulate][r->type](buffer, from, n);
  return buffer;
}

static const char *kept_address(const reduction *r, int64_t output) {
  const char *at = r->x;
  for (int d = r->kept - 1; d >= 0; d--) {
    at += output % r->kept_dims[d] * r->kept_strides[d];
    output /= r->kept_dims[d];
  }
  return at;
}
// Where reduced row `row` starts, the last `skip` reduced dimensions left out.
static int64_t row_offset(const reduction *r, int64_t row, int skip) {
  int64_t at = 0;
  for (int d = r->reduced - 1 - skip; d >= 0; d--) {
    at += row % r->dims[d] * r->strides[d];
    row /= r->dims[d];
  }
  return at;
}

static void fold_row(const reduction *r, const char *data, int64_t n, char *out, char *second) {
  if (!r->moments) {
    r->lanes->reduce[r->kind][r->accumulate].row(out, data, n);
    return;
  }
  r->lanes->reduce[APUS_REDUCE_SUM][r->accumulate].row(out, data, n);
  bool wide = r->accumulate == APUS_F64;
  if (wide) *(double *)out /= (double)n; else *(float *)out /= (float)n;
  r->lanes->deviations_row[wide](second, data, out, n);
}

static void row_item(const reduction *r, int64_t item, char *buffer, char *raw) {
  int64_t output = item / r->chunks, chunk = item % r->chunks, size = apus_type_size(r->accumulate);
  const char *base = kept_address(r, output);
  char *out = r->partial + item * size, *second = r->moments ? r->second + item * size : NULL;
  int64_t stride = r->strides[r->reduced - 1];
  if (r->rows_per_chunk == 0) {  // pieces of a row
    int64_t pieces = (r->inner + r->piece - 1) / r->piece, start = chunk % pieces * r->piece;
    int64_t n = r->inner - start < r->piece ? r->inner - start : r->piece;
    fold_row(r, fetch(r, base + row_offset(r, chunk / pieces, 1) + start * stride, n, stride, buffer, raw), n, out, second);
    return;
  }
  int64_t first = chunk * r->rows_per_chunk, rows = r->rows - first < r->rows_per_chunk ? r->rows - first : r->rows_per_chunk;
  if (rows == 1) {
    fold_row(r, fetch(r, base + row_offset(r, first, 1), r->inner, stride, buffer, raw), r->inner, out, second);
    return;
  }
  for (int64_t i = 0; i < rows; i++) {
    char *to = buffer + i * r->inner * size;
    const char *data = fetch(r, base + row_offset(r, first + i, 1), r->inner, stride, to, raw);
    if (data != to) memcpy(to, data, (size_t)(r->inner * size));
  }
  fold_row(r, buffer, rows * r->inner, out, second);
}

// Columns [start, start + n) of the rows of one chunk.
static void column_item(const reduction *r, int64_t item, char *buffer, char *raw) {
  int64_t tile = item % r->tiles, chunk = item / r->tiles % r->chunks, output = item / r->tiles / r->chunks;
  int64_t size = apus_type_size(r->accumulate), start = tile * COLUMNS;
  int64_t n = r->width - start < COLUMNS ? r->width - start : COLUMNS;
  int64_t first = chunk * r->rows_per_chunk, end = first + r->rows_per_chunk;
  if (end > r->rows) end = r->rows;
  const char *base = kept_address(r, output) + start * r->width_stride;
  char *out = r->partial + ((output * r->chunks + chunk) * r->width + start) * size;
  char *second = r->moments ? r->second + ((output * r->chunks + chunk) * r->width + start) * size : NULL;
  char sum[COLUMNS * 8] __attribute__((aligned(64)));
  const apus_reducer *fold = &r->lanes->reduce[r->moments ? APUS_REDUCE_SUM : r->kind][r->accumulate];
  int64_t period = r->dims[r->reduced - 1], row_stride = r->strides[r->reduced - 1];
  bool truth = r->kind == APUS_REDUCE_ANY || r->kind == APUS_REDUCE_ALL;
  bool in_place = !truth && r->type == r->accumulate && r->width_stride == r->size && row_stride % size == 0;
  for (int pass = 0; pass < (r->moments ? 2 : 1); pass++) {
    char *to = pass == 0 ? out : second;
    for (int64_t row = first; row < end;) {
      // Up to SUBROWS rows that lie a fixed stride apart, or that many fetched.
      int64_t m = end - row < SUBROWS ? end - row : SUBROWS, stride = n;
      const char *data = buffer;
      if (in_place) {
        int64_t left = period - row % period;
        if (m > left) m = left;
        data = base + row_offset(r, row, 0);
        stride = row_stride / size;
      } else {
        for (int64_t i = 0; i < m; i++) {
          char *place = buffer + i * n * size;
          const char *got = fetch(r, base + row_offset(r, row + i, 0), n, r->width_stride, place, raw);
          if (got != place) memcpy(place, got, (size_t)(n * size));
        }
      }
      char *target = row == first ? to : sum;
      if (pass == 0) fold->block(target, data, m, stride, n);
      else r->lanes->deviations_block[r->accumulate == APUS_F64](target, data, out, m, stride, n);
      if (target == sum) (pass == 0 ? fold : &r->lanes->reduce[APUS_REDUCE_SUM][r->accumulate])->column(to, sum, n);
      row += m;
    }
    if (r->moments && pass == 0) {
      if (r->accumulate == APUS_F64) for (int64_t j = 0; j < n; j++) ((double *)out)[j] /= (double)(end - first);
      else for (int64_t j = 0; j < n; j++) ((float *)out)[j] /= (float)(end - first);
    }
  }
}

static void run_group(void *context, int64_t task) {
  const reduction *r = context;
  int64_t items = r->columns ? r->outputs * r->chunks * r->tiles : r->outputs * r->chunks;
  int64_t end = (task + 1) * r->group < items ? (task + 1) * r->group : items;
  size_t elements = r->columns ? (size_t)SUBROWS * COLUMNS : (size_t)CHUNK * 2;
  char *buffer = apus_allocate(elements * 16), *raw = buffer + elements * 8;
  for (int64_t i = task * r->group; i < end; i++) {
    if (r->columns) column_item(r, i, buffer, raw);
    else row_item(r, i, buffer, raw);
  }
  apus_deallocate(buffer, elements * 16);
}

// Sorts the input's dimensions into kept and reduced ones. False if there is nothing to fold (an empty shape).
static void prepare(reduction *r, int32_t rank, const int64_t *dims, const void *x, const int64_t *strides, int type, uint32_t axes) {
  memset(r, 0, sizeof *r);
  r->lanes = apus_current_lanes();
  r->type = type;
  r->accumulate = accumulator_of(type);
  r->size = (int)apus_type_size(type);
  r->x = x;
  r->outputs = r->count = 1;
  int64_t dense = r->size, out = 1;
  int64_t step[APUS_MAX_RANK], place[APUS_MAX_RANK];
  for (int d = rank - 1; d >= 0; d--) {
    step[d] = strides ? strides[d] : dense;
    dense *= dims[d];
    place[d] = out;
    if (!(axes >> d & 1)) out *= dims[d];
  }
  for (int d = 0; d < rank; d++) {
    if (axes >> d & 1) {
      r->count *= dims[d];
      if (dims[d] == 1) continue;
      if (step[d] < 0 && dims[d] > 0) {  // the order within a fold is ours
        r->x += (dims[d] - 1) * step[d];
        step[d] = -step[d];
      }
      int at = r->reduced++;
      for (; at > 0 && r->strides[at - 1] < step[d]; at--) r->dims[at] = r->dims[at - 1], r->strides[at] = r->strides[at - 1];
      r->dims[at] = dims[d];
      r->strides[at] = step[d];
    } else {
      r->outputs *= dims[d];
      if (dims[d] == 1) continue;
      int k = r->kept;
      if (k > 0 && r->kept_strides[k - 1] == step[d] * dims[d]) {  // output neighbours are neighbours here
        r->kept_dims[k - 1] *= dims[d];
        r->kept_strides[k - 1] = step[d];
        r->kept_out[k - 1] = place[d];
      } else {
        r->kept_dims[k] = dims[d];
        r->kept_strides[k] = step[d];
        r->kept_out[k] = place[d];
        r->kept++;
      }
    }
  }
  int last = 0;
  for (int d = 1; d < r->reduced; d++) {
    if (r->strides[last] == r->strides[d] * r->dims[d]) r->dims[last] *= r->dims[d];
    else r->dims[++last] = r->dims[d];
    r->strides[last] = r->strides[d];
  }
  if (r->reduced == 0) r->dims[0] = 1, r->strides[0] = r->size;
  r->reduced = last + 1;
}

static void plan(reduction *r) {
  // Column form if a kept dimension is nearer than every reduced one.
  int64_t nearest = r->strides[r->reduced - 1];
  int best = -1;
  if (nearest == 0) nearest = INT64_MAX;
  if (r->dims[r->reduced - 1] == 1) nearest = INT64_MAX;
  for (int d = 0; d < r->kept; d++) {
    int64_t s = r->kept_strides[d] < 0 ? -r->kept_strides[d] : r->kept_strides[d];
    if (s != 0 && s < nearest) nearest = s, best = d;
  }
  r->columns = best >= 0 && r->kept_dims[best] >= 4;
  r->width = 1;
  if (r->columns) {
    r->width = r->kept_dims[best];
    r->width_stride = r->kept_strides[best];
    r->width_out = r->kept_out[best];
    r->outputs /= r->width;
    for (int d = best + 1; d < r->kept; d++) {
      r->kept_dims[d - 1] = r->kept_dims[d];
      r->kept_strides[d - 1] = r->kept_strides[d];
      r->kept_out[d - 1] = r->kept_out[d];
    }
    r->kept--;
    r->rows = r->count;
    int64_t per = CHUNK * 8 / (r->width < COLUMNS ? r->width : COLUMNS);
    if (per < SUBROWS * 2) per = SUBROWS * 2;
    if (r->moments && per > SUBROWS * 2) per = SUBROWS * 2;  // the second pass finds the chunk in the cache
    r->rows_per_chunk = per;
    r->chunks = (r->rows + per - 1) / per;
    r->tiles = (r->width + COLUMNS - 1) / COLUMNS;
    r->group = 1 + SERIAL / ((r->rows < per ? r->rows : per) * (r->width < COLUMNS ? r->width : COLUMNS) + 16);
  } else {
    r->inner = r->dims[r->reduced - 1];
    r->rows = r->count / r->inner;
    if (r->inner > CHUNK) {
      bool truth = r->kind == APUS_REDUCE_ANY || r->kind == APUS_REDUCE_ALL;
      bool in_place = !truth && r->type == r->accumulate && r->strides[r->reduced - 1] == r->size;  // no buffer
      r->piece = in_place && !r->moments ? CHUNK * 8 : CHUNK;
      r->rows_per_chunk = 0;
      r->chunks = r->rows * ((r->inner + r->piece - 1) / r->piece);
    } else {
      r->rows_per_chunk = CHUNK / r->inner;
      r->chunks = (r->rows + r->rows_per_chunk - 1) / r->rows_per_chunk;
    }
    int64_t item = r->count / r->chunks;
    r->group = 1 + SERIAL / (item + 16);
  }
}

static void run(reduction *r) {
  int64_t items = r->columns ? r->outputs * r->chunks * r->tiles : r->outputs * r->chunks;
  int64_t tasks = (items + r->group - 1) / r->group;
  apus_parallel(tasks, run_group, r);
}

// Moves [outputs][width] values of the accumulation type to their places in the output, converted.
static void deliver(const reduction *r, const char *values, void *out, int out_type) {
  int64_t size = apus_type_size(r->accumulate), to_size = apus_type_size(out_type);
  bool in_order = true;
  int64_t expected = 1;
  if (r->columns) in_order = r->width_out == 1, expected = r->width;
  for (int d = r->kept - 1; d >= 0; d--) {
    in_order &= r->kept_out[d] == expected;
    expected *= r->kept_dims[d];
  }
  int64_t n = r->outputs * r->width;
  apus_converter convert = r->lanes->convert[out_type][r->accumulate];
  if (in_order) {
    if (out_type == r->accumulate) memcpy(out, values, (size_t)(n * size));
    else convert(out, values, n);
    return;
  }
  for (int64_t o = 0; o < r->outputs; o++) {
    int64_t at = 0, rest = o;
    for (int d = r->kept - 1; d >= 0; d--) {
      at += rest % r->kept_dims[d] * r->kept_out[d];
      rest /= r->kept_dims[d];
    }
    for (int64_t j = 0; j < r->width; j++) {
      char *to = (char *)out + (at + j * r->width_out) * to_size;
      const char *from = values + (o * r->width + j) * size;
      if (out_type == r->accumulate) memcpy(to, from, (size_t)size);
      else convert(to, from, 1);
    }
  }
}

static void fill_identity(int kind, int type, int64_t n, void *out, int out_type) {
  int accumulate = accumulator_of(type);
  static const int64_t lowest[6] = {0, 0, INT8_MIN, INT16_MIN, INT32_MIN, INT64_MIN};
  static const int64_t highest[6] = {1, UINT8_MAX, INT8_MAX, INT16_MAX, INT32_MAX, INT64_MAX};
  double real = 0;
  int64_t integer = 0;
  switch (kind) {
  case APUS_REDUCE_SUM: case APUS_REDUCE_SUM_SQUARES: case APUS_REDUCE_ANY: break;
  case APUS_REDUCE_PRODUCT: case APUS_REDUCE_ALL: real = 1; integer = 1; break;
  case APUS_REDUCE_MAX: real = -__builtin_inf(); integer = lowest[type < 6 ? type : 0]; break;
  case APUS_REDUCE_MIN: real = __builtin_inf(); integer = highest[type < 6 ? type : 0]; break;
  }
  char value[8] = {0};
  bool floating = accumulate != APUS_I64 && kind != APUS_REDUCE_ANY && kind != APUS_REDUCE_ALL;
  int from = floating ? APUS_F64 : APUS_I64;
  const void *source = floating ? (const void *)&real : (const void *)&integer;
  if (from == out_type) memcpy(value, source, 8);
  else apus_current_lanes()->convert[out_type][from](value, source, 1);
  apus_flat(APUS_OP_COPY, out_type, n, out, value, NULL, NULL, 1);
}

void apus_reduce(int kind, int32_t rank, const int64_t *dims, const void *x, const int64_t *strides, int type,
                 uint32_t axes, void *out, int out_type) {
  reduction r;
  prepare(&r, rank, dims, x, strides, type, axes);
  if (r.outputs == 0) return;
  if (r.count == 0) {
    fill_identity(kind, type, r.outputs, out, out_type);
    return;
  }
  r.kind = kind;
  if (kind == APUS_REDUCE_ANY || kind == APUS_REDUCE_ALL) r.accumulate = APUS_I64;
  plan(&r);
  int64_t size = apus_type_size(r.accumulate), n = r.outputs * r.width;
  size_t bytes = (size_t)(n * r.chunks * size);
  r.partial = apus_allocate(bytes);
  run(&r);
  if (r.chunks == 1) {
    deliver(&r, r.partial, out, out_type);
  } else {
    int again = kind == APUS_REDUCE_SUM_SQUARES ? APUS_REDUCE_SUM : kind == APUS_REDUCE_ANY ? APUS_REDUCE_MAX
        : kind == APUS_REDUCE_ALL ? APUS_REDUCE_MIN : kind;
    char *values = apus_allocate((size_t)(n * size));
    const int64_t shape[3] = {r.outputs, r.chunks, r.width};
    apus_reduce(again, 3, shape, r.partial, NULL, r.accumulate, 2, values, r.accumulate);
    deliver(&r, values, out, out_type);
    apus_deallocate(values, (size_t)(n * size));
  }
  apus_deallocate(r.partial, bytes);
}

// ---- Moments ------------------------------------------------------------------------------------
// How many elements chunk `c` of a reduction holds.
static double chunk_count(const reduction *r, int64_t c) {
  if (!r->columns && r->rows_per_chunk == 0) {
    int64_t pieces = (r->inner + r->piece - 1) / r->piece, start = c % pieces * r->piece;
    return (double)(r->inner - start < r->piece ? r->inner - start : r->piece);
  }
  int64_t left = r->rows - c * r->rows_per_chunk, rows = left < r->rows_per_chunk ? left : r->rows_per_chunk;
  return (double)(r->columns ? rows : rows * r->inner);
}

// Joins the chunks' means and squared deviations (Chan, Golub, LeVeque 1979), in float64.
#define JOIN_MOMENTS(T)                                                                        \
  for (int64_t o = 0; o < r.outputs; o++)                                                      \
    for (int64_t j0 = 0; j0 < r.width; j0 += 64) {                                             \
      int64_t m = r.width - j0 < 64 ? r.width - j0 : 64;                                       \
      double mean[64] = {0}, squares[64] = {0};                                                \
      for (int64_t c = 0; c < r.chunks; c++) {                                                 \
        double weight = chunk_count(&r, c) / (double)r.count;                                  \
        const T *p = (const T *)r.partial + (o * r.chunks + c) * r.width + j0;                 \
        for (int64_t j = 0; j < m; j++) mean[j] += weight * (double)p[j];                      \
      }                                                                                        \
      for (int64_t c = 0; c < r.chunks; c++) {                                                 \
        double weight = chunk_count(&r, c);                                                    \
        const T *p = (const T *)r.partial + (o * r.chunks + c) * r.width + j0;                 \
        const T *q = (const T *)r.second + (o * r.chunks + c) * r.width + j0;                  \
        for (int64_t j = 0; j < m; j++) {                                                      \
          double d = (double)p[j] - mean[j];                                                   \
          squares[j] += (double)q[j] + weight * d * d;                                         \
        }                                                                                      \
      }                                                                                        \
      for (int64_t j = 0; j < m; j++) {                                                        \
        ((T *)means)[o * r.width + j0 + j] = (T)mean[j];                                       \
        ((T *)variances)[o * r.width + j0 + j] = (T)(squares[j] / (double)r.count);            \
      }                                                                                        \
    }

void apus_moments(int32_t rank, const int64_t *dims, const void *x, const int64_t *strides, int type,
                  uint32_t axes, void *mean, void *variance) {
  reduction r;
  prepare(&r, rank, dims, x, strides, type, axes);
  if (r.outputs == 0) return;
  int out_type = type == APUS_F64 ? APUS_F64 : APUS_F32;
  if (r.count == 0) {  // 0 / 0
    double nan = __builtin_nan("");
    float nan_f = __builtin_nanf("");
    const void *value = out_type == APUS_F64 ? (const void *)&nan : (const void *)&nan_f;
    apus_flat(APUS_OP_COPY, out_type, r.outputs, mean, value, NULL, NULL, 1);
    apus_flat(APUS_OP_COPY, out_type, r.outputs, variance, value, NULL, NULL, 1);
    return;
  }
  r.moments = true;
  plan(&r);
  int64_t size = apus_type_size(r.accumulate), n = r.outputs * r.width;
  size_t bytes = (size_t)(n * r.chunks * size), result = (size_t)(n * size);
  r.partial = apus_allocate(bytes);
  r.second = apus_allocate(bytes);
  run(&r);
  char *means = apus_allocate(result), *variances = apus_allocate(result);
  if (out_type == APUS_F64) { JOIN_MOMENTS(double) } else { JOIN_MOMENTS(float) }
  deliver(&r, means, mean, out_type);
  deliver(&r, variances, variance, out_type);
  apus_deallocate(means, result);
  apus_deallocate(variances, result);
  apus_deallocate(r.partial, bytes);
  apus_deallocate(r.second, bytes);
}
