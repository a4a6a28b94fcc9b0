#!/usr/bin/env python3
"""Optimizer steps over 10 million parameters in PyTorch (fused and foreach) and JAX (jit, buffers donated), beside Apus in turns.

    Benchmarks/peers/optimizers.py [--apus .build/release/apus] [--rounds 3] [--budget 2] [--match REGEX]

For each workload of `apus bench` (adamw_10m, adamw_10m_split, sgd_momentum_10m …) every round measures Apus eagerly and compiled,
then each peer, in processes of their own with two threads. The figure is the median over rounds of the medians; the ratio is the
peer's time over Apus's. Copy bandwidth is that of this machine in the same sitting: bytes read and written by copying 40 MB.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ONE = [10_000_000]
SPLIT = [[200_000, 48_000, 1_500, 500][i % 4] for i in range(160)]
# sizes, and the bytes that a step must read and write per parameter
WORKLOADS = {"adamw_10m": (ONE, 28), "adamw_10m_split": (SPLIT, 28), "sgd_momentum_10m": (ONE, 20)}
PEERS = {"adamw_10m": ["torch_fused", "torch_foreach", "jax"], "adamw_10m_split": ["torch_fused", "torch_foreach", "jax"],
         "sgd_momentum_10m": ["torch_fused", "torch_foreach"]}


def torch_step(workload, fused):
    import torch
    torch.set_num_threads(2)
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(n)) for n in WORKLOADS[workload][0]]
    for p in parameters:
        p.grad = torch.randn_like(p)
    kind = {"fused": True} if fused else {"foreach": True}
    make = torch.optim.AdamW if workload.startswith("adamw") else torch.optim.SGD
    return make(parameters, lr=1e-3, **({} if workload.startswith("adamw") else {"momentum": 0.9}), **kind).step


def jax_step(workload):
    import jax
    import jax.numpy as np
    keys = iter(jax.random.split(jax.random.key(0), 2 * len(WORKLOADS[workload][0])))
    state = {"p": [jax.random.normal(next(keys), (n,)) for n in WORKLOADS[workload][0]]}
    gradients = [jax.random.normal(next(keys), p.shape) for p in state["p"]]
    state["m"], state["v"], state["t"] = [0 * p for p in state["p"]], [0 * p for p in state["p"]], np.float32(0)

    def adamw(s, gs):
        t = s["t"] + 1
        out = {"p": [], "m": [], "v": [], "t": t}
        for p, m, v, g in zip(s["p"], s["m"], s["v"], gs):
            m, v = m + 0.1 * (g - m), 0.999 * v + 0.001 * g * g
            p = p * (1 - 1e-5) - 1e-3 / (1 - 0.9**t) * m / (np.sqrt(v) / np.sqrt(1 - 0.999**t) + 1e-8)
            out["p"].append(p), out["m"].append(m), out["v"].append(v)
        return out

    compiled = jax.jit(adamw, donate_argnums=0)

    def step():
        nonlocal state
        state = jax.block_until_ready(compiled(state, gradients))
    return step


def copy_step():
    import torch
    torch.set_num_threads(2)
    a, b = torch.randn(10_000_000), torch.randn(10_000_000)
    return lambda: b.copy_(a)


def median_ms(step, budget):
    step()
    start, times = time.perf_counter(), []
    while time.perf_counter() - start < 0.3:
        step()
    start = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < budget:
        t = time.perf_counter()
        step()
        times.append(time.perf_counter() - t)
    return statistics.median(times) * 1e3


def run(args, name, workload):
    if name.startswith("apus"):
        mode = ["--compiled"] if name == "apus compiled" else []
        done = subprocess.run([args.apus, "bench", workload, "--json", "--threads", "2", "--budget", str(args.budget)] + mode,
                              capture_output=True, text=True, check=True)
        return json.loads(done.stdout)["median_ms"]
    command = [sys.executable, __file__, "--one", name, "--workload", workload, "--budget", str(args.budget)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--apus", default=os.path.join(ROOT, ".build", "release", "apus"))
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--budget", type=float, default=2)
    arguments.add_argument("--match", default="")
    arguments.add_argument("--one", help=argparse.SUPPRESS)
    arguments.add_argument("--workload", help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.one:
        step = {"torch_fused": lambda: torch_step(args.workload, True), "torch_foreach": lambda: torch_step(args.workload, False),
                "jax": lambda: jax_step(args.workload), "copy": copy_step}[args.one]()
        return print(median_ms(step, args.budget))
    print("| workload | program | ms | ratio to Apus | GB/s | share of copy |\n|---|---|---:|---:|---:|---:|")
    for workload, (sizes, width) in WORKLOADS.items():
        if not re.search(args.match, workload):
            continue
        names = ["apus", "apus compiled"] + PEERS[workload] + ["copy"]
        times = {name: [] for name in names}
        for _ in range(args.rounds):
            for name in names:
                times[name].append(run(args, name, workload))
        ms = {name: statistics.median(t) for name, t in times.items()}
        copied = 80e6 / ms["copy"] * 1e-6
        for name in names:
            rate = copied if name == "copy" else sum(sizes) * width / ms[name] * 1e-6
            print(f"| {workload} | {name} | {ms[name]:.2f} | {ms[name] / ms['apus']:.2f} | {rate:.1f} | {rate / copied:.2f} |", flush=True)


if __name__ == "__main__":
    main()
