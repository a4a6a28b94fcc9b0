// The matrix product: strides put in order, the work cut into tasks by shape alone, panels packed, kernels called.
#include "matmul_kernels.h"
#include "pause.h"
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t pieces(int64_t n, int64_t size) { return (n + size - 1) / size; }
static inline int64_t rounded_up(int64_t n, int64_t unit) { return pieces(n, unit) * unit; }

#define LINES4(i) 64 * (i), 64 * (i) + 64, 64 * (i) + 128, 64 * (i) + 192
#define LINES16(i) LINES4(i), LINES4(i + 4), LINES4(i + 8), LINES4(i + 12)
#define LINES64(i) LINES16(i), LINES16(i + 16), LINES16(i + 32), LINES16(i + 48)
#define LINES256(i) LINES64(i), LINES64(i + 64), LINES64(i + 128), LINES64(i + 192)
const int32_t apus_matmul_lines[APUS_MATMUL_LINES + APUS_MATMUL_KC] = {LINES256(0), LINES256(256), LINES256(512), LINES256(768)};

// A problem in normal form: batch dimensions merged, C's columns adjacent where it has an adjacent direction.
typedef struct {
  const apus_matmul_kernels *kernels;
  int32_t type, out_type, accumulate, activation, batch_rank;
  int64_t batch[APUS_MATMUL_MAX_BATCH_RANK], a_batch[APUS_MATMUL_MAX_BATCH_RANK], b_batch[APUS_MATMUL_MAX_BATCH_RANK];
  int64_t c_batch[APUS_MATMUL_MAX_BATCH_RANK], residual_batch[APUS_MATMUL_MAX_BATCH_RANK];
  int64_t batches, m, n, k, a_row, a_col, b_row, b_col, c_row, c_col;
  int64_t size, out_size;  // bytes of an element
  const char *a, *b, *bias;
  char *c;
  int64_t bias_row, bias_col;
  const char *residual;
  int64_t residual_row, residual_col;
  bool residual_after;
  double alpha;                       // 0: none
  const char *packed;                 // NULL, or panels of all of B as packed_at finds them
  int64_t packed_q, packed_panel, packed_depth;  // where in them `b` begins, and packed elements of k in a panel
} problem;

// One matrix of the batch.
typedef struct { const char *a, *b; char *c; const char *residual; } operands;

static operands operands_at(const problem *p, int64_t index) {
  int64_t a = 0, b = 0, c = 0, residual = 0;
  for (int d = p->batch_rank - 1; d >= 0; d--) {
    int64_t i = index % p->batch[d];
    index /= p->batch[d];
    a += i * p->a_batch[d];
    b += i * p->b_batch[d];
    c += i * p->c_batch[d];
    residual += i * p->residual_batch[d];
  }
  return (operands){
    p->a + a * p->size, p->packed ? NULL : p->b + b * p->size, p->c + c * p->out_size,
    p->residual ? p->residual + residual * p->out_size : NULL};
}

// Where element (q, first column of the panel) of packed B lies: for each panel all of k.
static const char *packed_at(const problem *p, int64_t q, int64_t panel) {
  const apus_matmul_kernels *kernels = p->kernels;
  return p->packed + ((p->packed_panel + panel) * p->packed_depth + (p->packed_q + q) / kernels->group) * kernels->nr * kernels->element;
}

// What lies (i, j) further.
static operands moved(const problem *p, operands o, int64_t i, int64_t j) {
  return (operands){
    o.a + i * p->a_row * p->size, p->packed ? NULL : o.b + j * p->b_col * p->size, o.c + (i * p->c_row + j * p->c_col) * p->out_size,
    o.residual ? o.residual + (i * p->residual_row + j * p->residual_col) * p->out_size : NULL};
}

static apus_matmul_target target_at(const problem *p, operands o, int64_t i, int64_t j) {
  return (apus_matmul_target){
    .out = o.c + (i * p->c_row + j * p->c_col) * p->out_size, .row = p->c_row, .col = p->c_col, .type = p->out_type,
    .accumulate = p->accumulate, .activation = p->activation,
    .bias = p->bias ? p->bias + (i * p->bias_row + j * p->bias_col) * p->out_size : NULL,
    .bias_row = p->bias_row, .bias_col = p->bias_col,
    .residual = o.residual ? o.residual + (i * p->residual_row + j * p->residual_col) * p->out_size : NULL,
    .residual_row = p->residual_row, .residual_col = p->residual_col, .residual_after = p->residual_after, .alpha = p->alpha};
}

// Sums over earlier k wait in C itself when it can hold them, else in memory of their own. What C holds is the first term, but
// when the product has a factor that C has not.
static bool partial_in_c(const problem *p) {
  return p->out_type == p->kernels->accumulator && p->c_col == 1 && !(p->accumulate && p->alpha != 0);
}

static void set_partial(const problem *p, apus_matmul_block *block, bool first, bool last, void *scratch, int64_t scratch_row) {
  block->last = last;
  block->add_partial = !first;
  if (partial_in_c(p)) {
    block->partial = block->target.out;
    block->partial_row = block->target.row;
    if (!(first && last)) {
      block->add_partial = !first || p->accumulate;
      block->target.accumulate = 0;
    }
  } else {
    block->partial = scratch;
    block->partial_row = scratch_row;
    block->target.accumulate = p->accumulate && (p->alpha != 0 ? last : first);
  }
}

