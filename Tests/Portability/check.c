// Runs every family, one line each; exit status 1 if anything failed.
#include "check.h"
#include <stdarg.h>

static const struct { const char *name; void (*run)(void); } families[] = {
  {"matrix product", check_matmul}, {"convolution", check_convolution}, {"pooling", check_pooling},
  {"elementwise", check_elementwise}, {"conversions", check_conversions}, {"math functions", check_math},
  {"tile programs", check_programs}, {"reductions", check_reductions}, {"scans", check_scans},
  {"softmax, cross entropy", check_softmax}, {"normalization", check_normalization}, {"optimizers", check_optimizers},
  {"movement", check_movement}, {"indexing", check_indexing}, {"order", check_order}, {"random numbers", check_random},
  {"attention", check_attention}, {"rotation, cells", check_cells}, {"quantized products", check_quantized},
  {"threads, buffers", check_threads},
};

static int64_t passed, failed;
static uint64_t hash;
static bool hashed;
enum { SHOWN = 8, MAX_ARRAYS = 1 << 16 };
static void *arrays[MAX_ARRAYS];
static int held;

void expect(bool holds, const char *format, ...) {
  if (holds) {
    passed++;
    return;
  }
  if (++failed > SHOWN) return;
  va_list arguments;
  va_start(arguments, format);
  fputs("  ", stdout);
  vprintf(format, arguments);
  fputs(failed == SHOWN ? " (further failures of this family are only counted)\n" : "\n", stdout);
  va_end(arguments);
}

void fingerprint(const void *bytes, size_t size) {  // FNV-1a
  hashed = true;
  for (size_t i = 0; i < size; i++) hash = (hash ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3u;
}

void fingerprint_floats(int type, const void *values, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    uint64_t bits = 0;
    if (isnan(get(type, values, i))) bits = ~(uint64_t)0;
    else memcpy(&bits, (const char *)values + i * apus_type_size(type), (size_t)apus_type_size(type));
    fingerprint(&bits, sizeof bits);
  }
}

