"""Makes the fixtures beside this script with PyTorch: `python make_fixtures.py` (torch, safetensors).

Everything is float64. Keys: CASE/x input, CASE/dy the gradient that arrives, CASE/y output, CASE/dx gradient by the
input, CASE/p.NAME parameters and variables before, CASE/g.NAME gradients, CASE/b.NAME variables after.
"""
import os
import torch
from torch import nn
from torch.nn import functional as F
from safetensors.torch import save_file

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)
here = os.path.dirname(os.path.abspath(__file__))
layers, losses, optimizers = {}, {}, {}


def layer(name, module, x, training=True):
    module.train(training)
    floating = x.is_floating_point()
    for key, value in module.named_buffers():
        if key.endswith("running_mean"):
            value.normal_()
        elif key.endswith("running_var"):
            value.uniform_(0.5, 2)
    for parameter in module.parameters():
        with torch.no_grad():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    for key, value in module.state_dict().items():
        layers[f"{name}/p.{key}"] = value.clone()
    x = x.clone().requires_grad_(floating)
    y = module(x)
    dy = torch.randn_like(y)
    y.backward(dy)
    layers[f"{name}/x"], layers[f"{name}/y"], layers[f"{name}/dy"] = x.detach(), y.detach(), dy
    if floating:
        layers[f"{name}/dx"] = x.grad
    for key, parameter in module.named_parameters():
        layers[f"{name}/g.{key}"] = parameter.grad
    for key, value in module.named_buffers():
        layers[f"{name}/b.{key}"] = value.clone()


