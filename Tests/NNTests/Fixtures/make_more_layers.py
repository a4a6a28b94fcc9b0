"""Makes more_layers.safetensors beside this script with PyTorch: `python make_more_layers.py` (torch, safetensors).

Everything is float64. Keys: CASE/x0, x1 … inputs, CASE/dy the gradient that arrives, CASE/y output, CASE/dx0 … gradients by the
floating-point inputs, CASE/p.NAME parameters and variables before, CASE/g.NAME gradients, CASE/b.NAME variables after;
CASE/i and other names: further results that have no gradient.
"""
import os
import torch
from torch import nn
from torch.nn import functional as F
from safetensors.torch import save_file

torch.manual_seed(11)
torch.set_default_dtype(torch.float64)
here = os.path.dirname(os.path.abspath(__file__))
out = {}
r = torch.randn


def case(name, f, *inputs, training=True, **more):
    module = f if isinstance(f, nn.Module) else None
    if module is not None:
        module.train(training)
        for key, value in module.named_buffers():
            if key.endswith("running_mean"):
                value.normal_()
            elif key.endswith("running_var"):
                value.uniform_(0.5, 2)
        for parameter in module.parameters():
            with torch.no_grad():
                parameter.add_(torch.randn_like(parameter) * 0.3)
        for key, value in module.state_dict().items():
            out[f"{name}/p.{key}"] = value.clone()
    xs = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    y = f(*xs)
    dy = torch.randn_like(y)
    y.backward(dy)
    out[f"{name}/y"], out[f"{name}/dy"] = y.detach(), dy
    for i, x in enumerate(xs):
        out[f"{name}/x{i}"] = x.detach()
        if x.is_floating_point():
            out[f"{name}/dx{i}"] = x.grad
    if module is not None:
        for key, parameter in module.named_parameters():
            out[f"{name}/g.{key}"] = parameter.grad
        for key, value in module.named_buffers():
            out[f"{name}/b.{key}"] = value.clone()
    for key, value in more.items():
        out[f"{name}/{key}"] = value


# Pooling
case("lpPool1d", nn.LPPool1d(3, 2, stride=1), r(2, 3, 6).abs())
case("lpPool2d", nn.LPPool2d(2, (2, 3), stride=2, ceil_mode=True), r(2, 2, 5, 6))
zeros = r(1, 2, 4, 5)
zeros[0, 0, :2, :2] = 0
case("lpPool2dZero", nn.LPPool2d(2, 2), zeros)
case("lpPool2dMax", nn.LPPool2d(float("inf"), 2), r(1, 2, 5, 4))
case("lpPool3d", nn.LPPool3d(1.5, 2), r(1, 2, 4, 2, 5).abs())
samples2, samples3 = torch.rand(2, 3, 2), torch.rand(1, 2, 3)
for name, module, x, samples in [
    ("fractionalMaxPool2d", nn.FractionalMaxPool2d(2, output_size=(4, 3), _random_samples=samples2, return_indices=True), r(2, 3, 9, 8), samples2),
    ("fractionalMaxPool2dRatio", nn.FractionalMaxPool2d((3, 2), output_ratio=(0.6, 0.7), _random_samples=samples2, return_indices=True), r(2, 3, 9, 8), samples2),
    ("fractionalMaxPool3d", nn.FractionalMaxPool3d(2, output_size=(2, 3, 3), _random_samples=samples3, return_indices=True), r(1, 2, 5, 6, 7), samples3),
]:
    case(name, lambda x: module(x)[0], x, samples=samples, i=module(x)[1])
for n, kernel, stride, padding, size in [(1, 2, None, 0, (7,)), (2, 3, 2, 1, (7, 6)), (3, 2, 2, 0, (4, 5, 4))]:
    pool = getattr(nn, f"MaxPool{n}d")(kernel, stride=stride, padding=padding, return_indices=True)
    unpool = getattr(nn, f"MaxUnpool{n}d")(kernel, stride=stride, padding=padding)
    x = r(2, 2, *size)
    y, i = pool(x)
    case(f"maxPool{n}dIndices", lambda x: pool(x)[0], x, i=i)
    case(f"maxUnpool{n}d", lambda y: unpool(y, i, output_size=size), r(*y.shape), i=i, size=torch.tensor(size))
    case(f"maxUnpool{n}dSmallest", lambda y: unpool(y, torch.arange(y[0, 0].numel()).reshape(y[0, 0].shape).expand(y.shape)), r(*y.shape))

