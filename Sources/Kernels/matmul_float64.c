// The matrix product's kernels in float64.
#include "matmul_kernels.h"
#include "Lanes/lanes.h"

#define MM_ELEMENT double
#define MM_BITS 64
#define MM_ACCUMULATOR APUS_F64
#define MM_FLOAT 1
#define MM_KERNELS apus_matmul_kernels_f64
#include "matmul_instances.inc"
