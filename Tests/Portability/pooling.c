#include "check.h"

typedef struct { int rank; int64_t batch, channels, in[3], window[3], stride[3], low[3], high[3], dilation[3]; } geometry;
static const geometry geometries[] = {
  {2, 2, 5, {8, 9}, {2, 2}, {2, 2}, {0, 0}, {0, 0}, {1, 1}},
  {2, 1, 33, {11, 7}, {3, 3}, {2, 1}, {1, 1}, {1, 1}, {1, 1}},
  {2, 1, 4, {9, 9}, {2, 3}, {1, 2}, {1, 2}, {0, 2}, {2, 2}},
  {2, 2, 64, {30, 30}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}},
  {1, 3, 6, {20}, {3}, {1}, {1}, {1}, {1}},
  {3, 1, 3, {5, 4, 6}, {2, 2, 3}, {1, 2, 2}, {0, 1, 1}, {1, 0, 0}, {1, 1, 1}},
};

static void pool(int type, int kind, const geometry *g, bool last, bool include) {
  apus_pooling p = {.type = type, .spatial_rank = g->rank, .kind = kind, .count_include_pad = include, .batch = g->batch, .channels = g->channels};
  int64_t in[3] = {1, 1, 1}, out[3] = {1, 1, 1}, window[3] = {1, 1, 1}, x_step = last ? g->channels : 1, y_step = x_step;
  for (int i = g->rank - 1; i >= 0; i--) {
    p.in[i] = in[i] = g->in[i], p.window[i] = window[i] = g->window[i], p.stride[i] = g->stride[i];
    p.pad_low[i] = g->low[i], p.pad_high[i] = g->high[i], p.dilation[i] = g->dilation[i];
    p.out[i] = out[i] = (in[i] + g->low[i] + g->high[i] - (window[i] - 1) * g->dilation[i] - 1) / g->stride[i] + 1;
    p.x_spatial[i] = x_step, p.y_spatial[i] = y_step;
    x_step *= in[i], y_step *= out[i];
  }
  p.x_channel = last ? 1 : x_step, p.y_channel = last ? 1 : y_step;
  p.x_batch = last ? x_step : x_step * g->channels, p.y_batch = last ? y_step : y_step * g->channels;
  int64_t x_count = p.x_batch * g->batch, y_count = p.y_batch * g->batch, size = apus_type_size(type);
  void *x = reals(type, x_count), *y = array(type, y_count), *dy = reals(type, y_count), *dx = array(type, x_count);
  if (is_float(type)) put(type, x, x_count / 2, NAN);
  int64_t *indices = array(APUS_I64, y_count);
  double *want_dx = array(APUS_F64, x_count);
  p.x = x, p.y = y;
  AT_EVERY_THREAD_COUNT("pooling", y, y_count * size, apus_pooling_forward(&p));
  if (kind == APUS_POOL_MAX) AT_EVERY_THREAD_COUNT("indices", indices, y_count * 8, apus_pooling_max_indices(&p, indices));
  if (is_float(type)) AT_EVERY_THREAD_COUNT("pooling gradient", dx, x_count * size, apus_pooling_gradient(&p, dy, dx));
  int64_t wrong = 0, outputs = out[0] * out[1] * out[2], taps = window[0] * window[1] * window[2], flat = 0;
  for (int64_t b = 0; b < g->batch; b++)
    for (int64_t c = 0; c < g->channels; c++)
      for (int64_t place = 0; place < outputs; place++, flat++) {
        int64_t at[3] = {place / out[1] / out[2], place / out[2] % out[1], place % out[2]};
        int64_t yi = b * p.y_batch + c * p.y_channel, count = 0, padded = 0, best = -1, best_flat = -1;
        for (int i = 0; i < g->rank; i++) yi += at[i] * p.y_spatial[i];
        double sum = 0, most = -INFINITY;
        int64_t most_integer = type == APUS_U8 ? 0 : INT64_MIN >> (64 - 8 * size);
        for (int round = 0; round < 2; round++)  // the second hands the gradient back
          for (int64_t tap = 0; tap < taps; tap++) {
            int64_t q[3] = {tap / window[1] / window[2], tap / window[2] % window[1], tap % window[2]}, v[3] = {0, 0, 0};
            int64_t xi = b * p.x_batch + c * p.x_channel;
            bool inside = true, in_padding = true;
            for (int i = 0; i < g->rank; i++) {
              v[i] = at[i] * g->stride[i] + q[i] * g->dilation[i] - g->low[i];
              inside = inside && v[i] >= 0 && v[i] < in[i];
              in_padding = in_padding && v[i] < in[i] + g->high[i];
              xi += v[i] * p.x_spatial[i];
            }
            if (round == 0) padded += in_padding;
            if (!inside) continue;
            if (round == 1) {
              if (kind != APUS_POOL_MAX)
                want_dx[xi] += get(type, dy, yi) / (kind == APUS_POOL_SUM ? 1 : (double)(include ? padded : count));
              continue;
            }
            int64_t position = (v[0] * in[1] + v[1]) * in[2] + v[2];
            count++;
            if (is_float(type)) {
              double value = get(type, x, xi);
              sum += value;
              if (best < 0 || value > most || isnan(value)) most = value, best = xi, best_flat = position;
            } else if (best < 0 || get_integer(type, x, xi) > most_integer) {
              most_integer = get_integer(type, x, xi), best = xi, best_flat = position;
            }
          }
        if (kind == APUS_POOL_MAX) {
          if (best >= 0 && is_float(type)) want_dx[best] += get(type, dy, yi);
          wrong += is_float(type) ? !same(get(type, y, yi), most) : get_integer(type, y, yi) != most_integer;
          wrong += indices[flat] != best_flat;
        } else {
          double want = kind == APUS_POOL_SUM ? sum : count == 0 ? 0 : sum / (double)(include ? padded : count);
          wrong += !close_to(get(type, y, yi), want, 4 * unit(type));
        }
      }
  if (is_float(type))
    for (int64_t i = 0; i < x_count; i++) wrong += !close_to(get(type, dx, i), want_dx[i], 16 * unit(type));
  expect(wrong == 0, "type %d, kind %d, window %lldx%lld, channels last %d: %lld wrong", type, kind, (long long)window[0],
         (long long)window[1], last, (long long)wrong);
  if (kind == APUS_POOL_MAX) {
    if (is_float(type)) fingerprint_floats(type, y, y_count); else fingerprint(y, (size_t)(y_count * size));
    fingerprint(indices, (size_t)(y_count * 8));
  }
}

void check_pooling(void) {
  for (int g = 0; g < LENGTH(geometries); g++)
    for (int last = 0; last < 2; last++) {
      bool large = geometries[g].channels > 50;
      for (int type = APUS_U8; type <= APUS_F64; type += large ? 4 : 1) pool(type, APUS_POOL_MAX, &geometries[g], last, false);
      for (int type = large ? APUS_F32 : APUS_F16; type <= (large ? APUS_F32 : APUS_F64); type++)
        for (int kind = APUS_POOL_AVERAGE; kind <= APUS_POOL_SUM; kind++)
          for (int include = 0; include < 2; include++) pool(type, kind, &geometries[g], last, include);
    }
}
