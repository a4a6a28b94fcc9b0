"""Makes parts.safetensors beside this script with PyTorch and Keras: `python make_parts.py` (torch, keras, scipy, safetensors).

Everything is float64. Keys: CASE/x input, CASE/dy the gradient that arrives, CASE/y output, CASE/dx gradient by the
input, CASE/p.NAME parameters and variables before, CASE/g.NAME gradients, CASE/b.NAME variables after.
"""
import os

os.environ["KERAS_BACKEND"] = "torch"
import keras
import numpy as np
import torch
from keras import activations as K
from keras import ops
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations as P
from torch.nn.utils import parametrize

torch.manual_seed(23)
torch.set_default_dtype(torch.float64)
keras.backend.set_floatx("float64")
keras.config.set_dtype_policy("float64")
here = os.path.dirname(os.path.abspath(__file__))
out = {}
r = torch.randn


def layer(name, module, x, training=True, perturb=0.3):
    """Forward and gradients of a module; parameters are moved so that no gradient is zero by accident."""
    module.train(training)
    with torch.no_grad():
        for parameter in module.parameters():
            if perturb:
                parameter.add_(torch.randn_like(parameter) * perturb)
    for key, value in module.state_dict().items():
        out[f"{name}/p.{key}"] = value.clone()
    x = x.clone().requires_grad_()
    y = module(x)
    dy = torch.randn_like(y)
    y.backward(dy)
    out[f"{name}/x"], out[f"{name}/y"], out[f"{name}/dy"], out[f"{name}/dx"] = x.detach(), y.detach(), dy, x.grad
    for key, parameter in module.named_parameters():
        out[f"{name}/g.{key}"] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    for key, value in module.named_buffers():
        out[f"{name}/b.{key}"] = value.clone()


