// The quantized product: operands brought into the kernels' form, the work cut into tasks by shape alone.
#include "quantized_kernels.h"

static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t rounded_up(int64_t n, int64_t unit) { return apus_q_pieces(n, unit) * unit; }
#define smaller apus_q_smaller
#define pieces apus_q_pieces

static inline int64_t panel_bytes(int64_t k) { return pieces(k, APUS_Q_GROUP) * APUS_Q_GROUP_BYTES; }

// ---- Packed weights --------------------------------------------------------------------------------
size_t apus_quantized_packed_size(int64_t n, int64_t k) {
  return (size_t)(pieces(n, APUS_Q_PANEL) * (panel_bytes(k) + APUS_Q_PANEL * (int64_t)sizeof(int32_t)));
}

static inline const int32_t *packed_sums(const void *packed, int64_t n, int64_t k) {
  return (const int32_t *)((const char *)packed + pieces(n, APUS_Q_PANEL) * panel_bytes(k));
}

typedef struct {
  const apus_quantized_kernels *kernels;
  const int8_t *weight;
  int64_t row, col, n, k, per_task;  // panels in a task
  int8_t *packed;
  int32_t *sums;
} pack_context;

static void pack_weight_task(const pack_context *c, int64_t index) {
  int64_t end = smaller((index + 1) * c->per_task, pieces(c->n, APUS_Q_PANEL));
  for (int64_t i = index * c->per_task; i < end; i++) {
    int64_t j = i * APUS_Q_PANEL;
    c->kernels->pack_weight(c->weight + j * c->row, c->row, c->col, smaller(APUS_Q_PANEL, c->n - j), c->k,
                            c->packed + i * panel_bytes(c->k), c->sums + j);
  }
}
static void pack_only_task(void *context, int64_t index) { pack_weight_task(context, index); }

enum { PACK_BYTES = 1 << 16 };  // packed by one task, about

static pack_context pack_of(const apus_quantized_kernels *kernels, const int8_t *weight, int64_t row, int64_t col, int64_t n, int64_t k,
                            void *packed) {
  return (pack_context){.kernels = kernels, .weight = weight, .row = row, .col = col, .n = n, .k = k,
                        .per_task = larger(PACK_BYTES / larger(panel_bytes(k), 1), 1), .packed = packed,
                        .sums = (int32_t *)packed_sums(packed, n, k)};
}

void apus_quantized_pack(const int8_t *weight, int64_t row, int64_t col, int64_t n, int64_t k, void *packed) {
  pack_context c = pack_of(apus_quantized_kernels_current(), weight, row, col, n, k, packed);
  apus_parallel(pieces(pieces(n, APUS_Q_PANEL), c.per_task), pack_only_task, &c);
}

// ---- One product -----------------------------------------------------------------------------------
typedef struct {
  const apus_quantized_matmul *p;
  const apus_quantized_kernels *kernels;
  const float *x_scale, *weight_scale, *bias;  // adjacent; by column filled up to whole panels
  const int32_t *x_zero;
  int64_t chunk_bytes;                         // of a packed row
  // The part of the result at hand.
  int64_t i, j, m, n;
  const char *x;                               // packed
  const int8_t *weight;
  const int32_t *sums;
  int64_t task_rows, task_columns, column_tasks;
  // Packing.
  pack_context pack;
  int64_t weight_tasks, panels_per_task;
} product;

static void pack_task(void *context, int64_t index) {
  product *c = context;
  if (index < c->weight_tasks) { pack_weight_task(&c->pack, index); return; }
  const int64_t mr = c->kernels->mr;
  int64_t i = (index - c->weight_tasks) * c->panels_per_task * mr, end = smaller(i + c->panels_per_task * mr, c->m);
  for (; i < end; i += mr)
    c->kernels->pack_x(c->p->x_type, (const uint8_t *)c->p->x + (c->i + i) * c->p->x_row, c->p->x_row, c->p->x_col,
                       smaller(mr, c->m - i), c->p->k, (char *)c->x + i * c->chunk_bytes);
}

