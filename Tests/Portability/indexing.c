#include "check.h"

static int64_t drawn_index(int64_t n) { return below(2 * n) - n; }  // negative ones count from the end
static int64_t from_start(int64_t i, int64_t n) { return i < 0 ? i + n : i; }
static void *drawn_indices(int type, int64_t count, int64_t n) {
  void *p = array(type, count);
  for (int64_t i = 0; i < count; i++) put_integer(type, p, i, drawn_index(n));
  return p;
}

// What an element that held `a` holds after an update by `b`; half precisions keep it in float32 until the end.
static double meet(int kind, double a, double b) {
  switch (kind) {
  case APUS_PUT_ADD: return (double)(float)(a + b);
  case APUS_PUT_MULTIPLY: return (double)(float)(a * b);
  case APUS_PUT_MIN: return isnan(a) || isnan(b) ? NAN : a < b ? a : b;
  case APUS_PUT_MAX: return isnan(a) || isnan(b) ? NAN : a > b ? a : b;
  }
  return b;
}
static int64_t meet_integer(int kind, int type, int64_t a, int64_t b) {
  switch (kind) {
  case APUS_PUT_ADD: return type == APUS_BOOL ? a | b : wrapped(type, (int64_t)((uint64_t)a + (uint64_t)b));
  case APUS_PUT_MULTIPLY: return type == APUS_BOOL ? a & b : wrapped(type, (int64_t)((uint64_t)a * (uint64_t)b));
  case APUS_PUT_MIN: return a < b ? a : b;
  case APUS_PUT_MAX: return a > b ? a : b;
  }
  return b;
}

// Multiples of 1/8 of at most 2 and factors near one: sums and products in float32 are exact or nearly so.
static void *updates(int kind, int type, int64_t count) {
  void *p = reals(type, count);
  if (is_float(type)) {
    for (int64_t i = 0; i < count; i++) put(type, p, i, kind == APUS_PUT_MULTIPLY ? (below(2) ? 0.5 : 2) : (double)(below(32) - 16) / 8);
    if (kind != APUS_PUT_MULTIPLY) put(type, p, count / 2, NAN);
  }
  if (type == APUS_BOOL) for (int64_t i = 0; i < count; i++) put_integer(type, p, i, below(2));
  return p;
}

// Applies updates to an expectation held in double or int64.
typedef struct { int kind, type; double *real; int64_t *integer; } expectation;
static expectation begin(int kind, int type, const void *dst, int64_t count) {
  expectation e = {kind, type, array(APUS_F64, count), array(APUS_I64, count)};
  for (int64_t i = 0; i < count; i++)
    if (is_float(type)) e.real[i] = get(type, dst, i); else e.integer[i] = get_integer(type, dst, i);
  return e;
}
static void apply(expectation *e, int64_t to, const void *updates, int64_t from) {
  if (is_float(e->type)) e->real[to] = meet(e->kind, e->real[to], get(e->type, updates, from));
  else e->integer[to] = meet_integer(e->kind, e->type, e->integer[to], get_integer(e->type, updates, from));
}
static int64_t differing(const expectation *e, const void *got, int64_t count) {
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; i++)
    wrong += is_float(e->type) ? !(same(get(e->type, got, i), rounded(e->type, e->real[i])) || (e->real[i] == 0 && get(e->type, got, i) == 0))
                               : get_integer(e->type, got, i) != e->integer[i];
  if (is_float(e->type)) fingerprint_floats(e->type, got, count); else fingerprint(got, (size_t)(count * apus_type_size(e->type)));
  return wrong;
}

