// What every kernel shares: element types, processor features, threads, buffers, per-thread state.
#ifndef APUS_BASE_H
#define APUS_BASE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Element types; the values equal ApusIR.ElementType's raw values.
typedef enum {
  APUS_BOOL = 0, APUS_U8 = 1, APUS_I8 = 2, APUS_I16 = 3, APUS_I32 = 4, APUS_I64 = 5,
  APUS_F16 = 6, APUS_BF16 = 7, APUS_F32 = 8, APUS_F64 = 9
} apus_type;

static inline int64_t apus_type_size(int type) {
  static const uint8_t sizes[10] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8};
  return sizes[type];
}

#define APUS_MAX_RANK 8

// ---- Processor features -------------------------------------------------------------------------
// The instruction set whose kernels run. Chosen once from the processor's features; the environment
// variable APUS_ISA (baseline, avx2, avx512) forces a lower one, apus_set_isa does so for tests.
typedef enum { APUS_ISA_BASELINE = 0, APUS_ISA_AVX2 = 1, APUS_ISA_AVX512 = 2, APUS_ISA_NEON = 3 } apus_isa;
apus_isa apus_current_isa(void);
apus_isa apus_best_isa(void);
bool apus_set_isa(apus_isa isa);  // false, and no change, if this processor lacks it
bool apus_has_avx512_bf16(void);  // true only while AVX-512 is the current set
bool apus_has_avx512_vnni(void);
// Whether products of bfloat16 use AVX512-BF16. By default only on AMD: on Intel it is half as fast as widening
// (`apus bench matmul_bf16_1024`, docs/benchmarks.md), and less exact. APUS_BF16_DOT=0 or 1 decides otherwise.
bool apus_use_bf16_dot(void);
void apus_set_bf16_dot(bool use);
void apus_set_avx512_extensions(bool allowed);  // for tests: false as on a processor with AVX-512 but neither BF16 nor VNNI
const char *apus_isa_name(apus_isa isa);

// ---- Threads ------------------------------------------------------------------------------------
// One pool. Work is split by shape alone; a task never depends on which thread runs it, so any thread
// count gives the same bits. Size: APUS_NUM_THREADS, else the processors this process may use.
typedef void (*apus_task)(void *context, int64_t index);
// Runs task(context, i) for every i in 0..<count and returns when all have returned. Called from
// inside a task, or while another thread uses the pool, it runs them here, in order.
void apus_parallel(int64_t count, apus_task task, void *context);
int apus_thread_count(void);
void apus_set_thread_count(int count);  // 1...256
// Whether this thread does the tasks of its jobs by itself, so that others have the pool: for work in the background.
void apus_set_inline(bool is_inline);

// ---- Buffers ------------------------------------------------------------------------------------
// 64-byte aligned memory from a cache of size classes. `size` must be the same in both calls.
void *apus_allocate(size_t size);
void apus_deallocate(void *memory, size_t size);
typedef struct { size_t in_use, peak, cached; } apus_memory_statistics;
apus_memory_statistics apus_memory(void);
void apus_reset_peak_memory(void);
void apus_trim_memory(void);  // gives every cached block back to the system

// ---- Hashes -------------------------------------------------------------------------------------
// Takes `count` blocks of 64 bytes into a state of SHA-256.
void apus_sha256(uint32_t state[8], const void *blocks, size_t count);

// ---- Per-thread state of the tensor room --------------------------------------------------------
typedef struct {
  int32_t recording_disabled;  // depth of withoutGradient
  int32_t anomaly;             // depth of anomaly mode
  int64_t argument_leaves;     // arguments of gradient(at:) so far, see Gradients.swift
  int32_t gradient_depth;      // functions of gradient(at:) that are running
  void *tracer;                // the active tracer (compile, export), unretained
  void *profiler;              // where kernel calls are noted (profile), unretained
  void *release_queue;         // tape nodes that wait for release, see Tape.swift
  void *running;               // the module whose call is running, for messages, unretained
} apus_thread_state;
extern _Thread_local apus_thread_state apus_thread_state_storage;
static inline apus_thread_state *apus_thread(void) { return &apus_thread_state_storage; }

// ---- What this machine can do: the yardsticks of `apus bench peak` ------------------------------
// float32 multiply-adds, each 2 operations: the best of many rounds of some 10 ms, and (where it is wanted) their median.
double apus_measure_fma_gflops(int threads, double seconds, double *median);
double apus_measure_read_gbps(int threads, size_t bytes, double seconds);    // bytes read and summed, 10^9 per second
double apus_measure_copy_gbps(int threads, size_t bytes, double seconds);    // bytes read plus bytes written, 10^9 per second

#ifdef __cplusplus
}
#endif
#endif
