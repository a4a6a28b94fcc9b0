#include "check.h"
#include <stdint.h>

// The value of `op` for floats, in double, and how far (in ulp of the type) the kernel may be from it; -1: not defined here.
static double float_value(int op, double a, double b, double c, double *ulp) {
  *ulp = 0.5001;  // correctly rounded
  switch (op) {
  case APUS_OP_COPY: return a;
  case APUS_OP_NEG: return -a;
  case APUS_OP_ABS: return fabs(a);
  case APUS_OP_SIGN: return a > 0 ? 1 : a < 0 ? -1 : a;
  case APUS_OP_SQUARE: return a * a;
  case APUS_OP_FLOOR: return floor(a);
  case APUS_OP_CEIL: return ceil(a);
  case APUS_OP_ROUND: return nearbyint(a);
  case APUS_OP_TRUNC: return trunc(a);
  case APUS_OP_RELU: return a <= 0 ? 0 : a;
  case APUS_OP_IS_NAN: return isnan(a);
  case APUS_OP_IS_INF: return isinf(a) != 0;
  case APUS_OP_IS_FINITE: return isfinite(a) != 0;
  case APUS_OP_SQRT: return sqrt(a);
  case APUS_OP_RECIPROCAL: return 1 / a;
  case APUS_OP_ADD: return a + b;
  case APUS_OP_SUB: return a - b;
  case APUS_OP_MUL: return a * b;
  case APUS_OP_DIV: return a / b;
  case APUS_OP_REM: return fmod(a, b);
  case APUS_OP_MAX: return isnan(a) || isnan(b) ? NAN : a > b ? a : b;
  case APUS_OP_MIN: return isnan(a) || isnan(b) ? NAN : a < b ? a : b;
  case APUS_OP_EQ: return a == b;
  case APUS_OP_NE: return a != b;
  case APUS_OP_LT: return a < b;
  case APUS_OP_LE: return a <= b;
  case APUS_OP_GT: return a > b;
  case APUS_OP_GE: return a >= b;
  case APUS_OP_RELU_GRAD: return b > 0 ? a : 0;
  case APUS_OP_SELECT: return a != 0 ? b : c;
  case APUS_OP_CLAMP: {
    double m = isnan(a) || isnan(b) ? NAN : a > b ? a : b;
    return isnan(m) || isnan(c) ? NAN : m < c ? m : c;
  }
  }
  *ulp = 2;
  switch (op) {
  case APUS_OP_RSQRT: return 1 / sqrt(a);
  case APUS_OP_MOD: { double r = fmod(a, b); return r != 0 && (r < 0) != (b < 0) ? r + b : r == 0 ? copysign(0, b) : r; }
  }
  *ulp = -1;
  return 0;
}

static bool near_enough(int type, double got, double want, double ulp) {
  double near = rounded(type, want);
  if (same(got, near)) return true;
  if (ulp < 1 || !isfinite(near) || !isfinite(got) || near == 0) return false;
  int exponent;
  frexp(near, &exponent);
  double step = ldexp(2 * unit(type), exponent - 1);
  return fabs(got - want) <= ulp * step;
}

static uint64_t magnitude_bits(int type) { return type == APUS_BOOL ? 1 : 8 * (uint64_t)apus_type_size(type); }

