#include "check.h"

static double sigmoid(double x) { return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)); }
static double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }
static double rsqrt(double x) { return 1 / sqrt(x); }
static double silu(double x) { return x * sigmoid(x); }  // NaN at -infinity, as in PyTorch
static double gelu_erf(double x) { return x == -INFINITY ? -0.0 : 0.5 * x * erfc(-x * M_SQRT1_2); }
static double gelu_tanh(double x) { return x * sigmoid(2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x)); }

// ulp: what the project promises where it is 2. `absolute` is allowed beside it: products of a subnormal, differences near zero.
static const struct { int op; double (*reference)(double); double ulp, ulp64, absolute; } functions[] = {
  {APUS_OP_EXP, exp, 2, 2, 0}, {APUS_OP_EXPM1, expm1, 2, 2, 0}, {APUS_OP_EXP2, exp2, 2, 2, 0}, {APUS_OP_LOG, log, 2, 2, 0},
  {APUS_OP_LOG1P, log1p, 2, 2, 0}, {APUS_OP_LOG2, log2, 2, 2, 0}, {APUS_OP_SIN, sin, 2, 2, 0}, {APUS_OP_COS, cos, 2, 2, 0},
  {APUS_OP_TAN, tan, 2, 2, 0}, {APUS_OP_TANH, tanh, 2, 4, 0}, {APUS_OP_ERF, erf, 2, 2, 0}, {APUS_OP_ERFC, erfc, 2, 2, 0},
  {APUS_OP_SIGMOID, sigmoid, 2, 4, 0}, {APUS_OP_RSQRT, rsqrt, 2, 2, 0}, {APUS_OP_SINH, sinh, 2, 2, 0}, {APUS_OP_COSH, cosh, 2, 2, 0},
  {APUS_OP_ASINH, asinh, 2, 2, 0}, {APUS_OP_ACOSH, acosh, 2, 2, 0}, {APUS_OP_ATANH, atanh, 2, 2, 0}, {APUS_OP_ASIN, asin, 2, 2, 0},
  {APUS_OP_ACOS, acos, 2, 2, 0}, {APUS_OP_ATAN, atan, 2, 2, 0}, {APUS_OP_SOFTPLUS, softplus, 2, 4, 0},
  {APUS_OP_SILU, silu, 4, 8, 1e-36}, {APUS_OP_GELU_ERF, gelu_erf, 64, 8, 1e-6}, {APUS_OP_GELU_TANH, gelu_tanh, 64, 64, 1e-6},
};
static const float specials[] = {
  0, -0.0f, 1, -1, INFINITY, -INFINITY, NAN, 0x1p-149f, -0x1p-149f, 0x1p-126f, 0x1.fffffep127f, -0x1.fffffep127f, 88.7f, 88.8f, -87.3f,
  -103.9f, -104.1f, 0.5f, 2, 0x1p16f, 0x1p-25f, 1e10f, 3e38f,
};

static double distance(int type, double got, double want) {
  double near = rounded(type, want);
  if (isnan(want) || isnan(got)) return isnan(want) && isnan(got) ? 0 : INFINITY;
  if (isinf(near) || isinf(got) || want == 0) return same(got, near) ? 0 : INFINITY;
  int exponent;
  frexp(want, &exponent);
  double least = type == APUS_F64 ? 0x1p-1074 : 0x1p-149, place = ldexp(2 * unit(type), exponent - 1);
  return fabs(got - want) / (place > least ? place : least);
}

