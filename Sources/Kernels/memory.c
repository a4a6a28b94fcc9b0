// Buffers: a cache of size classes. Large blocks are mapped by themselves, so that trimming returns them.
#define _GNU_SOURCE
#include "apus_base.h"
#include "pause.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

// Classes: multiples of 64 up to 1 KiB, then eight steps per power of two (at most 12.5 % is lost).
enum { SMALL = 1024, SMALL_CLASSES = SMALL / 64, STEPS = 8, CLASSES = SMALL_CLASSES + STEPS * 40 };
static const size_t MAPPED = (size_t)1 << 20;  // from here on blocks are mapped
static const size_t HUGE = (size_t)2 << 20;    // a huge page
static const size_t SLACK = (size_t)32 << 20;  // may always be cached

typedef struct block { struct block *next; } block;
typedef struct { atomic_flag lock; block *first; char pad[48]; } free_list;

static free_list lists[CLASSES];
static _Atomic size_t in_use, peak, cached;

static inline void lock_list(free_list *list) {
  while (atomic_flag_test_and_set_explicit(&list->lock, memory_order_acquire)) pause_cpu();
}
static inline void unlock_list(free_list *list) { atomic_flag_clear_explicit(&list->lock, memory_order_release); }

static inline int class_of(size_t size, size_t *rounded) {
  if (size <= SMALL) {
    int c = size == 0 ? 0 : (int)((size - 1) / 64);
    *rounded = ((size_t)c + 1) * 64;
    return c;
  }
  int top = 63 - __builtin_clzll((unsigned long long)(size - 1));  // 2^top <= size - 1 < 2^(top + 1)
  size_t step = ((size_t)1 << top) / STEPS;
  size_t k = (size - 1 - ((size_t)1 << top)) / step;  // 0...7
  *rounded = ((size_t)1 << top) + (k + 1) * step;
  return SMALL_CLASSES + (top - 10) * STEPS + (int)k;
}

static void *obtain(size_t rounded) {
  if (rounded >= MAPPED) {
    // From where a huge page can begin: the kernel aligns only what is a multiple of one.
    size_t extra = rounded >= HUGE ? HUGE : 0;
    char *p = mmap(NULL, rounded + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    if (extra) {
      size_t before = -(uintptr_t)p & (HUGE - 1);
      if (before) munmap(p, before);
      if (before < extra) munmap(p + before + rounded, extra - before);
      p += before;
    }
#ifdef MADV_HUGEPAGE
    madvise(p, rounded, MADV_HUGEPAGE);  // fewer page faults; a refusal does no harm
#endif
    return p;
  }
  void *p = NULL;
  return posix_memalign(&p, 64, rounded) == 0 ? p : NULL;
}

static void surrender(void *p, size_t rounded) {
  if (rounded >= MAPPED) munmap(p, rounded); else free(p);
}

void apus_trim_memory(void) {
  for (int c = 0; c < CLASSES; c++) {
    size_t rounded = c < SMALL_CLASSES ? ((size_t)c + 1) * 64
        : ((size_t)1 << (10 + (c - SMALL_CLASSES) / STEPS)) / STEPS * (STEPS + 1 + (size_t)(c - SMALL_CLASSES) % STEPS);
    lock_list(&lists[c]);
    block *b = lists[c].first;
    lists[c].first = NULL;
    unlock_list(&lists[c]);
    while (b) {
      block *next = b->next;
      surrender(b, rounded);
      atomic_fetch_sub_explicit(&cached, rounded, memory_order_relaxed);
      b = next;
    }
  }
#if defined(__GLIBC__)
  malloc_trim(0);  // small blocks come from malloc, which keeps what is given back to it
#endif
}

void *apus_allocate(size_t size) {
  size_t rounded;
  int c = class_of(size, &rounded);
  free_list *list = &lists[c];
  lock_list(list);
  block *b = list->first;
  if (b) list->first = b->next;
  unlock_list(list);
  if (b) {
    atomic_fetch_sub_explicit(&cached, rounded, memory_order_relaxed);
  } else {
    b = obtain(rounded);
    if (!b) {
      apus_trim_memory();
      b = obtain(rounded);
      if (!b) abort();
    }
  }
  size_t now = atomic_fetch_add_explicit(&in_use, rounded, memory_order_relaxed) + rounded;
  size_t old = atomic_load_explicit(&peak, memory_order_relaxed);
  while (now > old && !atomic_compare_exchange_weak_explicit(&peak, &old, now, memory_order_relaxed, memory_order_relaxed)) {}
  return b;
}

void apus_deallocate(void *memory, size_t size) {
  size_t rounded;
  int c = class_of(size, &rounded);
  atomic_fetch_sub_explicit(&in_use, rounded, memory_order_relaxed);
  // All memory held is bounded by what the program has needed at once, with room for sizes that do not fit each other:
  // a change of shapes does not double its memory, and a step that repeats finds every block it gave back.
  size_t held = atomic_load_explicit(&cached, memory_order_relaxed) + atomic_load_explicit(&in_use, memory_order_relaxed);
  size_t most = atomic_load_explicit(&peak, memory_order_relaxed);
  if (rounded >= MAPPED && held + rounded > most + most / 2 + SLACK) {
    surrender(memory, rounded);
    return;
  }
  atomic_fetch_add_explicit(&cached, rounded, memory_order_relaxed);
  free_list *list = &lists[c];
  lock_list(list);
  ((block *)memory)->next = list->first;
  list->first = (block *)memory;
  unlock_list(list);
}

apus_memory_statistics apus_memory(void) {
  return (apus_memory_statistics){atomic_load(&in_use), atomic_load(&peak), atomic_load(&cached)};
}

void apus_reset_peak_memory(void) { atomic_store(&peak, atomic_load(&in_use)); }