// Integers, as the header defines them; false: not defined for integers.
static bool integer_value(int op, int type, int64_t a, int64_t b, int64_t c, int64_t *result) {
  int64_t width = (int64_t)magnitude_bits(type), r;
  bool is_signed = type != APUS_U8 && type != APUS_BOOL, lowest_by_minus_one = is_signed && b == -1;
  uint64_t x = (uint64_t)a, y = (uint64_t)b;
  int64_t quotient = b == 0 ? 0 : lowest_by_minus_one ? (int64_t)(0 - x) : a / b, rest = b == 0 || lowest_by_minus_one ? 0 : a % b;
  bool adjust = rest != 0 && (rest < 0) != (b < 0);
  bool truth = type == APUS_BOOL;
  switch (op) {
  case APUS_OP_COPY: case APUS_OP_FLOOR: case APUS_OP_CEIL: case APUS_OP_ROUND: case APUS_OP_TRUNC: r = a; break;
  case APUS_OP_NEG: r = (int64_t)(0 - x); break;
  case APUS_OP_ABS: r = a < 0 ? (int64_t)(0 - x) : a; break;
  case APUS_OP_SIGN: r = (a > 0) - (a < 0); break;
  case APUS_OP_SQUARE: r = (int64_t)(x * x); break;
  case APUS_OP_RELU: r = a < 0 ? 0 : a; break;
  case APUS_OP_NOT: r = truth ? !a : ~a; break;
  case APUS_OP_IS_NAN: case APUS_OP_IS_INF: r = 0; break;
  case APUS_OP_IS_FINITE: r = 1; break;
  case APUS_OP_ADD: r = truth ? a | b : (int64_t)(x + y); break;
  case APUS_OP_SUB: r = truth ? a ^ b : (int64_t)(x - y); break;
  case APUS_OP_MUL: r = (int64_t)(x * y); break;
  case APUS_OP_DIV: r = quotient; break;
  case APUS_OP_FLOOR_DIV: r = quotient - adjust; break;
  case APUS_OP_REM: r = rest; break;
  case APUS_OP_MOD: r = adjust ? rest + b : rest; break;
  case APUS_OP_MAX: r = a > b ? a : b; break;
  case APUS_OP_MIN: r = a < b ? a : b; break;
  case APUS_OP_POW: {
    if (b < 0) { r = a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0; break; }
    uint64_t power = 1, base = x;
    for (int64_t e = b; e; e >>= 1, base *= base) if (e & 1) power *= base;
    r = (int64_t)power;
    break;
  }
  case APUS_OP_AND: r = a & b; break;
  case APUS_OP_OR: r = a | b; break;
  case APUS_OP_XOR: r = a ^ b; break;
  case APUS_OP_SHL: r = b < 0 || b >= width ? 0 : (int64_t)(x << b); break;
  case APUS_OP_SHR: r = b < 0 || b >= width ? (a < 0 ? -1 : 0) : a >> b; break;
  case APUS_OP_EQ: r = a == b; break;
  case APUS_OP_NE: r = a != b; break;
  case APUS_OP_LT: r = a < b; break;
  case APUS_OP_LE: r = a <= b; break;
  case APUS_OP_GT: r = a > b; break;
  case APUS_OP_GE: r = a >= b; break;
  case APUS_OP_SELECT: r = a ? b : c; break;
  case APUS_OP_FMA: r = (int64_t)(x * y + (uint64_t)c); break;
  case APUS_OP_CLAMP: r = a > b ? a : b; r = r < c ? r : c; break;
  default: return false;
  }
  *result = wrapped(type, r);
  return true;
}

static const double specials[] = {
  0, -0.0, 1, -1, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 0.49999997, -0.49999997, 3, -7, 100.25, -100.75, INFINITY, -INFINITY, NAN,
  0x1p-149, -0x1p-149, 0x1p-126, 0x1.fffffep127, -0x1.fffffep127, 0x1p23, -0x1p23, 0x1.000001p23, 0x1p24, 0x1p31, -0x1p31, 1e10, 0x1p52,
};
static const int64_t integers[] = {0, 1, -1, 2, -2, 3, 7, -7, 8, 31, 40, 63, 64, 127, -128, 255, 32767, -32768, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, 0x123456789abcdef};

// Every pair of special values, then random ones; `count` elements in all.
static void operands(int type, bool is_condition, int which, void *p, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    if (is_condition) { put_integer(APUS_BOOL, p, i, below(2)); continue; }
    if (is_float(type)) {
      int64_t s = LENGTH(specials), at = which == 0 ? i % s : which == 1 ? i / s : i * 7 % s;
      put(type, p, i, i < s * s ? specials[at % s] : ldexp(real(), (int)below(20) - 10));
    } else {
      int64_t s = LENGTH(integers), at = which == 0 ? i % s : which == 1 ? i / s : i * 7 % s;
      put_integer(type, p, i, i < s * s ? integers[at % s] : (int64_t)draw() >> below(64));
    }
  }
}

