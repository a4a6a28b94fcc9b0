"""Makes metrics.safetensors beside this script with Keras on TensorFlow: `python make_metrics.py` (torch, keras, tensorflow, safetensors).

Keras computes in float64. Keys: DATA/p.I, DATA/t.I, DATA/w.I predictions, targets and weights of batch I; CASE/plain and CASE/weighted the
results after each batch, stacked.
"""
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import numpy
import torch
from torch.nn import functional as F
from safetensors.torch import save_file

torch.manual_seed(31)
torch.set_default_dtype(torch.float64)
keras.config.set_floatx("float64")
M = keras.metrics
tensors, data = {}, {}
sizes = [6, 4, 9]
r, rand = torch.randn, torch.rand


def dataset(name, make, weight=lambda n: rand(n) * 2, keras_shape=lambda x: x):
    """make(n) gives predictions and targets."""
    data[name] = []
    for i, n in enumerate(sizes):
        p, t = make(n)
        # Exact in float32 too.
        p = p.float().double() if p.is_floating_point() else p
        t = t.float().double() if t.is_floating_point() else t
        w = weight(n).float().double()
        tensors[f"{name}/p.{i}"], tensors[f"{name}/t.{i}"], tensors[f"{name}/w.{i}"] = p, t, w
        data[name].append((keras_shape(p).numpy(), keras_shape(t).numpy(), w.numpy()))


def case(name, source, make):
    for kind in ["plain", "weighted"]:
        metric, results = make(), []
        for p, t, w in data[source]:
            # TensorFlow finds the top k of float32 only.
            p = p.astype(numpy.float32) if "TopKCategorical" in name and p.dtype == numpy.float64 else p
            metric.update_state(t, p, sample_weight=w if kind == "weighted" else None)
            results.append(result(metric))
        tensors[f"{name}/{kind}"] = torch.stack(results)


def result(metric):
    return torch.from_numpy(numpy.asarray(metric.result(), dtype=numpy.float64).copy())


def pick(n, k):
    return torch.randint(0, k, (n,))


dataset("values", lambda n: (r(n, 3), r(n, 3)))
dataset("numbers", lambda n: (r(n), r(n)), keras_shape=lambda x: x.reshape(-1, 1))
dataset("elements", lambda n: (r(n, 3), r(n, 3)), weight=lambda n: rand(n, 3))
dataset("images", lambda n: (r(n, 2, 3), r(n, 2, 3)), weight=lambda n: rand(n, 2))
dataset("positive", lambda n: (rand(n, 3) * 4, torch.floor(rand(n, 3) * 5)))
dataset("signs", lambda n: (r(n, 3), torch.where(r(n, 3) > 0, 1.0, -1.0)))
dataset("binary", lambda n: (rand(n, 3), (rand(n, 3) > 0.6).double()))
dataset("binaryLogits", lambda n: (r(n, 3) * 2, (rand(n, 3) > 0.6).double()))
dataset("single", lambda n: (rand(n, 1), (rand(n) > 0.4).double()))
dataset("certain", lambda n: (torch.round(rand(n, 2) * 4) / 4, (rand(n, 2) > 0.5).double()))
dataset("integers", lambda n: (pick(n, 4), pick(n, 4)))
dataset("classes", lambda n: (torch.softmax(r(n, 4), 1), pick(n, 4)))
dataset("scores", lambda n: (r(n, 4), pick(n, 4)))
dataset("hot", lambda n: (torch.softmax(r(n, 4), 1), F.one_hot(pick(n, 4), 4).double()))
dataset("distributions", lambda n: (torch.softmax(r(n, 4), 1), torch.softmax(r(n, 4), 1)))
dataset("tokens", lambda n: (torch.softmax(r(n, 5, 4), 2), torch.randint(0, 4, (n, 5))), weight=lambda n: rand(n, 5))
dataset("hotTokens", lambda n: (torch.softmax(r(n, 5, 4), 2), F.one_hot(torch.randint(0, 4, (n, 5)), 4).double()),
        weight=lambda n: rand(n, 5))
