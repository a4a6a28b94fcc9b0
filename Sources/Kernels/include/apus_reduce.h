// Reductions, arg-reductions, moments and scans over any axes of any strided input.
// Strides are in bytes, one per dimension, any sign, 0 to broadcast; NULL means contiguous. Outputs are contiguous
// (row-major over the dimensions that remain, or the input's shape for scans). Every sum has a tree fixed by the shape.
#ifndef APUS_REDUCE_H
#define APUS_REDUCE_H
#include "apus_base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  APUS_REDUCE_SUM, APUS_REDUCE_PRODUCT,
  APUS_REDUCE_MAX, APUS_REDUCE_MIN,  // NaN propagates
  APUS_REDUCE_ANY, APUS_REDUCE_ALL,  // of x != 0; out_type is bool
  APUS_REDUCE_SUM_SQUARES
} apus_reduction;

// `axes`: bit i set = dimension i is reduced. Accumulates in f32 for f16, bf16 and f32, in f64 for f64, and
// in wrapping 64-bit integers for integers and bool; the result is then converted to out_type (integers wrap).
// Empty: 0, 1, false, true; -inf / +inf or the type's lowest / highest value for max / min.
void apus_reduce(int kind, int32_t rank, const int64_t *dims, const void *x, const int64_t *strides, int type,
                 uint32_t axes, void *out, int out_type);

// Index along `axis` of the first largest (or smallest) element; the first NaN wins. The axis must not be empty.
void apus_arg_reduce(bool largest, int32_t rank, const int64_t *dims, const void *x, const int64_t *strides, int type,
                     int32_t axis, int64_t *out);

// Mean and variance (divided by the count: biased) over `axes`. Results are f64 for f64, else f32.
// Floating-point inputs only. `variance` is the mean squared distance from the mean (no cancellation).
void apus_moments(int32_t rank, const int64_t *dims, const void *x, const int64_t *strides, int type,
                  uint32_t axes, void *mean, void *variance);

typedef enum { APUS_SCAN_SUM, APUS_SCAN_PRODUCT, APUS_SCAN_MAX, APUS_SCAN_MIN, APUS_SCAN_LOG_SUM_EXP } apus_scan_kind;
// Running value along `axis`; `exclusive` starts with the identity and leaves the last element out, `reverse` runs
// from the end. out_type: as for apus_reduce. LOG_SUM_EXP: floating-point only.
void apus_scan(int kind, int32_t rank, const int64_t *dims, const void *x, const int64_t *strides, int type,
               int32_t axis, bool exclusive, bool reverse, void *out, int out_type);

#ifdef __cplusplus
}
#endif
#endif