# Normalization
case("instanceNorm1d", nn.InstanceNorm1d(3, affine=True, track_running_stats=True), r(4, 3, 5))
case("instanceNorm2d", nn.InstanceNorm2d(3, eps=1e-3), r(2, 3, 3, 4))
case("instanceNorm2dTracked", nn.InstanceNorm2d(3, momentum=0.3, track_running_stats=True), r(3, 3, 3, 4))
case("instanceNorm2dEval", nn.InstanceNorm2d(3, affine=True, track_running_stats=True), r(2, 3, 3, 4), training=False)
case("instanceNorm3d", nn.InstanceNorm3d(2, affine=True), r(2, 2, 2, 3, 2))
case("localResponseNorm", nn.LocalResponseNorm(3, alpha=0.5, beta=0.6, k=2), r(2, 5, 3, 4))
case("localResponseNormEven", nn.LocalResponseNorm(4, alpha=0.5), r(2, 6, 5))
case("syncBatchNorm", nn.BatchNorm2d(3), r(3, 3, 4, 2))

# Padding
shapes = {1: (2, 3, 5), 2: (2, 2, 4, 5), 3: (1, 2, 3, 4, 5)}
for n in (1, 2, 3):
    sides = (2, 1, 0, 3, 1, 1)[: 2 * n]
    case(f"zeroPad{n}d", getattr(nn, f"ZeroPad{n}d")(sides), r(*shapes[n]))
    case(f"constantPad{n}d", getattr(nn, f"ConstantPad{n}d")((-1, *sides[1:]), 1.5), r(*shapes[n]))
    case(f"reflectionPad{n}d", getattr(nn, f"ReflectionPad{n}d")(sides), r(*shapes[n]))
    case(f"replicationPad{n}d", getattr(nn, f"ReplicationPad{n}d")(sides), r(*shapes[n]))
    case(f"circularPad{n}d", getattr(nn, f"CircularPad{n}d")(sides), r(*shapes[n]))
case("zeroPad2dAll", nn.ZeroPad2d(1), r(2, 2, 3, 4))

# Resolution
case("upsampleNearest", nn.Upsample(scale_factor=2), r(2, 2, 3, 4))
case("upsampleNearestSize", nn.Upsample(size=(5, 7)), r(1, 2, 3, 5))
case("upsampleNearestFactor", nn.Upsample(scale_factor=(1.7, 0.6)), r(1, 2, 4, 5))
case("upsampleNearest1d", nn.Upsample(scale_factor=3), r(2, 2, 5))
case("upsampleNearest3d", nn.Upsample(size=(3, 4, 2)), r(1, 2, 2, 3, 3))
case("upsampleNearestExact", nn.Upsample(size=(5, 3), mode="nearest-exact"), r(1, 2, 3, 5))
case("upsampleLinear", nn.Upsample(scale_factor=2, mode="linear"), r(2, 3, 5))
case("upsampleLinearAligned", nn.Upsample(size=8, mode="linear", align_corners=True), r(2, 3, 5))
case("upsampleBilinear", nn.Upsample(scale_factor=2, mode="bilinear"), r(2, 2, 3, 4))
case("upsampleBilinearFactor", nn.Upsample(scale_factor=1.7, mode="bilinear"), r(1, 2, 3, 4))
case("upsampleBilinearDown", nn.Upsample(size=(3, 9), mode="bilinear"), r(1, 2, 7, 5))
case("upsampleBilinearAligned", nn.Upsample(size=(1, 7), mode="bilinear", align_corners=True), r(1, 2, 3, 4))
case("upsampleTrilinear", nn.Upsample(scale_factor=2, mode="trilinear"), r(1, 2, 2, 3, 2))
case("upsampleTrilinearAligned", nn.Upsample(size=(3, 2, 4), mode="trilinear", align_corners=True), r(1, 2, 2, 3, 2))
case("upsampleBicubic", nn.Upsample(scale_factor=2, mode="bicubic"), r(1, 2, 4, 3))
case("upsampleBicubicAligned", nn.Upsample(size=(6, 3), mode="bicubic", align_corners=True), r(1, 2, 4, 5))
case("interpolateArea", lambda x: F.interpolate(x, size=(2, 3), mode="area"), r(1, 2, 5, 4))
case("interpolateBilinearAntialias", lambda x: F.interpolate(x, size=(3, 4), mode="bilinear", antialias=True), r(1, 2, 8, 7))
case("interpolateBicubicAntialias", lambda x: F.interpolate(x, size=(3, 9), mode="bicubic", antialias=True), r(1, 2, 8, 7))
case("pixelShuffle", nn.PixelShuffle(2), r(2, 8, 3, 2))
case("pixelUnshuffle", nn.PixelUnshuffle(3), r(2, 2, 3, 6))
case("channelShuffle", nn.ChannelShuffle(3), r(2, 6, 2, 3))
case("unfold", nn.Unfold((2, 3), dilation=(1, 2), padding=(1, 0), stride=2), r(2, 3, 5, 7))
case("fold", nn.Fold((5, 6), (2, 3), dilation=(2, 1), padding=(0, 1), stride=(1, 2)), r(2, 12, 9))

