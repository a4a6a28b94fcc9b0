#include "check.h"

enum { RANK = 3 };
typedef struct { int64_t dims[RANK]; int order; } layout;  // order 0: row-major; 1: columns first; 2: backwards in the last dimension
static const layout layouts[] = {
  {{3, 5, 7}, 0}, {{2, 33, 17}, 1}, {{4, 6, 130}, 2}, {{1, 1, 9000}, 0}, {{700, 3, 1}, 0}, {{2, 300, 40}, 0}, {{1, 4, 5}, 1}, {{50, 33, 40}, 0}, {{40, 50, 33}, 1},
};

// Fills strides (bytes) and returns where index 0 is.
static char *lay(const layout *l, int type, char *memory, int64_t *strides) {
  int64_t size = apus_type_size(type), step = size;
  for (int k = 0; k < RANK; k++) {
    int d = l->order == 1 ? k : RANK - 1 - k;
    strides[d] = step;
    step *= l->dims[d];
  }
  if (l->order != 2) return memory;
  char *origin = memory + (l->dims[RANK - 1] - 1) * strides[RANK - 1];
  strides[RANK - 1] = -strides[RANK - 1];
  return origin;
}
static int64_t offset(const int64_t *index, const int64_t *strides, int type) {
  int64_t at = 0;
  for (int d = 0; d < RANK; d++) at += index[d] * strides[d];
  return at / apus_type_size(type);
}
static void indices_of(int64_t flat, const int64_t *dims, int64_t *index) {
  for (int d = RANK - 1; d >= 0; d--) { index[d] = flat % dims[d]; flat /= dims[d]; }
}
static void *values(int type, int64_t count, bool product) {
  void *p = reals(type, count);
  if (product && is_float(type))
    for (int64_t i = 0; i < count; i++) put(type, p, i, 1 + (double)(below(3) - 1) / 64);
  if (type == APUS_BOOL) for (int64_t i = 0; i < count; i++) put_integer(type, p, i, below(4) > 0);
  return p;
}

