// Vector code for what every processor of an architecture has: SSE2, or NEON with its fused multiply-add.
#define _GNU_SOURCE
#include "lanes.h"
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
#define APUS_LANES_TABLE apus_lanes_baseline
#include "lanes.inc"

const apus_lanes *apus_current_lanes(void) {
#if defined(__x86_64__)
  switch (apus_current_isa()) {
  case APUS_ISA_AVX512: return &apus_lanes_avx512;
  case APUS_ISA_AVX2: return &apus_lanes_avx2;
  case APUS_ISA_BASELINE:
  case APUS_ISA_NEON: break;
  }
#endif
  return &apus_lanes_baseline;
}
