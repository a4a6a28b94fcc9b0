#include "check.h"

static const int64_t sizes[][2] = {{4, 3}, {2, 17}, {70, 5}, {3, 1000}, {1, 5000}, {500, 130}};
static int statistic(int type) { return type == APUS_F64 ? APUS_F64 : APUS_F32; }
static double slack(int type) { return type == APUS_F64 ? 1e-13 : 4e-6 + 1.5 * unit(type); }

static int64_t differing(int type, const void *got, const double *want, int64_t count, double tolerance) {
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; i++) wrong += !close_to(get(type, got, i), want[i], tolerance);
  return wrong;
}

static void softmax(int type, int64_t rows, int64_t cols) {
  int64_t size = apus_type_size(type), stride = size * cols, count = rows * cols, wrong;
  void *x = reals(type, count), *dy = reals(type, count), *y = array(type, count), *dx = array(type, count), *lse = array(type, rows);
  double *want = array(APUS_F64, count), *want_dx = array(APUS_F64, count), *total = array(APUS_F64, rows);
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t c = 0; c < cols; c++) total[r] += exp(get(type, x, r * cols + c));
    total[r] = log(total[r]);
  }
  AT_EVERY_THREAD_COUNT("log sum exp", lse, rows * size, apus_log_sum_exp(type, rows, cols, x, stride, lse));
  wrong = differing(type, lse, total, rows, slack(type));
  expect(wrong == 0, "log sum exp, type %d, %lldx%lld: %lld wrong", type, (long long)rows, (long long)cols, (long long)wrong);
  for (int log_ = 0; log_ < 2; log_++) {
    AT_EVERY_THREAD_COUNT("softmax", y, count * size, apus_softmax(log_, type, rows, cols, x, stride, y, stride));
    for (int64_t i = 0; i < count; i++) want[i] = get(type, x, i) - total[i / cols], want[i] = log_ ? want[i] : exp(want[i]);
    wrong = differing(type, y, want, count, slack(type));
    expect(wrong == 0, "softmax %d, type %d, %lldx%lld: %lld wrong", log_, type, (long long)rows, (long long)cols, (long long)wrong);
    AT_EVERY_THREAD_COUNT("softmax gradient", dx, count * size, apus_softmax_grad(log_, type, rows, cols, y, stride, dy, stride, dx, stride));
    double scale = 1;
    for (int64_t r = 0; r < rows; r++) {
      double sum = 0;
      for (int64_t i = r * cols; i < (r + 1) * cols; i++) sum += log_ ? get(type, dy, i) : get(type, dy, i) * get(type, y, i);
      scale = fmax(scale, fabs(sum));
      for (int64_t i = r * cols; i < (r + 1) * cols; i++)
        want_dx[i] = log_ ? get(type, dy, i) - exp(get(type, y, i)) * sum : get(type, y, i) * (get(type, dy, i) - sum);
    }
    wrong = differing(type, dx, want_dx, count, slack(type) * scale);
    expect(wrong == 0, "softmax gradient %d, type %d, %lldx%lld: %lld wrong", log_, type, (long long)rows, (long long)cols, (long long)wrong);
  }
}

static void cross_entropy(int type, int64_t rows, int64_t cols, double smoothing) {
  int64_t size = apus_type_size(type), count = rows * cols, stat = statistic(type);
  void *x = reals(type, count), *dx = array(type, count), *loss = array((int)stat, 2 * rows), *dloss = reals((int)stat, rows);
  char *lse = (char *)loss + rows * apus_type_size((int)stat);
  int32_t *labels = array(APUS_I32, rows);
  for (int64_t r = 0; r < rows; r++) labels[r] = r % 5 == 1 ? -100 : (int32_t)below(cols);
  int64_t bad = 0;
  AT_EVERY_THREAD_COUNT("cross entropy", loss, 2 * rows * apus_type_size((int)stat),
                        bad = apus_cross_entropy(type, rows, cols, x, size * cols, labels, APUS_I32, -100, smoothing, loss, lse));
  AT_EVERY_THREAD_COUNT("cross entropy gradient", dx, count * size,
                        apus_cross_entropy_grad(type, rows, cols, x, size * cols, labels, APUS_I32, -100, smoothing, lse, dloss,
                                                apus_type_size((int)stat), dx, size * cols));
  expect(bad == -1, "cross entropy finds a bad label");
  int64_t wrong = 0;
  for (int64_t r = 0; r < rows; r++) {
    double total = 0, mean = 0;
    for (int64_t c = 0; c < cols; c++) total += exp(get(type, x, r * cols + c)), mean += get(type, x, r * cols + c) / (double)cols;
    double want = labels[r] < 0 ? 0 : log(total) - (1 - smoothing) * get(type, x, r * cols + labels[r]) - smoothing * mean;
    wrong += !close_to(get((int)stat, loss, r), want, type == APUS_F64 ? 1e-13 : 1e-5);
    for (int64_t c = 0; c < cols; c++) {
      double p = exp(get(type, x, r * cols + c)) / total - (1 - smoothing) * (c == labels[r]) - smoothing / (double)cols;
      wrong += !close_to(get(type, dx, r * cols + c), labels[r] < 0 ? 0 : p * get((int)stat, dloss, r), slack(type));
    }
  }
  expect(wrong == 0, "cross entropy, type %d, %lldx%lld, smoothing %g: %lld wrong", type, (long long)rows, (long long)cols, smoothing, (long long)wrong);
  labels[rows - 1] = (int32_t)cols;
  expect(apus_cross_entropy(type, rows, cols, x, size * cols, labels, APUS_I32, -100, 0, loss, NULL) == rows - 1, "a label out of range is named");
}

