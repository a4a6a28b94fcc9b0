// Elementwise work: single operations, conversions, and the tile machine that runs fused programs.
#ifndef APUS_TILE_H
#define APUS_TILE_H
#include "apus_base.h"

#ifdef __cplusplus
extern "C" {
#endif

// Every operation is computed in one type: bool, u8, i8, i16, i32, i64, f32 or f64. float16 and bfloat16
// are loaded as f32 and rounded once, to nearest even, when stored. Integer arithmetic wraps.
// The values are part of the interface: append only, and keep apus_tile_names in step.
typedef enum {
  // One operand.
  APUS_OP_COPY = 0,
  APUS_OP_NEG, APUS_OP_ABS, APUS_OP_SIGN, APUS_OP_SQUARE,  // sign(NaN) is NaN, sign(±0) is ±0
  APUS_OP_FLOOR, APUS_OP_CEIL, APUS_OP_ROUND /* half to even */, APUS_OP_TRUNC,  // integers: the value itself
  APUS_OP_RELU,                                              // max(x, 0); NaN stays NaN
  APUS_OP_NOT,                                               // logical for bool, bitwise for integers
  APUS_OP_IS_NAN, APUS_OP_IS_INF, APUS_OP_IS_FINITE,         // bool result
  APUS_OP_SQRT, APUS_OP_RSQRT, APUS_OP_RECIPROCAL,           // from here on: f32 and f64 only
  APUS_OP_EXP, APUS_OP_EXPM1, APUS_OP_EXP2, APUS_OP_LOG, APUS_OP_LOG1P, APUS_OP_LOG2,
  APUS_OP_SIN, APUS_OP_COS, APUS_OP_TAN, APUS_OP_ASIN, APUS_OP_ACOS, APUS_OP_ATAN,
  APUS_OP_SINH, APUS_OP_COSH, APUS_OP_TANH, APUS_OP_ASINH, APUS_OP_ACOSH, APUS_OP_ATANH,
  APUS_OP_ERF, APUS_OP_ERFC, APUS_OP_ERF_INV, APUS_OP_LGAMMA, APUS_OP_DIGAMMA,
  APUS_OP_SIGMOID, APUS_OP_SOFTPLUS /* log(1 + e^x) */, APUS_OP_SILU, APUS_OP_GELU_ERF, APUS_OP_GELU_TANH,
  // Two operands.
  APUS_OP_ADD, APUS_OP_SUB, APUS_OP_MUL,                     // bool: or, xor, and
  APUS_OP_DIV,        // floats: true division; integers: truncated; x / 0 is 0, lowest / -1 wraps
  APUS_OP_FLOOR_DIV,  // rounded down; integers: x / 0 is 0
  APUS_OP_REM,        // sign of the dividend (C's fmod and %); integers: x % 0 is 0
  APUS_OP_MOD,        // sign of the divisor (Python's %); integers: x % 0 is 0
  APUS_OP_MAX, APUS_OP_MIN,                                  // NaN propagates
  APUS_OP_POW,        // floats: C99's table; integers: wraps, a negative exponent gives 0 unless the base is ±1
  APUS_OP_ATAN2,                                             // floats only
  APUS_OP_AND, APUS_OP_OR, APUS_OP_XOR,                      // bool and integers
  APUS_OP_SHL, APUS_OP_SHR,  // integers; shr keeps the sign; shifts by < 0 or >= width give 0 (or -1)
  APUS_OP_EQ, APUS_OP_NE, APUS_OP_LT, APUS_OP_LE, APUS_OP_GT, APUS_OP_GE,  // bool result; `type` is the operands'
  // Gradients, floats only. a is the incoming gradient.
  APUS_OP_RELU_GRAD,       // b > 0 ? a : 0 (b = input or output)
  APUS_OP_SIGMOID_GRAD,    // a·b·(1 − b)          (b = output)
  APUS_OP_TANH_GRAD,       // a·(1 − b²)           (b = output)
  APUS_OP_SILU_GRAD,       // b = input
  APUS_OP_GELU_ERF_GRAD,   // b = input
  APUS_OP_GELU_TANH_GRAD,  // b = input
  // Three operands.
  APUS_OP_SELECT,  // a (bool) ? b : c
  APUS_OP_FMA,     // a·b + c; floats: rounded once where the processor has a fused multiply-add, else twice
  APUS_OP_CLAMP,   // min(max(a, b), c); NaN propagates
  APUS_OP_LERP,    // a + c·(b − a), floats only
  // In programs only.
  APUS_OP_CONVERT,  // to `type` from `from`; to f16/bf16: rounds to that precision and stays f32
  APUS_OP_ROW_SUM, APUS_OP_ROW_MAX,  // over the innermost dimension, f32/f64; see apus_program
  APUS_OP_COUNT
} apus_op;

int apus_op_arity(int op);         // 1, 2 or 3
const char *apus_op_name(int op);  // "gelu_erf"
// Whether `op` computes on operands of element type `type` (f16 and bf16 answer as f32).
bool apus_tile_supports(int op, int type);
// The element type `op` gives for operands of `type`: bool for comparisons and predicates, else `type`.
int apus_tile_result_type(int op, int type);

// ---- Single operations --------------------------------------------------------------------------
// A view of memory over an iteration shape. `strides` are in BYTES, one per dimension, 0 to broadcast,
// negative allowed; NULL means contiguous in row-major order. Outputs must not be broadcast.
// An output may be exactly an input (same base, strides and element size), else must not overlap one.
typedef struct {
  void *base;
  const int64_t *strides;
  int32_t type;
} apus_view;

// Computed in `type` (f16/bf16: f32); operands and result of another type are converted when loaded and
// stored (SELECT's condition is bool). Empty shapes do nothing; rank 0 is one element; rank <= APUS_MAX_RANK.
void apus_unary(int op, int type, int32_t rank, const int64_t *dims, apus_view out, apus_view a);
void apus_binary(int op, int type, int32_t rank, const int64_t *dims, apus_view out, apus_view a, apus_view b);
void apus_ternary(int op, int type, int32_t rank, const int64_t *dims, apus_view out, apus_view a, apus_view b, apus_view c);
// The shortest way in: `count` contiguous elements, all of `type` (result: apus_tile_result_type); an
// operand whose bit is set in `scalars` (1: a, 2: b, 4: c) is one element that is repeated.
void apus_flat(int op, int type, int64_t count, void *out, const void *a, const void *b, const void *c, int scalars);
// Any element type to any other. Floating point to integer truncates, saturates at the integer type's
// limits, and takes NaN to 0, on every processor; integer to narrower integer wraps; to bool is != 0.
void apus_convert(int32_t rank, const int64_t *dims, apus_view out, apus_view a);
void apus_convert_flat(int64_t count, void *out, int out_type, const void *a, int a_type);

// ---- Programs -----------------------------------------------------------------------------------
// Registers: 0 ..< inputs hold the inputs, the next `outputs` are what is stored at the end, the rest
// (below APUS_MAX_REGISTERS) are free for intermediate values. A register that holds an input of f16 or bf16
// has type f32. An instruction reads registers of its own `type` (SELECT's a: bool; CONVERT's a: `from`)
// and may overwrite its operands. Output registers may be read again; when stored they convert from the
// type of the last instruction that wrote them to the operand's type.
#define APUS_MAX_REGISTERS 48
#define APUS_MAX_OPERANDS 24
#define APUS_IMMEDIATE 255  // as a register number: the instruction's immediate

typedef struct {
  uint8_t op, type, from, dst, a, b, c;  // a, b, c: registers, or APUS_IMMEDIATE
  uint8_t pad;
  union { double real; int64_t integer; } immediate;  // real for f32 and f64, integer for the others
} apus_instruction;

// ROW_SUM / ROW_MAX give one value per row of the innermost dimension, broadcast to the row in later
// instructions. A program that has one keeps the innermost dimension as it is (rows are not merged) and
// needs rows of at most APUS_MAX_ROW elements; apus_program_fits answers whether it does.
#define APUS_MAX_ROW 16384

typedef struct {
  int32_t rank;
  const int64_t *dims;
  int32_t inputs, outputs;
  const apus_view *operands;  // inputs, then outputs
  int32_t count;
  const apus_instruction *code;
} apus_program;

// Whether the machine can run this program (supported operations and types, limits above).
bool apus_program_fits(const apus_program *program);
void apus_tile_run(const apus_program *program);

#ifdef __cplusplus
}
#endif
#endif
