#include "check.h"

typedef struct {
  int rank;
  int64_t batch, groups, in_channels, out_channels;
  int64_t in[3], kernel[3], stride[3], low[3], high[3], dilation[3], in_dilation[3];
  bool flip;
} geometry;

static const geometry geometries[] = {
  {2, 2, 1, 3, 8, {9, 11}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, false},
  {2, 1, 1, 16, 33, {7, 8}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, {1, 1}, {1, 1}, false},
  {2, 2, 1, 20, 17, {14, 13}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, false},
  {2, 1, 1, 5, 6, {12, 10}, {3, 2}, {1, 2}, {2, 0}, {1, 3}, {2, 3}, {1, 1}, true},
  {2, 1, 1, 4, 9, {6, 5}, {3, 3}, {1, 1}, {2, 1}, {2, 2}, {1, 1}, {2, 3}, false},   // a transposed convolution
  {2, 1, 1, 4, 5, {9, 9}, {3, 3}, {2, 1}, {-1, 0}, {0, -2}, {1, 1}, {1, 1}, false},  // cropped
  {2, 2, 4, 8, 12, {8, 7}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, false},
  {2, 2, 19, 19, 19, {10, 9}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, false},  // depthwise
  {2, 1, 32, 32, 32, {11, 11}, {5, 5}, {2, 2}, {2, 2}, {2, 2}, {1, 1}, {1, 1}, false},
  {2, 1, 6, 6, 12, {9, 9}, {3, 3}, {1, 1}, {2, 2}, {2, 2}, {2, 2}, {1, 1}, false},
  {2, 1, 1, 24, 40, {20, 18}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, false},
  {2, 2, 64, 64, 64, {24, 24}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, false},
  {1, 3, 1, 7, 10, {40}, {5}, {2}, {2}, {2}, {1}, {1}, false},
  {1, 1, 2, 6, 4, {23}, {4}, {1}, {3}, {0}, {2}, {2}, true},
  {3, 1, 1, 3, 5, {5, 6, 4}, {2, 3, 3}, {1, 2, 1}, {1, 0, 1}, {0, 1, 1}, {1, 1, 1}, {1, 1, 1}, false},
  {3, 1, 3, 3, 3, {4, 5, 6}, {3, 2, 2}, {1, 1, 2}, {1, 1, 0}, {1, 0, 0}, {1, 2, 1}, {1, 1, 1}, false},
};
static const int types[] = {APUS_F32, APUS_F64, APUS_F16, APUS_BF16, APUS_I32, APUS_I8};

// Sums of one element: exact values for floats (double) or wrapping ones, and the sum of magnitudes with the number of terms.
typedef struct { double real, magnitude; uint64_t integer; int64_t terms; } total;

static void strides_of(bool last, int rank, int64_t channels, const int64_t *spatial, int64_t *batch, int64_t *channel, int64_t *steps) {
  int64_t step = last ? channels : 1;
  for (int i = rank - 1; i >= 0; i--) { steps[i] = step; step *= spatial[i]; }
  *channel = last ? 1 : step;
  *batch = last ? step : step * channels;
}

static void add(total *t, int type, const void *a, int64_t i, const void *b, int64_t j) {
  t->terms++;
  if (!is_float(type)) {
    t->integer += (uint64_t)get_integer(type, a, i) * (uint64_t)get_integer(type, b, j);
    return;
  }
  double term = get(type, a, i) * get(type, b, j);
  t->real += term;
  t->magnitude += fabs(term);
}

// Winograd's error is not bounded by an output's own terms (apus_convolution.h): inputs are below 2 here, so S is at most 4 per term.
static int64_t far_ones(const float *got, const total *want, int64_t count, int64_t terms) {
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; i++) wrong += !(fabs((double)got[i] - want[i].real) <= 8 * 0x1p-24 * 4 * (double)terms);
  return wrong;
}

