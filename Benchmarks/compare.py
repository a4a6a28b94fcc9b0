#!/usr/bin/env python3
"""Apus and its peers side by side: in turns, each run a fresh process, medians and their ratio.

    Benchmarks/compare.py --peers FOLDER [--python PYTHON] [--compiled] [--rounds 3] [--budget 2] [--match REGEX] [--out FILE.md]

FOLDER holds the peers' programs (run.py, workloads.py …); PYTHON is an interpreter that has the peers installed.
Every round measures a workload with Apus, then with each peer; the figure of a workload is the median of its rounds'
medians, a ratio is the peer's figure over Apus's (above 1: Apus is faster). `--names best` runs, for each workload, the peers
that are fastest at it (BEST below: from a table of all of them), and says how Apus stands to the best.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Workloads on which a peer is worth its time; the others run everywhere.
ONLY = {"torch_tuned": re.compile("conv|cifar|lenet|mlp"), "tf": re.compile("train"), "keras": re.compile("train"), "jax": re.compile("train")}
# The peers that come first at each workload, by a run of all of them.
BEST = {
    "elementwise_chain": "torch torch_compile", "softmax": "torch onnxruntime", "layernorm": "torch torch_compile",
    "mlp_train": "jax torch_compile torch_tuned tf", "lenet_train": "torch torch_tuned tf", "cifar_cnn_train": "torch_tuned tf",
    "lstm_train": "torch_tuned torch torch_compile", "resnet18_train": "torch_tuned tf", "resnet18_infer_b1": "onnxruntime tf",
    "resnet18_infer_b32": "onnxruntime tf", "bert_base_infer_b1": "onnxruntime tf jax", "bert_base_infer_b8": "onnxruntime tf jax",
    "gpt2_small_train": "torch torch_compile tf", "gpt2_small_decode_f32": "torch jax", "gpt2_small_decode_bf16": "torch",
}


def measure(command, cwd=None):
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        print(f"  failed: {' '.join(command)}: {(done.stderr.strip().splitlines() or ['no output'])[-1][:160]}", file=sys.stderr)
        return None
    return json.loads(lines[-1])


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--peers", required=True)
    args.add_argument("--python", default=sys.executable)
    args.add_argument("--apus", default=os.path.join(ROOT, ".build", "release", "apus"))
    args.add_argument("--rounds", type=int, default=3)
    args.add_argument("--budget", default="2")
    args.add_argument("--match", default="")
    args.add_argument("--names", default="torch,torch_tuned", help="peers, of those run.py knows")
    args.add_argument("--compiled", action="store_true", help="Apus as one compiled program")
    args.add_argument("--out")
    args = args.parse_args()

    workloads = [w for w in subprocess.run([args.apus, "bench", "--list"], capture_output=True, text=True, check=True).stdout.split()
                 if w != "peak" and not w.startswith("linear_i8") and re.search(args.match, w)]  # peers have no int8 workloads
    mode = ["--compiled"] if args.compiled else []
    if args.names == "best":
        return best(args, [w for w in workloads if w in BEST], mode)
    peers = args.names.split(",")
    lines = ["| workload | Apus ms | " + " | ".join(f"{p} ms | ratio" for p in peers) + " | Apus MB | " +
             " | ".join(f"{p} MB" for p in peers) + " | other cores |",
             "|---|---:|" + "---:|---:|" * len(peers) + "---:|" + "---:|" * len(peers) + "---:|"]
    print("\n".join(lines), flush=True)
    for name in workloads:
        runs = {p: [] for p in ["apus"] + peers}
        for _ in range(args.rounds):
            runs["apus"].append(measure([args.apus, "bench", name, "--json", "--threads", "2", "--budget", args.budget] + mode))
            for p in peers:
                if p not in ONLY or ONLY[p].search(name):
                    runs[p].append(measure([args.python, "run.py", "--peer", p, "--workload", name, "--budget", args.budget], args.peers))
        runs = {p: [r for r in rs if r and r["median_ms"]] for p, rs in runs.items()}

        def figure(p, key):
            return statistics.median(r[key] for r in runs[p]) if runs[p] else None

        def show(v, digits=3):
            return "" if v is None else f"{v:.{digits}g}" if v < 1000 else f"{v:.0f}"
        ours = figure("apus", "median_ms")
        cells = []
        for p in peers:
            theirs = figure(p, "median_ms")
            cells += [show(theirs), f"{theirs / ours:.2f}" if theirs and ours else ""]
        busy = max((r.get("other_cores", 0) for rs in runs.values() for r in rs), default=0)
        row = [name, show(ours)] + cells + [show(figure("apus", "peak_rss_mb"))] + [show(figure(p, "peak_rss_mb")) for p in peers] + [f"{busy:.2f}"]
        lines.append("| " + " | ".join(row) + " |")
        print(lines[-1], flush=True)
    if args.out:
        with open(args.out, "w") as f:
            f.write("\n".join(lines) + "\n")


def best(args, workloads, mode):
    lines = ["| workload | Apus ms | best peer | its ms | ratio | others | Apus MB | least of peers MB | first step s | other cores |",
             "|---|---:|---|---:|---:|---|---:|---:|---:|---:|"]
    print("\n".join(lines), flush=True)
    for name in workloads:
        peers = BEST[name].split()
        runs = {p: [] for p in ["apus"] + peers}
        for _ in range(args.rounds):
            runs["apus"].append(measure([args.apus, "bench", name, "--json", "--threads", "2", "--budget", args.budget] + mode))
            for p in peers:
                runs[p].append(measure([args.python, "run.py", "--peer", p, "--workload", name, "--budget", args.budget], args.peers))
        runs = {p: [r for r in rs if r and r["median_ms"]] for p, rs in runs.items()}
        ours = statistics.median(r["median_ms"] for r in runs["apus"])
        times = {p: statistics.median(r["median_ms"] for r in runs[p]) for p in peers if runs[p]}
        memory = min(r["peak_rss_mb"] for p in peers for r in runs[p])
        first = min(times, key=times.get)
        others = ", ".join(f"{p} {times[p]:.4g}" for p in sorted(times, key=times.get)[1:])
        busy = max(r.get("other_cores", 0) for rs in runs.values() for r in rs)
        lines.append(f"| {name} | {ours:.4g} | {first} | {times[first]:.4g} | {times[first] / ours:.2f} | {others} | "
                     f"{statistics.median(r['peak_rss_mb'] for r in runs['apus']):.0f} | {memory:.0f} | "
                     f"{statistics.median(r['first_step_s'] for r in runs['apus']):.3f} | {busy:.2f} |")
        print(lines[-1], flush=True)
    if args.out:
        with open(args.out, "w") as f:
            f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
