// Strided copies: dimensions are put in the destination's order, merged, and walked plane by plane.
#include "apus_movement.h"
#include "strided.h"
#include <stdlib.h>

typedef enum { PLANE_RUN, PLANE_SPLAT, PLANE_REVERSE, PLANE_TRANSPOSE, PLANE_STRIDED } plane_kind;

#define APUS_SUFFIX narrow
#define APUS_BYTES 16
#include "movement_body.inc"
#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define APUS_SUFFIX avx2
#define APUS_BYTES 32
#include "movement_body.inc"
#pragma clang attribute pop
#endif

static inline void run_plane(bool wide, plane_kind kind, int64_t n0, int64_t n1, char *dst, int64_t d0, int64_t d1,
                             const char *src, int64_t s0, int64_t s1, int size) {
#if defined(__x86_64__)
  if (wide) {
    plane_avx2(kind, n0, n1, dst, d0, d1, src, s0, s1, size);
    return;
  }
#endif
  (void)wide;
  plane_narrow(kind, n0, n1, dst, d0, d1, src, s0, s1, size);
}

// A copy in loop order: `outer` dimensions around planes of n0 x n1, each cut into tiles.
typedef struct {
  plane_kind kind;
  bool wide;
  int size, outer;
  int64_t dims[APUS_MAX_RANK], dst_strides[APUS_MAX_RANK], src_strides[APUS_MAX_RANK];
  int64_t n0, d0, s0, n1, d1, s1;
  int64_t tile0, tile1, tiles0, tiles1;  // the last tile of a row takes the remainder
  int64_t units, tasks;
  char *dst;
  const char *src;
} copy_plan;

static void copy_units(const copy_plan *p, int64_t first, int64_t last) {
  int64_t index[APUS_MAX_RANK] = {0};
  int64_t tiles = p->tiles0 * p->tiles1, plane = first / tiles, tile = first % tiles;
  char *dst = p->dst;
  const char *src = p->src;
  for (int i = p->outer - 1; i >= 0; i--) {
    index[i] = plane % p->dims[i];
    plane /= p->dims[i];
    dst += index[i] * p->dst_strides[i];
    src += index[i] * p->src_strides[i];
  }
  for (int64_t unit = first; unit < last; unit++) {
    int64_t t0 = tile / p->tiles1, t1 = tile % p->tiles1, a = t0 * p->tile0, b = t1 * p->tile1;
    int64_t n0 = t0 == p->tiles0 - 1 ? p->n0 - a : p->tile0, n1 = t1 == p->tiles1 - 1 ? p->n1 - b : p->tile1;
    run_plane(p->wide, p->kind, n0, n1, dst + a * p->d0 + b * p->d1, p->d0, p->d1, src + a * p->s0 + b * p->s1, p->s0, p->s1,
              p->size);
    if (++tile < tiles) continue;
    tile = 0;
    for (int i = p->outer - 1; i >= 0; i--) {
      dst += p->dst_strides[i];
      src += p->src_strides[i];
      if (++index[i] < p->dims[i]) break;
      dst -= p->dims[i] * p->dst_strides[i];
      src -= p->dims[i] * p->src_strides[i];
      index[i] = 0;
    }
  }
}

static void copy_task(void *context, int64_t t) {
  const copy_plan *p = context;
  copy_units(p, apus_share(p->units, p->tasks, t), apus_share(p->units, p->tasks, t + 1));
}

enum { PARALLEL_BYTES = 256 << 10, TASK_BYTES = 64 << 10, MOST_TASKS = 64 };

// Extent-1 dimensions dropped, destination strides made positive, sorted outermost first, neighbours merged.
// Returns false if there is nothing to copy.
static bool arrange(copy_plan *p, int rank, const int64_t *dims, const int64_t *dst_strides, const int64_t *src_strides) {
  int r = 0;
  for (int i = 0; i < rank; i++) {
    int64_t n = dims[i], d = dst_strides[i], s = src_strides[i];
    if (n == 0) return false;
    if (n == 1) continue;
    if (d < 0) {
      p->dst += (n - 1) * d;
      p->src += (n - 1) * s;
      d = -d;
      s = -s;
    }
    int at = r++;
    while (at > 0 && p->dst_strides[at - 1] < d) {
      p->dims[at] = p->dims[at - 1];
      p->dst_strides[at] = p->dst_strides[at - 1];
      p->src_strides[at] = p->src_strides[at - 1];
      at--;
    }
    p->dims[at] = n;
    p->dst_strides[at] = d;
    p->src_strides[at] = s;
  }
  int kept = 0;
  for (int i = 0; i < r; i++) {
    int64_t n = p->dims[i], d = p->dst_strides[i], s = p->src_strides[i];
    if (kept > 0 && p->dst_strides[kept - 1] == n * d && p->src_strides[kept - 1] == n * s) {
      p->dims[kept - 1] *= n;
    } else {
      p->dims[kept++] = n;
    }
    p->dst_strides[kept - 1] = d;
    p->src_strides[kept - 1] = s;
  }
  // A short contiguous run of 2, 4 or 8 bytes is one wider element.
  if (kept > 1 && p->dst_strides[kept - 1] == p->size && p->src_strides[kept - 1] == p->size) {
    int64_t bytes = p->dims[kept - 1] * p->size;
    if (bytes == 2 || bytes == 4 || bytes == 8) {
      p->size = (int)bytes;
      kept--;
    }
  }
  p->outer = kept;
  return true;
}

