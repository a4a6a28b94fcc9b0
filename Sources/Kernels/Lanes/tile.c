// The tile machine: runs a program over pieces of the iteration space that stay in the first-level cache.
#include "tile.h"
#include "lanes.h"
#include <string.h>

enum { TILE = 1024, DIRECT_TILE = 8192, MERGE_BELOW = 512, SERIAL = 1 << 18, TASK = 1 << 18, FETCH_ABOVE = 1 << 20 };

// How a register's elements are reached in one tile.
typedef enum { DENSE, SCALAR, STRIDED } access;

typedef struct {
  char *base;
  int64_t strides[APUS_MAX_RANK];
  int type, size;
  access kind;
  bool repeats;  // the same content in every tile of merged rows
} operand;

typedef struct {
  const apus_program *program;
  const apus_lanes *lanes;
  int rank;
  int64_t dims[APUS_MAX_RANK];
  operand operands[APUS_MAX_OPERANDS];
  int64_t rows, inner;          // rows = product of the outer dimensions
  int64_t tile, pieces, merged; // elements; tiles per row; rows per tile (0: a tile lies within a row)
  int64_t tiles, tiles_per_task;
  int64_t offset[APUS_MAX_REGISTERS];  // into scratch; -1: none
  int64_t constants, raw, scratch;     // offsets; bytes in all
  bool direct[APUS_MAX_OPERANDS];      // output register lies in memory
  int64_t cost;                        // of all instructions, for an element
  bool fetches;                        // what the next tile needs is asked for while this one computes
  uint8_t final_type[APUS_MAX_OPERANDS];
} plan;

static bool is_row_reduction(int op) { return op == APUS_OP_ROW_SUM || op == APUS_OP_ROW_MAX; }

static int result_type(const apus_instruction *i) {
  return i->op == APUS_OP_CONVERT ? apus_compute_type(i->type) : apus_tile_result_type(i->op, i->type);
}

bool apus_program_fits(const apus_program *p) {
  if (p->rank < 0 || p->rank > APUS_MAX_RANK || p->inputs < 0 || p->outputs < 1 || p->inputs + p->outputs > APUS_MAX_OPERANDS) return false;
  bool rows = false;
  for (int k = 0; k < p->count; k++) {
    const apus_instruction *i = &p->code[k];
    const uint8_t registers[3] = {i->a, i->b, i->c};
    if (!apus_tile_supports(i->op, i->type) || i->dst < p->inputs || i->dst >= APUS_MAX_REGISTERS) return false;
    if (i->op != APUS_OP_CONVERT && apus_compute_type(i->type) != i->type) return false;
    for (int j = 0; j < apus_op_arity(i->op); j++)
      if (registers[j] != APUS_IMMEDIATE && registers[j] >= APUS_MAX_REGISTERS) return false;
    rows |= is_row_reduction(i->op);
  }
  return !rows || p->rank == 0 || p->dims[p->rank - 1] <= APUS_MAX_ROW;
}

