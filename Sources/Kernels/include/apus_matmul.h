// The matrix product: C = activation(alpha A B [+ C] + bias [+ residual]) [+ residual], batched, on any strides. Operands are packed
// inside, or B once and before.
#ifndef APUS_MATMUL_H
#define APUS_MATMUL_H
#include "apus_base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  APUS_EPILOGUE_NONE = 0, APUS_EPILOGUE_RELU = 1, APUS_EPILOGUE_GELU_ERF = 2, APUS_EPILOGUE_GELU_TANH = 3,
  APUS_EPILOGUE_SIGMOID = 4, APUS_EPILOGUE_TANH = 5, APUS_EPILOGUE_SILU = 6
} apus_epilogue;

#define APUS_MATMUL_MAX_BATCH_RANK 6

// float16 and bfloat16 accumulate in float32. They are rounded, to nearest even, where separate kernels would store: after the
// bias, after a residual that comes before the activation, after the activation. Integers wrap around.
typedef struct {
  int32_t type;         // apus_type of A and B; all but bool
  int32_t out_type;     // type of C: `type`, or APUS_I32 for 8-bit inputs, or APUS_F32 for f16 and bf16 inputs
  int32_t accumulate;   // 1: what C holds is added before bias and activation (so a residual goes there); 0: it is not read
  int32_t batch_rank;   // 0...6
  int64_t batch[APUS_MATMUL_MAX_BATCH_RANK];  // sizes, outermost first
  int64_t a_batch[APUS_MATMUL_MAX_BATCH_RANK], b_batch[APUS_MATMUL_MAX_BATCH_RANK];  // strides in elements, 0 = broadcast
  int64_t c_batch[APUS_MATMUL_MAX_BATCH_RANK];
  int64_t m, n, k;      // A: m × k, B: k × n, C: m × n; any may be 0 (k = 0: the product is 0, the epilogue still runs)
  int64_t a_row, a_col, b_row, b_col, c_row, c_col;  // strides in elements, any values; C's elements must be distinct
  const void *a, *b;
  void *c;              // overlaps neither A nor B
  const void *bias;     // NULL, or one value of out_type per column n
  int64_t bias_stride;  // in elements; 0 = one value for all columns
  int32_t activation;   // apus_epilogue; those other than NONE and RELU are for floating-point out_types. The bits of apus_flat
  int32_t in_task;      // 1: a product of moderate size inside of a task: not cut into tasks, operands read where they lie
  const void *packed_b; // NULL, or B as apus_matmul_pack_b left it, from which it is read instead of `b`: the same bits. b_row and
                        // b_col are what they were for packing; b_batch is 0
  int32_t residual_after;  // 1: the residual is added after the activation; 0: before it
  const void *residual; // NULL, or as many values of out_type as C has, which C does not overlap (`accumulate` adds C itself)
  int64_t residual_row, residual_col;  // strides in elements, 0 = broadcast
  int64_t residual_batch[APUS_MATMUL_MAX_BATCH_RANK];
  double alpha;         // the product is multiplied by it, for floating-point types; 0 (nothing was said) stands for 1
} apus_matmul;

// The bits of C depend on shape and strides alone, never on the number of threads.
void apus_matmul_run(const apus_matmul *p);

// B [k, n] in the form that the kernels of the current instruction set read, for `packed_b`: float16 and bfloat16 take the room of
// float32 (but where apus_use_bf16_dot()). Few rows (m at most 16) read no less of it than of B where it lies: bfloat16, twice as much.
size_t apus_matmul_packed_size(int32_t type, int64_t k, int64_t n);
void apus_matmul_pack_b(int32_t type, int64_t k, int64_t n, const void *b, int64_t b_row, int64_t b_col, void *packed);

#ifdef __cplusplus
}
#endif
#endif
