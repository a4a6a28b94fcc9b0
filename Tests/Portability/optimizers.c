#include "check.h"

enum { COUNT = 40003, STEPS = 7 };  // RAdam is adaptive from the sixth step on
typedef enum { SGD, ADAM, RMSPROP, ADAMAX, NADAM, RADAM, ADAGRAD, ADADELTA, LION } method;

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
  case ADAMAX:
    s[0] = o->beta1 * s[0] + (1 - o->beta1) * g;
    s[1] = fmax(o->beta2 * s[1], fabs(g) + o->epsilon);
    return p - o->learning_rate / (1 - pow(o->beta1, step)) * s[0] / s[1];
  case NADAM: {
    double product = 1, next = 0;
    for (int i = 1; i <= step + 1; i++) product *= next = o->beta1 * (1 - 0.5 * pow(0.96, i * o->momentum));
    s[0] = o->beta1 * s[0] + (1 - o->beta1) * g;
    s[1] = o->beta2 * s[1] + (1 - o->beta2) * g * g;
    double root = sqrt(s[1] / (1 - pow(o->beta2, step))) + o->epsilon, mu = o->beta1 * (1 - 0.5 * pow(0.96, step * o->momentum));
    return p - o->learning_rate * ((1 - mu) / (1 - product / next) * g + next / (1 - product) * s[0]) / root;
  }
  case RADAM: {
    s[0] = o->beta1 * s[0] + (1 - o->beta1) * g;
    s[1] = o->beta2 * s[1] + (1 - o->beta2) * g * g;
    double power = pow(o->beta2, step), longest = 2 / (1 - o->beta2) - 1, length = longest - 2 * step * power / (1 - power);
    double m = s[0] / (1 - pow(o->beta1, step));
    if (length <= 5) return p - o->learning_rate * m;
    double rectifier = sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length));
    return p - o->learning_rate * m * rectifier * sqrt(1 - power) / (sqrt(s[1]) + o->epsilon);
  }
  case ADAGRAD:
    s[0] += g * g;
    return p - o->learning_rate / (1 + (step - 1) * o->dampening) * g / (sqrt(s[0]) + o->epsilon);
  case ADADELTA: {
    s[0] = o->beta2 * s[0] + (1 - o->beta2) * g * g;
    double change = sqrt((s[1] + o->epsilon) / (s[0] + o->epsilon)) * g;
    s[1] = o->beta2 * s[1] + (1 - o->beta2) * change * change;
    return p - o->learning_rate * change;
  }
  case LION: {
    double c = o->beta1 * s[0] + (1 - o->beta1) * g;
    s[0] = o->beta2 * s[0] + (1 - o->beta2) * g;
    return p - o->learning_rate * ((c > 0) - (c < 0));
  }
  }
  return p;
}

static void train(method m, int type, apus_optimizer_options o, const char *name) {
  static void (*const steps[])(int, int64_t, const apus_optimizer_tensor *, const apus_optimizer_options *) = {
      apus_sgd_step, apus_adam_step, apus_rmsprop_step, apus_adamax_step, apus_nadam_step, apus_radam_step, apus_adagrad_step,
      apus_adadelta_step, apus_lion_step};
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
    o.mu_product = 1;
    for (int i = 1; i <= step; i++) o.mu_product *= o.beta1 * (1 - 0.5 * pow(0.96, i * o.momentum));
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
    o = base;
    o.weight_decay = 0.02, o.momentum = 0.004, o.dampening = 0.1;
    train(ADAMAX, type, o, "adamax");
    train(NADAM, type, o, "nadam");
    train(RADAM, type, o, "radam");
    train(ADAGRAD, type, o, "adagrad");
    train(ADADELTA, type, o, "adadelta");
    o.decoupled_weight_decay = true, o.maximize = true;
    train(NADAM, type, o, "nadam, decoupled");
    train(RADAM, type, o, "radam, decoupled");
    train(LION, type, o, "lion");
  }
}
