// CApusKernels: the inner loops of Apus, the thread pool they run on and the cache their buffers come from.
#ifndef CAPUS_KERNELS_H
#define CAPUS_KERNELS_H
#include "apus_base.h"
#include "apus_matmul.h"
#include "apus_quantized.h"
#include "apus_convolution.h"
#include "apus_pooling.h"
#include "apus_tile.h"
#include "apus_reduce.h"
#include "apus_fused.h"
#include "apus_movement.h"
#include "apus_indexing.h"
#include "apus_random.h"
#include "apus_attention.h"
#include "apus_recurrent.h"
#endif
