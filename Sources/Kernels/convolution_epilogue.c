// What follows the sums of a convolution where its kernel leaves it undone: a residual, curves.
#include "Lanes/lanes.h"
#include "convolution_internal.h"

void conv_activate(void *values, int type, int activation, int64_t count) {
  static const int codes[] = {
      [APUS_EPILOGUE_NONE] = APUS_OP_COPY, [APUS_EPILOGUE_RELU] = APUS_OP_RELU, [APUS_EPILOGUE_GELU_ERF] = APUS_OP_GELU_ERF,
      [APUS_EPILOGUE_GELU_TANH] = APUS_OP_GELU_TANH, [APUS_EPILOGUE_SIGMOID] = APUS_OP_SIGMOID, [APUS_EPILOGUE_TANH] = APUS_OP_TANH,
      [APUS_EPILOGUE_SILU] = APUS_OP_SILU};
  if (activation == APUS_EPILOGUE_NONE) return;
  apus_current_lanes()->op[codes[activation]][type](values, values, NULL, NULL, count, 0);
}

static double get_float(const char *p, int type, int64_t i) {
  switch (type) {
    case APUS_F16: return (double)f16_to_f32(((const uint16_t *)p)[i]);
    case APUS_BF16: return (double)bf16_to_f32(((const uint16_t *)p)[i]);
    case APUS_F32: return (double)((const float *)p)[i];
  }
  return ((const double *)p)[i];
}
static int64_t get_integer(const char *p, int type, int64_t i) {
  switch (type) {
    case APUS_BOOL:
    case APUS_U8: return ((const uint8_t *)p)[i];
    case APUS_I8: return ((const int8_t *)p)[i];
    case APUS_I16: return ((const int16_t *)p)[i];
    case APUS_I32: return ((const int32_t *)p)[i];
  }
  return ((const int64_t *)p)[i];
}
static void set_integer(char *p, int type, int64_t i, uint64_t v) {
  switch (type) {
    case APUS_BOOL: ((uint8_t *)p)[i] = v != 0; return;
    case APUS_U8:
    case APUS_I8: ((uint8_t *)p)[i] = (uint8_t)v; return;
    case APUS_I16: ((uint16_t *)p)[i] = (uint16_t)v; return;
    case APUS_I32: ((uint32_t *)p)[i] = (uint32_t)v; return;
  }
  ((uint64_t *)p)[i] = v;
}

// The channels at d of dst and r of the residual, up to 64 of them at a time.
static void finish_channels(const conv_gather *g, int64_t d, int64_t r, int64_t count) {
  if (g->type < APUS_F16) {
    for (int64_t i = 0; i < count; i++) {
      int64_t at = d + i * g->d_channel;
      uint64_t sum = (uint64_t)get_integer(g->dst, g->type, at) + (g->residual ? (uint64_t)get_integer(g->residual, g->type, r + i * g->r_channel) : 0);
      set_integer(g->dst, g->type, at, sum);
      if (g->relu && get_integer(g->dst, g->type, at) < 0) set_integer(g->dst, g->type, at, 0);
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
  conv_activate(is_double ? (void *)wide : narrow, is_double ? APUS_F64 : APUS_F32, g->activation, count);
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
