"""PyTorch's, Keras's and schedulefree's optimizers over ten steps, and all schedules over fifty: everyOptimizer.safetensors and
schedules.safetensors beside this file. Needs torch, keras, jax, safetensors and schedulefree.

Keras runs on torch, but for ScheduleFreeAdamW, which reads a variable's old value after it has written the new one: only values
of JAX do not change then. The script calls itself for that, with KERAS_BACKEND=jax.
"""
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("JAX_ENABLE_X64", "1")
import keras
import numpy
import schedulefree
import torch
from safetensors.numpy import save_file
from torch import nn

here = os.path.dirname(os.path.abspath(__file__))
torch.manual_seed(5)
torch.set_default_dtype(torch.float64)
keras.config.set_floatx("float64")
STEPS, KEPT = 10, (0, 1, 4, 9)
out = {}
shapes = [(3, 4), (5,), (2, 3, 2), (5, 3)]
start = [torch.randn(shape) for shape in shapes]
gradients = [[torch.randn(shape) for shape in shapes] for _ in range(STEPS)]
for step in gradients:  # rows that were not looked up
    for g in step:
        g[torch.rand(g.shape[0]) < 0.25] = 0
for i, value in enumerate(start):
    out[f"start.{i}"] = value.numpy()
    for s in range(STEPS):
        out[f"gradient.{s}.{i}"] = gradients[s][i].numpy()


def keep(name, step, i, value):
    if step in KEPT:
        out[f"{name}/{step}.{i}"] = numpy.array(value, dtype="float64")


def torched(name, make, which=(0, 1, 2, 3), sparse=False, after=None):
    parameters = {i: start[i].clone().requires_grad_() for i in which}
    o = make([parameters[i] for i in which])
    if hasattr(o, "train"):
        o.train()
    for s in range(STEPS):
        for i, p in parameters.items():
            # The second parameter has no gradient in the third step: its step count falls behind.
            p.grad = None if s == 2 and i == 1 else gradients[s][i].clone()
            if sparse and p.grad is not None:
                p.grad = p.grad.to_sparse(1)
        o.step()
        for i, p in parameters.items():
            keep(name, s, i, p.detach())
    if after:
        after(o)
        for i, p in parameters.items():
            out[f"{name}/after.{i}"] = p.detach().numpy().copy()


def kerased(name, make, which=(0, 1, 2, 3), after=None):
    variables = {i: keras.Variable(start[i].numpy(), dtype="float64") for i in which}
    o = make()
    for s in range(STEPS):
        o.apply([keras.ops.convert_to_tensor(gradients[s][i].numpy().copy()) for i in which], list(variables.values()))
        for i, v in variables.items():
            keep(name, s, i, v.numpy())
    if after:
        after(o, list(variables.values()))
        for i, v in variables.items():
            out[f"{name}/after.{i}"] = v.numpy().copy()


O, K = torch.optim, keras.optimizers
if len(sys.argv) > 1:
    out.clear()
    kerased("scheduleFreeKeras", lambda: K.ScheduleFreeAdamW(learning_rate=0.05, warmup_steps=4))
    numpy.savez(sys.argv[1], **out)
    sys.exit()
torched("adamax", lambda p: O.Adamax(p))
torched("adamaxAll", lambda p: O.Adamax(p, lr=0.05, betas=(0.4, 0.6), eps=1e-3, weight_decay=0.1, maximize=True))
torched("nadam", lambda p: O.NAdam(p))
torched("nadamAll", lambda p: O.NAdam(p, lr=0.05, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1, momentum_decay=0.3, maximize=True))
torched("nadamDecoupled", lambda p: O.NAdam(p, lr=0.05, weight_decay=0.1, decoupled_weight_decay=True))
torched("radam", lambda p: O.RAdam(p, lr=0.05))
torched("radamAll", lambda p: O.RAdam(p, lr=0.05, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1, maximize=True))
torched("radamDecoupled", lambda p: O.RAdam(p, lr=0.05, weight_decay=0.1, decoupled_weight_decay=True))
torched("adagrad", lambda p: O.Adagrad(p))
torched("adagradAll", lambda p: O.Adagrad(p, lr=0.1, lr_decay=0.2, weight_decay=0.1, initial_accumulator_value=0.3, eps=1e-3, maximize=True))
torched("adadelta", lambda p: O.Adadelta(p))
torched("adadeltaAll", lambda p: O.Adadelta(p, lr=0.7, rho=0.6, eps=1e-3, weight_decay=0.1, maximize=True))
torched("adafactor", lambda p: O.Adafactor(p))
torched("adafactorAll", lambda p: O.Adafactor(p, lr=0.4, beta2_decay=-0.5, eps=(1e-3, 1e-2), d=1.2, weight_decay=0.1, maximize=True))
torched("asgd", lambda p: O.ASGD(p))
torched("asgdAll", lambda p: O.ASGD(p, lr=0.1, lambd=0.02, alpha=0.6, t0=3, weight_decay=0.1, maximize=True))
torched("rprop", lambda p: O.Rprop(p))
torched("rpropAll", lambda p: O.Rprop(p, lr=0.1, etas=(0.3, 1.5), step_sizes=(0.02, 0.3), maximize=True))
torched("sparseAdam", lambda p: O.SparseAdam(p, lr=0.05), sparse=True)
torched("sparseAdamAll", lambda p: O.SparseAdam(p, lr=0.05, betas=(0.4, 0.6), eps=1e-3, maximize=True), sparse=True)
torched("adamGroups", lambda p: O.Adam([
    {"params": p[:2], "lr": 0.01, "weight_decay": 0.3, "amsgrad": True}, {"params": p[2:], "betas": (0.5, 0.7)}], lr=0.1))
