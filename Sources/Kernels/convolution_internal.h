// The forms into which the public descriptors are brought, shared by the convolution sources.
#ifndef APUS_CONVOLUTION_INTERNAL_H
#define APUS_CONVOLUTION_INTERNAL_H
#include "Lanes/lanes.h"
#include "apus_convolution.h"
#include <stdatomic.h>
#include <string.h>

// Forward and input gradient as one thing, always in three dimensions (unused ones lead, with size 1):
// dst[n, o, u] = sum over c, q of src[n, c, v] * w[g, o, c, q] where in_step * v = step * u + dilation * q - pad.
// The input gradient is this with step and in_step exchanged, the kernel mirrored and its channels exchanged.
typedef struct {
  int type;
  int64_t batch, groups, cin, cout;  // channels of one group
  int64_t in[3], kernel[3], out[3];
  int64_t step[3], in_step[3], dilation[3], pad[3];
  int64_t s_batch, s_channel, s_spatial[3];
  int64_t w_group, w_out, w_in, w_spatial[3];
  int64_t d_batch, d_channel, d_spatial[3];
  const char *src, *w;
  char *dst;
  const char *bias, *residual;
  int64_t r_batch, r_channel, r_spatial[3];
  int activation, relu;    // relu: that is the activation
  int algorithm;
  const void *prepared;    // or NULL
} conv_gather;

// dw[g, o, c, q] = sum over n, p of dy[n, o, p] * x~[n, c, p * step + q * dilation - pad], x~ dilated by in_step.
typedef struct {
  int type;
  int64_t batch, groups, cin, cout;  // channels of one group
  int64_t in[3], kernel[3], out[3];
  int64_t step[3], in_step[3], dilation[3], pad[3];
  int64_t x_batch, x_channel, x_spatial[3];
  int64_t w_group, w_out, w_in, w_spatial[3];
  int64_t y_batch, y_channel, y_spatial[3];
  const char *x, *dy;
  char *dw;
  int algorithm;
} conv_outer;

void apus_conv_gather(const conv_gather *g);  // floating types
void apus_conv_outer(const conv_outer *g);
size_t apus_conv_prepared_form(const conv_gather *g, int *form);
void apus_conv_prepare(const conv_gather *g, int form, void *to);
void apus_conv_general_gather(const conv_gather *g);
void apus_conv_general_outer(const conv_outer *g);

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }                       // a >= 0, b > 0
static inline int64_t floor_div(int64_t a, int64_t b) { return a / b - ((a % b != 0) & ((a < 0) != (b < 0))); }  // b > 0
static inline int64_t modulo(int64_t a, int64_t b) { return a - floor_div(a, b) * b; }                 // 0 <= result < b

// One residue class of the outputs in each dimension: u = first + period * j, 0 <= j < count, whose taps
// q = tap0 + tap_step * t, 0 <= t < taps, read v = step * j + dilation * t + origin. With in_step 1 there is one
// class, the convolution itself; otherwise each is a convolution without input dilation, so no zero is multiplied.
typedef struct { int64_t first[3], period[3], count[3], tap0[3], tap_step[3], taps[3], step[3], dilation[3], origin[3]; } conv_phase;

static inline int64_t conv_gcd(int64_t a, int64_t b) {
  while (b) { int64_t r = a % b; a = b; b = r; }
  return a;
}
static inline int64_t conv_phase_count(const int64_t step[3], const int64_t in_step[3]) {
  int64_t n = 1;
  for (int i = 0; i < 3; i++) n *= in_step[i] / conv_gcd(step[i], in_step[i]);
  return n;
}
// False if the class has no output.
static inline bool conv_phase_at(conv_phase *f, int64_t index, const int64_t step[3], const int64_t in_step[3],
                                 const int64_t dilation[3], const int64_t pad[3], const int64_t kernel[3], const int64_t out[3]) {
  for (int i = 2; i >= 0; i--) {
    int64_t s = step[i], e = in_step[i], d = dilation[i], period = e / conv_gcd(s, e), u = index % period;
    index /= period;
    if (u >= out[i]) return false;
    int64_t g = conv_gcd(d, e), rest = modulo(pad[i] - s * u, e), q = 0;
    f->first[i] = u, f->period[i] = period, f->count[i] = ceil_div(out[i] - u, period);
    f->step[i] = s * period / e, f->dilation[i] = d / g, f->tap_step[i] = e / g;
    while (q < e / g && d * q % e != rest) q++;
    f->tap0[i] = q;
    f->taps[i] = q < e / g && q < kernel[i] ? ceil_div(kernel[i] - q, e / g) : 0;
    f->origin[i] = f->taps[i] ? (s * u + d * q - pad[i]) / e : 0;
  }
  return true;
}

