// How an update meets the value already there, for every type and kind.
#ifndef APUS_SCATTER_OPS_H
#define APUS_SCATTER_OPS_H
#include "apus_indexing.h"
#include "half.h"

// v, u: value and update, already in the computing type; NaN in either wins in MIN and MAX (x != x is never so for integers).
#define APUS_OP_SET(v, u) (u)
#define APUS_OP_ADD(v, u) ((v) + (u))
#define APUS_OP_MULTIPLY(v, u) ((v) * (u))
#define APUS_OP_MIN(v, u) ((v) != (v) ? (v) : (u) < (v) || (u) != (u) ? (u) : (v))
#define APUS_OP_MAX(v, u) ((v) != (v) ? (v) : (u) > (v) || (u) != (u) ? (u) : (v))
#define APUS_OP_OR(v, u) (((v) | (u)) != 0)
#define APUS_OP_AND(v, u) ((v) != 0 && (u) != 0)

#define APUS_SAME(x) (x)

// X(name, storage, computing type, load, store, operation) for every combination; integers wrap, so they compute unsigned
// in the sums and products. float16 and bfloat16 sums and products have paths of their own, which keep float32.
#define APUS_SET_CASES(X)                                                        \
  X(set_1, uint8_t, uint8_t, APUS_SAME, APUS_SAME, APUS_OP_SET)                  \
  X(set_2, uint16_t, uint16_t, APUS_SAME, APUS_SAME, APUS_OP_SET)                \
  X(set_4, uint32_t, uint32_t, APUS_SAME, APUS_SAME, APUS_OP_SET)                \
  X(set_8, uint64_t, uint64_t, APUS_SAME, APUS_SAME, APUS_OP_SET)
#define APUS_ORDER_CASES(X, name, T, C, LOAD, STORE)                             \
  X(min_##name, T, C, LOAD, STORE, APUS_OP_MIN)                                  \
  X(max_##name, T, C, LOAD, STORE, APUS_OP_MAX)
#define APUS_SUM_CASES(X, name, T, C)                                            \
  X(add_##name, T, C, APUS_SAME, APUS_SAME, APUS_OP_ADD)                         \
  X(multiply_##name, T, C, APUS_SAME, APUS_SAME, APUS_OP_MULTIPLY)
#define APUS_PUT_CASES(X)                                                        \
  APUS_SET_CASES(X)                                                              \
  X(or_bool, uint8_t, uint8_t, APUS_SAME, APUS_SAME, APUS_OP_OR)                 \
  X(and_bool, uint8_t, uint8_t, APUS_SAME, APUS_SAME, APUS_OP_AND)               \
  APUS_SUM_CASES(X, 1, uint8_t, uint32_t)                                        \
  APUS_SUM_CASES(X, 2, uint16_t, uint32_t)                                       \
  APUS_SUM_CASES(X, 4, uint32_t, uint32_t)                                       \
  APUS_SUM_CASES(X, 8, uint64_t, uint64_t)                                       \
  APUS_SUM_CASES(X, f32, float, float)                                           \
  APUS_SUM_CASES(X, f64, double, double)                                         \
  APUS_ORDER_CASES(X, u8, uint8_t, uint8_t, APUS_SAME, APUS_SAME)                \
  APUS_ORDER_CASES(X, i8, int8_t, int8_t, APUS_SAME, APUS_SAME)                  \
  APUS_ORDER_CASES(X, i16, int16_t, int16_t, APUS_SAME, APUS_SAME)               \
  APUS_ORDER_CASES(X, i32, int32_t, int32_t, APUS_SAME, APUS_SAME)               \
  APUS_ORDER_CASES(X, i64, int64_t, int64_t, APUS_SAME, APUS_SAME)               \
  APUS_ORDER_CASES(X, f16, uint16_t, float, apus_float_of_f16, apus_f16_of_float) \
  APUS_ORDER_CASES(X, bf16, uint16_t, float, apus_float_of_bf16, apus_bf16_of_float) \
  APUS_ORDER_CASES(X, f32, float, float, APUS_SAME, APUS_SAME)                   \
  APUS_ORDER_CASES(X, f64, double, double, APUS_SAME, APUS_SAME)

// The entries of a table of functions named PREFIX_<case>, by kind and type; NULL where float32 is kept (float16 and
// bfloat16 sums and products).
#define APUS_PUT_TABLE(P)                                                                                          \
  {                                                                                                                \
    {P##_set_1, P##_set_1, P##_set_1, P##_set_2, P##_set_4, P##_set_8, P##_set_2, P##_set_2, P##_set_4, P##_set_8}, \
    {P##_or_bool, P##_add_1, P##_add_1, P##_add_2, P##_add_4, P##_add_8, NULL, NULL, P##_add_f32, P##_add_f64},    \
    {P##_and_bool, P##_multiply_1, P##_multiply_1, P##_multiply_2, P##_multiply_4, P##_multiply_8, NULL, NULL,     \
     P##_multiply_f32, P##_multiply_f64},                                                                          \
    {P##_and_bool, P##_min_u8, P##_min_i8, P##_min_i16, P##_min_i32, P##_min_i64, P##_min_f16, P##_min_bf16,       \
     P##_min_f32, P##_min_f64},                                                                                    \
    {P##_or_bool, P##_max_u8, P##_max_i8, P##_max_i16, P##_max_i32, P##_max_i64, P##_max_f16, P##_max_bf16,        \
     P##_max_f32, P##_max_f64},                                                                                    \
  }

static inline float apus_load_half(const char *at, int type) {
  uint16_t h;
  __builtin_memcpy(&h, at, 2);
  return type == APUS_F16 ? apus_float_of_f16(h) : apus_float_of_bf16(h);
}

static inline void apus_store_half(char *at, int type, float x) {
  uint16_t h = type == APUS_F16 ? apus_f16_of_float(x) : apus_bf16_of_float(x);
  __builtin_memcpy(at, &h, 2);
}

#endif
