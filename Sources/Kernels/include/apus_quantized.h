// The product of quantized tensors: 8-bit operands, exact 32-bit sums, a float32 result.
#ifndef APUS_QUANTIZED_H
#define APUS_QUANTIZED_H
#include "apus_base.h"

#ifdef __cplusplus
extern "C" {
#endif

// Sums up to this k fit in 32 bits for any operands: k · 255 · 128 < 2^31. Beyond, they wrap around.
#define APUS_QUANTIZED_MAX_K 65793

// out[i, j] = float(Σ_p (x[i, p] − x_zero_point[i]) · weight[j, p]) · (x_scale[i] · weight_scale[j]) + bias[j]
//
// The sum is exact; it and each of the three float32 operations after it round to nearest even, none is fused. So every
// instruction set gives the same bits, at any number of threads.
typedef struct {
  int32_t x_type;              // APUS_U8 or APUS_I8
  int64_t m, n, k;             // any may be 0
  const void *x;               // m × k
  int64_t x_row, x_col;        // strides here and below in elements, any values; 0 repeats
  const float *x_scale;        // one per row
  int64_t x_scale_stride;
  const int32_t *x_zero_point; // one per row, within the range of x_type
  int64_t x_zero_point_stride;
  const int8_t *weight;        // n × k; not read when `packed` is given
  int64_t weight_row, weight_col;
  const void *packed;          // NULL, or what apus_quantized_pack made of the weight
  const float *weight_scale;   // one per column of the result
  int64_t weight_scale_stride;
  const float *bias;           // NULL, or one per column
  int64_t bias_stride;
  float *out;                  // m × n, columns adjacent; overlaps no operand
  int64_t out_row;
} apus_quantized_matmul;

void apus_quantized_matmul_run(const apus_quantized_matmul *p);

// Constant weights are packed once. The form is one for all instruction sets and holds no addresses: it may be copied,
// stored and mapped; it wants memory aligned to 64 bytes.
size_t apus_quantized_packed_size(int64_t n, int64_t k);
void apus_quantized_pack(const int8_t *weight, int64_t row, int64_t col, int64_t n, int64_t k, void *packed);

#ifdef __cplusplus
}
#endif
#endif