// ---- Planning -----------------------------------------------------------------------------------
// Copies the shape without dimensions of size 1, ordered by the output's strides, neighbours merged where every operand allows it.
static int64_t simplify(plan *p, bool keep_inner) {
  const apus_program *program = p->program;
  int operands = program->inputs + program->outputs, rank = 0;
  int64_t count = 1;
  for (int k = 0; k < operands; k++) {
    const apus_view *view = &program->operands[k];
    p->operands[k].base = view->base;
    p->operands[k].type = view->type;
    p->operands[k].size = (int)apus_type_size(view->type);
  }
  int64_t dense[APUS_MAX_RANK];
  for (int d = program->rank - 1; d >= 0; d--) {
    dense[d] = count;
    count *= program->dims[d];
  }
  for (int d = 0; d < program->rank; d++) {
    if (program->dims[d] == 1 && !(keep_inner && d == program->rank - 1)) continue;
    p->dims[rank] = program->dims[d];
    for (int k = 0; k < operands; k++) {
      const apus_view *view = &program->operands[k];
      p->operands[k].strides[rank] = view->strides ? view->strides[d] : dense[d] * p->operands[k].size;
    }
    rank++;
  }
  if (!keep_inner) {
    const operand *out = &p->operands[program->inputs];
    for (int i = 1; i < rank; i++)  // insertion sort: nearly always sorted already
      for (int j = i; j > 0; j--) {
        int64_t before = out->strides[j - 1] < 0 ? -out->strides[j - 1] : out->strides[j - 1];
        int64_t after = out->strides[j] < 0 ? -out->strides[j] : out->strides[j];
        if (before >= after) break;
        int64_t t = p->dims[j]; p->dims[j] = p->dims[j - 1]; p->dims[j - 1] = t;
        for (int k = 0; k < operands; k++) {
          int64_t *s = p->operands[k].strides;
          t = s[j]; s[j] = s[j - 1]; s[j - 1] = t;
        }
      }
  }
  int last = 0;  // dimensions 0...last are final
  int mergeable = keep_inner ? rank - 1 : rank;
  for (int d = 1; d < rank; d++) {
    bool merge = d < mergeable;
    for (int k = 0; k < operands && merge; k++)
      merge = p->operands[k].strides[last] == p->operands[k].strides[d] * p->dims[d];
    if (merge) {
      p->dims[last] *= p->dims[d];
    } else {
      last++;
      p->dims[last] = p->dims[d];
    }
    for (int k = 0; k < operands; k++) p->operands[k].strides[last] = p->operands[k].strides[d];
  }
  p->rank = last + 1;
  if (rank == 0) {
    p->dims[0] = 1;
    for (int k = 0; k < operands; k++) p->operands[k].strides[0] = p->operands[k].size;
  }
  return count;
}

static void classify(plan *p) {
  for (int k = 0; k < p->program->inputs + p->program->outputs; k++) {
    operand *o = &p->operands[k];
    bool dense = true, scalar = k < p->program->inputs;
    int64_t expected = o->size;
    o->repeats = true;
    for (int d = p->rank - 1; d >= 0; d--) {
      dense &= o->strides[d] == expected;
      scalar &= o->strides[d] == 0;
      if (d < p->rank - 1) o->repeats &= o->strides[d] == 0;
      expected *= p->dims[d];
    }
    o->kind = dense ? DENSE : scalar ? SCALAR : STRIDED;
  }
}

static bool contiguous_in_tile(const plan *p, const operand *o) {
  return o->kind == DENSE || (!p->merged && o->strides[p->rank - 1] == o->size);
}

// An output register may lie in memory if what is written is what is stored, and nobody reads an input there afterwards.
static bool may_write_directly(const plan *p, int output) {
  const apus_program *program = p->program;
  int reg = program->inputs + output;
  const operand *o = &p->operands[reg];
  if (!contiguous_in_tile(p, o)) return false;
  bool written = false;
  for (int k = 0; k < program->count; k++) {
    const apus_instruction *i = &program->code[k];
    const uint8_t registers[3] = {i->a, i->b, i->c};
    if (written)
      for (int j = 0; j < apus_op_arity(i->op); j++)
        if (registers[j] < program->inputs && p->operands[registers[j]].base == o->base) return false;
    if (i->dst == reg) {
      if (result_type(i) != o->type || is_row_reduction(i->op)) return false;
      written = true;
    }
  }
  return written;
}

static void store_constant(void *p, const apus_instruction *i, int type) {
  switch (type) {
  case APUS_F32: *(float *)p = (float)i->immediate.real; break;
  case APUS_F64: *(double *)p = i->immediate.real; break;
  case APUS_I64: *(int64_t *)p = i->immediate.integer; break;
  case APUS_I32: *(int32_t *)p = (int32_t)i->immediate.integer; break;
  case APUS_I16: *(int16_t *)p = (int16_t)i->immediate.integer; break;
  case APUS_BOOL: *(uint8_t *)p = i->immediate.integer != 0; break;
  default: *(uint8_t *)p = (uint8_t)i->immediate.integer; break;  // i8 and u8
  }
}

