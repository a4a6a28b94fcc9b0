// Attention: blocks of queries against blocks of keys become tasks; a block of scores is all there ever is of their matrix.
#include "apus_attention.h"
#include "apus_matmul.h"
#include "lanes.h"
#include <math.h>
#include <string.h>

enum { QUERIES = 256, KEYS = 256, FEW_QUERIES = 16, MANY_KEYS = 1024, SPREAD = 16 };

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t pieces(int64_t n, int64_t size) { return (n + size - 1) / size; }
static inline bool is_half(int type) { return type == APUS_F16 || type == APUS_BF16; }

typedef struct {
  apus_attention a;
  const apus_lanes *lanes;
  const apus_fused *fused;
  int wide;                          // f32 or f64: what is computed in
  int64_t size, wide_size, mask_size;
  int64_t query_block, key_block, query_blocks, key_blocks;
  int64_t group;                     // heads of q to one of k and v
  apus_heads y, dy, dq, dk, dv;
  char *lse, *delta, *dmask;
  // The gradient: parts of the keys, each with its own sums for dq (or dq itself, if there is one part and it can hold them).
  int64_t parts;
  char *sums;
} job;

static job start(const apus_attention *a, apus_heads y) {
  job j = {.a = *a, .lanes = apus_current_lanes(), .y = y, .wide = a->type == APUS_F64 ? APUS_F64 : APUS_F32};
  j.fused = &j.lanes->fused[j.wide == APUS_F64];
  j.size = apus_type_size(a->type);
  j.wide_size = apus_type_size(j.wide);
  j.mask_size = a->mask.data ? apus_type_size(a->mask_type) : 0;
  return j;
}

// One query sees all keys, so the heads that share keys are rows of one block.
static apus_heads rows_of_group(apus_heads x, int64_t group) {
  x.strides[2] = x.strides[1];
  x.strides[1] *= group;
  return x;
}
static void set_blocks(job *j) {
  apus_attention *a = &j->a;
  j->group = a->kv_heads ? a->heads / a->kv_heads : 1;
  if (a->queries == 1) {
    a->causal = false;
    if (j->group > 1) {
      apus_heads *of_queries[] = {&a->q, &a->mask, &j->y, &j->dy, &j->dq};
      for (int i = 0; i < 5; i++) *of_queries[i] = rows_of_group(*of_queries[i], j->group);
      a->queries = j->group;
      a->heads = a->kv_heads;
      j->group = 1;
    }
  }
  j->query_block = smaller(QUERIES, larger(a->queries, 1));
  j->key_block = smaller(a->queries <= FEW_QUERIES ? MANY_KEYS : KEYS, larger(a->keys, 1));
  j->query_blocks = pieces(a->queries, j->query_block);
  j->key_blocks = pieces(a->keys, j->key_block);
}

static char *at(apus_heads x, int64_t size, int64_t batch, int64_t head, int64_t position) {
  return (char *)x.data + (batch * x.strides[0] + head * x.strides[1] + position * x.strides[2]) * size;
}

// Keys that query i sees, of those from `first` on.
static int64_t visible(const job *j, int64_t query, int64_t first, int64_t count) {
  if (!j->a.causal) return count;
  int64_t seen = query + j->a.keys - j->a.queries + 1 - first;
  return seen < 0 ? 0 : smaller(seen, count);
}

// A matrix as products take it: rows of adjacent elements.
typedef struct { char *data; int64_t row; } matrix;

// Rows of an operand where they lie, or widened into `scratch`.
static matrix block(const job *j, apus_heads x, int64_t batch, int64_t head, int64_t first, int64_t rows, int64_t columns, char *scratch) {
  char *from = at(x, j->size, batch, head, first);
  if (!is_half(j->a.type)) return (matrix){from, x.strides[2]};
  for (int64_t i = 0; i < rows; i++)
    j->lanes->convert[j->wide][j->a.type](scratch + i * columns * j->wide_size, from + i * x.strides[2] * j->size, columns);
  return (matrix){scratch, columns};
}
static size_t scratch_for(const job *j, int64_t rows, int64_t columns) {
  return is_half(j->a.type) ? (size_t)(rows * columns * j->wide_size + 63) / 64 * 64 : 0;
}
static size_t room(const job *j, int64_t count) { return (size_t)(count * j->wide_size + 63) / 64 * 64; }

