// Stand-ins until the elementwise, reduction and fused kernels are in: weak, so that those take their place.
#include <stdlib.h>
__attribute__((weak)) void apus_arg_reduce(void) { abort(); }
__attribute__((weak)) void apus_batch_norm_apply(void) { abort(); }
__attribute__((weak)) void apus_batch_norm_grad(void) { abort(); }
__attribute__((weak)) void apus_batch_norm_statistics(void) { abort(); }
__attribute__((weak)) void apus_binary(void) { abort(); }
__attribute__((weak)) void apus_convert(void) { abort(); }
__attribute__((weak)) void apus_convert_flat(void) { abort(); }
__attribute__((weak)) void apus_cross_entropy(void) { abort(); }
__attribute__((weak)) void apus_cross_entropy_grad(void) { abort(); }
__attribute__((weak)) void apus_flat(void) { abort(); }
__attribute__((weak)) void apus_layer_norm(void) { abort(); }
__attribute__((weak)) void apus_layer_norm_grad(void) { abort(); }
__attribute__((weak)) void apus_moments(void) { abort(); }
__attribute__((weak)) void apus_reduce(void) { abort(); }
__attribute__((weak)) void apus_rms_norm(void) { abort(); }
__attribute__((weak)) void apus_rms_norm_grad(void) { abort(); }
__attribute__((weak)) void apus_scan(void) { abort(); }
__attribute__((weak)) void apus_softmax(void) { abort(); }
__attribute__((weak)) void apus_softmax_grad(void) { abort(); }
__attribute__((weak)) void apus_ternary(void) { abort(); }
__attribute__((weak)) void apus_unary(void) { abort(); }