// ---- Tiles --------------------------------------------------------------------------------------
#define GATHER(T) for (int64_t i = 0; i < n; i++) ((T *)out)[i] = *(const T *)(in + i * stride)
static void gather(void *out, const char *in, int64_t n, int64_t stride, int size) {
  if (stride == size) { memcpy(out, in, (size_t)(n * size)); return; }
  switch (size) {
  case 1: GATHER(uint8_t); break;
  case 2: GATHER(uint16_t); break;
  case 4: GATHER(uint32_t); break;
  default: GATHER(uint64_t); break;
  }
}
#define SCATTER(T) for (int64_t i = 0; i < n; i++) *(T *)(out + i * stride) = ((const T *)in)[i]
static void scatter(char *out, const void *in, int64_t n, int64_t stride, int size) {
  if (stride == size) { memcpy(out, in, (size_t)(n * size)); return; }
  switch (size) {
  case 1: SCATTER(uint8_t); break;
  case 2: SCATTER(uint16_t); break;
  case 4: SCATTER(uint32_t); break;
  default: SCATTER(uint64_t); break;
  }
}

static void indices_of(const plan *p, int64_t row, int64_t *index) {
  for (int d = p->rank - 2; d >= 0; d--) {
    index[d] = row % p->dims[d];
    row /= p->dims[d];
  }
}
static char *address(const plan *p, const operand *o, const int64_t *index) {
  char *at = o->base;
  for (int d = 0; d < p->rank - 1; d++) at += index[d] * o->strides[d];
  return at;
}

// Moves `rows` whole rows from an operand to dense memory, or back.
static void move_rows(const plan *p, const operand *o, const int64_t *first, int64_t rows, char *dense, bool store) {
  int64_t index[APUS_MAX_RANK], step = p->inner * o->size, stride = o->strides[p->rank - 1];
  memcpy(index, first, sizeof index);
  char *at = address(p, o, index);
  for (int64_t r = 0; r < rows; r++, dense += step) {
    if (store) scatter(at, dense, p->inner, stride, o->size);
    else gather(dense, at, p->inner, stride, o->size);
    for (int d = p->rank - 2; d >= 0; d--) {
      at += o->strides[d];
      if (++index[d] < p->dims[d]) break;
      at -= p->dims[d] * o->strides[d];
      index[d] = 0;
    }
  }
}

typedef struct {
  char *at[APUS_MAX_REGISTERS];
  bool scalar[APUS_MAX_REGISTERS], kept[APUS_MAX_OPERANDS];
} tile_state;

static void load(const plan *p, int k, tile_state *s, char *scratch, const int64_t *index, int64_t start, int64_t column, int64_t rows, int64_t n) {
  const operand *o = &p->operands[k];
  if (s->kept[k]) return;
  int64_t stride = o->strides[p->rank - 1];
  bool converts = apus_compute_type(o->type) != o->type;
  char *at;
  s->scalar[k] = o->kind == SCALAR || (!p->merged && stride == 0);
  if (o->kind == DENSE) at = o->base + start * o->size;
  else if (o->kind == SCALAR) at = o->base, s->kept[k] = true;
  else if (p->merged) {
    at = scratch + (converts ? p->raw : p->offset[k]);
    if (o->repeats) rows = p->merged < p->rows ? p->merged : p->rows, n = rows * p->inner, s->kept[k] = true;
    move_rows(p, o, index, rows, at, false);
  } else {
    at = address(p, o, index) + column * stride;
    if (stride != o->size && stride != 0) {
      char *dense = scratch + (converts ? p->raw : p->offset[k]);
      gather(dense, at, n, stride, o->size);
      at = dense;
    }
  }
  if (converts) {
    p->lanes->convert[APUS_F32][o->type](scratch + p->offset[k], at, s->scalar[k] ? 1 : n);
    at = scratch + p->offset[k];
  }
  s->at[k] = at;
}

