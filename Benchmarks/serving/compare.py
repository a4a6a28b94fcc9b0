#!/usr/bin/env python3
"""Apus and other servers under the same load in one sitting, in turns: a window of A, a window of B, A again …

    Benchmarks/serving/compare.py [--apus PATH] [--python PYTHON] [--peer NAME=COMMAND …] [--only mlp,protocols,…] [--out FILE.md]

Clients and servers share the machine. A figure is the median of its last three windows; windows go on until those three are within
10 % of each other in throughput and p50 (perf_analyzer's rule), ten at most, and a figure that never was says so (~). Needs `wrk` and `h2load`
(Debian: wrk, nghttp2-client). PYTHON is an interpreter that has the peers' packages; a peer is skipped, with the reason, where it does not start.
"""
import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "Tests", "clients"))
import models  # noqa: E402
from h2frames import infer_request, message, part, varint  # noqa: E402
from harness import HOST, Server, free_port, resident  # noqa: E402

INFER = "/inference.GRPCInferenceService/ModelInfer"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
MEGABYTE = 1 << 20


# MARK: Load

def wrk(url, body, clients, seconds, headers=()):
    """Closed loop over HTTP/1.1: (requests/s, p50 ms, p99 ms, failures)."""
    environment = {**os.environ, "BODY": body, "HEADERS": "\n".join(headers)}
    done = subprocess.run(["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "20s", "--latency", "-s", os.path.join(HERE, "post.lua"), url],
                          capture_output=True, text=True, env=environment)
    text = done.stdout

    def latency(percent):
        found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", text)
        return float(found[1]) * {"us": 1e-3, "ms": 1, "s": 1e3}[found[2]] if found else float("nan")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    bad = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", text)))
    bad += sum(sum(map(int, numbers)) for numbers in re.findall(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", text))
    return (float(rate[1]) if rate else 0.0, latency(50), latency(99), bad)


def h2load(url, body, clients, seconds):
    """Closed loop of gRPC calls, one at a time on each connection."""
    with tempfile.NamedTemporaryFile() as log:
        subprocess.run(["h2load", "-t1", f"-c{clients}", "-m1", f"-D{seconds}", "-d", body, "-H", "content-type: application/grpc", "-H", "te: trailers",
                        f"--log-file={log.name}", url], capture_output=True, text=True)
        rows = [line.split() for line in open(log.name)]
    times = sorted(int(row[2]) / 1000 for row in rows if row[1] == "200")
    if not times:
        return (0.0, float("nan"), float("nan"), len(rows))
    return (len(times) / seconds, times[len(times) // 2], times[int(len(times) * 0.99)], len(rows) - len(times))


class Figure:
    def __init__(self, windows, stable):
        last = windows[-3:]
        self.rate, self.p50, self.p99 = (statistics.median(w[i] for w in last) for i in range(3))
        self.failures, self.stable = sum(w[3] for w in windows), stable

    def cells(self):
        return [f"{'' if self.stable else '~'}{self.rate:,.0f}", f"{self.p50:.2f}", f"{self.p99:.2f}"]


def settled(windows):
    last = windows[-3:]
    return len(last) == 3 and all(max(w[i] for w in last) <= 1.1 * min(w[i] for w in last) for i in (0, 1))


def in_turns(loads, most=10):
    """`loads`: name → a window of load. Each is warmed by one window that does not count."""
    for window in loads.values():
        window()
    windows = {name: [] for name in loads}
    for _ in range(most):
        for name, window in loads.items():
            if not settled(windows[name]):
                windows[name].append(window())
        if all(settled(w) for w in windows.values()):
            break
    return {name: Figure(w, settled(w)) for name, w in windows.items()}


# MARK: Servers

class Peer:
    """A server of someone else's: its command, with {port} and {grpc}, and the addresses it answers."""

    def __init__(self, name, command, path, body="rows", ready="/ready", cwd=None, environment=None, note=""):
        self.name, self.command, self.path, self.body, self.ready, self.note = name, command, path, body, ready, note
        self.cwd, self.environment = cwd or os.path.join(HERE, "peers"), environment

    def start(self, seconds=60):
        self.port, self.grpc = free_port(), free_port()
        began = time.monotonic()
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        environment = {name: value.format(port=self.port, grpc=self.grpc) for name, value in (self.environment or {}).items()}
        self.process = subprocess.Popen([word.format(port=self.port, grpc=self.grpc) for word in self.command], cwd=self.cwd, env={**os.environ, **environment},
                                        stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True)
        while time.monotonic() - began < seconds:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"http://{HOST}:{self.port}{self.ready}", timeout=2) as answer:
                    if answer.status == 200:
                        self.started = time.monotonic() - began
                        return True
            time.sleep(0.01)
        self.log.seek(0)
        self.reason = (self.log.read().strip().splitlines() or ["no word"])[-1][:200]
        self.stop()
        return False

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def memory(self):
        """Of the process and all of its children."""
        pids = subprocess.run(["ps", "-o", "pid=", "--sid", str(self.process.pid)], capture_output=True, text=True).stdout.split()
        return sum(resident(pid) for pid in pids)


def known_peers(args):
    python = args.python
    found = [Peer("FastAPI", [python, "fastapi_server.py", "{port}"], "/predict"), Peer("FastAPI, 2 workers", [python, "fastapi_server.py", "{port}", "2"], "/predict"),
             Peer("FastAPI, orjson", [python, "fastapi_orjson_server.py", "{port}"], "/predict")]
    for venv, peer in [("litserve", lambda p: Peer("LitServe", [p + "/python", "litserve_server.py", "{port}"], "/predict", ready="/health")),
                       ("bentoml", lambda p: Peer("BentoML", [p + "/bentoml", "serve", "bentoml_server:Mlp", "--port", "{port}"], "/predict", ready="/readyz", environment={"BENTOML_DO_NOT_TRACK": "1"})),
                       ("mlserver", lambda p: Peer("MLServer", [p + "/mlserver", "start", "mlserver_mlp"], "/v2/models/mlp/infer", "tensors", "/v2/health/ready", environment={"MLSERVER_HTTP_PORT": "{port}", "MLSERVER_GRPC_PORT": "{grpc}"})),
                       ("pytriton", lambda p: triton(p))]:
        folder = os.path.join(args.venvs, venv, "bin") if args.venvs else None
        if folder and os.path.exists(folder):
            found.append(peer(folder))
    return found


def triton(folder):
    """Triton's server as the wheel of nvidia-pytriton has it: with the Python backend alone, of which it wants the stub in its place."""
    packages = subprocess.run([folder + "/python", "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], capture_output=True, text=True).stdout.strip()
    home = packages + "/pytriton/tritonserver"
    stub = f"{home}/python_backend_stubs/{sys.version_info.major}.{sys.version_info.minor}/triton_python_backend_stub"
    if os.path.exists(stub):
        shutil.copy(stub, home + "/backends/python/")
    environment = {"LD_LIBRARY_PATH": packages + "/nvidia_pytriton.libs", "PATH": folder + ":" + os.environ["PATH"]}
    return Peer("Triton 2.51, Python backend", [home + "/bin/tritonserver", "--model-repository=triton_mlp", f"--backend-directory={home}/backends", "--http-port={port}", "--grpc-port={grpc}", "--allow-metrics=false", "--exit-timeout-secs=1"],
                "/v2/models/mlp/infer", "tensors", "/v2/health/ready", environment=environment)


# MARK: Bodies

class Bodies:
    """Requests in files, as wrk and h2load post them."""

    def __init__(self, folder):
        self.folder = folder

    def file(self, name, data):
        path = os.path.join(self.folder, name)
        if not os.path.exists(path):
            with open(path, "wb") as out:
                out.write(data.encode() if isinstance(data, str) else data)
        return path

    def image(self):
        numbers = random.Random(0)
        return [round(numbers.random(), 4) for _ in range(784)]

    def rows(self):
        return self.file("rows.json", json.dumps({"instances": [self.image()]}))

    def tensors(self):
        return self.file("tensors.json", json.dumps({"inputs": [{"name": "image", "shape": [1, 784], "datatype": "FP32", "data": self.image()}]}))

    def binary(self, name, shape, data, kind="FP32", output="scores"):
        head = json.dumps({"inputs": [{"name": name, "shape": shape, "datatype": kind, "parameters": {"binary_data_size": len(data)}}],
                           "outputs": [{"name": output, "parameters": {"binary_data": True}}]}, separators=(",", ":")).encode()
        return self.file(f"binary-{name}-{len(data)}", head + data), [f"Inference-Header-Content-Length: {len(head)}", "Content-Type: application/octet-stream"]

    def grpc(self, model, name, shape, data, kind="FP32"):
        return self.file(f"grpc-{model}-{len(data)}", message(infer_request(model, [(name, kind, shape)], [data])))

    def predict(self, model, name, shape, data, kind=1):
        dims = b"".join(part(2, b"\x08" + varint(size)) for size in shape)
        tensor = b"\x08" + varint(kind) + part(2, dims) + part(4, data)
        return self.file(f"predict-{model}-{len(data)}", message(part(1, part(1, model)) + part(2, part(1, name) + part(2, tensor))))


# MARK: What is measured

class Report:
    def __init__(self, path):
        self.lines, self.path = [], path

    def table(self, title, columns, rows, note=""):
        self.add(f"\n### {title}\n")
        if note:
            self.add(note + "\n")
        self.add("| " + " | ".join(columns) + " |")
        self.add("|" + "---|" * len(columns))
        for row in rows:
            self.add("| " + " | ".join(map(str, row)) + " |")

    def add(self, line):
        self.lines.append(line)
        print(line, flush=True)
        if self.path:
            with open(self.path, "w") as out:
                out.write("\n".join(self.lines) + "\n")


def checked(server, answer):
    if not answer:
        raise SystemExit(f"{server}: the answer before the measurement is not right")


def small_model(args, report, bodies):
    """One example of 784 numbers as JSON: unloaded, and with 32 clients, beside every peer that starts."""
    with serving(args, "mlp") as ours:
        expected = models.mlp_answer([bodies.image()], models.mlp_weights())[0]
        got = json.loads(ours.request("POST", "/v1/models/mlp:predict", open(bodies.rows(), "rb").read())[2])["predictions"][0]
        checked("apus", all(abs(a - b) < 1e-4 for a, b in zip(got, expected)))
        running, skipped = [], []
        for peer in known_peers(args):
            if args.peers and not re.search(args.peers, peer.name):
                continue
            (running if peer.start() else skipped).append(peer)
        try:
            targets = {"Apus, TensorFlow API": (f"http://{ours.rest}/v1/models/mlp:predict", bodies.rows()), "Apus, Open Inference": (f"http://{ours.rest}/v2/models/mlp/infer", bodies.tensors())}
            for peer in running:
                targets[peer.name] = (f"http://{HOST}:{peer.port}{peer.path}", getattr(bodies, peer.body)())
            figures = {}
            for clients in (1, 32):
                figures[clients] = in_turns({name: (lambda u=url, b=body, c=clients: wrk(u, b, c, args.seconds)) for name, (url, body) in targets.items()})
            base = figures[32]["Apus, TensorFlow API"].rate
            rows = [[name, *figures[1][name].cells(), *figures[32][name].cells(), f"{base / max(figures[32][name].rate, 1e-9):.1f}", figures[1][name].failures + figures[32][name].failures] for name in targets]
            report.table("mlp (784-512-512-10), one example as JSON", ["server", "1 client: /s", "p50 ms", "p99 ms", "32 clients: /s", "p50 ms", "p99 ms", "Apus is faster by", "failures"], rows,
                         "".join(f"{peer.name} did not start: {peer.reason}. " for peer in skipped))
        finally:
            for peer in running:
                peer.stop()


@contextlib.contextmanager
def serving(args, *names, options=()):
    folder = tempfile.mkdtemp(prefix="serving")
    try:
        for name in names:
            if name in models.NAMES:
                models.put(folder, name)
            else:
                place = os.path.join(folder, name, "1")
                os.makedirs(place)
                os.symlink(artifact(args, name), os.path.join(place, f"{name}.apus"))
        with Server(args.apus, folder, *options) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def artifact(args, name):
    """A model that `apus export` knows, made once."""
    folder = os.path.join(tempfile.gettempdir(), "apus-serving-artifacts")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"{name}.apus")
    if not os.path.exists(path):
        subprocess.run([args.apus, "export", name, "--to", path], check=True, capture_output=True)
    return path


def protocols(args, report, bodies):
    """JSON, binary and gRPC on the same model."""
    data = struct.pack("<784f", *bodies.image())
    with serving(args, "mlp") as ours:
        binary, headers = bodies.binary("image", [1, 784], data)
        status, answer_headers, answer = ours.request("POST", "/v2/models/mlp/infer", open(binary, "rb").read(), dict(line.split(": ") for line in headers))
        checked("apus, binary", status == 200 and len(answer) - int(answer_headers["inference-header-content-length"]) == 40)
        for clients in (1, 32):
            loads = {
                "JSON, TensorFlow API": lambda: wrk(f"http://{ours.rest}/v1/models/mlp:predict", bodies.rows(), clients, args.seconds),
                "JSON, Open Inference": lambda: wrk(f"http://{ours.rest}/v2/models/mlp/infer", bodies.tensors(), clients, args.seconds),
                "binary, Open Inference": lambda: wrk(f"http://{ours.rest}/v2/models/mlp/infer", binary, clients, args.seconds, headers),
                "gRPC, Open Inference": lambda: h2load(f"http://{ours.grpc}{INFER}", bodies.grpc("mlp", "image", [1, 784], data), clients, args.seconds),
                "gRPC, TensorFlow API": lambda: h2load(f"http://{ours.grpc}{PREDICT}", bodies.predict("mlp", "image", [1, 784], data), clients, args.seconds),
            }
            figures = in_turns(loads)
            base = figures["JSON, TensorFlow API"].rate
            report.table(f"mlp by protocol, {clients} client{'s' if clients > 1 else ''}", ["protocol", "/s", "p50 ms", "p99 ms", "to JSON", "failures"],
                         [[name, *figure.cells(), f"{figure.rate / base:.2f}", figure.failures] for name, figure in figures.items()])


def large(args, report, bodies):
    """An input of 10 MB."""
    data = bytes(4 * 2_621_440)
    with serving(args, "large") as ours:
        binary, headers = bodies.binary("x", [1, 2_621_440], data, output="y")
        before = ours.resident()
        figures = in_turns({
            "binary": lambda: wrk(f"http://{ours.rest}/v2/models/large/infer", binary, 1, args.seconds, headers),
            "gRPC": lambda: h2load(f"http://{ours.grpc}{INFER}", bodies.grpc("large", "x", [1, 2_621_440], data), 1, args.seconds),
            "JSON": lambda: wrk(f"http://{ours.rest}/v2/models/large/infer", bodies.file("large.json", json.dumps({"inputs": [
                {"name": "x", "shape": [1, 2_621_440], "datatype": "FP32", "data": [0.5] * 2_621_440}]})), 1, args.seconds)})
        report.table("an input of 10 MB, 1 client", ["protocol", "/s", "p50 ms", "p99 ms", "failures"], [[n, *f.cells(), f.failures] for n, f in figures.items()],
                     f"Memory: {before / MEGABYTE:.0f} MB before, {ours.resident() / MEGABYTE:.0f} MB after.")


def batching(args, report, bodies):
    """bert_base, 128 tokens, 16 clients: requests joined to batches or each by itself."""
    ids = bodies.file("ids.json", json.dumps({"inputs": [{"name": "ids", "shape": [1, 128], "datatype": "INT64", "data": [i * 37 % 30_000 for i in range(128)]}]}))
    with serving(args, "bert-base", options=args.batching_off) as without, serving(args, "bert-base", options=args.batching_on) as joined:
        def window(server):
            return wrk(f"http://{server.rest}/v2/models/bert-base/infer", ids, 16, args.seconds * 4)
        figures = in_turns({"no batching": lambda: window(without), "batching": lambda: window(joined)}, 6)
    base = figures["no batching"].rate
    report.table("bert_base, 128 tokens, 16 clients", ["", "/s", "p50 ms", "p99 ms", "ratio", "failures"],
                 [[n, f"{f.rate:.2f}", f"{f.p50:.0f}", f"{f.p99:.0f}", f"{f.rate / base:.2f}", f.failures] for n, f in figures.items()])


async def open_loop(server, path, body, rate, seconds):
    """Requests arrive as a Poisson process whatever becomes of them: (answered in time: latencies ms, refused, other)."""
    numbers, idle, tasks = random.Random(1), [], []
    answered, refused, other, hints = [], 0, 0, 0
    request = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    async def one():
        nonlocal refused, other, hints
        began = time.perf_counter()
        try:
            reader, writer = idle.pop() if idle else await asyncio.open_connection(HOST, server.port)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
            await reader.readexactly(length)
            if status == 200:
                answered.append((time.perf_counter(), (time.perf_counter() - began) * 1000))
            elif status in (429, 503):
                refused += 1
                hints += b"retry-after" in head.lower()
            else:
                other += 1
            if b"connection: close" in head.lower():
                writer.close()
            else:
                idle.append((reader, writer))
        except (OSError, asyncio.IncompleteReadError, TypeError):
            other += 1

    began = due = time.perf_counter()
    while due < began + seconds:
        due += numbers.expovariate(rate)
        await asyncio.sleep(max(0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one()))
    ended = time.perf_counter()
    await asyncio.wait(tasks, timeout=30)
    in_time = [t for t, _ in answered if t <= ended]
    for _, writer in idle:
        writer.close()
    times = sorted(ms for _, ms in answered) or [float("nan")]
    return {"sent": len(tasks) / (ended - began), "goodput": len(in_time) / (ended - began), "p50": times[len(times) // 2], "p99": times[int(len(times) * 0.99)], "refused": refused, "hints": hints, "other": other}


def overload(args, report, bodies):
    """Five times more requests than can be answered."""
    rows = bodies.file("slow.json", json.dumps({"inputs": [{"name": "x", "shape": [1, 1024], "datatype": "FP32", "data": [0.5] * 1024}]}))
    body = open(rows, "rb").read()
    table = []
    for what, options in [("no batching", args.batching_off), ("batching", args.batching_on)]:
        with serving(args, "slow", options=options) as ours:
            path = "/v2/models/slow/infer"
            capacity = in_turns({"": lambda: wrk(f"http://{ours.rest}{path}", rows, 32, args.seconds)}, 6)[""]
            found = asyncio.run(open_loop(ours, path, body, 5 * capacity.rate, args.seconds * 4))
            after = wrk(f"http://{ours.rest}{path}", rows, 32, args.seconds)
            table.append([what, f"{capacity.rate:.0f}", f"{capacity.p99:.0f}", f"{found['sent']:.0f}", f"{found['goodput']:.0f}", f"{found['goodput'] / capacity.rate:.2f}", f"{found['p50']:.0f}", f"{found['p99']:.0f}",
                          found["refused"], found["hints"], found["other"], f"{after[0]:.0f}"])
    report.table("overload: requests arrive at five times capacity", ["", "capacity /s (32 clients)", "its p99 ms", "offered /s", "goodput /s", "of capacity", "p50 ms", "p99 ms of accepted", "refused", "with Retry-After", "failed otherwise", "capacity after /s"], table)


def starting(args, report, bodies):
    """From exec to ready with one ResNet-18, and what it holds then."""
    path, times, held, rss = artifact(args, "resnet18"), [], [], []
    weights = os.path.getsize(os.path.join(path, "weights.safetensors")) / MEGABYTE
    for _ in range(11):
        with Server(args.apus, None, "--model", path) as server:
            times.append(server.ready_after * 1000)
            time.sleep(0.5)
            held.append(server.resident() / MEGABYTE)
            with open(f"/proc/{server.pid}/status") as status:
                rss.append(int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024)
    report.table("ResNet-18: start to ready, idle memory", ["start to ready ms (median)", "least", "most", "own memory MB", "resident MB (files included)", "weights MB"],
                 [[f"{statistics.median(times):.0f}", f"{min(times):.0f}", f"{max(times):.0f}", f"{statistics.median(held):.0f}", f"{statistics.median(rss):.0f}", f"{weights:.0f}"]])


def loading(args, report, bodies):
    """The p99 of a model that is served while another one is loaded and unloaded, again and again."""
    with serving(args, "mlp", "bert-base", options=["--explicit"]) as ours:
        ours.request("POST", "/v2/repository/models/mlp/load", {})
        busy, cycles = threading.Event(), []

        def cycle():
            while busy.is_set():
                began = time.monotonic()
                ours.request("POST", "/v2/repository/models/bert-base/load", {}, timeout=60)
                ours.request("POST", "/v2/repository/models/bert-base/unload", {}, timeout=60)
                cycles.append(time.monotonic() - began)

        def window(loads):
            thread = threading.Thread(target=cycle)
            if loads:
                busy.set()
                thread.start()
            found = wrk(f"http://{ours.rest}/v1/models/mlp:predict", bodies.rows(), 1, args.seconds * 2)
            busy.clear()
            if loads:
                thread.join()
            return found
        figures = in_turns({"alone": lambda: window(False), "while bert_base loads": lambda: window(True)})
    alone = figures["alone"]
    report.table("mlp, 1 client, while another model is loaded", ["", "/s", "p50 ms", "p99 ms", "p99 to alone", "failures"], [[n, *f.cells(), f"{f.p99 / alone.p99:.2f}", f.failures] for n, f in figures.items()],
                 f"{len(cycles)} loads and unloads, {statistics.median(cycles) * 1000 if cycles else 0:.0f} ms each.")


PARTS = {"mlp": small_model, "protocols": protocols, "large": large, "starting": starting, "loading": loading, "overload": overload, "batching": batching}


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--apus", default=os.path.join(ROOT, ".build", "release", "apus"))
    args.add_argument("--python", default=sys.executable)
    args.add_argument("--venvs", help="a folder with a virtual environment for each further peer: litserve, bentoml, mlserver, pytriton")
    args.add_argument("--peers", default="", help="only those whose names match")
    args.add_argument("--seconds", type=int, default=3)
    args.add_argument("--only", default=",".join(PARTS))
    args.add_argument("--out")
    args = args.parse_args()
    for tool in ("wrk", "h2load"):
        if not shutil.which(tool):
            raise SystemExit(f"{tool} is not installed")
    args.batching_off, args.batching_on = [], ["--max-batch-size", "16"]
    report = Report(args.out)
    with tempfile.TemporaryDirectory() as folder:
        bodies = Bodies(folder)
        for name in args.only.split(","):
            try:
                PARTS[name](args, report, bodies)
            except Exception as error:
                report.add(f"\n{name}: not measured: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
