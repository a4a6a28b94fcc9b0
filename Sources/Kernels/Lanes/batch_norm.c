// Batch norm on dense [outer, channels, inner]; with inner == 1 the channels lie along the rows.
#include "lanes.h"
#include <string.h>

enum { TASK = 16384, SUBROWS = 64, MOST_CHUNKS = 64 };

typedef struct {
  const apus_lanes *lanes;
  const apus_fused *fused;
  int type;
  int64_t outer, channels, inner, size, wide;
  bool each, relu;
  int64_t rows, length;  // each: outer rows of `channels`; else outer · channels rows of `inner`
  int64_t per_task;
  const char *x, *dy, *gate;
  const char *values[4];
  char *out, *gamma_sums, *beta_sums;
} job;

static job start(int type, int64_t outer, int64_t channels, int64_t inner) {
  job j = {.lanes = apus_current_lanes(), .type = type, .outer = outer, .channels = channels, .inner = inner};
  j.fused = &j.lanes->fused[type == APUS_F64];
  j.size = apus_type_size(type);
  j.wide = type == APUS_F64 ? 8 : 4;
  j.each = inner == 1;
  j.rows = j.each ? outer : outer * channels;
  j.length = j.each ? channels : inner;
  j.per_task = 1 + TASK / (j.length + 8);
  return j;
}
// Row `row` as f32 or f64.
static const char *row_of(const job *j, const char *base, int64_t row, char *buffer) {
  if (!base) return NULL;
  base += row * j->length * j->size;
  if (j->size != 2) return base;
  j->lanes->convert[APUS_F32][j->type](buffer, base, j->length);
  return buffer;
}
static void values_of(const job *j, int64_t row, int count, const void **values) {
  for (int k = 0; k < count; k++) values[k] = j->each ? j->values[k] : j->values[k] + row % j->channels * j->wide;
}

void apus_batch_norm_statistics(int type, int64_t outer, int64_t channels, int64_t inner, const void *x, void *mean, void *variance) {
  const int64_t dims[3] = {outer, channels, inner};
  apus_moments(3, dims, x, NULL, type, 5, mean, variance);
}

static void apply_task(void *context, int64_t task) {
  const job *j = context;
  int64_t end = (task + 1) * j->per_task < j->rows ? (task + 1) * j->per_task : j->rows;
  size_t bytes = (size_t)(j->length * j->wide * 4);
  char *buffer = j->size == 2 ? apus_allocate(bytes) : NULL;
  int64_t step = j->length * j->wide;
  for (int64_t i = task * j->per_task; i < end; i++) {
    const void *values[4];
    char *out = j->out + i * j->length * j->size, *to = buffer ? buffer : out;
    const char *x = row_of(j, j->x, i, buffer ? buffer + step : NULL);
    if (j->dy) {
      values_of(j, i, 4, values);
      const char *dy = row_of(j, j->dy, i, buffer ? buffer + 2 * step : NULL), *gate = row_of(j, j->gate, i, buffer ? buffer + 3 * step : NULL);
      j->fused->channel_grad(to, x, dy, gate, values, j->each, j->length);
    } else {
      values_of(j, i, 3, values);
      j->fused->channel_apply(to, x, values, j->each, j->relu, j->length);
    }
    if (buffer) j->lanes->convert[j->type][APUS_F32](out, buffer, j->length);
  }
  if (buffer) apus_deallocate(buffer, bytes);
}
static void run_apply(job *j) {
  apus_parallel((j->rows + j->per_task - 1) / j->per_task, apply_task, j);
}

void apus_batch_norm_apply(int type, int64_t outer, int64_t channels, int64_t inner, const void *x, const void *mean,
                           const void *scale, const void *shift, bool relu, void *y) {
  if (outer * channels * inner == 0) return;
  job j = start(type, outer, channels, inner);
  j.x = x, j.out = y, j.relu = relu, j.values[0] = mean, j.values[1] = scale, j.values[2] = shift;
  run_apply(&j);
}