static void reduce(int kind, int type, const layout *l, unsigned axes) {
  int64_t strides[RANK], count = 1, outputs = 1, reduced = 1;
  for (int d = 0; d < RANK; d++) {
    count *= l->dims[d];
    if (axes >> d & 1) reduced *= l->dims[d]; else outputs *= l->dims[d];
  }
  bool truth = kind == APUS_REDUCE_ANY || kind == APUS_REDUCE_ALL;
  bool sum = kind == APUS_REDUCE_SUM || kind == APUS_REDUCE_PRODUCT || kind == APUS_REDUCE_SUM_SQUARES;
  int out_type = truth ? APUS_BOOL : sum && !is_float(type) ? APUS_I64 : type;
  char *memory = values(type, count, kind == APUS_REDUCE_PRODUCT), *x = lay(l, type, memory, strides);
  if (is_float(type) && !sum && count > 20) put(type, memory, 3, NAN);
  char *out = array(out_type, outputs);
  AT_EVERY_THREAD_COUNT("reduction", out, outputs * apus_type_size(out_type), apus_reduce(kind, RANK, l->dims, x, strides, type, axes, out, out_type));
  double *want = array(APUS_F64, outputs), *magnitude = array(APUS_F64, outputs);
  int64_t *integer = array(APUS_I64, outputs);
  bool *touched = array(APUS_BOOL, outputs);
  for (int64_t i = 0; i < outputs; i++) want[i] = kind == APUS_REDUCE_PRODUCT, integer[i] = kind == APUS_REDUCE_PRODUCT || kind == APUS_REDUCE_ALL;
  for (int64_t flat = 0; flat < count; flat++) {
    int64_t index[RANK], to = 0;
    indices_of(flat, l->dims, index);
    for (int d = 0; d < RANK; d++) if (!(axes >> d & 1)) to = to * l->dims[d] + index[d];
    int64_t from = offset(index, strides, type), n = is_float(type) ? 0 : get_integer(type, x, from);
    double v = is_float(type) ? get(type, x, from) : 0;
    bool first = !touched[to], is_true = is_float(type) ? v != 0 : n != 0;
    touched[to] = true;
    magnitude[to] += kind == APUS_REDUCE_SUM_SQUARES ? v * v : fabs(v);
    switch (kind) {
    case APUS_REDUCE_SUM: want[to] += v, integer[to] = (int64_t)((uint64_t)integer[to] + (uint64_t)n); break;
    case APUS_REDUCE_PRODUCT: want[to] *= v, integer[to] = (int64_t)((uint64_t)integer[to] * (uint64_t)n); break;
    case APUS_REDUCE_SUM_SQUARES: want[to] += v * v, integer[to] = (int64_t)((uint64_t)integer[to] + (uint64_t)n * (uint64_t)n); break;
    case APUS_REDUCE_MAX:
      if (first || isnan(v) || v > want[to]) want[to] = isnan(want[to]) ? NAN : v;
      if (first || n > integer[to]) integer[to] = n;
      break;
    case APUS_REDUCE_MIN:
      if (first || isnan(v) || v < want[to]) want[to] = isnan(want[to]) ? NAN : v;
      if (first || n < integer[to]) integer[to] = n;
      break;
    case APUS_REDUCE_ANY: integer[to] |= is_true; break;
    case APUS_REDUCE_ALL: integer[to] &= is_true; break;
    }
  }
  int64_t wrong = 0;
  double accumulator = type == APUS_F64 ? 0x1p-53 : 0x1p-24;
  for (int64_t i = 0; i < outputs; i++) {
    if (truth || !is_float(type)) {
      wrong += get_integer(out_type, out, i) != integer[i];
    } else {
      double got = get(type, out, i), scale = kind == APUS_REDUCE_PRODUCT ? fabs(want[i]) : magnitude[i];
      double bound = sum ? scale * accumulator * (double)(reduced + 2) + fabs(want[i]) * unit(type) * 1.01 : 0;
      wrong += !(same(got, want[i]) || fabs(got - want[i]) <= bound);
    }
  }
  expect(wrong == 0, "kind %d, type %d, axes %u of %lldx%lldx%lld: %lld wrong", kind, type, axes, (long long)l->dims[0],
         (long long)l->dims[1], (long long)l->dims[2], (long long)wrong);
  if (!is_float(out_type)) fingerprint(out, (size_t)(outputs * apus_type_size(out_type)));
}

static void arg_reduce(bool largest, int type, const layout *l, int axis) {
  int64_t strides[RANK], count = l->dims[0] * l->dims[1] * l->dims[2], n = l->dims[axis];
  char *memory = values(type, count, false), *x = lay(l, type, memory, strides);
  if (is_float(type) && count > 20) put(type, memory, 3, NAN);
  int64_t *out = array(APUS_I64, count / n), wrong = 0;
  AT_EVERY_THREAD_COUNT("arg-reduction", out, count / n * 8, apus_arg_reduce(largest, RANK, l->dims, x, strides, type, axis, out));
  for (int64_t flat = 0, to = 0; flat < count; flat++) {
    int64_t index[RANK], best = 0;
    indices_of(flat, l->dims, index);
    if (index[axis] != 0) continue;
    for (int64_t i = 1; i < n; i++) {
      int64_t base = offset(index, strides, type), step = strides[axis] / apus_type_size(type), a = base + i * step, b = base + best * step;
      if (is_float(type)) {
        double v = get(type, x, a), w = get(type, x, b);
        if (!isnan(w) && (isnan(v) || (largest ? v > w : v < w))) best = i;
      } else {
        int64_t v = get_integer(type, x, a), w = get_integer(type, x, b);
        if (largest ? v > w : v < w) best = i;
      }
    }
    wrong += out[to++] != best;
  }
  expect(wrong == 0, "arg %s, type %d, axis %d: %lld wrong", largest ? "max" : "min", type, axis, (long long)wrong);
  fingerprint(out, (size_t)(count / n * 8));
}