static void store(const plan *p, int output, tile_state *s, char *scratch, const int64_t *index, int64_t start, int64_t column, int64_t rows, int64_t n) {
  if (p->direct[output]) return;
  int reg = p->program->inputs + output;
  const operand *o = &p->operands[reg];
  int from = p->final_type[output], size = (int)apus_type_size(from);
  char *dense = s->at[reg];
  if (s->scalar[reg]) {
    dense = scratch + p->offset[reg];
    p->lanes->op[APUS_OP_COPY][from](dense, s->at[reg], NULL, NULL, n, 1);
  }
  char *at = contiguous_in_tile(p, o)
      ? (o->kind == DENSE ? o->base + start * o->size : address(p, o, index) + column * o->size) : NULL;
  if (from != o->type) {
    char *to = at ? at : scratch + p->raw;
    p->lanes->convert[o->type][from](to, dense, n);
    dense = to;
  } else if (at) {
    memcpy(at, dense, (size_t)(n * size));
  }
  if (at) return;
  if (p->merged) move_rows(p, o, index, rows, dense, true);
  else scatter(address(p, o, index) + column * o->strides[p->rank - 1], dense, n, o->strides[p->rank - 1], o->size);
}

static void execute(const plan *p, int k, tile_state *s, char *scratch, int64_t n) {
  const apus_instruction *i = &p->program->code[k];
  const uint8_t registers[3] = {i->a, i->b, i->c};
  const char *in[3] = {NULL, NULL, NULL};
  int arity = apus_op_arity(i->op), scalars = 0;
  for (int j = 0; j < arity; j++) {
    bool constant = registers[j] == APUS_IMMEDIATE;
    in[j] = constant ? scratch + p->constants + k * 8 : s->at[registers[j]];
    if (constant || s->scalar[registers[j]]) scalars |= 1 << j;
  }
  int output = i->dst - p->program->inputs;
  bool direct = output < p->program->outputs && p->direct[output];
  bool all_scalar = scalars == (1 << arity) - 1;
  // s->at of a direct register is set before the first instruction.
  char *out = direct ? s->at[i->dst] : scratch + p->offset[i->dst];
  int64_t m = all_scalar && !direct ? 1 : n;
  if (is_row_reduction(i->op)) {
    bool sum = i->op == APUS_OP_ROW_SUM;
    char value[8];
    if (!all_scalar) p->lanes->reduce[sum ? APUS_REDUCE_SUM : APUS_REDUCE_MAX][i->type].row(value, in[0], n);
    else if (!sum) memcpy(value, in[0], 8);
    else if (i->type == APUS_F32) *(float *)value = *(const float *)in[0] * (float)n;
    else *(double *)value = *(const double *)in[0] * (double)n;
    memcpy(out, value, (size_t)apus_type_size(i->type));
    all_scalar = true;
  } else if (i->op == APUS_OP_CONVERT) {
    const char *from = in[0];
    char value[8];
    if (all_scalar && m > 1) {  // into memory: convert one, then repeat it
      if (i->type == i->from) memcpy(value, from, (size_t)apus_type_size(i->type));
      else p->lanes->convert[i->type][i->from](value, from, 1);
      p->lanes->op[APUS_OP_COPY][i->type](out, value, NULL, NULL, m, 1);
    } else if (apus_compute_type(i->type) != i->type) {
      char *raw = scratch + p->raw;
      if (i->from == i->type) memcpy(out, from, (size_t)(m * 4));
      else p->lanes->convert[i->type][i->from](raw, from, m), p->lanes->convert[APUS_F32][i->type](out, raw, m);
    } else if (i->type == i->from) {
      p->lanes->op[APUS_OP_COPY][i->type](out, from, NULL, NULL, m, 0);
    } else {
      p->lanes->convert[i->type][i->from](out, from, m);
    }
  } else {
    p->lanes->op[i->op][i->type](out, in[0], in[1], in[2], m, scalars);
  }
  s->at[i->dst] = out;
  s->scalar[i->dst] = all_scalar && !direct;
}