// ---- One matrix by one thread --------------------------------------------------------------------
enum { SMALL_COLUMNS = 256, SMALL_ROWS = 120 };

static void multiply_small(const problem *p, operands o) {
  const apus_matmul_kernels *kernels = p->kernels;
  const int64_t kc_values = (int64_t)APUS_MATMUL_KC * kernels->group;
  bool as_is = p->type == kernels->accumulator && kernels->group == 1;
  bool a_direct = as_is, b_direct = as_is && p->b_col == 1 && !p->packed;
  int64_t rows = a_direct ? p->m : smaller(p->m, rounded_up(SMALL_ROWS, kernels->mr));
  int64_t columns = smaller(p->n, rounded_up(SMALL_COLUMNS, kernels->nr));
  int64_t depth = smaller(pieces(p->k, kernels->group), APUS_MATMUL_KC);
  size_t a_bytes = a_direct ? 0 : (size_t)(rounded_up(rows, kernels->mr) * depth * kernels->element);
  size_t b_bytes = b_direct || p->packed ? 0 : (size_t)(rounded_up(columns, kernels->nr) * depth * kernels->element);
  bool scratch = p->k > kc_values && !partial_in_c(p);
  size_t partial_bytes = scratch ? (size_t)(p->m * columns * kernels->element) : 0;
  a_bytes = (size_t)rounded_up((int64_t)a_bytes, 64);
  b_bytes = (size_t)rounded_up((int64_t)b_bytes, 64);
  size_t bytes = a_bytes + b_bytes + partial_bytes;
  char stack[8192] __attribute__((aligned(64)));
  char *memory = bytes <= sizeof stack ? stack : apus_allocate(bytes);
  for (int64_t j = 0; j < p->n; j += columns) {
    int64_t n = smaller(columns, p->n - j);
    for (int64_t q = 0; q == 0 || q < p->k; q += kc_values) {
      int64_t k = smaller(kc_values, p->k - q);
      const char *b = p->packed ? NULL : o.b + (q * p->b_row + j * p->b_col) * p->size;
      apus_matmul_block block = {.n = n, .k = pieces(k, kernels->group)};
      if (p->packed) {
        block.b = packed_at(p, q, j / kernels->nr);
        block.b_panel = kernels->nr * p->packed_depth;
        block.b_row = kernels->nr;
        block.b_packed = true;
      } else if (b_direct) {
        block.b = b;
        block.b_panel = kernels->nr;
        block.b_row = p->b_row;
        block.b_packed = false;
      } else {
        kernels->pack_b(p->type, b, p->b_col, p->b_row, n, k, memory + a_bytes);
        block.b = memory + a_bytes;
        block.b_panel = kernels->nr * block.k;
        block.b_row = kernels->nr;
        block.b_packed = true;
      }
      for (int64_t i = 0; i < p->m; i += rows) {
        const char *a = o.a + (i * p->a_row + q * p->a_col) * p->size;
        block.m = smaller(rows, p->m - i);
        if (a_direct) {
          block.a = a;
          block.a_panel = kernels->mr * p->a_row;
          block.a_row = p->a_row;
          block.a_col = p->a_col;
        } else {
          kernels->pack_a(p->type, a, p->a_row, p->a_col, block.m, k, memory);
          block.a = memory;
          block.a_panel = kernels->mr * block.k;
          block.a_row = 1;
          block.a_col = kernels->mr;
        }
        block.target = target_at(p, o, i, j);
        char *partial = memory + a_bytes + b_bytes + i * columns * kernels->element;
        set_partial(p, &block, q == 0, q + kc_values >= p->k, scratch ? partial : NULL, columns);
        kernels->block(&block);
      }
    }
  }
  if (memory != stack) apus_deallocate(memory, bytes);
}

// ---- Few rows ------------------------------------------------------------------------------------
enum { FEW_ROWS = 16, FEW_ROWS_WORK = 1 << 16 };

// B is read where it lies when it has an adjacent direction and there are too few rows to repay packing it.
typedef enum { NOT_FEW, ROWS, DOTS } few_rows_kind;
static few_rows_kind few_rows(const problem *p) {
  if (p->m > FEW_ROWS || p->k == 0) return NOT_FEW;
  // A dot product's lanes are summed in the end, which short ones do not repay; more rows repay packing sooner.
  if (p->b_row == 1 && p->k >= 16 && p->k >= 32 * p->m) return DOTS;
  bool large = p->n * p->k * p->size > 1 << 17;
  if (p->b_col == 1 && p->n >= 16 && (p->m <= 4 || large || p->type != p->kernels->accumulator)) return ROWS;
  return NOT_FEW;
}

typedef struct {
  const problem *p;
  operands o;
  few_rows_kind kind;
  const char *a;         // in the accumulator's type
  int64_t a_row, a_col;
  int64_t task_columns;
} few_context;

