#!/usr/bin/env python3
"""Times Apus and PyTorch at random shapes, in turns, and prints the worst ratios (PyTorch's time / Apus's).

    Benchmarks/sweep.py --apus PATH [--python PYTHON] [--count 60] [--seed 0] [--rounds 2]

Shapes that nobody tunes for: odd sizes, tall and flat matrices, small batches, strides, dilations, groups.
"""
import argparse, json, random, subprocess, sys, tempfile

TORCH = r"""
import json, sys, time, torch, torch.nn.functional as F
torch.set_num_threads(int(sys.argv[2])); budget = float(sys.argv[3])
def step(words):
    t = words[-1] == "t"; p = [int(w) for w in words[1:] if w != "t"]; kind = words[0]
    if kind == "matmul":
        a = torch.randn(p[0], p[1]); b = torch.randn(p[2], p[1]).t() if t else torch.randn(p[1], p[2]); return lambda: a @ b
    if kind == "conv":
        x = torch.randn(*p[:4]).to(memory_format=torch.channels_last)
        w = (torch.randn(p[4], p[1] // p[10], p[5], p[6]) * 0.1).to(memory_format=torch.channels_last)
        return lambda: F.conv2d(x, w, None, p[7], p[8], p[9], p[10])
    if kind == "softmax": x = torch.randn(*p); return lambda: torch.softmax(x, -1)
    if kind == "sum": x = torch.randn(*p[:2]); return lambda: x.sum(p[2])
    if kind == "add": a, b = torch.randn(*p), torch.randn(*p); return lambda: a + b
    if kind == "transpose": x = torch.randn(*p); return lambda: x.t().contiguous()
    q = torch.randn(p[0], p[1], p[2], p[4]); k = torch.randn(p[0], p[1], p[3], p[4]); v = torch.randn(p[0], p[1], p[3], p[4])
    return lambda: F.scaled_dot_product_attention(q, k, v)
with torch.no_grad():
    for line in open(sys.argv[1]).read().splitlines():
        f = step(line.split()); f(); f(); times = []; start = time.perf_counter()
        while len(times) < 3 or (time.perf_counter() - start < budget and len(times) < 10000):
            s = time.perf_counter(); f(); times.append(time.perf_counter() - s)
        times.sort()
        print(json.dumps(dict(case=line, median_ms=times[len(times) // 2] * 1e3, min_ms=times[0] * 1e3)), flush=True)
"""


def cases(rng, count):
    def size(high):
        return max(1, int(2 ** rng.uniform(0, high)))
    result = []
    while len(result) < count:
        kind = rng.choice(["matmul"] * 4 + ["conv"] * 4 + ["softmax", "sum", "add", "transpose", "attention"])
        if kind == "matmul":
            m, k, n = size(12), size(12), size(12)
            if 1e5 < 2 * m * k * n < 4e9:
                result.append(f"matmul {m} {k} {n}" + rng.choice(["", " t"]))
        elif kind == "conv":
            groups = rng.choice([1, 1, 1, 2, 4])
            depthwise = rng.random() < 0.2
            n, h, w = size(5), rng.randint(5, 70), rng.randint(5, 70)
            c = o = 0
            while c == 0:
                c, o = size(8) // groups * groups, size(8) // groups * groups
                if o == 0:
                    c = 0
            if depthwise:
                o = groups = c
            kernel = rng.choice([(1, 1), (3, 3), (3, 3), (5, 5), (7, 7), (1, 3), (3, 2)])
            stride, dilation = rng.choice([1, 1, 2, 3]), rng.choice([1, 1, 1, 2])
            pad = rng.randint(0, kernel[0] // 2)
            if (kernel[0] - 1) * dilation + 1 > h or (kernel[1] - 1) * dilation + 1 > w:
                continue
            work = 2 * n * h * w / stride**2 * c / groups * o * kernel[0] * kernel[1]
            if 1e5 < work < 4e9:
                result.append(f"conv {n} {c} {h} {w} {o} {kernel[0]} {kernel[1]} {stride} {pad} {dilation} {groups}")
        elif kind == "attention":
            b, heads, q, k, d = size(3), size(3), size(9), size(9), rng.choice([16, 40, 64, 80])
            result.append(f"attention {b} {heads} {q} {k} {d}")
        else:
            r, c = size(12), size(12)
            if r * c > 1000:
                result.append(f"{kind} {r} {c}" + (f" {rng.randint(0, 1)}" if kind == "sum" else ""))
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apus", required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--budget", default="0.1")
    parser.add_argument("--threads", default="2")
    options = parser.parse_args()
    chosen = cases(random.Random(options.seed), options.count)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file, tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        file.write("\n".join(chosen) + "\n")
        file.flush()
        script.write(TORCH)
        script.flush()
        runs = {
            "apus": [options.apus, "sweep", file.name, "--threads", options.threads, "--budget", options.budget],
            "torch": [options.python, script.name, file.name, options.threads, options.budget],
        }
        best = {"apus": {}, "torch": {}}
        for _ in range(options.rounds):
            for name, command in runs.items():
                for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
                    row = json.loads(line)
                    best[name][row["case"]] = min(best[name].get(row["case"], 1e9), row["median_ms"])
    rows = sorted((best["torch"][c] / best["apus"][c], c) for c in set(chosen))
    print(f"{len(rows)} cases, seed {options.seed}; ratio = PyTorch's median / Apus's, the better of {options.rounds} rounds each")
    print(f"below 1: {sum(r < 1 for r, _ in rows)}, below 0.5: {sum(r < 0.5 for r, _ in rows)}, median {rows[len(rows) // 2][0]:.2f}")
    for ratio, case in rows[:10]:
        print(f"{ratio:6.2f}  {best['apus'][case]:9.4f} ms  {best['torch'][case]:9.4f} ms  {case}")


if __name__ == "__main__":
    main()