dataset("ranked", lambda n: (torch.stack([torch.randperm(4) for _ in range(n)]), pick(n, 4)))
dataset("pixels", lambda n: (torch.randint(0, 3, (n, 2, 2)), torch.randint(0, 3, (n, 2, 2))), weight=lambda n: rand(n, 2, 2))
dataset("maybe", lambda n: (rand(n, 2, 2), torch.randint(0, 2, (n, 2, 2))), weight=lambda n: rand(n, 2, 2))
dataset("hotPixels", lambda n: (torch.softmax(r(n, 2, 3), 2), F.one_hot(torch.randint(0, 3, (n, 2)), 3).double()),
        weight=lambda n: rand(n, 2))

for source in ["values", "numbers", "elements", "images"]:
    S = source[0].upper() + source[1:]
    if source != "elements":
        case(f"MeanSquaredError{S}", source, M.MeanSquaredError)
    case(f"RootMeanSquaredError{S}", source, M.RootMeanSquaredError)
case("MeanAbsoluteError", "values", M.MeanAbsoluteError)
case("MeanAbsolutePercentageError", "values", M.MeanAbsolutePercentageError)
case("MeanSquaredLogarithmicError", "positive", M.MeanSquaredLogarithmicError)
case("LogCoshError", "values", M.LogCoshError)
case("CosineSimilarity", "values", M.CosineSimilarity)
case("CosineSimilarityAxis", "images", lambda: M.CosineSimilarity(axis=2))
case("MeanMetricWrapper", "values", lambda: M.MeanMetricWrapper(keras.losses.huber, delta=0.7))
for name, make in {"Mean": M.Mean, "Sum": M.Sum}.items():
    for source in ["values", "images", "elements"]:
        for kind in ["plain", "weighted"]:
            metric, results = make(), []
            for p, t, w in data[source]:
                metric.update_state(p, sample_weight=w if kind == "weighted" else None)
                results.append(result(metric))
            tensors[f"{name}{source[0].upper()}{source[1:]}/{kind}"] = torch.stack(results)

case("R2Score", "values", M.R2Score)
case("R2ScoreVariance", "values", lambda: M.R2Score(class_aggregation="variance_weighted_average"))
case("R2ScoreNone", "values", lambda: M.R2Score(class_aggregation=None))
case("R2ScoreAdjusted", "values", lambda: M.R2Score(num_regressors=2))
case("R2ScoreElements", "elements", M.R2Score)
case("PearsonCorrelation", "values", M.PearsonCorrelation)
case("PearsonCorrelationAxis", "images", lambda: M.PearsonCorrelation(axis=2))
case("ConcordanceCorrelation", "values", M.ConcordanceCorrelation)

case("Hinge", "signs", M.Hinge)
case("HingeBinary", "binary", M.Hinge)
case("SquaredHinge", "signs", M.SquaredHinge)
case("CategoricalHinge", "hot", M.CategoricalHinge)
case("Poisson", "positive", M.Poisson)
case("KLDivergence", "distributions", M.KLDivergence)
case("BinaryCrossEntropy", "binary", M.BinaryCrossentropy)
case("BinaryCrossEntropySmooth", "binaryLogits", lambda: M.BinaryCrossentropy(from_logits=True, label_smoothing=0.2))
case("CategoricalCrossEntropy", "hot", M.CategoricalCrossentropy)
case("CategoricalCrossEntropySmooth", "hotTokens", lambda: M.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2))
case("SparseCategoricalCrossEntropy", "classes", M.SparseCategoricalCrossentropy)
case("SparseCategoricalCrossEntropyLogits", "scores", lambda: M.SparseCategoricalCrossentropy(from_logits=True))
case("SparseCategoricalCrossEntropyIgnored", "tokens", lambda: M.SparseCategoricalCrossentropy(ignore_class=2))

case("Accuracy", "integers", M.Accuracy)
case("BinaryAccuracy", "binary", M.BinaryAccuracy)
case("BinaryAccuracyThreshold", "single", lambda: M.BinaryAccuracy(threshold=0.3))
case("CategoricalAccuracy", "hot", M.CategoricalAccuracy)
case("CategoricalAccuracyTokens", "hotTokens", M.CategoricalAccuracy)
case("SparseCategoricalAccuracy", "classes", M.SparseCategoricalAccuracy)
case("SparseCategoricalAccuracyTokens", "tokens", M.SparseCategoricalAccuracy)
case("TopKCategoricalAccuracy", "hot", lambda: M.TopKCategoricalAccuracy(k=2))
case("SparseTopKCategoricalAccuracy", "tokens", lambda: M.SparseTopKCategoricalAccuracy(k=3))
case("SparseTopKCategoricalAccuracySorted", "ranked", lambda: M.SparseTopKCategoricalAccuracy(k=2, from_sorted_ids=True))

