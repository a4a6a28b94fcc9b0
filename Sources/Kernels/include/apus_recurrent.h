// The pointwise part of recurrent cells: gates before their activation and the state give the next state.
//
// `type` is f32, f64, f16 or bf16 (computed in f32). All operands are contiguous rows: `n` elements of a state, a multiple of
// that of gates.
#ifndef APUS_RECURRENT_H
#define APUS_RECURRENT_H
#include "apus_base.h"

#ifdef __cplusplus
extern "C" {
#endif

// gates [rows, 4n]: input i, forget f, cell g, output o. c' = σ(f) c + σ(i) tanh(g), h' = σ(o) tanh(c').
void apus_lstm_cell(int type, int64_t rows, int64_t n, const void *gates, const void *c, void *h_out, void *c_out);
// dh, dc: the gradients of h' and c'; dc may be dc_in's memory.
void apus_lstm_cell_grad(int type, int64_t rows, int64_t n, const void *dh, const void *dc, const void *gates, const void *c,
                         void *dgates, void *dc_in);

// x, h_gates [rows, 3n]: reset r, update z, new. n = tanh(x_n + σ(x_r + h_r) h_n), h' = (1 − z) n + z h with z = σ(x_z + h_z).
void apus_gru_cell(int type, int64_t rows, int64_t n, const void *x_gates, const void *h_gates, const void *h, void *h_out);
void apus_gru_cell_grad(int type, int64_t rows, int64_t n, const void *dy, const void *x_gates, const void *h_gates, const void *h,
                        void *dx_gates, void *dh_gates, void *dh);

// ---- Whole sequences -----------------------------------------------------------------------------
// The recurrent weight is packed once and stays in the second cache; each thread has rows of the batch to itself from the first
// step to the last, so nobody waits for anybody. A row's result depends on that row alone.
typedef enum { APUS_RECURRENT_LSTM = 0, APUS_RECURRENT_GRU = 1, APUS_RECURRENT_TANH = 2, APUS_RECURRENT_RELU = 3 } apus_recurrent_kind;

// `type` is f32 or f64; operands are contiguous but for the weight. G: gates, 4, 3 or 1 (see the cells; one: h' = tanh or relu of
// the gate); K: values kept for each element of a state, 4 of LSTM (i, f, g, o) and GRU (r, z, new, the hidden state's part of
// new), else none. Where the mask is 0 a row keeps its state, its result is zero and what it keeps is zero.
typedef struct {
  int32_t kind, type;
  bool reverse;                        // the last step comes first
  int64_t steps, batch, hidden;
  const void *weight;                  // [G hidden, hidden]
  int64_t weight_row, weight_col;      // in elements
  const uint8_t *mask;                 // [steps, batch], or NULL
} apus_recurrent;

typedef struct {
  const void *gates;                   // [steps, batch, G hidden]: what the inputs add
  const void *bias;                    // [G hidden], added to the product; GRU only
  const void *h, *c;                   // [batch, hidden]: before the first step; c: LSTM only
  void *y;                             // [steps, batch, hidden]
  void *h_out, *c_out;                 // [batch, hidden]: after the last step
  void *h_before, *c_before;           // [steps, batch, hidden]: before each step; NULL: not wanted, and the same of `kept`
  void *kept;                          // [steps, batch, K hidden]; may be `gates`, LSTM only
} apus_recurrent_forward;

typedef struct {
  const void *dy;                      // [steps, batch, hidden], dy_step and dy_row elements apart; NULL: zeros
  int64_t dy_step, dy_row;
  const void *dh_out, *dc_out;         // [batch, hidden]
  const void *kept, *before;           // LSTM: c_before, GRU: h_before; kinds with one gate: kept is y, no `before`
  void *dgates;                        // [steps, batch, G hidden]; may be `kept`, LSTM only
  void *dproduct;                      // the same for what the hidden state adds; GRU only (elsewhere it is dgates)
  void *dh, *dc;                       // [batch, hidden]
} apus_recurrent_gradient;

void apus_recurrent_run(const apus_recurrent *r, const apus_recurrent_forward *f);
void apus_recurrent_grad(const apus_recurrent *r, const apus_recurrent_gradient *g);

#ifdef __cplusplus
}
#endif
#endif