static uint64_t state;
void seed(uint64_t value) { state = value; }
uint64_t draw(void) {  // SplitMix64
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
int64_t below(int64_t bound) { return (int64_t)(draw() % (uint64_t)bound); }
double real(void) { return (double)(below(256) - 128) / 64; }

// Significant bits and the exponent of the least subnormal.
static int precision(int type) { return type == APUS_F16 ? 11 : type == APUS_BF16 ? 8 : type == APUS_F32 ? 24 : 53; }
static int least(int type) { return type == APUS_F16 ? -24 : type == APUS_BF16 ? -133 : type == APUS_F32 ? -149 : -1074; }
double unit(int type) { return ldexp(1, -precision(type)); }

double rounded(int type, double x) {
  if (!isfinite(x) || x == 0 || type == APUS_F64) return x;
  int exponent;
  frexp(x, &exponent);
  int step = exponent - precision(type) > least(type) ? exponent - precision(type) : least(type);
  double r = ldexp(nearbyint(ldexp(x, -step)), step);
  double top = type == APUS_F16 ? 65504 : ldexp(2 - ldexp(1, 1 - precision(type)), 127);
  return fabs(r) > top ? copysign(INFINITY, x) : copysign(r, x);
}

double get(int type, const void *p, int64_t i) {
  switch (type) {
  case APUS_F64: return ((const double *)p)[i];
  case APUS_F32: return ((const float *)p)[i];
  case APUS_F16: case APUS_BF16: {
    int bits = ((const uint16_t *)p)[i], fraction_bits = precision(type) - 1, fraction = bits & ((1 << fraction_bits) - 1);
    int exponent = (bits & 0x7fff) >> fraction_bits, top = 0x7fff >> fraction_bits;
    double size = exponent == top ? (fraction ? NAN : INFINITY)
        : exponent == 0 ? ldexp(fraction, least(type)) : ldexp(fraction + (1 << fraction_bits), exponent - 1 + least(type));
    return bits & 0x8000 ? -size : size;
  }
  }
  return (double)get_integer(type, p, i);
}

int64_t get_integer(int type, const void *p, int64_t i) {
  switch (type) {
  case APUS_BOOL: case APUS_U8: return ((const uint8_t *)p)[i];
  case APUS_I8: return ((const int8_t *)p)[i];
  case APUS_I16: return ((const int16_t *)p)[i];
  case APUS_I32: return ((const int32_t *)p)[i];
  case APUS_I64: return ((const int64_t *)p)[i];
  }
  abort();
}

int64_t wrapped(int type, int64_t x) {
  switch (type) {
  case APUS_BOOL: return x != 0;
  case APUS_U8: return (uint8_t)x;
  case APUS_I8: return (int8_t)x;
  case APUS_I16: return (int16_t)x;
  case APUS_I32: return (int32_t)x;
  }
  return x;
}

void put_integer(int type, void *p, int64_t i, int64_t x) {
  switch (apus_type_size(type)) {
  case 1: ((uint8_t *)p)[i] = type == APUS_BOOL ? x != 0 : (uint8_t)x; break;
  case 2: ((uint16_t *)p)[i] = (uint16_t)x; break;
  case 4: ((uint32_t *)p)[i] = (uint32_t)x; break;
  default: ((uint64_t *)p)[i] = (uint64_t)x;
  }
}

void put(int type, void *p, int64_t i, double x) {
  if (type == APUS_F64) {
    ((double *)p)[i] = x;
  } else if (type == APUS_F32) {
    ((float *)p)[i] = (float)x;
  } else if (is_float(type)) {
    int fraction_bits = precision(type) - 1, exponent, bits;
    double r = fabs(rounded(type, x));
    if (isnan(r)) bits = type == APUS_F16 ? 0x7e00 : 0x7fc0;
    else if (isinf(r)) bits = type == APUS_F16 ? 0x7c00 : 0x7f80;
    else if (r < ldexp(1, least(type) + fraction_bits)) bits = (int)ldexp(r, -least(type));
    else {
      double fraction = frexp(r, &exponent);  // in [1/2, 1)
      int step = exponent - precision(type);
      bits = ((step - least(type) + 1) << fraction_bits) + (int)ldexp(fraction, precision(type)) - (1 << fraction_bits);
    }
    ((uint16_t *)p)[i] = (uint16_t)(bits | (signbit(x) ? 0x8000 : 0));
  } else {
    put_integer(type, p, i, (int64_t)x);
  }
}

void *array(int type, int64_t count) {
  size_t size = (size_t)(count * apus_type_size(type));
  void *p = NULL;
  if (held == MAX_ARRAYS || posix_memalign(&p, 64, size + 64) != 0) abort();
  memset(p, 0, size + 64);
  return arrays[held++] = p;
}

void *reals(int type, int64_t count) {
  void *p = array(type, count);
  for (int64_t i = 0; i < count; i++) {
    if (is_float(type)) put(type, p, i, real());
    else put_integer(type, p, i, (int64_t)draw());
  }
  return p;
}

int main(int count, char **names) {
  int64_t all_passed = 0, all_failed = 0;
  printf("architecture: %s\n", apus_isa_name(apus_current_isa()));
  for (int f = 0; f < LENGTH(families); f++) {
    if (count > 1 && !strstr(families[f].name, names[1])) continue;
    passed = failed = 0;
    hash = 0xcbf29ce484222325u;
    hashed = false;
    seed((uint64_t)f + 1);
    families[f].run();
    while (held > 0) free(arrays[--held]);
    printf("%-24s %8lld passed %4lld failed", families[f].name, (long long)passed, (long long)failed);
    if (hashed) printf("  bits %016llx", (unsigned long long)hash);
    puts("");
    fflush(stdout);
    all_passed += passed;
    all_failed += failed;
  }
  printf("%lld passed, %lld failed\n", (long long)all_passed, (long long)all_failed);
  return all_failed > 0;
}
