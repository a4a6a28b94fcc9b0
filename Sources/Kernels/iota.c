// Counting up.
#include "apus_movement.h"
#include "half.h"

enum { CHUNK = 1 << 16 };

typedef struct {
  int type;
  int64_t count;
  char *dst;
  int64_t start, step;
  double real_start, real_step;
} iota;

#define COUNT(T)                                                                                  \
  for (int64_t i = first; i < last; i++) ((T *)p->dst)[i] = (T)((uint64_t)p->start + (uint64_t)i * (uint64_t)p->step)
#define COUNT_REAL(T, CONVERT)                                                                    \
  for (int64_t i = first; i < last; i++) ((T *)p->dst)[i] = CONVERT(p->real_start + (double)i * p->real_step)
#define PLAIN_FLOAT(x) ((float)(x))
#define PLAIN_DOUBLE(x) (x)
#define HALF(x) apus_f16_of_float(apus_float_to_odd(x))
#define BRAIN(x) apus_bf16_of_float(apus_float_to_odd(x))

static void iota_task(void *context, int64_t t) {
  const iota *p = context;
  int64_t first = t * CHUNK, last = first + CHUNK < p->count ? first + CHUNK : p->count;
  switch (p->type) {
    case APUS_BOOL:
      for (int64_t i = first; i < last; i++)
        ((uint8_t *)p->dst)[i] = (uint64_t)p->start + (uint64_t)i * (uint64_t)p->step != 0;
      break;
    case APUS_U8: COUNT(uint8_t); break;
    case APUS_I8: COUNT(int8_t); break;
    case APUS_I16: COUNT(int16_t); break;
    case APUS_I32: COUNT(int32_t); break;
    case APUS_I64: COUNT(int64_t); break;
    case APUS_F16: COUNT_REAL(uint16_t, HALF); break;
    case APUS_BF16: COUNT_REAL(uint16_t, BRAIN); break;
    case APUS_F32: COUNT_REAL(float, PLAIN_FLOAT); break;
    case APUS_F64: COUNT_REAL(double, PLAIN_DOUBLE); break;
  }
}

void apus_iota(int type, int64_t count, void *dst, int64_t start, int64_t step) {
  iota p = {type, count, dst, start, step, (double)start, (double)step};
  apus_parallel((count + CHUNK - 1) / CHUNK, iota_task, &p);
}

void apus_iota_real(int type, int64_t count, void *dst, double start, double step) {
  bool real = type >= APUS_F16;
  iota p = {type, count, dst, real ? 0 : (int64_t)start, real ? 0 : (int64_t)step, start, step};
  apus_parallel((count + CHUNK - 1) / CHUNK, iota_task, &p);
}