static apus_quantized_block block_at(const product *c, int64_t i, int64_t j) {
  return (apus_quantized_block){
    .k = c->p->k, .x_scale = c->x_scale + i, .x_zero = c->x_zero + i, .weight_scale = c->weight_scale + j, .bias = c->bias + j,
    .out = c->p->out + i * c->p->out_row + j, .out_row = c->p->out_row};
}

static void multiply_task(void *context, int64_t index) {
  const product *c = context;
  int64_t i = index / c->column_tasks * c->task_rows, j = index % c->column_tasks * c->task_columns;
  apus_quantized_block block = block_at(c, c->i + i, c->j + j);
  block.m = smaller(c->task_rows, c->m - i);
  block.n = smaller(c->task_columns, c->n - j);
  block.x = c->x + i * c->chunk_bytes;
  block.weight = c->weight + j / APUS_Q_PANEL * panel_bytes(c->p->k);
  block.sums = c->sums + j;
  size_t bytes = 0;
  if (c->p->k > APUS_Q_KC) {
    bytes = (size_t)(rounded_up(block.m, c->kernels->mr) * rounded_up(block.n, APUS_Q_PANEL) * c->kernels->scratch);
    block.scratch = apus_allocate(bytes);
  }
  c->kernels->block(&block);
  if (bytes) apus_deallocate(block.scratch, bytes);
}

// Blocks whose weights stay in the second cache, smaller ones when there would be few; one for a small product.
static void set_task_size(product *c) {
  static const int64_t rows[] = {160, 160, 80, 80, 40}, columns[] = {256, 128, 128, 64, 32};
  const int64_t fit = larger((1 << 19) / larger(c->p->k, 1), 1);
  c->task_rows = rounded_up(c->m, c->kernels->mr);
  c->task_columns = rounded_up(c->n, APUS_Q_PANEL);
  if ((double)c->m * (double)c->n * (double)c->p->k < 1 << 21 && c->m * c->n < 1 << 16) return;
  for (int s = 0; s < 5; s++) {
    c->task_rows = rounded_up(pieces(c->m, pieces(c->m, rows[s])), c->kernels->mr);
    c->task_columns = rounded_up(pieces(c->n, pieces(c->n, smaller(columns[s], fit))), APUS_Q_PANEL);
    if (pieces(c->m, c->task_rows) * pieces(c->n, c->task_columns) >= 16) return;
  }
}

// At most so many bytes of either operand are packed at a time.
enum { PACKED_X = 1 << 22, PACKED_WEIGHT = 1 << 25 };

static void multiply_large(product *c) {
  const apus_quantized_matmul *p = c->p;
  const int64_t mr = c->kernels->mr;
  const int64_t rows = smaller(rounded_up(p->m, mr), rounded_up(PACKED_X / larger(c->chunk_bytes, 1), mr));
  const int64_t columns = p->packed ? p->n : smaller(p->n, rounded_up(PACKED_WEIGHT / larger(p->k, 1), APUS_Q_PANEL));
  const size_t x_bytes = (size_t)(rows * c->chunk_bytes) + 64, weight_bytes = p->packed ? 0 : apus_quantized_packed_size(columns, p->k) + 64;
  char *x = apus_allocate(x_bytes);
  void *packed = weight_bytes ? apus_allocate(weight_bytes) : NULL;
  c->x = x;
  c->panels_per_task = larger(PACK_BYTES / larger(mr * c->chunk_bytes, 1), 1);
  for (c->j = 0; c->j < p->n; c->j += columns) {
    c->n = smaller(columns, p->n - c->j);
    c->weight = p->packed ? p->packed : packed;
    c->sums = packed_sums(c->weight, c->n, p->k);
    if (!p->packed) c->pack = pack_of(c->kernels, p->weight + c->j * p->weight_row, p->weight_row, p->weight_col, c->n, p->k, packed);
    c->weight_tasks = p->packed ? 0 : pieces(pieces(c->n, APUS_Q_PANEL), c->pack.per_task);
    for (c->i = 0; c->i < p->m; c->i += rows) {
      c->m = smaller(rows, p->m - c->i);
      apus_parallel(c->weight_tasks + pieces(pieces(c->m, mr), c->panels_per_task), pack_task, c);
      c->weight_tasks = 0;
      set_task_size(c);
      c->column_tasks = pieces(c->n, c->task_columns);
      apus_parallel(pieces(c->m, c->task_rows) * c->column_tasks, multiply_task, c);
    }
  }
  if (weight_bytes) apus_deallocate(packed, weight_bytes);
  apus_deallocate(x, x_bytes);
}

