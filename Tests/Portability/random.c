#include "check.h"

enum { COUNT = 40000 };

static void moments_of(int type, const void *p, double *mean, double *variance, double *lowest, double *highest) {
  double sum = 0, squares = 0;
  *lowest = INFINITY, *highest = -INFINITY;
  for (int64_t i = 0; i < COUNT; i++) {
    double v = is_float(type) ? get(type, p, i) : (double)get_integer(type, p, i);
    sum += v, squares += v * v;
    *lowest = fmin(*lowest, v), *highest = fmax(*highest, v);
  }
  *mean = sum / COUNT, *variance = squares / COUNT - *mean * *mean;
}

// Mean within 6 standard errors, variance within a tenth.
static void judge(const char *what, int type, const void *p, double mean, double variance) {
  double m, v, low, high;
  moments_of(type, p, &m, &v, &low, &high);
  expect(fabs(m - mean) < 6 * sqrt(variance / COUNT) + 1e-3 && fabs(v - variance) < 0.1 * variance + 1e-3, "%s, type %d: mean %g, variance %g", what, type, m, v);
}

void check_random(void) {
  // Known answers of the authors' Random123 (kat_vectors, philox4x32 10).
  static const uint32_t known[3][10] = {
    {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
    {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
    {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
  };
  for (int i = 0; i < 3; i++) {
    uint32_t words[4];
    apus_philox(known[i], known[i] + 4, words);
    expect(memcmp(words, known[i] + 6, 16) == 0, "known answer %d", i);
  }
  const uint64_t key = 0x0123456789abcdef;
  uint32_t *bits = array(APUS_I32, COUNT);
  for (uint64_t offset = 0; offset < 7; offset++) {
    AT_EVERY_THREAD_COUNT("words", bits, COUNT * 4, apus_random_bits(key, offset, bits, COUNT));
    int64_t wrong = 0;
    for (int64_t i = 0; i < COUNT; i++) {
      uint64_t word = offset + (uint64_t)i;
      uint32_t counter[4] = {(uint32_t)(word / 4), (uint32_t)(word / 4 >> 32), 0, 0}, halves[2] = {(uint32_t)key, (uint32_t)(key >> 32)}, block[4];
      apus_philox(counter, halves, block);
      wrong += bits[i] != block[word % 4];
    }
    expect(wrong == 0, "%lld words from %llu on differ from their blocks", (long long)wrong, (unsigned long long)offset);
  }
  fingerprint(bits, COUNT * 4);
  uint64_t folded = apus_random_fold(key, 77);
  fingerprint(&folded, 8);

  for (int type = 0; type <= APUS_F64; type++) {
    int64_t bytes = COUNT * apus_type_size(type);
    char *p = array(type, COUNT);
    double mean, variance, low, high;
    AT_EVERY_THREAD_COUNT("bernoulli", p, bytes, apus_random_bernoulli(type, key, 3, p, COUNT, 0.3));
    judge("bernoulli", type, p, 0.3, 0.21);
    fingerprint(p, (size_t)bytes);
    if (!is_float(type)) {
      int64_t first = type == APUS_BOOL ? 0 : type == APUS_U8 ? 5 : -20, end = type == APUS_BOOL ? 2 : 101;
      AT_EVERY_THREAD_COUNT("integers", p, bytes, apus_random_integers(type, key, 2, p, COUNT, first, end));
      double n = (double)(end - first);
      judge("integers", type, p, (double)(first + end - 1) / 2, (n * n - 1) / 12);
      moments_of(type, p, &mean, &variance, &low, &high);
      expect(low == (double)first && high == (double)(end - 1), "integers, type %d: %g...%g", type, low, high);
      fingerprint(p, (size_t)bytes);
      if (type == APUS_I64) {
        apus_random_integers(type, key, 2, p, COUNT, INT64_MIN, INT64_MAX);
        fingerprint(p, (size_t)bytes);
      }
      continue;
    }
    AT_EVERY_THREAD_COUNT("uniform", p, bytes, apus_random_uniform(type, key, 1, p, COUNT, 0, 1));
    judge("uniform", type, p, 0.5, 1.0 / 12);
    moments_of(type, p, &mean, &variance, &low, &high);
    expect(low >= 0 && high < 1, "uniform, type %d: %g...%g", type, low, high);
    fingerprint(p, (size_t)bytes);
    AT_EVERY_THREAD_COUNT("uniform", p, bytes, apus_random_uniform(type, key, 1, p, COUNT, -2.3, 5.7));
    fingerprint(p, (size_t)bytes);
    AT_EVERY_THREAD_COUNT("normal", p, bytes, apus_random_normal(type, key, 5, p, COUNT, 1, 2));
    judge("normal", type, p, 1, 4);
    fingerprint(p, (size_t)bytes);
    AT_EVERY_THREAD_COUNT("exponential", p, bytes, apus_random_exponential(type, key, 5, p, COUNT, 2));
    judge("exponential", type, p, 0.5, 0.25);
    fingerprint(p, (size_t)bytes);
    // Its bounds go through the C library's erfc, so its last bits are not compared between architectures.
    AT_EVERY_THREAD_COUNT("truncated normal", p, bytes, apus_random_truncated_normal(type, key, 5, p, COUNT, 0, 1, -2, 2));
    judge("truncated normal", type, p, 0, 0.7737);
    moments_of(type, p, &mean, &variance, &low, &high);
    expect(low >= -2 && high <= 2, "truncated normal, type %d: %g...%g", type, low, high);
  }
  int64_t *order = array(APUS_I64, COUNT);
  bool *seen = array(APUS_BOOL, COUNT);
  apus_random_permutation(key, 9, order, COUNT);
  for (int64_t i = 0; i < COUNT; i++) if (order[i] >= 0 && order[i] < COUNT) seen[order[i]] = true;
  expect(memchr(seen, 0, COUNT) == NULL, "a permutation misses a number");
  fingerprint(order, COUNT * 8);
}