even, uneven = [0.25, 0.5, 0.75], [0.1, 0.45, 0.9]
for name in ["TruePositives", "FalsePositives", "TrueNegatives", "FalseNegatives"]:
    metric = getattr(M, name)
    case(name, "binary", metric)
    case(f"{name}Many", "binary", lambda: metric(thresholds=uneven))
    case(f"{name}Even", "binary", lambda: metric(thresholds=[0.0, 0.5, 1.0]))
for name in ["Precision", "Recall"]:
    metric = getattr(M, name)
    case(name, "binary", metric)
    case(f"{name}Single", "single", metric)
    case(f"{name}Many", "binary", lambda: metric(thresholds=uneven))
    case(f"{name}TopK", "hot", lambda: metric(top_k=2))
    case(f"{name}TopKClass", "hot", lambda: metric(thresholds=0.2, top_k=2, class_id=1))
    case(f"{name}Class", "hot", lambda: metric(class_id=3))
for name, key in [("SensitivityAtSpecificity", "specificity"), ("SpecificityAtSensitivity", "sensitivity"), ("PrecisionAtRecall", "recall"),
                  ("RecallAtPrecision", "precision")]:
    metric = getattr(M, name)
    # No share that counts can give: Keras rounds the limit to float32.
    case(name, "binary", lambda: metric(**{key: 0.37}))
    case(f"{name}Class", "hot", lambda: metric(**{key: 0.57, "num_thresholds": 50, "class_id": 1}))
    case(f"{name}One", "binary", lambda: metric(**{key: 0.27, "num_thresholds": 1}))

for curve in ["ROC", "PR", "PRGAIN"]:
    for summation in ["interpolation", "majoring", "minoring"]:
        case(f"AUC{curve}{summation}", "binary", lambda: M.AUC(curve=curve, summation_method=summation))
case("AUCThresholds", "binary", lambda: M.AUC(thresholds=uneven))
case("AUCEvenThresholds", "certain", lambda: M.AUC(thresholds=even))
case("AUCFew", "certain", lambda: M.AUC(num_thresholds=3, curve="PR"))
case("AUCMultiLabel", "binary", lambda: M.AUC(multi_label=True, num_labels=3))
case("AUCMultiLabelWeights", "binary", lambda: M.AUC(multi_label=True, curve="PR", label_weights=[0.2, 0.5, 1.0]))
case("AUCMultiLabelThresholds", "binary", lambda: M.AUC(multi_label=True, thresholds=uneven))
case("AUCLabelWeights", "binary", lambda: M.AUC(label_weights=[0.2, 0.5, 1.0]))
case("AUCLogits", "binaryLogits", lambda: M.AUC(from_logits=True))

for average in [None, "micro", "macro", "weighted"]:
    case(f"F1Score{average}", "hot", lambda: M.F1Score(average=average))
case("F1ScoreThreshold", "binary", lambda: M.F1Score(average="macro", threshold=0.4))
case("FBetaScore", "hot", lambda: M.FBetaScore(average="weighted", beta=2.0))
case("FBetaScoreThreshold", "binary", lambda: M.FBetaScore(beta=0.5, threshold=0.7))

case("IoU", "pixels", lambda: M.IoU(num_classes=3, target_class_ids=[0, 2], dtype="float64"))
case("IoUIgnored", "pixels", lambda: M.IoU(num_classes=3, target_class_ids=[0, 1], ignore_class=1, dtype="float64"))
case("BinaryIoU", "maybe", lambda: M.BinaryIoU(target_class_ids=[0, 1], threshold=0.3, dtype="float64"))
case("BinaryIoUOne", "maybe", lambda: M.BinaryIoU(target_class_ids=[1], dtype="float64"))
case("MeanIoU", "pixels", lambda: M.MeanIoU(num_classes=4, dtype="float64"))
case("OneHotIoU", "hotPixels", lambda: M.OneHotIoU(num_classes=3, target_class_ids=[0, 2], dtype="float64"))
case("OneHotMeanIoU", "hotPixels", lambda: M.OneHotMeanIoU(num_classes=3, dtype="float64"))

save_file({key: value.clone().contiguous() for key, value in tensors.items()},
          os.path.join(os.path.dirname(os.path.abspath(__file__)), "metrics.safetensors"))
