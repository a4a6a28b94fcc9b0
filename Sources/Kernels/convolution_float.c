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

// The function of the current instruction set for the type.
#define BY_TYPE(isa, call, ...) (type == APUS_F64 ? call##_double_##isa(__VA_ARGS__) : call##_float_##isa(__VA_ARGS__))
#if defined(__aarch64__)
#define DISPATCH(call, ...) BY_TYPE(neon, call, __VA_ARGS__)
#elif defined(__x86_64__)
#define DISPATCH(call, ...)                                                        \
  (apus_current_isa() == APUS_ISA_AVX512 ? BY_TYPE(avx512, call, __VA_ARGS__)      \
   : apus_current_isa() == APUS_ISA_AVX2 ? BY_TYPE(avx2, call, __VA_ARGS__)        \
                                         : BY_TYPE(baseline, call, __VA_ARGS__))
#else
#define DISPATCH(call, ...) BY_TYPE(baseline, call, __VA_ARGS__)
#endif

void apus_conv_gather(const conv_gather *g) {
  int type = g->type;
  DISPATCH(gather, g);
}
void apus_conv_outer(const conv_outer *g) {
  int type = g->type;
  DISPATCH(outer, g);
}
size_t apus_conv_prepared_form(const conv_gather *g, int *form) {
  int type = g->type;
  return DISPATCH(prepared_form, g, form);
}
void apus_conv_prepare(const conv_gather *g, int form, void *to) {
  int type = g->type;
  DISPATCH(prepare, g, form, to);
}
