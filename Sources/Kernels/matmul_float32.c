// The matrix product's kernels in float32 (float16 and bfloat16 are widened while packed).
#include "matmul_kernels.h"
#include "Lanes/lanes.h"

#define MM_ELEMENT float
#define MM_BITS 32
#define MM_ACCUMULATOR APUS_F32
#define MM_FLOAT 1
#define MM_KERNELS apus_matmul_kernels_f32
#include "matmul_instances.inc"