void check_math(void) {
  // Bit patterns over the whole range, the special values first.
  enum { STEP = 49157, MAX = LENGTH(specials) + (int)(0x100000000u / STEP) + 1 };
  float *x = array(APUS_F32, MAX), *y = array(APUS_F32, MAX);
  double *x64 = array(APUS_F64, MAX), *y64 = array(APUS_F64, MAX);
  int64_t count = 0;
  for (; count < LENGTH(specials); count++) x[count] = specials[count];
  for (uint64_t bits = 0; bits < 0x100000000u; bits += STEP, count++) {
    uint32_t u = (uint32_t)bits;
    memcpy(&x[count], &u, 4);
  }
  for (int64_t i = 0; i < count; i++) x64[i] = i % 3 ? (double)x[i] : ldexp((double)(int64_t)draw(), (int)below(80) - 100);
  for (int f = 0; f < LENGTH(functions); f++) {
    const char *name = apus_op_name(functions[f].op);
    AT_EVERY_THREAD_COUNT(name, y, count * 4, apus_flat(functions[f].op, APUS_F32, count, y, x, NULL, NULL, 0));
    AT_EVERY_THREAD_COUNT(name, y64, count * 8, apus_flat(functions[f].op, APUS_F64, count, y64, x64, NULL, NULL, 0));
    double worst = 0, worst64 = 0;
    int64_t at = 0, at64 = 0;
    for (int64_t i = 0; i < count; i++) {
      double want = functions[f].reference((double)x[i]), want64 = functions[f].reference(x64[i]);
      double d = distance(APUS_F32, (double)y[i], want), d64 = distance(APUS_F64, y64[i], want64);
      if (d > worst && !(fabs((double)y[i] - want) < functions[f].absolute)) worst = d, at = i;
      if (d64 > worst64 && !(fabs(y64[i] - want64) < functions[f].absolute * 1e-9)) worst64 = d64, at64 = i;
    }
    expect(worst <= functions[f].ulp, "%s: %.2f ulp at %a: %a", name, worst, (double)x[at], (double)y[at]);
    expect(worst64 <= functions[f].ulp64, "%s in float64: %.2f ulp at %a: %a", name, worst64, x64[at64], y64[at64]);
  }
  // pow: every pair of C99's special cases, then dense samples.
  static const float corners[] = {0, -0.0f, 1, -1, 2, -2, 3, -3, 0.5f, -0.5f, INFINITY, -INFINITY, NAN, 0x1p24f, 1e30f, -1e30f, 0x1p-130f};
  float *exponents = array(APUS_F32, MAX);
  for (int64_t i = 0; i < count; i++) {
    int64_t n = LENGTH(corners);
    uint32_t bits = (uint32_t)(draw() >> 33);
    x[i] = i < n * n ? corners[i / n] : (memcpy(&x[i], &bits, 4), x[i]);
    exponents[i] = i < n * n ? corners[i % n] : (float)(int32_t)draw() * 0x1p-26f;
  }
  AT_EVERY_THREAD_COUNT("pow", y, count * 4, apus_flat(APUS_OP_POW, APUS_F32, count, y, x, exponents, NULL, 0));
  double worst = 0;
  int64_t at = 0;
  for (int64_t i = 0; i < count; i++) {
    double d = distance(APUS_F32, (double)y[i], pow((double)x[i], (double)exponents[i]));
    if (d > worst) worst = d, at = i;
  }
  expect(worst <= 2, "pow(%a, %a) = %a: %.2f ulp", (double)x[at], (double)exponents[at], (double)y[at], worst);
  AT_EVERY_THREAD_COUNT("atan2", y, count * 4, apus_flat(APUS_OP_ATAN2, APUS_F32, count, y, x, exponents, NULL, 0));
  worst = 0;
  for (int64_t i = 0; i < count; i++) worst = fmax(worst, distance(APUS_F32, (double)y[i], atan2((double)x[i], (double)exponents[i])));
  expect(worst <= 2, "atan2: %.2f ulp", worst);
  // Against their definitions elsewhere: lgamma by the C library, digamma by its recurrence, erf_inv by erf.
  static const double points[] = {0.1, 0.75, 1, 1.5, 2, 3.25, 10, 30, 100, -0.5, -1.25, -3.75};
  for (int i = 0; i < LENGTH(points); i++) {
    double a = points[i], b = a + 1, r, s;
    apus_flat(APUS_OP_LGAMMA, APUS_F64, 1, &r, &a, NULL, NULL, 0);
    expect(close_to(r, lgamma(a), 1e-14), "lgamma(%g) = %g", a, r);
    apus_flat(APUS_OP_DIGAMMA, APUS_F64, 1, &r, &a, NULL, NULL, 0);
    apus_flat(APUS_OP_DIGAMMA, APUS_F64, 1, &s, &b, NULL, NULL, 0);
    expect(close_to(s - r, 1 / a, 1e-12), "digamma(%g) - digamma(%g) = %g", b, a, s - r);
    double p = a / 101;
    apus_flat(APUS_OP_ERF_INV, APUS_F64, 1, &r, &p, NULL, NULL, 0);
    expect(close_to(erf(r), p, 1e-15), "erf(erf_inv(%g)) = %g", p, erf(r));
  }
  // Gradients of activations against central differences (error about 1e-10).
  static const int pairs[][2] = {{APUS_OP_SILU_GRAD, APUS_OP_SILU}, {APUS_OP_GELU_ERF_GRAD, APUS_OP_GELU_ERF}, {APUS_OP_GELU_TANH_GRAD, APUS_OP_GELU_TANH}};
  for (int k = 0; k < LENGTH(pairs); k++)
    for (double a = -6; a < 6; a += 0.37) {
      double up = a + 1e-5, down = a - 1e-5, one = 1, r, s, g;
      float one32 = 1, a32 = (float)a, g32;
      apus_flat(pairs[k][1], APUS_F64, 1, &r, &up, NULL, NULL, 0);
      apus_flat(pairs[k][1], APUS_F64, 1, &s, &down, NULL, NULL, 0);
      apus_flat(pairs[k][0], APUS_F64, 1, &g, &one, &a, NULL, 0);
      apus_flat(pairs[k][0], APUS_F32, 1, &g32, &one32, &a32, NULL, 0);
      expect(fabs(g - (r - s) / 2e-5) < 1e-8 && fabs((double)g32 - g) < 2e-6, "%s at %g: %g", apus_op_name(pairs[k][0]), a, g);
    }
}

