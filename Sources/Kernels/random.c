// Counter-based random numbers: words by Philox, a piece at a time in the first-level cache, then the distribution.
#include "apus_random.h"
#include "half.h"
#include <math.h>
#include <string.h>
#if defined(__aarch64__)
#include <arm_neon.h>
#endif

#define PHILOX_M0 0xD2511F53u
#define PHILOX_M1 0xCD9E8D57u
#define PHILOX_W0 0x9E3779B9u
#define PHILOX_W1 0xBB67AE85u

// PIECE elements at a time (a multiple of every vector, and even); CHUNK elements are a task.
enum { PIECE = 512, CHUNK = 16384 };

typedef struct random_job random_job;
typedef struct {
  void (*words)(uint64_t key, uint64_t offset, uint32_t *dst, int64_t count);
  void (*uniform_f32)(const uint32_t *words, float *out, int64_t count, const random_job *p);
  void (*uniform_f64)(const uint32_t *words, double *out, int64_t count, const random_job *p);
  void (*normal_f32)(const uint32_t *words, float *out, int64_t count, const random_job *p);
  void (*normal_f64)(const uint32_t *words, double *out, int64_t count, const random_job *p);
  void (*exponential_f32)(const uint32_t *words, float *out, int64_t count, const random_job *p);
  void (*exponential_f64)(const uint32_t *words, double *out, int64_t count, const random_job *p);
  void (*truncated_f32)(const uint32_t *words, float *out, int64_t count, const random_job *p);
  void (*truncated_f64)(const uint32_t *words, double *out, int64_t count, const random_job *p);
  void (*scale_integers)(uint32_t *words, int64_t count, uint64_t range);
  void (*to_bf16)(const float *x, uint16_t *out, int64_t count);
  void (*to_f16)(const float *x, uint16_t *out, int64_t count);
} random_functions;

struct random_job {
  const random_functions *functions;
  void (*f32)(const uint32_t *words, float *out, int64_t count, const random_job *p);
  void (*f64)(const uint32_t *words, double *out, int64_t count, const random_job *p);
  int type;
  uint64_t key, offset;
  char *dst;
  int64_t count;
  double a, b, c;          // results are (x * b + a) * c
  double low, top;         // uniform and truncated_normal stay within low...top
  double below, span, above;  // probabilities below, between and above the bounds
  float keep_low, keep_high;
  int drop;                // low bits of a word that uniform_f32 leaves out
  float unit;              // and what the rest is multiplied by
  uint64_t range;          // integers
  int64_t first;
  uint64_t threshold;      // bernoulli
};

static void philox_block(uint64_t key, uint64_t block, uint32_t words[4]) {
  const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), 0, 0}, halves[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
  apus_philox(counter, halves, words);
}

// Coefficients of PPND16, lowest power first.
static const double quantile_a[8] = {
    3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
    4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3};
static const double quantile_b[8] = {
    1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
    2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3};
static const double quantile_c[8] = {
    1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
    1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4};
static const double quantile_d[8] = {
    1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
    1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9};
static const double quantile_e[8] = {
    6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
    2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7};
static const double quantile_f[8] = {
    1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
    7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15};

#define APUS_SUFFIX narrow
#define APUS_BYTES 16
#include "random_body.inc"
#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define APUS_SUFFIX avx2
#define APUS_BYTES 32
#include "random_body.inc"
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq"))), apply_to = function)
#define APUS_SUFFIX avx512
#define APUS_BYTES 64
#include "random_body.inc"
#pragma clang attribute pop
#endif

static const random_functions *current_functions(void) {
  switch (apus_current_isa()) {
#if defined(__x86_64__)
    case APUS_ISA_AVX2: return &functions_avx2;
    case APUS_ISA_AVX512: return &functions_avx512;
#else
    case APUS_ISA_AVX2: case APUS_ISA_AVX512:
#endif
    case APUS_ISA_BASELINE: case APUS_ISA_NEON: return &functions_narrow;
  }
  return &functions_narrow;
}

