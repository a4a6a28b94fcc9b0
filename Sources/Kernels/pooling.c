// Pooling: every type and layout line by line; f32 and f64 in channels-last go to pooling_channels.c.
#include "pooling_internal.h"
#include <math.h>

static void spread(int64_t to[3], const int64_t from[3], int rank, int64_t fill) {
  for (int i = 0; i < 3; i++) to[i] = i < 3 - rank ? fill : from[i - (3 - rank)];
}

static pool_plan plan_of(const apus_pooling *q) {
  int rank = q->spatial_rank;
  pool_plan p = {.type = q->type, .kind = q->kind, .include_pad = q->count_include_pad, .batch = q->batch, .channels = q->channels,
                 .x_batch = q->x_batch, .x_channel = q->x_channel, .y_batch = q->y_batch, .y_channel = q->y_channel, .x = q->x, .y = q->y};
  spread(p.in, q->in, rank, 1), spread(p.out, q->out, rank, 1), spread(p.window, q->window, rank, 1), spread(p.stride, q->stride, rank, 1);
  spread(p.pad, q->pad_low, rank, 0), spread(p.pad_high, q->pad_high, rank, 0), spread(p.dilation, q->dilation, rank, 1);
  spread(p.x_spatial, q->x_spatial, rank, 0), spread(p.y_spatial, q->y_spatial, rank, 0);
  p.tiled = true;
  for (int i = 0; i < 3; i++)
    p.tiled &= p.window[i] == p.stride[i] && p.pad[i] == 0 && p.dilation[i] == 1 && p.out[i] * p.stride[i] == p.in[i];
  p.channel_blocks = ceil_div(p.channels, 64);
  return p;
}

// A line of outputs that one loop runs over: the channels at one position, or one channel's positions of a row.
typedef struct {
  bool channels;
  int64_t n, c;         // where the line starts
  int64_t block_start, block_width;  // the task's channels
  int64_t o[3];
  int64_t length, x_step, y_step;
} pool_line;

// The part of the line for which tap (a, b, e) reads inside x: low..<high, reading x[at + j * x_step];
// `index` is the flat spatial position read at j = 0, and `index_step` what it grows by.
typedef struct { int64_t low, high, at, index, index_step; } pool_reach;
static pool_reach reach_of(const pool_plan *p, const pool_line *l, int64_t a, int64_t b, int64_t e) {
  pool_reach r = {0, l->length, 0, 0, 0};
  int64_t q[3] = {a, b, e}, v[3];
  for (int i = 0; i < 3; i++) v[i] = l->o[i] * p->stride[i] + q[i] * p->dilation[i] - p->pad[i];
  for (int i = 0; i < (l->channels ? 3 : 2); i++)
    if (v[i] < 0 || v[i] >= p->in[i]) r.high = 0;
  if (!l->channels) {
    r.index_step = p->stride[2];
    if (v[2] < 0) r.low = ceil_div(-v[2], p->stride[2]);
    r.high = min64(r.high, p->in[2] > v[2] ? ceil_div(p->in[2] - v[2], p->stride[2]) : 0);
  }
  r.at = l->n * p->x_batch + l->c * p->x_channel + v[0] * p->x_spatial[0] + v[1] * p->x_spatial[1] + v[2] * p->x_spatial[2];
  r.index = (v[0] * p->in[1] + v[1]) * p->in[2] + v[2];
  return r;
}

enum { LINE = 256 };
#define NAME_(a, b) a##_##b
#define NAME(a, b) NAME_(a, b)
#define F(name) NAME(name, SUFFIX)

#define SUFFIX f32
#define T float
#define SUM float
#define LOAD(v) (v)
#define STORE(v) (v)
#define LOWEST -INFINITY
#define FLOATING 1
#include "pooling_lines.inc"
#define SUFFIX f64
#define T double
#define SUM double
#define LOAD(v) (v)
#define STORE(v) (v)
#define LOWEST -INFINITY
#define FLOATING 1
#include "pooling_lines.inc"
#define SUFFIX f16
#define T uint16_t
#define SUM float
#define LOAD(v) f16_to_f32(v)
#define STORE(v) f32_to_f16(v)
#define LOWEST -INFINITY
#define FLOATING 1
#include "pooling_lines.inc"
#define SUFFIX bf16
#define T uint16_t
#define SUM float
#define LOAD(v) bf16_to_f32(v)
#define STORE(v) f32_to_bf16(v)
#define LOWEST -INFINITY
#define FLOATING 1
#include "pooling_lines.inc"
#define SUFFIX u8
#define T uint8_t
#define LOWEST 0
#include "pooling_integer.inc"
#define SUFFIX i8
#define T int8_t
#define LOWEST INT8_MIN
#include "pooling_integer.inc"
#define SUFFIX i16
#define T int16_t
#define LOWEST INT16_MIN
#include "pooling_integer.inc"
#define SUFFIX i32
#define T int32_t
#define LOWEST INT32_MIN
#include "pooling_integer.inc"
#define SUFFIX i64
#define T int64_t
#define LOWEST INT64_MIN
#include "pooling_integer.inc"

static void run(const pool_plan *p, apus_task lines[10], int64_t count) {
  if (p->batch == 0 || p->channels == 0) return;
  if (!lines[p->type]) __builtin_trap();  // bool, or the mean of integers: refused by the callers' shape rules
  apus_parallel(count, lines[p->type], (void *)p);
}

static bool channels_last(const pool_plan *p) {
  return (p->type == APUS_F32 || p->type == APUS_F64) && p->x_channel == 1 && p->y_channel == 1 && p->channels > 1;
}

static int64_t line_tasks(const pool_plan *p) { return p->batch * p->channel_blocks; }

void apus_pooling_forward(const apus_pooling *q) {
  pool_plan p = plan_of(q);
  if (channels_last(&p)) {
    apus_pool_channels(&p, false);
    return;
  }
  apus_task lines[10] = {NULL, forward_u8, forward_i8, forward_i16, forward_i32, forward_i64, forward_f16, forward_bf16, forward_f32, forward_f64};
  if (p.kind != APUS_POOL_MAX)
    for (int i = APUS_U8; i <= APUS_I64; i++) lines[i] = NULL;
  run(&p, lines, line_tasks(&p));
}

void apus_pooling_max_indices(const apus_pooling *q, int64_t *indices) {
  pool_plan p = plan_of(q);
  p.indices = indices;
  apus_task lines[10] = {NULL, forward_u8, forward_i8, forward_i16, forward_i32, forward_i64, forward_f16, forward_bf16, forward_f32, forward_f64};
  run(&p, lines, line_tasks(&p));
}

void apus_pooling_gradient(const apus_pooling *q, const void *dy, void *dx) {
  pool_plan p = plan_of(q);
  p.dy = dy, p.dx = dx;
  if (channels_last(&p)) {
    apus_pool_channels(&p, true);
    return;
  }
  apus_task lines[10] = {[APUS_F16] = gradient_f16, [APUS_BF16] = gradient_bf16, [APUS_F32] = gradient_f32, [APUS_F64] = gradient_f64};
  run(&p, lines, line_tasks(&p));
}
