#include "check.h"

// One dimension's place in memory: dimension d has stride step[d] elements; `origin` makes negative strides fit.
typedef struct { void *memory; int64_t count, origin, step[8]; } operand;

// Dimensions laid out in `order` (outermost first), `gap` elements between lines; bits of `flipped` and `broadcast` per dimension.
static operand place(int type, int rank, const int64_t *dims, const int *order, int flipped, int broadcast, int64_t gap) {
  operand o = {.origin = 5};
  int64_t step = 1, high = 0;
  for (int k = rank - 1; k >= 0; k--) {
    int d = order[k];
    if (broadcast >> d & 1) continue;
    int64_t extent = dims[d] > 1 ? dims[d] : 1, reach = (extent - 1) * step;
    o.step[d] = flipped >> d & 1 ? -step : step;
    if (flipped >> d & 1) o.origin += reach; else high += reach;
    step = step * extent + gap;
  }
  o.count = o.origin + high + 10;
  o.memory = reals(type, o.count);
  return o;
}
static void *start(operand o, int type) { return (char *)o.memory + o.origin * apus_type_size(type); }

static const struct { int in, out; } pairs[] = {
  {APUS_F32, APUS_F32}, {APUS_F64, APUS_F64}, {APUS_F16, APUS_F16}, {APUS_F16, APUS_F32}, {APUS_BF16, APUS_BF16},
  {APUS_BF16, APUS_F32}, {APUS_I8, APUS_I8}, {APUS_I8, APUS_I32}, {APUS_U8, APUS_U8}, {APUS_U8, APUS_I32}, {APUS_I16, APUS_I16},
  {APUS_I32, APUS_I32}, {APUS_I64, APUS_I64},
};
// batch, batch, m, n, k
static const int64_t shapes[][5] = {
  {1, 1, 1, 1, 1}, {1, 1, 16, 16, 16}, {1, 1, 7, 19, 5}, {1, 1, 1, 70, 300}, {1, 1, 70, 1, 300}, {1, 1, 3, 301, 129},
  {1, 1, 13, 97, 700}, {1, 1, 127, 65, 41}, {1, 1, 101, 83, 270}, {1, 1, 5, 3, 9000}, {1, 1, 0, 3, 4}, {1, 1, 9, 17, 0},
  {3, 1, 9, 5, 8}, {2, 3, 17, 33, 20}, {4, 1, 1, 40, 33}, {6, 1, 66, 34, 60},
};

static double activated(int activation, double x) {
  switch (activation) {
  case APUS_EPILOGUE_RELU: return x > 0 ? x : 0;
  case APUS_EPILOGUE_GELU_ERF: return 0.5 * x * (1 + erf(x * M_SQRT1_2));
  case APUS_EPILOGUE_GELU_TANH: return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
  case APUS_EPILOGUE_SIGMOID: return 1 / (1 + exp(-x));
  case APUS_EPILOGUE_TANH: return tanh(x);
  case APUS_EPILOGUE_SILU: return x / (1 + exp(-x));
  }
  return x;
}