// What the next tile reads and writes in place. Between two instructions a share of it is asked for, so that memory works while the
// processor computes; the processor's own prefetching begins only when a tile's first instruction does.
typedef struct {
  int count;
  struct { char *at; int64_t bytes; bool write; } part[APUS_MAX_OPERANDS];
} upcoming;

static upcoming next_tile(const plan *p, int64_t t) {
  upcoming u = {0};
  if (t >= p->tiles) return u;
  int64_t index[APUS_MAX_RANK] = {0}, row = p->merged ? t * p->merged : t / p->pieces, column = p->merged ? 0 : t % p->pieces * p->tile;
  int64_t left = p->merged ? (p->rows - row) * p->inner : p->inner - column, n = left < p->tile ? left : p->tile;
  indices_of(p, row, index);
  for (int k = 0; k < p->program->inputs + p->program->outputs; k++) {
    const operand *o = &p->operands[k];
    bool write = k >= p->program->inputs;
    if (o->kind == SCALAR || o->repeats || (write && !p->direct[k - p->program->inputs]) || !contiguous_in_tile(p, o)) continue;
    char *at = o->kind == DENSE ? o->base + (row * p->inner + column) * o->size : address(p, o, index) + column * o->size;
    u.part[u.count].at = at, u.part[u.count].bytes = n * o->size, u.part[u.count++].write = write;
  }
  return u;
}
static void fetch(const upcoming *u, int first, int last, int shares) {
  for (int k = 0; k < u->count; k++) {
    int64_t from = u->part[k].bytes * first / shares & ~(int64_t)63, to = u->part[k].bytes * last / shares & ~(int64_t)63;
    if (u->part[k].write) for (int64_t i = from; i < to; i += 64) __builtin_prefetch(u->part[k].at + i, 1);
    else for (int64_t i = from; i < to; i += 64) __builtin_prefetch(u->part[k].at + i);
  }
}

static void run_tile(const plan *p, int64_t t, tile_state *s, char *scratch) {
  const apus_program *program = p->program;
  int64_t index[APUS_MAX_RANK] = {0}, row, column = 0, rows = 1, n;
  if (p->merged) {
    row = t * p->merged;
    rows = p->rows - row < p->merged ? p->rows - row : p->merged;
    n = rows * p->inner;
  } else {
    row = t / p->pieces;
    column = t % p->pieces * p->tile;
    n = p->inner - column < p->tile ? p->inner - column : p->tile;
  }
  indices_of(p, row, index);
  int64_t start = row * p->inner + column;
  for (int k = 0; k < program->inputs; k++) load(p, k, s, scratch, index, start, column, rows, n);
  for (int k = 0; k < program->outputs; k++) {
    if (!p->direct[k]) continue;
    const operand *o = &p->operands[program->inputs + k];
    s->at[program->inputs + k] = o->kind == DENSE ? o->base + start * o->size : address(p, o, index) + column * o->size;
    s->scalar[program->inputs + k] = false;
  }
  if (p->fetches) {
    upcoming u = next_tile(p, t + 1);
    for (int64_t k = 0, done = 0; k < program->count; k++) {
      int cost = apus_op_cost(program->code[k].op);
      fetch(&u, (int)done, (int)done + cost, (int)p->cost);
      done += cost;
      execute(p, (int)k, s, scratch, n);
    }
  } else {
    for (int k = 0; k < program->count; k++) execute(p, k, s, scratch, n);
  }
  for (int k = 0; k < program->outputs; k++) store(p, k, s, scratch, index, start, column, rows, n);
}