// Partial sums [chunks][channels]: chunks of rows if the channels lie along them, else one chunk per outer index.
static void sums_task(void *context, int64_t chunk) {
  const job *j = context;
  size_t row_bytes = (size_t)(j->length * j->wide), sum_bytes = (size_t)(j->channels * j->wide);
  size_t bytes = row_bytes * 3 + sum_bytes * 2;
  char *buffer = apus_allocate(bytes), *gamma_part = buffer + row_bytes * 3, *beta_part = gamma_part + sum_bytes;
  char *gamma_sum = j->gamma_sums + chunk * (int64_t)sum_bytes, *beta_sum = j->beta_sums + chunk * (int64_t)sum_bytes;
  memset(gamma_sum, 0, sum_bytes);
  memset(beta_sum, 0, sum_bytes);
  int64_t per = j->each ? j->per_task : j->channels;
  int64_t first = chunk * per, end = first + per < j->rows ? first + per : j->rows;
  void (*join)(void *, const void *, int64_t) = j->lanes->reduce[APUS_REDUCE_SUM][j->type == APUS_F64 ? APUS_F64 : APUS_F32].column;
  for (int64_t at = first; at < end; at += SUBROWS) {
    int64_t stop = at + SUBROWS < end ? at + SUBROWS : end;
    if (j->each) memset(gamma_part, 0, sum_bytes * 2);
    for (int64_t i = at; i < stop; i++) {
      const void *values[2];
      values_of(j, i, 2, values);
      int64_t c = i % j->channels * j->wide;
      j->fused->channel_sums(j->each ? gamma_part : gamma_sum + c, j->each ? beta_part : beta_sum + c, row_of(j, j->x, i, buffer),
                             row_of(j, j->dy, i, buffer + row_bytes), row_of(j, j->gate, i, buffer + row_bytes * 2),
                             values[0], values[1], j->each, j->length);
    }
    if (j->each) join(gamma_sum, gamma_part, j->channels), join(beta_sum, beta_part, j->channels);
  }
  apus_deallocate(buffer, bytes);
}

#define COEFFICIENTS(T)                                                                        \
  for (int64_t c = 0; c < channels; c++) {                                                     \
    T a = (gamma ? ((const T *)gamma)[c] : 1) * ((const T *)rstd)[c];                          \
    ((T *)scale)[c] = a;                                                                       \
    ((T *)slope)[c] = training ? -a * ((const T *)rstd)[c] * ((T *)gammas)[c] / (T)count : 0;  \
    ((T *)shift)[c] = training ? -a * ((T *)betas)[c] / (T)count : 0;                          \
  }

void apus_batch_norm_grad(int type, int64_t outer, int64_t channels, int64_t inner, const void *x, const void *dy, const void *gate,
                          const void *mean, const void *rstd, const void *gamma, bool training,
                          void *dx, void *dgamma, void *dbeta) {
  if (channels == 0) return;
  job j = start(type, outer, channels, inner);
  int statistics = type == APUS_F64 ? APUS_F64 : APUS_F32;
  size_t vector = (size_t)(channels * j.wide);
  char *memory = apus_allocate(vector * 5), *gammas = memory, *betas = gammas + vector, *scale = betas + vector;
  char *slope = scale + vector, *shift = slope + vector;
  j.x = x, j.dy = dy, j.gate = gate, j.values[0] = mean, j.values[1] = rstd;
  int64_t count = outer * inner;
  if (dgamma || dbeta || training) {
    int64_t per_task = j.per_task, chunks = outer;
    if (j.each) {
      int64_t most = (j.rows + MOST_CHUNKS - 1) / MOST_CHUNKS;
      if (most > j.per_task) j.per_task = most;
      chunks = (j.rows + j.per_task - 1) / j.per_task;
    }
    size_t bytes = vector * (size_t)chunks;
    j.gamma_sums = apus_allocate(bytes);
    j.beta_sums = apus_allocate(bytes);
    if (count > 0) apus_parallel(chunks, sums_task, &j);
    const int64_t shape[2] = {count > 0 ? chunks : 0, channels};
    apus_reduce(APUS_REDUCE_SUM, 2, shape, j.gamma_sums, NULL, statistics, 1, gammas, statistics);
    apus_reduce(APUS_REDUCE_SUM, 2, shape, j.beta_sums, NULL, statistics, 1, betas, statistics);
    apus_deallocate(j.gamma_sums, bytes);
    apus_deallocate(j.beta_sums, bytes);
    if (dgamma) memcpy(dgamma, gammas, vector);
    if (dbeta) memcpy(dbeta, betas, vector);
    j.per_task = per_task;
  }
  if (dx && count > 0) {
    if (type == APUS_F64) { COEFFICIENTS(double) } else { COEFFICIENTS(float) }
    j.values[1] = scale, j.values[2] = slope, j.values[3] = shift, j.out = dx;
    run_apply(&j);
  }
  apus_deallocate(memory, vector * 5);
}
