// Softmax, cross entropy and normalization: rows to tasks, 16-bit types through f32, fixed trees for column sums.
#include "lanes.h"
#include <math.h>
#include <string.h>

enum { TASK = 16384, SUBROWS = 64, MOST_CHUNKS = 64 };

static inline bool is_half(int type) { return type == APUS_F16 || type == APUS_BF16; }
static inline int wide(int type) { return type == APUS_F64 ? APUS_F64 : APUS_F32; }
static inline int64_t wide_size(int type) { return type == APUS_F64 ? 8 : 4; }
static inline double real_at(int type, const void *p, int64_t i) { return type == APUS_F64 ? ((const double *)p)[i] : (double)((const float *)p)[i]; }
static inline void put_real(int type, void *p, int64_t i, double v) {
  if (type == APUS_F64) ((double *)p)[i] = v; else ((float *)p)[i] = (float)v;
}

// ---- Rows ---------------------------------------------------------------------------------------
typedef struct rows rows;
struct rows {
  const apus_lanes *lanes;
  const apus_fused *fused;
  int type;
  int64_t count, cols, per_task;
  const char *in[2];
  int64_t in_stride[2];
  char *out;  // NULL: the row function gives no row
  int64_t out_stride;
  void (*row)(const rows *r, int64_t row, char *y, const char *a, const char *b);
  // Parameters of the row functions.
  bool flag;
  double number, smoothing;
  const char *gamma, *beta;
  char *mean, *rstd;
  const void *labels;
  int label_type;
  int64_t ignore, dloss_stride;
  const char *lse, *dloss;
};

static void rows_task(void *context, int64_t task) {
  const rows *r = context;
  int64_t end = (task + 1) * r->per_task < r->count ? (task + 1) * r->per_task : r->count;
  bool half = is_half(r->type);
  size_t bytes = (size_t)r->cols * 4 * 3;
  char *buffer = half ? apus_allocate(bytes) : NULL, *a = buffer, *b = buffer + r->cols * 4, *y = buffer + r->cols * 8;
  for (int64_t i = task * r->per_task; i < end; i++) {
    const char *pa = r->in[0] + i * r->in_stride[0], *pb = r->in[1] ? r->in[1] + i * r->in_stride[1] : NULL;
    char *out = r->out ? r->out + i * r->out_stride : NULL;
    if (!half) {
      r->row(r, i, out, pa, pb);
      continue;
    }
    r->lanes->convert[APUS_F32][r->type](a, pa, r->cols);
    if (pb) r->lanes->convert[APUS_F32][r->type](b, pb, r->cols);
    r->row(r, i, out ? y : NULL, a, pb ? b : NULL);
    if (out) r->lanes->convert[r->type][APUS_F32](out, y, r->cols);
  }
  if (half) apus_deallocate(buffer, bytes);
}
static rows start_rows(int type, int64_t count, int64_t cols) {
  rows r = {.lanes = apus_current_lanes(), .type = type, .count = count, .cols = cols};
  r.fused = &r.lanes->fused[type == APUS_F64];
  r.per_task = 1 + TASK / (cols + 16);
  return r;
}
static void run_rows(rows *r) {
  int64_t tasks = (r->count + r->per_task - 1) / r->per_task;
  apus_parallel(tasks, rows_task, r);
}
// A [cols] vector of `type` as f32 if it is of 16 bits; to be given back with release.
static const char *widened(int type, const void *p, int64_t n) {
  if (!p || !is_half(type)) return p;
  char *wide_copy = apus_allocate((size_t)n * 4);
  apus_current_lanes()->convert[APUS_F32][type](wide_copy, p, n);
  return wide_copy;
}
static void release(int type, const void *original, const char *copy, int64_t n) {
  if (copy && copy != original && is_half(type)) apus_deallocate((void *)copy, (size_t)n * 4);
}

