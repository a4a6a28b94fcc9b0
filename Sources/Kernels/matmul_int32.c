// The matrix product's kernels in 32-bit integers (narrower ones are widened while packed; arithmetic wraps around).
#include "matmul_kernels.h"

#define MM_ELEMENT uint32_t
#define MM_BITS 32
#define MM_ACCUMULATOR APUS_I32
#define MM_FLOAT 0
#define MM_KERNELS apus_matmul_kernels_i32
#include "matmul_instances.inc"
