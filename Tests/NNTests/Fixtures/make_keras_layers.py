"""Makes keras_layers.safetensors beside this script with Keras on PyTorch: `python make_keras_layers.py` (keras, torch,
safetensors).

Everything is float64; keys as in make_more_layers.py. Weights are stored as Apus has them: convolution kernels
[out, in, kernel…] instead of [kernel…, in, out].
"""
import os

os.environ["KERAS_BACKEND"] = "torch"
import keras
import numpy as np
import torch
from keras import layers
from keras.src.backend.common import dtypes
from safetensors.torch import save_file

keras.config.set_floatx("float64")
# On PyTorch Keras computes some functions of float64 in float32, unless told that there is float64.
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
keras.utils.set_random_seed(5)
torch.manual_seed(13)
torch.set_default_dtype(torch.float64)
here = os.path.dirname(os.path.abspath(__file__))
out = {}
r = torch.randn
same = lambda w: w


def case(name, layer, *inputs, weights=(), single=None, **arguments):
    """`weights`: pairs of a name and what makes Apus's form of it, in Keras's order."""
    xs = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    argument = xs[0] if len(xs) == 1 else xs
    layer(argument, **arguments)  # builds
    for variable in layer.trainable_variables:
        variable.assign(r(*variable.shape) * 0.5)
    for (key, form), variable in zip(weights, layer.trainable_variables, strict=True):
        out[f"{name}/p.{key}"] = form(variable.value.detach())
        variable.value.grad = None
    y = layer(argument, **arguments)
    dy = r(*y.shape)
    y.backward(dy)
    out[f"{name}/y"], out[f"{name}/dy"] = y, dy
    for i, x in enumerate(xs):
        out[f"{name}/x{i}"] = x
        if x.is_floating_point():
            out[f"{name}/dx{i}"] = x.grad
    for (key, form), variable in zip(weights, layer.trainable_variables, strict=True):
        out[f"{name}/g.{key}"] = form(variable.value.grad)


kernel = [("kernel", same)]
biased = kernel + [("bias", same)]
case("einsumDense", layers.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d"), r(2, 3, 4), weights=biased)
case("einsumDenseHeads", layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 5), bias_axes="de"), r(2, 3, 4), weights=biased)
case("einsumDenseOpen", layers.EinsumDense("...x,xy->...y", output_shape=5, bias_axes="y"), r(2, 3, 2, 4), weights=biased)
case("einsumDenseRight", layers.EinsumDense("ab...,bc->ac...", output_shape=5, bias_axes="c"), r(2, 4, 3, 2), weights=biased)
case("einsumDensePartlyBiased", layers.EinsumDense("abc,bde->ade", output_shape=(3, 5), bias_axes="d"), r(2, 4, 3), weights=biased)
case("einsumDenseNoBias", layers.EinsumDense("abc,bcd->abd", output_shape=(3, 5)), r(2, 3, 4), weights=kernel)

embeddings = [("embeddings", same)]
ids = torch.tensor([[1, 4, 4], [0, 6, 1]])
case("reversibleEmbedding", layers.ReversibleEmbedding(7, 4), ids, weights=embeddings)
case("reversibleEmbeddingReverse", layers.ReversibleEmbedding(7, 4), r(2, 3, 4), weights=embeddings, reverse=True)
untied = layers.ReversibleEmbedding(7, 4, tie_weights=False, logit_soft_cap=2.0)
untied.build()


class Back(layers.Layer):
    """Both ways, so that both tables have a gradient."""

    def __init__(self):
        super().__init__()
        self.both = untied

    def call(self, x):
        return self.both(self.both(x), reverse=True)


case("reversibleEmbeddingUntied", Back(), ids, weights=embeddings + [("reverse_embeddings", same)])

steps = r(2, 4, 3)
steps[0, 1], steps[1, 3], steps[1, 2, 0] = 0, 0, 0
case("masking", layers.Masking(), steps)
out["masking/mask"] = layers.Masking().compute_mask(steps)
steps = r(2, 4, 3)
steps[1, 1:3] = -1
case("maskingValue", layers.Masking(mask_value=-1.0), steps)
out["maskingValue/mask"] = layers.Masking(mask_value=-1.0).compute_mask(steps)


def depthwise(w):
    """[kernel…, channels, multiplier] → [channels · multiplier, 1, kernel…]."""
    return w.reshape(*w.shape[:-2], -1).movedim(-1, 0).unsqueeze(1).contiguous()


pointwise = lambda w: w.movedim((-1, -2), (0, 1)).contiguous()
first = {"data_format": "channels_first"}
deep = [("weight", depthwise), ("bias", same)]
case("depthwiseConv1d", layers.DepthwiseConv1D(3, strides=2, depth_multiplier=2, **first), r(2, 3, 8), weights=deep)
case("depthwiseConv1dSame", layers.DepthwiseConv1D(4, strides=3, padding="same", use_bias=False, **first), r(2, 3, 8), weights=deep[:1])
case("depthwiseConv2d", layers.DepthwiseConv2D((3, 2), depth_multiplier=2, **first), r(2, 3, 5, 6), weights=deep)
case("depthwiseConv2dSame", layers.DepthwiseConv2D(3, strides=2, padding="same", **first), r(2, 3, 5, 6), weights=deep)
case("depthwiseConv2dDilated", layers.DepthwiseConv2D(2, dilation_rate=2, padding="same", **first), r(2, 3, 5, 6), weights=deep)
apart = [("depthwise.weight", depthwise), ("pointwise.weight", pointwise), ("pointwise.bias", same)]
case("separableConv1d", layers.SeparableConv1D(5, 3, depth_multiplier=2, **first), r(2, 3, 8), weights=apart)
case("separableConv2d", layers.SeparableConv2D(5, 3, strides=2, padding="same", **first), r(2, 3, 7, 6), weights=apart)
case("separableConv2dNoBias", layers.SeparableConv2D(4, (2, 3), use_bias=False, **first), r(2, 3, 5, 6), weights=apart[:2])

