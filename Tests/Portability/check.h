// The kernels checked by a plain C program, so that it runs wherever a C compiler reaches: natively, or under an emulator.
//
// Every family is compared with loops in double (integers: in int64), and its bits at 1, 2, 3 and 8 threads with each
// other. What must be the same bits on every architecture goes into the family's fingerprint as well.
#ifndef APUS_CHECK_H
#define APUS_CHECK_H
#include "CApusKernels.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void check_matmul(void);
void check_convolution(void);
void check_pooling(void);
void check_elementwise(void);
void check_conversions(void);
void check_math(void);
void check_programs(void);
void check_reductions(void);
void check_scans(void);
void check_softmax(void);
void check_normalization(void);
void check_optimizers(void);
void check_movement(void);
void check_indexing(void);
void check_order(void);
void check_random(void);
void check_attention(void);
void check_cells(void);
void check_quantized(void);
void check_threads(void);

// ---- The report ---------------------------------------------------------------------------------
void expect(bool holds, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Adds bytes to the family's fingerprint: the same on every architecture.
void fingerprint(const void *bytes, size_t size);
// The same for floating-point values, all NaN being one: processors differ in the sign and payload they give it.
void fingerprint_floats(int type, const void *values, int64_t count);

// ---- Deterministic inputs -----------------------------------------------------------------------
void seed(uint64_t value);
uint64_t draw(void);
int64_t below(int64_t bound);  // 0 ..< bound
double real(void);             // multiples of 2^-6 in [-2, 2): exact in every floating type

// ---- Elements of any type, by arithmetic independent of the kernels' --------------------------------
static inline bool is_float(int type) { return type >= APUS_F16; }
double get(int type, const void *p, int64_t i);
int64_t get_integer(int type, const void *p, int64_t i);
void put(int type, void *p, int64_t i, double value);  // floats: rounded to nearest even; integers: value is exact
void put_integer(int type, void *p, int64_t i, int64_t value);  // wraps
double rounded(int type, double value);
int64_t wrapped(int type, int64_t value);
double unit(int type);  // half the spacing of values just above one
void *array(int type, int64_t count);     // zeros, 64-byte aligned, freed when the family ends
void *reals(int type, int64_t count);     // filled with real(), or small integers
static inline bool same(double a, double b) { return a == b ? signbit(a) == signbit(b) : a != a && b != b; }
static inline bool close_to(double got, double want, double tolerance) {
  return fabs(got - want) <= tolerance * (1 + fabs(want)) || same(got, want);
}

// Runs `statement` at 1, 2, 3 and 8 threads; `out` must get the same `size` bytes each time.
#define AT_EVERY_THREAD_COUNT(what, out, size, statement)                                     \
  do {                                                                                        \
    size_t size_ = (size_t)(size);                                                            \
    void *before_ = malloc(size_ + 1), *first_ = malloc(size_ + 1);                           \
    memcpy(before_, (out), size_);                                                            \
    static const int counts_[4] = {1, 2, 3, 8};                                               \
    for (int t_ = 0; t_ < 4; t_++) {                                                          \
      memcpy((out), before_, size_);                                                          \
      apus_set_thread_count(counts_[t_]);                                                     \
      statement;                                                                              \
      if (t_ == 0) memcpy(first_, (out), size_);                                              \
      else expect(memcmp(first_, (out), size_) == 0, "%s: other bits with %d threads", what, counts_[t_]); \
    }                                                                                         \
    free(before_);                                                                            \
    free(first_);                                                                             \
  } while (0)
#define LENGTH(a) ((int)(sizeof(a) / sizeof *(a)))
#endif