// Variants: plain; A, B or all transposed; batch innermost, backwards, with gaps; A and B broadcast.
static void product(int in, int out, const int64_t *shape, int variant, int activation) {
  static const int natural[4] = {0, 1, 2, 3}, swapped[4] = {0, 1, 3, 2}, reversed[4] = {3, 2, 1, 0};
  const int *a_order = variant == 1 || variant == 3 ? swapped : variant == 4 ? reversed : natural;
  const int *b_order = variant == 2 || variant == 3 ? swapped : natural, *c_order = variant == 3 ? swapped : variant == 4 ? reversed : natural;
  int flipped = variant == 4 ? 1 << 2 : variant == 3 ? 1 << 3 : 0;
  int64_t gap = variant == 4 ? 2 : 0, m = shape[2], n = shape[3], k = shape[4];
  const int64_t a_dims[4] = {shape[0], shape[1], m, k}, b_dims[4] = {shape[0], shape[1], k, n}, c_dims[4] = {shape[0], shape[1], m, n};
  operand a = place(in, 4, a_dims, a_order, flipped, variant == 5 ? 1 : 0, gap);
  operand b = place(in, 4, b_dims, b_order, flipped, variant == 5 ? 1 << 3 : 0, gap);
  operand c = place(out, 4, c_dims, c_order, flipped, 0, gap);
  static const int one[1] = {0};
  operand bias = place(out, 1, &n, one, variant == 3, 0, 0);
  bool has_bias = variant % 3 == 1, accumulate = variant % 2 == 1;
  apus_matmul p = {
    .type = in, .out_type = out, .accumulate = accumulate, .batch_rank = 2, .batch = {shape[0], shape[1]},
    .a_batch = {a.step[0], a.step[1]}, .b_batch = {b.step[0], b.step[1]}, .c_batch = {c.step[0], c.step[1]}, .m = m, .n = n, .k = k,
    .a_row = a.step[2], .a_col = a.step[3], .b_row = b.step[2], .b_col = b.step[3], .c_row = c.step[2], .c_col = c.step[3],
    .a = start(a, in), .b = start(b, in), .c = start(c, out), .bias = has_bias ? start(bias, out) : NULL, .bias_stride = bias.step[0],
    .activation = activation,
  };
  int64_t size = apus_type_size(out);
  char *before = array(out, c.count), *written = array(APUS_BOOL, c.count);
  memcpy(before, c.memory, (size_t)(c.count * size));
  AT_EVERY_THREAD_COUNT("product", c.memory, c.count * size, apus_matmul_run(&p));
  if (!is_float(in)) fingerprint(c.memory, (size_t)(c.count * size));
  int64_t wrong = 0;
  for (int64_t i0 = 0; i0 < shape[0]; i0++)
    for (int64_t i1 = 0; i1 < shape[1]; i1++)
      for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
          int64_t at = c.origin + i0 * c.step[0] + i1 * c.step[1] + i * c.step[2] + j * c.step[3];
          int64_t x = a.origin + i0 * a.step[0] + i1 * a.step[1] + i * a.step[2];
          int64_t y = b.origin + i0 * b.step[0] + i1 * b.step[1] + j * b.step[3];
          written[at] = 1;
          if (is_float(in)) {
            double sum = accumulate ? get(out, before, at) : 0, magnitude = fabs(sum);
            if (has_bias) sum += get(out, bias.memory, bias.origin + j * bias.step[0]);
            magnitude += has_bias ? 2 : 0;
            for (int64_t q = 0; q < k; q++) {
              double term = get(in, a.memory, x + q * a.step[3]) * get(in, b.memory, y + q * b.step[2]);
              sum += term;
              magnitude += fabs(term);
            }
            // n roundings of a sum (Higham, Accuracy and Stability, 4.2); no activation is steeper than 1.13; one to the type of C.
            double sum_unit = unit(out) < 0x1p-24 ? unit(out) : 0x1p-24, want = activated(activation, sum);
            double bound = 1.2 * magnitude * sum_unit * (double)(k + 3) + fabs(want) * unit(out) * 1.01;
            // The sum is rounded to the type of C before it is activated, as a store would.
            if (activation > APUS_EPILOGUE_RELU) bound += 8 * sum_unit * (1 + fabs(want)) + (out == APUS_F16 || out == APUS_BF16 ? 1.2 * fabs(sum) * unit(out) : 0);
            wrong += !(fabs(get(out, c.memory, at) - want) <= bound);
          } else {
            uint64_t sum = accumulate ? (uint64_t)get_integer(out, before, at) : 0;
            if (has_bias) sum += (uint64_t)get_integer(out, bias.memory, bias.origin + j * bias.step[0]);
            for (int64_t q = 0; q < k; q++)
              sum += (uint64_t)get_integer(in, a.memory, x + q * a.step[3]) * (uint64_t)get_integer(in, b.memory, y + q * b.step[2]);
            int64_t want = wrapped(out, (int64_t)sum);
            wrong += get_integer(out, c.memory, at) != (activation && want < 0 ? 0 : want);
          }
        }
  for (int64_t i = 0; i < c.count; i++)
    wrong += !written[i] && memcmp(before + i * size, (char *)c.memory + i * size, (size_t)size) != 0;
  expect(wrong == 0, "types %d to %d, %lldx%lld of %lldx%lldx%lld, variant %d, activation %d: %lld wrong", in, out, (long long)shape[0],
         (long long)shape[1], (long long)m, (long long)n, (long long)k, variant, activation, (long long)wrong);
}

// Everything after the sums, and B packed before: the same bits as a plain product followed by separate kernels.
typedef struct { int activation, residual /* 1: before the activation, 2: after it */; bool bias, accumulate, swapped; double alpha; } finish;

