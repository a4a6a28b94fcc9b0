// Single elementwise operations: what is supported, and the shortest way to a kernel.
#include "lanes.h"
#include "tile.h"

static const struct { const char *name; uint8_t arity; } info[APUS_OP_COUNT] = {
#define OP1(OP, name) [APUS_OP_##OP] = {name, 1},
#define OP2(OP, name) [APUS_OP_##OP] = {name, 2},
#define OP3(OP, name) [APUS_OP_##OP] = {name, 3},
  OP1(COPY, "copy") OP1(NEG, "neg") OP1(ABS, "abs") OP1(SIGN, "sign") OP1(SQUARE, "square") OP1(FLOOR, "floor") OP1(CEIL, "ceil")
  OP1(ROUND, "round") OP1(TRUNC, "trunc") OP1(RELU, "relu") OP1(NOT, "not") OP1(IS_NAN, "is_nan") OP1(IS_INF, "is_inf")
  OP1(IS_FINITE, "is_finite") OP1(SQRT, "sqrt") OP1(RSQRT, "rsqrt") OP1(RECIPROCAL, "reciprocal") OP1(EXP, "exp")
  OP1(EXPM1, "expm1") OP1(EXP2, "exp2") OP1(LOG, "log") OP1(LOG1P, "log1p") OP1(LOG2, "log2") OP1(SIN, "sin") OP1(COS, "cos")
  OP1(TAN, "tan") OP1(ASIN, "asin") OP1(ACOS, "acos") OP1(ATAN, "atan") OP1(SINH, "sinh") OP1(COSH, "cosh") OP1(TANH, "tanh")
  OP1(ASINH, "asinh") OP1(ACOSH, "acosh") OP1(ATANH, "atanh") OP1(ERF, "erf") OP1(ERFC, "erfc") OP1(ERF_INV, "erf_inv")
  OP1(LGAMMA, "lgamma") OP1(DIGAMMA, "digamma") OP1(SIGMOID, "sigmoid") OP1(SOFTPLUS, "softplus") OP1(SILU, "silu")
  OP1(GELU_ERF, "gelu_erf") OP1(GELU_TANH, "gelu_tanh")
  OP2(ADD, "add") OP2(SUB, "sub") OP2(MUL, "mul") OP2(DIV, "div") OP2(FLOOR_DIV, "floor_div") OP2(REM, "rem") OP2(MOD, "mod")
  OP2(MAX, "max") OP2(MIN, "min") OP2(POW, "pow") OP2(ATAN2, "atan2") OP2(AND, "and") OP2(OR, "or") OP2(XOR, "xor")
  OP2(SHL, "shl") OP2(SHR, "shr") OP2(EQ, "eq") OP2(NE, "ne") OP2(LT, "lt") OP2(LE, "le") OP2(GT, "gt") OP2(GE, "ge")
  OP2(RELU_GRAD, "relu_grad") OP2(SIGMOID_GRAD, "sigmoid_grad") OP2(TANH_GRAD, "tanh_grad") OP2(SILU_GRAD, "silu_grad")
  OP2(GELU_ERF_GRAD, "gelu_erf_grad") OP2(GELU_TANH_GRAD, "gelu_tanh_grad")
  OP3(SELECT, "select") OP3(FMA, "fma") OP3(CLAMP, "clamp") OP3(LERP, "lerp")
  OP1(CONVERT, "convert") OP1(ROW_SUM, "row_sum") OP1(ROW_MAX, "row_max")
};

int apus_op_arity(int op) { return info[op].arity; }
const char *apus_op_name(int op) { return info[op].name; }

bool apus_tile_supports(int op, int type) {
  if (op < 0 || op >= APUS_OP_COUNT || type < 0 || type > APUS_F64) return false;
  if (op == APUS_OP_CONVERT) return true;
  type = apus_compute_type(type);
  if (op == APUS_OP_ROW_SUM || op == APUS_OP_ROW_MAX) return type >= APUS_F32;
  return apus_current_lanes()->op[op][type] != NULL;
}

bool apus_op_is_predicate(int op) {
  return (op >= APUS_OP_IS_NAN && op <= APUS_OP_IS_FINITE) || (op >= APUS_OP_EQ && op <= APUS_OP_GE);
}
int apus_tile_result_type(int op, int type) { return apus_op_is_predicate(op) ? APUS_BOOL : type; }

// About how many nanoseconds one core needs for 64 elements: only what decides about threads.
int apus_op_cost(int op) {
  if (op < APUS_OP_SQRT || (op >= APUS_OP_ADD && op <= APUS_OP_DIV)) return 8;
  if (op == APUS_OP_POW || op == APUS_OP_ATAN2 || (op >= APUS_OP_FLOOR_DIV && op <= APUS_OP_MOD)) return 256;
  if (op >= APUS_OP_TAN && op <= APUS_OP_ATANH && op != APUS_OP_TANH) return 256;
  if (op >= APUS_OP_ERFC && op <= APUS_OP_DIGAMMA) return 1024;
  if (op >= APUS_OP_EXP && op <= APUS_OP_GELU_TANH) return 40;
  if (op >= APUS_OP_SIGMOID_GRAD && op <= APUS_OP_GELU_TANH_GRAD) return 40;
  return 8;
}