class Function(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


# Activations. The kinks of the pieces are among the inputs where the gradient there is defined.
wide = torch.cat([r(5, 6).flatten() * 3, torch.tensor([0.0, 40.0, -40.0, 800.0, -800.0])])
kinks = torch.cat([wide, torch.tensor([1.0, -1.0, 0.5, -0.5, 2.0, -2.0])])
layer("celu", nn.CELU(), kinks)
# By the definition: nn.CELU's own gradient has alpha rounded to float32 even for float64.
layer("celuAlpha", Function(lambda x: torch.where(x > 0, x, 0.7 * torch.expm1(torch.where(x > 0, 0, x) / 0.7))), kinks)
layer("hardshrink", nn.Hardshrink(), kinks)
layer("hardshrinkTwo", nn.Hardshrink(2.0), kinks)
layer("softshrink", nn.Softshrink(), kinks)
layer("softshrinkTwo", nn.Softshrink(2.0), kinks)
layer("tanhshrink", nn.Tanhshrink(), kinks)
layer("threshold", nn.Threshold(0.5, -7.0), kinks)
layer("hardtanhKinks", nn.Hardtanh(), kinks)
layer("rreluEval", nn.RReLU(), kinks, training=False)
layer("softmin", nn.Softmin(dim=1), r(2, 4, 3))
layer("softmax2d", nn.Softmax2d(), r(2, 4, 3, 2))
layer("softmax2dSingle", nn.Softmax2d(), r(4, 3, 2))
layer("preluElements", Function(lambda x: x), r(2, 3, 4))  # its own test computes the rest
for name, f in {
    "squareplus": K.squareplus, "sparsePlus": K.sparse_plus, "sparseSigmoid": K.sparse_sigmoid, "exponential": K.exponential,
    "kerasReLU": lambda x: K.relu(x, negative_slope=0.1, max_value=2.5, threshold=0.3),
}.items():
    layer(name, Function(f), wide[:-3] if name == "exponential" else wide)
layer("squareplusB", Function(lambda x: K.squareplus(x, b=1.5)), wide)
byName = r(3, 4) * 2
for name in ["celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
             "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softmax",
             "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "squareplus", "swish", "tanh", "tanh_shrink"]:
    f = getattr(K, name, None) or K.get(name)
    # Keras's gelu is the approximation unless told otherwise.
    y = K.gelu(byName, approximate=False) if name == "gelu" else f(byName)
    out[f"byName/{name}"] = y.detach()
out["byName/x"] = byName


class Sparsemax(torch.autograd.Function):
    """Martins and Astudillo 2016, equations 2 and 3 and the Jacobian of section 2.5, row by row in NumPy.

    Keras 3.15's sparsemax divides a sum of running sums by k, and its rows do not sum to 1.
    """

    @staticmethod
    def forward(context, x):
        rows = x.numpy()
        y = np.zeros_like(rows)
        for i, z in enumerate(rows):
            s = np.sort(z)[::-1]
            k = max(j for j in range(1, len(z) + 1) if 1 + j * s[j - 1] > s[:j].sum())
            y[i] = np.maximum(z - (s[:k].sum() - 1) / k, 0)
        result = torch.from_numpy(y)
        context.save_for_backward(result)
        return result

    @staticmethod
    def backward(context, dy):
        (y,) = context.saved_tensors
        s = (y > 0).double()
        return s * (dy - (dy * s).sum(1, keepdim=True) / s.sum(1, keepdim=True))


layer("sparsemax", Function(Sparsemax.apply), torch.cat([r(4, 6), r(2, 6) * 5, torch.full((1, 6), 0.3)]))
layer("sparsemaxLarge", Function(Sparsemax.apply), r(3, 5) + 1e6)

# Initializers whose values are no chance.
for name, shape, groups in [("1d", (5, 3, 4), 1), ("2d", (6, 3, 3, 2), 2), ("3d", (4, 5, 2, 3, 3), 1), ("grouped", (6, 2, 5), 3)]:
    out[f"dirac/{name}"] = nn.init.dirac_(torch.empty(shape), groups)
out["identity/wide"] = nn.init.eye_(torch.empty(3, 5))
out["identity/gain"] = keras.initializers.Identity(1.5)((4, 4)).detach()
for side, window, scaling, periodic, frame, bins in [
    ("real", "hann", "density", False, 16, 9), ("imag", "hann", "density", True, 12, 9), ("real", "hamming", "spectrum", False, 10, 5),
    ("imag", "blackman", None, True, 8, 5), ("real", None, "density", False, 8, 5), ("imag", "hamming", "density", False, 1, 3),
]:
    kernel = keras.initializers.STFT(side, window, scaling, periodic)((frame, 1, bins)).detach()
    # Keras: [frame, 1, bins]; a convolution here: [bins, 1, frame].
    out[f"stft/{side}.{window}.{scaling}.{periodic}.{frame}"] = kernel.permute(2, 1, 0)
from keras.src.initializers.random_initializers import compute_fans
fans = []
for shape in [(4, 3), (8, 6, 3), (5, 2, 3, 3), (2, 7, 1, 2, 3)]:
    fans.append(nn.init._calculate_fan_in_and_fan_out(torch.empty(shape)))
    assert compute_fans(tuple(shape[2:]) + (shape[1], shape[0])) == fans[-1]
out["fans/all"] = torch.tensor(fans + [compute_fans((7,)), compute_fans(())])
gain = nn.init.calculate_gain
out["gains/all"] = torch.tensor(
    [gain("linear"), gain("sigmoid"), gain("tanh"), gain("relu"), gain("selu"), gain("leaky_relu"), gain("leaky_relu", 0.2)])


# Regularizers: value and gradient. Keras computes parts of them in float32, whatever its policy: its values are compared here,
# and those of the same formulas in float64 are kept.
def penalty(name, regularizer, formula, w):
    w = w.clone().requires_grad_()
    value = formula(w)
    torch.testing.assert_close(regularizer(w).double(), value, rtol=1e-6, atol=1e-6)
    value.backward()
    out[f"{name}/w"], out[f"{name}/y"], out[f"{name}/dw"] = w.detach(), value.detach(), w.grad


def crossing(w, factor):
    rows = F.normalize(w, dim=1)
    n = len(w)
    return factor * 0.5 * (rows @ rows.T * (1 - torch.eye(n))).abs().sum() / (n * (n - 1) / 2)


R = keras.regularizers
penalty("l1", R.L1(0.03), lambda w: 0.03 * w.abs().sum(), r(4, 5))
penalty("l2", R.L2(0.02), lambda w: 0.02 * w.square().sum(), r(4, 5))
penalty("l1l2", R.L1L2(l1=0.03, l2=0.02), lambda w: 0.03 * w.abs().sum() + 0.02 * w.square().sum(), r(3, 2, 4))
penalty("orthogonalRows", R.OrthogonalRegularizer(0.05, "rows"), lambda w: crossing(w, 0.05), r(4, 6))
penalty("orthogonalColumns", R.OrthogonalRegularizer(0.05, "columns"), lambda w: crossing(w.T, 0.05), r(4, 6))
activity = keras.layers.ActivityRegularization(l1=0.01, l2=0.02)
x = r(5, 3)
activity(x)
value = (0.01 * x.abs().sum() + 0.02 * x.square().sum()) / 5
torch.testing.assert_close(sum(activity.losses).double(), value, rtol=1e-6, atol=1e-6)
out["activity/x"], out["activity/y"] = x, value
dense = keras.layers.Dense(4, activity_regularizer=R.L2(0.1), kernel_regularizer=R.L1(0.01), bias_regularizer=R.L2(0.3))
x = r(5, 3)
dense(x)
dense.bias.assign(r(4))
w, b = (v.value.detach().double().requires_grad_() for v in (dense.kernel, dense.bias))
y = x @ w + b
total = y.square().mean() + y.square().sum() * 0.1 / 5 + w.abs().sum() * 0.01 + b.square().sum() * 0.3
total.backward()
y = dense(x)
theirs = y.square().mean() + sum(dense.losses)
theirs.backward()
for ours, other in [(total, theirs), (w.grad, dense.kernel.value.grad), (b.grad, dense.bias.value.grad)]:
    torch.testing.assert_close(other.double(), ours, rtol=1e-6, atol=1e-6)
out["denseLosses/x"], out["denseLosses/weight"], out["denseLosses/bias"] = x, w.T, b
out["denseLosses/y"], out["denseLosses/dweight"], out["denseLosses/dbias"] = total, w.grad.T, b.grad

# Constraints, on Keras's kernels [in, out] and [rows, columns, in, out] made into weights [out, in …].
C = keras.constraints


def nonNegative(w):
    """Keras's maximum with a number rounds to float32."""
    torch.testing.assert_close(C.NonNeg()(w).double(), w.clamp(min=0), rtol=1e-6, atol=1e-6)
    return w.clamp(min=0)


kernel, image = r(5, 4) * 2, r(3, 3, 2, 4)
kernel[:, 1] = 0
kernel[:, 2] *= 0.1
vector = r(6)
for name, make in {
    "maxNorm": lambda axis: C.MaxNorm(1.5, axis), "minMaxNorm": lambda axis: C.MinMaxNorm(0.8, 1.6, 1.0, axis),
    "minMaxNormRate": lambda axis: C.MinMaxNorm(0.8, 1.6, 0.3, axis), "unitNorm": lambda axis: C.UnitNorm(axis),
    "nonNegative": lambda axis: nonNegative,
}.items():
    out[f"constraints/{name}.kernel"] = make(0)(kernel).T
    out[f"constraints/{name}.image"] = make([0, 1, 2])(image).permute(3, 2, 0, 1)
    out[f"constraints/{name}.vector"] = make(0)(vector)
out["constraints/kernel"], out["constraints/image"], out["constraints/vector"] = kernel.T, image.permute(3, 2, 0, 1), vector

# Parametrizations.
layer("weightNorm", P.weight_norm(nn.Linear(5, 3)), r(4, 5))
layer("weightNormAxis1", P.weight_norm(nn.Linear(5, 3), dim=1), r(4, 5))
layer("weightNormWhole", P.weight_norm(nn.Linear(5, 3), dim=None), r(4, 5))
layer("weightNormConv", P.weight_norm(nn.Conv2d(2, 3, 2)), r(2, 2, 4, 3))
layer("spectralNorm", P.spectral_norm(nn.Linear(5, 3)), r(4, 5))
layer("spectralNormEval", P.spectral_norm(nn.Linear(5, 3)), r(4, 5), training=False)
layer("spectralNormConv", P.spectral_norm(nn.Conv2d(2, 3, 2), n_power_iterations=3), r(2, 2, 4, 3))
layer("spectralNormConvTranspose", P.spectral_norm(nn.ConvTranspose1d(2, 3, 2)), r(2, 2, 4))
layer("spectralNormBias", P.spectral_norm(nn.Linear(5, 3), name="bias"), r(4, 5))
for name, sizes in [("Square", (4, 4)), ("Tall", (3, 5)), ("Wide", (5, 3))]:
    for map in ["matrix_exp", "cayley", "householder"]:
        for trivial in [True, False]:
            module = P.orthogonal(nn.Linear(*sizes), orthogonal_map=map, use_trivialization=trivial)
            # The diagonal of the reflections' matrix holds signs: it is not moved.
            with torch.no_grad():
                moved = torch.randn(sizes[1], sizes[0]) * 0.4
                module.parametrizations.weight.original.add_(moved - torch.diag_embed(torch.diagonal(moved))
                                                             if sizes[0] == sizes[1] else moved.fill_diagonal_(0))
            layer(f"orthogonal.{name}.{map}.{trivial}", module, r(2, sizes[0]), perturb=0)


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).transpose(-1, -2)


module = nn.Linear(3, 3)
parametrize.register_parametrization(module, "weight", Symmetric())
layer("symmetric", module, r(4, 3))
a = torch.randn(2, 5, 5) * torch.tensor([0.05, 3.0]).reshape(2, 1, 1)
a = torch.cat([a, torch.zeros(1, 5, 5), torch.randn(1, 5, 5) * 8])
a = a - a.transpose(1, 2)
layer("matrixExp", Function(torch.matrix_exp), a)

# A functional model of Keras's: two inputs, a shared layer, merges, two outputs. Kept are the values of the same in PyTorch, since
# Keras's merges compute in float32.
left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
shared = keras.layers.Dense(3, activation="tanh", name="encoder")
a, b = shared(left), shared(right)
joined = keras.layers.Concatenate()([a, b])
last = keras.layers.Dense(2, name="score")
model = keras.Model([left, right], [last(keras.layers.Add()([joined, joined])), keras.layers.Subtract()([a, b])])
for weight in model.weights:
    weight.assign(r(weight.shape))
x, z = r(5, 4), r(5, 4)
p = {f"{n}.{k}": v.value.detach().double().t().clone().requires_grad_()
     for n, part in [("encoder", shared), ("score", last)] for k, v in [("weight", part.kernel), ("bias", part.bias)]}
a, b = (torch.tanh(F.linear(v, p["encoder.weight"], p["encoder.bias"])) for v in (x, z))
joined = torch.cat([a, b], 1)
y, d = F.linear(joined + joined, p["score.weight"], p["score.bias"]), a - b
loss = (y * y).mean() + d.abs().mean()
loss.backward()
for ours, other in zip([y, d], model([x, z])):
    torch.testing.assert_close(other.double(), ours, rtol=1e-5, atol=1e-6)
out["functional/left"], out["functional/right"] = x, z
out["functional/score"], out["functional/distance"], out["functional/loss"] = y, d, loss
for key, value in p.items():
    out[f"functional/p.{key}"], out[f"functional/g.{key}"] = value, value.grad

save_file({key: value.detach().clone().contiguous() for key, value in out.items()}, os.path.join(here, "parts.safetensors"))