static void finished(int type, const int64_t *shape, int b_order, finish f) {
  static const int operations[] = {APUS_OP_COPY, APUS_OP_RELU, APUS_OP_GELU_ERF, APUS_OP_GELU_TANH, APUS_OP_SIGMOID, APUS_OP_TANH, APUS_OP_SILU};
  int64_t m = shape[0], n = shape[1], k = shape[2], count = m * n, size = apus_type_size(type) * count;
  // B's rows, its columns, or neither are adjacent.
  int64_t b_row = b_order == 0 ? n : b_order == 1 ? 1 : 2 * n, b_col = b_order == 0 ? 1 : b_order == 1 ? k : 2;
  void *b = reals(type, 2 * k * n + 1), *c = reals(type, count), *residual = reals(type, count);
  apus_matmul p = {
    .type = type, .out_type = type, .accumulate = f.accumulate, .m = m, .n = n, .k = k, .a_row = k, .a_col = 1, .b_row = b_row,
    .b_col = b_col, .c_row = f.swapped ? 1 : n, .c_col = f.swapped ? m : 1, .a = reals(type, m * k), .b = b, .c = c,
    .bias = f.bias ? reals(type, n) : NULL, .bias_stride = 1,
  };
  char *expected = array(type, count), *before = array(type, count);
  memcpy(before, c, (size_t)size);
  p.c = expected;
  memcpy(expected, before, (size_t)size);
  if (f.alpha != 0) {
    char factor[8];
    put(type, factor, 0, f.alpha);
    p.accumulate = 0;
    p.bias = NULL;
    apus_matmul_run(&p);
    apus_flat(APUS_OP_MUL, type, count, expected, expected, factor, NULL, 2);
    if (f.accumulate) apus_flat(APUS_OP_ADD, type, count, expected, before, expected, NULL, 0);
  } else {
    apus_matmul_run(&p);
  }
  if (f.residual == 1) apus_flat(APUS_OP_ADD, type, count, expected, expected, residual, NULL, 0);
  if (f.activation != APUS_EPILOGUE_NONE) apus_flat(operations[f.activation], type, count, expected, expected, NULL, NULL, 0);
  if (f.residual == 2) apus_flat(APUS_OP_ADD, type, count, expected, expected, residual, NULL, 0);
  p.c = c;
  p.accumulate = f.accumulate;
  p.activation = f.activation;
  p.alpha = f.alpha;
  p.residual = f.residual ? residual : NULL;
  p.residual_after = f.residual == 2;
  p.residual_row = p.c_row;
  p.residual_col = p.c_col;
  size_t packed_size = apus_matmul_packed_size(type, k, n);
  char *packed = array(APUS_I8, (int64_t)packed_size + 64);
  memset(packed, 0x5a, packed_size + 64);
  apus_matmul_pack_b(type, k, n, b, b_row, b_col, packed);
  bool within = true;
  for (int i = 0; i < 64; i++) within &= packed[packed_size + (size_t)i] == 0x5a;
  expect(within, "packing wrote beyond its size: type %d, %lldx%lld", type, (long long)k, (long long)n);
  for (int is_packed = 0; is_packed < 2; is_packed++) {
    if (is_packed) { p.packed_b = packed; p.b = NULL; }
    memcpy(c, before, (size_t)size);
    AT_EVERY_THREAD_COUNT("finished product", c, size, apus_matmul_run(&p));
    expect(memcmp(c, expected, (size_t)size) == 0, "type %d, %lldx%lldx%lld, order %d, activation %d, residual %d, alpha %g, swapped %d, packed %d: other bits",
           type, (long long)m, (long long)n, (long long)k, b_order, f.activation, f.residual, f.alpha, f.swapped, is_packed);
  }
}

static void check_finish(void) {
  static const int64_t finish_shapes[][3] = {
    {1, 40, 700}, {3, 33, 515}, {5, 70, 1031}, {20, 5, 530}, {16, 16, 40}, {9, 1, 600}, {2, 3, 17}, {1, 20, 1}, {7, 33, 0},
    {17, 37, 1100}, {40, 100, 24}, {70, 131, 129}, {3, 50, 9000}, {18, 20, 4100},
  };
  static const int types[] = {APUS_F32, APUS_F64, APUS_BF16, APUS_F16};
  for (int t = 0; t < LENGTH(types); t++)
    for (int s = 0; s < LENGTH(finish_shapes); s++)
      for (int order = 0; order < 3; order++) {
        bool wide = types[t] == APUS_F32 || types[t] == APUS_F64;
        finish f = {.activation = (s + 2 * order + t) % 7, .residual = (s + order) % 3, .bias = s % 2 == 0, .accumulate = (s / 2 + order) % 2, .swapped = s % 5 == 3};
        finished(types[t], finish_shapes[s], order, (finish){.bias = true, .swapped = s % 3 == 1});
        finished(types[t], finish_shapes[s], order, f);
        if (wide) finished(types[t], finish_shapes[s], order, (finish){.alpha = 0.37, .residual = f.residual, .accumulate = f.accumulate, .activation = order, .swapped = f.swapped});
      }
  static const int64_t shape[3] = {21, 35, 12};
  for (int t = 0; t < LENGTH(types); t++)
    for (int activation = 0; activation <= APUS_EPILOGUE_SILU; activation++)
      for (int residual = 0; residual < 3; residual++)
        finished(types[t], shape, activation % 3, (finish){.activation = activation, .residual = residual, .bias = true});
}

void check_matmul(void) {
  for (int t = 0; t < LENGTH(pairs); t++)
    for (int s = 0; s < LENGTH(shapes); s++) {
      const int64_t *shape = shapes[s];
      bool large = shape[0] * shape[1] * shape[2] * shape[3] * shape[4] > 60000;
      for (int variant = 0; variant < 6; variant++)
        if (!large || variant == (t + s) % 6)
          product(pairs[t].in, pairs[t].out, shape, variant, variant >= 3 ? APUS_EPILOGUE_RELU : APUS_EPILOGUE_NONE);
    }
  static const int64_t shape[5] = {1, 1, 21, 35, 12};
  for (int t = 0; t < 6; t++)
    for (int activation = 0; activation <= APUS_EPILOGUE_SILU; activation++) product(pairs[t].in, pairs[t].out, shape, t % 3, activation);
  check_finish();
}
