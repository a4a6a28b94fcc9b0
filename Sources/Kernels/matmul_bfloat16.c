// The matrix product's kernels in bfloat16 for processors with AVX512-BF16: pairs of k, sums in float32. The instruction takes
// subnormal values for zero. Elsewhere, and where it is slow (see apus_use_bf16_dot), bfloat16 is widened while packed.
#include "matmul_kernels.h"
#include "Lanes/lanes.h"

#if defined(__x86_64__)
#define MM_ELEMENT float
#define MM_BITS 32
#define MM_ACCUMULATOR APUS_F32
#define MM_FLOAT 1
#define MM_LANES 16
#define MM_MR 14
#define MM_NV 2
#define MM_FUSED 1
#define MM_F16C 1
#define MM_PAIRS 1
#define MM_SUFFIX avx512_bf16
#pragma clang attribute push(__attribute__((target("avx512bf16,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c"))), apply_to = function)
#include "matmul_body.inc"
#pragma clang attribute pop

const apus_matmul_kernels *apus_matmul_kernels_bf16(void) {
  return apus_use_bf16_dot() ? &kernels_avx512_bf16 : apus_matmul_kernels_f32();
}
#else
const apus_matmul_kernels *apus_matmul_kernels_bf16(void) { return apus_matmul_kernels_f32(); }
#endif