static void softmax_row(const rows *r, int64_t i, char *y, const char *a, const char *b) {
  (void)i; (void)b;
  r->fused->softmax(y, a, r->cols, r->flag);
}
void apus_softmax(bool log, int type, int64_t count, int64_t cols, const void *x, int64_t x_stride, void *y, int64_t y_stride) {
  if (count == 0 || cols == 0) return;
  rows r = start_rows(type, count, cols);
  r.in[0] = x, r.in_stride[0] = x_stride, r.out = y, r.out_stride = y_stride, r.row = softmax_row, r.flag = log;
  run_rows(&r);
}
static void softmax_grad_row(const rows *r, int64_t i, char *y, const char *a, const char *b) {
  (void)i;
  r->fused->softmax_grad(y, a, b, r->cols, r->flag);
}
void apus_softmax_grad(bool log, int type, int64_t count, int64_t cols, const void *y, int64_t y_stride,
                       const void *dy, int64_t dy_stride, void *dx, int64_t dx_stride) {
  if (count == 0 || cols == 0) return;
  rows r = start_rows(type, count, cols);
  r.in[0] = y, r.in_stride[0] = y_stride, r.in[1] = dy, r.in_stride[1] = dy_stride;
  r.out = dx, r.out_stride = dx_stride, r.row = softmax_grad_row, r.flag = log;
  run_rows(&r);
}
static void lse_row(const rows *r, int64_t i, char *y, const char *a, const char *b) {
  (void)y; (void)b;
  r->fused->log_sum_exp(r->mean + i * wide_size(r->type), a, r->cols);
}
void apus_log_sum_exp(int type, int64_t count, int64_t cols, const void *x, int64_t x_stride, void *out) {
  if (count == 0) return;
  const apus_lanes *lanes = apus_current_lanes();
  if (cols == 0) {
    double lowest = -INFINITY;
    char value[8];
    if (type == APUS_F64) memcpy(value, &lowest, 8); else lanes->convert[type][APUS_F64](value, &lowest, 1);
    apus_flat(APUS_OP_COPY, type, count, out, value, NULL, NULL, 1);
    return;
  }
  rows r = start_rows(type, count, cols);
  size_t bytes = (size_t)count * 4;
  char *statistics = is_half(type) ? apus_allocate(bytes) : out;
  r.in[0] = x, r.in_stride[0] = x_stride, r.row = lse_row, r.mean = statistics;
  run_rows(&r);
  if (is_half(type)) {
    lanes->convert[type][APUS_F32](out, statistics, count);
    apus_deallocate(statistics, bytes);
  }
}

// ---- Cross entropy ------------------------------------------------------------------------------
static inline int64_t label_at(const rows *r, int64_t i) {
  return r->label_type == APUS_I64 ? ((const int64_t *)r->labels)[i] : ((const int32_t *)r->labels)[i];
}
static void cross_entropy_row(const rows *r, int64_t i, char *y, const char *a, const char *b) {
  (void)y; (void)b;
  char lse[8];
  int64_t label = label_at(r, i);
  bool skip = label == r->ignore, valid = label >= 0 && label < r->cols;
  if (skip && !r->rstd) {
    put_real(r->type, r->mean, i, 0);
    return;
  }
  r->fused->log_sum_exp(lse, a, r->cols);
  if (r->rstd) memcpy(r->rstd + i * wide_size(r->type), lse, (size_t)wide_size(r->type));
  double loss = 0;
  if (!skip && !valid) loss = NAN;
  if (!skip && valid) {
    double total = real_at(r->type, lse, 0);
    loss = (1 - r->smoothing) * (total - real_at(r->type, a, label));
    if (r->smoothing != 0) {
      char sum[8];
      r->lanes->reduce[APUS_REDUCE_SUM][wide(r->type)].row(sum, a, r->cols);
      loss += r->smoothing * (total - real_at(r->type, sum, 0) / (double)r->cols);
    }
  }
  put_real(r->type, r->mean, i, loss);
}
int64_t apus_cross_entropy(int type, int64_t count, int64_t cols, const void *x, int64_t x_stride, const void *labels, int label_type,
                           int64_t ignore_index, double smoothing, void *loss, void *lse) {
  if (count == 0) return -1;
  rows r = start_rows(type, count, cols);
  r.in[0] = x, r.in_stride[0] = x_stride, r.row = cross_entropy_row, r.labels = labels, r.label_type = label_type;
  r.ignore = ignore_index, r.smoothing = smoothing, r.mean = loss, r.rstd = lse;
  if (cols > 0) run_rows(&r);
  for (int64_t i = 0; i < count; i++) {
    int64_t label = label_at(&r, i);
    if (label != ignore_index && (label < 0 || label >= cols)) return i;
    if (cols == 0) put_real(type, loss, i, 0);
  }
  return -1;
}
static void cross_entropy_grad_row(const rows *r, int64_t i, char *y, const char *a, const char *b) {
  (void)b;
  int64_t label = label_at(r, i);
  if (label == r->ignore || label < 0 || label >= r->cols) {
    memset(y, 0, (size_t)(r->cols * wide_size(r->type)));
    return;
  }
  const char *dloss = r->dloss + i * r->dloss_stride;
  r->fused->cross_entropy_grad(y, a, r->lse + i * wide_size(r->type), dloss, r->smoothing / (double)r->cols, r->cols);
  put_real(r->type, y, label, real_at(r->type, y, label) - (1 - r->smoothing) * real_at(r->type, dloss, 0));
}
void apus_cross_entropy_grad(int type, int64_t count, int64_t cols, const void *x, int64_t x_stride, const void *labels, int label_type,
                             int64_t ignore_index, double smoothing, const void *lse, const void *dloss, int64_t dloss_stride,
                             void *dx, int64_t dx_stride) {
  if (count == 0 || cols == 0) return;
  rows r = start_rows(type, count, cols);
  r.in[0] = x, r.in_stride[0] = x_stride, r.out = dx, r.out_stride = dx_stride, r.row = cross_entropy_grad_row;
  r.labels = labels, r.label_type = label_type, r.ignore = ignore_index, r.smoothing = smoothing;
  r.lse = lse, r.dloss = dloss, r.dloss_stride = dloss_stride;
  run_rows(&r);
}