static int64_t wrong_ones(int type, const void *got, const total *want, int64_t count, const void *bias, int64_t channels,
                          int64_t channel_step, bool relu) {
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; i++) {
    int64_t channel = bias ? i / channel_step % channels : 0;
    if (is_float(type)) {
      double extra = bias ? get(type, bias, channel) : 0, value = want[i].real + extra;
      if (relu && value < 0) value = 0;
      double accumulator = type == APUS_F64 ? 0x1p-53 : 0x1p-24;
      double bound = (want[i].magnitude + fabs(extra)) * accumulator * (double)(want[i].terms + 2) + fabs(value) * unit(type) * 1.01;
      wrong += !(fabs(get(type, got, i) - value) <= bound);
    } else {
      int64_t value = wrapped(type, (int64_t)(want[i].integer + (bias ? (uint64_t)get_integer(type, bias, channel) : 0)));
      wrong += get_integer(type, got, i) != (relu && value < 0 ? 0 : value);
    }
  }
  return wrong;
}

static void convolve(int type, const geometry *g, bool last, int number) {
  apus_convolution p = {.type = type, .spatial_rank = g->rank, .batch = g->batch, .in_channels = g->in_channels,
                        .out_channels = g->out_channels, .groups = g->groups, .flip_kernel = g->flip};
  int64_t x_count = g->batch * g->in_channels, y_count = g->batch * g->out_channels;
  int64_t cin = g->in_channels / g->groups, cout = g->out_channels / g->groups, w_count = g->out_channels * cin;
  int64_t in[3] = {1, 1, 1}, kernel[3] = {1, 1, 1}, out[3] = {1, 1, 1};
  for (int i = 0; i < g->rank; i++) {
    p.in[i] = in[i] = g->in[i], p.kernel[i] = kernel[i] = g->kernel[i], p.stride[i] = g->stride[i], p.pad_low[i] = g->low[i];
    p.kernel_dilation[i] = g->dilation[i], p.input_dilation[i] = g->in_dilation[i];
    int64_t width = (in[i] - 1) * g->in_dilation[i] + 1 + g->low[i] + g->high[i];
    p.out[i] = out[i] = (width - (g->kernel[i] - 1) * g->dilation[i] - 1) / g->stride[i] + 1;
    x_count *= in[i], y_count *= out[i], w_count *= kernel[i];
  }
  strides_of(last, g->rank, g->in_channels, p.in, &p.x_batch, &p.x_channel, p.x_spatial);
  strides_of(last, g->rank, g->out_channels, p.out, &p.y_batch, &p.y_channel, p.y_spatial);
  strides_of(last, g->rank, cin, p.kernel, &p.w_out, &p.w_in, p.w_spatial);
  void *x = reals(type, x_count), *w = reals(type, w_count), *dy = reals(type, y_count), *bias = reals(type, g->out_channels);
  void *y = array(type, y_count), *dx = array(type, x_count), *dw = array(type, w_count);
  total *want_y = calloc((size_t)y_count, sizeof(total)), *want_x = calloc((size_t)x_count, sizeof(total)), *want_w = calloc((size_t)w_count, sizeof(total));

  int64_t window = kernel[0] * kernel[1] * kernel[2], outputs = out[0] * out[1] * out[2];
  for (int64_t b = 0; b < g->batch; b++)
    for (int64_t o = 0; o < g->out_channels; o++)
      for (int64_t place = 0; place < outputs; place++)
        for (int64_t tap = 0; tap < window; tap++) {
          int64_t at[3] = {place / out[1] / out[2], place / out[2] % out[1], place % out[2]};
          int64_t q[3] = {tap / kernel[1] / kernel[2], tap / kernel[2] % kernel[1], tap % kernel[2]};
          int64_t xi = b * p.x_batch, yi = b * p.y_batch + o * p.y_channel, wi = o * p.w_out;
          bool inside = true;
          for (int i = 0; i < g->rank; i++) {
            int64_t v = at[i] * g->stride[i] + q[i] * g->dilation[i] - g->low[i];
            inside = inside && v >= 0 && v % g->in_dilation[i] == 0 && v / g->in_dilation[i] < in[i];
            xi += v / g->in_dilation[i] * p.x_spatial[i];
            yi += at[i] * p.y_spatial[i];
            wi += (g->flip ? kernel[i] - 1 - q[i] : q[i]) * p.w_spatial[i];
          }
          if (!inside) continue;
          for (int64_t c = 0; c < cin; c++) {
            int64_t xc = xi + (o / cout * cin + c) * p.x_channel, wc = wi + c * p.w_in;
            add(&want_y[yi], type, x, xc, w, wc);
            add(&want_x[xc], type, dy, yi, w, wc);
            add(&want_w[wc], type, x, xc, dy, yi);
          }
        }

  int64_t size = apus_type_size(type);
  bool relu = number % 2;
  p.x = x, p.w = w, p.y = y, p.bias = number % 3 ? bias : NULL, p.activation = relu ? APUS_EPILOGUE_RELU : APUS_EPILOGUE_NONE;
  AT_EVERY_THREAD_COUNT("forward", y, y_count * size, apus_convolution_forward(&p));
  int64_t wrong = wrong_ones(type, y, want_y, y_count, p.bias, g->out_channels, p.y_channel, relu);
  expect(wrong == 0, "forward %d, type %d, channels last %d: %lld wrong", number, type, last, (long long)wrong);
  p.bias = NULL, p.activation = APUS_EPILOGUE_NONE;
  p.x = dx, p.y = dy;
  AT_EVERY_THREAD_COUNT("input gradient", dx, x_count * size, apus_convolution_input_gradient(&p));
  wrong = wrong_ones(type, dx, want_x, x_count, NULL, 1, 1, false);
  expect(wrong == 0, "input gradient %d, type %d, channels last %d: %lld wrong", number, type, last, (long long)wrong);
  p.x = x, p.w = dw;
  AT_EVERY_THREAD_COUNT("weight gradient", dw, w_count * size, apus_convolution_weight_gradient(&p));
  wrong = wrong_ones(type, dw, want_w, w_count, NULL, 1, 1, false);
  expect(wrong == 0, "weight gradient %d, type %d, channels last %d: %lld wrong", number, type, last, (long long)wrong);
  if (type == APUS_F32 && last && g->groups == 1 && g->rank == 2 && g->kernel[0] == 3 && g->kernel[1] == 3) {
    p.algorithm = APUS_CONVOLUTION_WINOGRAD;  // where strides or dilations do not fit, direct after all
    p.w = w, p.y = y;
    AT_EVERY_THREAD_COUNT("forward", y, y_count * size, apus_convolution_forward(&p));
    wrong = far_ones(y, want_y, y_count, 9 * cin);
    expect(wrong == 0, "Winograd, forward %d: %lld wrong", number, (long long)wrong);
    p.x = dx, p.y = dy;
    AT_EVERY_THREAD_COUNT("input gradient", dx, x_count * size, apus_convolution_input_gradient(&p));
    wrong = far_ones(dx, want_x, x_count, 9 * cout);
    expect(wrong == 0, "Winograd, input gradient %d: %lld wrong", number, (long long)wrong);
    p.x = x, p.w = dw;
    AT_EVERY_THREAD_COUNT("weight gradient", dw, w_count * size, apus_convolution_weight_gradient(&p));
    wrong = far_ones(dw, want_w, w_count, g->batch * (outputs + 16 * (out[1] + out[2])));
    expect(wrong == 0, "Winograd, weight gradient %d: %lld wrong", number, (long long)wrong);
  }
  if (!is_float(type)) {
    fingerprint(y, (size_t)(y_count * size));
    fingerprint(dx, (size_t)(x_count * size));
    fingerprint(dw, (size_t)(w_count * size));
  }
  free(want_y), free(want_x), free(want_w);
}

void check_convolution(void) {
  for (int g = 0; g < LENGTH(geometries); g++)
    for (int t = 0; t < LENGTH(types); t++)
      for (int last = 0; last < 2; last++)
        if (geometries[g].in[0] * geometries[g].out_channels < 800 || (t == 0 && last)) convolve(types[t], &geometries[g], last, g + t);
}
