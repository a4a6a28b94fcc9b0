// Random numbers: Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011).
//
// A key names a stream of 2^64 32-bit words: word w is word w % 4 of the block whose counter is (w / 4, 0) as two
// 64-bit numbers, low half first. Every function reads words from `offset` on, a fixed number per element, and fills a
// contiguous destination; element i depends on key, offset and i alone: not on threads, on how a fill is split
// (at an even element for normal), nor on the instruction set: no fused multiply-add is used, so normal and
// exponential are the same bits everywhere as well, and truncated normal wherever the C library's erfc is.
//
// Words used per element: float32, float16, bfloat16: one; float64: two; integers and bool: two; bernoulli: one,
// whatever the type. normal takes the words of elements 2j and 2j + 1 together.
#ifndef APUS_RANDOM_H
#define APUS_RANDOM_H
#include "apus_base.h"

#ifdef __cplusplus
extern "C" {
#endif

// One block: counter and key as in the paper.
void apus_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t result[4]);
// A key of its own for each `data`: derived keys for layers, workers, splits.
uint64_t apus_random_fold(uint64_t key, uint64_t data);
// How far a fill of `count` elements of this type moves the stream, rounded up to whole blocks of 4 words; enough for
// every distribution.
uint64_t apus_random_words(int type, int64_t count);

void apus_random_bits(uint64_t key, uint64_t offset, uint32_t *dst, int64_t count);

// Uniform in [low, high); float types. With low 0 and high 1 exact multiples of 2^-24 (float32), 2^-53 (float64),
// 2^-11 (float16), 2^-8 (bfloat16). Values stay within low..<high, rounding included
// (unless the type has none there: then low, rounded).
void apus_random_uniform(int type, uint64_t key, uint64_t offset, void *dst, int64_t count, double low, double high);
// Uniform in [low, high), low < high, integer types and bool: the upper half of a 64-bit word times (high - low), so each
// value's probability is off by less than (high - low) / 2^64 of itself.
void apus_random_integers(int type, uint64_t key, uint64_t offset, void *dst, int64_t count, int64_t low, int64_t high);
// One with `probability` (to within 2^-32; 0 and 1 are exact), else zero; every type. Takes one word per element
// whatever the type.
void apus_random_bernoulli(int type, uint64_t key, uint64_t offset, void *dst, int64_t count, double probability);
// Box-Muller. Float types; float16 and bfloat16 are rounded from float32. Values reach 6.6 (float32), 8.5 (float64)
// standard deviations.
void apus_random_normal(int type, uint64_t key, uint64_t offset, void *dst, int64_t count, double mean, double deviation);
// Normal, given that low <= x <= high (bounds in x, low < high; infinite ones allowed), by the inverse distribution
// function. An interval that begins beyond 37 standard deviations gives its bound nearest to the mean.
void apus_random_truncated_normal(int type, uint64_t key, uint64_t offset, void *dst, int64_t count, double mean,
                                  double deviation, double low, double high);
// Density rate * exp(-rate x). Float types.
void apus_random_exponential(int type, uint64_t key, uint64_t offset, void *dst, int64_t count, double rate);
// A random order of 0..<count (Fisher-Yates; two words per element).
void apus_random_permutation(uint64_t key, uint64_t offset, int64_t *dst, int64_t count);

#ifdef __cplusplus
}
#endif
#endif