torched("nadamGroups", lambda p: O.NAdam([
    {"params": p[:2], "lr": 0.01, "weight_decay": 0.3}, {"params": p[2:], "momentum_decay": 0.1}], lr=0.1))
torched("adafactorGroups", lambda p: O.Adafactor([{"params": p[:2], "lr": 0.01, "weight_decay": 0.3}, {"params": p[2:]}], lr=0.1))
matrices = (0, 3)
torched("muonHalf", lambda p: O.Muon(p, lr=0.1), matrices)
as_it_is = torch.Tensor.bfloat16
torch.Tensor.bfloat16 = torch.Tensor.clone  # the iteration in the parameter's type
torched("muon", lambda p: O.Muon(p, lr=0.1), matrices)
torched("muonAll", lambda p: O.Muon(p, lr=0.1, weight_decay=0.3, momentum=0.7, nesterov=False, ns_coefficients=(3, -4, 2), ns_steps=3,
                                    adjust_lr_fn="match_rms_adamw"), matrices)
torch.Tensor.bfloat16 = as_it_is
S = schedulefree
torched("scheduleFreeAdamW", lambda p: S.AdamWScheduleFree(p, lr=0.05, foreach=False), (0, 2), after=lambda o: o.eval())
torched("scheduleFreeAdamWAll", lambda p: S.AdamWScheduleFree(
    p, lr=0.05, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1, warmup_steps=4, r=0.5, foreach=False), (0, 2), after=lambda o: o.eval())
torched("scheduleFreeSGD", lambda p: S.SGDScheduleFree(p, lr=0.1, momentum=0.8, weight_decay=0.05, warmup_steps=3, foreach=False),
        (0, 2), after=lambda o: o.eval())

kerased("lion", lambda: K.Lion())
kerased("lionAll", lambda: K.Lion(learning_rate=0.05, beta_1=0.6, beta_2=0.8, weight_decay=0.1))
kerased("ftrl", lambda: K.Ftrl(learning_rate=0.1))
kerased("ftrlAll", lambda: K.Ftrl(
    learning_rate=0.1, learning_rate_power=-0.7, initial_accumulator_value=0.3, l1_regularization_strength=0.05,
    l2_regularization_strength=0.1, l2_shrinkage_regularization_strength=0.02, beta=0.2, weight_decay=0.1))
kerased("lamb", lambda: K.Lamb(learning_rate=0.05))
kerased("lambAll", lambda: K.Lamb(learning_rate=0.05, beta_1=0.6, beta_2=0.8, epsilon=1e-3, weight_decay=0.1))
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "values.npz")
    subprocess.run([sys.executable, __file__, path], check=True, env={**os.environ, "KERAS_BACKEND": "jax"})
    out.update(numpy.load(path))
kerased("clipValue", lambda: K.SGD(learning_rate=0.1, clipvalue=0.5))
kerased("clipNorm", lambda: K.SGD(learning_rate=0.1, clipnorm=0.5))


def clipped(p):
    class Clipping(O.SGD):
        def step(self):
            nn.utils.clip_grad_norm_(p, 0.5)
            super().step()
    return Clipping(p, lr=0.1)


torched("clipGlobalNorm", clipped)
kerased("ema", lambda: K.SGD(learning_rate=0.1, use_ema=True, ema_momentum=0.7),
        after=lambda o, v: o.finalize_variable_values(v))

