// Running values along one axis, and the index of the largest or smallest element along one.
// Both treat the input as [outer, axis, lines]: lines that are neighbours in memory are taken side by side.
#include "lanes.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 64, STEPS = 256 };

typedef struct {
  const apus_lanes *lanes;
  const char *x;
  int type, accumulate, out_type, kind;
  int64_t size, length, stride;      // of the axis
  int rank;                          // the other dimensions, in output order
  int64_t dims[APUS_MAX_RANK], strides[APUS_MAX_RANK], places[APUS_MAX_RANK];  // places: output elements
  int64_t side, side_stride, side_place, side_tiles;  // the one taken side by side
  int64_t lines;                     // product of the others
  int64_t out_stride;                // elements along the axis in the output
  bool exclusive, reverse, largest;
  char *out;
} lines;

static void prepare(lines *l, int32_t rank, const int64_t *dims, const void *x, const int64_t *strides, int type, int32_t axis, bool keep_axis) {
  memset(l, 0, sizeof *l);
  l->lanes = apus_current_lanes();
  l->x = x;
  l->type = type;
  l->size = apus_type_size(type);
  l->length = 1;
  l->stride = l->size;
  l->lines = 1;
  l->out_stride = 1;
  int64_t dense = l->size, place = 1, step[APUS_MAX_RANK], places[APUS_MAX_RANK];
  for (int d = rank - 1; d >= 0; d--) {
    step[d] = strides ? strides[d] : dense;
    dense *= dims[d];
    places[d] = place;
    if (d != axis || keep_axis) place *= dims[d];
  }
  int side = -1;
  for (int d = 0; d < rank; d++)
    if (d != axis && dims[d] > 1 && (side < 0 || llabs(step[d]) <= llabs(step[side]))) side = d;
  if (rank > 0) l->length = dims[axis], l->stride = step[axis], l->out_stride = places[axis];
  l->side = 1;
  l->side_stride = l->size;
  if (side >= 0) l->side = dims[side], l->side_stride = step[side], l->side_place = places[side];
  for (int d = 0; d < rank; d++) {
    if (d == axis || d == side) continue;
    l->dims[l->rank] = dims[d];
    l->strides[l->rank] = step[d];
    l->places[l->rank++] = places[d];
    l->lines *= dims[d];
  }
  l->side_tiles = (l->side + SIDE - 1) / SIDE;
}

static const char *locate(const lines *l, int64_t line, int64_t *place) {
  const char *at = l->x;
  *place = 0;
  for (int d = l->rank - 1; d >= 0; d--) {
    at += line % l->dims[d] * l->strides[d];
    *place += line % l->dims[d] * l->places[d];
    line /= l->dims[d];
  }
  return at;
}

// `steps` positions of n lines as [steps][n] in the accumulation type.
static void fetch(const lines *l, const char *at, int64_t steps, int64_t n, char *to, char *raw) {
  int64_t wide = apus_type_size(l->accumulate);
  for (int64_t s = 0; s < steps; s++) {
    const char *p = at + s * l->stride;
    char *target = l->type == l->accumulate ? to + s * n * wide : raw + s * n * l->size;
    for (int64_t j = 0; j < n; j++) memcpy(target + j * l->size, p + j * l->side_stride, (size_t)l->size);
  }
  if (l->type != l->accumulate) l->lanes->convert[l->accumulate][l->type](to, raw, steps * n);
}

static double log_add(double a, double b) {
  if (a != a || b != b) return a + b;
  double hi = a > b ? a : b, lo = a > b ? b : a;
  return hi == -INFINITY || lo == INFINITY ? hi : hi + log1p(exp(lo - hi));
}

#define SCAN(T, EXPR)                                             \
  for (int64_t s = 0; s < steps; s++)                             \
    for (int64_t j = 0; j < n; j++) {                             \
      T a = ((T *)running)[j], x = ((T *)values)[s * n + j];      \
      T y = EXPR;                                                 \
      ((T *)values)[s * n + j] = l->exclusive ? a : y;            \
      ((T *)running)[j] = y;                                      \
    }