static void few_task(void *context, int64_t index) {
  const few_context *f = context;
  const problem *p = f->p;
  const int64_t element = p->kernels->element;
  int64_t j = index * f->task_columns;
  apus_matmul_block block = {.m = p->m, .n = smaller(f->task_columns, p->n - j), .a_row = f->a_row, .a_col = f->a_col};
  if (p->packed) {
    const apus_matmul_kernels *kernels = p->kernels;
    block.k = p->k;
    block.a = f->a;
    block.b = packed_at(p, 0, j / kernels->nr);
    block.b_panel = kernels->nr * p->packed_depth;
    block.target = target_at(p, f->o, 0, j);
    set_partial(p, &block, true, true, NULL, 0);
    kernels->packed_few(&block, f->kind == DOTS);
    return;
  }
  if (f->kind == DOTS) {
    block.k = p->k;
    block.a = f->a;
    block.b = f->o.b + j * p->b_col * p->size;
    block.target = target_at(p, f->o, 0, j);
    set_partial(p, &block, true, true, NULL, 0);
    p->kernels->dots(&block, p->type, p->b_col);
    return;
  }
  bool scratch = p->k > APUS_MATMUL_KC && !partial_in_c(p);
  size_t bytes = (size_t)(p->m * block.n * element);
  void *partial = scratch ? apus_allocate(bytes) : NULL;
  block.b_row = p->b_row;
  for (int64_t q = 0; q < p->k; q += APUS_MATMUL_KC) {
    block.k = smaller(APUS_MATMUL_KC, p->k - q);
    block.a = f->a + q * f->a_col * element;
    block.b = f->o.b + (q * p->b_row + j) * p->size;
    block.target = target_at(p, f->o, 0, j);
    set_partial(p, &block, q == 0, q + APUS_MATMUL_KC >= p->k, partial, block.n);
    p->kernels->rows(&block, p->type);
  }
  if (scratch) apus_deallocate(partial, bytes);
}

static void multiply_few(const problem *p, operands o, few_rows_kind kind) {
  few_context f = {.p = p, .o = o, .kind = kind, .a = o.a, .a_row = p->a_row, .a_col = p->a_col};
  size_t bytes = 0;
  char stack[4096] __attribute__((aligned(64))), *memory = stack;
  if (p->type != p->kernels->accumulator || ((kind == DOTS || p->packed) && p->a_col != 1)) {
    bytes = (size_t)(p->m * p->k * p->kernels->element);
    if (bytes > sizeof stack) memory = apus_allocate(bytes);
    p->kernels->widen(p->type, o.a, p->a_row, p->a_col, p->m, p->k, memory);
    f.a = memory;
    f.a_row = p->k;
    f.a_col = 1;
  }
  // About 2^16 elements of B to a task, in whole panels; rows of B in pieces of some length.
  f.task_columns = rounded_up(larger(FEW_ROWS_WORK / p->k, 1), p->kernels->nr);
  if (kind == ROWS) f.task_columns = larger(f.task_columns, 16 * p->kernels->nr);
  apus_parallel(pieces(p->n, f.task_columns), few_task, &f);
  if (memory != stack) apus_deallocate(memory, bytes);
}

// Rows without pairs are summed in the order of tiles, which packed panels are for.
static bool few_kernel(const problem *p, few_rows_kind kind) {
  return kind == DOTS || (kind == ROWS && !(p->packed && p->kernels->group == 1));
}

static void multiply_alone(const problem *p, operands o) {
  few_rows_kind kind = few_rows(p);
  if (few_kernel(p, kind)) multiply_few(p, o, kind); else multiply_small(p, o);
}

typedef struct { const problem *p; int64_t per_task; } small_context;

static void small_task(void *context, int64_t index) {
  const small_context *s = context;
  int64_t end = smaller((index + 1) * s->per_task, s->p->batches);
  for (int64_t i = index * s->per_task; i < end; i++) multiply_alone(s->p, operands_at(s->p, i));
}

// ---- One matrix of moderate size by all threads ---------------------------------------------------
static int64_t share(int64_t count, int64_t parts, int64_t index) { return count * index / parts; }

// Where A's rows are read as they lie, nothing has to be packed before the first product, and nobody waits for anybody. That
// pays while A and B stay in the second caches, and where rows a power of two apart do not push each other out of the first.
static bool read_where_it_lies(const problem *p) {
  const int64_t apart = p->kernels->nr * p->size >= 128 ? 4096 : 2048;
  return p->type == p->kernels->accumulator && p->kernels->group == 1 && p->a_col == 1 && p->a_row * p->size % apart != 0 &&
         (p->b_col != 1 || p->b_row * p->size % apart != 0) && (p->m + p->n) * p->k * p->size <= 4 << 20;
}

typedef struct { const problem *p; operands o; int64_t row_panels, column_panels, row_tasks, column_tasks; } moderate_context;

static void moderate_task(void *context, int64_t index) {
  const moderate_context *c = context;
  const problem *p = c->p;
  int64_t mr = p->kernels->mr, nr = p->kernels->nr, row_task = index / c->column_tasks, column_task = index % c->column_tasks;
  int64_t i = share(c->row_panels, c->row_tasks, row_task) * mr, j = share(c->column_panels, c->column_tasks, column_task) * nr;
  problem part = *p;
  part.m = smaller(share(c->row_panels, c->row_tasks, row_task + 1) * mr, p->m) - i;
  part.n = smaller(share(c->column_panels, c->column_tasks, column_task + 1) * nr, p->n) - j;
  if (p->bias) part.bias = p->bias + (i * p->bias_row + j * p->bias_col) * p->out_size;
  part.packed_panel += j / nr;
  multiply_small(&part, moved(p, c->o, i, j));
}