shapes = {1: (2, 3, 5), 2: (2, 3, 4, 5), 3: (2, 3, 2, 4, 3)}
for n in (1, 2, 3):
    x = r(*shapes[n])
    case(f"globalAvgPool{n}d", getattr(layers, f"GlobalAveragePooling{n}D")(**first), x)
    case(f"globalMaxPool{n}d", getattr(layers, f"GlobalMaxPooling{n}D")(**first), x)
    case(f"globalMaxPool{n}dKeep", getattr(layers, f"GlobalMaxPooling{n}D")(keepdims=True, **first), x)
case("unitNormalization", layers.UnitNormalization(), r(3, 4))
case("unitNormalizationAxes", layers.UnitNormalization(axis=(1, 2)), r(2, 3, 4))

a, b, c = r(2, 3, 4), r(2, 3, 4), r(2, 3, 4)
for name in ("Add", "Multiply", "Average", "Maximum", "Minimum"):
    case(name, getattr(layers, name)(), a, b, c)
    case(name + "Ranks", getattr(layers, name)(), r(2, 4), r(2, 3, 4), r(2, 3, 1))
case("Subtract", layers.Subtract(), a, b)
case("Concatenate", layers.Concatenate(), a, r(2, 3, 1), b)
case("ConcatenateAxis", layers.Concatenate(axis=1), a, r(2, 5, 4))
case("Dot", layers.Dot(axes=(1, 2)), r(2, 3, 5), r(2, 4, 3))
case("DotVectors", layers.Dot(axes=1), r(3, 4), r(3, 4))
case("DotNormalized", layers.Dot(axes=-1, normalize=True), r(2, 3, 5), r(2, 4, 5))
case("DotRanks", layers.Dot(axes=(2, 1)), r(2, 3, 5, 2), r(2, 5))

case("reshape", layers.Reshape((3, 4)), r(2, 12))
case("reshapeOpen", layers.Reshape((-1, 2)), r(2, 3, 4))
case("permute", layers.Permute((3, 1, 2)), r(2, 3, 4, 5))
case("repeatVector", layers.RepeatVector(3), r(2, 4))
case("cropping1d", layers.Cropping1D((1, 2)), r(2, 6, 3))
case("cropping2d", layers.Cropping2D(((1, 2), (0, 1)), **first), r(2, 3, 6, 5))
case("cropping2dBoth", layers.Cropping2D((1, 2), **first), r(2, 3, 6, 5))
case("cropping3d", layers.Cropping3D(((1, 0), (0, 2), (1, 1)), **first), r(1, 2, 3, 5, 4))
case("upSampling1d", layers.UpSampling1D(3), r(2, 4, 3))
case("upSampling2d", layers.UpSampling2D((2, 3), **first), r(2, 3, 4, 2))
case("upSampling2dBilinear", layers.UpSampling2D(2, interpolation="bilinear", **first), r(2, 3, 4, 2))
case("upSampling3d", layers.UpSampling3D((1, 2, 2), **first), r(1, 2, 3, 2, 4))

# Spectral normalization: two calls in training, then one in evaluation. Variables change in place.
kept = lambda w: w.detach().clone()
for name, wrapped, x, form in [
    ("spectralNormalization", layers.Dense(4), r(3, 5), lambda w: w.T.contiguous()),
    ("spectralNormalizationConv", layers.Conv2D(4, (3, 2), **first), r(2, 3, 5, 4), pointwise),
    ("spectralNormalizationEinsum", layers.EinsumDense("ab,bcd->acd", output_shape=(2, 4), bias_axes="d"), r(3, 5), same),
]:
    layer = layers.SpectralNormalization(wrapped, power_iterations=2)
    layer(x)
    key = "kernel" if form is same else "weight"
    wrapped.kernel.assign(r(*wrapped.kernel.shape))
    layer.vector_u.assign(r(*layer.vector_u.shape))
    out[f"{name}/p.layer.{key}"] = kept(form(wrapped.kernel.value))
    out[f"{name}/p.layer.bias"] = kept(wrapped.bias.value)
    out[f"{name}/p.vector_u"] = kept(layer.vector_u.value[0])
    out[f"{name}/x0"] = x
    for call in (0, 1):
        out[f"{name}/y{call}"] = layer(x, training=True)
        out[f"{name}/weight{call}"] = kept(form(wrapped.kernel.value))
        out[f"{name}/u{call}"] = kept(layer.vector_u.value[0])
    out[f"{name}/y2"] = layer(x, training=False)

save_file({key: value.detach().clone().contiguous() for key, value in out.items()}, os.path.join(here, "keras_layers.safetensors"))
print(len({key.split("/")[0] for key in out}), "cases")
