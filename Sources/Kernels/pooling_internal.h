// Pooling in three dimensions (unused ones lead, with size 1), shared by the pooling sources.
#ifndef APUS_POOLING_INTERNAL_H
#define APUS_POOLING_INTERNAL_H
#include "apus_pooling.h"
#include "convolution_internal.h"

typedef struct {
  int type, kind, include_pad;
  int64_t batch, channels, in[3], out[3], window[3], stride[3], pad[3], pad_high[3], dilation[3];
  int64_t x_batch, x_channel, x_spatial[3], y_batch, y_channel, y_spatial[3];
  const char *x, *dy;
  char *y, *dx;
  int64_t *indices;  // max_indices: contiguous [N, C, out...]
  bool tiled;        // windows cover every position of x exactly once
  int64_t channel_blocks;
} pool_plan;

// The taps q of the window at `o` whose position o * stride + q * dilation - pad lies in low..<high: first and count.
static inline int64_t pool_taps(const pool_plan *p, int d, int64_t o, int64_t low, int64_t high, int64_t *first) {
  int64_t at = o * p->stride[d] - p->pad[d], dilation = p->dilation[d];
  int64_t from = at >= low ? 0 : ceil_div(low - at, dilation), to = high > at ? ceil_div(high - at, dilation) : 0;
  from = min64(from, p->window[d]), to = max64(from, min64(to, p->window[d]));
  if (first) *first = from;
  return to - from;
}
// How many positions the mean at `o` counts in this dimension.
static inline int64_t pool_counted(const pool_plan *p, int d, int64_t o) {
  return p->include_pad ? pool_taps(p, d, o, -p->pad[d], p->in[d] + p->pad_high[d], NULL) : pool_taps(p, d, o, 0, p->in[d], NULL);
}

void apus_pool_channels(const pool_plan *p, bool gradient);  // f32 and f64, channels-last on both sides
#endif