static void operation(int op, int type) {
  bool simple = op == APUS_OP_ADD || op == APUS_OP_EQ || op == APUS_OP_SELECT || op == APUS_OP_NEG;  // enough work for threads
  int64_t count = LENGTH(specials) * LENGTH(specials) + (simple ? 200301 : 301);
  int arity = apus_op_arity(op), result = apus_tile_result_type(op, type);
  void *a = array(APUS_F64, count), *b = array(type, count), *c = array(type, count), *out = array(result, count);
  bool condition = op == APUS_OP_SELECT;
  operands(type, condition, 0, a, count), operands(type, false, 1, b, count), operands(type, false, 2, c, count);
  if (!is_float(type) && type != APUS_BOOL && op == APUS_OP_POW)  // keep the reference quick
    for (int64_t i = 0; i < count; i++) if (get_integer(type, b, i) > 1000) put_integer(type, b, i, i % 70);
  int a_type = condition ? APUS_BOOL : type;
  AT_EVERY_THREAD_COUNT(apus_op_name(op), out, count * apus_type_size(result),
                        apus_flat(op, type, count, out, a, arity > 1 ? b : NULL, arity > 2 ? c : NULL, 0));
  int64_t wrong = 0, first = -1;
  bool known = false, exact = !is_float(type);
  for (int64_t i = 0; i < count; i++) {
    bool right = true;
    if (is_float(type)) {
      double ulp, x = get(a_type, a, i), y = get(type, b, i), z = get(type, c, i), want = float_value(op, x, y, z, &ulp);
      known = ulp >= 0, exact = ulp < 1;
      if (op == APUS_OP_FMA) {
        // Fused, or rounded twice.
        known = true, exact = false;
        double fused = type == APUS_F64 ? fma(x, y, z) : x * y + z, got = get(type, out, i);
        double twice = type == APUS_F64 ? x * y + z : (double)((float)(x * y) + (float)z);
        right = near_enough(type, got, fused, type == APUS_F64 ? 0.5 : 1) || near_enough(type, got, twice, 1);
      } else if (known) {
        right = result == APUS_BOOL ? ((uint8_t *)out)[i] == (want != 0) : near_enough(type, get(type, out, i), want, ulp);
        // Which zero a maximum of zeros is, is left open.
        if ((op == APUS_OP_MAX || op == APUS_OP_MIN || op == APUS_OP_CLAMP) && want == 0) right = get(type, out, i) == 0, exact = false;
      }
    } else {
      int64_t want;
      known = integer_value(op, type, get_integer(a_type, a, i), get_integer(type, b, i), get_integer(type, c, i), &want);
      right = !known || get_integer(result, out, i) == want;
    }
    if (!right && wrong++ == 0) first = i;
  }
  if (!known && !is_float(type)) known = false;
  if (known)
    expect(wrong == 0, "%s, type %d: %lld wrong, first %g, %g, %g gave %g", apus_op_name(op), type, (long long)wrong,
           first < 0 ? 0 : get(a_type, a, first), first < 0 ? 0 : get(type, b, first), first < 0 ? 0 : get(type, c, first),
           first < 0 ? 0 : get(result, out, first));
  if (exact && known) {
    if (is_float(result)) fingerprint_floats(result, out, count); else fingerprint(out, (size_t)(count * apus_type_size(result)));
  }
  // Repeated scalar operands, all lengths around a vector, and results in place give what whole arrays give.
  if (apus_type_size(result) != apus_type_size(a_type)) return;
  int64_t size = apus_type_size(result);
  for (int64_t n = 1; n < 70; n += n < 20 ? 1 : 7) {
    char *place = array(result, n);
    memcpy(place, a, (size_t)(n * size));
    apus_flat(op, type, n, place, place, arity > 1 ? b : NULL, arity > 2 ? c : NULL, 0);
    int64_t differ = 0;
    for (int64_t i = 0; i < n; i++)
      differ += is_float(result) ? !same(get(result, place, i), get(result, out, i)) : memcmp(place + i * size, (char *)out + i * size, (size_t)size) != 0;
    expect(differ == 0, "%s, type %d: %lld of %lld differ in place", apus_op_name(op), type, (long long)differ, (long long)n);
  }
  if (arity == 2) {
    void *spread = array(type, 50), *one = array(result, 50), *two = array(result, 50);
    for (int64_t i = 0; i < 50; i++) memcpy((char *)spread + i * apus_type_size(type), (char *)b + 35 * apus_type_size(type), (size_t)apus_type_size(type));
    apus_flat(op, type, 50, one, a, spread, NULL, 0);
    apus_flat(op, type, 50, two, a, (char *)b + 35 * apus_type_size(type), NULL, 2);
    int64_t differ = 0;
    for (int64_t i = 0; i < 50; i++) differ += is_float(result) ? !same(get(result, one, i), get(result, two, i)) : get_integer(result, one, i) != get_integer(result, two, i);
    expect(differ == 0, "%s, type %d: a repeated scalar differs", apus_op_name(op), type);
  }
}