static void rows(int kind, int type, int index_type) {
  enum { OUTER = 3, N = 11, M = 200, ROW = 99 };
  int64_t size = apus_type_size(type), wrong = 0, bad = 0;
  char *src = reals(type, OUTER * N * ROW), *taken = array(type, OUTER * M * ROW), *dst = updates(kind, type, OUTER * N * ROW);
  void *indices = drawn_indices(index_type, M, N), *u = updates(kind, type, OUTER * M * ROW);
  AT_EVERY_THREAD_COUNT("take", taken, OUTER * M * ROW * size, bad = apus_take(OUTER, N, M, ROW * size, taken, src, indices, index_type));
  for (int64_t o = 0; o < OUTER; o++)
    for (int64_t j = 0; j < M; j++)
      wrong += memcmp(taken + (o * M + j) * ROW * size, src + (o * N + from_start(get_integer(index_type, indices, j), N)) * ROW * size, (size_t)(ROW * size)) != 0;
  expect(wrong == 0 && bad == -1, "take, type %d: %lld wrong", type, (long long)wrong);
  expectation e = begin(kind, type, dst, OUTER * N * ROW);
  for (int64_t o = 0; o < OUTER; o++)
    for (int64_t j = 0; j < M; j++)
      for (int64_t r = 0; r < ROW; r++) apply(&e, (o * N + from_start(get_integer(index_type, indices, j), N)) * ROW + r, u, (o * M + j) * ROW + r);
  AT_EVERY_THREAD_COUNT("put", dst, OUTER * N * ROW * size, bad = apus_put(kind, type, OUTER, N, M, ROW, dst, indices, index_type, u));
  wrong = differing(&e, dst, OUTER * N * ROW);
  expect(wrong == 0 && bad == -1, "put %d, type %d: %lld wrong", kind, type, (long long)wrong);
  put_integer(index_type, indices, 7, N);
  expect(apus_put(kind, type, OUTER, N, M, ROW, dst, indices, index_type, u) == 7, "put names the index out of range");
}

static void along(int kind, int type, int index_type, int axis) {
  int64_t dims[2] = {130, 210}, extent[2] = {130, 210}, size = apus_type_size(type), wrong = 0, bad = 0, n = 9;
  extent[axis] = n;
  int64_t wide = extent[0] * extent[1], count = dims[0] * dims[1], index_size = apus_type_size(index_type);
  const int64_t strides[2] = {size * dims[1], size}, extent_strides[2] = {size, size * extent[0]}, index_strides[2] = {index_size * dims[1], index_size};
  char *src = reals(type, wide), *taken = array(type, count), *dst = updates(kind, type, wide);
  void *indices = drawn_indices(index_type, count, n), *u = updates(kind, type, count);
  AT_EVERY_THREAD_COUNT("take along", taken, count * size,
                        bad = apus_take_along(2, dims, axis, n, taken, strides, src, extent_strides, size, indices, index_strides, index_type));
  expectation e = begin(kind, type, dst, wide);
  for (int64_t i = 0; i < dims[0]; i++)
    for (int64_t j = 0; j < dims[1]; j++) {
      int64_t flat = i * dims[1] + j, k = from_start(get_integer(index_type, indices, flat), n), place = axis == 0 ? k + j * extent[0] : i + k * extent[0];
      wrong += memcmp(taken + flat * size, src + place * size, (size_t)size) != 0;
      apply(&e, place, u, flat);
    }
  expect(wrong == 0 && bad == -1, "take along %d, type %d: %lld wrong", axis, type, (long long)wrong);
  AT_EVERY_THREAD_COUNT("put along", dst, wide * size,
                        bad = apus_put_along(kind, type, 2, dims, axis, n, dst, extent_strides, u, strides, indices, index_strides, index_type));
  wrong = differing(&e, dst, wide);
  expect(wrong == 0 && bad == -1, "put along %d, kind %d, type %d: %lld wrong", axis, kind, type, (long long)wrong);
}

