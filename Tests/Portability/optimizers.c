#include "check.h"

enum { COUNT = 40003, STEPS = 4 };
typedef enum { SGD, ADAM, RMSPROP } method;

// One element of PyTorch's formulas (torch.optim) in double; `s`: state, `step` from 1.
static double update(method m, const apus_optimizer_options *o, double p, double g, double *s, int step) {
  g *= o->gradient_scale;
  if (o->maximize) g = -g;
  if (o->decoupled_weight_decay) p *= 1 - o->learning_rate * o->weight_decay; else g += o->weight_decay * p;
  switch (m) {
  case SGD:
    if (o->momentum == 0) return p - o->learning_rate * g;
    s[0] = step == 1 ? g : o->momentum * s[0] + (1 - o->dampening) * g;
    return p - o->learning_rate * (o->nesterov ? g + o->momentum * s[0] : s[0]);
  case ADAM: {
    s[0] = o->beta1 * s[0] + (1 - o->beta1) * g;
    s[1] = o->beta2 * s[1] + (1 - o->beta2) * g * g;
    s[2] = fmax(s[2], s[1]);
    double second = o->amsgrad ? s[2] : s[1];
    return p - o->learning_rate * (s[0] / (1 - pow(o->beta1, step))) / (sqrt(second / (1 - pow(o->beta2, step))) + o->epsilon);
  }
  case RMSPROP: {
    s[0] = o->beta2 * s[0] + (1 - o->beta2) * g * g;
    s[2] = o->beta2 * s[2] + (1 - o->beta2) * g;
    double average = sqrt(o->centered ? s[0] - s[2] * s[2] : s[0]) + o->epsilon;
    if (o->momentum == 0) return p - o->learning_rate * g / average;
    s[1] = o->momentum * s[1] + g / average;
    return p - o->learning_rate * s[1];
  }
  }
  return p;
}

static void train(method m, int type, apus_optimizer_options o, const char *name) {
  static void (*const steps[])(int, int64_t, const apus_optimizer_tensor *, const apus_optimizer_options *) = {apus_sgd_step, apus_adam_step, apus_rmsprop_step};
  int64_t size = apus_type_size(type), wrong = 0;
  char *memory = array(type, 5 * COUNT), *part[4];  // parameter and three states, then a gradient
  for (int k = 0; k < 4; k++) part[k] = memory + k * COUNT * size;
  char *gradient = memory + 4 * COUNT * size;
  double *want = array(APUS_F64, COUNT), *state = array(APUS_F64, 3 * COUNT);
  for (int64_t i = 0; i < COUNT; i++) put(type, memory, i, want[i] = real());
  for (int step = 1; step <= STEPS; step++) {
    for (int64_t i = 0; i < COUNT; i++) {
      double g = real() + 0.01;
      put(type, gradient, i, g);
      want[i] = update(m, &o, want[i], get(type, gradient, i), state + 3 * i, step);
    }
    o.step = step;
    apus_optimizer_tensor t = {.count = COUNT, .parameter = memory, .gradient = gradient, .parameter_out = memory,
                               .state_out = {part[1], part[2], part[3]}};
    if (step > 1) for (int k = 0; k < 3; k++) t.state[k] = part[k + 1];
    AT_EVERY_THREAD_COUNT(name, memory, 5 * COUNT * size, steps[m](type, 1, &t, &o));
  }
  for (int64_t i = 0; i < COUNT; i++) wrong += !close_to(get(type, memory, i), want[i], type == APUS_F64 ? 1e-12 : 2e-5);
  expect(wrong == 0, "%s, type %d: %lld wrong", name, type, (long long)wrong);
}

void check_optimizers(void) {
  apus_optimizer_options base = {.learning_rate = 0.01, .gradient_scale = 1, .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-3};
  for (int type = APUS_F32; type <= APUS_F64; type++) {
    apus_optimizer_options o = base;
    train(SGD, type, o, "sgd");
    o.momentum = 0.9, o.dampening = 0.1, o.weight_decay = 0.02;
    train(SGD, type, o, "sgd with momentum");
    o.dampening = 0, o.nesterov = true, o.maximize = true, o.gradient_scale = 0.5;
    train(SGD, type, o, "sgd, Nesterov");
    o = base;
    train(ADAM, type, o, "adam");
    o.weight_decay = 0.02, o.amsgrad = true;
    train(ADAM, type, o, "adam, amsgrad");
    o.decoupled_weight_decay = true, o.amsgrad = false;
    train(ADAM, type, o, "adamw");
    o = base;
    train(RMSPROP, type, o, "rmsprop");
    o.momentum = 0.9, o.centered = true;
    train(RMSPROP, type, o, "rmsprop, centered");
  }
}