static void multiply_moderate(const problem *p, operands o) {
  moderate_context c = {
    .p = p, .o = o, .row_panels = pieces(p->m, p->kernels->mr), .column_panels = pieces(p->n, p->kernels->nr)};
  // A task packs the columns of B that need it, so columns are what is divided first.
  int64_t wanted = smaller(larger(p->m * p->n * p->k >> 21, 2), 16), panels = p->b_col == 1 || p->packed ? 4 : 1;
  c.column_tasks = smaller(wanted, pieces(c.column_panels, panels));
  c.row_tasks = smaller(pieces(wanted, c.column_tasks), c.row_panels);
  apus_parallel(c.row_tasks * c.column_tasks, moderate_task, &c);
}

// ---- One large matrix by all threads -------------------------------------------------------------
// C is cut into blocks, a task each. A panel of A or B is packed by the first task that needs it, into memory that all
// share (at most this much of A and B at a time): one round of tasks, and a panel is still warm when it is first used.
enum { PACKED_ROWS = 2048, PACKED_COLUMNS = 2048, PACKED_DEPTH = 4 };  // the last in units of KC

// A panel's state.
enum { RAW, BEING_PACKED, PACKED };
typedef _Atomic uint8_t panel_state;

typedef struct {
  const problem *p;
  operands o;
  int64_t i, j, q, m, n, k;          // the part of C and of k at hand
  int64_t row_panels, column_panels; // all of it, in panels of mr rows and nr columns
  int64_t row_tasks, column_tasks;
  char *a, *b, *partial;             // packed: for each KC of k, panels one after the other
  int64_t partial_row;
  panel_state *a_states, *b_states;  // for each KC of k, for each panel
  int32_t *a_lines, *b_lines;        // of a panel that is not packed yet, from its first element; see set_lines
  int64_t a_line_count, b_line_count;
} large_context;

static char *packed_panel(const large_context *l, bool is_a, int64_t q, int64_t depth, int64_t panel) {
  const apus_matmul_kernels *kernels = l->p->kernels;
  int64_t width = is_a ? kernels->mr : kernels->nr, padded = (is_a ? l->row_panels : l->column_panels) * width;
  return (is_a ? l->a : l->b) + (q / kernels->group * padded + panel * width * depth) * kernels->element;
}

// Where element (first row or column of the panel, q) lies.
static const char *raw_panel(const large_context *l, bool is_a, int64_t q, int64_t panel) {
  const problem *p = l->p;
  int64_t first = panel * (is_a ? p->kernels->mr : p->kernels->nr);
  return is_a ? l->o.a + ((l->i + first) * p->a_row + (l->q + q) * p->a_col) * p->size
              : l->o.b + ((l->j + first) * p->b_col + (l->q + q) * p->b_row) * p->size;
}

// Whether the caller is the one to pack it.
static bool claim(panel_state *state) {
  uint8_t raw = RAW;
  return atomic_load_explicit(state, memory_order_relaxed) == RAW && atomic_compare_exchange_strong(state, &raw, BEING_PACKED);
}

static void await(panel_state *state) {
  for (int spin = 0; atomic_load_explicit(state, memory_order_acquire) != PACKED; spin++) {
    if (spin < 1000) pause_cpu(); else sched_yield();  // whoever packs it may have lost its processor
  }
}

static void pack_panel(const large_context *l, bool is_a, int64_t q, int64_t k, int64_t panel, char *packed) {
  const problem *p = l->p;
  const apus_matmul_kernels *kernels = p->kernels;
  int64_t width = is_a ? kernels->mr : kernels->nr, some = smaller(width, (is_a ? l->m : l->n) - panel * width);
  (is_a ? kernels->pack_a : kernels->pack_b)(
    p->type, raw_panel(l, is_a, q, panel), is_a ? p->a_row : p->b_col, is_a ? p->a_col : p->b_row, some, k, packed);
}

// Packs a panel, or waits until whoever has begun has.
static void need_panel(const large_context *l, bool is_a, int64_t q, int64_t k, int64_t panel, panel_state *state) {
  if (claim(state)) {
    pack_panel(l, is_a, q, k, panel, packed_panel(l, is_a, q, pieces(k, l->p->kernels->group), panel));
    atomic_store_explicit(state, PACKED, memory_order_release);
  } else {
    await(state);
  }
}

static const char *b_panel(const large_context *l, int64_t q, int64_t depth, int64_t panel) {
  if (!l->p->packed) return packed_panel(l, false, q, depth, panel);
  return packed_at(l->p, l->q + q, l->j / l->p->kernels->nr + panel);
}