// ---- Layer and root-mean-square norm ------------------------------------------------------------
static void normalize_row(const rows *r, int64_t i, char *y, const char *a, const char *b) {
  (void)b;
  int64_t size = wide_size(r->type);
  r->fused->normalize(y, a, r->gamma, r->beta, r->cols, r->number, r->flag, r->mean ? r->mean + i * size : NULL, r->rstd ? r->rstd + i * size : NULL);
}
static void normalize(bool rms, int type, int64_t count, int64_t cols, const void *x, int64_t x_stride, const void *gamma, const void *beta,
                      double epsilon, void *y, int64_t y_stride, void *mean, void *rstd) {
  if (count == 0 || cols == 0) return;
  rows r = start_rows(type, count, cols);
  r.in[0] = x, r.in_stride[0] = x_stride, r.out = y, r.out_stride = y_stride, r.row = normalize_row, r.flag = rms, r.number = epsilon;
  r.mean = mean, r.rstd = rstd, r.gamma = widened(type, gamma, cols), r.beta = widened(type, beta, cols);
  run_rows(&r);
  release(type, gamma, r.gamma, cols);
  release(type, beta, r.beta, cols);
}
void apus_layer_norm(int type, int64_t count, int64_t cols, const void *x, int64_t x_stride, const void *gamma, const void *beta,
                     double epsilon, void *y, int64_t y_stride, void *mean, void *rstd) {
  normalize(false, type, count, cols, x, x_stride, gamma, beta, epsilon, y, y_stride, mean, rstd);
}
void apus_rms_norm(int type, int64_t count, int64_t cols, const void *x, int64_t x_stride, const void *gamma,
                   double epsilon, void *y, int64_t y_stride, void *rstd) {
  normalize(true, type, count, cols, x, x_stride, gamma, NULL, epsilon, y, y_stride, NULL, rstd);
}

// Chunks of rows give dx and partial column sums [chunks][cols]; a reduction joins those.
typedef struct {
  rows r;
  int64_t chunk_rows;
  char *gamma_sums, *beta_sums;  // NULL when not wanted
} normalize_job;