// ---- Flat ---------------------------------------------------------------------------------------
enum { CHUNK = 32768, SERIAL = 1 << 18 };  // elements per task; 64ths of a nanosecond below which threads do not pay

typedef struct {
  apus_kernel kernel;
  char *out;
  const char *a, *b, *c;
  int64_t count, chunk;
  int out_size, size, a_size, scalars, type;
  apus_converter widen, narrow;  // f16, bf16
} flat_job;

static void flat_task(void *context, int64_t index) {
  const flat_job *j = context;
  int64_t start = index * j->chunk, n = j->count - start < j->chunk ? j->count - start : j->chunk;
  j->kernel(j->out + start * j->out_size, j->scalars & 1 ? j->a : j->a + start * j->a_size,
            !j->b || (j->scalars & 2) ? j->b : j->b + start * j->size, !j->c || (j->scalars & 4) ? j->c : j->c + start * j->size,
            n, j->scalars);
}

// f16 and bf16: pieces are converted to f32 beside the loop and back.
static void half_task(void *context, int64_t index) {
  const flat_job *j = context;
  enum { PIECE = 512 };
  float x[4][PIECE] __attribute__((aligned(64)));
  int64_t start = index * j->chunk, end = j->count - start < j->chunk ? j->count : start + j->chunk;
  const char *sources[3] = {j->a, j->b, j->c};
  const void *operands[3] = {x[0], j->b ? x[1] : NULL, j->c ? x[2] : NULL};
  bool condition = j->a_size == 1;
  for (int k = 0; k < 3; k++)
    if (sources[k] && (j->scalars >> k & 1) && !(k == 0 && condition)) j->widen(x[k], sources[k], 1);
  for (int64_t i = start; i < end; i += PIECE) {
    int64_t n = end - i < PIECE ? end - i : PIECE;
    for (int k = 0; k < 3; k++) {
      if (!sources[k]) continue;
      if (k == 0 && condition) operands[0] = j->scalars & 1 ? j->a : j->a + i;
      else if (!(j->scalars >> k & 1)) j->widen(x[k], sources[k] + i * 2, n);
    }
    if (j->narrow) {
      j->kernel(x[3], operands[0], operands[1], operands[2], n, j->scalars);
      j->narrow(j->out + i * 2, x[3], n);
    } else {
      j->kernel(j->out + i, operands[0], operands[1], operands[2], n, j->scalars);
    }
  }
}

void apus_flat(int op, int type, int64_t count, void *out, const void *a, const void *b, const void *c, int scalars) {
  const apus_lanes *lanes = apus_current_lanes();
  if (type != APUS_F16 && type != APUS_BF16) {
    apus_kernel kernel = lanes->op[op][type];
    if (count * 8 <= SERIAL / 64 || count * apus_op_cost(op) <= SERIAL) {
      if (count > 0) kernel(out, a, b, c, count, scalars);
      return;
    }
    int size = (int)apus_type_size(type);
    flat_job job = {kernel, out, a, b, c, count, CHUNK / (apus_op_cost(op) >= 40 ? 4 : 1), apus_op_is_predicate(op) ? 1 : size, size,
                    op == APUS_OP_SELECT ? 1 : size, scalars, type, NULL, NULL};
    apus_parallel((count + job.chunk - 1) / job.chunk, flat_task, &job);
    return;
  }
  if (op == APUS_OP_COPY) {
    apus_flat(APUS_OP_COPY, APUS_I16, count, out, a, NULL, NULL, scalars);
    return;
  }
  bool predicate = apus_op_is_predicate(op);
  flat_job job = {lanes->op[op][APUS_F32], out, a, b, c, count, CHUNK / 4, predicate ? 1 : 2, 2, op == APUS_OP_SELECT ? 1 : 2, scalars, type,
                  lanes->convert[APUS_F32][type], predicate ? NULL : lanes->convert[type][APUS_F32]};
  int64_t tasks = (count + job.chunk - 1) / job.chunk;
  if (count * apus_op_cost(op) > SERIAL) apus_parallel(tasks, half_task, &job);
  else for (int64_t i = 0; i < tasks; i++) half_task(&job, i);
}