static void run_task(void *context, int64_t task) {
  const plan *p = context;
  const apus_program *program = p->program;
  char small[2048] __attribute__((aligned(64)));
  char *scratch = p->scratch <= (int64_t)sizeof small ? small : apus_allocate((size_t)p->scratch);
  tile_state state;
  memset(state.kept, 0, sizeof state.kept);
  for (int k = 0; k < program->count; k++) {
    const apus_instruction *i = &program->code[k];
    const uint8_t registers[3] = {i->a, i->b, i->c};
    for (int j = 0; j < apus_op_arity(i->op); j++)
      if (registers[j] == APUS_IMMEDIATE)
        store_constant(scratch + p->constants + k * 8, i, i->op == APUS_OP_CONVERT ? i->from : i->op == APUS_OP_SELECT && j == 0 ? APUS_BOOL : i->type);
  }
  int64_t end = (task + 1) * p->tiles_per_task;
  if (end > p->tiles) end = p->tiles;
  for (int64_t t = task * p->tiles_per_task; t < end; t++) run_tile(p, t, &state, scratch);
  if (scratch != small) apus_deallocate(scratch, (size_t)p->scratch);
}

void apus_tile_run(const apus_program *program) {
  plan p;
  p.program = program;
  p.lanes = apus_current_lanes();
  bool reduces = false, converts = false;
  int64_t cost = 0;
  for (int k = 0; k < program->count; k++) {
    reduces |= is_row_reduction(program->code[k].op);
    converts |= program->code[k].op == APUS_OP_CONVERT;
    cost += apus_op_cost(program->code[k].op);
  }
  int64_t count = simplify(&p, reduces);
  if (count == 0) return;
  classify(&p);
  p.inner = p.dims[p.rank - 1];
  p.rows = count / p.inner;
  p.merged = !reduces && p.rank > 1 && p.inner < MERGE_BELOW ? TILE / p.inner : 0;

  // Registers in scratch: inputs that must be packed or converted, everything written that is not an output in memory.
  int operands = program->inputs + program->outputs;
  bool needs[APUS_MAX_REGISTERS] = {false}, raw = false;
  for (int k = 0; k < operands; k++) {
    const operand *o = &p.operands[k];
    bool in_place = contiguous_in_tile(&p, o) || (k < program->inputs && (o->kind == SCALAR || (!p.merged && o->strides[p.rank - 1] == 0)));
    bool other = apus_compute_type(o->type) != o->type;
    if (k < program->inputs) needs[k] = !in_place || other;
    raw |= !in_place || other;
  }
  for (int k = 0; k < program->outputs; k++) p.direct[k] = may_write_directly(&p, k);
  for (int k = 0; k < program->count; k++) {
    const apus_instruction *i = &program->code[k];
    int output = i->dst - program->inputs;
    if (output < program->outputs) {
      p.final_type[output] = (uint8_t)result_type(i);
      if (p.direct[output]) continue;
    }
    needs[i->dst] = true;
  }
  bool any = raw || converts;
  for (int r = 0; r < APUS_MAX_REGISTERS; r++) any |= needs[r];
  int64_t limit = any ? TILE : DIRECT_TILE;
  p.tile = reduces || p.inner < limit ? p.inner : limit;
  if (p.merged) p.tile = p.merged * p.inner;
  p.pieces = (p.inner + p.tile - 1) / p.tile;
  p.tiles = p.merged ? (p.rows + p.merged - 1) / p.merged : p.rows * p.pieces;
  p.constants = 0;
  int64_t used = (program->count * 8 + 63) & ~(int64_t)63, each = (p.tile * 8 + 63) & ~(int64_t)63;
  for (int r = 0; r < APUS_MAX_REGISTERS; r++) {
    p.offset[r] = needs[r] ? used : -1;
    if (needs[r]) used += each;
  }
  p.cost = cost;
  int64_t bytes = 0;
  for (int k = 0; k < operands; k++) bytes += p.operands[k].kind == SCALAR || p.operands[k].repeats ? 0 : p.operands[k].size;
  p.fetches = count * bytes > FETCH_ABOVE && cost >= 40;
  p.raw = used;
  if (raw || converts) used += each;
  p.scratch = used;

  p.tiles_per_task = TASK / (cost * p.tile) + 1;
  int64_t tasks = (p.tiles + p.tiles_per_task - 1) / p.tiles_per_task;
  if (count * cost > SERIAL) apus_parallel(tasks, run_task, &p);
  else for (int64_t i = 0; i < tasks; i++) run_task(&p, i);
}
