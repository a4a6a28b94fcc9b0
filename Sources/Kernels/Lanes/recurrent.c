// Recurrent cells: rows to tasks, 16-bit types through f32.
#include "apus_recurrent.h"
#include "lanes.h"

enum { MOST = 4, TASK = 8192 };  // operands of one side; elements of a state per task

typedef struct {
  const apus_lanes *lanes;
  apus_cell cell;
  int type;
  int64_t rows, n, per_task;
  int inputs, outputs;
  const char *in[MOST];
  char *out[MOST];
  int64_t in_width[MOST], out_width[MOST];  // of a row, in elements
} job;

static void task(void *context, int64_t index) {
  const job *j = context;
  int64_t first = index * j->per_task, end = first + j->per_task < j->rows ? first + j->per_task : j->rows;
  int64_t size = apus_type_size(j->type), total = 0;
  bool half = j->type == APUS_F16 || j->type == APUS_BF16;
  for (int i = 0; i < j->inputs; i++) total += j->in_width[i];
  for (int i = 0; i < j->outputs; i++) total += j->out_width[i];
  size_t bytes = (size_t)total * 4;
  char *buffer = half ? apus_allocate(bytes) : NULL;
  for (int64_t row = first; row < end; row++) {
    const void *in[MOST];
    void *out[MOST];
    char *at = buffer;
    for (int i = 0; i < j->inputs; i++) {
      const char *from = j->in[i] + row * j->in_width[i] * size;
      in[i] = half ? at : from;
      if (half) {
        j->lanes->convert[APUS_F32][j->type](at, from, j->in_width[i]);
        at += j->in_width[i] * 4;
      }
    }
    for (int i = 0; i < j->outputs; i++) {
      out[i] = half ? at : j->out[i] + row * j->out_width[i] * size;
      if (half) at += j->out_width[i] * 4;
    }
    j->cell(out, in, j->n);
    for (int i = 0; half && i < j->outputs; i++)
      j->lanes->convert[j->type][APUS_F32](j->out[i] + row * j->out_width[i] * size, out[i], j->out_width[i]);
  }
  if (half) apus_deallocate(buffer, bytes);
}

static void run(int cell, job j) {
  if (j.rows == 0 || j.n == 0) return;
  j.lanes = apus_current_lanes();
  j.cell = j.lanes->fused[j.type == APUS_F64].cell[cell];
  j.per_task = 1 + TASK / (j.n + 16);
  apus_parallel((j.rows + j.per_task - 1) / j.per_task, task, &j);
}

void apus_lstm_cell(int type, int64_t rows, int64_t n, const void *gates, const void *c, void *h_out, void *c_out) {
  run(APUS_CELL_LSTM, (job){.type = type, .rows = rows, .n = n, .inputs = 2, .outputs = 2, .in = {gates, c}, .out = {h_out, c_out},
                            .in_width = {4 * n, n}, .out_width = {n, n}});
}
void apus_lstm_cell_grad(int type, int64_t rows, int64_t n, const void *dh, const void *dc, const void *gates, const void *c,
                         void *dgates, void *dc_in) {
  run(APUS_CELL_LSTM_GRAD, (job){.type = type, .rows = rows, .n = n, .inputs = 4, .outputs = 2, .in = {dh, dc, gates, c},
                                 .out = {dgates, dc_in}, .in_width = {n, n, 4 * n, n}, .out_width = {4 * n, n}});
}
void apus_gru_cell(int type, int64_t rows, int64_t n, const void *x_gates, const void *h_gates, const void *h, void *h_out) {
  run(APUS_CELL_GRU, (job){.type = type, .rows = rows, .n = n, .inputs = 3, .outputs = 1, .in = {x_gates, h_gates, h}, .out = {h_out},
                           .in_width = {3 * n, 3 * n, n}, .out_width = {n}});
}
void apus_gru_cell_grad(int type, int64_t rows, int64_t n, const void *dy, const void *x_gates, const void *h_gates, const void *h,
                        void *dx_gates, void *dh_gates, void *dh) {
  run(APUS_CELL_GRU_GRAD, (job){.type = type, .rows = rows, .n = n, .inputs = 4, .outputs = 3, .in = {dy, x_gates, h_gates, h},
                                .out = {dx_gates, dh_gates, dh}, .in_width = {n, 3 * n, 3 * n, n}, .out_width = {3 * n, 3 * n, n}});
}
