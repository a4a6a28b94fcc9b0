// Between the driver of the matrix product (matmul.c) and its kernels (matmul_body.inc, one instance per type and instruction set).
#ifndef APUS_MATMUL_KERNELS_H
#define APUS_MATMUL_KERNELS_H
#include "apus_matmul.h"

// k values summed in registers before they are added to C: one constant for all kernels of a type, so that an element's
// order of summation depends neither on its place in C nor on the instruction set.
enum { APUS_MATMUL_KC = 512 };

// What becomes of a finished sum: out = activation(alpha sum [+ out] + bias [+ residual]) [+ residual].
typedef struct {
  void *out;                     // element (0, 0) of the block
  int64_t row, col;
  int32_t type, accumulate, activation;
  const void *bias;              // of `type`; element (i, j) is at i * bias_row + j * bias_col
  int64_t bias_row, bias_col;
  const void *residual;          // of `type`
  int64_t residual_row, residual_col;
  bool residual_after;           // the activation
  double alpha;                  // 0: none
} apus_matmul_target;

// One block of C over at most KC values of k.
typedef struct {
  int64_t m, n, k;               // k in packed elements (groups of k values)
  const void *a; int64_t a_panel, a_row, a_col;  // a_panel: from one group of mr rows to the next
  const void *b; int64_t b_panel, b_row;         // b_panel: from one group of nr columns to the next; columns are adjacent
  bool b_packed;                 // else the last columns are copied before they are used
  const void *ahead;             // what is wanted next is fetched meanwhile: at these offsets from it, followed by as many zeros as k; or NULL
  const int32_t *ahead_lines; int64_t ahead_count;
  void *partial; int64_t partial_row;  // sums over earlier k, in the accumulator's type, columns adjacent; what C holds is among them,
                                       // if target.accumulate is set where they begin
  bool add_partial, last;        // last: goes to `target`, else to `partial`
  apus_matmul_target target;
} apus_matmul_block;

typedef struct {
  int mr, nr;
  int group;                     // k values in one packed element
  int element;                   // bytes of a packed element and of an accumulator
  int32_t accumulator;           // its apus_type
  // Packs panels of mr rows of A (or nr columns of B), zero-padded: panel, k, row. Element (i, p) is at i * outer + p * inner.
  void (*pack_a)(int32_t type, const void *source, int64_t outer, int64_t inner, int64_t count, int64_t k, void *packed);
  void (*pack_b)(int32_t type, const void *source, int64_t outer, int64_t inner, int64_t count, int64_t k, void *packed);
  void (*block)(const apus_matmul_block *block);
  // For few rows, B of `type` where it lies, A in the accumulator's type. rows: columns of B are adjacent, k at most KC.
  // dots: k is adjacent in A and B, any k; column j of B is at j * b_col.
  void (*rows)(const apus_matmul_block *block, int32_t type);
  void (*dots)(const apus_matmul_block *block, int32_t type, int64_t b_col);
  // The same sums, of `dots` or (where a packed element is a pair) of `rows`, from packed panels of B, any k.
  void (*packed_few)(const apus_matmul_block *block, bool dots);
  // `count` rows of k values, one after the other, in the accumulator's type.
  void (*widen)(int32_t type, const void *source, int64_t outer, int64_t inner, int64_t count, int64_t k, void *widened);
} apus_matmul_kernels;

// Offsets of adjacent lines, as many as the largest packed panel has, then zeros.
enum { APUS_MATMUL_LINES = APUS_MATMUL_KC * 2 };
extern const int32_t apus_matmul_lines[APUS_MATMUL_LINES + APUS_MATMUL_KC];

const apus_matmul_kernels *apus_matmul_kernels_f32(void);
const apus_matmul_kernels *apus_matmul_kernels_bf16(void);
const apus_matmul_kernels *apus_matmul_kernels_f64(void);
const apus_matmul_kernels *apus_matmul_kernels_i32(void);
const apus_matmul_kernels *apus_matmul_kernels_i64(void);

#define APUS_JOIN2(a, b) a##_##b
#define APUS_JOIN(a, b) APUS_JOIN2(a, b)
#define APUS_ALWAYS static inline __attribute__((always_inline))

// ---- Half precision, one value at a time ---------------------------------------------------------
APUS_ALWAYS float apus_mm_from_bf16(uint16_t h) {
  uint32_t bits = (uint32_t)h << 16;
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}
APUS_ALWAYS uint16_t apus_mm_to_bf16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  if (x != x) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
APUS_ALWAYS float apus_mm_from_f16(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, bits = (uint32_t)(h & 0x7fff) << 13;
  float x;
  __builtin_memcpy(&x, &bits, 4);
  x *= 0x1p112f;  // exponent bias 15 to 127; subnormals come out right too
  __builtin_memcpy(&bits, &x, 4);
  if ((h & 0x7c00) == 0x7c00) bits |= 0x7f800000u | (h & 0x3ff ? 0x400000u : 0);
  bits |= sign;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}
APUS_ALWAYS uint16_t apus_mm_to_f16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
  if (magnitude >= 0x47800000) return (uint16_t)(sign | 0x7c00);
  if (magnitude < 0x38800000) {  // subnormal: adding one half leaves the rounded multiple of 2^-24 in the low bits
    float y;
    __builtin_memcpy(&y, &magnitude, 4);
    y += 0.5f;
    __builtin_memcpy(&magnitude, &y, 4);
    return (uint16_t)(sign | (magnitude - 0x3f000000));
  }
  magnitude += 0xc8000fffu + (magnitude >> 13 & 1);
  return (uint16_t)(sign | magnitude >> 13);
}
#endif