static void moments(int type, const layout *l, unsigned axes) {
  int64_t strides[RANK], count = 1, outputs = 1;
  for (int d = 0; d < RANK; d++) {
    count *= l->dims[d];
    if (!(axes >> d & 1)) outputs *= l->dims[d];
  }
  int out_type = type == APUS_F64 ? APUS_F64 : APUS_F32;
  char *memory = values(type, count, false), *x = lay(l, type, memory, strides);
  char *both = array(out_type, 2 * outputs), *variance = both + outputs * apus_type_size(out_type);
  AT_EVERY_THREAD_COUNT("moments", both, 2 * outputs * apus_type_size(out_type),
                        apus_moments(RANK, l->dims, x, strides, type, axes, both, variance));
  double *sum = array(APUS_F64, outputs), *squares = array(APUS_F64, outputs), n = (double)(count / outputs);
  for (int pass = 0; pass < 2; pass++)
    for (int64_t flat = 0; flat < count; flat++) {
      int64_t index[RANK], to = 0;
      indices_of(flat, l->dims, index);
      for (int d = 0; d < RANK; d++) if (!(axes >> d & 1)) to = to * l->dims[d] + index[d];
      double v = get(type, x, offset(index, strides, type));
      if (pass == 0) sum[to] += v; else squares[to] += (v - sum[to] / n) * (v - sum[to] / n);
    }
  int64_t wrong = 0;
  double tolerance = 32 * unit(out_type) + n * 0x1p-53;  // the second: the reference's own sums
  for (int64_t i = 0; i < outputs; i++)
    wrong += !close_to(get(out_type, both, i), sum[i] / n, tolerance) || !close_to(get(out_type, variance, i), squares[i] / n, tolerance);
  expect(wrong == 0, "moments, type %d, axes %u: %lld wrong", type, axes, (long long)wrong);
}

void check_reductions(void) {
  for (int i = 0; i < LENGTH(layouts); i++)
    for (int type = 0; type <= APUS_F64; type++) {
      int64_t size = layouts[i].dims[0] * layouts[i].dims[1] * layouts[i].dims[2], part = size > 50000 ? 12 : size > 3000 ? 2 : 1;
      for (unsigned axes = 1; axes < 8; axes++)
        for (int kind = 0; kind <= APUS_REDUCE_SUM_SQUARES; kind++)
          if ((axes + (unsigned)kind + (unsigned)type) % part == 0) reduce(kind, type, &layouts[i], axes);
      for (int axis = 0; axis < RANK; axis++)
        for (int largest = 0; largest < 2; largest++)
          if ((axis + largest + type) % part < 2) arg_reduce(largest, type, &layouts[i], axis);
      for (unsigned axes = 1; axes < 8 && is_float(type); axes++)
        if ((axes + (unsigned)type) % part < 2) moments(type, &layouts[i], axes);
    }
}

// The running value after v: in double, or wrapping in int64.
static double follow(int kind, double value, double v) {
  switch (kind) {
  case APUS_SCAN_SUM: return value + v;
  case APUS_SCAN_PRODUCT: return value * v;
  case APUS_SCAN_MAX: return value > v ? value : v;
  case APUS_SCAN_MIN: return value < v ? value : v;
  }
  double top = fmax(value, v);  // log(e^value + e^v)
  return top + log(exp(value - top) + exp(v - top));
}
static int64_t follow_integer(int kind, int64_t value, int64_t v) {
  switch (kind) {
  case APUS_SCAN_SUM: return (int64_t)((uint64_t)value + (uint64_t)v);
  case APUS_SCAN_PRODUCT: return (int64_t)((uint64_t)value * (uint64_t)v);
  case APUS_SCAN_MAX: return value > v ? value : v;
  }
  return value < v ? value : v;
}

