// The thread pool: workers spin briefly for the next job, then sleep.
//
// Each thread has a range of the tasks to begin with, the same for jobs of the same size, so that it finds in its cache what
// it wrote there the last time; when it is through, it takes from the other ranges.
//
// A job is open while its tasks may be taken. A worker joins by adding one to `members`; if the job
// was closed by then it leaves without touching it. The caller takes tasks too, closes the job when
// none is left, and waits only for workers that had joined, never for one that is still asleep.
#define _GNU_SOURCE
#include "apus_base.h"
#include "pause.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAX_THREADS = 256, SPINS = 4000 };
#define CLOSED ((int64_t)1 << 40)

static struct {
  atomic_flag busy;              // one job at a time; others run inline
  apus_task task;
  void *context;
  int parts;                     // ranges in use
  struct { _Atomic int64_t next; int64_t end; char pad[48]; } ranges[MAX_THREADS];
  _Atomic int64_t members;       // joined workers, plus CLOSED between jobs
  _Atomic uint64_t generation;   // jobs so far
  _Atomic int wanted;            // threads, the caller included; 0 = not yet known
  int started;                   // workers that exist; guarded by `busy`
  _Atomic int sleepers;
  pthread_mutex_t lock;
  pthread_cond_t wake;
} pool = {.busy = ATOMIC_FLAG_INIT, .members = CLOSED, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static _Thread_local bool in_task;

void apus_set_inline(bool is_inline) { in_task = is_inline; }

static int available_processors(void) {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  long n = sysconf(_SC_NPROCESSORS_ONLN);
  return n > 0 ? (int)n : 1;
}

int apus_thread_count(void) {
  int n = atomic_load_explicit(&pool.wanted, memory_order_relaxed);
  if (n > 0) return n;
  const char *text = getenv("APUS_NUM_THREADS");
  n = text ? atoi(text) : 0;
  if (n < 1) n = available_processors();
  if (n > MAX_THREADS) n = MAX_THREADS;
  atomic_store_explicit(&pool.wanted, n, memory_order_relaxed);
  return n;
}

void apus_set_thread_count(int n) {
  atomic_store_explicit(&pool.wanted, n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n, memory_order_relaxed);
}

static void take_tasks(apus_task task, void *context, int parts, int own) {
  in_task = true;
  for (int p = 0; p < parts; p++) {
    int range = (own + p) % parts;
    int64_t end = pool.ranges[range].end;
    while (atomic_load_explicit(&pool.ranges[range].next, memory_order_relaxed) < end) {
      int64_t i = atomic_fetch_add_explicit(&pool.ranges[range].next, 1, memory_order_relaxed);
      if (i >= end) break;
      task(context, i);
    }
  }
  in_task = false;
}

static void *worker(void *argument) {
  int id = (int)(intptr_t)argument;
  uint64_t seen = 0;
  for (;;) {
    uint64_t now = atomic_load(&pool.generation);
    for (int spin = 0; now == seen && spin < SPINS; spin++) {
      pause_cpu();
      now = atomic_load_explicit(&pool.generation, memory_order_acquire);
    }
    if (now == seen) {
      pthread_mutex_lock(&pool.lock);
      atomic_fetch_add(&pool.sleepers, 1);
      while ((now = atomic_load(&pool.generation)) == seen) pthread_cond_wait(&pool.wake, &pool.lock);
      atomic_fetch_sub(&pool.sleepers, 1);
      pthread_mutex_unlock(&pool.lock);
    }
    seen = now;
    if (id >= apus_thread_count() - 1) continue;
    if (!(atomic_fetch_add(&pool.members, 1) & CLOSED)) take_tasks(pool.task, pool.context, pool.parts, id + 1);
    atomic_fetch_sub(&pool.members, 1);
  }
  return NULL;
}

static void start_workers(int wanted) {
  while (pool.started < wanted - 1) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int failed = pthread_create(&thread, &attributes, worker, (void *)(intptr_t)pool.started);
    pthread_attr_destroy(&attributes);
    if (failed) break;  // fewer threads: slower, not wrong
    pool.started++;
  }
}

void apus_parallel(int64_t count, apus_task task, void *context) {
  int threads = apus_thread_count();
  if (count <= 1 || threads == 1 || in_task || atomic_flag_test_and_set_explicit(&pool.busy, memory_order_acquire)) {
    for (int64_t i = 0; i < count; i++) task(context, i);
    return;
  }
  if (pool.started < threads - 1) start_workers(threads);
  pool.task = task;
  pool.context = context;
  int parts = count < threads ? (int)count : threads;
  pool.parts = parts;
  for (int p = 0; p < parts; p++) {
    atomic_store_explicit(&pool.ranges[p].next, count * p / parts, memory_order_relaxed);
    pool.ranges[p].end = count * (p + 1) / parts;
  }
  atomic_fetch_and(&pool.members, ~CLOSED);
  atomic_fetch_add(&pool.generation, 1);
  if (atomic_load(&pool.sleepers) > 0) {
    pthread_mutex_lock(&pool.lock);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
  }
  take_tasks(task, context, parts, 0);
  atomic_fetch_or(&pool.members, CLOSED);
  for (int spin = 0; (atomic_load(&pool.members) & (CLOSED - 1)) != 0; spin++) {
    if (spin < SPINS) pause_cpu(); else sched_yield();
  }
  atomic_flag_clear_explicit(&pool.busy, memory_order_release);
}
