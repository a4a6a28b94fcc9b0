// Composites with kernels of their own: softmax, normalization, cross entropy, optimizer steps.
//
// `type` is f32, f64, f16 or bf16 (computed in f32). "Statistics" (means, losses, per-channel values) are f64 for
// f64 and f32 for all others. Rows lie along the last axis, contiguous within a row; row strides are in BYTES.
// An output may be exactly an input. Sums over rows have a tree fixed by the shape.
#ifndef APUS_FUSED_H
#define APUS_FUSED_H
#include "apus_base.h"

#ifdef __cplusplus
extern "C" {
#endif

// ---- Softmax ------------------------------------------------------------------------------------
void apus_softmax(bool log, int type, int64_t rows, int64_t cols, const void *x, int64_t x_stride, void *y, int64_t y_stride);
// From the output y: softmax dx = y·(dy − Σ dy·y); logSoftmax dx = dy − e^y·Σ dy.
void apus_softmax_grad(bool log, int type, int64_t rows, int64_t cols, const void *y, int64_t y_stride,
                       const void *dy, int64_t dy_stride, void *dx, int64_t dx_stride);
void apus_log_sum_exp(int type, int64_t rows, int64_t cols, const void *x, int64_t x_stride, void *out /* [rows], of type */);

// Per-row loss = logSumExp(x) − (1 − s)·x[label] − s·mean(x), s = smoothing; 0 where label == ignore_index.
// labels: int32 or int64 (label_type), contiguous. loss, lse (may be NULL): statistics, [rows].
// Returns -1, or the first row whose label is neither ignore_index nor in 0..<cols (its loss is NaN).
int64_t apus_cross_entropy(int type, int64_t rows, int64_t cols, const void *x, int64_t x_stride, const void *labels, int label_type,
                           int64_t ignore_index, double smoothing, void *loss, void *lse);
// dx = dloss[row]·(softmax(x) − (1 − s)·onehot(label) − s / cols). dloss: statistics; its stride in bytes (0: one value).
void apus_cross_entropy_grad(int type, int64_t rows, int64_t cols, const void *x, int64_t x_stride, const void *labels, int label_type,
                             int64_t ignore_index, double smoothing, const void *lse, const void *dloss, int64_t dloss_stride,
                             void *dx, int64_t dx_stride);

// ---- Normalization ------------------------------------------------------------------------------
// y = (x − mean)·rstd·gamma + beta, rstd = 1 / √(variance + epsilon). gamma, beta: [cols] of `type`, may be NULL.
// mean, rstd: statistics, [rows], may be NULL (not saved).
void apus_layer_norm(int type, int64_t rows, int64_t cols, const void *x, int64_t x_stride, const void *gamma, const void *beta,
                     double epsilon, void *y, int64_t y_stride, void *mean, void *rstd);
// dx, dgamma, dbeta (of `type`, [cols]) may be NULL when not wanted.
void apus_layer_norm_grad(int type, int64_t rows, int64_t cols, const void *x, int64_t x_stride, const void *dy, int64_t dy_stride,
                          const void *gamma, const void *mean, const void *rstd,
                          void *dx, int64_t dx_stride, void *dgamma, void *dbeta);
// y = x·rstd·gamma, rstd = 1 / √(mean(x²) + epsilon).
void apus_rms_norm(int type, int64_t rows, int64_t cols, const void *x, int64_t x_stride, const void *gamma,
                   double epsilon, void *y, int64_t y_stride, void *rstd);
void apus_rms_norm_grad(int type, int64_t rows, int64_t cols, const void *x, int64_t x_stride, const void *dy, int64_t dy_stride,
                        const void *gamma, const void *rstd, void *dx, int64_t dx_stride, void *dgamma);

// Batch norm on dense data [outer, channels, inner]: NCHW is (N, C, H·W), channels-last is (N·H·W, C, 1).
// Per-channel values (mean, variance, scale, shift, …) are statistics, [channels].
void apus_batch_norm_statistics(int type, int64_t outer, int64_t channels, int64_t inner, const void *x, void *mean, void *variance);
// y = (x − mean)·scale + shift, then max(·, 0) if relu.
void apus_batch_norm_apply(int type, int64_t outer, int64_t channels, int64_t inner, const void *x, const void *mean,
                           const void *scale, const void *shift, bool relu, void *y);
// gate (may be NULL): the output after relu; dy counts only where gate > 0. gamma may be NULL (ones).
// training: mean and rstd came from this batch, so they carry gradient; else they are constants.
// dx, dgamma, dbeta may be NULL when not wanted.
void apus_batch_norm_grad(int type, int64_t outer, int64_t channels, int64_t inner, const void *x, const void *dy, const void *gate,
                          const void *mean, const void *rstd, const void *gamma, bool training,
                          void *dx, void *dgamma, void *dbeta);

// ---- Optimizer steps ----------------------------------------------------------------------------
// Many tensors per call, each contiguous, f32 or f64. `*_out` may equal what it is computed from. PyTorch's formulas.
typedef struct {
  int64_t count;
  const void *parameter, *gradient;
  void *parameter_out;
  // SGD: momentum buffer. Adam: first moment, second moment, largest second moment (amsgrad).
  // RMSprop: square average, momentum buffer, gradient average (centered). NAdam, RAdam: first and second moment.
  // Adamax: first moment, largest gradient. Adagrad: sum of squares. Adadelta: average of squares, of squared changes.
  // Lion: momentum. NULL input = first step (zeros; SGD's first momentum buffer is the gradient itself). Unused ones are NULL.
  const void *state[3];
  void *state_out[3];
} apus_optimizer_tensor;

typedef struct {
  double learning_rate, weight_decay;
  double gradient_scale;                 // gradients are multiplied by this first (clipping); 1 = as they are
  double momentum, dampening;            // SGD, RMSprop (momentum); NAdam's momentum decay; Adagrad's learning rate decay
  double beta1, beta2, epsilon;          // Adam; RMSprop's alpha and Adadelta's rho are beta2
  double mu_product;                     // NAdam: the product of the momentum factors of all steps, this one too
  int64_t step;                          // Adam …: 1 for the first step
  bool nesterov, decoupled_weight_decay /* AdamW, NAdam, RAdam, Lion */, amsgrad, centered, maximize;
} apus_optimizer_options;

void apus_sgd_step(int type, int64_t count, const apus_optimizer_tensor *tensors, const apus_optimizer_options *options);
void apus_adam_step(int type, int64_t count, const apus_optimizer_tensor *tensors, const apus_optimizer_options *options);
void apus_rmsprop_step(int type, int64_t count, const apus_optimizer_tensor *tensors, const apus_optimizer_options *options);
void apus_adamax_step(int type, int64_t count, const apus_optimizer_tensor *tensors, const apus_optimizer_options *options);
void apus_nadam_step(int type, int64_t count, const apus_optimizer_tensor *tensors, const apus_optimizer_options *options);
void apus_radam_step(int type, int64_t count, const apus_optimizer_tensor *tensors, const apus_optimizer_options *options);
void apus_adagrad_step(int type, int64_t count, const apus_optimizer_tensor *tensors, const apus_optimizer_options *options);
void apus_adadelta_step(int type, int64_t count, const apus_optimizer_tensor *tensors, const apus_optimizer_options *options);
void apus_lion_step(int type, int64_t count, const apus_optimizer_tensor *tensors, const apus_optimizer_options *options);

#ifdef __cplusplus
}
#endif
#endif
