// Convolution in 1 to 3 spatial dimensions, forward and both gradients, on strided operands.
#ifndef APUS_CONVOLUTION_H
#define APUS_CONVOLUTION_H
#include "apus_base.h"
#include "apus_matmul.h"  // apus_epilogue

#ifdef __cplusplus
extern "C" {
#endif

// y[n, o, p] = sum over c, q of x~[n, c, p * stride + q * kernel_dilation - pad_low] * w[o, c, q]
// where x~ is x with input_dilation - 1 zeros between neighbours, and zero outside. The high padding
// is what `out` implies. Group g joins the g-th part of the input channels to the g-th part of the
// output channels. Only the first spatial_rank entries of the arrays are read.
// Types: f32 and f64 natively; f16 and bf16 summed in f32 and rounded once; integers wrap around.
typedef struct {
  int32_t type;
  int32_t spatial_rank;  // 1, 2 or 3
  int64_t batch, in_channels, out_channels, groups;
  int64_t in[3], kernel[3], out[3];
  int64_t stride[3], pad_low[3] /* may be negative */, kernel_dilation[3], input_dilation[3];
  // Strides in elements, of any value. x: [N, Cin, in...], w: [Cout, Cin / groups, kernel...], y: [N, Cout, out...].
  // Fastest where x_channel == 1 and y_channel == 1 (channels-last); others are rearranged on the way.
  int64_t x_batch, x_channel, x_spatial[3];
  int64_t w_out, w_in, w_spatial[3];
  int64_t y_batch, y_channel, y_spatial[3];
  // forward reads x, w and writes y; the input gradient reads y (= dy), w and writes x (= dx);
  // the weight gradient reads x, y (= dy) and writes w (= dw).
  const void *x;
  const void *w;
  void *y;
  const void *bias;     // forward: contiguous [Cout], or NULL
  int32_t activation;   // forward: apus_epilogue, after bias and residual; integers: NONE or RELU
  int32_t flip_kernel;  // 1: the kernel mirrored in all its spatial dimensions
  // forward: added before the activation; of y's type and shape, or NULL; does not overlap y. f16 and bf16 are rounded before it is added.
  const void *residual;
  int64_t residual_batch, residual_channel, residual_spatial[3];
  int32_t algorithm;     // apus_convolution_algorithm
  const void *prepared;  // forward: what apus_convolution_prepare made of w, or NULL; w is still read where that does not fit the call
} apus_convolution;

// Winograd's F(4x4, 3x3) is for f32, one group, 3x3 kernels, strides and dilations of 1 and x_channel == y_channel == 1; other
// convolutions are direct. AUTO takes it where it was measured to be clearly faster, on AVX2 and AVX-512, unless APUS_WINOGRAD=0.
// Its error: let S be the sum over the summed channels of (sum of |w| over the nine taps) * (largest |x| among the 6x6 inputs of the 4x4 tile).
// An output is never off by more than 194 * (channels + 24) * 2^-24 * S; where roundings do not conspire, as in the tests, by less than
// 8 * 2^-24 * S from 16 channels on, else 32 * 2^-24 * S (a direct sum: about 1). The input gradient is the same with dy for x. For the
// weights' gradient S is the sum over tiles of (sum of |dy|) * (largest |x|), 222 and tiles take the place of 194 and channels.
// An infinity or NaN among a tile's inputs spoils all of the tile's outputs.
typedef enum { APUS_CONVOLUTION_AUTO = 0, APUS_CONVOLUTION_DIRECT = 1, APUS_CONVOLUTION_WINOGRAD = 2 } apus_convolution_algorithm;

void apus_convolution_forward(const apus_convolution *p);
void apus_convolution_input_gradient(const apus_convolution *p);
void apus_convolution_weight_gradient(const apus_convolution *p);

// Weights that stay the same for many calls: packed, or transformed for Winograd, once. `prepared`: 64-byte aligned memory of
// apus_convolution_prepared_size bytes (0: nothing is gained). Shape, `algorithm` and w of p are read. The forward pass then gives the same
// bits as without; at another batch size or with another instruction set it uses what it can and w for the rest.
size_t apus_convolution_prepared_size(const apus_convolution *p);
void apus_convolution_prepare(const apus_convolution *p, void *prepared);

#ifdef __cplusplus
}
#endif
#endif
