#include "check.h"

// ---- Attention ----------------------------------------------------------------------------------
typedef struct { int64_t batch, heads, kv_heads, queries, keys, dim, value_dim; bool causal; int mask; } attention_case;  // mask: 0, 1 bool, 2 added
static const attention_case attentions[] = {
  {2, 3, 3, 7, 9, 5, 6, false, 0}, {1, 4, 2, 33, 33, 16, 16, true, 0}, {2, 2, 1, 5, 12, 8, 3, true, 1},
  {1, 2, 2, 40, 70, 20, 24, false, 2}, {1, 4, 1, 1, 300, 64, 64, true, 0}, {1, 1, 1, 300, 270, 32, 32, true, 0},
};

static apus_heads heads(void *data, int64_t count, int64_t positions, int64_t dim) {
  return (apus_heads){data, {count * positions * dim, positions * dim, dim, 1}};
}

static void attend(int type, const attention_case *c) {
  int64_t q_count = c->batch * c->heads * c->queries * c->dim, k_count = c->batch * c->kv_heads * c->keys * c->dim;
  int64_t v_count = c->batch * c->kv_heads * c->keys * c->value_dim, y_count = c->batch * c->heads * c->queries * c->value_dim;
  int64_t rows = c->batch * c->heads * c->queries, size = apus_type_size(type), statistics = type == APUS_F64 ? APUS_F64 : APUS_F32;
  void *q = reals(type, q_count), *k = reals(type, k_count), *v = reals(type, v_count), *y = array(type, y_count), *dy = reals(type, y_count);
  void *dq = array(type, q_count), *dk = array(type, k_count), *dv = array(type, v_count), *lse = array(statistics, rows);
  int mask_type = c->mask == 1 ? APUS_BOOL : type;
  void *mask = array(mask_type, rows * c->keys);
  for (int64_t i = 0; i < rows * c->keys; i++)
    if (c->mask == 1) ((uint8_t *)mask)[i] = below(4) > 0 && i >= c->keys;  // the first row sees nothing
    else put(type, mask, i, real());
  apus_attention a = {
    .type = type, .mask_type = mask_type, .causal = c->causal, .scale = 0.25, .batch = c->batch, .heads = c->heads, .kv_heads = c->kv_heads,
    .queries = c->queries, .keys = c->keys, .dim = c->dim, .value_dim = c->value_dim, .q = heads(q, c->heads, c->queries, c->dim),
    .k = heads(k, c->kv_heads, c->keys, c->dim), .v = heads(v, c->kv_heads, c->keys, c->value_dim),
    .mask = c->mask ? heads(mask, c->heads, c->queries, c->keys) : (apus_heads){NULL, {0}}};
  apus_heads out = heads(y, c->heads, c->queries, c->value_dim), dout = heads(dy, c->heads, c->queries, c->value_dim);
  apus_heads q_out = heads(dq, c->heads, c->queries, c->dim), k_out = heads(dk, c->kv_heads, c->keys, c->dim);
  apus_heads v_out = heads(dv, c->kv_heads, c->keys, c->value_dim);
  AT_EVERY_THREAD_COUNT("attention", y, y_count * size, apus_attention_run(&a, out, lse));
  AT_EVERY_THREAD_COUNT("attention's gradient", dk, k_count * size, apus_attention_grad(&a, dout, out, lse, q_out, k_out, v_out, NULL));

  double *want_dq = array(APUS_F64, q_count), *want_dk = array(APUS_F64, k_count), *want_dv = array(APUS_F64, v_count), *p = array(APUS_F64, c->keys);
  double tolerance = 64 * unit(type), wrong = 0;
  for (int64_t row = 0; row < rows; row++) {
    int64_t i = row % c->queries, kv = row / c->queries / c->heads * c->kv_heads + row / c->queries % c->heads / (c->heads / c->kv_heads);
    double most = -INFINITY, sum = 0, inner = 0;
    for (int64_t j = 0; j < c->keys; j++) {
      double s = 0;
      for (int64_t d = 0; d < c->dim; d++) s += get(type, q, row * c->dim + d) * get(type, k, (kv * c->keys + j) * c->dim + d);
      s *= 0.25;
      if (c->mask == 2) s += get(type, mask, row * c->keys + j);
      if ((c->mask == 1 && !((uint8_t *)mask)[row * c->keys + j]) || (c->causal && j > i + c->keys - c->queries)) s = -INFINITY;
      p[j] = s;
      most = fmax(most, s);
    }
    for (int64_t j = 0; j < c->keys; j++) sum += p[j] = most == -INFINITY ? 0 : exp(p[j] - most);
    for (int64_t j = 0; j < c->keys; j++) p[j] = sum > 0 ? p[j] / sum : 0;
    for (int64_t d = 0; d < c->value_dim; d++) {
      double value = 0;
      for (int64_t j = 0; j < c->keys; j++) value += p[j] * get(type, v, (kv * c->keys + j) * c->value_dim + d);
      wrong += !close_to(get(type, y, row * c->value_dim + d), value, tolerance);
      inner += value * get(type, dy, row * c->value_dim + d);
    }
    for (int64_t j = 0; j < c->keys; j++) {
      double dp = 0;
      for (int64_t d = 0; d < c->value_dim; d++) {
        double g = get(type, dy, row * c->value_dim + d);
        dp += g * get(type, v, (kv * c->keys + j) * c->value_dim + d);
        want_dv[(kv * c->keys + j) * c->value_dim + d] += p[j] * g;
      }
      double ds = p[j] * (dp - inner) * 0.25;
      for (int64_t d = 0; d < c->dim; d++) {
        want_dq[row * c->dim + d] += ds * get(type, k, (kv * c->keys + j) * c->dim + d);
        want_dk[(kv * c->keys + j) * c->dim + d] += ds * get(type, q, row * c->dim + d);
      }
    }
  }
  expect(wrong == 0, "attention, type %d: %g values wrong", type, wrong);
  wrong = 0;
  for (int64_t i = 0; i < q_count; i++) wrong += !close_to(get(type, dq, i), want_dq[i], 4 * tolerance);
  for (int64_t i = 0; i < k_count; i++) wrong += !close_to(get(type, dk, i), want_dk[i], 4 * tolerance);
  for (int64_t i = 0; i < v_count; i++) wrong += !close_to(get(type, dv, i), want_dv[i], 4 * tolerance);
  expect(wrong == 0, "attention's gradient, type %d: %g values wrong", type, wrong);
}