void check_softmax(void) {
  for (int type = APUS_F16; type <= APUS_F64; type++)
    for (int s = 0; s < LENGTH(sizes); s++) {
      softmax(type, sizes[s][0], sizes[s][1]);
      cross_entropy(type, sizes[s][0], sizes[s][1], 0);
      cross_entropy(type, sizes[s][0], sizes[s][1], 0.1);
    }
  float x[6] = {1e30f, 0, -INFINITY, -INFINITY, -INFINITY, -INFINITY}, y[6], sums[2];
  apus_softmax(false, APUS_F32, 2, 3, x, 12, y, 12);
  expect(y[0] == 1 && y[1] == 0 && y[2] == 0 && isnan(y[3]), "softmax of extreme rows");
  apus_log_sum_exp(APUS_F32, 2, 3, x, 12, sums);
  expect(sums[0] == 1e30f && sums[1] == -INFINITY, "log sum exp of extreme rows");
}

// ---- Normalization ------------------------------------------------------------------------------
// y = (x - mean)·rstd·gamma + beta per row; rms: mean 0, no beta. Gradients by their closed form:
// dx = rstd·(g - mean(g) - xhat·mean(g·xhat)) with g = dy·gamma; rms leaves mean(g) out.
static void row_norm(int type, int64_t rows, int64_t cols, bool rms) {
  int64_t size = apus_type_size(type), stride = size * cols, count = rows * cols, wrong = 0;
  int stat = statistic(type);
  void *x = reals(type, count), *dy = reals(type, count), *gamma = reals(type, cols), *beta = reals(type, cols);
  void *y = array(type, count), *mean = array(stat, rows), *rstd = array(stat, rows);
  char *out = array(type, count + 2 * cols), *dgamma = out + count * size, *dbeta = dgamma + cols * size;
  if (rms) {
    AT_EVERY_THREAD_COUNT("rms norm", y, count * size, apus_rms_norm(type, rows, cols, x, stride, gamma, 1e-2, y, stride, rstd));
    AT_EVERY_THREAD_COUNT("rms norm gradient", out, (count + 2 * cols) * size,
                          apus_rms_norm_grad(type, rows, cols, x, stride, dy, stride, gamma, rstd, out, stride, dgamma));
  } else {
    AT_EVERY_THREAD_COUNT("layer norm", y, count * size, apus_layer_norm(type, rows, cols, x, stride, gamma, beta, 1e-2, y, stride, mean, rstd));
    AT_EVERY_THREAD_COUNT("layer norm gradient", out, (count + 2 * cols) * size,
                          apus_layer_norm_grad(type, rows, cols, x, stride, dy, stride, gamma, mean, rstd, out, stride, dgamma, dbeta));
  }
  double *want_gamma = array(APUS_F64, cols), *want_beta = array(APUS_F64, cols), n = (double)cols;
  for (int64_t r = 0; r < rows; r++) {
    double m = 0, v = 0, g_mean = 0, gx_mean = 0;
    for (int64_t c = 0; c < cols && !rms; c++) m += get(type, x, r * cols + c) / n;
    for (int64_t c = 0; c < cols; c++) v += pow(get(type, x, r * cols + c) - m, 2) / n;
    double scale = 1 / sqrt(v + 1e-2);
    for (int64_t c = 0; c < cols; c++) {
      double hat = (get(type, x, r * cols + c) - m) * scale, d = get(type, dy, r * cols + c), g = d * get(type, gamma, c);
      g_mean += rms ? 0 : g / n;
      gx_mean += g * hat / n;
      want_gamma[c] += d * hat;
      want_beta[c] += d;
      wrong += !close_to(get(type, y, r * cols + c), hat * get(type, gamma, c) + (rms ? 0 : get(type, beta, c)), slack(type));
    }
    for (int64_t c = 0; c < cols; c++) {
      double hat = (get(type, x, r * cols + c) - m) * scale, g = get(type, dy, r * cols + c) * get(type, gamma, c);
      wrong += !close_to(get(type, out, r * cols + c), scale * (g - g_mean - hat * gx_mean), slack(type) * scale);
    }
  }
  double sums = slack(type) * sqrt((double)rows) * 2;
  wrong += differing(type, dgamma, want_gamma, cols, sums) + (rms ? 0 : differing(type, dbeta, want_beta, cols, sums));
  expect(wrong == 0, "%s, type %d, %lldx%lld: %lld wrong", rms ? "rms norm" : "layer norm", type, (long long)rows, (long long)cols, (long long)wrong);
}

