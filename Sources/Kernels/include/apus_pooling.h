// Max, average and sum over windows in 1 to 3 spatial dimensions, and their gradients.
#ifndef APUS_POOLING_H
#define APUS_POOLING_H
#include "apus_base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { APUS_POOL_MAX = 0, APUS_POOL_AVERAGE = 1, APUS_POOL_SUM = 2 } apus_pool_kind;

// y[n, c, p] = max, mean or sum over q of x[n, c, p * stride + q * dilation - pad_low], positions outside x left out.
// The mean divides by the positions inside x; with count_include_pad by those inside x and its padding
// (pad_low and pad_high), as PyTorch does. A window with no position inside x gives the lowest value
// (-infinity) as maximum and 0 as mean and sum. Max: every type but bool; average and sum: floating types.
typedef struct {
  int32_t type, spatial_rank, kind, count_include_pad;
  int64_t batch, channels;
  int64_t in[3], out[3], window[3], stride[3], pad_low[3], pad_high[3], dilation[3];
  int64_t x_batch, x_channel, x_spatial[3];  // strides in elements, of any value
  int64_t y_batch, y_channel, y_spatial[3];
  const void *x;
  void *y;
} apus_pooling;

void apus_pooling_forward(const apus_pooling *p);  // max: NaN propagates
// dy has the strides of y, dx those of x; dx is written whole. Max reads p->x: the gradient goes to the
// first maximum (or the last NaN) of the window, as in PyTorch. Only for floating types.
void apus_pooling_gradient(const apus_pooling *p, const void *dy, void *dx);
// indices: contiguous [N, C, out...]; the flat position of the maximum in the spatial input, -1 for a window outside x.
void apus_pooling_max_indices(const apus_pooling *p, int64_t *indices);

#ifdef __cplusplus
}
#endif
#endif
