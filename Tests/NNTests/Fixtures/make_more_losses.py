"""Makes more_losses.safetensors beside this script with PyTorch and Keras: `python make_more_losses.py` (torch, keras, tensorflow,
safetensors).

Everything is float64. Keys, for CASE.REDUCTION: /x.I inputs, /dx.I gradients by them, /y output, /dy the gradient that arrives;
CASE/NAME what else goes in.
"""
import os

os.environ["KERAS_BACKEND"] = "tensorflow"  # On PyTorch Keras takes means in float32.
import keras
import tensorflow
import torch
from torch.nn import functional as F
from safetensors.torch import save_file

torch.manual_seed(23)
torch.set_default_dtype(torch.float64)
keras.config.set_floatx("float64")
r, rand = torch.randn, torch.rand
tensors = {}


def case(name, f, *inputs, reductions=("mean", "sum", "none"), **others):
    """f takes the inputs and a reduction."""
    for reduction in reductions:
        xs = [x.clone().requires_grad_() for x in inputs]
        y = f(*xs, reduction)
        dy = torch.randn_like(y)
        y.backward(dy)
        key = f"{name}.{reduction}"
        tensors[f"{key}/y"], tensors[f"{key}/dy"] = y.detach(), dy
        for i, x in enumerate(xs):
            tensors[f"{key}/dx.{i}"] = torch.zeros_like(x) if x.grad is None else x.grad
    for i, x in enumerate(inputs):
        tensors[f"{name}/x.{i}"] = x
    for key, value in others.items():
        tensors[f"{name}/{key}"] = value


def torch_case(name, f, *inputs, target=None, reductions=("mean", "sum", "none"), **others):
    targets = [] if target is None else [target]
    if target is not None:
        others["t"] = target
    case(name, lambda *a: f(*a[:-1], *targets, reduction=a[-1]), *inputs, reductions=reductions, **others)


def keras_case(name, make, x, target):
    """make(reduction) is a Keras loss."""
    for reduction, how in {"mean": "sum_over_batch_size", "sum": "sum", "none": None}.items():
        with tensorflow.GradientTape() as tape:
            variable = tensorflow.Variable(x.numpy())
            y = make(how)(target.numpy(), variable)
            dy = torch.randn(tuple(y.shape))
            total = tensorflow.reduce_sum(y * dy.numpy())
        key = f"{name}.{reduction}"
        tensors[f"{key}/y"], tensors[f"{key}/dy"] = torch.from_numpy(y.numpy()) if y.ndim else torch.tensor(float(y)), dy
        tensors[f"{key}/dx.0"] = torch.from_numpy(tape.gradient(total, variable).numpy())
    tensors[f"{name}/x.0"], tensors[f"{name}/t"] = x, target


P = torch_case
signs = torch.where(r(4, 3) > 0, 1.0, -1.0)
sign4 = torch.tensor([1.0, -1.0, -1.0, 1.0])

# PyTorch's.
P("gaussianNLLLoss", F.gaussian_nll_loss, r(4, 3), r(4, 3), rand(4, 3) + 0.1)
small = rand(4, 1)
small[1, 0] = 1e-9
P("gaussianNLLLossFull", lambda x, t, v, reduction: F.gaussian_nll_loss(x, t, v, full=True, eps=1e-3, reduction=reduction),
  r(4, 3), r(4, 3), small)
P("gaussianNLLLossRows", F.gaussian_nll_loss, r(4, 3), r(4, 3), rand(4) + 0.1)
counts = torch.tensor([[0.0, 1.0, 2.0], [5.0, 9.0, 1.0]])
P("poissonNLLLoss", F.poisson_nll_loss, r(2, 3), target=counts)
P("poissonNLLLossFull", lambda x, t, reduction: F.poisson_nll_loss(x, t, log_input=False, full=True, eps=1e-4, reduction=reduction),
  rand(2, 3) * 5, target=counts)
q = torch.softmax(r(4, 3), 1)
q[0, 0] = 0.0
reductions = ("mean", "sum", "none", "batchmean")
P("klDivLoss", F.kl_div, torch.log_softmax(r(4, 3), 1), target=q, reductions=reductions)
P("klDivLossLog", lambda x, t, reduction: F.kl_div(x, t, log_target=True, reduction=reduction),
  torch.log_softmax(r(4, 3), 1), torch.log_softmax(r(4, 3), 1), reductions=reductions)
P("marginRankingLoss", lambda a, b, t, reduction: F.margin_ranking_loss(a, b, t, margin=0.3, reduction=reduction), r(4, 3), r(4, 3),
  target=signs)
