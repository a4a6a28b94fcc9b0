// Radix sorting of (key, position) records, shared by sort, topK and the scatters.
#ifndef APUS_SORTING_H
#define APUS_SORTING_H
#include "apus_base.h"

typedef struct { uint64_t key, position; } apus_record;

// Sorts by the bits low_bit..<high_bit of each word, stably; the other bits just come along. scratch: as large as words.
// The result is in words. Large inputs are sorted in parallel.
void apus_sort_words(uint64_t *words, uint64_t *scratch, int64_t count, int low_bit, int high_bit);
// The same by record.key.
void apus_sort_records(apus_record *records, apus_record *scratch, int64_t count, int low_bit, int high_bit);

#endif
