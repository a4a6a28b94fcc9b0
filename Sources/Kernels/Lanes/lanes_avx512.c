// Vector code for AVX-512 (F, BW, VL, DQ).
#define _GNU_SOURCE
#include "lanes.h"
#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__x86_64__)
#define APUS_LANES_BYTES 64
#define APUS_LANES_FMA 1
#define APUS_LANES_F16 1
#define APUS_LANES_TABLE apus_lanes_avx512
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c"))), apply_to = function)
#include "lanes.inc"
#pragma clang attribute pop
#endif
