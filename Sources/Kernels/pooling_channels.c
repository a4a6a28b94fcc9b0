// Pooling in channels-last, f32 and f64: vectors of channels, the window's elements combined in a register.
#include "pooling_internal.h"
#include <math.h>

#define POOL_INSTANCE "pooling_instance.inc"
#if defined(__aarch64__)
#define VECTOR_BYTES 16
#define ISA neon
#include POOL_INSTANCE
#else
#define VECTOR_BYTES 16
#define ISA baseline
#include POOL_INSTANCE
#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define VECTOR_BYTES 32
#define ISA avx2
#include POOL_INSTANCE
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c"))), apply_to = function)
#define VECTOR_BYTES 64
#define ISA avx512
#include POOL_INSTANCE
#pragma clang attribute pop
#endif
#endif

#define RUN(isa) p->type == APUS_F64 ? pool_double_##isa(p, gradient) : pool_float_##isa(p, gradient)
void apus_pool_channels(const pool_plan *p, bool gradient) {
  if (p->batch == 0) return;
  switch (apus_current_isa()) {
#if defined(__aarch64__)
    case APUS_ISA_NEON: RUN(neon); return;
    case APUS_ISA_BASELINE:
    case APUS_ISA_AVX2:
    case APUS_ISA_AVX512: return;
#else
    case APUS_ISA_BASELINE: RUN(baseline); return;
#if defined(__x86_64__)
    case APUS_ISA_AVX2: RUN(avx2); return;
    case APUS_ISA_AVX512: RUN(avx512); return;
#else
    case APUS_ISA_AVX2:
    case APUS_ISA_AVX512:
#endif
    case APUS_ISA_NEON: return;
#endif
  }
}
