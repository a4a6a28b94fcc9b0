#include "check.h"

static const void *line;
static int line_type;
static bool line_descending;

// -1, 0, 1 by the order that apus_sort documents: NaN greatest, -0 equal to +0.
static int compare(int64_t a, int64_t b) {
  if (is_float(line_type)) {
    double x = get(line_type, line, a), y = get(line_type, line, b);
    return isnan(x) || isnan(y) ? isnan(x) - isnan(y) : (x > y) - (x < y);
  }
  int64_t x = get_integer(line_type, line, a), y = get_integer(line_type, line, b);
  return (x > y) - (x < y);
}
static int by_value(const void *a, const void *b) {
  int64_t i = *(const int64_t *)a, j = *(const int64_t *)b;
  int c = line_descending ? -compare(i, j) : compare(i, j);
  return c ? c : (i > j) - (i < j);
}

static void *unsorted(int type, int64_t count, int64_t distinct) {
  void *p = array(type, count);
  for (int64_t i = 0; i < count; i++) {
    if (!is_float(type)) { put_integer(type, p, i, distinct ? below(distinct) - distinct / 2 : (int64_t)draw()); continue; }
    int64_t kind = below(40);
    // A NaN of either sign, as different processors make them.
    put(type, p, i, kind == 0 ? NAN : kind == 1 ? copysign(NAN, -1) : kind == 2 ? -0.0 : kind == 3 ? 0 : kind == 4 ? INFINITY
        : distinct ? (double)(below(distinct) - distinct / 2) : ldexp((double)(int64_t)draw(), (int)below(60) - 90));
  }
  return p;
}

static void sort(int type, int64_t lines, int64_t n, int64_t distinct, bool descending) {
  int64_t dims[2] = {n, lines}, size = apus_type_size(type), strides[2] = {size, size * n}, wrong = 0;  // along axis 0, whose elements are adjacent
  char *src = unsorted(type, lines * n, distinct), *values = array(type, lines * n);
  int64_t *indices = array(APUS_I64, lines * n), *want = array(APUS_I64, lines * n);
  AT_EVERY_THREAD_COUNT("sort", indices, lines * n * 8, apus_sort(type, 2, dims, 0, src, strides, values, indices, descending));
  for (int64_t l = 0; l < lines; l++) {
    for (int64_t i = 0; i < n; i++) want[l * n + i] = i;
    line = src + l * n * size, line_type = type, line_descending = descending;
    qsort(want + l * n, (size_t)n, 8, by_value);
    for (int64_t i = 0; i < n; i++) {
      wrong += indices[i * lines + l] != want[l * n + i];
      wrong += memcmp(values + (i * lines + l) * size, src + (l * n + want[l * n + i]) * size, (size_t)size) != 0;
    }
  }
  expect(wrong == 0, "sort, type %d, %lld lines of %lld, descending %d: %lld wrong", type, (long long)lines, (long long)n, descending, (long long)wrong);
  fingerprint(indices, (size_t)(lines * n * 8));
  for (int64_t k = 0; k <= n; k += k < 3 ? 1 : n / 3) {
    int64_t *best = array(APUS_I64, lines * k + 1);
    wrong = 0;
    AT_EVERY_THREAD_COUNT("top k", best, lines * k * 8, apus_top_k(type, 2, dims, 0, k, src, strides, values, best, descending));
    for (int64_t l = 0; l < lines; l++)
      for (int64_t i = 0; i < k; i++) wrong += best[i * lines + l] != want[l * n + i];
    expect(wrong == 0, "top %lld of %lld, type %d: %lld wrong", (long long)k, (long long)n, type, (long long)wrong);
  }
  if (descending) return;
  // Every element searched for among the sorted ones of its line.
  char *sorted = array(type, lines * n);
  int64_t *place = array(APUS_I64, lines * n);
  for (int64_t l = 0; l < lines; l++)
    for (int64_t i = 0; i < n; i++) memcpy(sorted + (l * n + i) * size, src + (l * n + want[l * n + i]) * size, (size_t)size);
  for (int right = 0; right < 2; right++) {
    wrong = 0;
    AT_EVERY_THREAD_COUNT("search", place, lines * n * 8, apus_search_sorted(type, lines, lines, n, sorted, n, src, place, right));
    for (int64_t l = 0; l < lines; l++) {
      line = src + l * n * size, line_type = type;
      for (int64_t i = 0; i < n; i++) {
        int64_t p = place[l * n + i];
        bool before = p == 0 || compare(want[l * n + p - 1], i) < (right ? 1 : 0), after = p == n || compare(want[l * n + p], i) >= (right ? 1 : 0);
        wrong += !before || !after;
      }
    }
    expect(wrong == 0, "search, type %d, right %d: %lld wrong", type, right, (long long)wrong);
    fingerprint(place, (size_t)(lines * n * 8));
  }
}

void check_order(void) {
  for (int type = 0; type <= APUS_F64; type++)
    for (int descending = 0; descending < 2; descending++) {
      sort(type, 1, 1, 0, descending), sort(type, 7, 30, 6, descending), sort(type, 3, 1000, 0, descending);
      sort(type, 20, 2000, 50, descending);
    }
}
