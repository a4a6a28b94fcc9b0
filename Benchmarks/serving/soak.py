#!/usr/bin/env python3
"""Half an hour of everything at once: good load in every protocol with its answers checked, hostile requests, versions that come and go, clients that are
killed. At the end: no wrong answer, none lost, memory flat.

    Benchmarks/serving/soak.py [--apus PATH] [--minutes 30] [--rate 200] [--out FILE]

Needs Python alone. --rate is of good requests per second in all. The status is 0 if all held.
"""
import argparse
import http.client
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "Tests", "clients"))
import models  # noqa: E402
from h2frames import DATA, HEADERS, PREFACE, RST_STREAM, Connection, frame, infer_request, message, part, varint  # noqa: E402
from harness import HOST, Server  # noqa: E402

INFER = "/inference.GRPCInferenceService/ModelInfer"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
MEGABYTE = 1 << 20


class Client(threading.Thread):
    """Good requests of one kind at a steady rate, on a connection that stays open; every answer is compared."""

    def __init__(self, server, kind, rate, images):
        super().__init__(daemon=True)
        self.server, self.kind, self.pause, self.images = server, kind, 1 / rate, images
        self.answered, self.wrong, self.lost, self.retried = 0, [], [], 0
        self.ending, self.connection, self.random, self.times = threading.Event(), None, random.Random(kind), []

    def run(self):
        due = time.monotonic()
        while not self.ending.is_set():
            due = max(due + self.random.expovariate(1 / self.pause), time.monotonic() - 1)
            time.sleep(max(0, due - time.monotonic()))
            began = time.monotonic()
            try:
                problem = self.one()
            except (OSError, http.client.HTTPException, ValueError, KeyError, struct.error) as error:
                problem = None
                self.close()
                try:  # a connection that a server has closed in between is no lost request: it is asked once more
                    problem = self.one()
                    self.retried += 1
                except Exception as again:
                    self.lost.append(f"{self.kind}: {error!r}, then {again!r}")
                    self.close()
                    continue
            if problem:
                self.wrong.append(f"{self.kind}: {problem}")
            else:
                self.answered += 1
                self.times.append(time.monotonic() - began)
        self.close()

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def one(self):
        """None, or what was wrong with the answer."""
        which = self.random.randrange(len(self.images))
        image, scores = self.images[which]
        x = float(self.random.randrange(1000))
        if self.kind == "rest-versions":
            answer = self.http("/v1/models/m:predict", json.dumps({"instances": [x]}).encode())
            added = json.loads(answer)["predictions"][0] - x / 2
            return None if added == int(added) and 1 <= added <= 50 else f"{answer[:100]} for {x}"
        if self.kind == "rest-predict":
            return self.compare(json.loads(self.http("/v1/models/mlp:predict", json.dumps({"instances": [image]}).encode()))["predictions"][0], scores)
        if self.kind == "rest-infer":
            body = {"id": str(which), "inputs": [{"name": "image", "shape": [1, 784], "datatype": "FP32", "data": image}]}
            answer = json.loads(self.http("/v2/models/mlp/infer", json.dumps(body).encode()))
            return self.compare(answer["outputs"][0]["data"], scores) or (None if answer["id"] == str(which) else f"the id {answer['id']} of another")
        if self.kind == "rest-binary":
            data = struct.pack("<784f", *image)
            head = json.dumps({"inputs": [{"name": "image", "shape": [1, 784], "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}], "outputs": [{"name": "scores", "parameters": {"binary_data": True}}]}).encode()
            return self.compare(struct.unpack("<10f", self.http("/v2/models/mlp/infer", head + data, {"Inference-Header-Content-Length": str(len(head))})[-40:]), scores)
        if self.kind == "grpc-infer":
            got = self.call(INFER, infer_request("mlp", [("image", "FP32", [1, 784])], [struct.pack("<784f", *image)]))
            return self.compare(struct.unpack("<10f", got[-40:]), scores)
        if self.kind == "grpc-versions":
            got = self.call(INFER, infer_request("m", [("x", "FP32", [1])], [struct.pack("<f", x)]))
            added = struct.unpack("<f", got[-4:])[0] - x / 2
            return None if added == int(added) and 1 <= added <= 50 else f"{added} added to {x / 2}"
        if self.kind == "grpc-predict":
            tensor = b"\x08\x01" + part(2, part(2, b"\x08" + varint(2))) + part(4, struct.pack("<2f", x, x + 1))
            got = self.call(PREDICT, part(1, part(1, "half_plus_two")) + part(2, part(1, "x") + part(2, tensor)))
            wanted = struct.pack("<2f", x / 2 + 2, (x + 1) / 2 + 2)
            return None if wanted in got else f"{got[:100]}"
        raise ValueError(self.kind)

    def compare(self, got, expected):
        right = len(got) == len(expected) and all(abs(a - b) < 1e-4 for a, b in zip(got, expected))
        return None if right else f"{list(got)[:3]} in the place of {expected[:3]}"

    def http(self, path, body, headers=None):
        self.connection = self.connection or http.client.HTTPConnection(HOST, self.server.port, timeout=30)
        self.connection.request("POST", path, body, headers or {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise ValueError(f"{answer.status} {data[:200]}")
        return data

    def call(self, path, body):
        self.connection = self.connection or Connection(HOST, self.server.grpc_port, 30)
        stream = self.connection.begin(path)
        self.connection.data(stream, message(body))
        found = self.connection.answer(stream, 30)
        if found["headers"].get("grpc-status") != "0":
            raise ValueError(f"{found['headers']} {found['reset']} {found['goaway']}")
        if self.connection.stream > 20_000:
            self.close()
        return found["data"]


def hostile(server, random_numbers):
    """One request of the kind that should not be; whatever comes back is taken."""
    def http_bytes(data, read=True):
        with socket.create_connection((HOST, server.port), timeout=5) as connection:
            connection.sendall(data)
            if read:
                connection.recv(1 << 16)

    def post(path, body, *lines):
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n" + "".join(line + "\r\n" for line in lines) + "\r\n"
        http_bytes(head.encode() + (body if isinstance(body, bytes) else body.encode()))

    def frames(*data):
        connection = Connection(HOST, server.grpc_port, 5)
        try:
            for piece in data:
                connection.send(piece(connection) if callable(piece) else piece)
            connection.socket.recv(1 << 16)
        finally:
            connection.close()

    def chunks(count):
        http_bytes(b"POST /v1/models/mlp:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n[\r\n" * count + b"0\r\n\r\n")

    cases = [
        lambda: post("/v1/models/mlp:predict", "[" * 100_000), lambda: post("/v2/models/mlp/infer", "{" * 1000), lambda: post("/v1/models/mlp:predict", '{"instances": [[1e999]]}'),
        lambda: post("/v2/models/mlp/infer", json.dumps({"inputs": [{"name": "image", "shape": [4194305, 4194305, 211106198978564], "datatype": "FP32", "data": [1]}]})),
        lambda: post("/v2/models/mlp/infer", "{}", "Inference-Header-Content-Length: 9999999"), lambda: post("/v1/models/%2e%2e:predict", "{}"),
        lambda: post("/v2/models/mlp/infer", json.dumps({"inputs": [{"name": "image", "shape": [1], "datatype": "FP32", "data": [1]}] * 1000})),
        lambda: http_bytes(random_numbers.randbytes(5000)), lambda: http_bytes(PREFACE + random_numbers.randbytes(5000)), lambda: chunks(20_000),
        lambda: http_bytes(b"POST /v1/models/mlp:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
        lambda: http_bytes(b"POST /v1/models/mlp:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n{", read=False),
        lambda: post("/v1/models/mlp:predict", b"\x1f\x8b" + random_numbers.randbytes(500), "Content-Encoding: gzip"),
        lambda: post("/v2/repository/models/nope/load", "{}"), lambda: post("/v1/models/nope:predict", '{"instances": [1]}'),
        lambda: frames(lambda c: b"".join(frame(HEADERS, 4, 2 * n + 1, c.request_headers(INFER)) + frame(RST_STREAM, 0, 2 * n + 1, struct.pack(">I", 8)) for n in range(500))),
        lambda: frames(lambda c: frame(HEADERS, 4, 1, c.request_headers(INFER)) + frame(DATA, 1, 1, message(random_numbers.randbytes(200)))),
        lambda: frames(lambda c: frame(HEADERS, 4, 1, c.request_headers(INFER)) + frame(DATA, 1, 1, message(b"abc", length=1 << 31))),
        lambda: frames(random_numbers.randbytes(2000)), lambda: frames(frame(HEADERS, 5, 1, b"\xff" * 100)),
        lambda: frames(lambda c: frame(HEADERS, 4, 1, c.request_headers(INFER)) + frame(DATA, 1, 1, message(infer_request("mlp", [("image", "FP32", [1 << 62, 8])], [b"abcd"])))),
    ]
    try:
        random_numbers.choice(cases)()
    except OSError:
        pass


def victim(port, grpc_port):
    """A process of its own, killed in the midst of its requests."""
    body = json.dumps({"instances": [[0.5] * 784] * 64}).encode()
    slow = message(infer_request("slow", [("x", "FP32", [4, 1024])], [bytes(16_384)]))
    grpc = Connection(HOST, grpc_port)
    while True:
        stream = grpc.begin(INFER)
        grpc.data(stream, slow)
        with socket.create_connection((HOST, port)) as connection:
            connection.sendall(f"POST /v1/models/mlp:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            connection.recv(100)


def slope(points):
    """Least squares: bytes per second."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    below = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / below if below else 0.0


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--apus", default=os.path.join(ROOT, ".build", "release", "apus"))
    args.add_argument("--minutes", type=float, default=30)
    args.add_argument("--rate", type=float, default=200)
    args.add_argument("--out")
    args = args.parse_args()
    out = open(args.out, "w") if args.out else None

    def say(text):
        print(text, flush=True)
        if out:
            out.write(text + "\n")
            out.flush()

    folder = tempfile.mkdtemp(prefix="soak")
    for name in ["mlp", "half_plus_two", "slow"]:
        models.put(folder, name)
    models.put(folder, "m", 1, "half_plus_1")
    weights, numbers = models.mlp_weights(), random.Random(3)
    images = [[round(numbers.random(), 3) for _ in range(784)] for _ in range(12)]
    images = list(zip(images, models.mlp_answer(images, weights)))
    holds = True
    with Server(args.apus, folder, "--poll", "1") as server:
        kinds = ["rest-predict", "rest-infer", "rest-binary", "rest-versions", "grpc-infer", "grpc-predict", "grpc-versions"]
        clients = [Client(server, kind, args.rate / len(kinds), images) for kind in kinds]
        for client in clients:
            client.start()
        began, samples, hostile_count, kills, swaps, version = time.monotonic(), [], 0, 0, 0, 1
        ending, counted = threading.Event(), threading.Lock()

        def attack():
            nonlocal hostile_count
            mine = random.Random(5)
            while not ending.wait(0.2):
                hostile(server, mine)
                with counted:
                    hostile_count += 1

        def kill():
            nonlocal kills
            while not ending.wait(1.5):
                process = subprocess.Popen([sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path[:3]!r}; import soak; soak.victim({server.port}, {server.grpc_port})"],
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                ending.wait(0.8)
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1

        def swap():
            nonlocal version, swaps
            while not ending.wait(6):
                fresh = version % 50 + 1
                if fresh < version:  # begin again: the numbers of folders must grow, so a new round of versions takes over by removing the old
                    for number in os.listdir(f"{folder}/m"):
                        if number != str(version):
                            shutil.rmtree(f"{folder}/m/{number}")
                    fresh = version
                models.put(folder, "m", swaps + 2, f"half_plus_{fresh}")
                if swaps % 5 == 4:  # and one that is harmed, which must never be served
                    harmed = models.put(folder + "-beside", "m", swaps + 2, "half_plus_77")
                    with open(f"{harmed}/program.mlir", "ab") as program:
                        program.write(b"#")
                    os.makedirs(f"{folder}/m/{100_000 + swaps}", exist_ok=True)
                    os.rename(harmed, f"{folder}/m/{100_000 + swaps}/m.apus")
                    ending.wait(2)
                    shutil.rmtree(f"{folder}/m/{100_000 + swaps}")
                if ending.wait(2):
                    break
                for number in sorted((int(n) for n in os.listdir(f"{folder}/m") if n.isdigit()), reverse=True)[2:]:
                    shutil.rmtree(f"{folder}/m/{number}")
                version, swaps = fresh, swaps + 1

        helpers = [threading.Thread(target=job, daemon=True) for job in (attack, kill, swap)]
        for helper in helpers:
            helper.start()
        last_word = 0.0
        while time.monotonic() - began < args.minutes * 60 and server.alive():
            time.sleep(1)
            samples.append((time.monotonic() - began, server.resident()))
            if time.monotonic() - last_word > 60:
                last_word = time.monotonic()
                say(f"{(last_word - began) / 60:5.1f} min: {sum(c.answered for c in clients):,} answered, {sum(len(c.wrong) for c in clients)} wrong, {sum(len(c.lost) for c in clients)} lost, "
                    f"{hostile_count} hostile, {kills} killed, {swaps} versions, {samples[-1][1] / MEGABYTE:.1f} MB")
        holds &= server.alive()
        if not server.alive():
            say(f"the server ended with {server.process.returncode}: {server.output()[-3000:]}")
        ending.set()
        for helper in helpers:
            helper.join(20)
        for client in clients:
            client.ending.set()
        for client in clients:
            client.join(60)
        clean = server.stop()
        holds &= clean
        say(f"ended with status {server.process.returncode} at SIGTERM")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(folder + "-beside", ignore_errors=True)
    for client in clients:
        times = sorted(client.times) or [0]
        say(f"{client.kind}: {client.answered:,} answered, {len(client.wrong)} wrong, {len(client.lost)} lost, {client.retried} on a new connection; p50 {times[len(times) // 2] * 1000:.2f} ms, p99 {times[int(len(times) * .99)] * 1000:.2f} ms")
        for text in client.wrong[:3] + client.lost[:3]:
            say("  " + text[:400])
        holds &= not client.wrong and not client.lost and client.answered > 0
    settled = [s for s in samples if s[0] > min(300, args.minutes * 60 / 3)] or samples
    growth = slope(settled) * 3600 / MEGABYTE
    first, final = [sum(m for _, m in part_of) / len(part_of) / MEGABYTE for part_of in (settled[:max(1, len(settled) // 10)], settled[-max(1, len(settled) // 10):])]
    say(f"memory: {first:.1f} MB in the first tenth (after warming up), {final:.1f} MB in the last, at most {max(m for _, m in samples) / MEGABYTE:.1f} MB; slope {growth:+.2f} MB an hour")
    # Flat: within 10 % of where it settled.
    holds &= final <= first * 1.1 + 1
    say(f"{hostile_count} hostile requests, {kills} clients killed, {swaps} versions swapped, {sum(c.answered for c in clients):,} good requests in {(time.monotonic() - began) / 60:.1f} minutes: {'all held' if holds else 'NOT ALL HELD'}")
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
