// Between the driver of the quantized product (quantized.c) and its kernels (quantized_body.inc, one instance per instruction set).
#ifndef APUS_QUANTIZED_KERNELS_H
#define APUS_QUANTIZED_KERNELS_H
#include "apus_quantized.h"

// Packed weights: panels of 32 columns (rows of the weight), each a row of 32 × 4 bytes for every four values of k:
// what one dot-product instruction reads. Behind the panels' sums, one int32 per column. Zeros fill up columns and k.
enum { APUS_Q_PANEL = 32, APUS_Q_GROUP = 4, APUS_Q_GROUP_BYTES = APUS_Q_PANEL * APUS_Q_GROUP };

// Packed rows of x: panels of `mr` rows, each cut into chunks of 64 bytes: chunk, row, byte. Zeros fill up the last chunk.
enum { APUS_Q_CHUNK = 64 };

// A block of the result: all of k. Arrays by column hold whole panels, arrays by row are adjacent.
typedef struct {
  int64_t m, n, k;
  const char *x;               // packed rows
  const int8_t *weight;        // packed panels, or for `dots` the weight where it lies, k adjacent
  int64_t weight_row;          // for `dots`
  const int32_t *sums;         // of each column's weights; `dots` makes its own
  const float *weight_scale, *bias;
  const float *x_scale;
  const int32_t *x_zero;       // the zero point in the terms of packed x
  float *out;
  int64_t out_row;
  void *scratch;               // when k is longer than APUS_Q_KC: memory for `scratch` bytes per element of whole panels
} apus_quantized_block;

// k values whose sums are kept in registers at once. Sums are exact: where they are cut does not show.
enum { APUS_Q_KC = 2048 };

typedef struct {
  int mr;
  int x_bytes;                 // a packed value of x: 1 (unsigned; int8 is raised by 128) or 2 (as it is)
  int scratch;                 // bytes
  void (*pack_x)(int32_t type, const void *x, int64_t row, int64_t col, int64_t m, int64_t k, char *packed);  // one panel
  void (*pack_weight)(const int8_t *weight, int64_t row, int64_t col, int64_t n, int64_t k, int8_t *packed, int32_t *sums);
  void (*block)(const apus_quantized_block *block);
  // For few rows, each a panel of its own; behind them a row of ones. Reads the weight once per few rows.
  void (*dots)(const apus_quantized_block *block);
} apus_quantized_kernels;

const apus_quantized_kernels *apus_quantized_kernels_current(void);

static inline int64_t apus_q_pieces(int64_t n, int64_t size) { return (n + size - 1) / size; }
static inline int64_t apus_q_smaller(int64_t a, int64_t b) { return a < b ? a : b; }
#endif