static void several(int kind, int type, int index_type) {
  enum { A = 6, B = 7, INNER = 50, M = 600 };
  int64_t size = apus_type_size(type), wrong = 0, bad = 0, inner[1] = {INNER}, inner_strides[1] = {size * A * B};  // the inner dimension lies outermost
  const int64_t extents[2] = {A, B}, strides[2] = {size * B, size};
  char *src = updates(kind, type, A * B * INNER), *out = array(type, M * INNER);
  void *indices[2] = {drawn_indices(index_type, M, A), drawn_indices(index_type, M, B)}, *u = updates(kind, type, M * INNER);
  AT_EVERY_THREAD_COUNT("gather", out, M * INNER * size,
                        bad = apus_gather(2, extents, strides, 1, inner, inner_strides, src, out, size, M, (const void *const *)indices, index_type));
  expectation e = begin(kind, type, src, A * B * INNER);
  for (int64_t j = 0; j < M; j++)
    for (int64_t r = 0; r < INNER; r++) {
      int64_t place = r * A * B + from_start(get_integer(index_type, indices[0], j), A) * B + from_start(get_integer(index_type, indices[1], j), B);
      wrong += memcmp(out + (j * INNER + r) * size, src + place * size, (size_t)size) != 0;
      apply(&e, place, u, j * INNER + r);
    }
  expect(wrong == 0 && bad == -1, "gather, type %d: %lld wrong", type, (long long)wrong);
  AT_EVERY_THREAD_COUNT("scatter", src, A * B * INNER * size,
                        bad = apus_scatter(kind, type, 2, extents, strides, 1, inner, inner_strides, src, u, M, (const void *const *)indices, index_type));
  wrong = differing(&e, src, A * B * INNER);
  expect(wrong == 0 && bad == -1, "scatter %d, type %d: %lld wrong", kind, type, (long long)wrong);
}

static void masks(int type) {
  int64_t dims[3] = {5, 130, 41}, count = 5 * 130 * 41, size = apus_type_size(type), found = 0, wrong = 0;
  const int64_t strides[3] = {size * 41, size * 41 * 5, size};
  char *src = array(type, count);
  uint8_t *mask = array(APUS_U8, count);
  for (int64_t i = 0; i < count; i++)
    if (below(3) == 0) { if (is_float(type)) put(type, src, i, below(9) ? real() : NAN); else put_integer(type, src, i, 1); }
  int64_t *want = array(APUS_I64, 3 * count), *got = array(APUS_I64, 3 * count);
  for (int64_t i = 0; i < dims[0]; i++)
    for (int64_t j = 0; j < dims[1]; j++)
      for (int64_t k = 0; k < dims[2]; k++) {
        int64_t at = (i * strides[0] + j * strides[1] + k * strides[2]) / size;
        if (is_float(type) ? get(type, src, at) == 0 : get_integer(type, src, at) == 0) continue;
        mask[at] = 1;
        want[3 * found] = i, want[3 * found + 1] = j, want[3 * found++ + 2] = k;
      }
  int64_t counted = 0;
  AT_EVERY_THREAD_COUNT("nonzero", got, 3 * count * 8,
                        (counted = apus_count_nonzero(type, 3, dims, src, strides), apus_nonzero(type, 3, dims, src, strides, got)));
  expect(counted == found && memcmp(want, got, (size_t)(24 * found)) == 0, "nonzero, type %d", type);
  char *packed = array(type, count), *back = array(type, count);
  expect(apus_compress(count, mask, size, src, packed) == found, "compress, type %d", type);
  expect(apus_expand(count, mask, size, packed, back) == found, "expand, type %d", type);
  for (int64_t i = 0; i < count; i++) wrong += mask[i] && memcmp(src + i * size, back + i * size, (size_t)size) != 0;
  expect(wrong == 0, "compress and expand, type %d: %lld wrong", type, (long long)wrong);
}

void check_indexing(void) {
  for (int type = 0; type <= APUS_F64; type++) {
    for (int kind = APUS_PUT_SET; kind <= APUS_PUT_MAX; kind++) {
      int index_type = (type + kind) % 2 ? APUS_I32 : APUS_I64;
      rows(kind, type, index_type);
      along(kind, type, index_type, 0), along(kind, type, index_type, 1);
      several(kind, type, index_type);
    }
    masks(type);
  }
}