typedef struct { apus_converter convert; char *out; const char *a; int64_t count, out_size, size; } convert_job;
static void convert_task(void *context, int64_t index) {
  const convert_job *j = context;
  int64_t start = index * CHUNK, n = j->count - start < CHUNK ? j->count - start : CHUNK;
  j->convert(j->out + start * j->out_size, j->a + start * j->size, n);
}
void apus_convert_flat(int64_t count, void *out, int out_type, const void *a, int a_type) {
  if (out_type == a_type) {
    apus_flat(APUS_OP_COPY, a_type, count, out, a, NULL, NULL, 0);
    return;
  }
  convert_job job = {apus_current_lanes()->convert[out_type][a_type], out, a, count, apus_type_size(out_type), apus_type_size(a_type)};
  int64_t tasks = (count + CHUNK - 1) / CHUNK;
  if (count * 8 > SERIAL) apus_parallel(tasks, convert_task, &job);
  else for (int64_t i = 0; i < tasks; i++) convert_task(&job, i);
}

// ---- Any strides, any types ---------------------------------------------------------------------
// 1: contiguous; 0: one element for all; -1: neither.
static int flat_access(int32_t rank, const int64_t *dims, apus_view v) {
  if (!v.strides) return 1;
  bool dense = true, scalar = true;
  int64_t expected = apus_type_size(v.type);
  for (int d = rank - 1; d >= 0; d--) {
    if (dims[d] == 1) continue;
    dense &= v.strides[d] == expected;
    scalar &= v.strides[d] == 0;
    expected *= dims[d];
  }
  return dense ? 1 : scalar ? 0 : -1;
}

static void single(int op, int type, int32_t rank, const int64_t *dims, apus_view out, const apus_view *operands, int arity) {
  if (op == APUS_OP_COPY) {
    apus_convert(rank, dims, out, operands[0]);
    return;
  }
  int result = apus_tile_result_type(op, type);
  bool flat = out.type == result && flat_access(rank, dims, out) == 1;
  int scalars = 0;
  for (int k = 0; k < arity && flat; k++) {
    int access = flat_access(rank, dims, operands[k]);
    flat = access >= 0 && operands[k].type == (k == 0 && op == APUS_OP_SELECT ? APUS_BOOL : type);
    if (access == 0) scalars |= 1 << k;
  }
  if (flat) {
    int64_t count = 1;
    for (int i = 0; i < rank; i++) count *= dims[i];
    apus_flat(op, type, count, out.base, operands[0].base, arity > 1 ? operands[1].base : NULL, arity > 2 ? operands[2].base : NULL, scalars);
    return;
  }
  // A program: conversions into temporaries where an operand's type differs, then the operation.
  int compute = apus_compute_type(type);
  apus_instruction code[4] = {0};
  apus_view views[4];
  uint8_t registers[3] = {0, 0, 0};
  int count = 0;
  for (int k = 0; k < arity; k++) {
    views[k] = operands[k];
    registers[k] = (uint8_t)k;
    int wanted = k == 0 && op == APUS_OP_SELECT ? APUS_BOOL : compute;
    int held = apus_compute_type(operands[k].type);
    if (held != wanted) {
      registers[k] = (uint8_t)(arity + 1 + k);
      code[count++] = (apus_instruction){.op = APUS_OP_CONVERT, .type = (uint8_t)wanted, .from = (uint8_t)held, .dst = registers[k], .a = (uint8_t)k};
    }
  }
  views[arity] = out;
  code[count++] = (apus_instruction){.op = (uint8_t)op, .type = (uint8_t)compute, .dst = (uint8_t)arity, .a = registers[0], .b = registers[1], .c = registers[2]};
  apus_tile_run(&(apus_program){rank, dims, arity, 1, views, count, code});
}

void apus_unary(int op, int type, int32_t rank, const int64_t *dims, apus_view out, apus_view a) { single(op, type, rank, dims, out, &a, 1); }
void apus_binary(int op, int type, int32_t rank, const int64_t *dims, apus_view out, apus_view a, apus_view b) {
  apus_view operands[2] = {a, b};
  single(op, type, rank, dims, out, operands, 2);
}
void apus_ternary(int op, int type, int32_t rank, const int64_t *dims, apus_view out, apus_view a, apus_view b, apus_view c) {
  apus_view operands[3] = {a, b, c};
  single(op, type, rank, dims, out, operands, 3);
}
void apus_convert(int32_t rank, const int64_t *dims, apus_view out, apus_view a) {
  if (!out.strides && !a.strides) {
    int64_t count = 1;
    for (int i = 0; i < rank; i++) count *= dims[i];
    apus_convert_flat(count, out.base, out.type, a.base, a.type);
    return;
  }
  // A copy moves bits. What is stored as 16 bits is converted by the store, so that it is rounded once.
  int held = apus_compute_type(a.type), wanted = apus_compute_type(out.type);
  bool copy = a.type == out.type || wanted != out.type || held == wanted;
  if (a.type == out.type && held != a.type) held = a.type = out.type = APUS_I16;
  apus_instruction code = {.op = copy ? APUS_OP_COPY : APUS_OP_CONVERT, .type = (uint8_t)(copy ? held : wanted), .from = (uint8_t)held, .dst = 1};
  apus_view views[2] = {a, out};
  apus_tile_run(&(apus_program){rank, dims, 1, 1, views, 1, &code});
}
