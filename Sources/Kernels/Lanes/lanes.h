// What the vector code of one instruction set offers to the rest: tables of flat inner loops.
#ifndef APUS_LANES_H
#define APUS_LANES_H
#include "apus_base.h"
#include "apus_fused.h"
#include "apus_reduce.h"
#include "apus_tile.h"
#include "apus_matmul.h"  // apus_epilogue

// out[i] = op(a[i], b[i], c[i]) for i in 0..<n; bit k of `scalars`: operand k is one element, repeated.
// out may be exactly one of the operands.
typedef void (*apus_kernel)(void *out, const void *a, const void *b, const void *c, int64_t n, int scalars);
typedef void (*apus_converter)(void *out, const void *a, int64_t n);

enum { APUS_KINDS = APUS_REDUCE_SUM_SQUARES + 1 };

// Reductions accumulate in A: f32 for f32, f64 for f64, i64 for i64 (narrower integers are converted first).
typedef struct {
  // One value for n contiguous elements, by a tree that depends on n alone.
  void (*row)(void *out, const void *x, int64_t n);
  // acc[j] = acc[j] ∘ x[j] for j in 0..<n.
  void (*column)(void *acc, const void *x, int64_t n);
  // acc[j] = x[0][j] ∘ … ∘ x[rows-1][j], rows a row_stride (elements) apart, for j in 0..<n.
  void (*block)(void *acc, const void *x, int64_t rows, int64_t row_stride, int64_t n);
} apus_reducer;

// A row of a recurrent cell: n elements of a state, in and out in the order of apus_recurrent.h.
typedef void (*apus_cell)(void *const *out, const void *const *in, int64_t n);
enum { APUS_CELL_LSTM, APUS_CELL_LSTM_GRAD, APUS_CELL_GRU, APUS_CELL_GRU_GRAD, APUS_CELLS };

// Rows and blocks of the fused kernels, in f32 or f64; n elements per row, statistics of the same type.
typedef struct {
  void (*softmax)(void *y, const void *x, int64_t n, bool log);
  void (*softmax_grad)(void *dx, const void *y, const void *dy, int64_t n, bool log);
  void (*log_sum_exp)(void *out, const void *x, int64_t n);
  void (*cross_entropy_grad)(void *dx, const void *x, const void *lse, const void *scale, double uniform, int64_t n);
  // rms: no mean is taken away.
  void (*normalize)(void *y, const void *x, const void *gamma, const void *beta, int64_t n, double epsilon, bool rms, void *mean, void *rstd);
  void (*normalize_grad)(void *dx, const void *x, const void *dy, const void *gamma, int64_t n, bool rms, const void *mean, const void *rstd);
  // gamma_sum[j] += dy·(x − mean)·rstd, beta_sum[j] += dy.
  void (*normalize_sums)(void *gamma_sum, void *beta_sum, const void *x, const void *dy, int64_t n, const void *mean, const void *rstd);
  // Per-channel: values[k][j] for k in mean, scale, shift; each[channel] along a row, or one value for the whole row.
  void (*channel_apply)(void *y, const void *x, const void *const values[3], bool each, bool relu, int64_t n);
  void (*channel_sums)(void *gamma_sum, void *beta_sum, const void *x, const void *dy, const void *gate, const void *mean,
                       const void *rstd, bool each, int64_t n);
  // dx = a·dy + b·(x − mean) + c; values: mean, a, b, c.
  void (*channel_grad)(void *dx, const void *x, const void *dy, const void *gate, const void *const values[4], bool each, int64_t n);
  void (*sgd)(const apus_optimizer_tensor *tensor, const apus_optimizer_options *options, int64_t start, int64_t n);
  void (*adam)(const apus_optimizer_tensor *tensor, const apus_optimizer_options *options, int64_t start, int64_t n);
  void (*rmsprop)(const apus_optimizer_tensor *tensor, const apus_optimizer_options *options, int64_t start, int64_t n);
  void (*adamax)(const apus_optimizer_tensor *tensor, const apus_optimizer_options *options, int64_t start, int64_t n);
  void (*nadam)(const apus_optimizer_tensor *tensor, const apus_optimizer_options *options, int64_t start, int64_t n);
  void (*radam)(const apus_optimizer_tensor *tensor, const apus_optimizer_options *options, int64_t start, int64_t n);
  void (*adagrad)(const apus_optimizer_tensor *tensor, const apus_optimizer_options *options, int64_t start, int64_t n);
  void (*adadelta)(const apus_optimizer_tensor *tensor, const apus_optimizer_options *options, int64_t start, int64_t n);
  void (*lion)(const apus_optimizer_tensor *tensor, const apus_optimizer_options *options, int64_t start, int64_t n);
  // Rows of attention.c; see attention.inc.
  void (*attention_weights)(void *scores, const void *mask, int64_t n, int64_t visible, double scale, void *max, void *sum,
                            void *values, int64_t width);
  void (*attention_again)(void *scores, const void *mask, int64_t n, int64_t visible, double scale, const void *lse);
  void (*attention_slopes)(void *weights, const void *gradient, const void *delta, int64_t n);
  void (*attention_delta)(void *out, const void *gradient, const void *result, int64_t n);
  // out = seen ? 0 : −inf.
  void (*attention_hide)(void *out, const uint8_t *seen, int64_t n);
  void (*rope)(void *y, const void *x, const void *cos, const void *sin, int64_t half, bool interleaved, bool inverse);
  apus_cell cell[APUS_CELLS];
} apus_fused;

typedef struct {
  apus_kernel op[APUS_OP_COUNT][10];
  apus_converter convert[10][10];  // [to][from]; NULL on the diagonal
  apus_reducer reduce[APUS_KINDS][10];
  apus_fused fused[2];  // f32, f64
  // Σ (x − mean)², of a row and of the columns of a block; indexed by f64 or not.
  void (*deviations_row[2])(void *out, const void *x, const void *mean, int64_t n);
  void (*deviations_block[2])(void *acc, const void *x, const void *mean, int64_t rows, int64_t row_stride, int64_t n);
} apus_lanes;

const apus_lanes *apus_current_lanes(void);

extern const apus_lanes apus_lanes_baseline;
#if defined(__x86_64__)
extern const apus_lanes apus_lanes_avx2, apus_lanes_avx512;
#endif

// The type that values of `type` are computed in.
static inline int apus_compute_type(int type) { return type == APUS_F16 || type == APUS_BF16 ? APUS_F32 : type; }

// What follows the sums of a product or convolution, in place: an apus_epilogue of f32 or f64, with the bits of elementwise operations.
static inline void apus_activate(int activation, int type, void *values, int64_t count) {
  static const uint8_t operations[] = {
    [APUS_EPILOGUE_NONE] = APUS_OP_COPY, [APUS_EPILOGUE_RELU] = APUS_OP_RELU, [APUS_EPILOGUE_GELU_ERF] = APUS_OP_GELU_ERF,
    [APUS_EPILOGUE_GELU_TANH] = APUS_OP_GELU_TANH, [APUS_EPILOGUE_SIGMOID] = APUS_OP_SIGMOID, [APUS_EPILOGUE_TANH] = APUS_OP_TANH,
    [APUS_EPILOGUE_SILU] = APUS_OP_SILU};
  if (activation == APUS_EPILOGUE_NONE) return;
  if (activation < 0 || activation >= (int)sizeof operations) __builtin_trap();
  apus_current_lanes()->op[operations[activation]][type](values, values, NULL, NULL, count, 0);
}
#endif