// Takes the two plane dimensions out of the loop order and settles how a plane is copied.
static void choose_plane(copy_plan *p) {
  int last = --p->outer;
  int64_t size = p->size;
  p->n1 = p->dims[last];
  p->d1 = p->dst_strides[last];
  p->s1 = p->src_strides[last];
  p->n0 = 1;
  p->d0 = p->s0 = 0;
  p->kind = p->d1 != size ? PLANE_STRIDED
      : p->s1 == size ? PLANE_RUN
      : p->s1 == 0 ? PLANE_SPLAT
      : p->s1 == -size ? PLANE_REVERSE : PLANE_STRIDED;
  if (p->outer == 0) return;
  int other = p->outer - 1;
  if (p->kind == PLANE_STRIDED) {  // pair the dimension in which the source runs on
    for (int i = p->outer - 1; i >= 0; i--) {
      int64_t s = apus_magnitude(p->src_strides[i]), best = apus_magnitude(p->src_strides[other]);
      if (s != 0 && (best == 0 || s < best)) other = i;
    }
    if (p->src_strides[other] == -size) {
      p->dst += (p->dims[other] - 1) * p->dst_strides[other];
      p->src += (p->dims[other] - 1) * p->src_strides[other];
      p->dst_strides[other] = -p->dst_strides[other];
      p->src_strides[other] = size;
    }
    if (p->src_strides[other] == size && p->d1 == size) p->kind = PLANE_TRANSPOSE;
  }
  p->n0 = p->dims[other];
  p->d0 = p->dst_strides[other];
  p->s0 = p->src_strides[other];
  p->outer--;
  for (int i = other; i < p->outer; i++) {
    p->dims[i] = p->dims[i + 1];
    p->dst_strides[i] = p->dst_strides[i + 1];
    p->src_strides[i] = p->src_strides[i + 1];
  }
}

static void choose_tiles(copy_plan *p) {
  if (p->kind == PLANE_TRANSPOSE || p->kind == PLANE_STRIDED) {
    p->tile0 = 256 / p->size;
    p->tile1 = 1024 / p->size;
  } else {
    int64_t row = p->n1 * p->size;
    p->tile1 = row >= 2 * TASK_BYTES ? TASK_BYTES / p->size : p->n1;
    p->tile0 = apus_larger(1, TASK_BYTES / row);
  }
  p->tiles0 = apus_larger(1, p->n0 / p->tile0);
  p->tiles1 = apus_larger(1, p->n1 / p->tile1);
}

void apus_copy_strided(int rank, const int64_t *dims, void *dst, const int64_t *dst_strides, const void *src,
                       const int64_t *src_strides, int64_t element_size) {
  copy_plan p;
  p.size = (int)element_size;
  p.dst = dst;
  p.src = src;
  if (!arrange(&p, rank, dims, dst_strides, src_strides)) return;
  if (p.outer == 0) {
    memcpy(p.dst, p.src, (size_t)p.size);
    return;
  }
  choose_plane(&p);
  int64_t planes = apus_count_elements(p.outer, p.dims), bytes = planes * p.n0 * p.n1 * p.size;
  p.wide = apus_current_isa() == APUS_ISA_AVX2 || apus_current_isa() == APUS_ISA_AVX512;
  if (bytes < 32 << 10) {
    p.tile0 = p.n0;
    p.tile1 = p.n1;
    p.tiles0 = p.tiles1 = 1;
    copy_units(&p, 0, planes);
    return;
  }
  choose_tiles(&p);
  p.units = planes * p.tiles0 * p.tiles1;
  if (bytes < PARALLEL_BYTES) {
    copy_units(&p, 0, p.units);
    return;
  }
  p.tasks = apus_smaller(apus_smaller(p.units, bytes / TASK_BYTES), MOST_TASKS);
  apus_parallel(p.tasks, copy_task, &p);
}

void apus_fill(int rank, const int64_t *dims, void *dst, const int64_t *dst_strides, int64_t element_size, const void *value) {
  const int64_t zeros[APUS_MAX_RANK] = {0};
  apus_copy_strided(rank, dims, dst, dst_strides, value, zeros, element_size);
}