P("hingeEmbeddingLoss", lambda x, t, reduction: F.hinge_embedding_loss(x, t, margin=0.7, reduction=reduction), r(4, 3), target=signs)
P("softMarginLoss", F.soft_margin_loss, r(4, 3) * 4, target=signs)
labels = torch.tensor([2, 0, 4, 4])
P("multiMarginLoss", F.multi_margin_loss, r(4, 5), target=labels)
w5 = rand(5) + 0.2
P("multiMarginLossSquared", lambda x, t, reduction: F.multi_margin_loss(x, t, p=2, margin=0.6, weight=w5, reduction=reduction),
  r(4, 5), target=labels, w=w5)
P("multiMarginLossOne", F.multi_margin_loss, r(5), target=torch.tensor(3))
many = torch.tensor([[3, 0, -1, 1], [2, -1, 0, 0], [-1, 0, 0, 0], [0, 1, 2, 3]])
P("multiLabelMarginLoss", F.multilabel_margin_loss, r(4, 4), target=many)
P("multiLabelMarginLossOne", F.multilabel_margin_loss, r(4), target=many[0])
P("multiLabelSoftMarginLoss", F.multilabel_soft_margin_loss, r(4, 3), target=(r(4, 3) > 0).double())
w3 = rand(3)
P("multiLabelSoftMarginLossWeighted", lambda x, t, reduction: F.multilabel_soft_margin_loss(x, t, weight=w3, reduction=reduction),
  r(4, 3), target=(r(4, 3) > 0).double(), w=w3)
P("cosineEmbeddingLoss", lambda a, b, t, reduction: F.cosine_embedding_loss(a, b, t, margin=-0.2, reduction=reduction), r(4, 3),
  r(4, 3), target=sign4)
P("cosineEmbeddingLossOne", F.cosine_embedding_loss, r(3), r(3), target=torch.tensor(-1.0))
for name, options in {"": {}, "Swap": {"swap": True, "margin": 2.0}, "L1": {"p": 1}, "L3": {"p": 3, "eps": 1e-3}}.items():
    P("tripletMarginLoss" + name, lambda a, b, c, reduction: F.triplet_margin_loss(a, b, c, **options, reduction=reduction), r(5, 3),
      r(5, 3), r(5, 3))
P("tripletMarginWithDistanceLoss", lambda a, b, c, reduction: F.triplet_margin_with_distance_loss(
    a, b, c, distance_function=lambda u, v: ((u - v) ** 2).sum(-1), margin=0.5, swap=True, reduction=reduction), r(5, 3), r(5, 3), r(5, 3))
P("tripletMarginWithDistanceLossDefault", F.triplet_margin_with_distance_loss, r(5, 3), r(5, 3), r(5, 3))

# CTC. The third sample has no labels, the fourth too few frames for its repeated ones.
T, N, C = 7, 4, 5
lp = torch.log_softmax(r(T, N, C), 2)
padded = torch.tensor([[1, 2, 2, 4], [3, 1, 0, 0], [0, 0, 0, 0], [2, 2, 2, 2]])
lengths, frames, few = torch.tensor([4, 2, 0, 4]), torch.tensor([7, 5, 4, 7]), torch.tensor([7, 5, 4, 6])
flat = torch.cat([row[:n] for row, n in zip(padded, lengths)])
P("ctcLoss", lambda x, t, reduction: F.ctc_loss(x, t, frames, lengths, reduction=reduction), lp, target=padded, frames=frames,
  lengths=lengths)
P("ctcLossFlat", lambda x, t, reduction: F.ctc_loss(x, t, frames, lengths, reduction=reduction), lp, target=flat, frames=frames,
  lengths=lengths)
P("ctcLossZeroInfinity", lambda x, t, reduction: F.ctc_loss(x, t, few, lengths, zero_infinity=True, reduction=reduction), lp,
  target=padded, frames=few, lengths=lengths)
P("ctcLossInfinity", lambda x, t, reduction: F.ctc_loss(x, t, few, lengths, reduction=reduction), lp, target=padded, frames=few,
  lengths=lengths, reductions=("none",))
P("ctcLossBlank", lambda x, t, reduction: F.ctc_loss(x, t, frames[:2], lengths[:2], blank=3, reduction=reduction), lp[:, :2],
  target=torch.tensor([[1, 0, 0, 4], [2, 1, 0, 0]]), frames=frames[:2], lengths=lengths[:2])
P("ctcLossOne", lambda x, t, reduction: F.ctc_loss(x, t, torch.tensor(6), torch.tensor(3), reduction=reduction), lp[:, 0],
  target=padded[0, :3], frames=torch.tensor(6), lengths=torch.tensor(3))