static void scan(int kind, int type, const layout *l, int axis, bool exclusive, bool reverse) {
  int64_t strides[RANK], count = l->dims[0] * l->dims[1] * l->dims[2], n = l->dims[axis], step = 1, wrong = 0;
  bool sum = kind == APUS_SCAN_SUM || kind == APUS_SCAN_PRODUCT, integer = !is_float(type);
  int out_type = sum && integer ? APUS_I64 : type, bits = (int)(8 * apus_type_size(type));
  char *x = lay(l, type, values(type, count, kind == APUS_SCAN_PRODUCT), strides), *out = array(out_type, count);
  AT_EVERY_THREAD_COUNT("scan", out, count * apus_type_size(out_type),
                        apus_scan(kind, RANK, l->dims, x, strides, type, axis, exclusive, reverse, out, out_type));
  for (int d = RANK - 1; d > axis; d--) step *= l->dims[d];
  bool is_unsigned = type == APUS_U8 || type == APUS_BOOL;
  int64_t lowest = is_unsigned ? 0 : INT64_MIN >> (64 - bits), highest = type == APUS_BOOL ? 1 : is_unsigned ? 255 : INT64_MAX >> (64 - bits);
  for (int64_t flat = 0; flat < count; flat++) {
    int64_t index[RANK], whole = kind == APUS_SCAN_MAX ? lowest : kind == APUS_SCAN_MIN ? highest : kind == APUS_SCAN_PRODUCT;
    indices_of(flat, l->dims, index);
    if (index[axis] != 0) continue;
    double value = kind == APUS_SCAN_SUM ? 0 : kind == APUS_SCAN_PRODUCT ? 1 : kind == APUS_SCAN_MIN ? INFINITY : -INFINITY, size = 0;
    for (int64_t k = 0; k < n; k++) {
      int64_t i = reverse ? n - 1 - k : k, to = flat + i * step;
      int64_t from = offset(index, strides, type) + i * (strides[axis] / apus_type_size(type));
      double before = value;
      int64_t before_whole = whole;
      if (integer) {
        whole = follow_integer(kind, whole, get_integer(type, x, from));
        wrong += get_integer(out_type, out, to) != (exclusive ? before_whole : whole);
        continue;
      }
      double v = get(type, x, from), accumulator = type == APUS_F64 ? 0x1p-53 : 0x1p-24;
      value = follow(kind, value, v);
      double want = exclusive ? before : value, got = get(out_type, out, to);
      size += kind == APUS_SCAN_SUM ? fabs(v) : kind == APUS_SCAN_PRODUCT ? fabs(value) : kind == APUS_SCAN_LOG_SUM_EXP ? 4 : 0;
      double bound = size * accumulator * (double)(k + 2) + fabs(want) * unit(type) * 1.01;
      wrong += !(same(got, want) || fabs(got - want) <= bound);
    }
  }
  expect(wrong == 0, "kind %d, type %d, axis %d, exclusive %d, reverse %d of %lldx%lldx%lld: %lld wrong", kind, type, axis, exclusive, reverse,
         (long long)l->dims[0], (long long)l->dims[1], (long long)l->dims[2], (long long)wrong);
  if (integer) fingerprint(out, (size_t)(count * apus_type_size(out_type)));
}

void check_scans(void) {
  for (int i = 0; i < LENGTH(layouts); i++)
    for (int type = 0; type <= APUS_F64; type++)
      for (int kind = 0; kind <= (is_float(type) ? APUS_SCAN_LOG_SUM_EXP : APUS_SCAN_MIN); kind++)
        for (int axis = 0; axis < RANK; axis++)
          for (int way = 0; way < 4; way++)
            if (layouts[i].dims[0] * layouts[i].dims[1] * layouts[i].dims[2] < 3000 || way + 4 * (axis / 2) == (axis + 2 * type + kind) % 8)
              scan(kind, type, &layouts[i], axis, way & 1, way >> 1);
}