// c [+]= a b, for a [m, k] and b [k, n]; transposed: a is stored [k, m], b is stored [n, k].
static void multiply(const job *j, int64_t m, int64_t n, int64_t k, matrix a, bool a_transposed, matrix b, bool b_transposed, matrix c, bool add) {
  apus_matmul p = {.type = j->wide, .out_type = j->wide, .accumulate = add, .m = m, .n = n, .k = k, .a = a.data, .b = b.data, .c = c.data,
                   .c_row = c.row, .c_col = 1, .in_task = 1};
  p.a_row = a_transposed ? 1 : a.row;
  p.a_col = a_transposed ? a.row : 1;
  p.b_row = b_transposed ? 1 : b.row;
  p.b_col = b_transposed ? b.row : 1;
  apus_matmul_run(&p);
}

// The mask's row as numbers to add, in place or in `scratch` (twice as long as a block of keys); NULL if there is none.
static const char *mask_row(const job *j, int64_t batch, int64_t head, int64_t query, int64_t first, int64_t count, char *scratch) {
  const apus_attention *a = &j->a;
  if (!a->mask.data) return NULL;
  int64_t step = a->mask.strides[3], size = j->mask_size;
  const char *from = at(a->mask, size, batch, head, query) + first * step * size;
  if (step != 1) {
    char *packed = scratch + j->key_block * j->wide_size;
    for (int64_t i = 0; i < count; i++) memcpy(packed + i * size, from + i * step * size, (size_t)size);
    from = packed;
  }
  if (a->mask_type == APUS_BOOL) {
    j->fused->attention_hide(scratch, (const uint8_t *)from, count);
    return scratch;
  }
  if (a->mask_type == j->wide) return from;
  j->lanes->convert[j->wide][a->mask_type](scratch, from, count);
  return scratch;
}

static void fill(const job *j, char *x, int64_t count, double value) {
  for (int64_t i = 0; i < count; i++)
    if (j->wide == APUS_F64) ((double *)x)[i] = value; else ((float *)x)[i] = (float)value;
}
static double number(const job *j, const char *x, int64_t i) {
  return j->wide == APUS_F64 ? ((const double *)x)[i] : (double)((const float *)x)[i];
}
// out = x · factor, in the type of the operands; x may be changed.
static void put_row(const job *j, char *out, char *x, double factor, int64_t count) {
  char f[8];
  fill(j, f, 1, factor);
  char *to = is_half(j->a.type) ? x : out;
  j->lanes->op[APUS_OP_MUL][j->wide](to, x, f, NULL, count, 2);
  if (to != out) j->lanes->convert[j->a.type][j->wide](out, x, count);
}