// Has a panel fetched, from where it lies or packed.
static void fetch(const large_context *l, apus_matmul_block *block, bool is_a, int64_t q, int64_t panel, panel_state *state) {
  const apus_matmul_kernels *kernels = l->p->kernels;
  bool packed = (!is_a && l->p->packed) || atomic_load_explicit(state, memory_order_relaxed) != RAW;
  if (!packed) {
    block->ahead = raw_panel(l, is_a, q, panel);
    block->ahead_lines = is_a ? l->a_lines : l->b_lines;
    block->ahead_count = is_a ? l->a_line_count : l->b_line_count;
    return;
  }
  int64_t depth = smaller(pieces(l->k - q, kernels->group), APUS_MATMUL_KC);
  block->ahead = is_a ? packed_panel(l, true, q, depth, panel) : b_panel(l, q, depth, panel);
  block->ahead_lines = apus_matmul_lines;
  block->ahead_count = depth * (is_a ? kernels->mr : kernels->nr) * kernels->element / 64;
}

// Rows of A from `i` on, a panel of B from column `j` on.
static void multiply_panel(const large_context *l, apus_matmul_block *block, int64_t q, int64_t kc_values, int64_t i, int64_t j) {
  const problem *p = l->p;
  block->target = target_at(p, l->o, l->i + i, l->j + j);
  char *partial = l->partial ? l->partial + (i * l->partial_row + j) * p->kernels->element : NULL;
  set_partial(p, block, l->q + q == 0, l->q + q + kc_values >= p->k, partial, l->partial_row);
  p->kernels->block(block);
}

// The lines of `count` rows or columns, `outer` bytes apart, of `k` values, `inner` bytes apart: along what is adjacent.
static int64_t set_lines(int64_t outer, int64_t inner, int64_t count, int64_t k, int64_t size, int64_t most, int32_t *lines) {
  int64_t strips = inner == size ? count : k, strip = inner == size ? outer : inner, bytes = (inner == size ? k : count) * size, n = 0;
  if ((inner != size && outer != size) || llabs(strip) * strips > INT32_MAX) return 0;
  for (int64_t s = 0; s < strips; s++)
    for (int64_t b = 0; b < bytes && n < most; b += 64) lines[n++] = (int32_t)(s * strip + b);
  return n;
}

static void multiply_task(void *context, int64_t index) {
  const large_context *l = context;
  const problem *p = l->p;
  const apus_matmul_kernels *kernels = p->kernels;
  int64_t row_task = index / l->column_tasks, column_task = index % l->column_tasks;
  int64_t i0 = share(l->row_panels, l->row_tasks, row_task), i1 = share(l->row_panels, l->row_tasks, row_task + 1);
  int64_t j0 = share(l->column_panels, l->column_tasks, column_task), j1 = share(l->column_panels, l->column_tasks, column_task + 1);
  // Tasks that run at once start at different panels, so that each finds some to pack. With the first panel of B, panels of A are
  // packed one by one, each while the tile before it has the next one fetched.
  int64_t i_turn = share(i1 - i0, l->column_tasks, column_task), j_turn = share(j1 - j0, l->row_tasks, row_task);
  int64_t kc_values = (int64_t)APUS_MATMUL_KC * kernels->group, i = i0 * kernels->mr;
  int64_t m = smaller((i1 - i0) * kernels->mr, l->m - i);
  apus_matmul_block block = {
    .a_row = 1, .a_col = kernels->mr, .b_row = kernels->nr, .b_packed = true};
  for (int64_t q = 0; q < l->k; q += kc_values) {
    int64_t k = smaller(kc_values, l->k - q);
    block.k = pieces(k, kernels->group);
    block.a_panel = kernels->mr * block.k;
    block.b_panel = kernels->nr * block.k;
    panel_state *a_states = l->a_states + q / kc_values * l->row_panels, *b_states = l->b_states + q / kc_values * l->column_panels;
    for (int64_t s = 0; s < j1 - j0; s++) {
      int64_t panel = j0 + (j_turn + s) % (j1 - j0), next = j0 + (j_turn + s + 1) % (j1 - j0), j = panel * kernels->nr;
      // With one row of tasks each panel of B is needed by one of them, once: packed where the one before was, it stays in the cache.
      char *own = packed_panel(l, false, 0, pieces(smaller(kc_values, l->k), kernels->group), j0);
      bool once = l->row_tasks == 1 && !p->packed;
      if (once) pack_panel(l, false, q, k, panel, own);
      else if (!p->packed) need_panel(l, false, q, k, panel, &b_states[panel]);
      block.n = smaller(kernels->nr, l->n - j);
      block.b = once ? own : b_panel(l, q, block.k, panel);
      if (s == 0) {
        for (int64_t r = 0; r < i1 - i0; r++) {
          int64_t a_panel = i0 + (i_turn + r) % (i1 - i0), a_next = i0 + (i_turn + r + 1) % (i1 - i0);
          need_panel(l, true, q, k, a_panel, &a_states[a_panel]);
          if (r + 1 < i1 - i0) fetch(l, &block, true, q, a_next, &a_states[a_next]);
          else fetch(l, &block, false, q, next, &b_states[next]);
          block.a = packed_panel(l, true, q, block.k, a_panel);
          block.m = smaller(kernels->mr, l->m - a_panel * kernels->mr);
          multiply_panel(l, &block, q, kc_values, a_panel * kernels->mr, j);
        }
        continue;
      }
      block.a = packed_panel(l, true, q, block.k, i0);
      block.m = m;
      // What the next panel is read from comes nearer meanwhile.
      if (s + 1 < j1 - j0) fetch(l, &block, false, q, next, &b_states[next]);
      else if (q + kc_values < l->k) fetch(l, &block, true, q + kc_values, i0 + i_turn, &a_states[l->row_panels + i0 + i_turn]);
      else block.ahead = NULL;
      multiply_panel(l, &block, q, kc_values, i, j);
    }
  }
}

