// Conversions of float16 and bfloat16 by integer arithmetic: for scalar code on every instruction set.
#ifndef APUS_HALF_H
#define APUS_HALF_H
#include <stdint.h>

static inline uint32_t apus_float_bits(float x) {
  uint32_t u;
  __builtin_memcpy(&u, &x, 4);
  return u;
}

static inline float apus_float_of_bits(uint32_t u) {
  float x;
  __builtin_memcpy(&x, &u, 4);
  return x;
}

static inline float apus_float_of_bf16(uint16_t h) { return apus_float_of_bits((uint32_t)h << 16); }

static inline uint16_t apus_bf16_of_float(float x) {
  uint32_t u = apus_float_bits(x);
  if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)((u >> 16) | 0x40);  // NaN, made quiet
  return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

static inline float apus_float_of_f16(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff;
  if (magnitude >= 0x7c00) return apus_float_of_bits(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  // Placed in float32's exponent field the value is too small by 2^112; the product is exact, subnormals included.
  return apus_float_of_bits(sign | apus_float_bits(apus_float_of_bits(magnitude << 13) * 0x1p112f));
}

static inline uint16_t apus_f16_of_float(float x) {
  uint32_t u = apus_float_bits(x), sign = (u >> 16) & 0x8000;
  u &= 0x7fffffff;
  if (u > 0x7f800000) return (uint16_t)(sign | 0x7e00 | ((u >> 13) & 0x3ff));
  if (u >= 0x47800000) return (uint16_t)(sign | 0x7c00);
  if (u < 0x38800000) {  // subnormal: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits
    return (uint16_t)(sign | (apus_float_bits(apus_float_of_bits(u) + 0.5f) & 0x7ff));
  }
  return (uint16_t)(sign | ((u - 0x38000000 + 0xfff + ((u >> 13) & 1)) >> 13));
}

// To float32, an inexact result made odd: a second rounding, to fewer bits, is then as if it were the first.
static inline float apus_float_to_odd(double x) {
  float nearest = (float)x;
  uint32_t u = apus_float_bits(nearest);
  if ((double)nearest != x && (u & 0x7fffffff) < 0x7f800000 && !(u & 1)) {
    double magnitude = x < 0 ? -x : x, rounded = nearest < 0 ? -(double)nearest : (double)nearest;
    if (u << 1 == 0) return apus_float_of_bits((x < 0 ? 0x80000000u : 0) | 1);
    u = rounded > magnitude ? u - 1 : u + 1;
  }
  return apus_float_of_bits(u);
}

#endif