// The half precisions are loaded as float32 and rounded once.
static void half_operation(int op, int type) {
  int64_t dims[1] = {400};
  void *a = reals(type, 400), *b = reals(type, 400), *out = array(type, 400);
  apus_binary(op, type, 1, dims, (apus_view){out, NULL, type}, (apus_view){a, NULL, type}, (apus_view){b, NULL, type});
  int64_t wrong = 0;
  for (int64_t i = 0; i < 400; i++) {
    double ulp, want = float_value(op, get(type, a, i), get(type, b, i), 0, &ulp);
    wrong += !same(get(type, out, i), rounded(type, (double)(float)want));
  }
  expect(wrong == 0, "%s, type %d: %lld wrong", apus_op_name(op), type, (long long)wrong);
  fingerprint_floats(type, out, 400);
}

// out[i, j] = a[i, j] + b[j] with a transposed and b backwards.
static void strided(int type, int64_t rows, int64_t cols) {
  int64_t size = apus_type_size(type), dims[2] = {rows, cols}, a_strides[2] = {size, size * rows}, b_strides[2] = {0, -size};
  void *a = reals(type, rows * cols), *b = reals(type, cols), *out = array(type, rows * cols);
  apus_view vo = {out, NULL, type}, va = {a, a_strides, type}, vb = {(char *)b + (cols - 1) * size, b_strides, type};
  AT_EVERY_THREAD_COUNT("strided sum", out, rows * cols * size, apus_binary(APUS_OP_ADD, type, 2, dims, vo, va, vb));
  int64_t wrong = 0;
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++)
      wrong += is_float(type)
          ? get(type, out, i * cols + j) != rounded(type, get(type, a, j * rows + i) + get(type, b, cols - 1 - j))
          : type != APUS_BOOL && get_integer(type, out, i * cols + j) !=
                wrapped(type, (int64_t)((uint64_t)get_integer(type, a, j * rows + i) + (uint64_t)get_integer(type, b, cols - 1 - j)));
  expect(wrong == 0, "strided sum, type %d, %lldx%lld: %lld wrong", type, (long long)rows, (long long)cols, (long long)wrong);
}

void check_elementwise(void) {
  for (int op = 0; op < APUS_OP_CONVERT; op++)
    for (int type = 0; type <= APUS_F64; type++)
      if (type != APUS_F16 && type != APUS_BF16 && apus_tile_supports(op, type)) operation(op, type);
  static const int half_operations[] = {APUS_OP_ADD, APUS_OP_SUB, APUS_OP_MUL, APUS_OP_DIV, APUS_OP_MAX};
  for (int i = 0; i < LENGTH(half_operations); i++) half_operation(half_operations[i], APUS_F16), half_operation(half_operations[i], APUS_BF16);
  for (int type = 0; type <= APUS_F64; type++) strided(type, 3, 5), strided(type, 64, 70), strided(type, 300, 500);
}