void apus_pad(int rank, const int64_t *src_dims, const void *src, const int64_t *src_strides, void *dst,
              const int64_t *dst_strides, const int64_t *low, const int64_t *high, const int64_t *interior,
              int64_t element_size, const void *value) {
  // Along each dimension source elements first..<first + count land at place, place + step, ...
  int64_t extents[APUS_MAX_RANK], counts[APUS_MAX_RANK], places[APUS_MAX_RANK], into[APUS_MAX_RANK], sub_strides[APUS_MAX_RANK];
  const char *from = src;
  char *to = dst;
  bool gaps = false, empty = false;
  for (int i = 0; i < rank; i++) {
    int64_t step = 1 + (interior ? interior[i] : 0), n = src_dims[i];
    int64_t extent = low[i] + (n > 0 ? (n - 1) * step + 1 : 0) + high[i];
    int64_t first = low[i] < 0 ? (-low[i] + step - 1) / step : 0;
    int64_t place = low[i] + first * step;
    int64_t count = place < extent ? apus_smaller(n - first, (extent - place + step - 1) / step) : 0;
    if (extent <= 0) return;
    if (count <= 0) empty = true;
    if (step > 1 && count > 1) gaps = true;
    extents[i] = extent;
    counts[i] = count;
    places[i] = place;
    sub_strides[i] = dst_strides[i] * step;
    from += first * src_strides[i];
    to += place * dst_strides[i];
  }
  if (empty || gaps) {
    apus_fill(rank, extents, dst, dst_strides, element_size, value);
    if (empty) return;
  } else {
    // The border only: slabs before and after dimension i, within the part not yet covered by earlier ones.
    memcpy(into, extents, sizeof into);
    char *corner = dst;
    for (int i = 0; i < rank; i++) {
      int64_t after = places[i] + counts[i];
      if (places[i] > 0) {
        into[i] = places[i];
        apus_fill(rank, into, corner, dst_strides, element_size, value);
      }
      if (after < extents[i]) {
        into[i] = extents[i] - after;
        apus_fill(rank, into, corner + after * dst_strides[i], dst_strides, element_size, value);
      }
      into[i] = counts[i];
      corner += places[i] * dst_strides[i];
    }
  }
  apus_copy_strided(rank, counts, to, sub_strides, from, src_strides, element_size);
}

void apus_concatenate(int rank, const int64_t *dims, int axis, void *dst, const int64_t *dst_strides, int64_t count,
                      const void *const *sources, const int64_t *extents, const int64_t *src_strides, int64_t element_size) {
  int64_t part[APUS_MAX_RANK];
  memcpy(part, dims, (size_t)rank * sizeof *part);
  char *to = dst;
  for (int64_t s = 0; s < count; s++) {
    part[axis] = extents[s];
    apus_copy_strided(rank, part, to, dst_strides, sources[s], src_strides + s * rank, element_size);
    to += extents[s] * dst_strides[axis];
  }
}

// ---- Triangle ---------------------------------------------------------------------------------------
typedef struct {
  int rank;
  const int64_t *dims, *dst_strides, *src_strides;
  char *dst;
  const char *src;
  int64_t size, diagonal, rows, tasks;
  bool upper;
} triangle;

static void triangle_task(void *context, int64_t t) {
  const triangle *p = context;
  int64_t height = p->dims[p->rank - 2], width = p->dims[p->rank - 1];
  int64_t dstep = p->dst_strides[p->rank - 1], sstep = p->src_strides[p->rank - 1];
  const uint64_t zero = 0;
  for (int64_t row = apus_share(p->rows, p->tasks, t); row < apus_share(p->rows, p->tasks, t + 1); row++) {
    char *dst = p->dst;
    const char *src = p->src;
    int64_t rest = row;
    for (int i = p->rank - 2; i >= 0; i--) {
      int64_t index = rest % p->dims[i];
      rest /= p->dims[i];
      dst += index * p->dst_strides[i];
      src += index * p->src_strides[i];
    }
    // Columns below `edge` satisfy column - row <= diagonal (lower), column - row < diagonal (upper).
    int64_t edge = row % height + p->diagonal + (p->upper ? 0 : 1);
    edge = edge < 0 ? 0 : edge > width ? width : edge;
    int64_t kept = p->upper ? width - edge : edge, cleared = width - kept;
    int64_t kept_at = p->upper ? edge : 0, cleared_at = p->upper ? 0 : edge;
    apus_copy_strided(1, &kept, dst + kept_at * dstep, &dstep, src + kept_at * sstep, &sstep, p->size);
    apus_fill(1, &cleared, dst + cleared_at * dstep, &dstep, p->size, &zero);
  }
}

void apus_triangle(int rank, const int64_t *dims, void *dst, const int64_t *dst_strides, const void *src,
                   const int64_t *src_strides, int64_t element_size, int64_t diagonal, bool upper) {
  int64_t count = apus_count_elements(rank, dims);
  if (count == 0) return;
  // Further than the corners changes nothing, and keeps the sums below from overflowing.
  int64_t limit = dims[rank - 2] + dims[rank - 1];
  diagonal = diagonal < -limit ? -limit : diagonal > limit ? limit : diagonal;
  triangle p = {rank, dims, dst_strides, src_strides, dst, src, element_size, diagonal, count / dims[rank - 1], 1, upper};
  if (count * element_size >= PARALLEL_BYTES)
    p.tasks = apus_smaller(apus_smaller(p.rows, count * element_size / TASK_BYTES), MOST_TASKS);
  apus_parallel(p.tasks, triangle_task, &p);
}