void apus_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t result[4]) {
  uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]}, k0 = key[0], k1 = key[1];
  for (int i = 0; i < 10; i++) {
    uint64_t p0 = (uint64_t)PHILOX_M0 * c[0], p1 = (uint64_t)PHILOX_M1 * c[2];
    c[0] = (uint32_t)(p1 >> 32) ^ c[1] ^ k0;
    c[1] = (uint32_t)p1;
    c[2] = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
    c[3] = (uint32_t)p0;
    k0 += PHILOX_W0;
    k1 += PHILOX_W1;
  }
  memcpy(result, c, sizeof c);
}

uint64_t apus_random_fold(uint64_t key, uint64_t data) {
  // The upper half of the counter, zero in every stream, keeps derived keys apart from a stream's words.
  const uint32_t counter[4] = {(uint32_t)data, (uint32_t)(data >> 32), 0, 1}, halves[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
  uint32_t words[4];
  apus_philox(counter, halves, words);
  return words[0] | (uint64_t)words[1] << 32;
}

static int words_per_element(int type) {
  switch (type) {
    case APUS_F16: case APUS_BF16: case APUS_F32: return 1;
    case APUS_BOOL: case APUS_U8: case APUS_I8: case APUS_I16: case APUS_I32: case APUS_I64: case APUS_F64: return 2;
  }
  return 2;
}

uint64_t apus_random_words(int type, int64_t count) { return ((uint64_t)count * (uint64_t)words_per_element(type) + 3) & ~(uint64_t)3; }

static inline int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t chunks_of(int64_t count) { return (count + CHUNK - 1) / CHUNK; }

static void bits_task(void *context, int64_t t) {
  const random_job *p = context;
  p->functions->words(p->key, p->offset + (uint64_t)(t * CHUNK), (uint32_t *)(void *)p->dst + t * CHUNK, lesser(CHUNK, p->count - t * CHUNK));
}

void apus_random_bits(uint64_t key, uint64_t offset, uint32_t *dst, int64_t count) {
  random_job p = {.functions = current_functions(), .key = key, .offset = offset, .dst = (char *)dst, .count = count};
  apus_parallel(chunks_of(count), bits_task, &p);
}

// ---- Real distributions ------------------------------------------------------------------------------------
// Each piece's words are rounded up to whole pairs of elements: what normal needs, and harmless elsewhere.
static void real_task(void *context, int64_t t) {
  const random_job *p = context;
  uint32_t words[2 * PIECE] __attribute__((aligned(64)));
  union { float f32[PIECE]; double f64[PIECE]; } out __attribute__((aligned(64)));
  memset(words, 0, sizeof words);
  int64_t end = lesser((t + 1) * CHUNK, p->count);
  int per = words_per_element(p->type);
  for (int64_t i = t * CHUNK; i < end; i += PIECE) {
    int64_t n = lesser(PIECE, end - i);
    p->functions->words(p->key, p->offset + (uint64_t)(i * per), words, (n + 1) / 2 * 2 * per);
    switch (p->type) {
      case APUS_F64:
        p->f64(words, out.f64, n, p);
        memcpy(p->dst + 8 * i, out.f64, (size_t)n * 8);
        break;
      case APUS_F32:
        p->f32(words, out.f32, n, p);
        memcpy(p->dst + 4 * i, out.f32, (size_t)n * 4);
        break;
      case APUS_F16:
        p->f32(words, out.f32, n, p);
        p->functions->to_f16(out.f32, (uint16_t *)(void *)p->dst + i, n);
        break;
      case APUS_BF16:
        p->f32(words, out.f32, n, p);
        p->functions->to_bf16(out.f32, (uint16_t *)(void *)p->dst + i, n);
        break;
    }
  }
}

// x rounded to the type, as a double.
static double rounded(int type, double x) {
  switch (type) {
    case APUS_F16: return (double)apus_float_of_f16(apus_f16_of_float(apus_float_to_odd(x)));
    case APUS_BF16: return (double)apus_float_of_bf16(apus_bf16_of_float(apus_float_to_odd(x)));
    case APUS_F32: return (double)(float)x;
  }
  return x;
}

// The greatest value of the type that is below x (strictly), or, with `up`, the least that is above.
static double neighbour(int type, double x, bool up) {
  double r = rounded(type, x), to = up ? INFINITY : -INFINITY;
  if (up ? r > x : r < x) return r;
  switch (type) {
    case APUS_F16: case APUS_BF16: {
      uint16_t h = type == APUS_F16 ? apus_f16_of_float((float)r) : apus_bf16_of_float((float)r);
      if ((h & 0x7fff) == 0) h = up ? 1 : 0x8001;
      else h = (h >> 15) == (up ? 1 : 0) ? h - 1 : h + 1;
      return type == APUS_F16 ? (double)apus_float_of_f16(h) : (double)apus_float_of_bf16(h);
    }
    case APUS_F32: return (double)nextafterf((float)r, (float)to);
  }
  return nextafter(r, to);
}

void apus_random_uniform(int type, uint64_t key, uint64_t offset, void *dst, int64_t count, double low, double high) {
  const random_functions *f = current_functions();
  random_job p = {.functions = f, .f32 = f->uniform_f32, .f64 = f->uniform_f64, .type = type, .key = key, .offset = offset,
                  .dst = dst, .count = count, .a = low, .b = high - low, .c = 1, .low = rounded(type, low), .top = neighbour(type, high, false)};
  if (p.low < low) p.low = neighbour(type, low, true);
  if (p.low > p.top) p.low = p.top = rounded(type, low);  // the type has no value in low..<high
  if (!isfinite(rounded(type == APUS_F64 ? APUS_F64 : APUS_F32, p.b))) {  // a span beyond the type: at half size, then doubled
    p.a = low / 2;
    p.b = high / 2 - low / 2;
    p.c = 2;
  }
  int bits = type == APUS_F16 ? 11 : type == APUS_BF16 ? 8 : 24;
  p.drop = 32 - bits;
  p.unit = ldexpf(1, -bits);
  apus_parallel(chunks_of(count), real_task, &p);
}

void apus_random_normal(int type, uint64_t key, uint64_t offset, void *dst, int64_t count, double mean, double deviation) {
  const random_functions *f = current_functions();
  random_job p = {.functions = f, .f32 = f->normal_f32, .f64 = f->normal_f64, .type = type, .key = key, .offset = offset,
                  .dst = dst, .count = count, .a = mean, .b = deviation};
  apus_parallel(chunks_of(count), real_task, &p);
}

void apus_random_exponential(int type, uint64_t key, uint64_t offset, void *dst, int64_t count, double rate) {
  const random_functions *f = current_functions();
  random_job p = {.functions = f, .f32 = f->exponential_f32, .f64 = f->exponential_f64, .type = type, .key = key,
                  .offset = offset, .dst = dst, .count = count, .b = 1 / rate};
  apus_parallel(chunks_of(count), real_task, &p);
}

void apus_random_truncated_normal(int type, uint64_t key, uint64_t offset, void *dst, int64_t count, double mean,
                                  double deviation, double low, double high) {
  const random_functions *f = current_functions();
  random_job p = {.functions = f, .f32 = f->truncated_f32, .f64 = f->truncated_f64, .type = type, .key = key,
                  .offset = offset, .dst = dst, .count = count, .a = mean, .b = deviation, .low = low, .top = high};
  double a = (low - mean) / deviation, b = (high - mean) / deviation;
  p.below = erfc(-a * M_SQRT1_2) / 2;
  p.above = erfc(b * M_SQRT1_2) / 2;
  // The difference of the two smaller numbers loses least.
  p.span = a > 0 ? erfc(a * M_SQRT1_2) / 2 - p.above : b < 0 ? erfc(-b * M_SQRT1_2) / 2 - p.below : 1 - p.below - p.above;
  double inner_low = rounded(type, low) >= low ? rounded(type, low) : neighbour(type, low, true);
  double inner_high = rounded(type, high) <= high ? rounded(type, high) : neighbour(type, high, false);
  p.keep_low = (float)inner_low;
  p.keep_high = (float)inner_high;
  apus_parallel(chunks_of(count), real_task, &p);
}

// ---- Integers and booleans ------------------------------------------------------------------------------------
#define NARROW(T)                                                                                  \
  for (int64_t j = 0; j < n; j++) {                                                                \
    uint64_t x;                                                                                    \
    __builtin_memcpy(&x, words + 2 * j, 8);                                                        \
    ((T *)(void *)p->dst)[i + j] = (T)(x + (uint64_t)p->first);                                    \
  }

static void integers_task(void *context, int64_t t) {
  const random_job *p = context;
  uint32_t words[2 * PIECE] __attribute__((aligned(64)));
  memset(words, 0, sizeof words);
  int64_t end = lesser((t + 1) * CHUNK, p->count);
  for (int64_t i = t * CHUNK; i < end; i += PIECE) {
    int64_t n = lesser(PIECE, end - i);
    p->functions->words(p->key, p->offset + (uint64_t)(2 * i), words, 2 * n);
    if (p->range <= UINT32_MAX) {
      p->functions->scale_integers(words, n, p->range);
    } else {
      for (int64_t j = 0; j < n; j++) {
        uint64_t x;
        memcpy(&x, words + 2 * j, 8);
        x = (uint64_t)(((unsigned __int128)x * p->range) >> 64);
        memcpy(words + 2 * j, &x, 8);
      }
    }
    switch (p->type) {
      case APUS_BOOL: case APUS_U8: case APUS_I8: NARROW(uint8_t) break;
      case APUS_I16: NARROW(uint16_t) break;
      case APUS_I32: NARROW(uint32_t) break;
      case APUS_I64: NARROW(uint64_t) break;
    }
  }
}

void apus_random_integers(int type, uint64_t key, uint64_t offset, void *dst, int64_t count, int64_t low, int64_t high) {
  random_job p = {.functions = current_functions(), .type = type, .key = key, .offset = offset, .dst = dst, .count = count,
                  .range = (uint64_t)high - (uint64_t)low, .first = low};
  apus_parallel(chunks_of(count), integers_task, &p);
}

#define CHOOSE(T, ONE)                                                                             \
  for (int64_t j = 0; j < n; j++) ((T *)(void *)p->dst)[i + j] = words[j] <= limit ? (T)(ONE) : (T)0

static void bernoulli_task(void *context, int64_t t) {
  const random_job *p = context;
  uint32_t words[PIECE] __attribute__((aligned(64)));
  int64_t end = lesser((t + 1) * CHUNK, p->count), size = apus_type_size(p->type);
  if (p->threshold == 0) {
    memset(p->dst + t * CHUNK * size, 0, (size_t)((end - t * CHUNK) * size));
    return;
  }
  uint32_t limit = (uint32_t)(p->threshold - 1);
  for (int64_t i = t * CHUNK; i < end; i += PIECE) {
    int64_t n = lesser(PIECE, end - i);
    p->functions->words(p->key, p->offset + (uint64_t)i, words, n);
    switch (p->type) {
      case APUS_BOOL: case APUS_U8: case APUS_I8: CHOOSE(uint8_t, 1); break;
      case APUS_I16: CHOOSE(uint16_t, 1); break;
      case APUS_F16: CHOOSE(uint16_t, 0x3c00); break;
      case APUS_BF16: CHOOSE(uint16_t, 0x3f80); break;
      case APUS_I32: CHOOSE(uint32_t, 1); break;
      case APUS_F32: CHOOSE(uint32_t, 0x3f800000); break;
      case APUS_I64: CHOOSE(uint64_t, 1); break;
      case APUS_F64: CHOOSE(uint64_t, 0x3ff0000000000000); break;
    }
  }
}

void apus_random_bernoulli(int type, uint64_t key, uint64_t offset, void *dst, int64_t count, double probability) {
  random_job p = {.functions = current_functions(), .type = type, .key = key, .offset = offset, .dst = dst, .count = count};
  p.threshold = probability >= 1 ? (uint64_t)1 << 32 : probability > 0 ? (uint64_t)(probability * 0x1p32 + 0.5) : 0;
  apus_parallel(chunks_of(count), bernoulli_task, &p);
}

void apus_random_permutation(uint64_t key, uint64_t offset, int64_t *dst, int64_t count) {
  const random_functions *f = current_functions();
  uint32_t words[2 * PIECE];
  for (int64_t i = 0; i < count; i++) dst[i] = i;
  for (int64_t done = 0; done < count; done += PIECE) {
    int64_t n = lesser(PIECE, count - done);
    f->words(key, offset + (uint64_t)(2 * done), words, 2 * n);
    for (int64_t k = 0; k < n; k++) {
      int64_t i = count - 1 - (done + k);
      uint64_t x;
      memcpy(&x, words + 2 * k, 8);
      int64_t j = (int64_t)(((unsigned __int128)x * (uint64_t)(i + 1)) >> 64), held = dst[i];
      dst[i] = dst[j];
      dst[j] = held;
    }
  }
}