# Loss scaling: an infinite gradient in step 1, growth after two good steps.
scaling = K.LossScaleOptimizer(K.Adam(learning_rate=0.1), initial_scale=8.0, dynamic_growth_steps=2)
variables = [keras.Variable(value.numpy(), dtype="float64") for value in start]
scales = []
for s in range(STEPS):
    if s:
        scale = float(scaling.dynamic_scale.numpy())
    else:
        scale = 8.0
    scales.append(scale)
    values = [g * scale for g in gradients[s]]
    if s == 1:
        values[1][2] = float("inf")
    scaling.apply(values, variables)
    for i, v in enumerate(variables):
        keep("lossScale", s, i, v.numpy())
scales.append(float(scaling.dynamic_scale.numpy()))
out["lossScale/scales"] = numpy.array(scales)

# L-BFGS: a valley over the elements of both parameters, x₀.
def valley(parameters):
    x = torch.cat([p.flatten() for p in parameters])
    return (10 * (x[1:] - x[:-1] ** 2) ** 2).sum() + ((1 - x[:-1]) ** 2).sum()


for name, options in [("lbfgs", dict(lr=0.003, max_iter=4)), ("lbfgsWolfe", dict(line_search_fn="strong_wolfe", max_iter=5)),
                      ("lbfgsShort", dict(line_search_fn="strong_wolfe", history_size=2))]:
    parameters = [start[i].clone().requires_grad_() for i in (0, 1)]
    o = O.LBFGS(parameters, **options)

    def closure():
        o.zero_grad()
        loss = valley(parameters)
        loss.backward()
        return loss
    losses = []
    for s in range(5):
        losses.append(float(o.step(closure)))
        for i, p in enumerate(parameters):
            out[f"{name}/{s}.{i}"] = p.detach().numpy().copy()
    out[f"{name}/losses"] = numpy.array(losses)
    out[f"{name}/evaluations"] = numpy.array([float(o.state[parameters[0]]["func_evals"])])

# Weight averaging: SGD from `start`, an update after each step.
U = torch.optim.swa_utils
for name, options in [("averageMean", {}), ("averageExponential", dict(multi_avg_fn=U.get_ema_multi_avg_fn(0.8)))]:
    model = nn.Linear(4, 3)
    with torch.no_grad():
        model.weight.copy_(start[0])
        model.bias.copy_(start[1][:3])
    averaged = U.AveragedModel(model, **options)
    o = O.SGD(model.parameters(), lr=0.1)
    for s in range(5):
        model.weight.grad, model.bias.grad = gradients[s][0].clone(), gradients[s][1][:3].clone()
        o.step()
        averaged.update_parameters(model)
    out[f"{name}/weight"] = averaged.module.weight.detach().numpy().copy()
    out[f"{name}/bias"] = averaged.module.bias.detach().numpy().copy()
layer = nn.BatchNorm1d(4)
layer(torch.randn(6, 4))
batches = [torch.randn(5, 4), torch.randn(7, 4) + 1, torch.randn(3, 4) * 2]
U.update_bn(batches, nn.Sequential(layer))
for i, batch in enumerate(batches):
    out[f"updateBatchNorm/batch.{i}"] = batch.numpy()
out["updateBatchNorm/mean"], out["updateBatchNorm/var"] = layer.running_mean.numpy(), layer.running_var.numpy()
save_file({k: numpy.ascontiguousarray(v) for k, v in out.items()}, os.path.join(here, "everyOptimizer.safetensors"))

# ---- Schedules: 50 values each, base 0.4 unless said otherwise; momenta where they move.
schedules = {}
L = torch.optim.lr_scheduler


def torch_schedule(name, make, momentum=False, base=0.4):
    optimizer = O.SGD([nn.Parameter(torch.zeros(1))], lr=base, momentum=0.5)
    schedule = make(optimizer)
    values, momenta = [], []
    for _ in range(50):
        values.append(float(optimizer.param_groups[0]["lr"]))
        momenta.append(float(optimizer.param_groups[0]["momentum"]))
        optimizer.step()
        schedule.step()
    schedules[name] = numpy.array(values)
    if momentum:
        schedules[name + ".momentum"] = numpy.array(momenta)