// ---- Conversions ----------------------------------------------------------------------------------
static int64_t saturated(int type, double x) {
  double low = type == APUS_U8 ? 0 : -ldexp(1, (int)magnitude_bits(type) - 1);
  double high = ldexp(1, (int)magnitude_bits(type) - (type == APUS_U8 ? 0 : 1));  // one beyond
  if (isnan(x)) return 0;
  if (x < low) return (int64_t)low;
  return x >= high ? (int64_t)((type == APUS_I64 ? (uint64_t)1 << 63 : (uint64_t)high) - 1) : (int64_t)x;
}

static void convert(int to, int from) {
  static const double reals_[] = {
    1.9, -1.9, 255.9, 256, -0.9, 127.5, 128, -128.9, -129, 32767.9, 32768, -32769, 65504, 65519, 65520, 65536, 2147483520, 2147483647,
    2147483648, -2147483648.0, -2147483649.0, 3e9, 9.2e18, 9.3e18, -9.3e18, 1e30, -1e30, 1e39, -1e39, 1e-5, 0x1p-24, 0x1p-25, 0x1.8p-25, 0x1p-14,
    0x1.ffcp-15, 0x1p-133, 0x1p-134, 0x1.4p-126, 1.00048828125, 1.000488281251, 1.00146484375, 1.00390625, 1.003906251, 1.01171875,
  };
  int64_t count = 3000;
  void *a = array(from, count), *out = array(to, count);
  for (int64_t i = 0; i < count; i++) {
    if (is_float(from))
      put(from, a, i, i < LENGTH(specials) ? specials[i] : i < LENGTH(specials) + LENGTH(reals_) ? reals_[i - LENGTH(specials)]
          : ldexp((double)(int64_t)draw(), (int)below(200) - 160));
    else put_integer(from, a, i, i < LENGTH(integers) ? integers[i] : (int64_t)draw() >> below(64));
  }
  AT_EVERY_THREAD_COUNT("conversion", out, count * apus_type_size(to), apus_convert_flat(count, out, to, a, from));
  int64_t wrong = 0, first = -1;
  for (int64_t i = 0; i < count; i++) {
    bool right;
    if (is_float(to)) {
      // Integers go to the half precisions by way of float32, as in PyTorch.
      double want = is_float(from) ? get(from, a, i) : to == APUS_F64 ? (double)get_integer(from, a, i) : (double)(float)get_integer(from, a, i);
      right = same(get(to, out, i), rounded(to, want));
    } else if (to == APUS_BOOL) {
      right = ((uint8_t *)out)[i] == (is_float(from) ? get(from, a, i) != 0 : get_integer(from, a, i) != 0);
    } else {
      right = get_integer(to, out, i) == (is_float(from) ? saturated(to, get(from, a, i)) : wrapped(to, get_integer(from, a, i)));
    }
    if (!right && wrong++ == 0) first = i;
  }
  expect(wrong == 0, "from type %d to %d: %lld wrong, first %g gave %g", from, to, (long long)wrong, first < 0 ? 0 : get(from, a, first),
         first < 0 ? 0 : get(to, out, first));
  if (is_float(to)) fingerprint_floats(to, out, count); else fingerprint(out, (size_t)(count * apus_type_size(to)));
}

void check_conversions(void) {
  for (int to = 0; to <= APUS_F64; to++)
    for (int from = 0; from <= APUS_F64; from++) if (to != from) convert(to, from);
  // Every 16-bit pattern there and back.
  for (int type = APUS_F16; type <= APUS_BF16; type++) {
    uint16_t *all = array(type, 65536), *back = array(type, 65536);
    float *wide = array(APUS_F32, 65536);
    for (int i = 0; i < 65536; i++) all[i] = (uint16_t)i;
    apus_convert_flat(65536, wide, APUS_F32, all, type);
    apus_convert_flat(65536, back, type, wide, APUS_F32);
    int64_t wrong = 0;
    for (int i = 0; i < 65536; i++) {
      double value = get(type, all, i);
      wrong += isnan(value) ? !isnan(wide[i]) || !isnan(get(type, back, i)) : !same(wide[i], value) || back[i] != i;
    }
    expect(wrong == 0, "%lld patterns of type %d do not return", (long long)wrong, type);
  }
}
