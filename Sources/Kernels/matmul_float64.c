// The matrix product's kernels in float64: one instance per instruction set.
#include "matmul_kernels.h"
#include <math.h>

#define MM_ELEMENT double
#define MM_ACCUMULATOR APUS_F64
#define MM_FLOAT 1
#define MM_ACCUMULATOR_IS_F32 0
#define MM_ACCUMULATOR_IS_I64 0

#if defined(__aarch64__)
#define MM_LANES (16 / (int)sizeof(double))
#define MM_MR 8
#define MM_NV 2
#define MM_FUSED 1
#define MM_F16C 1
#define MM_SUFFIX neon
#include "matmul_body.inc"
#else
#define MM_LANES (16 / (int)sizeof(double))
#define MM_MR 4
#define MM_NV 2
#define MM_FUSED 0
#define MM_F16C 0
#define MM_SUFFIX baseline
#include "matmul_body.inc"
#endif

#if defined(__x86_64__)
#undef MM_LANES
#undef MM_MR
#undef MM_FUSED
#undef MM_F16C
#undef MM_SUFFIX
#define MM_LANES (32 / (int)sizeof(double))
#define MM_MR 6
#define MM_FUSED 1
#define MM_F16C 1
#define MM_SUFFIX avx2
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#include "matmul_body.inc"
#pragma clang attribute pop

#undef MM_LANES
#undef MM_MR
#undef MM_SUFFIX
#define MM_LANES (64 / (int)sizeof(double))
#define MM_MR 14
#define MM_SUFFIX avx512
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c"))), apply_to = function)
#include "matmul_body.inc"
#pragma clang attribute pop
#endif

const apus_matmul_kernels *apus_matmul_kernels_f64(void) {
  switch (apus_current_isa()) {
#if defined(__aarch64__)
  case APUS_ISA_BASELINE: case APUS_ISA_AVX2: case APUS_ISA_AVX512: case APUS_ISA_NEON: return &kernels_neon;
#elif defined(__x86_64__)
  case APUS_ISA_AVX2: return &kernels_avx2;
  case APUS_ISA_AVX512: return &kernels_avx512;
  case APUS_ISA_BASELINE: case APUS_ISA_NEON: return &kernels_baseline;
#else
  case APUS_ISA_BASELINE: case APUS_ISA_AVX2: case APUS_ISA_AVX512: case APUS_ISA_NEON: return &kernels_baseline;
#endif
  }
  __builtin_trap();
}