r = torch.randn
layer("linear", nn.Linear(5, 3), r(4, 5))
layer("linear3d", nn.Linear(5, 3, bias=False), r(2, 3, 5))
layer("conv1d", nn.Conv1d(3, 4, 3), r(2, 3, 9))
layer("conv1dStrideDilation", nn.Conv1d(4, 6, 3, stride=2, padding=3, dilation=2, groups=2), r(2, 4, 11))
layer("conv2d", nn.Conv2d(3, 4, 3, padding=1), r(2, 3, 6, 5))
layer("conv2dSame", nn.Conv2d(2, 3, 4, padding="same", dilation=(1, 2), bias=False), r(2, 2, 7, 8))
layer("conv2dUneven", nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0)), r(2, 2, 7, 6))
layer("conv2dDepthwise", nn.Conv2d(4, 8, 3, groups=4), r(2, 4, 5, 5))
layer("conv3d", nn.Conv3d(2, 3, 2, stride=(1, 2, 1), padding=1), r(1, 2, 3, 4, 3))
layer("convTranspose1d", nn.ConvTranspose1d(3, 2, 3, stride=2), r(2, 3, 5))
layer("convTranspose2d", nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), r(2, 4, 4, 3))
layer("convTranspose2dDilated", nn.ConvTranspose2d(2, 3, 2, stride=(1, 2), dilation=2, bias=False), r(1, 2, 4, 3))
layer("convTranspose3d", nn.ConvTranspose3d(2, 3, 2, stride=2), r(1, 2, 2, 3, 2))
layer("maxPool1d", nn.MaxPool1d(2), r(2, 3, 7))
layer("maxPool2d", nn.MaxPool2d(3, stride=2, padding=1), r(2, 3, 7, 6))
layer("maxPool2dCeil", nn.MaxPool2d((2, 3), stride=2, dilation=2, ceil_mode=True), r(2, 2, 8, 9))
layer("maxPool3d", nn.MaxPool3d(2), r(1, 2, 4, 4, 5))
layer("avgPool1d", nn.AvgPool1d(3, stride=2, padding=1), r(2, 3, 7))
layer("avgPool2d", nn.AvgPool2d(3, stride=2, padding=1), r(2, 3, 7, 6))
layer("avgPool2dValid", nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False), r(2, 3, 7, 6))
layer("avgPool2dCeil", nn.AvgPool2d(3, stride=2, ceil_mode=True), r(2, 2, 6, 8))
layer("avgPool2dCeilPad", nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True), r(2, 2, 6, 8))
layer("avgPool3d", nn.AvgPool3d(2), r(1, 2, 4, 4, 5))
layer("adaptiveAvgPool1d", nn.AdaptiveAvgPool1d(3), r(2, 3, 7))
layer("adaptiveAvgPool2d", nn.AdaptiveAvgPool2d((2, 3)), r(2, 3, 5, 6))
layer("adaptiveAvgPool2dOne", nn.AdaptiveAvgPool2d(1), r(2, 3, 5, 6))
layer("adaptiveAvgPool3d", nn.AdaptiveAvgPool3d(2), r(1, 2, 4, 3, 5))
layer("adaptiveMaxPool1d", nn.AdaptiveMaxPool1d(3), r(2, 3, 7))
layer("adaptiveMaxPool2d", nn.AdaptiveMaxPool2d(2), r(2, 3, 5, 4))
layer("adaptiveMaxPool3d", nn.AdaptiveMaxPool3d(2), r(1, 2, 4, 3, 5))
layer("batchNorm1d", nn.BatchNorm1d(3), r(6, 3))
layer("batchNorm1dLength", nn.BatchNorm1d(3, momentum=0.3), r(4, 3, 5))
layer("batchNorm2d", nn.BatchNorm2d(3, eps=1e-3), r(3, 3, 4, 2))
layer("batchNorm2dEval", nn.BatchNorm2d(3), r(3, 3, 4, 2), training=False)
layer("batchNorm2dAverage", nn.BatchNorm2d(3, momentum=None), r(3, 3, 4, 2))
layer("batchNorm2dPlain", nn.BatchNorm2d(3, affine=False), r(3, 3, 4, 2))
layer("batchNorm2dUntracked", nn.BatchNorm2d(3, track_running_stats=False), r(3, 3, 4, 2), training=False)
layer("batchNorm3d", nn.BatchNorm3d(2), r(2, 2, 3, 2, 2))
layer("layerNorm", nn.LayerNorm(6), r(4, 6))
layer("layerNorm2", nn.LayerNorm((3, 4), eps=1e-3), r(2, 3, 4))
layer("layerNormNoBias", nn.LayerNorm(6, bias=False), r(2, 3, 6))
layer("layerNormPlain", nn.LayerNorm(6, elementwise_affine=False), r(4, 6))
layer("rmsNorm", nn.RMSNorm(6), r(4, 6))
layer("rmsNormEpsilon", nn.RMSNorm((3, 4), eps=1e-2), r(2, 3, 4))
layer("groupNorm", nn.GroupNorm(2, 6), r(3, 6, 4))
layer("groupNorm2d", nn.GroupNorm(3, 6, affine=False), r(2, 6, 3, 2))
layer("embedding", nn.Embedding(7, 3), torch.tensor([[1, 4, 4], [0, 6, 1]]))
layer("embeddingPadding", nn.Embedding(7, 3, padding_idx=1), torch.tensor([[1, 4, 4], [0, 6, 1]]))
wide = r(5, 6) * 3
layer("relu", nn.ReLU(), wide)
layer("gelu", nn.GELU(), wide)
layer("geluTanh", nn.GELU(approximate="tanh"), wide)
layer("silu", nn.SiLU(), wide)
layer("sigmoid", nn.Sigmoid(), wide)
layer("tanh", nn.Tanh(), wide)
layer("softmax", nn.Softmax(dim=1), r(2, 4, 3))
layer("logSoftmax", nn.LogSoftmax(dim=-1), r(2, 4, 3))
layer("leakyReLU", nn.LeakyReLU(0.2), wide)
layer("elu", nn.ELU(0.7), wide)
layer("selu", nn.SELU(), wide)
layer("softplus", nn.Softplus(), wide)
layer("softplusBeta", nn.Softplus(beta=3, threshold=4), wide)
layer("relu6", nn.ReLU6(), torch.cat([wide.flatten() * 3, torch.tensor([0.0, -0.0])]))
layer("hardswish", nn.Hardswish(), wide)


class Hardsigmoid(nn.Module):
    """The definition: nn.Hardsigmoid's own gradient has 1/6 rounded to float32 even for float64."""

    def forward(self, x):
        return F.relu6(x + 3) / 6


layer("hardsigmoid", Hardsigmoid(), wide)
layer("hardtanh", nn.Hardtanh(-0.5, 2), wide)
layer("mish", nn.Mish(), wide)
layer("softsign", nn.Softsign(), wide)
layer("logSigmoid", nn.LogSigmoid(), wide * 20)
layer("prelu", nn.PReLU(), wide)
layer("preluChannels", nn.PReLU(3), r(2, 3, 4))
layer("glu", nn.GLU(dim=1), r(2, 4, 3))
layer("flatten", nn.Flatten(), r(2, 3, 2))
layer("unflatten", nn.Unflatten(1, (2, -1)), r(3, 6))


