#include "check.h"

enum { RANK = 4 };
static const int64_t shapes[][RANK] = {{1, 1, 1, 1}, {2, 3, 4, 5}, {1, 8, 33, 65}, {3, 1, 70, 2}, {1, 1, 128, 128}, {2, 3, 150, 130}, {2, 0, 3, 4}};
static const int orders[][RANK] = {{0, 1, 2, 3}, {0, 1, 3, 2}, {3, 2, 1, 0}, {0, 2, 3, 1}, {1, 0, 2, 3}};
static const int types[] = {APUS_U8, APUS_I16, APUS_I32, APUS_I64};  // one of each size

static int64_t product(const int64_t *dims) { return dims[0] * dims[1] * dims[2] * dims[3]; }
static void indices_of(int64_t flat, const int64_t *dims, int64_t *index) {
  for (int d = RANK - 1; d >= 0; d--) { index[d] = flat % dims[d]; flat /= dims[d]; }
}
static int64_t at(const int64_t *index, const int64_t *strides) {
  return index[0] * strides[0] + index[1] * strides[1] + index[2] * strides[2] + index[3] * strides[3];
}
// Strides (bytes) of `dims` in memory order `order`, with `gap` elements after every line.
static int64_t strides_of(const int64_t *dims, const int *order, int64_t size, int64_t gap, int64_t *strides) {
  int64_t step = size;
  for (int k = RANK - 1; k >= 0; k--) {
    strides[order[k]] = step;
    step = step * (dims[order[k]] > 0 ? dims[order[k]] : 1) + (k == RANK - 1 ? gap * size : 0);
  }
  return step / size + gap + 1;
}

static void copy(const int64_t *dims, int type, const int *from, const int *to, bool reversed, bool broadcast) {
  int64_t size = apus_type_size(type), source[RANK], target[RANK], count = product(dims), wrong = 0;
  int64_t source_count = strides_of(dims, from, size, 0, source), target_count = strides_of(dims, to, size, 1, target);
  char *src = reals(type, source_count), *dst = array(type, target_count), *origin = src;
  if (broadcast) source[1] = 0;
  if (reversed && count > 0) origin += (dims[3] - 1) * source[3], source[3] = -source[3];
  AT_EVERY_THREAD_COUNT("copy", dst, target_count * size, apus_copy_strided(RANK, dims, dst, target, origin, source, size));
  for (int64_t flat = 0; flat < count; flat++) {
    int64_t index[RANK];
    indices_of(flat, dims, index);
    wrong += memcmp(dst + at(index, target), origin + at(index, source), (size_t)size) != 0;
  }
  expect(wrong == 0, "copy of %lldx%lldx%lldx%lld, size %lld: %lld wrong", (long long)dims[0], (long long)dims[1], (long long)dims[2],
         (long long)dims[3], (long long)size, (long long)wrong);
  fingerprint(dst, (size_t)(target_count * size));
  int64_t value = 0x5a5aa5a5123498;
  apus_fill(RANK, dims, dst, target, size, &value);
  wrong = 0;
  for (int64_t flat = 0; flat < count; flat++) {
    int64_t index[RANK];
    indices_of(flat, dims, index);
    wrong += memcmp(dst + at(index, target), &value, (size_t)size) != 0;
  }
  expect(wrong == 0, "fill, size %lld: %lld wrong", (long long)size, (long long)wrong);
}

static void pad(int type, const int64_t *low, const int64_t *high, const int64_t *interior) {
  static const int64_t dims[RANK] = {2, 3, 5, 9};
  int64_t size = apus_type_size(type), source[RANK], target[RANK], out[RANK], wrong = 0, value = 77;
  for (int d = 0; d < RANK; d++) out[d] = low[d] + dims[d] + (dims[d] - 1) * interior[d] + high[d];
  strides_of(dims, orders[1], size, 0, source), strides_of(out, orders[0], size, 0, target);
  char *src = reals(type, product(dims)), *dst = array(type, product(out));
  AT_EVERY_THREAD_COUNT("pad", dst, product(out) * size, apus_pad(RANK, dims, src, source, dst, target, low, high, interior, size, &value));
  for (int64_t flat = 0; flat < product(out); flat++) {
    int64_t index[RANK], from = 0;
    bool inside = true;
    indices_of(flat, out, index);
    for (int d = 0; d < RANK; d++) {
      int64_t i = index[d] - low[d], step = interior[d] + 1;
      inside = inside && i >= 0 && i % step == 0 && i / step < dims[d];
      from += i / step * source[d];
    }
    wrong += memcmp(dst + flat * size, inside ? src + from : (char *)&value, (size_t)size) != 0;
  }
  expect(wrong == 0, "pad, size %lld: %lld wrong", (long long)size, (long long)wrong);
}

