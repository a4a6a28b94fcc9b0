// The matrix product's kernels in 64-bit integers (arithmetic wraps around).
#include "matmul_kernels.h"

#define MM_ELEMENT uint64_t
#define MM_BITS 64
#define MM_ACCUMULATOR APUS_I64
#define MM_FLOAT 0
#define MM_KERNELS apus_matmul_kernels_i64
#include "matmul_instances.inc"
