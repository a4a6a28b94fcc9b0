// Vector code for AVX2 with FMA and F16C.
#define _GNU_SOURCE
#include "lanes.h"
#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__x86_64__)
#define APUS_LANES_BYTES 32
#define APUS_LANES_FMA 1
#define APUS_LANES_F16 1
#define APUS_LANES_TABLE apus_lanes_avx2
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#include "lanes.inc"
#pragma clang attribute pop
#endif
