// What this machine can do: multiply-add rate and copy bandwidth, the best of many short rounds.
#define _GNU_SOURCE
#include "apus_base.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Sums enough to hide the latency of a multiply-add on every port, few enough to stay in registers.
#define FMA_LOOP(name, lanes, sums, step)                                           \
  static float name(int64_t n, float factor, float term) {                         \
    typedef float vec __attribute__((ext_vector_type(lanes)));                      \
    vec x[sums], m = (vec)(factor), c = (vec)(term);                                \
    for (int i = 0; i < sums; i++) x[i] = (vec)((float)i);                          \
    for (int64_t p = 0; p < n; p++)                                                 \
      _Pragma("clang loop unroll(full)") for (int i = 0; i < sums; i++) x[i] = step; \
    vec total = x[0];                                                               \
    for (int i = 1; i < sums; i++) total += x[i];                                   \
    return total[0];                                                                \
  }
#define FUSED_STEP __builtin_elementwise_fma(x[i], m, c)

enum { SUMS_X86 = 12, SUMS_NEON = 24 };
#if defined(__aarch64__)
FMA_LOOP(fma_loop_neon, 4, SUMS_NEON, FUSED_STEP)
#else
FMA_LOOP(fma_loop_baseline, 4, SUMS_X86, x[i] * m + c)
#endif
#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
FMA_LOOP(fma_loop_avx2, 8, SUMS_X86, FUSED_STEP)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx2,fma"))), apply_to = function)
FMA_LOOP(fma_loop_avx512, 16, SUMS_X86, FUSED_STEP)
#pragma clang attribute pop
#endif

typedef struct { float (*loop)(int64_t, float, float); int64_t n; } fma_context;
static volatile float factor = 0.5f, term = 1, sink;

static void fma_task(void *context, int64_t index) {
  const fma_context *c = context;
  (void)index;
  sink = c->loop(c->n, factor, term);
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

double apus_measure_fma_gflops(int threads, double seconds, double *median) {
  fma_context c = {.n = 1000};
  double operations = 2;  // per turn of the loop and thread
  switch (apus_current_isa()) {
#if defined(__aarch64__)
  case APUS_ISA_BASELINE: case APUS_ISA_AVX2: case APUS_ISA_AVX512: case APUS_ISA_NEON:
    c.loop = fma_loop_neon, operations *= 4 * SUMS_NEON; break;
#else
#if defined(__x86_64__)
  case APUS_ISA_AVX2: c.loop = fma_loop_avx2, operations *= 8 * SUMS_X86; break;
  case APUS_ISA_AVX512: c.loop = fma_loop_avx512, operations *= 16 * SUMS_X86; break;
#else
  case APUS_ISA_AVX2: case APUS_ISA_AVX512:
#endif
  case APUS_ISA_BASELINE: case APUS_ISA_NEON: c.loop = fma_loop_baseline, operations *= 4 * SUMS_X86; break;
#endif
  }
  int before = apus_thread_count();
  apus_set_thread_count(threads);
  enum { ROUNDS = 4096 };
  double rates[ROUNDS], best = 0, end = now() + seconds;
  int rounds = 0;
  do {
    double start = now();
    apus_parallel(threads, fma_task, &c);
    double time = now() - start;
    // A round must be long beside the waking of a thread.
    if (time < 0.01) { c.n *= 2; continue; }
    double rate = operations * (double)c.n * threads / time;
    if (rate > best) best = rate;
    if (rounds < ROUNDS) rates[rounds++] = rate;
  } while (best == 0 || now() < end);
  qsort(rates, (size_t)rounds, sizeof *rates, by_size);
  if (median) *median = rates[rounds / 2] * 1e-9;
  apus_set_thread_count(before);
  return best * 1e-9;
}

typedef struct { char *to; const char *from; size_t bytes; int threads; } copy_context;

static void copy_task(void *context, int64_t index) {
  const copy_context *c = context;
  size_t first = c->bytes / (size_t)c->threads * (size_t)index;
  size_t last = index == c->threads - 1 ? c->bytes : c->bytes / (size_t)c->threads * (size_t)(index + 1);
  memcpy(c->to + first, c->from + first, last - first);
}

double apus_measure_copy_gbps(int threads, size_t bytes, double seconds) {
  int before = apus_thread_count();
  apus_set_thread_count(threads);
  char *from = apus_allocate(bytes), *to = apus_allocate(bytes);
  memset(from, 1, bytes);
  memset(to, 2, bytes);
  copy_context c = {to, from, bytes, threads};
  double best = 0, end = now() + seconds;
  do {
    double start = now();
    apus_parallel(threads, copy_task, &c);
    double time = now() - start;
    if (time > 0 && 2 * (double)bytes / time > best) best = 2 * (double)bytes / time;
  } while (now() < end);
  apus_deallocate(to, bytes);
  apus_deallocate(from, bytes);
  apus_set_thread_count(before);
  return best * 1e-9;
}

typedef struct { const uint64_t *from; size_t count; int threads; _Atomic uint64_t sum; } read_context;

static void read_task(void *context, int64_t index) {
  read_context *c = context;
  size_t share = c->count / (size_t)c->threads & ~(size_t)31;
  const uint64_t *p = c->from + share * (size_t)index;
  uint64_t sums[32] = {0}, total = 0;
  for (size_t i = 0; i < share; i += 32)
    for (int j = 0; j < 32; j++) sums[j] += p[i + (size_t)j];
  for (int j = 0; j < 32; j++) total += sums[j];
  c->sum += total;  // so that the loop is not left out
}

double apus_measure_read_gbps(int threads, size_t bytes, double seconds) {
  int before = apus_thread_count();
  apus_set_thread_count(threads);
  char *from = apus_allocate(bytes);
  memset(from, 1, bytes);
  read_context c = {(const uint64_t *)from, bytes / 8, threads, 0};
  double best = 0, end = now() + seconds;
  do {
    double start = now();
    apus_parallel(threads, read_task, &c);
    double time = now() - start;
    if (time > 0 && (double)bytes / time > best) best = (double)bytes / time;
  } while (now() < end);
  apus_deallocate(from, bytes);
  apus_set_thread_count(before);
  return best * 1e-9;
}