// Blocks as large as the second cache likes, smaller ones when there would be few.
static void set_tasks(large_context *l, const apus_matmul_kernels *kernels) {
  static const int64_t tall_rows[] = {144, 144, 144, 72, 72}, tall_columns[] = {512, 256, 128, 128, 64};
  static const int64_t flat_rows[] = {144, 144, 144, 144, 72}, flat_columns[] = {512, 256, 128, 64, 64};
  const int64_t *rows = l->m <= 144 ? flat_rows : tall_rows, *columns = l->m <= 144 ? flat_columns : tall_columns;
  const int64_t least = 1 << 22;  // multiply-adds of a task: some 20 µs
  int64_t wanted = smaller(larger(l->m * l->n * l->k / least, 1), 32);
  l->row_panels = pieces(l->m, kernels->mr);
  l->column_panels = pieces(l->n, kernels->nr);
  for (int s = 0; s < 5; s++) {
    l->row_tasks = smaller(pieces(l->m, rows[s]), l->row_panels);
    l->column_tasks = smaller(pieces(l->n, columns[s]), l->column_panels);
    if (l->row_tasks * l->column_tasks >= wanted) return;
  }
}

static void multiply_large(const problem *p, operands o) {
  const apus_matmul_kernels *kernels = p->kernels;
  int64_t kc_values = (int64_t)APUS_MATMUL_KC * kernels->group;
  int64_t rows = smaller(p->m, rounded_up(PACKED_ROWS, kernels->mr)), columns = smaller(p->n, rounded_up(PACKED_COLUMNS, kernels->nr));
  int64_t depth = smaller(p->k, PACKED_DEPTH * kc_values), blocks = pieces(depth, kc_values);
  bool scratch = p->k > kc_values && !partial_in_c(p);
  size_t a_bytes = (size_t)(rounded_up(rows, kernels->mr) * pieces(depth, kernels->group) * kernels->element);
  size_t b_bytes = p->packed ? 0 : (size_t)(rounded_up(columns, kernels->nr) * pieces(depth, kernels->group) * kernels->element);
  size_t partial_bytes = scratch ? (size_t)(rows * columns * kernels->element) : 0;
  size_t state_bytes = (size_t)(blocks * (pieces(rows, kernels->mr) + pieces(columns, kernels->nr)));
  large_context l = {.p = p, .o = o, .partial_row = columns};
  l.a = apus_allocate(a_bytes);
  l.b = p->packed ? NULL : apus_allocate(b_bytes);
  l.partial = scratch ? apus_allocate(partial_bytes) : NULL;
  l.a_states = apus_allocate(state_bytes);
  l.b_states = l.a_states + blocks * pieces(rows, kernels->mr);
  int32_t lines[2][APUS_MATMUL_LINES + APUS_MATMUL_KC] = {0};
  l.a_lines = lines[0];
  l.b_lines = lines[1];
  int64_t lines_k = smaller(kc_values, p->k);
  l.a_line_count = set_lines(p->a_row * p->size, p->a_col * p->size, kernels->mr, lines_k, p->size, APUS_MATMUL_LINES, l.a_lines);
  l.b_line_count = set_lines(p->b_col * p->size, p->b_row * p->size, kernels->nr, lines_k, p->size, APUS_MATMUL_LINES, l.b_lines);
  for (l.j = 0; l.j < p->n; l.j += columns)
    for (l.i = 0; l.i < p->m; l.i += rows)
      for (l.q = 0; l.q < p->k; l.q += depth) {
        l.m = smaller(rows, p->m - l.i);
        l.n = smaller(columns, p->n - l.j);
        l.k = smaller(depth, p->k - l.q);
        set_tasks(&l, kernels);
        memset((void *)l.a_states, RAW, state_bytes);
        apus_parallel(l.row_tasks * l.column_tasks, multiply_task, &l);
      }
  apus_deallocate(l.a_states, state_bytes);
  if (scratch) apus_deallocate(l.partial, partial_bytes);
  if (l.b) apus_deallocate(l.b, b_bytes);
  apus_deallocate(l.a, a_bytes);
}

// ---- Small C, long k ----------------------------------------------------------------------------
// k is cut into parts that are summed at once, each in memory of its own; their sums are then added in order.
enum { PARTS = 16, PART_BLOCKS = 2 };  // at most so many parts, each of at least so many KC

typedef struct { const problem *p; operands o; char *sums; int64_t part; } deep_context;

