// Which instruction set's kernels run: the processor's best, unless the environment asks for less.
#include "apus_base.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

_Thread_local apus_thread_state apus_thread_state_storage;

static _Atomic int current = -1;
static _Atomic bool extensions = true;

#if defined(__x86_64__)
static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static bool has_avx512(void) {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

apus_isa apus_best_isa(void) {
#if defined(__aarch64__)
  return APUS_ISA_NEON;
#elif defined(__x86_64__)
  return has_avx512() ? APUS_ISA_AVX512 : has_avx2() ? APUS_ISA_AVX2 : APUS_ISA_BASELINE;
#else
  return APUS_ISA_BASELINE;
#endif
}

bool apus_set_isa(apus_isa isa) {
  apus_isa best = apus_best_isa();
  bool fits = best == APUS_ISA_NEON ? isa == APUS_ISA_NEON : isa <= best;
  if (fits) atomic_store_explicit(&current, (int)isa, memory_order_relaxed);
  return fits;
}

apus_isa apus_current_isa(void) {
  int isa = atomic_load_explicit(&current, memory_order_relaxed);
  if (isa >= 0) return (apus_isa)isa;
  apus_isa chosen = apus_best_isa();
  const char *forced = getenv("APUS_ISA");
  if (forced && chosen != APUS_ISA_NEON) {
    for (int i = 0; i <= (int)chosen; i++)
      if (strcmp(forced, apus_isa_name((apus_isa)i)) == 0) chosen = (apus_isa)i;
  }
  atomic_store_explicit(&current, (int)chosen, memory_order_relaxed);
  return chosen;
}

void apus_set_avx512_extensions(bool allowed) { atomic_store_explicit(&extensions, allowed, memory_order_relaxed); }

#if defined(__x86_64__)
static bool may_extend(void) {
  return apus_current_isa() == APUS_ISA_AVX512 && atomic_load_explicit(&extensions, memory_order_relaxed);
}
#endif

bool apus_has_avx512_bf16(void) {
#if defined(__x86_64__)
  return may_extend() && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

static _Atomic int bf16_dot = -1;

bool apus_use_bf16_dot(void) {
#if defined(__x86_64__)
  if (!apus_has_avx512_bf16()) return false;
  int use = atomic_load_explicit(&bf16_dot, memory_order_relaxed);
  if (use >= 0) return use;
  const char *text = getenv("APUS_BF16_DOT");
  use = text ? atoi(text) != 0 : __builtin_cpu_is("amd") != 0;
  atomic_store_explicit(&bf16_dot, use, memory_order_relaxed);
  return use;
#else
  return false;
#endif
}

void apus_set_bf16_dot(bool use) { atomic_store_explicit(&bf16_dot, use, memory_order_relaxed); }

bool apus_has_avx512_vnni(void) {
#if defined(__x86_64__)
  return may_extend() && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

const char *apus_isa_name(apus_isa isa) {
  static const char *const names[] = {"baseline", "avx2", "avx512", "neon"};
  return names[isa];
}
