// Optimizer steps over many tensors: pieces of fixed size become tasks.
#include "lanes.h"

enum { PIECE = 16384 };

typedef struct {
  void (*step)(const apus_optimizer_tensor *, const apus_optimizer_options *, int64_t, int64_t);
  const apus_optimizer_tensor *tensors;
  const apus_optimizer_options *options;
  const int64_t *first;  // the first piece of each tensor, and the number of pieces at the end
  int64_t count;
} job;

static void task(void *context, int64_t piece) {
  const job *j = context;
  int64_t low = 0, high = j->count;  // the tensor that has this piece
  while (high - low > 1) {
    int64_t middle = (low + high) / 2;
    if (j->first[middle] <= piece) low = middle; else high = middle;
  }
  const apus_optimizer_tensor *t = &j->tensors[low];
  int64_t start = (piece - j->first[low]) * PIECE, n = t->count - start < PIECE ? t->count - start : PIECE;
  j->step(t, j->options, start, n);
}

static void run(void (*step)(const apus_optimizer_tensor *, const apus_optimizer_options *, int64_t, int64_t), int64_t count,
                const apus_optimizer_tensor *tensors, const apus_optimizer_options *options) {
  size_t bytes = (size_t)(count + 1) * sizeof(int64_t);
  int64_t *first = apus_allocate(bytes), pieces = 0;
  for (int64_t i = 0; i < count; i++) {
    first[i] = pieces;
    pieces += (tensors[i].count + PIECE - 1) / PIECE;
  }
  first[count] = pieces;
  job j = {step, tensors, options, first, count};
  apus_parallel(pieces, task, &j);
  apus_deallocate(first, bytes);
}

#define STEP(name) \
  void apus_##name##_step(int type, int64_t count, const apus_optimizer_tensor *tensors, const apus_optimizer_options *options) { \
    run(apus_current_lanes()->fused[type == APUS_F64].name, count, tensors, options); \
  }
STEP(sgd) STEP(adam) STEP(rmsprop) STEP(adamax) STEP(nadam) STEP(radam) STEP(adagrad) STEP(adadelta) STEP(lion)
