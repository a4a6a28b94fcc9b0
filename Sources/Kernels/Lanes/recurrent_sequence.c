// Recurrent layers over whole sequences: rows of the batch to tasks, each of which walks all steps.
#include "../matmul_kernels.h"
#include "recurrent_steps.h"
#include <string.h>

enum { FEWEST_ROWS = 4 };  // of a task: fewer do not repay reading the weight once more

typedef struct {
  const apus_recurrent *r;
  const apus_recurrent_forward *f;
  const apus_recurrent_gradient *g;
  const apus_steps *steps;
  apus_step step;
  const char *packed;
  int64_t gates, size, tasks;
  int64_t row, wide;  // bytes of a state's row and of one of gates, in memory
} job;

// Rows of a task's own memory are a line longer than what they hold: rows a power of two apart would push each other out of the
// first cache.
static int64_t padded(const job *j, int64_t elements) { return (elements * j->size + 63) / 64 * 64 + 64; }

static const apus_steps *current_steps(int type) {
  const apus_steps *steps = apus_steps_baseline;
#if defined(__x86_64__)
  switch (apus_current_isa()) {
  case APUS_ISA_AVX512: steps = apus_steps_avx512; break;
  case APUS_ISA_AVX2: steps = apus_steps_avx2; break;
  case APUS_ISA_BASELINE:
  case APUS_ISA_NEON: break;
  }
#endif
  return &steps[type == APUS_F64];
}

static job start(const apus_recurrent *r) {
  static const uint8_t gates[] = {[APUS_RECURRENT_LSTM] = 4, [APUS_RECURRENT_GRU] = 3, [APUS_RECURRENT_TANH] = 1, [APUS_RECURRENT_RELU] = 1};
  job j = {.r = r, .steps = current_steps(r->type), .gates = gates[r->kind], .size = apus_type_size(r->type)};
  j.row = r->hidden * j.size;
  j.wide = j.gates * j.row;
  int64_t most = (r->batch + FEWEST_ROWS - 1) / FEWEST_ROWS, threads = apus_thread_count();
  j.tasks = most < threads ? most : threads;  // any division gives the same bits: rows are apart
  return j;
}

typedef struct {
  const apus_matmul_kernels *kernels;
  int32_t type;
  const char *b;
  int64_t row, col, n, k, size;
  char *packed;
} packing;

static void pack_task(void *context, int64_t panel) {
  const packing *p = context;
  const int64_t nr = p->kernels->nr, left = p->n - panel * nr;
  p->kernels->pack_b(p->type, p->b + panel * nr * p->col * p->size, p->col, p->row, left < nr ? left : nr, p->k,
                     p->packed + panel * nr * p->k * p->kernels->element);
}

// b [k, n] in panels of two vectors, as the product of a step reads it.
static void run_packed(job *j, apus_task task, int64_t k, int64_t n, int64_t row, int64_t col) {
  const apus_matmul_kernels *kernels = j->r->type == APUS_F64 ? apus_matmul_kernels_f64() : apus_matmul_kernels_f32();
  const int64_t panels = (n + kernels->nr - 1) / kernels->nr;
  size_t bytes = (size_t)(panels * kernels->nr * k * kernels->element);
  char *packed = apus_allocate(bytes);
  packing p = {kernels, j->r->type, j->r->weight, row, col, n, k, j->size, packed};
  apus_parallel(panels, pack_task, &p);
  j->packed = packed;
  apus_parallel(j->tasks, task, j);
  apus_deallocate(packed, bytes);
}

static bool seen(const job *j, int64_t step, int64_t row) { return !j->r->mask || j->r->mask[step * j->r->batch + row]; }

static bool any_seen(const job *j, int64_t step, int64_t first, int64_t end) {
  for (int64_t i = first; i < end; i++) if (seen(j, step, i)) return true;
  return false;
}

// Rows of a task's memory to or from rows in order.
static void gather_rows(char *to, int64_t to_row, const char *from, int64_t from_row, int64_t rows, int64_t bytes) {
  for (int64_t i = 0; i < rows; i++) memcpy(to + i * to_row, from + i * from_row, (size_t)bytes);
}

static void forward_task(void *context, int64_t index) {
  const job *j = context;
  const apus_recurrent *r = j->r;
  const apus_recurrent_forward *f = j->f;
  const int64_t n = r->hidden, first = r->batch * index / j->tasks, end = r->batch * (index + 1) / j->tasks, rows = end - first;
  const bool lstm = r->kind == APUS_RECURRENT_LSTM, gru = r->kind == APUS_RECURRENT_GRU;
  const int64_t state_row = padded(j, n), product_row = padded(j, 4 * n), keeps = lstm || gru ? 4 * j->row : 0;
  size_t bytes = (size_t)(rows * (2 * state_row + product_row) + product_row);
  char *memory = apus_allocate(bytes), *h = memory, *c = h + rows * state_row, *product = c + rows * state_row, *spare = product + rows * product_row;
  gather_rows(h, state_row, (const char *)f->h + first * j->row, j->row, rows, j->row);
  if (lstm) gather_rows(c, state_row, (const char *)f->c + first * j->row, j->row, rows, j->row);
  // An LSTM's gates are made where they are kept.
  const bool in_place = lstm && f->kept;
  for (int64_t s = 0; s < r->steps; s++) {
    const int64_t t = r->reverse ? r->steps - 1 - s : s, at = t * r->batch + first;
    const char *gates = (const char *)f->gates + at * j->wide;
    char *y = (char *)f->y + at * j->row, *kept = f->kept ? (char *)f->kept + at * keeps : NULL;
    if (f->h_before) gather_rows((char *)f->h_before + at * j->row, j->row, h, state_row, rows, j->row);
    if (f->c_before) gather_rows((char *)f->c_before + at * j->row, j->row, c, state_row, rows, j->row);
    char *sums = in_place ? kept : product;
    const int64_t sums_row = in_place ? j->wide : product_row;
    if (any_seen(j, t, first, end))
      j->steps->product(sums, sums_row / j->size, gru ? f->bias : gates, gru ? 0 : j->wide / j->size, h, state_row / j->size,
                             j->packed, rows, j->gates * n, n);
    for (int64_t i = 0; i < rows; i++) {
      char *own = h + i * state_row;
      if (!seen(j, t, first + i)) {
        memset(y + i * j->row, 0, (size_t)j->row);
        if (kept) memset(kept + i * keeps, 0, (size_t)keeps);
        continue;
      }
      char *sum = sums + i * sums_row, *cell = c + i * state_row;
      if (lstm) j->step((void *[]){sum, own, cell}, (const void *[]){sum, cell}, n);
      else if (gru) j->step((void *[]){kept ? kept + i * keeps : spare, own}, (const void *[]){gates + i * j->wide, sum, own}, n);
      else j->step((void *[]){own}, (const void *[]){sum}, n);
      memcpy(y + i * j->row, own, (size_t)j->row);
    }
  }
  gather_rows((char *)f->h_out + first * j->row, j->row, h, state_row, rows, j->row);
  if (lstm) gather_rows((char *)f->c_out + first * j->row, j->row, c, state_row, rows, j->row);
  apus_deallocate(memory, bytes);
}

