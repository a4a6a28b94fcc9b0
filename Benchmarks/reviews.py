#!/usr/bin/env python3
"""The movie-review job in Apus, PyTorch and Keras on TensorFlow: in turns over seeds, each run a fresh process, one sitting.

    Benchmarks/reviews.py [--apus COMMAND] [--python PYTHON] [--models lstm,conv] [--seeds 5] [--epochs 5] [--out FILE.md] [--json FILE]

PYTHON is an interpreter that has torch and tensorflow. All train the same models (Benchmarks/peers) on the same split and the same
tokens, which `apus train reviews --dump-tokens` writes once; batch 64, Adam (0.001, epsilon 1e-7), padding in front, no masks.
Columns: the median epoch (the first, in which programs are compiled, is in the next column), the sum of all epochs, the whole process
from its start, the most memory it had resident; means over the seeds, of the epoch the median. Accuracy: mean ± sample deviation."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NAMES = {"apus": "Apus", "torch": "PyTorch", "keras": "Keras (TensorFlow)"}


def measure(command, threads):
    environment = dict(os.environ, APUS_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads))
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    seconds = time.perf_counter() - started
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        sys.exit(f"failed: {' '.join(command)}\n{done.stderr[-2000:]}")
    return dict(json.loads(lines[-1]), process_seconds=seconds)


def deviation(values):
    return statistics.stdev(values) if len(values) > 1 else 0.0


def table(model, runs):
    lines = [f"| {model} | epoch s | first epoch s | training s | process s | peak MB | test accuracy |", "|---|---:|---:|---:|---:|---:|---:|"]
    for name, rows in runs.items():
        accuracy = [100 * r["test_accuracy"] for r in rows]

        def mean(key):
            return statistics.mean(r[key] for r in rows)
        lines.append(
            f"| {NAMES[name]} | {statistics.median(s for r in rows for s in r['epoch_seconds'][1:] or r['epoch_seconds']):.3f} "
            f"| {statistics.mean(r['epoch_seconds'][0] for r in rows):.3f} | {mean('train_seconds'):.2f} | {mean('process_seconds'):.2f} "
            f"| {mean('peak_mb'):.0f} | {statistics.mean(accuracy):.2f} ± {deviation(accuracy):.2f} % |")
    if "apus" in runs:
        ours = runs["apus"]
        for name in [n for n in runs if n != "apus"]:
            other = runs[name]
            # In turns: the ratio of each pair of neighbours, then the median.
            time_ratio = statistics.median(b["train_seconds"] / a["train_seconds"] for a, b in zip(ours, other))
            memory = statistics.mean(a["peak_mb"] for a in ours) / statistics.mean(b["peak_mb"] for b in other)
            a, b = ([100 * r["test_accuracy"] for r in rows] for rows in (ours, other))
            apart = abs(statistics.mean(a) - statistics.mean(b))
            width = max(deviation(a), deviation(b))
            lines.append(f"\nApus against {NAMES[name]}: {time_ratio:.2f} times as fast in training, {memory:.2f} of the memory, accuracies "
                         f"{apart:.2f} points apart ({'within' if apart <= width else 'beyond'} one deviation, {width:.2f}).")
    return "\n".join(lines)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--apus", default=os.path.join(ROOT, ".build", "release", "apus"))
    args.add_argument("--python", default=sys.executable)
    args.add_argument("--models", default="lstm,conv")
    args.add_argument("--frameworks", default="apus,torch,keras")
    args.add_argument("--seeds", type=int, default=5)
    args.add_argument("--epochs", type=int, default=5)
    args.add_argument("--threads", type=int, default=2)
    args.add_argument("--out", help="a file for the tables, in Markdown")
    args.add_argument("--json", help="a file for all runs")
    args = args.parse_args()

    records = []
    with tempfile.TemporaryDirectory() as folder:
        tokens = os.path.join(folder, "tokens.npz")
        subprocess.run([args.apus, "train", "reviews", "--dump-tokens", tokens], check=True, stdout=sys.stderr)

        def command(framework, model, seed):
            shared = ["--model", model, "--seed", str(seed), "--epochs", str(args.epochs)]
            if framework == "apus":
                return [args.apus, "train", "reviews", "--json"] + shared
            peer = os.path.join(ROOT, "Benchmarks", "peers", f"reviews_{framework}.py")
            return [args.python, peer, tokens, "--threads", str(args.threads)] + shared
        text = []
        for model in args.models.split(","):
            runs = {name: [] for name in args.frameworks.split(",")}
            for seed in range(1, args.seeds + 1):
                for name in runs:
                    run = measure(command(name, model, seed), args.threads)
                    runs[name].append(run)
                    records.append(run)
                    print(f"{model} seed {seed} {name}: {run['train_seconds']:.2f} s, {run['peak_mb']:.0f} MB, "
                          f"{100 * run['test_accuracy']:.2f} %", file=sys.stderr, flush=True)
            text.append(table(model, runs))
            print(text[-1] + "\n", flush=True)
    if args.out:
        with open(args.out, "w") as file:
            file.write("\n\n".join(text) + "\n")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(records, file, indent=1)
            file.write("\n")


main()