// t = relu(2x + y); t - mean of its row.
void check_programs(void) {
  static const int64_t widths[] = {1, 7, 1000, 3000};
  for (int w = 0; w < LENGTH(widths); w++)
    for (int type = APUS_F16; type <= APUS_F64; type++) {
      int64_t rows = 37, cols = widths[w], dims[2] = {rows, cols};
      int compute = type == APUS_F64 ? APUS_F64 : APUS_F32;
      void *x = reals(type, rows * cols), *y = reals(type, rows * cols), *out = array(type, rows * cols);
      apus_view views[3] = {{x, NULL, type}, {y, NULL, type}, {out, NULL, type}};
      uint8_t t = (uint8_t)compute;
      apus_instruction code[] = {
        {.op = APUS_OP_FMA, .type = t, .dst = 3, .a = 0, .b = APUS_IMMEDIATE, .c = 1, .immediate.real = 2},
        {.op = APUS_OP_RELU, .type = t, .dst = 3, .a = 3}, {.op = APUS_OP_ROW_SUM, .type = t, .dst = 4, .a = 3},
        {.op = APUS_OP_MUL, .type = t, .dst = 4, .a = 4, .b = APUS_IMMEDIATE, .immediate.real = 1 / (double)cols},
        {.op = APUS_OP_SUB, .type = t, .dst = 2, .a = 3, .b = 4},
      };
      apus_program program = {2, dims, 2, 1, views, LENGTH(code), code};
      expect(apus_program_fits(&program), "a program of 5 instructions fits");
      AT_EVERY_THREAD_COUNT("program", out, rows * cols * apus_type_size(type), apus_tile_run(&program));
      int64_t wrong = 0;
      for (int64_t i = 0; i < rows; i++) {
        double mean = 0;
        for (int64_t j = 0; j < cols; j++) mean += fmax(2 * get(type, x, i * cols + j) + get(type, y, i * cols + j), 0) / (double)cols;
        for (int64_t j = 0; j < cols; j++) {
          double want = fmax(2 * get(type, x, i * cols + j) + get(type, y, i * cols + j), 0) - mean;
          wrong += !(fabs(get(type, out, i * cols + j) - want) <= 1e-5 + fabs(want) * unit(type) * 1.01);
        }
      }
      expect(wrong == 0, "program on type %d, %lld columns: %lld wrong", type, (long long)cols, (long long)wrong);
    }
}