static void batch_norm(int type, int64_t outer, int64_t channels, int64_t inner, bool relu, bool training) {
  int64_t size = apus_type_size(type), count = outer * channels * inner, wrong = 0;
  int stat = statistic(type);
  double n = (double)(outer * inner);
  void *x = reals(type, count), *dy = reals(type, count), *y = array(type, count), *gamma = array(stat, channels), *shift = reals(stat, channels);
  void *rstd = array(stat, channels), *scale = array(stat, channels);
  int64_t stat_size = apus_type_size(stat);
  char *both = array(stat, 2 * channels), *variance = both + channels * stat_size;
  AT_EVERY_THREAD_COUNT("batch statistics", both, 2 * channels * stat_size, apus_batch_norm_statistics(type, outer, channels, inner, x, both, variance));
  for (int64_t c = 0; c < channels; c++) {
    put(stat, gamma, c, 0.5 + fabs(real()));
    put(stat, rstd, c, 1 / sqrt(get(stat, variance, c) + 1e-2));
    put(stat, scale, c, get(stat, rstd, c) * get(stat, gamma, c));
  }
  AT_EVERY_THREAD_COUNT("batch norm", y, count * size, apus_batch_norm_apply(type, outer, channels, inner, x, both, scale, shift, relu, y));
  char *dx = array(type, count), *sums = array(stat, 2 * channels), *dbeta = sums + channels * stat_size;
  AT_EVERY_THREAD_COUNT("batch norm gradient", dx, count * size,
                        apus_batch_norm_grad(type, outer, channels, inner, x, dy, relu ? y : NULL, both, rstd, gamma, training, dx, sums, dbeta));
  for (int64_t c = 0; c < channels; c++) {
    double m = 0, v = 0, g_sum = 0, gx_sum = 0, r = get(stat, rstd, c);
    for (int pass = 0; pass < 4; pass++)
      for (int64_t k = 0; k < outer * inner; k++) {
        int64_t i = (k / inner * channels + c) * inner + k % inner;
        double value = get(type, x, i), hat = (value - m) * r, g = relu && !(get(type, y, i) > 0) ? 0 : get(type, dy, i);
        if (pass == 0) m += value / n;
        if (pass == 1) v += (value - m) * (value - m) / n;
        if (pass == 2) {
          double want = hat * get(stat, gamma, c) + get(stat, shift, c);
          g_sum += g, gx_sum += g * hat;
          wrong += !close_to(get(type, y, i), relu && want < 0 ? 0 : want, slack(type));
        }
        if (pass == 3) {
          double want = get(stat, gamma, c) * r * (training ? g - g_sum / n - hat * gx_sum / n : g);
          wrong += !close_to(get(type, dx, i), want, slack(type) * 4);
        }
      }
    double tolerance = type == APUS_F64 ? 1e-12 : 1e-5;
    wrong += !close_to(get(stat, both, c), m, tolerance) + !close_to(get(stat, variance, c), v, tolerance);
    wrong += !close_to(get(stat, sums, c), gx_sum, tolerance * sqrt(n)) + !close_to(get(stat, dbeta, c), g_sum, tolerance * sqrt(n));
  }
  expect(wrong == 0, "batch norm, type %d, %lldx%lldx%lld, relu %d, training %d: %lld wrong", type, (long long)outer, (long long)channels,
         (long long)inner, relu, training, (long long)wrong);
}

void check_normalization(void) {
  static const int64_t layouts[][3] = {{6, 5, 1}, {2, 5, 3}, {300, 33, 1}, {3, 4, 200}, {1, 70, 50}, {1000, 3, 1}, {1500, 40, 1}, {4, 40, 400}};
  for (int type = APUS_F16; type <= APUS_F64; type++) {
    for (int s = 0; s < LENGTH(sizes); s++) row_norm(type, sizes[s][0], sizes[s][1], false), row_norm(type, sizes[s][0], sizes[s][1], true);
    for (int s = 0; s < LENGTH(layouts); s++)
      for (int way = 0; way < 4; way++) batch_norm(type, layouts[s][0], layouts[s][1], layouts[s][2], way & 1, way >> 1);
  }
}
