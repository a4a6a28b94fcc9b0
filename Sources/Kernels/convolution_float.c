// Floating-point convolutions: one body per element type and instruction set.
#include "convolution_internal.h"
#include <stdlib.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

// VECTOR_BYTES: of a vector register. NV: vectors of output channels in a register tile, so that
// 6 * NV accumulators, NV weights and a broadcast value fit the register file.
#define CONV_INSTANCE "convolution_instance.inc"

#if defined(__aarch64__)
#define VECTOR_BYTES 16
#define NV 4
#define HAS_FMA 1
#define ISA neon
#include CONV_INSTANCE
#else
#define VECTOR_BYTES 16
#define NV 2
#define HAS_FMA 0
#define ISA baseline
#include CONV_INSTANCE
#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define VECTOR_BYTES 32
#define NV 2
#define HAS_FMA 1
#define HAS_F16C 1
#define ISA avx2
#include CONV_INSTANCE
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c"))), apply_to = function)
#define VECTOR_BYTES 64
#define NV 4
#define HAS_FMA 1
#define HAS_F16C 1
#define ISA avx512
#include CONV_INSTANCE
#pragma clang attribute pop
#endif
#endif

#define DISPATCH(name, g)                                                                       \
  switch (apus_current_isa()) {                                                                 \
    CASES(name, g)                                                                              \
  }
#if defined(__aarch64__)
#define CASES(name, g)                                                                          \
  case APUS_ISA_NEON: (g)->type == APUS_F64 ? name##_double_neon(g) : name##_float_neon(g); return; \
  case APUS_ISA_BASELINE: case APUS_ISA_AVX2: case APUS_ISA_AVX512: break;
#elif defined(__x86_64__)
#define CASES(name, g)                                                                          \
  case APUS_ISA_BASELINE: (g)->type == APUS_F64 ? name##_double_baseline(g) : name##_float_baseline(g); return; \
  case APUS_ISA_AVX2: (g)->type == APUS_F64 ? name##_double_avx2(g) : name##_float_avx2(g); return; \
  case APUS_ISA_AVX512: (g)->type == APUS_F64 ? name##_double_avx512(g) : name##_float_avx512(g); return; \
  case APUS_ISA_NEON: break;
#else
#define CASES(name, g)                                                                          \
  case APUS_ISA_BASELINE: (g)->type == APUS_F64 ? name##_double_baseline(g) : name##_float_baseline(g); return; \
  case APUS_ISA_AVX2: case APUS_ISA_AVX512: case APUS_ISA_NEON: break;
#endif

void apus_conv_gather(const conv_gather *g) { DISPATCH(gather, g) }
void apus_conv_outer(const conv_outer *g) { DISPATCH(outer, g) }