def loss(name, f, x, **others):
    x = x.clone().requires_grad_()
    y = f(x)
    dy = torch.randn_like(y)
    y.backward(dy)
    losses[f"{name}/x"], losses[f"{name}/y"], losses[f"{name}/dy"], losses[f"{name}/dx"] = x.detach(), y.detach(), dy, x.grad
    for key, value in others.items():
        losses[f"{name}/{key}"] = value


logits, labels = r(5, 4), torch.tensor([3, 0, 1, 1, 2])
ignored = torch.tensor([3, -100, 1, 1, -100])
images, pixels = r(2, 3, 2, 4), torch.randint(0, 3, (2, 2, 4))
pixels[0, 1, 2] = 255
classWeights = torch.tensor([0.5, 2.0, 1.0, 0.25])
three = torch.tensor([0.5, 2.0, 1.0])
soft = torch.softmax(r(5, 4), 1)
CE = F.cross_entropy
for reduction in ["mean", "sum", "none"]:
    loss(f"crossEntropy.{reduction}", lambda x: CE(x, labels, reduction=reduction), logits, t=labels)
    loss(f"crossEntropyIgnored.{reduction}", lambda x: CE(x, ignored, reduction=reduction), logits, t=ignored)
    loss(f"crossEntropySmooth.{reduction}", lambda x: CE(x, ignored, reduction=reduction, label_smoothing=0.1), logits, t=ignored)
    loss(f"crossEntropyWeighted.{reduction}", lambda x: CE(x, ignored, weight=classWeights, reduction=reduction), logits,
         t=ignored, w=classWeights)
    loss(f"crossEntropyWeightedSmooth.{reduction}",
         lambda x: CE(x, ignored, weight=classWeights, reduction=reduction, label_smoothing=0.2), logits, t=ignored, w=classWeights)
    loss(f"crossEntropyImage.{reduction}", lambda x: CE(x, pixels, ignore_index=255, reduction=reduction), images, t=pixels)
    loss(f"crossEntropyImageWeightedSmooth.{reduction}",
         lambda x: CE(x, pixels, weight=three, ignore_index=255, reduction=reduction, label_smoothing=0.1), images, t=pixels, w=three)
    loss(f"crossEntropySoft.{reduction}", lambda x: CE(x, soft, reduction=reduction), logits, t=soft)
    loss(f"crossEntropySoftWeightedSmooth.{reduction}",
         lambda x: CE(x, soft, weight=classWeights, reduction=reduction, label_smoothing=0.3), logits, t=soft, w=classWeights)
    loss(f"crossEntropyOne.{reduction}", lambda x: CE(x, torch.tensor(2), reduction=reduction), logits[0], t=torch.tensor(2))
    loss(f"nll.{reduction}", lambda x: F.nll_loss(x, ignored, reduction=reduction), logits, t=ignored)
    loss(f"nllWeighted.{reduction}", lambda x: F.nll_loss(x, labels, weight=classWeights, reduction=reduction), logits, t=labels,
         w=classWeights)
    loss(f"nllImage.{reduction}", lambda x: F.nll_loss(x, pixels, ignore_index=255, reduction=reduction), images, t=pixels)
    a, b = r(3, 4) * 2, r(3, 4) * 2
    loss(f"mse.{reduction}", lambda x: F.mse_loss(x, b, reduction=reduction), a, t=b)
    loss(f"l1.{reduction}", lambda x: F.l1_loss(x, b, reduction=reduction), a, t=b)
    loss(f"huber.{reduction}", lambda x: F.huber_loss(x, b, reduction=reduction, delta=0.8), a, t=b)
    loss(f"smoothL1.{reduction}", lambda x: F.smooth_l1_loss(x, b, reduction=reduction, beta=1.5), a, t=b)
    p, t = torch.rand(3, 4), torch.rand(3, 4)
    p[0, 0], t[0, 0], p[0, 1], t[0, 1], p[0, 2], t[0, 2] = 0, 0, 1, 1, 0, 1
    w, pw = torch.rand(4), torch.rand(4) * 3
    BCE = F.binary_cross_entropy
    loss(f"bce.{reduction}", lambda x: BCE(x, t, reduction=reduction), p, t=t)
    loss(f"bceWeighted.{reduction}", lambda x: BCE(x, t, weight=w, reduction=reduction), p, t=t, w=w)
    z = r(3, 4) * 3
    z[1, 0], z[1, 1] = 800.0, -800.0
    BCEL = F.binary_cross_entropy_with_logits
    loss(f"bceLogits.{reduction}", lambda x: BCEL(x, t, reduction=reduction), z, t=t)
    loss(f"bceLogitsWeighted.{reduction}", lambda x: BCEL(x, t, weight=w, pos_weight=pw, reduction=reduction), z, t=t, w=w, pw=pw)