static void join(int type, int axis) {
  int64_t extents[3] = {2, 5, 1}, dims[RANK] = {2, 3, 4, 6}, size = apus_type_size(type), strides[3 * RANK], target[RANK], wrong = 0, start = 0;
  char *sources[3];
  dims[axis] = 8;
  strides_of(dims, orders[0], size, 0, target);
  char *dst = array(type, product(dims));
  for (int s = 0; s < 3; s++) {
    int64_t part[RANK] = {dims[0], dims[1], dims[2], dims[3]};
    part[axis] = extents[s];
    sources[s] = reals(type, strides_of(part, orders[s], size, 0, strides + s * RANK));
  }
  AT_EVERY_THREAD_COUNT("concatenate", dst, product(dims) * size,
                        apus_concatenate(RANK, dims, axis, dst, target, 3, (const void *const *)sources, extents, strides, size));
  for (int s = 0; s < 3; start += extents[s++])
    for (int64_t flat = 0; flat < product(dims); flat++) {
      int64_t index[RANK];
      indices_of(flat, dims, index);
      if (index[axis] < start || index[axis] >= start + extents[s]) continue;
      index[axis] -= start;
      wrong += memcmp(dst + flat * size, sources[s] + at(index, strides + s * RANK), (size_t)size) != 0;
    }
  expect(wrong == 0, "concatenate along %d, size %lld: %lld wrong", axis, (long long)size, (long long)wrong);
}

static void count_up(int type) {
  int64_t count = 100000, wrong = 0;
  void *out = array(type, count);
  AT_EVERY_THREAD_COUNT("iota", out, count * apus_type_size(type), apus_iota(type, count, out, -7, 3));
  for (int64_t i = 0; i < count; i++)
    wrong += is_float(type) ? get(type, out, i) != rounded(type, (double)(3 * i - 7)) : get_integer(type, out, i) != wrapped(type, 3 * i - 7);
  fingerprint(out, (size_t)(count * apus_type_size(type)));
  apus_iota_real(type, count, out, 0.75, 0.3);
  for (int64_t i = 0; i < count && is_float(type); i++)
    wrong += get(type, out, i) != rounded(type, 0.75 + (double)i * 0.3);
  if (is_float(type)) fingerprint(out, (size_t)(count * apus_type_size(type)));
  expect(wrong == 0, "iota of type %d: %lld wrong", type, (long long)wrong);
}

static void triangle(int type, int64_t diagonal, bool upper) {
  static const int64_t dims[RANK] = {1, 3, 37, 70};
  int64_t size = apus_type_size(type), source[RANK], target[RANK], wrong = 0, zero = 0;
  strides_of(dims, orders[1], size, 0, source), strides_of(dims, orders[0], size, 0, target);
  char *src = reals(type, product(dims)), *dst = array(type, product(dims));
  AT_EVERY_THREAD_COUNT("triangle", dst, product(dims) * size, apus_triangle(RANK, dims, dst, target, src, source, size, diagonal, upper));
  for (int64_t flat = 0; flat < product(dims); flat++) {
    int64_t index[RANK];
    indices_of(flat, dims, index);
    int64_t off = index[3] - index[2];
    bool kept = upper ? off >= diagonal : off <= diagonal;
    wrong += memcmp(dst + flat * size, kept ? src + at(index, source) : (char *)&zero, (size_t)size) != 0;
  }
  expect(wrong == 0, "triangle %lld, size %lld: %lld wrong", (long long)diagonal, (long long)size, (long long)wrong);
}

void check_movement(void) {
  for (int t = 0; t < LENGTH(types); t++) {
    for (int s = 0; s < LENGTH(shapes); s++)
      for (int from = 0; from < LENGTH(orders); from++)
        for (int way = 0; way < 4; way++) copy(shapes[s], types[t], orders[from], orders[(from + way) % 5], way & 1, way >> 1);
    pad(types[t], (int64_t[]){1, 0, 2, 3}, (int64_t[]){0, 2, 1, 5}, (int64_t[]){0, 0, 0, 0});
    pad(types[t], (int64_t[]){0, -1, 2, -2}, (int64_t[]){0, 1, -3, 4}, (int64_t[]){1, 0, 2, 1});
    for (int axis = 0; axis < RANK; axis++) join(types[t], axis);
    for (int64_t diagonal = -40; diagonal <= 40; diagonal += 20) triangle(types[t], diagonal, false), triangle(types[t], diagonal, true);
  }
  for (int type = 0; type <= APUS_F64; type++) count_up(type);
}