torch_schedule("LambdaLR", lambda o: L.LambdaLR(o, lambda t: 1 / (1 + t) ** 0.5))
torch_schedule("MultiplicativeLR", lambda o: L.MultiplicativeLR(o, lambda t: 1 - 0.5 / (t + 1)))
torch_schedule("StepLR", lambda o: L.StepLR(o, 7, gamma=0.3))
torch_schedule("MultiStepLR", lambda o: L.MultiStepLR(o, [3, 10, 10, 31], gamma=0.5))
torch_schedule("ConstantLR", lambda o: L.ConstantLR(o, factor=0.2, total_iters=6))
torch_schedule("LinearLR", lambda o: L.LinearLR(o, start_factor=0.1, end_factor=0.8, total_iters=20))
torch_schedule("ExponentialLR", lambda o: L.ExponentialLR(o, 0.93))
torch_schedule("PolynomialLR", lambda o: L.PolynomialLR(o, total_iters=30, power=1.7))
torch_schedule("CosineAnnealingLR", lambda o: L.CosineAnnealingLR(o, 18, eta_min=0.05))
torch_schedule("CosineAnnealingWarmRestarts", lambda o: L.CosineAnnealingWarmRestarts(o, 6, T_mult=2, eta_min=0.05))
torch_schedule("CosineAnnealingWarmRestarts1", lambda o: L.CosineAnnealingWarmRestarts(o, 7))
for mode in ("triangular", "triangular2", "exp_range"):
    torch_schedule(f"CyclicLR.{mode}", lambda o: L.CyclicLR(o, 0.1, 0.9, step_size_up=6, step_size_down=4, mode=mode, gamma=0.97), True)
torch_schedule("OneCycleLR", lambda o: L.OneCycleLR(o, 0.9, total_steps=60), True)
torch_schedule("OneCycleLR.linear", lambda o: L.OneCycleLR(
    o, 0.9, epochs=6, steps_per_epoch=10, pct_start=0.2, anneal_strategy="linear", three_phase=True, div_factor=10, final_div_factor=50), True)
torch_schedule("SequentialLR", lambda o: L.SequentialLR(
    o, [L.LinearLR(o, 0.1, total_iters=5), L.ExponentialLR(o, 0.9), L.CosineAnnealingLR(o, 10)], [5, 20]))
torch_schedule("ChainedScheduler", lambda o: L.ChainedScheduler([L.ConstantLR(o, 0.1, total_iters=4), L.ExponentialLR(o, 0.9)]))
torch_schedule("SWALR", lambda o: U.SWALR(o, 0.05, anneal_epochs=12))
torch_schedule("SWALR.linear", lambda o: U.SWALR(o, 0.05, anneal_epochs=0, anneal_strategy="linear"))
metrics = numpy.abs(numpy.sin(numpy.arange(50.0) / 4)) + 1 / (1 + numpy.arange(50.0))
schedules["metrics"] = metrics
for name, options in [("min", dict(factor=0.5, patience=2, cooldown=1, min_lr=0.01)),
                      ("max", dict(mode="max", factor=0.3, patience=1, threshold=0.05, threshold_mode="abs", eps=1e-4))]:
    optimizer = O.SGD([nn.Parameter(torch.zeros(1))], lr=0.4)
    schedule = L.ReduceLROnPlateau(optimizer, **options)
    values = []
    for metric in metrics:
        schedule.step(metric)
        values.append(optimizer.param_groups[0]["lr"])
    schedules[f"ReduceLROnPlateau.{name}"] = numpy.array(values)
KS = keras.optimizers.schedules
for name, schedule in {
    "ExponentialDecay": KS.ExponentialDecay(0.4, 7, 0.8), "ExponentialDecay.staircase": KS.ExponentialDecay(0.4, 7, 0.8, True),
    "PiecewiseConstantDecay": KS.PiecewiseConstantDecay([5, 20, 33], [0.4, 0.3, 0.1, 0.05]),
    "PolynomialDecay": KS.PolynomialDecay(0.4, 30, 0.02, power=1.5), "PolynomialDecay.cycle": KS.PolynomialDecay(0.4, 12, 0.02, cycle=True),
    "InverseTimeDecay": KS.InverseTimeDecay(0.4, 7, 0.8), "InverseTimeDecay.staircase": KS.InverseTimeDecay(0.4, 7, 0.8, True),
    "CosineDecay": KS.CosineDecay(0.4, 35, alpha=0.1),
    "CosineDecay.warmup": KS.CosineDecay(0.05, 30, alpha=0.1, warmup_target=0.4, warmup_steps=9),
    "CosineDecayRestarts": KS.CosineDecayRestarts(0.4, 6, t_mul=1.5, m_mul=0.8, alpha=0.1),
    "CosineDecayRestarts.equal": KS.CosineDecayRestarts(0.4, 9, t_mul=1.0),
}.items():
    schedules[name] = numpy.array([float(schedule(t)) for t in range(50)])
save_file(schedules, os.path.join(here, "schedules.safetensors"))