void check_attention(void) {
  static const int types[] = {APUS_F32, APUS_F64, APUS_F16, APUS_BF16};
  for (int t = 0; t < LENGTH(types); t++)
    for (int i = 0; i < LENGTH(attentions); i++) attend(types[t], &attentions[i]);
}

// ---- Rotation and cells ---------------------------------------------------------------------------
static double logistic(double x) { return 1 / (1 + exp(-x)); }

void check_cells(void) {
  static const int types[] = {APUS_F32, APUS_F64, APUS_F16, APUS_BF16};
  enum { ROWS = 37, N = 29 };
  for (int t = 0; t < LENGTH(types); t++) {
    int type = types[t];
    int64_t size = apus_type_size(type), wrong = 0;
    double tolerance = 8 * unit(type);
    void *gates = reals(type, ROWS * 4 * N), *c = reals(type, ROWS * N), *h = array(type, ROWS * N), *next = array(type, ROWS * N);
    AT_EVERY_THREAD_COUNT("lstm cell", h, ROWS * N * size, apus_lstm_cell(type, ROWS, N, gates, c, h, next));
    void *x = reals(type, ROWS * 3 * N), *g = reals(type, ROWS * 3 * N), *state = array(type, ROWS * N);
    AT_EVERY_THREAD_COUNT("gru cell", state, ROWS * N * size, apus_gru_cell(type, ROWS, N, x, g, c, state));
    for (int64_t i = 0; i < ROWS * N; i++) {
      int64_t at = i / N * 4 * N + i % N, three = i / N * 3 * N + i % N;
      double cell = logistic(get(type, gates, at + N)) * get(type, c, i) + logistic(get(type, gates, at)) * tanh(get(type, gates, at + 2 * N));
      wrong += !close_to(get(type, next, i), cell, tolerance);
      wrong += !close_to(get(type, h, i), logistic(get(type, gates, at + 3 * N)) * tanh(cell), tolerance);
      double r = logistic(get(type, x, three) + get(type, g, three)), z = logistic(get(type, x, three + N) + get(type, g, three + N));
      double n = tanh(get(type, x, three + 2 * N) + r * get(type, g, three + 2 * N));
      wrong += !close_to(get(type, state, i), (1 - z) * n + z * get(type, c, i), tolerance);
    }
    expect(wrong == 0, "cells, type %d: %lld values wrong", type, (long long)wrong);
    for (int form = 0; form < 4; form++) {  // interleaved or not, forward or inverse; two elements are not turned
      int statistics = type == APUS_F64 ? APUS_F64 : APUS_F32;
      enum { HALF = 9, DIM = 20 };
      bool interleaved = form & 1, inverse = form & 2;
      void *rows = reals(type, ROWS * DIM), *cosines = reals(statistics, ROWS * HALF), *sines = reals(statistics, ROWS * HALF);
      void *y = array(type, ROWS * DIM);
      int64_t dims[1] = {ROWS}, strides[1] = {DIM * size}, table[1] = {HALF * apus_type_size(statistics)};
      AT_EVERY_THREAD_COUNT("rope", y, ROWS * DIM * size,
        apus_rope(type, interleaved, inverse, 1, dims, DIM, HALF, rows, strides, cosines, table, sines, table, y, strides));
      wrong = 0;
      for (int64_t row = 0; row < ROWS; row++) {
        for (int64_t i = 0; i < HALF; i++) {
          int64_t a = row * DIM + (interleaved ? 2 * i : i), b = interleaved ? a + 1 : a + HALF;
          double cosine = get(statistics, cosines, row * HALF + i), sine = get(statistics, sines, row * HALF + i) * (inverse ? -1 : 1);
          wrong += !close_to(get(type, y, a), get(type, rows, a) * cosine - get(type, rows, b) * sine, tolerance);
          wrong += !close_to(get(type, y, b), get(type, rows, b) * cosine + get(type, rows, a) * sine, tolerance);
        }
        for (int64_t i = 2 * HALF; i < DIM; i++) wrong += get(type, y, row * DIM + i) != get(type, rows, row * DIM + i);
      }
      expect(wrong == 0, "rope, type %d, form %d: %lld values wrong", type, form, (long long)wrong);
    }
  }
}

