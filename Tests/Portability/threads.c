#include "check.h"
#include <pthread.h>

// A task adds its index to a cell of its own; the inner call runs inline.
typedef struct { int64_t *cells; int64_t round; } job;
static void inner_task(void *context, int64_t i) { ((int64_t *)context)[i]++; }
static void outer_task(void *context, int64_t i) {
  job *j = context;
  j->cells[i] += j->round + i;
  int64_t counts[3] = {0, 0, 0};
  apus_parallel(3, inner_task, counts);
  j->cells[i] += counts[0] + counts[1] + counts[2] - 3;
}

// Several threads use the pool at once: one gets it, the others run inline. Each writes what it owns.
static void *user(void *argument) {
  int64_t *cells = argument;
  for (int64_t round = 0; round < 400; round++) {
    job j = {cells, round};
    apus_parallel(17, outer_task, &j);
  }
  return NULL;
}

static void *allocator(void *argument) {
  uint64_t state = (uint64_t)(uintptr_t)argument;
  int64_t *wrong = argument;
  uint8_t *blocks[32] = {NULL};
  size_t sizes[32] = {0};
  for (int i = 0; i < 4000; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    int k = (int)(state >> 59);
    if (blocks[k]) {
      *wrong += blocks[k][0] != (uint8_t)k || blocks[k][sizes[k] - 1] != (uint8_t)(k ^ 0xff);
      apus_deallocate(blocks[k], sizes[k]);
      blocks[k] = NULL;
    } else {
      sizes[k] = 2 + (size_t)((state >> 20) % ((state >> 40) % 8 == 0 ? 1 << 21 : 5000));
      blocks[k] = apus_allocate(sizes[k]);
      *wrong += (uintptr_t)blocks[k] % 64 != 0;
      blocks[k][0] = (uint8_t)k, blocks[k][sizes[k] - 1] = (uint8_t)(k ^ 0xff);
    }
  }
  for (int k = 0; k < 32; k++) if (blocks[k]) apus_deallocate(blocks[k], sizes[k]);
  return NULL;
}

void check_threads(void) {
  enum { USERS = 4 };
  static const int counts[] = {1, 2, 3, 8};
  pthread_t threads[USERS];
  for (int c = 0; c < LENGTH(counts); c++) {
    apus_set_thread_count(counts[c]);
    int64_t *cells = array(APUS_I64, USERS * 17), wrong = 0;
    for (int u = 0; u < USERS; u++) pthread_create(&threads[u], NULL, user, cells + u * 17);
    for (int u = 0; u < USERS; u++) pthread_join(threads[u], NULL);
    for (int i = 0; i < USERS * 17; i++) wrong += cells[i] != 400 * 399 / 2 + 400 * (i % 17);
    expect(wrong == 0, "%d threads: %lld cells of a shared pool are wrong", counts[c], (long long)wrong);
  }
  size_t before = apus_memory().in_use;
  int64_t *wrong = array(APUS_I64, USERS);
  for (int u = 0; u < USERS; u++) pthread_create(&threads[u], NULL, allocator, wrong + u);
  for (int u = 0; u < USERS; u++) pthread_join(threads[u], NULL);
  for (int u = 0; u < USERS; u++) expect(wrong[u] == 0, "buffers of thread %d were shared or misaligned", u);
  expect(apus_memory().in_use == before, "buffers in use after all were given back");
  apus_trim_memory();
  expect(apus_memory().cached == 0, "memory cached after trimming");
}