# Products, embeddings, distances
case("bilinear", nn.Bilinear(3, 4, 5), r(2, 6, 3), r(2, 6, 4))
case("bilinearNoBias", nn.Bilinear(3, 4, 2, bias=False), r(5, 3), r(5, 4))
ids = torch.tensor([[1, 4, 4], [0, 6, 1], [2, 2, 5]])
flat, offsets = torch.tensor([1, 4, 4, 0, 6, 1, 2]), torch.tensor([0, 3, 3, 6])
for mode in ("sum", "mean", "max"):
    case(f"embeddingBag.{mode}", nn.EmbeddingBag(7, 3, mode=mode), ids)
    case(f"embeddingBagOffsets.{mode}", nn.EmbeddingBag(7, 3, mode=mode), flat, offsets)
    case(f"embeddingBagPadding.{mode}", nn.EmbeddingBag(7, 3, mode=mode, padding_idx=4), torch.cat([ids, torch.tensor([[4, 4, 4]])]))
    case(f"embeddingBagPaddingOffsets.{mode}", nn.EmbeddingBag(7, 3, mode=mode, padding_idx=4), flat, offsets)
last = nn.EmbeddingBag(7, 3, mode="sum", include_last_offset=True)
case("embeddingBagLastOffset", last, flat, torch.tensor([0, 2, 2, 7]))


class Weighted(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(7, 3, mode="sum")

    def forward(self, x, weights, offsets=None):
        return self.bag(x, offsets, per_sample_weights=weights)


case("embeddingBagWeights", Weighted(), ids, r(3, 3))
case("embeddingBagWeightsOffsets", Weighted(), flat, r(7), offsets)
a, b = r(4, 5), r(4, 5)
a[1] = 0
case("cosineSimilarity", nn.CosineSimilarity(), a, b)
case("cosineSimilarityAxis", nn.CosineSimilarity(dim=-2, eps=0.5), r(2, 3, 4) * 0.3, r(1, 3, 4))
for name, p in [("", 2), ("1", 1), ("3", 3), ("Half", 0.5), ("Max", float("inf"))]:
    case(f"pairwiseDistance{name}", nn.PairwiseDistance(p=p), r(4, 5), r(4, 5))
    same = r(2, 3, 4)
    other = r(2, 5, 4)
    other[:, 1] = same[:, 2]
    case(f"cdist{name}", lambda x, y: torch.cdist(x, y, p=p), same, other)
case("pairwiseDistanceKeep", nn.PairwiseDistance(keepdim=True, eps=1e-3), r(2, 3, 4), r(3, 4))
case("cdistMany", lambda x, y: torch.cdist(x, y), r(26, 3), r(5, 3))

# Adaptive softmax
adaptive = nn.AdaptiveLogSoftmaxWithLoss(8, 12, cutoffs=[3, 7], div_value=2, head_bias=True)
target = torch.tensor([0, 11, 2, 3, 6, 7, 3])


class Output(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.tail = adaptive.head, adaptive.tail

    def forward(self, x, target):
        return adaptive(x, target).output


x = r(7, 8)
case("adaptiveLogSoftmax", Output(), x, target)
with torch.no_grad():
    out["adaptiveLogSoftmax/loss"] = adaptive(x, target).loss
    out["adaptiveLogSoftmax/logProb"] = adaptive.log_prob(x)
    out["adaptiveLogSoftmax/predict"] = adaptive.predict(x)

# What alpha dropout makes of 0 and 1: [of 0 dropped, of 0 kept, of 1 dropped, of 1 kept].
alpha = nn.AlphaDropout(0.3)
dropped = [sorted(set(alpha(torch.full((200,), value)).tolist())) for value in (0.0, 1.0)]
out["alphaDropout/values"] = torch.tensor([*dropped[0], *dropped[1]])

save_file({key: value.detach().clone().contiguous() for key, value in out.items()}, os.path.join(here, "more_layers.safetensors"))
print(len({key.split("/")[0] for key in out}), "cases")