// ---- Few rows: the weight is read where it lies ------------------------------------------------------
enum { FEW_ROWS = 64, FEW_ROWS_BYTES = 1 << 16 };

static void few_task(void *context, int64_t index) {
  const product *c = context;
  int64_t j = index * c->task_columns;
  apus_quantized_block block = block_at(c, 0, j);
  block.m = c->p->m;
  block.n = smaller(c->task_columns, c->p->n - j);
  block.x = c->x;
  block.weight = c->p->weight + j * c->p->weight_row;
  block.weight_row = c->p->weight_row;
  c->kernels->dots(&block);
}

static void multiply_few(product *c) {
  const apus_quantized_matmul *p = c->p;
  const size_t bytes = (size_t)((p->m + 1) * c->chunk_bytes);
  char stack[8192] __attribute__((aligned(64)));
  char *x = bytes <= sizeof stack ? stack : apus_allocate(bytes);
  for (int64_t i = 0; i < p->m; i++)
    c->kernels->pack_x(p->x_type, (const uint8_t *)p->x + i * p->x_row, p->x_row, p->x_col, 1, p->k, x + i * c->chunk_bytes);
  const uint8_t one = 1;
  c->kernels->pack_x(APUS_U8, &one, 0, 0, 1, p->k, x + p->m * c->chunk_bytes);
  c->x = x;
  c->task_columns = rounded_up(larger(FEW_ROWS_BYTES / p->k, 1), 4);
  apus_parallel(pieces(p->n, c->task_columns), few_task, c);
  if (x != stack) apus_deallocate(x, bytes);
}

// ---- Scales, zero points and bias in order ------------------------------------------------------------
static const float *floats(const float *from, int64_t stride, float missing, int64_t count, int64_t padded, float *to) {
  if (from && stride == 1 && count == padded) return from;
  for (int64_t i = 0; i < count; i++) to[i] = from ? from[i * stride] : missing;
  for (int64_t i = count; i < padded; i++) to[i] = 0;
  return to;
}

void apus_quantized_matmul_run(const apus_quantized_matmul *p) {
  if (p->m <= 0 || p->n <= 0) return;
  const apus_quantized_kernels *kernels = apus_quantized_kernels_current();
  const int64_t columns = rounded_up(p->n, APUS_Q_PANEL);
  const size_t bytes = (size_t)(2 * p->m + 2 * columns) * 4;
  char stack[4096] __attribute__((aligned(64)));
  float *memory = bytes <= sizeof stack ? (float *)stack : apus_allocate(bytes);
  product c = {.p = p, .kernels = kernels, .chunk_bytes = rounded_up(p->k * kernels->x_bytes, APUS_Q_CHUNK)};
  c.weight_scale = floats(p->weight_scale, p->weight_scale_stride, 0, p->n, columns, memory);
  // Adding -0 changes nothing, not even the sign of a zero.
  c.bias = floats(p->bias, p->bias_stride, -0.0f, p->n, columns, memory + columns);
  c.x_scale = floats(p->x_scale, p->x_scale_stride, 0, p->m, p->m, memory + 2 * columns);
  int32_t *zero = (int32_t *)(memory + 2 * columns + p->m), raised = kernels->x_bytes == 1 && p->x_type == APUS_I8 ? 128 : 0;
  for (int64_t i = 0; i < p->m; i++) zero[i] = p->x_zero_point[i * p->x_zero_point_stride] + raised;
  c.x_zero = zero;
  if (!p->packed && p->weight_col == 1 && p->m <= FEW_ROWS && p->k > 0) multiply_few(&c);
  else multiply_large(&c);
  if (memory != (float *)stack) apus_deallocate(memory, bytes);
}