// ---- Forward -------------------------------------------------------------------------------------
static void forward_task(void *context, int64_t index) {
  const job *j = context;
  const apus_attention *a = &j->a;
  int64_t first = index % j->query_blocks * j->query_block, rows = smaller(j->query_block, a->queries - first);
  int64_t head = index / j->query_blocks % a->heads, batch = index / j->query_blocks / a->heads, shared = head / j->group;
  size_t score_bytes = room(j, j->query_block * j->key_block), value_bytes = room(j, rows * a->value_dim), row_bytes = room(j, rows);
  size_t mask_bytes = room(j, 2 * j->key_block), q_bytes = scratch_for(j, rows, a->dim);
  size_t kv_bytes = scratch_for(j, j->key_block, larger(a->dim, a->value_dim));
  size_t bytes = score_bytes + value_bytes + 2 * row_bytes + mask_bytes + q_bytes + kv_bytes;
  char *memory = apus_allocate(bytes);
  matrix scores = {memory, j->key_block}, values = {memory + score_bytes, a->value_dim};
  char *max = values.data + value_bytes, *sum = max + row_bytes, *mask = sum + row_bytes, *q_scratch = mask + mask_bytes;
  char *kv_scratch = q_scratch + q_bytes;
  matrix q = block(j, a->q, batch, head, first, rows, a->dim, q_scratch);
  fill(j, max, rows, -INFINITY);
  fill(j, sum, rows, 0);
  int64_t keys = visible(j, first + rows - 1, 0, a->keys);
  for (int64_t key = 0; key < keys; key += j->key_block) {
    int64_t count = smaller(j->key_block, keys - key);
    matrix k = block(j, a->k, batch, shared, key, count, a->dim, kv_scratch);
    multiply(j, rows, count, a->dim, q, false, k, true, scores, false);
    const char *hidden = NULL;
    for (int64_t i = 0; i < rows; i++) {
      if (i == 0 || a->mask.strides[2] != 0) hidden = mask_row(j, batch, head, first + i, key, count, mask);
      j->fused->attention_weights(scores.data + i * scores.row * j->wide_size, hidden, count, visible(j, first + i, key, count), a->scale,
                                  max + i * j->wide_size, sum + i * j->wide_size, key ? values.data + i * values.row * j->wide_size : NULL, a->value_dim);
    }
    matrix v = block(j, a->v, batch, shared, key, count, a->value_dim, kv_scratch);
    multiply(j, rows, a->value_dim, count, scores, false, v, false, values, key > 0);
  }
  if (keys == 0) fill(j, values.data, rows * a->value_dim, 0);
  for (int64_t i = 0; i < rows; i++) {
    double total = number(j, sum, i);
    fill(j, j->lse + (((batch * a->heads + head) * a->queries) + first + i) * j->wide_size, 1,
         total == 0 ? -INFINITY : number(j, max, i) + log(total));
    put_row(j, at(j->y, j->size, batch, head, first + i), values.data + i * values.row * j->wide_size, total == 0 ? 0 : 1 / total, a->value_dim);
  }
  apus_deallocate(memory, bytes);
}

void apus_attention_run(const apus_attention *attention, apus_heads y, void *lse) {
  job j = start(attention, y);
  j.lse = lse;
  set_blocks(&j);
  apus_parallel(j.a.batch * j.a.heads * j.query_blocks, forward_task, &j);
}

// ---- Gradient ------------------------------------------------------------------------------------
// delta = Σ dy · y of each row.
static void delta_task(void *context, int64_t index) {
  const job *j = context;
  const apus_attention *a = &j->a;
  int64_t first = index % j->query_blocks * j->query_block, rows = smaller(j->query_block, a->queries - first);
  int64_t head = index / j->query_blocks % a->heads, batch = index / j->query_blocks / a->heads;
  size_t each = scratch_for(j, 1, a->value_dim), bytes = 2 * each;
  char *memory = each ? apus_allocate(bytes) : NULL;
  for (int64_t i = 0; i < rows; i++) {
    matrix dy = block(j, j->dy, batch, head, first + i, 1, a->value_dim, memory);
    matrix y = block(j, j->y, batch, head, first + i, 1, a->value_dim, memory + each);
    j->fused->attention_delta(j->delta + ((batch * a->heads + head) * a->queries + first + i) * j->wide_size, dy.data, y.data, a->value_dim);
  }
  if (each) apus_deallocate(memory, bytes);
}

static bool sums_in_dq(const job *j) { return j->parts == 1 && !is_half(j->a.type); }

// Where a part's sums for dq are.
static matrix dq_sums(const job *j, int64_t part, int64_t batch, int64_t head, int64_t query) {
  const apus_attention *a = &j->a;
  if (sums_in_dq(j)) return (matrix){at(j->dq, j->size, batch, head, query), j->dq.strides[2]};
  int64_t row = ((part * a->batch + batch) * a->heads + head) * a->queries + query;
  return (matrix){j->sums + row * a->dim * j->wide_size, a->dim};
}

