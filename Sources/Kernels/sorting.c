// Radix sort of words and of records.
#include "sorting.h"
#include <string.h>

#define RECORD uint64_t
#define KEY(x) (x)
#define NAME(x) words_##x
#include "sorting_body.inc"

#define RECORD apus_record
#define KEY(x) ((x).key)
#define NAME(x) records_##x
#include "sorting_body.inc"

void apus_sort_words(uint64_t *words, uint64_t *scratch, int64_t count, int low_bit, int high_bit) {
  words_sort(words, scratch, count, low_bit, high_bit);
}

void apus_sort_records(apus_record *records, apus_record *scratch, int64_t count, int low_bit, int high_bit) {
  records_sort(records, scratch, count, low_bit, high_bit);
}
