// Steps of recurrent sequences for AVX2 and FMA.
#define _GNU_SOURCE
#include "recurrent_steps.h"
#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__x86_64__)
#define APUS_LANES_BYTES 32
#define APUS_LANES_FMA 1
#define APUS_LANES_F16 1
#define APUS_STEPS_TABLE apus_steps_avx2
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#include "recurrent_table.inc"
#pragma clang attribute pop
#endif
