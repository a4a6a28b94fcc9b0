// Movement: strided copies, fills, padding, joining, counting up, triangles.
//
// Everywhere: rank 0...8; strides are in bytes, one per dimension, and may be zero (broadcast source) or
// negative; the pointer is that of the element at index 0 of every dimension. Empty dimensions are fine.
// A destination must not overlap a source, nor itself (no zero stride where the extent exceeds 1).
// element_size is 1, 2, 4 or 8 bytes; types do not matter to a copy.
#ifndef APUS_MOVEMENT_H
#define APUS_MOVEMENT_H
#include "apus_base.h"

#ifdef __cplusplus
extern "C" {
#endif

// dst[i...] = src[i...]. Permutations, broadcasts, slices with steps and reversals are all this one call.
void apus_copy_strided(int rank, const int64_t *dims, void *dst, const int64_t *dst_strides, const void *src,
                       const int64_t *src_strides, int64_t element_size);

// dst[i...] = *value
void apus_fill(int rank, const int64_t *dims, void *dst, const int64_t *dst_strides, int64_t element_size, const void *value);

// StableHLO pad. Extents of dst: low + src_dims + (src_dims > 0 ? (src_dims - 1) * interior : 0) + high, which the
// caller guarantees to be >= 0. low and high may be negative (crop); interior (NULL = 0) is >= 0.
void apus_pad(int rank, const int64_t *src_dims, const void *src, const int64_t *src_strides, void *dst,
              const int64_t *dst_strides, const int64_t *low, const int64_t *high, const int64_t *interior,
              int64_t element_size, const void *value);

// Joins `count` sources along `axis`. dims: the extents of dst (dims[axis] is the sum of `extents`); extents[s]: the
// extent of source s along the axis; src_strides: count * rank strides, those of source s from src_strides + s * rank.
void apus_concatenate(int rank, const int64_t *dims, int axis, void *dst, const int64_t *dst_strides, int64_t count,
                      const void *const *sources, const int64_t *extents, const int64_t *src_strides, int64_t element_size);

// dst[i] = start + i * step, contiguous. Integers (and bool: non-zero is true) wrap; floats are computed in double and
// rounded once. For an integer type apus_iota_real cuts start and step to integers first.
void apus_iota(int type, int64_t count, void *dst, int64_t start, int64_t step);
void apus_iota_real(int type, int64_t count, void *dst, double start, double step);

// The triangle of the last two dimensions (rank >= 2), zero elsewhere. Lower: keeps column - row <= diagonal;
// upper: keeps column - row >= diagonal.
void apus_triangle(int rank, const int64_t *dims, void *dst, const int64_t *dst_strides, const void *src,
                   const int64_t *src_strides, int64_t element_size, int64_t diagonal, bool upper);

#ifdef __cplusplus
}
#endif
#endif