typedef struct {
  matrix scores, slopes, k, v, dk, dv;
  char *mask, *q_scratch, *dy_scratch;
} gradient_memory;

// What one block of queries gives to one block of keys and takes from it.
static void gradient_block(const job *j, const gradient_memory *m, int64_t part, int64_t batch, int64_t head, int64_t first, int64_t key,
                           int64_t count, bool add) {
  const apus_attention *a = &j->a;
  int64_t rows = smaller(j->query_block, a->queries - first), line = (batch * a->heads + head) * a->queries + first;
  matrix q = block(j, a->q, batch, head, first, rows, a->dim, m->q_scratch);
  matrix dy = block(j, j->dy, batch, head, first, rows, a->value_dim, m->dy_scratch);
  multiply(j, rows, count, a->dim, q, false, m->k, true, m->scores, false);
  const char *hidden = NULL;
  for (int64_t i = 0; i < rows; i++) {
    if (i == 0 || a->mask.strides[2] != 0) hidden = mask_row(j, batch, head, first + i, key, count, m->mask);
    j->fused->attention_again(m->scores.data + i * m->scores.row * j->wide_size, hidden, count, visible(j, first + i, key, count), a->scale,
                              j->lse + (line + i) * j->wide_size);
  }
  multiply(j, count, a->value_dim, rows, m->scores, true, dy, false, m->dv, add);
  multiply(j, rows, count, a->value_dim, dy, false, m->v, true, m->slopes, false);
  for (int64_t i = 0; i < rows; i++) {
    char *weights = m->scores.data + i * m->scores.row * j->wide_size;
    j->fused->attention_slopes(weights, m->slopes.data + i * m->slopes.row * j->wide_size, j->delta + (line + i) * j->wide_size, count);
    if (!j->dmask) continue;
    char *out = j->dmask + ((line + i) * a->keys + key) * j->size;
    if (is_half(a->type)) j->lanes->convert[a->type][j->wide](out, weights, count); else memcpy(out, weights, (size_t)(count * j->size));
  }
  multiply(j, rows, a->dim, count, m->scores, false, m->k, false, dq_sums(j, part, batch, head, first), true);
  multiply(j, count, a->dim, rows, m->scores, true, q, false, m->dk, add);
}

