// Indexing: gathers, scatters, masks, sorting and searching.
//
// Indices are APUS_I32 or APUS_I64; a negative one counts from the end. Every function that takes indices checks
// them all before it writes anything and returns -1, or the position (in row-major order) of the first one out of
// range, and then has written nothing. Strides are in bytes (zero and negative allowed), rank 0...8.
// "Contiguous" operands are row-major without gaps. A destination does not overlap any other operand.
#ifndef APUS_INDEXING_H
#define APUS_INDEXING_H
#include "apus_base.h"

#ifdef __cplusplus
extern "C" {
#endif

// How an update meets the value that is already there. All updates of one element are applied in row-major order of
// their positions, whatever the thread count (so with SET the last one wins); float16 and bfloat16 sums and products
// are kept in float32 and rounded once. MIN and MAX let NaN through. For bool, ADD and MAX are or, MULTIPLY and MIN and.
typedef enum {
  APUS_PUT_SET = 0, APUS_PUT_ADD = 1, APUS_PUT_MULTIPLY = 2, APUS_PUT_MIN = 3, APUS_PUT_MAX = 4
} apus_put_kind;

// ---- Rows of one dimension (index_select, embedding) ----------------------------------------------
// dst[o, j, :] = src[o, index[j], :]; all contiguous; src [outer, n, row_bytes], dst [outer, m, row_bytes].
int64_t apus_take(int64_t outer, int64_t n, int64_t m, int64_t row_bytes, void *dst, const void *src, const void *indices,
                  int index_type);
// dst[o, index[j], :] (kind)= updates[o, j, :]; all contiguous; dst [outer, n, row], updates [outer, m, row], row in elements.
int64_t apus_put(int kind, int type, int64_t outer, int64_t n, int64_t m, int64_t row, void *dst, const void *indices,
                 int index_type, const void *updates);

// ---- Along an axis (torch.gather, scatter, scatter_add) -------------------------------------------
// dst[..., j, ...] = src[..., index[..., j, ...], ...]. dims: extents of indices and dst; along `axis` src has
// axis_size elements, along every other dimension at least dims of them. rank >= 1.
int64_t apus_take_along(int rank, const int64_t *dims, int axis, int64_t axis_size, void *dst, const int64_t *dst_strides,
                        const void *src, const int64_t *src_strides, int64_t element_size, const void *indices,
                        const int64_t *index_strides, int index_type);
// dst[..., index[..., j, ...], ...] (kind)= updates[..., j, ...]. dims: extents of indices and updates.
int64_t apus_put_along(int kind, int type, int rank, const int64_t *dims, int axis, int64_t axis_size, void *dst,
                       const int64_t *dst_strides, const void *updates, const int64_t *update_strides, const void *indices,
                       const int64_t *index_strides, int index_type);

// ---- Several index arrays (NumPy's advanced indexing) ---------------------------------------------
// dst[j, inner...] = src[i0[j], i1[j], ..., inner...] for k (1...8) contiguous index arrays of m elements each, already
// broadcast. extents, strides: the k indexed dimensions of src; inner_*: the rest of it (any strides). dst contiguous.
// A returned bad position p means: index array p / m, element p % m.
int64_t apus_gather(int k, const int64_t *extents, const int64_t *strides, int inner_rank, const int64_t *inner_dims,
                    const int64_t *inner_strides, const void *src, void *dst, int64_t element_size, int64_t m,
                    const void *const *indices, int index_type);
// dst[i0[j], i1[j], ..., inner...] (kind)= updates[j, inner...]; updates contiguous, dst of any strides.
int64_t apus_scatter(int kind, int type, int k, const int64_t *extents, const int64_t *strides, int inner_rank,
                     const int64_t *inner_dims, const int64_t *inner_strides, void *dst, const void *updates, int64_t m,
                     const void *const *indices, int index_type);

// ---- Masks ------------------------------------------------------------------------------------------
// Elements that are not zero (NaN is not zero).
int64_t apus_count_nonzero(int type, int rank, const int64_t *dims, const void *src, const int64_t *src_strides);
// Their indices, [count, rank] int64 in row-major order; count from apus_count_nonzero.
void apus_nonzero(int type, int rank, const int64_t *dims, const void *src, const int64_t *src_strides, int64_t *dst);
// dst[c, :] = src[i, :] for every i with mask[i] != 0; mask: bytes; contiguous; row_bytes per row. Returns the rows written.
int64_t apus_compress(int64_t count, const uint8_t *mask, int64_t row_bytes, const void *src, void *dst);
// The reverse: dst[i, :] = values[c, :] for every i with mask[i] != 0, other rows untouched. Returns the rows read; the
// caller has made sure that `values` holds as many (apus_count_nonzero).
int64_t apus_expand(int64_t count, const uint8_t *mask, int64_t row_bytes, const void *values, void *dst);

// ---- Order ------------------------------------------------------------------------------------------
// Stable sort along `axis` (rank >= 1). values and indices (int64) are contiguous of shape dims; either may be NULL.
// NaN counts as greatest: last in ascending, first in descending order. -0 equals +0. Equal elements keep their order,
// in descending order too.
void apus_sort(int type, int rank, const int64_t *dims, int axis, const void *src, const int64_t *src_strides, void *values,
               int64_t *indices, bool descending);
// The k first elements of the sorted order, in that order; dims[axis] becomes k (0 <= k <= dims[axis]).
// largest: as apus_sort descending; else ascending. Of equal elements those of lower index come first.
void apus_top_k(int type, int rank, const int64_t *dims, int axis, int64_t k, const void *src, const int64_t *src_strides,
                void *values, int64_t *indices, bool largest);
// dst[r, j] = how many elements of row r of `sorted` (ascending, n elements) are < values[r, j] (left) or <= (right).
// All contiguous, `rows` rows of m values; sorted_rows is `rows`, or 1 for one row that all share. NaN as in apus_sort.
void apus_search_sorted(int type, int64_t rows, int64_t sorted_rows, int64_t n, const void *sorted, int64_t m,
                        const void *values, int64_t *dst, bool right);

#ifdef __cplusplus
}
#endif
#endif
