// Steps of recurrent sequences for what every processor of an architecture has: SSE2, or NEON with its fused multiply-add.
#define _GNU_SOURCE
#include "recurrent_steps.h"
#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define APUS_LANES_BYTES 16
#if defined(__aarch64__)
#define APUS_LANES_FMA 1
#define APUS_LANES_F16 1
#else
#define APUS_LANES_FMA 0
#define APUS_LANES_F16 0
#endif
#define APUS_STEPS_TABLE apus_steps_baseline
#include "recurrent_table.inc"