# Keras's.
L = keras.losses
K = keras_case
values, wanted = r(4, 3) * 2, r(4, 3) * 2
K("hingeLoss", lambda how: L.Hinge(reduction=how), values, signs)
K("hingeLossBinary", lambda how: L.Hinge(reduction=how), values, (signs + 1) / 2)
K("squaredHingeLoss", lambda how: L.SquaredHinge(reduction=how), values, signs)
hot = F.one_hot(torch.tensor([2, 0, 1, 1]), 3).double()
K("categoricalHingeLoss", lambda how: L.CategoricalHinge(reduction=how), values, hot)
K("logCoshLoss", lambda how: L.LogCosh(reduction=how), values, wanted)
K("meanAbsolutePercentageError", lambda how: L.MeanAbsolutePercentageError(reduction=how), values, wanted)
K("meanSquaredLogarithmicError", lambda how: L.MeanSquaredLogarithmicError(reduction=how), rand(4, 3) * 5, rand(4, 3) * 5)
K("poissonLoss", lambda how: L.Poisson(reduction=how), rand(2, 3) * 4, counts)
p = torch.softmax(r(4, 3), 1)
K("klDivergenceLoss", lambda how: L.KLDivergence(reduction=how), p, q)
K("cosineSimilarityLoss", lambda how: L.CosineSimilarity(reduction=how), values, wanted)
K("cosineSimilarityLossAxis", lambda how: L.CosineSimilarity(axis=1, reduction=how), r(2, 4, 3), r(2, 4, 3))
masks, bits = rand(2, 3, 4), (r(2, 3, 4) > 0).double()
K("diceLoss", lambda how: L.Dice(reduction=how), masks, bits)
K("diceLossAxes", lambda how: L.Dice(axis=(1, 2), reduction=how), masks, bits)
K("tverskyLoss", lambda how: L.Tversky(reduction=how), masks, bits)
K("tverskyLossAxes", lambda how: L.Tversky(alpha=0.3, beta=0.8, axis=(1, 2), reduction=how), masks, bits)
embeddings = F.normalize(r(6, 4), dim=1)
# Class 3 occurs once: its sample has no partner and no loss.
K("circleLoss", lambda how: L.Circle(gamma=3.0, margin=0.3, reduction=how), embeddings, torch.tensor([0, 1, 0, 1, 3, 0]))
K("circleLossDiagonal", lambda how: L.Circle(reduction=how, remove_diagonal=False), embeddings, torch.tensor([0, 1, 0, 1, 3, 0]))
K("binaryFocalCrossEntropy", lambda how: L.BinaryFocalCrossentropy(reduction=how), rand(4, 3) * 0.98 + 0.01, (signs + 1) / 2)
K("binaryFocalCrossEntropyAll", lambda how: L.BinaryFocalCrossentropy(
    apply_class_balancing=True, alpha=0.4, gamma=1.5, from_logits=True, label_smoothing=0.1, reduction=how), values, (signs + 1) / 2)
K("categoricalFocalCrossEntropy", lambda how: L.CategoricalFocalCrossentropy(reduction=how), p * 2, hot)
K("categoricalFocalCrossEntropyAll", lambda how: L.CategoricalFocalCrossentropy(
    alpha=[0.25, 0.5, 0.375], gamma=1.5, from_logits=True, label_smoothing=0.1, reduction=how), values, hot)
K("categoricalCrossEntropy", lambda how: L.CategoricalCrossentropy(label_smoothing=0.1, reduction=how), p * 2, hot)
K("categoricalCrossEntropyLogits", lambda how: L.CategoricalCrossentropy(from_logits=True, reduction=how), values, torch.softmax(r(4, 3), 1))
third = torch.tensor([2, 0, 1, 1])
K("sparseCategoricalCrossEntropy", lambda how: L.SparseCategoricalCrossentropy(reduction=how), p, third)
K("sparseCategoricalCrossEntropyIgnored", lambda how: L.SparseCategoricalCrossentropy(
    from_logits=True, ignore_class=-1, reduction=how), r(2, 4, 3), torch.tensor([[2, -1, 1, 0], [-1, -1, 2, 2]]))
K("categoricalGeneralizedCrossEntropy", lambda how: L.CategoricalGeneralizedCrossEntropy(q=0.7, reduction=how), p, third)
K("ctc", lambda how: L.CTC(reduction=how), r(3, 7, 5), torch.tensor([[1, 2, 2, 0], [3, 1, 4, 2], [4, 0, 0, 0]]))

# Cross entropy of images with everything at once.
share = torch.softmax(r(2, 3, 2, 4), 1)
P("crossEntropySoftImage", lambda x, t, reduction: F.cross_entropy(x, t, weight=w3, label_smoothing=0.2, reduction=reduction),
  r(2, 3, 2, 4), target=share, w=w3)
pixels = torch.randint(0, 3, (2, 2, 4))
pixels[1, 0, 3] = -7
P("nllLossImageWeighted", lambda x, t, reduction: F.nll_loss(x, t, weight=w3, ignore_index=-7, reduction=reduction),
  torch.log_softmax(r(2, 3, 2, 4), 1), target=pixels, w=w3)

save_file({key: value.detach().clone().contiguous() for key, value in tensors.items()},
          os.path.join(os.path.dirname(os.path.abspath(__file__)), "more_losses.safetensors"))
