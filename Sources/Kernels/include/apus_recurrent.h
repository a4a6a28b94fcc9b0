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

#ifdef __cplusplus
}
#endif
#endif
