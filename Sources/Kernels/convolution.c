// Convolution: brings the public descriptor into three dimensions and picks the kernels.
#include "convolution_internal.h"

// Spreads the first `rank` entries over the last of three; the others get `fill`.
static void spread(int64_t to[3], const int64_t from[3], int rank, int64_t fill) {
  for (int i = 0; i < 3; i++) to[i] = i < 3 - rank ? fill : from[i - (3 - rank)];
}

// Mirrors the kernel: starts at its last element and steps backwards. Returns the offset of that element.
static int64_t mirror(int64_t w_spatial[3], const int64_t kernel[3]) {
  int64_t offset = 0;
  for (int i = 0; i < 3; i++) {
    offset += (kernel[i] - 1) * w_spatial[i];
    w_spatial[i] = -w_spatial[i];
  }
  return offset;
}

static bool empty(const int64_t a[3]) { return a[0] == 0 || a[1] == 0 || a[2] == 0; }

static void run_gather(const conv_gather *g) {
  if (g->batch == 0 || g->groups * g->cout == 0 || empty(g->out)) return;
  switch (g->type) {
    case APUS_F32:
    case APUS_F64:
    case APUS_F16:
    case APUS_BF16: apus_conv_gather(g); return;
  }
  apus_conv_general_gather(g);
  if (g->residual) conv_finish(g);
}

static conv_gather forward_of(const apus_convolution *p) {
  int rank = p->spatial_rank;
  conv_gather g = {.type = p->type, .batch = p->batch, .groups = p->groups, .cin = p->in_channels / p->groups,
                   .cout = p->out_channels / p->groups, .src = p->x, .w = p->w, .dst = p->y, .bias = p->bias,
                   .residual = p->residual, .r_batch = p->residual_batch, .r_channel = p->residual_channel, .activation = p->activation,
                   .relu = p->activation == APUS_EPILOGUE_RELU, .algorithm = p->algorithm, .prepared = p->prepared, .s_batch = p->x_batch, .s_channel = p->x_channel,
                   .w_out = p->w_out, .w_in = p->w_in, .d_batch = p->y_batch, .d_channel = p->y_channel};
  g.w_group = g.cout * p->w_out;
  spread(g.in, p->in, rank, 1), spread(g.kernel, p->kernel, rank, 1), spread(g.out, p->out, rank, 1);
  spread(g.step, p->stride, rank, 1), spread(g.in_step, p->input_dilation, rank, 1);
  spread(g.dilation, p->kernel_dilation, rank, 1), spread(g.pad, p->pad_low, rank, 0);
  spread(g.s_spatial, p->x_spatial, rank, 0), spread(g.w_spatial, p->w_spatial, rank, 0), spread(g.d_spatial, p->y_spatial, rank, 0);
  spread(g.r_spatial, p->residual_spatial, rank, 0);
  if (p->flip_kernel && !empty(g.kernel)) g.w += mirror(g.w_spatial, g.kernel) * apus_type_size(g.type);
  return g;
}

void apus_convolution_forward(const apus_convolution *p) {
  conv_gather g = forward_of(p);
  run_gather(&g);
}

static size_t prepared_form(const conv_gather *g, int *form) {
  if (g->type < APUS_F16 || g->batch == 0 || g->groups * g->cout == 0 || g->cin == 0 || empty(g->out) || empty(g->kernel)) return 0;
  size_t size = apus_conv_prepared_form(g, form);
  return size ? size + sizeof(conv_prepared_header) : 0;
}

size_t apus_convolution_prepared_size(const apus_convolution *p) {
  conv_gather g = forward_of(p);
  int form;
  g.prepared = NULL;
  return prepared_form(&g, &form);
}

void apus_convolution_prepare(const apus_convolution *p, void *prepared) {
  conv_gather g = forward_of(p);
  int form;
  g.prepared = NULL;
  if (prepared_form(&g, &form) == 0) return;
  conv_prepared_header header = conv_header_of(&g, form, apus_current_isa());
  memcpy(prepared, &header, sizeof header);
  apus_conv_prepare(&g, form, (char *)prepared + sizeof header);
}

void apus_convolution_input_gradient(const apus_convolution *p) {
  int rank = p->spatial_rank;
  conv_gather g = {.type = p->type, .batch = p->batch, .groups = p->groups, .cin = p->out_channels / p->groups,
                   .cout = p->in_channels / p->groups, .src = p->y, .w = p->w, .dst = (char *)p->x, .s_batch = p->y_batch,
                   .s_channel = p->y_channel, .w_out = p->w_in, .w_in = p->w_out, .d_batch = p->x_batch, .d_channel = p->x_channel,
                   .algorithm = p->algorithm};
  g.w_group = g.cin * p->w_out;
  spread(g.in, p->out, rank, 1), spread(g.kernel, p->kernel, rank, 1), spread(g.out, p->in, rank, 1);
  spread(g.step, p->input_dilation, rank, 1), spread(g.in_step, p->stride, rank, 1);
  spread(g.dilation, p->kernel_dilation, rank, 1), spread(g.pad, p->pad_low, rank, 0);
  spread(g.s_spatial, p->y_spatial, rank, 0), spread(g.w_spatial, p->w_spatial, rank, 0), spread(g.d_spatial, p->x_spatial, rank, 0);
  // stride * p = input_dilation * i - dilation * q + pad: with the kernel mirrored, q counts upwards again.
  for (int i = 0; i < 3; i++) g.pad[i] = g.dilation[i] * (g.kernel[i] - 1) - g.pad[i];
  if (!p->flip_kernel && !empty(g.kernel)) g.w += mirror(g.w_spatial, g.kernel) * apus_type_size(g.type);
  run_gather(&g);
}

void apus_convolution_weight_gradient(const apus_convolution *p) {
  int rank = p->spatial_rank;
  conv_outer g = {.type = p->type, .batch = p->batch, .groups = p->groups, .cin = p->in_channels / p->groups,
                  .cout = p->out_channels / p->groups, .x = p->x, .dy = p->y, .dw = (char *)p->w, .x_batch = p->x_batch,
                  .x_channel = p->x_channel, .w_out = p->w_out, .w_in = p->w_in, .y_batch = p->y_batch, .y_channel = p->y_channel,
                  .algorithm = p->algorithm};
  g.w_group = g.cout * p->w_out;
  spread(g.in, p->in, rank, 1), spread(g.kernel, p->kernel, rank, 1), spread(g.out, p->out, rank, 1);
  spread(g.step, p->stride, rank, 1), spread(g.in_step, p->input_dilation, rank, 1);
  spread(g.dilation, p->kernel_dilation, rank, 1), spread(g.pad, p->pad_low, rank, 0);
  spread(g.x_spatial, p->x_spatial, rank, 0), spread(g.w_spatial, p->w_spatial, rank, 0), spread(g.y_spatial, p->y_spatial, rank, 0);
  if (g.groups * g.cin * g.cout == 0 || empty(g.kernel)) return;
  if (p->flip_kernel) g.dw += mirror(g.w_spatial, g.kernel) * apus_type_size(g.type);
  switch (g.type) {
    case APUS_F32:
    case APUS_F64:
    case APUS_F16:
    case APUS_BF16: apus_conv_outer(&g); return;
  }
  apus_conv_general_outer(&g);
}
