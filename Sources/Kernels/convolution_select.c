// Where Winograd's algorithm pays, and weights kept from one call to the next.
#include "convolution_internal.h"
#include <stdatomic.h>
#include <stdlib.h>

// APUS_WINOGRAD=0 makes automatic choices direct. Only instruction sets on which it was measured choose it by themselves.
static bool is_allowed(int algorithm) {
  static _Atomic int allowed = -1;
  if (algorithm != APUS_CONVOLUTION_AUTO) return algorithm == APUS_CONVOLUTION_WINOGRAD;
  int value = atomic_load_explicit(&allowed, memory_order_relaxed);
  if (value < 0) {
    const char *text = getenv("APUS_WINOGRAD");
    value = text ? atoi(text) != 0 : 1;
    atomic_store_explicit(&allowed, value, memory_order_relaxed);
  }
  apus_isa isa = apus_current_isa();
  return value && (isa == APUS_ISA_AVX512 || isa == APUS_ISA_AVX2);
}

enum { FEWEST_CHANNELS = 16 };

static bool is_plain(int type, int64_t groups, const int64_t in[3], const int64_t kernel[3], const int64_t out[3], const int64_t pad[3],
                     const int64_t step[3], const int64_t in_step[3], const int64_t dilation[3]) {
  if (type != APUS_F32 || groups != 1 || kernel[0] != 1 || kernel[1] != 3 || kernel[2] != 3) return false;
  if (in[0] != 1 || out[0] != 1 || pad[0] != 0 || in[1] * in[2] == 0) return false;
  for (int i = 0; i < 3; i++)
    if (step[i] != 1 || in_step[i] != 1 || dilation[i] != 1) return false;
  return true;
}

// What a convolution costs by Winograd's algorithm, for each pair of channels, in multiply-adds of the direct kernel, as measured on AVX-512:
// 41 instead of 36 per tile for the products; 700 for the transforms of one channel of a tile; and for the weights.
static bool pays(int64_t batch, const int64_t out[3], double transforms_per_pair, double weights) {
  enum { PRODUCT = 41, TRANSFORM = 700 };
  double tiles = (double)(batch * ceil_div(out[1], 4) * ceil_div(out[2], 4)), direct = 9 * (double)(batch * out[1] * out[2]);
  return tiles * (PRODUCT + TRANSFORM * transforms_per_pair) + weights < 0.85 * direct;
}

bool conv_takes_winograd(const conv_gather *g, bool own_weights) {
  enum { READY = 150, OWN = 370, SEPARATE = 760 };  // weights prepared, transformed within the tasks, or through memory
  if (!is_allowed(g->algorithm) || g->cin == 0) return false;
  if (!is_plain(g->type, g->groups, g->in, g->kernel, g->out, g->pad, g->step, g->in_step, g->dilation)) return false;
  if ((g->s_channel != 1 && g->cin > 1) || (g->d_channel != 1 && g->cout > 1)) return false;
  if (g->algorithm == APUS_CONVOLUTION_WINOGRAD) return true;
  if (g->cin < FEWEST_CHANNELS || g->cout < FEWEST_CHANNELS) return false;
  bool ready = conv_prepared(g, CONV_PREPARED_WINOGRAD, apus_current_isa()) != NULL;
  return pays(g->batch, g->out, 1 / (double)g->cin + 1 / (double)g->cout, ready ? READY : own_weights ? OWN : SEPARATE);
}

bool conv_takes_winograd_outer(const conv_outer *g) {
  enum { WEIGHTS = 400, BLOCK = 64 };  // input channels are transformed once per block of output channels, and the other way round
  if (!is_allowed(g->algorithm) || g->cin == 0) return false;
  if (!is_plain(g->type, g->groups, g->in, g->kernel, g->out, g->pad, g->step, g->in_step, g->dilation)) return false;
  if ((g->x_channel != 1 && g->cin > 1) || (g->y_channel != 1 && g->cout > 1) || g->batch == 0 || g->out[1] * g->out[2] == 0) return false;
  if (g->algorithm == APUS_CONVOLUTION_WINOGRAD) return true;
  if (g->cin < FEWEST_CHANNELS || g->cout < FEWEST_CHANNELS) return false;
  return pays(g->batch, g->out, 1 / (double)min64(g->cin, BLOCK) + 1 / (double)min64(g->cout, BLOCK), WEIGHTS);
}

enum { MARK = 0x41504357 };

conv_prepared_header conv_header_of(const conv_gather *g, int form, int isa) {
  conv_prepared_header h;
  memset(&h, 0, sizeof h);
  h.mark = MARK, h.form = form, h.isa = isa, h.type = g->type;
  h.groups = g->groups, h.cin = g->cin, h.cout = g->cout, h.taps = g->kernel[0] * g->kernel[1] * g->kernel[2];
  return h;
}

const void *conv_prepared(const conv_gather *g, int form, int isa) {
  if (!g->prepared) return NULL;
  conv_prepared_header h = conv_header_of(g, form, isa);
  return memcmp(&h, g->prepared, sizeof h) == 0 ? (const char *)g->prepared + sizeof h : NULL;
}