// ---- Quantized products: the same bits everywhere ----------------------------------------------------
void check_quantized(void) {
  static const int64_t sizes[][3] = {{1, 1, 1}, {1, 70, 300}, {3, 33, 129}, {17, 65, 41}, {101, 83, 270}, {5, 9, 0}, {70, 40, 1000}};
  for (int s = 0; s < LENGTH(sizes); s++)
    for (int type = 0; type < 2; type++)
      for (int packed = 0; packed < 2; packed++) {
        int64_t m = sizes[s][0], n = sizes[s][1], k = sizes[s][2], wrong = 0;
        int x_type = type ? APUS_I8 : APUS_U8;
        uint8_t *x = array(APUS_U8, m * k + 1);
        int8_t *w = array(APUS_I8, n * k + 1);
        for (int64_t i = 0; i < m * k; i++) x[i] = (uint8_t)draw();
        for (int64_t i = 0; i < n * k; i++) w[i] = (int8_t)draw();
        float *x_scale = reals(APUS_F32, m), *w_scale = reals(APUS_F32, n), *bias = reals(APUS_F32, n), *out = array(APUS_F32, m * n);
        int32_t *zero = array(APUS_I32, m);
        for (int64_t i = 0; i < m; i++) zero[i] = (int32_t)below(256) - (type ? 128 : 0);
        void *memory = array(APUS_U8, (int64_t)apus_quantized_packed_size(n, k) + 1);
        if (packed) apus_quantized_pack(w, k, 1, n, k, memory);
        apus_quantized_matmul p = {
          .x_type = x_type, .m = m, .n = n, .k = k, .x = x, .x_row = k, .x_col = 1, .x_scale = x_scale, .x_scale_stride = 1,
          .x_zero_point = zero, .x_zero_point_stride = 1, .weight = w, .weight_row = k, .weight_col = 1, .packed = packed ? memory : NULL,
          .weight_scale = w_scale, .weight_scale_stride = 1, .bias = bias, .bias_stride = 1, .out = out, .out_row = n};
        AT_EVERY_THREAD_COUNT("quantized product", out, m * n * 4, apus_quantized_matmul_run(&p));
        for (int64_t i = 0; i < m; i++)
          for (int64_t j = 0; j < n; j++) {
            int64_t sum = 0;
            for (int64_t q = 0; q < k; q++) sum += ((type ? (int64_t)(int8_t)x[i * k + q] : x[i * k + q]) - zero[i]) * w[j * k + q];
            volatile float scale = x_scale[i] * w_scale[j], scaled = (float)sum * scale, want = scaled + bias[j];  // none is fused
            wrong += out[i * n + j] != want;
          }
        expect(wrong == 0, "quantized product %d of %lld × %lld × %lld: %lld values wrong", x_type, (long long)m, (long long)n, (long long)k, (long long)wrong);
        fingerprint(out, (size_t)(m * n * 4));
      }
}