static void gradient_task(void *context, int64_t index) {
  const job *j = context;
  const apus_attention *a = &j->a;
  int64_t part = index % j->parts, shared = index / j->parts % a->kv_heads, batch = index / j->parts / a->kv_heads;
  size_t score_bytes = room(j, j->query_block * j->key_block), dk_bytes = room(j, j->key_block * a->dim);
  size_t dv_bytes = room(j, j->key_block * a->value_dim), mask_bytes = room(j, 2 * j->key_block);
  size_t q_bytes = scratch_for(j, j->query_block, a->dim), dy_bytes = scratch_for(j, j->query_block, a->value_dim);
  size_t k_bytes = scratch_for(j, j->key_block, a->dim), v_bytes = scratch_for(j, j->key_block, a->value_dim);
  size_t bytes = 2 * score_bytes + dk_bytes + dv_bytes + mask_bytes + q_bytes + dy_bytes + k_bytes + v_bytes;
  char *memory = apus_allocate(bytes);
  gradient_memory m = {.scores = {memory, j->key_block}, .slopes = {memory + score_bytes, j->key_block}};
  m.dk = (matrix){memory + 2 * score_bytes, a->dim};
  m.dv = (matrix){m.dk.data + dk_bytes, a->value_dim};
  m.mask = m.dv.data + dv_bytes;
  m.q_scratch = m.mask + mask_bytes;
  m.dy_scratch = m.q_scratch + q_bytes;
  char *k_scratch = m.dy_scratch + dy_bytes, *v_scratch = k_scratch + k_bytes;
  for (int64_t head = shared * j->group; head < (shared + 1) * j->group; head++) {
    matrix sums = dq_sums(j, part, batch, head, 0);
    for (int64_t i = 0; i < a->queries; i++) memset(sums.data + i * sums.row * j->wide_size, 0, (size_t)(a->dim * j->wide_size));
  }
  for (int64_t b = part; b < j->key_blocks; b += j->parts) {
    int64_t key = b * j->key_block, count = smaller(j->key_block, a->keys - key);
    m.k = block(j, a->k, batch, shared, key, count, a->dim, k_scratch);
    m.v = block(j, a->v, batch, shared, key, count, a->value_dim, v_scratch);
    bool add = false;
    for (int64_t head = shared * j->group; head < (shared + 1) * j->group; head++)
      for (int64_t first = 0; first < a->queries; first += j->query_block) {
        if (visible(j, smaller(first + j->query_block, a->queries) - 1, key, count) == 0) continue;
        gradient_block(j, &m, part, batch, head, first, key, count, add);
        add = true;
      }
    if (!add) {
      memset(m.dk.data, 0, dk_bytes);
      memset(m.dv.data, 0, dv_bytes);
    }
    for (int64_t i = 0; i < count; i++) {
      put_row(j, at(j->dk, j->size, batch, shared, key + i), m.dk.data + i * a->dim * j->wide_size, a->scale, a->dim);
      put_row(j, at(j->dv, j->size, batch, shared, key + i), m.dv.data + i * a->value_dim * j->wide_size, 1, a->value_dim);
    }
  }
  apus_deallocate(memory, bytes);
}

// The parts' sums for dq joined, in order, and scaled.
static void join_task(void *context, int64_t index) {
  const job *j = context;
  const apus_attention *a = &j->a;
  int64_t first = index % j->query_blocks * j->query_block, rows = smaller(j->query_block, a->queries - first);
  int64_t head = index / j->query_blocks % a->heads, batch = index / j->query_blocks / a->heads;
  for (int64_t i = first; i < first + rows; i++) {
    char *total = dq_sums(j, 0, batch, head, i).data;
    for (int64_t part = 1; part < j->parts; part++)
      j->lanes->op[APUS_OP_ADD][j->wide](total, total, dq_sums(j, part, batch, head, i).data, NULL, a->dim, 0);
    put_row(j, at(j->dq, j->size, batch, head, i), total, a->scale, a->dim);
  }
}

void apus_attention_grad(const apus_attention *attention, apus_heads dy, apus_heads y, const void *lse, apus_heads dq, apus_heads dk,
                         apus_heads dv, void *dmask) {
  job j = start(attention, y);
  j.dy = dy;
  j.dq = dq;
  j.dk = dk;
  j.dv = dv;
  j.lse = (char *)lse;
  j.dmask = dmask;
  set_blocks(&j);
  const apus_attention *a = &j.a;
  int64_t rows = a->batch * a->heads * a->queries, owners = a->batch * a->kv_heads;
  if (owners == 0) return;
  if (dmask && a->causal) memset(dmask, 0, (size_t)(rows * a->keys * j.size));  // blocks that nobody sees are left out
  j.parts = larger(1, smaller(j.key_blocks, SPREAD / owners));
  size_t delta_bytes = room(&j, rows), sum_bytes = sums_in_dq(&j) ? 0 : room(&j, j.parts * rows * a->dim);
  j.delta = apus_allocate(delta_bytes);
  j.sums = sum_bytes ? apus_allocate(sum_bytes) : NULL;
  int64_t blocks = a->batch * a->heads * j.query_blocks;
  apus_parallel(blocks, delta_task, &j);
  apus_parallel(owners * j.parts, gradient_task, &j);
  apus_parallel(blocks, join_task, &j);
  if (j.sums) apus_deallocate(j.sums, sum_bytes);
  apus_deallocate(j.delta, delta_bytes);
}