void apus_recurrent_run(const apus_recurrent *r, const apus_recurrent_forward *f) {
  if (r->batch == 0 || r->hidden == 0) return;
  job j = start(r);
  j.f = f;
  j.step = j.steps->kind[r->kind].forward;
  char *zeros = NULL;
  size_t bytes = (size_t)j.wide;
  apus_recurrent_forward with_bias = *f;
  if (r->kind == APUS_RECURRENT_GRU && !f->bias) {
    zeros = apus_allocate(bytes);
    memset(zeros, 0, bytes);
    with_bias.bias = zeros;
    j.f = &with_bias;
  }
  run_packed(&j, forward_task, r->hidden, j.gates * r->hidden, r->weight_col, r->weight_row);
  if (zeros) apus_deallocate(zeros, bytes);
}

static void gradient_task(void *context, int64_t index) {
  const job *j = context;
  const apus_recurrent *r = j->r;
  const apus_recurrent_gradient *g = j->g;
  const int64_t n = r->hidden, first = r->batch * index / j->tasks, end = r->batch * (index + 1) / j->tasks, rows = end - first;
  const bool lstm = r->kind == APUS_RECURRENT_LSTM, gru = r->kind == APUS_RECURRENT_GRU;
  const int64_t state_row = padded(j, n), product_row = padded(j, j->gates * n), keeps = lstm || gru ? 4 * j->row : j->row;
  size_t bytes = (size_t)(rows * (2 * state_row + product_row) + state_row);
  char *memory = apus_allocate(bytes), *dh = memory, *dc = dh + rows * state_row, *slopes = dc + rows * state_row;
  char *nothing = slopes + rows * product_row;
  memset(nothing, 0, (size_t)j->row);
  gather_rows(dh, state_row, (const char *)g->dh_out + first * j->row, j->row, rows, j->row);
  if (lstm) gather_rows(dc, state_row, (const char *)g->dc_out + first * j->row, j->row, rows, j->row);
  for (int64_t s = r->steps - 1; s >= 0; s--) {
    const int64_t t = r->reverse ? r->steps - 1 - s : s, at = t * r->batch + first;
    const char *kept = (const char *)g->kept + at * keeps, *before = g->before ? (const char *)g->before + at * j->row : NULL;
    char *d = (char *)g->dgates + at * j->wide, *again = gru ? (char *)g->dproduct + at * j->wide : NULL;
    bool any = false;
    for (int64_t i = 0; i < rows; i++) {
      char *slope = slopes + i * product_row, *own = dh + i * state_row, *cell = dc + i * state_row, *out = d + i * j->wide;
      if (!seen(j, t, first + i)) {
        memset(slope, 0, (size_t)j->wide);
        memset(out, 0, (size_t)j->wide);
        if (gru) memset(again + i * j->wide, 0, (size_t)j->wide);
        continue;
      }
      any = true;
      const char *dy = g->dy ? (const char *)g->dy + (t * g->dy_step + (first + i) * g->dy_row) * j->size : nothing, *known = kept + i * keeps;
      if (lstm) j->step((void *[]){out, slope, cell, own}, (const void *[]){own, dy, cell, known, before + i * j->row}, n);
      else if (gru)
        j->step((void *[]){out, slope, again + i * j->wide, own}, (const void *[]){own, dy, known, before + i * j->row}, n);
      else j->step((void *[]){out, slope, own}, (const void *[]){own, dy, known}, n);
    }
    if (any)
      j->steps->product(dh, state_row / j->size, dh, state_row / j->size, slopes, product_row / j->size, j->packed, rows, n, j->gates * n);
  }
  gather_rows((char *)g->dh + first * j->row, j->row, dh, state_row, rows, j->row);
  if (lstm) gather_rows((char *)g->dc + first * j->row, j->row, dc, state_row, rows, j->row);
  apus_deallocate(memory, bytes);
}

void apus_recurrent_grad(const apus_recurrent *r, const apus_recurrent_gradient *g) {
  if (r->batch == 0 || r->hidden == 0) return;
  job j = start(r);
  j.g = g;
  j.step = j.steps->kind[r->kind].back;
  run_packed(&j, gradient_task, j.gates * r->hidden, r->hidden, r->weight_row, r->weight_col);
}
