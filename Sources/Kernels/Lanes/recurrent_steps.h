// What the vector code of one instruction set offers to recurrent_sequence.c, for f32 or f64: see recurrent_steps.inc.
#ifndef APUS_RECURRENT_STEPS_H
#define APUS_RECURRENT_STEPS_H
#include "apus_recurrent.h"

// What follows a row's product: n elements of a state, operands in and out.
typedef void (*apus_step)(void *const *out, const void *const *in, int64_t n);

typedef struct {
  struct { apus_step forward, back; } kind[4];  // by apus_recurrent_kind
  // c = start + a · b; rows are so many elements apart; b [k, n] as a product's packed right side.
  void (*product)(void *c, int64_t c_row, const void *start, int64_t start_row, const void *a, int64_t a_row, const void *b,
                  int64_t rows, int64_t n, int64_t k);
} apus_steps;

extern const apus_steps apus_steps_baseline[2];  // f32, f64
#if defined(__x86_64__)
extern const apus_steps apus_steps_avx2[2], apus_steps_avx512[2];
#endif
#endif