start = [r(3, 4), r(5)]
gradients = [[r(3, 4), r(5)] for _ in range(5)]
for i, value in enumerate(start):
    optimizers[f"start.{i}"] = value
    for s in range(5):
        optimizers[f"gradient.{s}.{i}"] = gradients[s][i]


def optimizer(name, make):
    parameters = [value.clone().requires_grad_() for value in start]
    o = make(parameters)
    for s in range(5):
        for i, parameter in enumerate(parameters):
            # The second parameter has no gradient in the third step: its step count falls behind.
            parameter.grad = None if s == 2 and i == 1 else gradients[s][i].clone()
        o.step()
        for i, parameter in enumerate(parameters):
            optimizers[f"{name}/{s}.{i}"] = parameter.detach().clone()


O = torch.optim
optimizer("sgd", lambda p: O.SGD(p, lr=0.1))
optimizer("sgdDecay", lambda p: O.SGD(p, lr=0.1, weight_decay=0.05))
optimizer("sgdMomentum", lambda p: O.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01))
optimizer("sgdDampening", lambda p: O.SGD(p, lr=0.1, momentum=0.9, dampening=0.3))
optimizer("sgdNesterov", lambda p: O.SGD(p, lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.02))
optimizer("sgdMaximize", lambda p: O.SGD(p, lr=0.1, momentum=0.8, maximize=True, weight_decay=0.02))
optimizer("adam", lambda p: O.Adam(p, lr=0.05))
optimizer("adamDecay", lambda p: O.Adam(p, lr=0.05, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1))
optimizer("adamAmsgrad", lambda p: O.Adam(p, lr=0.05, amsgrad=True, betas=(0.5, 0.6)))
optimizer("adamMaximize", lambda p: O.Adam(p, lr=0.05, maximize=True, weight_decay=0.1))
optimizer("adamW", lambda p: O.AdamW(p, lr=0.05))
optimizer("adamWAmsgrad", lambda p: O.AdamW(p, lr=0.05, weight_decay=0.2, amsgrad=True, betas=(0.5, 0.6)))
optimizer("rmsprop", lambda p: O.RMSprop(p))
optimizer("rmspropMomentum", lambda p: O.RMSprop(p, lr=0.02, alpha=0.9, momentum=0.7, weight_decay=0.1))
optimizer("rmspropCentered", lambda p: O.RMSprop(p, lr=0.02, alpha=0.9, centered=True, eps=1e-3))
optimizer("rmspropAll", lambda p: O.RMSprop(p, lr=0.02, alpha=0.9, centered=True, momentum=0.5, maximize=True))
optimizer("sgdGroups", lambda p: O.SGD(
    [{"params": [p[0]], "lr": 0.01, "weight_decay": 0.3}, {"params": [p[1]], "momentum": 0.5}], lr=0.1, momentum=0.9))


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv = nn.Conv2d(n, n, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(n)

    def forward(self, x):
        return x + torch.relu(self.bn(self.conv(x)))


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale_factor = nn.Parameter(torch.tensor([1.5]))
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.layers = nn.ModuleList([Block(4), Block(4)])
        self.class_head = nn.Linear(4, 3)
        self.register_buffer("running_shift", torch.zeros(3))

    def forward(self, x):
        x = self.stem(x)
        for block in self.layers:
            x = block(x)
        return self.class_head(x.mean((2, 3))) * self.scale_factor + self.running_shift


torch.set_default_dtype(torch.float32)
small = Small()
for value in small.state_dict().values():
    if value.is_floating_point():
        value.uniform_(0.1, 0.9)
state = {key: value.contiguous() for key, value in small.state_dict().items()}
save_file(state, os.path.join(here, "small.safetensors"), metadata={"format": "pt"})
small.eval()
x = torch.randn(2, 1, 6, 6)
check = {"x": x, "y": small(x).detach()}
# The order of state_dict and of parameters(), as numbers: safetensors files keep no order.
with open(os.path.join(here, "small.names.txt"), "w") as f:
    f.write("\n".join(small.state_dict().keys()) + "\n---\n" + "\n".join(n for n, _ in small.named_parameters()) + "\n")
save_file(check, os.path.join(here, "small.check.safetensors"))


def save(tensors, name):
    save_file({key: value.clone().contiguous() for key, value in tensors.items()}, os.path.join(here, name))


save(layers, "layers.safetensors")
save(losses, "losses.safetensors")
save(optimizers, "optimizers.safetensors")