static void normalize_grad_task(void *context, int64_t chunk) {
  const normalize_job *j = context;
  const rows *r = &j->r;
  int64_t size = wide_size(r->type), first = chunk * j->chunk_rows, end = first + j->chunk_rows < r->count ? first + j->chunk_rows : r->count;
  bool half = is_half(r->type);
  size_t bytes = (size_t)(r->cols * size * 5);
  char *buffer = apus_allocate(bytes), *a = buffer, *b = a + r->cols * size, *y = b + r->cols * size;
  char *gamma_part = y + r->cols * size, *beta_part = gamma_part + r->cols * size;
  char *gamma_sum = j->gamma_sums ? j->gamma_sums + chunk * r->cols * size : NULL, *beta_sum = j->beta_sums ? j->beta_sums + chunk * r->cols * size : NULL;
  if (gamma_sum) memset(gamma_sum, 0, (size_t)(r->cols * size));
  if (beta_sum) memset(beta_sum, 0, (size_t)(r->cols * size));
  void (*join)(void *, const void *, int64_t) = r->lanes->reduce[APUS_REDUCE_SUM][wide(r->type)].column;
  for (int64_t start = first; start < end; start += SUBROWS) {
    int64_t stop = start + SUBROWS < end ? start + SUBROWS : end;
    memset(gamma_part, 0, (size_t)(r->cols * size * 2));
    for (int64_t i = start; i < stop; i++) {
      const char *x = r->in[0] + i * r->in_stride[0], *dy = r->in[1] + i * r->in_stride[1];
      const char *mean = r->flag ? NULL : r->mean + i * size, *rstd = r->rstd + i * size;
      if (half) {
        r->lanes->convert[APUS_F32][r->type](a, x, r->cols);
        r->lanes->convert[APUS_F32][r->type](b, dy, r->cols);
        x = a, dy = b;
      }
      if (gamma_sum || beta_sum)
        r->fused->normalize_sums(gamma_sum ? gamma_part : NULL, beta_sum ? beta_part : NULL, x, dy, r->cols, mean, rstd);
      if (r->out) {
        char *out = r->out + i * r->out_stride;
        r->fused->normalize_grad(half ? y : out, x, dy, r->gamma, r->cols, r->flag, mean, rstd);
        if (half) r->lanes->convert[r->type][APUS_F32](out, y, r->cols);
      }
    }
    if (gamma_sum) join(gamma_sum, gamma_part, r->cols);
    if (beta_sum) join(beta_sum, beta_part, r->cols);
  }
  apus_deallocate(buffer, bytes);
}
static void normalize_grad(bool rms, int type, int64_t count, int64_t cols, const void *x, int64_t x_stride, const void *dy, int64_t dy_stride,
                           const void *gamma, const void *mean, const void *rstd, void *dx, int64_t dx_stride, void *dgamma, void *dbeta) {
  if (cols == 0) return;
  normalize_job j = {.r = start_rows(type, count, cols)};
  rows *r = &j.r;
  r->in[0] = x, r->in_stride[0] = x_stride, r->in[1] = dy, r->in_stride[1] = dy_stride, r->out = dx, r->out_stride = dx_stride;
  r->flag = rms, r->mean = (char *)mean, r->rstd = (char *)rstd;
  r->gamma = widened(type, gamma, cols);
  int64_t most = (count + MOST_CHUNKS - 1) / MOST_CHUNKS, per = 1 + TASK / (cols + 16);
  j.chunk_rows = most > per ? most : per;
  int64_t chunks = (count + j.chunk_rows - 1) / j.chunk_rows;
  size_t bytes = (size_t)(chunks * cols * wide_size(type));
  if (dgamma) j.gamma_sums = apus_allocate(bytes);
  if (dbeta) j.beta_sums = apus_allocate(bytes);
  apus_parallel(chunks, normalize_grad_task, &j);
  const int64_t shape[2] = {chunks, cols};
  if (dgamma) apus_reduce(APUS_REDUCE_SUM, 2, shape, j.gamma_sums, NULL, wide(type), 1, dgamma, type), apus_deallocate(j.gamma_sums, bytes);
  if (dbeta) apus_reduce(APUS_REDUCE_SUM, 2, shape, j.beta_sums, NULL, wide(type), 1, dbeta, type), apus_deallocate(j.beta_sums, bytes);
  release(type, gamma, r->gamma, cols);
}
void apus_layer_norm_grad(int type, int64_t count, int64_t cols, const void *x, int64_t x_stride, const void *dy, int64_t dy_stride,
                          const void *gamma, const void *mean, const void *rstd,
                          void *dx, int64_t dx_stride, void *dgamma, void *dbeta) {
  normalize_grad(false, type, count, cols, x, x_stride, dy, dy_stride, gamma, mean, rstd, dx, dx_stride, dgamma, dbeta);
}
void apus_rms_norm_grad(int type, int64_t count, int64_t cols, const void *x, int64_t x_stride, const void *dy, int64_t dy_stride,
                        const void *gamma, const void *rstd, void *dx, int64_t dx_stride, void *dgamma) {
  normalize_grad(true, type, count, cols, x, x_stride, dy, dy_stride, gamma, NULL, rstd, dx, dx_stride, dgamma, NULL);
}