static void deep_task(void *context, int64_t index) {
  const deep_context *d = context;
  const problem *p = d->p;
  problem part = *p;
  int64_t q = index * d->part;
  part.k = smaller(d->part, p->k - q);
  part.out_type = p->kernels->accumulator;
  part.out_size = p->kernels->element;
  part.accumulate = 0;
  part.activation = APUS_EPILOGUE_NONE;
  part.bias = NULL;
  part.alpha = 0;
  part.packed_q += q;
  part.c_row = p->n;
  part.c_col = 1;
  operands o = {
    d->o.a + q * p->a_col * p->size, p->packed ? NULL : d->o.b + q * p->b_row * p->size,
    d->sums + index * p->m * p->n * p->kernels->element, NULL};
  multiply_alone(&part, o);
}

static int64_t part_of(const problem *p) {
  int64_t unit = (int64_t)APUS_MATMUL_KC * p->kernels->group;
  return rounded_up(pieces(p->k, PARTS), unit * PART_BLOCKS);
}

static void multiply_deep(const problem *p, operands o) {
  deep_context d = {.p = p, .o = o, .part = part_of(p)};
  int64_t parts = pieces(p->k, d.part), matrix = p->m * p->n * p->kernels->element;
  size_t bytes = (size_t)(parts * matrix);
  d.sums = apus_allocate(bytes);
  apus_parallel(parts, deep_task, &d);
  // A block without k adds what `partial` holds to where it belongs.
  apus_matmul_block block = {
    .m = p->m, .n = p->n, .a = d.sums, .b = d.sums, .b_packed = true, .partial_row = p->n, .add_partial = true, .last = true};
  for (int64_t i = 1; i < parts; i++) {
    block.partial = d.sums + i * matrix;
    block.target = (apus_matmul_target){.out = d.sums, .row = p->n, .col = 1, .type = p->kernels->accumulator, .accumulate = 1};
    p->kernels->block(&block);
  }
  block.partial = d.sums;
  block.target = target_at(p, o, 0, 0);
  p->kernels->block(&block);
  apus_deallocate(d.sums, bytes);
}

static const apus_matmul_kernels *kernels_for(int32_t type, int32_t out_type) {
  bool eight = type == APUS_U8 || type == APUS_I8, half = type == APUS_F16 || type == APUS_BF16;
  if (out_type != type && !(eight && out_type == APUS_I32) && !(half && out_type == APUS_F32)) __builtin_trap();
  switch ((apus_type)type) {
  case APUS_BOOL: break;
  case APUS_U8: case APUS_I8: case APUS_I16: case APUS_I32: return apus_matmul_kernels_i32();
  case APUS_I64: return apus_matmul_kernels_i64();
  case APUS_BF16: return apus_matmul_kernels_bf16();
  case APUS_F16: case APUS_F32: return apus_matmul_kernels_f32();
  case APUS_F64: return apus_matmul_kernels_f64();
  }
  __builtin_trap();
}

// Drops dimensions of size 1 and merges neighbours that one stride describes in A, B and C.
static void set_batch(problem *p, const apus_matmul *from) {
  int rank = 0;
  p->batches = 1;
  for (int d = 0; d < from->batch_rank; d++) {
    int64_t size = from->batch[d];
    p->batches *= size;
    if (size == 1) continue;
    int last = rank - 1;
    if (rank > 0 && p->a_batch[last] == size * from->a_batch[d] && p->b_batch[last] == size * from->b_batch[d] &&
        p->c_batch[last] == size * from->c_batch[d] && p->residual_batch[last] == size * from->residual_batch[d]) {
      p->batch[last] *= size;
    } else {
      last = rank++;
      p->batch[last] = size;
    }
    p->a_batch[last] = from->a_batch[d];
    p->b_batch[last] = from->b_batch[d];
    p->c_batch[last] = from->c_batch[d];
    p->residual_batch[last] = from->residual_batch[d];
  }
  p->batch_rank = rank;
}

static void swap_pointers(const char **x, const char **y) { const char *t = *x; *x = *y; *y = t; }
static void swap_integers(int64_t *x, int64_t *y) { int64_t t = *x; *x = *y; *y = t; }

// Cᵀ = Bᵀ Aᵀ.
static void transpose(problem *p) {
  swap_pointers(&p->a, &p->b);
  swap_integers(&p->m, &p->n);
  swap_integers(&p->a_row, &p->b_col);
  swap_integers(&p->a_col, &p->b_row);
  swap_integers(&p->c_row, &p->c_col);
  swap_integers(&p->bias_row, &p->bias_col);
  swap_integers(&p->residual_row, &p->residual_col);
  for (int d = 0; d < p->batch_rank; d++) swap_integers(&p->a_batch[d], &p->b_batch[d]);
}

// ---- B packed before -----------------------------------------------------------------------------
// So few columns are the rows of a transposed product, and those are read as they lie: with k adjacent where it was, else the
// columns, if they were (the choice of the kernel depends on it).
static bool packed_as_lines(int64_t n) { return n <= FEW_ROWS; }
static void set_line_strides(int64_t k, int64_t *b_row, int64_t *b_col) {
  if (*b_row == 1) { *b_col = k; return; }
  *b_col = *b_col == 1 ? 1 : 2;
  *b_row = FEW_ROWS * *b_col;
}

static void use_packed(problem *p, const void *packed) {
  p->b = packed;
  if (packed_as_lines(p->n)) { set_line_strides(p->k, &p->b_row, &p->b_col); return; }
  p->packed = packed;
  p->packed_depth = pieces(p->k, p->kernels->group);
}