static void scan_task(void *context, int64_t item) {
  const lines *l = context;
  int64_t start = item % l->side_tiles * SIDE, n = l->side - start < SIDE ? l->side - start : SIDE, place;
  const char *at = locate(l, item / l->side_tiles, &place) + start * l->side_stride;
  place += start * l->side_place;
  char running[SIDE * 8];
  char *values = apus_allocate(SIDE * STEPS * 8 * 3), *raw = values + SIDE * STEPS * 8, *converted = raw + SIDE * STEPS * 8;
  static const int64_t lowest[6] = {0, 0, INT8_MIN, INT16_MIN, INT32_MIN, INT64_MIN};
  static const int64_t highest[6] = {1, UINT8_MAX, INT8_MAX, INT16_MAX, INT32_MAX, INT64_MAX};
  for (int64_t j = 0; j < n; j++) {
    if (l->accumulate == APUS_F64)
      ((double *)running)[j] = l->kind == APUS_SCAN_SUM ? 0 : l->kind == APUS_SCAN_PRODUCT ? 1 : l->kind == APUS_SCAN_MIN ? INFINITY : -INFINITY;
    else
      ((int64_t *)running)[j] = l->kind == APUS_SCAN_SUM ? 0 : l->kind == APUS_SCAN_PRODUCT ? 1
          : l->kind == APUS_SCAN_MIN ? highest[l->type] : lowest[l->type];
  }
  int64_t direction = l->reverse ? -1 : 1, out_size = apus_type_size(l->out_type), out_stride = l->out_stride * direction;
  lines view = *l;
  view.stride = l->stride * direction;
  if (l->reverse) at += (l->length - 1) * l->stride, place += (l->length - 1) * l->out_stride;
  int64_t most = n == 1 ? SIDE * STEPS : STEPS;
  for (int64_t done = 0; done < l->length; done += most) {
    int64_t steps = l->length - done < most ? l->length - done : most;
    fetch(&view, at + done * view.stride, steps, n, values, raw);
    if (l->accumulate == APUS_F64) {
      switch (l->kind) {
      case APUS_SCAN_SUM: SCAN(double, a + x) break;
      case APUS_SCAN_PRODUCT: SCAN(double, a * x) break;
      case APUS_SCAN_MAX: SCAN(double, a > x || a != a ? a : x) break;
      case APUS_SCAN_MIN: SCAN(double, a < x || a != a ? a : x) break;
      case APUS_SCAN_LOG_SUM_EXP: SCAN(double, log_add(a, x)) break;
      }
    } else {
      switch (l->kind) {
      case APUS_SCAN_SUM: SCAN(int64_t, (int64_t)((uint64_t)a + (uint64_t)x)) break;
      case APUS_SCAN_PRODUCT: SCAN(int64_t, (int64_t)((uint64_t)a * (uint64_t)x)) break;
      case APUS_SCAN_MAX: SCAN(int64_t, a > x ? a : x) break;
      case APUS_SCAN_MIN: SCAN(int64_t, a < x ? a : x) break;
      }
    }
    const char *results = values;
    if (l->out_type != l->accumulate) {
      l->lanes->convert[l->out_type][l->accumulate](converted, values, steps * n);
      results = converted;
    }
    for (int64_t s = 0; s < steps; s++) {
      char *to = l->out + (place + (done + s) * out_stride) * out_size;
      if (l->side_place == 1) memcpy(to, results + s * n * out_size, (size_t)(n * out_size));
      else for (int64_t j = 0; j < n; j++) memcpy(to + j * l->side_place * out_size, results + (s * n + j) * out_size, (size_t)out_size);
    }
  }
  apus_deallocate(values, SIDE * STEPS * 8 * 3);
}

void apus_scan(int kind, int32_t rank, const int64_t *dims, const void *x, const int64_t *strides, int type,
               int32_t axis, bool exclusive, bool reverse, void *out, int out_type) {
  for (int d = 0; d < rank; d++) if (dims[d] == 0) return;
  lines l;
  prepare(&l, rank, dims, x, strides, type, axis, true);
  l.accumulate = type >= APUS_F16 ? APUS_F64 : APUS_I64;
  l.kind = kind;
  l.exclusive = exclusive;
  l.reverse = reverse;
  l.out = out;
  l.out_type = out_type;
  int64_t tasks = l.lines * l.side_tiles;
  if (tasks * l.length * SIDE > 65536) apus_parallel(tasks, scan_task, &l);
  else for (int64_t i = 0; i < tasks; i++) scan_task(&l, i);
}

// ---- Arg-reductions -----------------------------------------------------------------------------
#define ARG(T, NAN_TEST)                                                                       \
  for (int64_t s = 0; s < steps; s++)                                                          \
    for (int64_t j = 0; j < n; j++) {                                                          \
      T x = ((const T *)values)[s * n + j], b = ((T *)best)[j];                                \
      bool better = (l->largest ? x > b : x < b) || (NAN_TEST);                                \
      ((T *)best)[j] = better ? x : b;                                                         \
      index[j] = better ? done + s : index[j];                                                 \
    }

static void arg_task(void *context, int64_t item) {
  const lines *l = context;
  int64_t start = item % l->side_tiles * SIDE, n = l->side - start < SIDE ? l->side - start : SIDE, place;
  const char *at = locate(l, item / l->side_tiles, &place) + start * l->side_stride;
  place += start * l->side_place;
  char best[SIDE * 8];
  int64_t index[SIDE] = {0};
  char *values = apus_allocate(SIDE * STEPS * 8 * 2), *raw = values + SIDE * STEPS * 8;
  int64_t most = n == 1 ? SIDE * STEPS : STEPS, wide = apus_type_size(l->accumulate);
  for (int64_t done = 0; done < l->length; done += most) {
    int64_t steps = l->length - done < most ? l->length - done : most;
    fetch(l, at + done * l->stride, steps, n, values, raw);
    if (done == 0) memcpy(best, values, (size_t)(n * wide));  // index 0 wins until something is better
    switch (l->accumulate) {
    case APUS_F32: ARG(float, x != x && b == b) break;
    case APUS_F64: ARG(double, x != x && b == b) break;
    default: ARG(int64_t, false) break;
    }
  }
  for (int64_t j = 0; j < n; j++) ((int64_t *)l->out)[place + j * l->side_place] = index[j];
  apus_deallocate(values, SIDE * STEPS * 8 * 2);
}

void apus_arg_reduce(bool largest, int32_t rank, const int64_t *dims, const void *x, const int64_t *strides, int type,
                     int32_t axis, int64_t *out) {
  for (int d = 0; d < rank; d++) if (dims[d] == 0) return;
  lines l;
  prepare(&l, rank, dims, x, strides, type, axis, false);
  l.accumulate = type == APUS_F64 ? APUS_F64 : type >= APUS_F16 ? APUS_F32 : APUS_I64;
  l.largest = largest;
  l.out = (char *)out;
  int64_t tasks = l.lines * l.side_tiles;
  if (tasks * l.length * SIDE > 65536) apus_parallel(tasks, arg_task, &l);
  else for (int64_t i = 0; i < tasks; i++) arg_task(&l, i);
}
