// Integer convolutions: the plain loops, in wrap-around arithmetic. Work is split over (image, channel).
#include "convolution_internal.h"

// Where the tap at q reads for the output at u; -1 where that is padding or between two elements.
static inline int64_t source_index(int64_t u, int64_t q, int64_t step, int64_t in_step, int64_t dilation, int64_t pad, int64_t in) {
  int64_t t = step * u + dilation * q - pad;
  if (t < 0 || t % in_step != 0 || t / in_step >= in) return -1;
  return t / in_step;
}

static void gather_task(void *context, int64_t index) {
  const conv_gather *g = context;
  int64_t channels = g->groups * g->cout, n = index / channels, o = index % channels, group = o / g->cout;
  const char *w = g->w;
  int64_t wo = group * g->w_group + (o % g->cout) * g->w_out;
  int64_t s0 = n * g->s_batch + group * g->cin * g->s_channel, d0 = n * g->d_batch + o * g->d_channel;
  uint64_t bias = g->bias ? conv_load_integer(g->bias, o, g->type) : 0;
  for (int64_t a = 0; a < g->out[0]; a++)
    for (int64_t b = 0; b < g->out[1]; b++)
      for (int64_t c = 0; c < g->out[2]; c++) {
        uint64_t sum = bias;
        for (int64_t i = 0; i < g->kernel[0]; i++) {
          int64_t va = source_index(a, i, g->step[0], g->in_step[0], g->dilation[0], g->pad[0], g->in[0]);
          if (va < 0) continue;
          for (int64_t j = 0; j < g->kernel[1]; j++) {
            int64_t vb = source_index(b, j, g->step[1], g->in_step[1], g->dilation[1], g->pad[1], g->in[1]);
            if (vb < 0) continue;
            for (int64_t k = 0; k < g->kernel[2]; k++) {
              int64_t vc = source_index(c, k, g->step[2], g->in_step[2], g->dilation[2], g->pad[2], g->in[2]);
              if (vc < 0) continue;
              int64_t s = s0 + va * g->s_spatial[0] + vb * g->s_spatial[1] + vc * g->s_spatial[2];
              int64_t t = wo + i * g->w_spatial[0] + j * g->w_spatial[1] + k * g->w_spatial[2];
              for (int64_t e = 0; e < g->cin; e++)
                sum += conv_load_integer(g->src, s + e * g->s_channel, g->type) * conv_load_integer(w, t + e * g->w_in, g->type);
            }
          }
        }
        if (g->relu && !g->residual && conv_signed(sum, g->type) < 0) sum = 0;
        conv_store_integer(g->dst, d0 + a * g->d_spatial[0] + b * g->d_spatial[1] + c * g->d_spatial[2], g->type, sum);
      }
}

void apus_conv_general_gather(const conv_gather *g) {
  apus_parallel(g->batch * g->groups * g->cout, gather_task, (void *)g);
}

static void outer_task(void *context, int64_t index) {
  const conv_outer *g = context;
  int64_t group = index / g->cout, o = index % g->cout;
  for (int64_t e = 0; e < g->cin; e++)
    for (int64_t i = 0; i < g->kernel[0]; i++)
      for (int64_t j = 0; j < g->kernel[1]; j++)
        for (int64_t k = 0; k < g->kernel[2]; k++) {
          uint64_t sum = 0;
          for (int64_t n = 0; n < g->batch; n++) {
            int64_t x0 = n * g->x_batch + (group * g->cin + e) * g->x_channel, y0 = n * g->y_batch + index * g->y_channel;
            for (int64_t a = 0; a < g->out[0]; a++) {
              int64_t va = source_index(a, i, g->step[0], g->in_step[0], g->dilation[0], g->pad[0], g->in[0]);
              if (va < 0) continue;
              for (int64_t b = 0; b < g->out[1]; b++) {
                int64_t vb = source_index(b, j, g->step[1], g->in_step[1], g->dilation[1], g->pad[1], g->in[1]);
                if (vb < 0) continue;
                for (int64_t c = 0; c < g->out[2]; c++) {
                  int64_t vc = source_index(c, k, g->step[2], g->in_step[2], g->dilation[2], g->pad[2], g->in[2]);
                  if (vc < 0) continue;
                  sum += conv_load_integer(g->x, x0 + va * g->x_spatial[0] + vb * g->x_spatial[1] + vc * g->x_spatial[2], g->type) *
                         conv_load_integer(g->dy, y0 + a * g->y_spatial[0] + b * g->y_spatial[1] + c * g->y_spatial[2], g->type);
                }
              }
            }
          }
          conv_store_integer(g->dw, group * g->w_group + o * g->w_out + e * g->w_in + i * g->w_spatial[0] + j * g->w_spatial[1] +
                           k * g->w_spatial[2], g->type, sum);
        }
}

void apus_conv_general_outer(const conv_outer *g) { apus_parallel(g->groups * g->cout, outer_task, (void *)g); }
