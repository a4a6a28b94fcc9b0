// What follows the sums of a convolution where its kernel leaves it undone: a residual, curves.
#include "convolution_internal.h"

static double get_float(const char *p, int type, int64_t i) {
  switch (type) {
    case APUS_F16: return (double)f16_to_f32(((const uint16_t *)p)[i]);
    case APUS_BF16: return (double)bf16_to_f32(((const uint16_t *)p)[i]);
    case APUS_F32: return (double)((const float *)p)[i];
  }
  return ((const double *)p)[i];
}

// The channels at d of dst and r of the residual, up to 64 of them at a time.
static void finish_channels(const conv_gather *g, int64_t d, int64_t r, int64_t count) {
  if (g->type < APUS_F16) {
    for (int64_t i = 0; i < count; i++) {
      int64_t at = d + i * g->d_channel;
      uint64_t sum = conv_load_integer(g->dst, at, g->type) + (g->residual ? conv_load_integer(g->residual, r + i * g->r_channel, g->type) : 0);
      conv_store_integer(g->dst, at, g->type, g->relu && conv_signed(sum, g->type) < 0 ? 0 : sum);
    }
    return;
  }
  double wide[64];
  float narrow[64];
  bool is_double = g->type == APUS_F64;
  for (int64_t i = 0; i < count; i++) {
    double more = g->residual ? get_float(g->residual, g->type, r + i * g->r_channel) : 0, sum = get_float(g->dst, g->type, d + i * g->d_channel);
    if (is_double) wide[i] = sum + more; else narrow[i] = g->residual ? (float)sum + (float)more : (float)sum;
  }
  apus_activate(g->activation, is_double ? APUS_F64 : APUS_F32, is_double ? (void *)wide : narrow, count);
  for (int64_t i = 0; i < count; i++) {
    int64_t at = d + i * g->d_channel;
    switch (g->type) {
      case APUS_F16: ((uint16_t *)g->dst)[at] = f32_to_f16(narrow[i]); break;
      case APUS_BF16: ((uint16_t *)g->dst)[at] = f32_to_bf16(narrow[i]); break;
      case APUS_F32: ((float *)g->dst)[at] = narrow[i]; break;
      default: ((double *)g->dst)[at] = wide[i];
    }
  }
}

static void finish_task(void *context, int64_t index) {
  const conv_gather *g = context;
  int64_t row = index % g->out[1], rest = index / g->out[1], depth = rest % g->out[0], n = rest / g->out[0], channels = g->groups * g->cout;
  for (int64_t c = 0; c < channels; c += 64)
    for (int64_t col = 0; col < g->out[2]; col++) {
      int64_t d = n * g->d_batch + depth * g->d_spatial[0] + row * g->d_spatial[1] + col * g->d_spatial[2] + c * g->d_channel;
      int64_t r = n * g->r_batch + depth * g->r_spatial[0] + row * g->r_spatial[1] + col * g->r_spatial[2] + c * g->r_channel;
      finish_channels(g, d, r, min64(64, channels - c));
    }
}

void conv_finish(const conv_gather *g) {
  apus_parallel(g->batch * g->out[0] * g->out[1], finish_task, (void *)g);
}
