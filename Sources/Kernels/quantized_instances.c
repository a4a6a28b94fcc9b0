// The quantized product's kernels, one instance per instruction set.
#include "quantized_kernels.h"
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__aarch64__)
// As x86's pmaddwd: products of int16, neighbours added.
static inline __attribute__((always_inline)) int32x4_t dot_neon(int32x4_t sum, int16x8_t x, int16x8_t w) {
  return vaddq_s32(sum, vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(w)), vmull_high_s16(x, w)));
}
#define QD_DOT(sum, x, w) ((INTS)dot_neon((int32x4_t)(sum), (int16x8_t)(x), (int16x8_t)(w)))
#define QD_LANES 4
#define QD_MR 8
#define QD_DOT_ROWS 5
#define QD_BYTES 2
#define QD_SUFFIX neon
#include "quantized_body.inc"
#elif defined(__x86_64__)
#define QD_DOT(sum, x, w) ((sum) + (INTS)_mm_madd_epi16((__m128i)(x), (__m128i)(w)))
#define QD_LANES 4
#define QD_MR 4
#define QD_DOT_ROWS 3
#define QD_BYTES 2
#define QD_SUFFIX baseline
#include "quantized_body.inc"
#else
typedef int16_t q_shorts __attribute__((ext_vector_type(8)));
typedef int32_t q_ints __attribute__((ext_vector_type(4)));
static inline q_ints dot_generic(q_ints sum, q_shorts x, q_shorts w) {
  for (int i = 0; i < 4; i++) sum[i] += x[2 * i] * w[2 * i] + x[2 * i + 1] * w[2 * i + 1];
  return sum;
}
#define QD_DOT(sum, x, w) ((INTS)dot_generic((q_ints)(sum), (q_shorts)(x), (q_shorts)(w)))
#define QD_LANES 4
#define QD_MR 4
#define QD_DOT_ROWS 3
#define QD_BYTES 2
#define QD_SUFFIX baseline
#include "quantized_body.inc"
#endif

#if defined(__x86_64__)
#undef QD_DOT
#undef QD_LANES
#undef QD_MR
#undef QD_SUFFIX
#define QD_DOT(sum, x, w) ((sum) + (INTS)_mm256_madd_epi16((__m256i)(x), (__m256i)(w)))
#define QD_LANES 8
#define QD_MR 6
#define QD_SUFFIX avx2
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#include "quantized_body.inc"
#pragma clang attribute pop

#undef QD_DOT
#undef QD_LANES
#undef QD_MR
#undef QD_DOT_ROWS
#undef QD_SUFFIX
#define QD_DOT(sum, x, w) ((sum) + (INTS)_mm512_madd_epi16((__m512i)(x), (__m512i)(w)))
#define QD_LANES 16
#define QD_MR 12
#define QD_DOT_ROWS 5
#define QD_SUFFIX avx512
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c"))), apply_to = function)
#include "quantized_body.inc"
#pragma clang attribute pop

#undef QD_DOT
#undef QD_MR
#undef QD_BYTES
#undef QD_SUFFIX
#define QD_DOT(sum, x, w) ((INTS)_mm512_dpbusd_epi32((__m512i)(sum), (__m512i)(x), (__m512i)(w)))
#define QD_MR 14
#define QD_BYTES 1
#define QD_SUFFIX vnni
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"))), apply_to = function)
#include "quantized_body.inc"
#pragma clang attribute pop
#endif

const apus_quantized_kernels *apus_quantized_kernels_current(void) {
  switch (apus_current_isa()) {
#if defined(__aarch64__)
  case APUS_ISA_BASELINE: case APUS_ISA_AVX2: case APUS_ISA_AVX512: case APUS_ISA_NEON: return &kernels_neon;
#elif defined(__x86_64__)
  case APUS_ISA_AVX2: return &kernels_avx2;
  case APUS_ISA_AVX512: return apus_has_avx512_vnni() ? &kernels_vnni : &kernels_avx512;
  case APUS_ISA_BASELINE: case APUS_ISA_NEON: return &kernels_baseline;
#else
  case APUS_ISA_BASELINE: case APUS_ISA_AVX2: case APUS_ISA_AVX512: case APUS_ISA_NEON: return &kernels_baseline;
#endif
  }
  __builtin_trap();
}