// ---- Winograd (convolution_winograd.inc) and prepared weights (convolution_select.c) ------------------------------
enum { CONV_WINO_POINTS = 36 };
// Whether a convolution takes it, by its shape, `algorithm` and APUS_WINOGRAD. own_weights: transformed within the tasks.
bool conv_takes_winograd(const conv_gather *g, bool own_weights);
bool conv_takes_winograd_outer(const conv_outer *g);

// Prepared weights begin with this, so that those of another shape or instruction set are never read.
enum { CONV_PREPARED_DIRECT = 1, CONV_PREPARED_WINOGRAD = 2 };
typedef struct { uint32_t mark; int32_t form, isa, type; int64_t groups, cin, cout, taps; char pad[16]; } conv_prepared_header;
conv_prepared_header conv_header_of(const conv_gather *g, int form, int isa);
// The weights after it, if they are of that form and for this convolution; else NULL.
const void *conv_prepared(const conv_gather *g, int form, int isa);

// ---- Epilogues (convolution_epilogue.c) ----------------------------------------------------------------------------
static inline bool conv_has_curve(int activation) { return activation != APUS_EPILOGUE_NONE && activation != APUS_EPILOGUE_RELU; }
void conv_finish(const conv_gather *g);  // dst = activation(dst + residual), for kernels that do not do it themselves

// Half precisions by their bits, so that no instruction set and no run-time library is asked for.
static inline float bf16_to_f32(uint16_t h) {
  uint32_t u = (uint32_t)h << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}
static inline uint16_t f32_to_bf16(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40);  // a NaN stays one
  return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}
static inline float f16_to_f32(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, body = (uint32_t)(h & 0x7fff) << 13, u;
  float f;
  if (body >= 0x0f800000u) {
    u = sign | (body + 0x70000000u);  // infinity or NaN
    memcpy(&f, &u, 4);
    return f;
  }
  memcpy(&f, &body, 4);
  f *= 0x1p112f;  // exact, also for subnormal halves
  memcpy(&u, &f, 4);
  u |= sign;
  memcpy(&f, &u, 4);
  return f;
}
static inline uint16_t f32_to_f16(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  uint16_t sign = (uint16_t)((u >> 16) & 0x8000);
  u &= 0x7fffffffu;
  if (u > 0x7f800000u) return sign | 0x7e00 | (uint16_t)((u >> 13) & 0x1ff);
  if (u >= 0x477ff000u) return sign | 0x7c00;  // 65520 and above round to infinity
  if (u < 0x38800000u) {                       // subnormal result: adding 0.5 leaves the multiples of 2^-24 in the low bits
    float a;
    memcpy(&a, &u, 4);
    a += 0.5f;
    memcpy(&u, &a, 4);
    return sign | (uint16_t)(u - 0x3f000000u);
  }
  return sign | (uint16_t)((u - 0x38000000u + 0xfffu + ((u >> 13) & 1)) >> 13);
}
// Element i of an integer array, widened, and back: in wrap-around arithmetic.
static inline uint64_t conv_load_integer(const char *p, int64_t i, int type) {
  switch (type) {
    case APUS_BOOL:
    case APUS_U8: return ((const uint8_t *)p)[i];
    case APUS_I8: return (uint64_t)((const int8_t *)p)[i];
    case APUS_I16: return (uint64_t)((const int16_t *)p)[i];
    case APUS_I32: return (uint64_t)((const int32_t *)p)[i];
    case APUS_I64: return ((const uint64_t *)p)[i];
  }
  __builtin_trap();
}

static inline void conv_store_integer(char *p, int64_t i, int type, uint64_t v) {
  switch (type) {
    case APUS_BOOL: ((uint8_t *)p)[i] = v != 0; return;
    case APUS_U8:
    case APUS_I8: ((uint8_t *)p)[i] = (uint8_t)v; return;
    case APUS_I16: ((uint16_t *)p)[i] = (uint16_t)v; return;
    case APUS_I32: ((uint32_t *)p)[i] = (uint32_t)v; return;
    case APUS_I64: ((uint64_t *)p)[i] = v; return;
  }
  __builtin_trap();
}

// The signed value of a result of the type, for the comparison with zero.
static inline int64_t conv_signed(uint64_t v, int type) {
  switch (type) {
    case APUS_I8: return (int8_t)v;
    case APUS_I16: return (int16_t)v;
    case APUS_I32: return (int32_t)v;
    case APUS_I64: return (int64_t)v;
  }
  return 1;
}

// Results of so many bytes are streamed to memory by kernels that are bound by it.
enum { STREAMED_BYTES = 8 << 20 };
#endif