size_t apus_matmul_packed_size(int32_t type, int64_t k, int64_t n) {
  const apus_matmul_kernels *kernels = kernels_for(type, type);
  if (packed_as_lines(n)) return (size_t)(larger(k, 1) * FEW_ROWS * 2 * apus_type_size(type));
  return (size_t)(rounded_up(n, kernels->nr) * larger(pieces(k, kernels->group), 1) * kernels->element);
}

typedef struct { const apus_matmul_kernels *kernels; int32_t type; int64_t k, n; const char *b; int64_t b_row, b_col; char *packed; } packing;

static void pack_task(void *context, int64_t panel) {
  const packing *p = context;
  const int64_t nr = p->kernels->nr, size = apus_type_size(p->type);
  p->kernels->pack_b(
    p->type, p->b + panel * nr * p->b_col * size, p->b_col, p->b_row, smaller(nr, p->n - panel * nr), p->k,
    p->packed + panel * nr * pieces(p->k, p->kernels->group) * p->kernels->element);
}

void apus_matmul_pack_b(int32_t type, int64_t k, int64_t n, const void *b, int64_t b_row, int64_t b_col, void *packed) {
  packing p = {kernels_for(type, type), type, k, n, b, b_row, b_col, packed};
  if (k == 0 || n == 0) return;
  if (!packed_as_lines(n)) {
    apus_parallel(pieces(n, p.kernels->nr), pack_task, &p);
    return;
  }
  int64_t row = b_row, col = b_col, size = apus_type_size(type);
  set_line_strides(k, &row, &col);
  for (int64_t j = 0; j < n; j++)
    for (int64_t q = 0; q < k; q++) memcpy(p.packed + (q * row + j * col) * size, p.b + (q * b_row + j * b_col) * size, (size_t)size);
}

// ---- Entry ---------------------------------------------------------------------------------------
void apus_matmul_run(const apus_matmul *from) {
  problem p = {
    .kernels = kernels_for(from->type, from->out_type), .type = from->type, .out_type = from->out_type,
    .accumulate = from->accumulate, .activation = from->activation, .m = from->m, .n = from->n, .k = from->k,
    .a_row = from->a_row, .a_col = from->a_col, .b_row = from->b_row, .b_col = from->b_col, .c_row = from->c_row, .c_col = from->c_col,
    .size = apus_type_size(from->type), .out_size = apus_type_size(from->out_type), .a = from->a, .b = from->b, .c = from->c,
    .bias = from->bias, .bias_col = from->bias_stride, .residual = from->residual, .residual_row = from->residual_row,
    .residual_col = from->residual_col, .residual_after = from->residual_after != 0, .alpha = from->alpha == 1 ? 0 : from->alpha};
  set_batch(&p, from);
  if (p.batches == 0 || p.m == 0 || p.n == 0) return;
  // A last batch dimension that only continues A's and C's rows is one taller matrix.
  while (p.batch_rank > 0) {
    int d = p.batch_rank - 1;
    if (p.b_batch[d] != 0 || p.a_batch[d] != p.m * p.a_row || p.c_batch[d] != p.m * p.c_row) break;
    if (p.residual && p.residual_batch[d] != p.m * p.residual_row) break;
    p.m *= p.batch[d];
    p.batches /= p.batch[d];
    p.batch_rank = d;
  }
  bool flat = p.m <= FEW_ROWS || p.n <= FEW_ROWS;
  if (flat && p.n < p.m) {
    // Few columns are few rows of the transposed product, where that has a kernel for them.
    problem other = p;
    transpose(&other);
    flat = few_rows(&other) != NOT_FEW;
  }
  if (from->packed_b && p.k > 0) use_packed(&p, from->packed_b);
  if (p.packed ? false : flat ? p.n < p.m : p.c_col != 1 && p.c_row == 1) transpose(&p);
  if (from->in_task && p.k > 0) {
    for (int64_t i = 0; i < p.batches; i++) multiply_alone(&p, operands_at(&p, i));
    return;
  }
  int64_t work = p.m * p.n * larger(p.k, 1);
  const int64_t alone = 1 << 18, moderate = (int64_t)1 << 23;  // multiply-adds: about 5 and 150 µs
  if ((work <= alone || (p.batches >= 16 && work <= moderate)) && p.k > 0) {
    small_context s = {&p, larger(1, alone / work)};
    int64_t tasks = pieces(p.batches, s.per_task);
    if (tasks == 1) small_task(&s, 0); else apus_parallel(tasks, small_task, &s);
    return;
  }
  few_rows_kind kind = few_rows(&p);
  bool deep = p.k > 0 && p.m * p.n <= 1 << 14 && pieces(p.k, part_of(&p)) > 1;
  for (int64_t i = 0; i < p.batches; i++) {
    operands o = operands_at(&p, i);
    if (p.k == 0) multiply_small(&p, o);
    else if (deep) multiply_deep(&p, o);
    else if (few_kernel(&p, kind)) multiply_few(&p, o, kind);
    else if (read_where_it_lies(&p)) multiply_moderate(&p, o);
    else multiply_large(&p, o);
  }
}
