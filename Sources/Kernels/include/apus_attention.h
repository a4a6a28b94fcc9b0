// Attention without its matrix of scores, and rotary position embedding.
#ifndef APUS_ATTENTION_H
#define APUS_ATTENTION_H
#include "apus_base.h"

#ifdef __cplusplus
extern "C" {
#endif

// One [batch, heads, positions, dim] operand; strides in elements. The last stride is 1 for all but the mask.
typedef struct {
  void *data;  // NULL: absent
  int64_t strides[4];
} apus_heads;

// y = softmax(scale · q kᵀ + mask) v. `type` is f32, f64, f16 or bf16; half precision is computed in f32. "Statistics" are
// f64 for f64, else f32. Heads of q share those of k and v: kv_heads divides heads.
typedef struct {
  int32_t type;
  int32_t mask_type;  // `type`: added to the scores; bool: false hides the key
  bool causal;        // query i sees keys 0 ... i + keys − queries
  double scale;
  int64_t batch, heads, kv_heads, queries, keys, dim, value_dim;
  apus_heads q, k, v, mask;
} apus_attention;

// Blocks of queries against blocks of keys, with running maxima and sums (Dao et al. 2022): a task's memory is a block of
// scores. y: any strides but the last, which is 1; lse: statistics, [batch, heads, queries], row-major: log Σ exp of each
// row of scores. A row that sees no key has y = 0 and lse = −inf.
void apus_attention_run(const apus_attention *attention, apus_heads y, void *lse);

// From dy, y and lse, scores computed again block by block. dq, dk, dv are laid out as apus_heads says; dmask (or NULL) is
// row-major [batch, heads, queries, keys] of `type`.
void apus_attention_grad(const apus_attention *attention, apus_heads dy, apus_heads y, const void *lse, apus_heads dq,
                         apus_heads dk, apus_heads dv, void *dmask);

// Pairs of elements (a, b) of each row become (a cos − b sin, b cos + a sin); inverse: with −sin. Pairs are (i, i + half), or
// (2i, 2i + 1) if interleaved, for i < half; later elements are copied. dims, strides: of the rows (all dimensions but the
// last), strides in bytes; the last dimension is contiguous, `dim` elements of x and y, `half` of the tables (statistics).
void apus_rope(int type, bool interleaved, bool inverse, int rank, const int64_t *dims, int64_t dim, int64_t half, const void *x,
               const int64_t *x_strides, const void *cos, const int64_t *cos_strides, const void *sin, const int64_t *sin_strides,
               void *y, const int64_t *y_strides);

#ifdef __cplusplus
}
#endif
#endif
