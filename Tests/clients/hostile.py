#!/usr/bin/env python3
"""What no client should send: each case gets its error code, the process lives, answers the next good request, and gives memory back.

Sockets and frames by hand, so that nothing tidies up what is sent; needs Python alone.
"""
import concurrent.futures
import json
import os
import random
import socket
import struct
import sys
import threading
import time
import zlib

from h2frames import (CONTINUATION, DATA, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, WINDOW_UPDATE, Connection, frame, infer_request,
                      literal, message, part, varint)
from harness import HOST, Server, model_folder, run

MEGABYTE = 1 << 20
INFER = "/inference.GRPCInferenceService/ModelInfer"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
GRPC = {0: "OK", 1: "CANCELLED", 2: "UNKNOWN", 3: "INVALID_ARGUMENT", 4: "DEADLINE_EXCEEDED", 5: "NOT_FOUND", 8: "RESOURCE_EXHAUSTED",
        9: "FAILED_PRECONDITION", 11: "OUT_OF_RANGE", 12: "UNIMPLEMENTED", 13: "INTERNAL", 14: "UNAVAILABLE"}


class Hostile:
    def __init__(self, server, check):
        self.server, self.check = server, check
        for _ in range(50):
            self.good()
            self.good_grpc()
        self.start = server.resident()
        self.highest = 0

    # MARK: What must go on working

    def good(self):
        status, answer = self.server.json("POST", "/v1/models/half_plus_two:predict", {"instances": [1.0, 2.0, 5.0]}, timeout=20)
        return status == 200 and answer == {"predictions": [2.5, 3.0, 4.5]}

    def good_grpc(self):
        connection = Connection(HOST, self.server.grpc_port)
        try:
            stream = connection.begin(INFER)
            connection.data(stream, message(infer_request("half_plus_two", [("x", "FP32", [2])], [struct.pack("<2f", 1, 2)])))
            found = connection.answer(stream)
            return found["headers"].get("grpc-status") == "0" and struct.pack("<2f", 2.5, 3) in found["data"]
        finally:
            connection.close()

    def after(self, what, grpc=False):
        self.check.true(f"{what}: the process lives", self.server.alive())
        try:
            self.check.true(f"{what}: a good request is answered", self.good())
            if grpc:
                self.check.true(f"{what}: a good gRPC request is answered", self.good_grpc())
        except OSError as error:
            self.check.true(f"{what}: a good request is answered", False, error)
        self.highest = max(self.highest, self.server.resident())

    # MARK: HTTP/1.1

    def raw(self, data, timeout=30, half_close=False):
        """Sends bytes as they are; (status, body) of the answer, 0 for a connection that is closed without one."""
        with socket.create_connection((HOST, self.server.port), timeout=timeout) as connection:
            try:
                for piece in data if not isinstance(data, (bytes, bytearray)) else [data]:
                    connection.sendall(piece)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # closed while it was sending: there may be an answer still
            got = b""
            try:
                while b"\r\n\r\n" not in got:
                    more = connection.recv(1 << 16)
                    if not more:
                        break
                    got += more
                head, _, body = got.partition(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1."):
                    return 0, got
                length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), None)
                while (length is None or len(body) < length):
                    more = connection.recv(1 << 16)
                    if not more:
                        break
                    body += more
                return int(head.split()[1]), body
            except TimeoutError:
                return -1, got
            except OSError:
                return 0, got

    def http(self, what, data, expected, **options):
        with self.check.section(what):
            began = time.monotonic()
            status, body = self.raw(data, **options)
            allowed = expected if isinstance(expected, tuple) else (expected,)
            if self.check.among(f"{what}: status", status, allowed) and status >= 400 and body:
                try:
                    self.check.true(f"{what}: body is an error", "error" in json.loads(body), body[:200])
                except ValueError:
                    self.check.true(f"{what}: body is an error in JSON", False, body[:200])
            self.check.true(f"{what}: in bounded time", time.monotonic() - began < 25, time.monotonic() - began)
            self.after(what)

    def post(self, what, path, body, expected, headers=(), **options):
        body = json.dumps(body) if isinstance(body, dict) else body
        body = body.encode() if isinstance(body, str) else body
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        self.http(what, f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body,
                  expected, **options)

    def memory(self, what, allowed=48 * MEGABYTE):
        """Memory comes back: asked a few times, as freeing takes a moment."""
        until = time.monotonic() + 8
        while (now := self.server.resident()) > self.start + allowed and time.monotonic() < until:
            time.sleep(0.2)
        self.check.true(f"{what}: memory comes back", now <= self.start + allowed, f"{self.start / MEGABYTE:.1f} MB before, {now / MEGABYTE:.1f} MB after")
        print(f"  {what}: {self.start / MEGABYTE:.1f} MB before, at most {self.highest / MEGABYTE:.1f} MB seen, {now / MEGABYTE:.1f} MB after", flush=True)

    # MARK: gRPC

    def call(self, what, path, body, expected, extra=(), **options):
        """`expected` is of gRPC's codes by name, or HTTP <status>, RESET or CLOSED for what has none."""
        with self.check.section(what):
            connection = Connection(HOST, self.server.grpc_port)
            try:
                stream = connection.begin(path, extra, end=body is None, **options)
                if body is not None:
                    connection.data(stream, body)
                got = self.outcome(connection.answer(stream))
            except (ConnectionError, BrokenPipeError):
                got = "CLOSED"
            finally:
                connection.close()
            allowed = expected if isinstance(expected, tuple) else (expected,)
            self.check.among(f"{what}: code", got, allowed)
            self.after(what, grpc=True)

    def outcome(self, found):
        if "grpc-status" in found["headers"]:
            return GRPC.get(int(found["headers"]["grpc-status"]), found["headers"]["grpc-status"])
        if found["headers"].get(":status", "200") != "200":
            return f"HTTP {found['headers'][':status']}"
        return "RESET" if found["reset"] is not None else "CLOSED" if found.get("closed") or found["goaway"] is not None else "NOTHING"

    def frames(self, what, make, seconds=10):
        """Sends frames that `make` yields, reads what comes until nothing does, then sees that others are served."""
        with self.check.section(what):
            connection = Connection(HOST, self.server.grpc_port)
            stopped = threading.Event()

            def drain():
                try:
                    while not stopped.is_set() and connection.socket.recv(1 << 16):
                        pass
                except OSError:
                    pass
            reader = threading.Thread(target=drain, daemon=True)
            reader.start()
            try:
                until = time.monotonic() + seconds
                for data in make(connection):
                    connection.send(data)
                    if time.monotonic() > until:
                        break
            except OSError:
                pass  # it closed the connection: so it should
            stopped.set()
            self.after(what + ", while it is open", grpc=True)
            connection.close()
            self.after(what, grpc=True)


def main(apus, check):
    with model_folder("half_plus_two", "echo_uint8", "echo_float32", "simple", "slow") as folder, Server(apus, folder, check=check) as server:
        hostile = Hostile(server, check)
        for part_of_it in [framing, json_bodies, tensors, paths, compressed, garbage, grpc_messages, http2_frames, disconnects]:
            with check.section(part_of_it.__name__):
                part_of_it(hostile, check)
                hostile.memory(part_of_it.__name__)
    with model_folder("half_plus_two") as folder, Server(apus, folder, *read_timeout(apus, 2), check=check) as server:
        with check.section("slow clients"):
            slow_clients(Hostile(server, check), check, 2)


def read_timeout(apus, seconds):
    return ["--read-timeout", str(seconds)]


def framing(hostile, check):
    def chunked(body):
        yield b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        yield from (b"".join(b"1\r\n" + body[i:i + 1] + b"\r\n" for i in range(start, min(start + 50_000, len(body)))) for start in range(0, len(body), 50_000))
        yield b"0\r\n\r\n"

    count = 200_000 if check.quick else 3_000_000
    hostile.http(f"{count:,} chunks of a byte", chunked(b'{"instances": [1.0' + b" " * count + b"]}"), (200, 413), timeout=60)
    hostile.http(f"{count:,} chunks of a byte, no JSON", chunked(b"[" + b" " * count), 400, timeout=60)
    head = b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: x\r\n"
    body = b'{"instances": [1.0]}'
    hostile.http("no Content-Length", head + b"\r\n" + body, (400, 411))
    hostile.http("two lengths", head + b"Content-Length: 20\r\nContent-Length: 5\r\n\r\n" + body, (400, 0))
    hostile.http("length and chunks", head + b"Content-Length: 20\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", (400, 0))
    for length in [b"-1", b"1e9", b"+20", b"0x14", b"20 20", b"99999999999999999999999", b""]:
        hostile.http(f"Content-Length: {length.decode()}", head + b"Content-Length: " + length + b"\r\n\r\n" + body, (400, 413, 0))
    hostile.http("a length beyond the limit", head + b"Content-Length: 9000000000000000000\r\n\r\n" + body, 413)
    hostile.http("a chunk beyond 64 bits", head + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\nx", (400, 0))
    hostile.http("a chunk size that is none", head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n", (400, 0))
    hostile.http("an unknown transfer coding", head + b"Transfer-Encoding: exi\r\n\r\n" + body, (400, 501, 0))
    hostile.http("a header of a megabyte", head + b"X: " + b"a" * MEGABYTE + b"\r\nContent-Length: 20\r\n\r\n" + body, (400, 431, 0))
    hostile.http("a hundred thousand headers", head + b"".join(b"X%d: a\r\n" % i for i in range(100_000)) + b"Content-Length: 20\r\n\r\n" + body, (400, 431, 0))
    hostile.http("an address of a megabyte", b"GET /v1/models/" + b"a" * MEGABYTE + b" HTTP/1.1\r\nHost: x\r\n\r\n", (400, 404, 414, 431, 0))
    hostile.http("a body that ends early", head + b"Content-Length: 2000\r\n\r\n" + body, (400, 0), half_close=True)
    # Many requests in one write: all answered, in order.
    with check.section("pipelining"), socket.create_connection((HOST, hostile.server.port), timeout=30) as connection:
        one = b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n" + body
        connection.sendall(one * 500)
        got = b""
        while got.count(b"HTTP/1.1 200") < 500 or not got.rstrip().endswith(b"}"):
            more = connection.recv(1 << 16)
            if not more:
                break
            got += more
        check.equal("pipelining: answers", got.count(b"HTTP/1.1 200"), 500)


def json_bodies(hostile, check):
    predict, infer = "/v1/models/half_plus_two:predict", "/v2/models/half_plus_two/infer"
    for path, name in [(predict, "predict"), (infer, "infer")]:
        for what, text in [
            ("nesting of a million lists", "[" * 1_000_000), ("nesting of a million objects", '{"a":' * 1_000_000), ("empty", ""), ("white space", " \n\t"), ("null", "null"), ("a list", "[]"),
            ("a number", "1"), ("half a word", "tru"), ("bad UTF-8", b'{"\xff\xfe": 1}'), ("a NUL", b'{"instances": [\x00]}'), ("a lone surrogate", '{"\\ud800": 1}'),
            ("a bad escape", '{"\\x": 1}'), ("text without end", '{"instances'), ("trailing text", '{"instances": [1.0]} x'), ("a megabyte of minus", "-" * MEGABYTE)]:
            hostile.post(f"{name}: {what}", path, text, 400)
    for number in ["1e999", "-1e999", "1e", "01", "0x1", "-", "1.", ".5", "+1", "1e99999999999999999999", "9" * 1_000_000, "nan", "inf"]:
        hostile.post(f"predict: the number {number[:24]}", predict, '{"instances": [%s]}' % number, 400)
        hostile.post(f"infer: the number {number[:24]}", infer, '{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [%s]}]}' % number, 400)
    deep = '{"instances": ' + "[" * 1_000_000 + "1" + "]" * 1_000_000 + "}"
    hostile.post("predict: instances nested a million times", predict, deep, 400)
    hostile.post("infer: data nested a million times", infer, '{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": ' + "[" * 1_000_000 + "1" + "]" * 1_000_000 + "}]}", 400)
    hostile.post("predict: a million empty rows", "/v1/models/echo_float32:predict", '{"instances": [' + ",".join(["[]"] * 1_000_000) + "]}", 400)
    hostile.post("predict: a key of a megabyte", predict, '{"' + "k" * MEGABYTE + '": 1}', 400)
    hostile.post("predict: a hundred thousand keys", predict, "{" + ",".join(f'"k{i}": 1' for i in range(100_000)) + "}", 400)
    hostile.post("predict: an input twice", "/v1/models/half_plus_two:predict", '{"inputs": {"x": [1], "x": [2]}}', (400, 200))
    for text in ["A*==", "A", "AQI", "====", "AQID\\n", "AQ=D", "\\u0000", "é"]:
        hostile.post(f"b64 of {text}", "/v1/models/echo_uint8:predict", '{"instances": [{"b64": "%s"}]}' % text, (400,) if text != "AQI" else (400, 200))
    for body in ['{"b64": 1}', '{"b64": null}', '{"b64": "AQID", "more": 1}', '{"b64": ["AQID"]}']:
        hostile.post(f"b64 as {body}", "/v1/models/echo_uint8:predict", '{"instances": [%s]}' % body, 400)


def tensors(hostile, check):
    path = "/v2/models/half_plus_two/infer"

    def x(**changes):
        return {"name": "x", "shape": [1], "datatype": "FP32", "data": [1], **changes}

    for shape in [[4194305, 4194305, 211106198978564], [1 << 62, 1 << 62], [(1 << 63) - 1], [1 << 63], [1 << 64], [-1], [0], [1] * 100_000, [1.5], ["1"], "1", None, {}, [[1]]]:
        hostile.post(f"shape {str(shape)[:40]}", path, {"inputs": [x(shape=shape)]}, 400)
        binary = json.dumps({"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": 4}}]})
        hostile.post(f"shape {str(shape)[:40]}, binary", path, binary + "abcd", 400, [("Inference-Header-Content-Length", len(binary))])
    for what, body in [("no inputs", {}), ("inputs of another kind", {"inputs": {}}), ("an input that is none", {"inputs": [1]}), ("no name", {"inputs": [{"shape": [1], "datatype": "FP32", "data": [1]}]}),
                       ("an input twice", {"inputs": [x(), x()]}), ("a hundred thousand inputs", {"inputs": [x(name=f"x{i}") for i in range(100_000)]}),
                       ("a hundred thousand times the same input", {"inputs": [x()] * 100_000}),
                       ("a hundred thousand outputs", {"inputs": [x()], "outputs": [{"name": f"y{i}"} for i in range(100_000)]}),
                       ("a hundred thousand times the same output", {"inputs": [x()], "outputs": [{"name": "y"}] * 100_000}),
                       ("an output twice", {"inputs": [x()], "outputs": [{"name": "y"}, {"name": "y"}]}),
                       ("outputs of another kind", {"inputs": [x()], "outputs": {"name": "y"}}), ("a type that is none", {"inputs": [x(datatype="FP99")]}), ("a type of another kind", {"inputs": [x(datatype=1)]}),
                       ("bytes for numbers", {"inputs": [x(datatype="BYTES", data=["a"])]}), ("too many numbers", {"inputs": [x(data=[1] * 1000)]}), ("text", {"inputs": [x(data=["1"])]}),
                       ("ragged", {"inputs": [x(shape=[2, 2], data=[[1, 2], [3]])]}), ("no data", {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32"}]}),
                       ("parameters of another kind", {"inputs": [x(parameters=[])]}), ("a name of a megabyte", {"inputs": [x(name="x" * MEGABYTE)]}), ("shared memory", {"inputs": [x(parameters={"shared_memory_region": "a"})]})]:
        hostile.post(what, path, body, {"an output twice": (200, 400), "shared memory": (400, 501)}.get(what, 400))
    good = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}]})
    for length in ["100000", "-1", "x", "9223372036854775807", "9223372036854775808", "1e3", ""]:
        hostile.post(f"Inference-Header-Content-Length: {length}", path, good + "abcd", 400, [("Inference-Header-Content-Length", length)])
    hostile.post("Inference-Header-Content-Length twice", path, good + "abcd", (400, 200), [("Inference-Header-Content-Length", len(good)), ("Inference-Header-Content-Length", 3)])
    for size in [-1, 3, 8, 1 << 40, (1 << 63) - 1, 1 << 64, 4.5, "4", None, True]:
        body = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": size}}]})
        hostile.post(f"binary_data_size {size}", path, body + "abcd", 400, [("Inference-Header-Content-Length", len(body))])
    hostile.post("bytes after the last tensor", path, good + "abcdefgh", 400, [("Inference-Header-Content-Length", len(good))])
    body = json.dumps({"inputs": [{"name": f"x{i}", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": (1 << 62)}} for i in range(4)]})
    hostile.post("sizes whose sum overflows", path, body, 400, [("Inference-Header-Content-Length", len(body))])
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 8}}]})
    hostile.post("BYTES longer than what is there", "/v2/models/echo_uint8/infer", body + "\x7f\x7f\x7f\x7fabcd", 400, [("Inference-Header-Content-Length", len(body))])
    hostile.post("a raw body of the wrong size", path, "abc", 400, [("Inference-Header-Content-Length", 0)])
    hostile.post("a result too large for the limits", "/v1/models/echo_float32:predict", {"signature_name": "serve", "instances": [[1] * 70_000]}, 400)


def paths(hostile, check):
    def get(what, path, expected=(400, 404), method="GET"):
        path = path if isinstance(path, bytes) else path.encode()
        hostile.http(what, method.encode() + b" " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", expected)

    for path in ["/v1/models/%2e%2e", "/v1/models/%2e%2e%2fetc%2fpasswd", "/v1/models/..%2f..%2fetc", "/v1/models/../../etc/passwd", "/v1/models/%00", "/v1/models/half_plus_two%00",
                 "/v1/models/%zz", "/v1/models/%", "/v1/models/%c0%ae%c0%ae", "/v2/models/%2e%2e/ready", "/v2/models/..%2f/config", "/v2/models/%2e%2e/versions/1/ready",
                 "/v1/models/half_plus_two/versions/-1", "/v1/models/half_plus_two/versions/1e1", "/v1/models/half_plus_two/versions/0x1",
                 "/v1/models/half_plus_two/versions/18446744073709551617", "/v1/models/half_plus_two/labels/%2e%2e", "/v1/models/", "/v1/models//versions/1", "/v1", "/v3/models",
                 "//v2//health", "/%2e%2e/%2e%2e/etc/passwd", "/../../../etc/passwd"]:
        get(f"GET {path}", path)
    get("an absolute address", "http://elsewhere/v1/models/nope", (400, 404))
    get("a star", "*", (400, 404, 0), "OPTIONS")
    get("an unknown method", "/v1/models/half_plus_two", (400, 404, 405, 501, 0), "BREW")
    get("a method of a megabyte", "/v1/models/half_plus_two", (400, 404, 405, 431, 501, 0), "A" * MEGABYTE)
    for name in ["%2e%2e", "..%2f..%2fetc", "%2fetc", ".", "%00", "half_plus_two%2f1"]:
        get(f"load of {name}", f"/v2/repository/models/{name}/load", (400, 404), "POST")
        get(f"unload of {name}", f"/v2/repository/models/{name}/unload", (200, 400, 404), "POST")
    for kind in ["text/plain", "application/xml", "multipart/form-data; boundary=x", "\x7f", "application/json; charset=utf-16"]:
        body = '{"instances": [1.0]}'
        hostile.http(f"content type {kind}", f"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode(), (200, 400, 415, 0))


def compressed(hostile, check):
    def deflated(data, kind):
        packer = zlib.compressobj(9, zlib.DEFLATED, 31 if kind == "gzip" else 15)
        return packer.compress(data) + packer.flush()

    path = "/v1/models/half_plus_two:predict"
    for kind in ["gzip", "deflate"]:
        bomb = deflated(b'{"instances": [' + b" " * (300 * MEGABYTE) + b"1.0]}", kind)
        hostile.post(f"{kind}: 300 MB in {len(bomb) // 1024} kB", path, bomb, (400, 413, 415), [("Content-Encoding", kind)])
        good = deflated(b'{"instances": [1.0, 2.0, 5.0]}', kind)
        hostile.post(f"{kind}: cut off", path, good[:-6], (400, 415), [("Content-Encoding", kind)])
        hostile.post(f"{kind}: no such data", path, b"\x00\x01\x02" * 100, (400, 415), [("Content-Encoding", kind)])
    hostile.post("an unknown encoding", path, b"abc", (400, 415), [("Content-Encoding", "zz")])
    hostile.post("fifty encodings", path, b"abc", (400, 415), [("Content-Encoding", ", ".join(["gzip"] * 50))])


def garbage(hostile, check):
    random.seed(1)
    for port in (hostile.server.port, hostile.server.grpc_port):
        name = "REST" if port == hostile.server.port else "gRPC"
        for what, data in [("random bytes", random.randbytes(100_000)), ("zeros", bytes(100_000)), ("a TLS hello", bytes.fromhex("16030100c8010000c40303") + random.randbytes(200)),
                           ("line feeds", b"\n" * 100_000), ("HTTP/0.9", b"GET /\r\n"), ("HTTP/9.9", b"GET / HTTP/9.9\r\n\r\n"), ("the beginning of HTTP/2", PREFACE), ("half of it", PREFACE[:10]),
                           ("HTTP/1.1", b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"), ("nothing", b""), ("SSH", b"SSH-2.0-OpenSSH_9\r\n"),
                           ("frames of random", PREFACE + frame(SETTINGS, 0, 0) + b"".join(frame(random.randrange(256), random.randrange(256), random.randrange(8), random.randbytes(random.randrange(64))) for _ in range(2000)))]:
            with check.section(f"{name}: {what}"):
                with socket.create_connection((HOST, port), timeout=2) as connection:
                    try:
                        connection.sendall(data)
                        connection.shutdown(socket.SHUT_WR)
                        while connection.recv(1 << 16):
                            pass
                    except OSError:
                        pass
                hostile.after(f"{name}: {what}", grpc=True)


def grpc_messages(hostile, check):
    x, four = ("x", "FP32", [1]), struct.pack("<f", 1)
    good = infer_request("half_plus_two", [x], [four])
    bad = ("INVALID_ARGUMENT", "INTERNAL")
    hostile.call("a good request", INFER, message(good), "OK")
    hostile.call("a truncated protobuf", INFER, message(good[:-3]), bad)
    hostile.call("random protobuf", INFER, message(random.Random(2).randbytes(10_000)), bad)
    hostile.call("a varint of eleven bytes", INFER, message(b"\x08" + b"\xff" * 11), bad)
    hostile.call("a length beyond the message", INFER, message(b"\x0a" + varint((1 << 63) - 1)), bad)
    hostile.call("a field of number 0", INFER, message(b"\x02\x00"), bad)
    hostile.call("a hundred thousand nested groups", INFER, message(b"\x0b" * 100_000), bad)
    hostile.call("a hundred thousand nested messages", PREDICT, message(nested(50_000)), bad + ("NOT_FOUND",))
    hostile.call("bad UTF-8 in a name", INFER, message(part(1, b"\xff\xfe")), bad + ("NOT_FOUND",))
    hostile.call("a message of 4 GB, announced", INFER, message(b"abc", length=(1 << 32) - 1), ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "INTERNAL"))
    hostile.call("a message of 300 MB, announced", INFER, message(b"abc", length=300 << 20), "RESOURCE_EXHAUSTED")
    hostile.call("a message that ends early", INFER, message(good, length=len(good) + 10), bad + ("CANCELLED", "UNKNOWN", "RESET"))
    hostile.call("no message", INFER, None, bad + ("UNIMPLEMENTED", "UNKNOWN", "CANCELLED"))
    hostile.call("two messages", INFER, message(good) * 2, bad + ("UNIMPLEMENTED", "OK"))
    # The transport resets a stream that it cannot decompress, which clients take for INTERNAL.
    hostile.call("compressed by nothing", INFER, message(good, flag=1), bad + ("UNIMPLEMENTED", "RESET"))
    hostile.call("a flag that is none", INFER, message(good, flag=77), bad + ("UNIMPLEMENTED",))
    hostile.call("compressed junk", INFER, message(b"junk" * 100, flag=1), bad + ("UNIMPLEMENTED", "RESET"), [("grpc-encoding", "gzip")])
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packer.compress(part(1, bytes(300 * MEGABYTE))) + packer.flush()
    hostile.call("a bomb of 300 MB", INFER, message(bomb, flag=1), ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "INTERNAL", "RESET"), [("grpc-encoding", "gzip")])
    hostile.call("an unknown encoding", INFER, message(good, flag=1), ("UNIMPLEMENTED", "INVALID_ARGUMENT", "INTERNAL"), [("grpc-encoding", "zz")])
    hostile.call("an unknown method", "/inference.GRPCInferenceService/Nope", message(b""), "UNIMPLEMENTED")
    hostile.call("an unknown service", "/nope.Nope/Nope", message(b""), "UNIMPLEMENTED")
    hostile.call("a path with dots", "/%2e%2e/%2e%2e", message(b""), ("UNIMPLEMENTED", "HTTP 404", "HTTP 400"))
    hostile.call("a wrong content type", INFER, message(good), ("HTTP 415",), content_type="text/plain")
    hostile.call("no content type", INFER, message(good), ("HTTP 415", "INVALID_ARGUMENT", "INTERNAL"), content_type="")
    hostile.call("a GET", INFER, message(good), ("HTTP 405", "HTTP 400", "UNIMPLEMENTED", "INVALID_ARGUMENT", "RESET"), method="GET")
    for timeout in ["abc", "-1S", "99999999999999S", "1", ""]:
        hostile.call(f"grpc-timeout {timeout}", INFER, message(good), bad + ("OK", "DEADLINE_EXCEEDED", "RESET"), [("grpc-timeout", timeout)])
    for shape in [[4194305, 4194305, 211106198978564], [(1 << 63) - 1, 2], [-1], [0], [1] * 100_000]:
        hostile.call(f"shape {str(shape)[:40]}", INFER, message(infer_request("half_plus_two", [("x", "FP32", shape)], [four])), "INVALID_ARGUMENT")
    for what, inputs, raw, outputs in [
            ("an input twice", [x, x], [four, four], ()), ("an unknown input", [("z", "FP32", [1])], [four], ()), ("a hundred thousand inputs", [(f"x{i}", "FP32", [1]) for i in range(100_000)], [], ()),
            ("a hundred thousand outputs", [x], [four], [f"y{i}" for i in range(100_000)]), ("a hundred thousand times one output", [x], [four], ["y"] * 100_000), ("more contents than inputs", [x], [four] * 1000, ()),
            ("no contents", [x], [], ()), ("contents too short", [x], [b"abc"], ()), ("contents too long", [x], [four * 100], ()), ("a type that is none", [("x", "FP99", [1])], [four], ()),
            ("a type of another model", [("x", "INT32", [1])], [four], ())]:
        hostile.call(what, INFER, message(infer_request("half_plus_two", inputs, raw, outputs)), "INVALID_ARGUMENT")
    hostile.call("a name with dots", INFER, message(infer_request("../../etc/passwd", [x], [four])), ("NOT_FOUND", "INVALID_ARGUMENT"))
    hostile.call("load of dots", "/inference.GRPCInferenceService/RepositoryModelLoad", message(part(2, "../../etc")), ("NOT_FOUND", "INVALID_ARGUMENT"))


def nested(depth):
    """TensorProto.variant_val.tensors within each other, as an input of a PredictRequest, made from inside out."""
    inner = b""
    for _ in range(depth):
        inner = part(15, part(3, inner)) if len(inner) < 200_000 else inner
    return part(1, part(1, "half_plus_two")) + part(2, part(1, "x") + part(2, inner))


def http2_frames(hostile, check):
    def reset(connection):
        block = connection.request_headers(INFER)
        for i in range(0, 20_000, 100):
            yield b"".join(frame(HEADERS, 4, 2 * n + 1, block) + frame(RST_STREAM, 0, 2 * n + 1, struct.pack(">I", 8)) for n in range(i, i + 100))

    def reset_after_data(connection):
        block, body = connection.request_headers(INFER), message(infer_request("slow", [("x", "FP32", [1, 1024])], [bytes(4096)]))
        for i in range(0, 2_000, 10):
            yield b"".join(frame(HEADERS, 4, 2 * n + 1, block) + frame(DATA, 1, 2 * n + 1, body) + frame(RST_STREAM, 0, 2 * n + 1, struct.pack(">I", 8)) for n in range(i, i + 10))

    def reset_by_the_server(connection):  # "made you reset": frames that make the server reset
        block = connection.request_headers(INFER)
        for i in range(0, 20_000, 100):
            yield b"".join(frame(HEADERS, 4, 2 * n + 1, block) + frame(WINDOW_UPDATE, 0, 2 * n + 1, bytes(4)) for n in range(i, i + 100))

    def continuation(connection):
        yield frame(HEADERS, 0, 1, connection.request_headers(INFER))
        for _ in range(20_000):
            yield frame(CONTINUATION, 0, 1, literal("x", "a" * 200))

    def empty_data(connection):
        yield frame(HEADERS, 4, 1, connection.request_headers(INFER))
        for _ in range(1_000):
            yield frame(DATA, 0, 1) * 200

    def hpack_bomb(connection):
        # One long header in the dynamic table, then referred to thousands of times.
        block = connection.request_headers(INFER) + b"\x40" + literal("x", "a" * 3000)[1:] + b"\xbe" * 16_000
        for n in range(100):
            yield frame(HEADERS, 5, 2 * n + 1, block[:16_000])

    def repeated(data, times):
        return lambda connection: (data for _ in range(times))

    hostile.frames("rapid reset", reset)
    hostile.frames("rapid reset of work", reset_after_data)
    hostile.frames("made you reset", reset_by_the_server)
    hostile.frames("continuation without end", continuation)
    hostile.frames("empty data without end", empty_data)
    hostile.frames("headers that grow when unpacked", hpack_bomb)
    hostile.frames("settings without end", repeated(frame(SETTINGS, 0, 0) * 100, 500))
    hostile.frames("pings without end", repeated(frame(PING, 0, 0, bytes(8)) * 100, 500))
    hostile.frames("priorities without end", repeated(frame(2, 0, 1, bytes(5)) * 100, 500))
    hostile.frames("a window beyond 2^31", repeated(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7FFFFFFF)), 3))
    hostile.frames("a window of nothing", repeated(frame(WINDOW_UPDATE, 0, 0, bytes(4)), 1))
    hostile.frames("a frame of 16 MB", repeated(b"\xff\xff\xff" + bytes([DATA, 0]) + struct.pack(">I", 1) + bytes(1000), 1))
    hostile.frames("data of no stream", repeated(frame(DATA, 0, 0, b"abc"), 1))
    hostile.frames("a stream of even number", repeated(frame(HEADERS, 5, 2, literal(":method", "POST")), 1))
    hostile.frames("headers that are none", repeated(frame(HEADERS, 5, 1, b"\xff" * 100), 1))
    hostile.frames("headers without pseudo-headers", repeated(frame(HEADERS, 5, 1, literal("a", "b")), 1))
    hostile.frames("a thousand streams left open", lambda c: (frame(HEADERS, 4, 2 * n + 1, c.request_headers(INFER)) for n in range(1000)))

    # Few bytes of window: answers wait, and must not hold memory for ever.
    def no_window(connection):
        yield frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))
        body = message(infer_request("half_plus_two", [("x", "FP32", [1])], [bytes(4)]))
        for n in range(50):
            yield frame(HEADERS, 4, 2 * n + 1, connection.request_headers(INFER)) + frame(DATA, 1, 2 * n + 1, body)
        time.sleep(0.5)
    hostile.frames("answers that nobody takes", no_window)


def disconnects(hostile, check):
    """Clients that are gone before their answer: their work is dropped, and others are answered."""
    body = json.dumps({"instances": [[0.5] * 1024] * 4}).encode()
    head = f"POST /v1/models/slow:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    def gone(i):
        with socket.create_connection((HOST, hostile.server.port), timeout=10) as connection:
            connection.sendall(head + (body if i % 2 else body[:1000]))
            if i % 3 == 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(gone, range(200)))
    hostile.after("clients that leave", grpc=True)
    check.true("what nobody waits for is dropped from the queue", time.monotonic() - began < 60, time.monotonic() - began)


def slow_clients(hostile, check, limit):
    """Half send a head that never ends, byte by byte; half begin a body and fall silent. Each is ended when its time is over, others are answered meanwhile."""
    head = b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: x\r\n"
    connections = [socket.create_connection((HOST, hostile.server.port), timeout=30) for _ in range(200)]
    for i, connection in enumerate(connections):
        connection.sendall(head if i % 2 else head + b"Content-Length: 100\r\n\r\n{")
    hostile.after("slow clients, while they wait")
    closed, began = 0, time.monotonic()
    until = began + limit * 4 + 6
    for connection in connections:
        connection.setblocking(False)
    left, trickling = list(connections), set(connections[1::2])
    while left and time.monotonic() < until:
        for connection in list(left):
            if connection in trickling:
                try:
                    connection.send(b"X")
                except OSError:
                    pass
            try:
                data = connection.recv(1 << 16)
                if data:
                    check.true("slow clients: answered 408 or 400", b" 408 " in data[:20] or b" 400 " in data[:20], data[:60]) if closed == 0 else None
                else:
                    closed += 1
                    left.remove(connection)
            except BlockingIOError:
                pass
            except OSError:
                closed += 1
                left.remove(connection)
        time.sleep(0.3)
    check.equal("slow clients: all are ended", closed, len(connections))
    print(f"  slow clients: {closed} of {len(connections)} ended within {time.monotonic() - began:.1f} s (limit {limit} s)", flush=True)
    for connection in connections:
        connection.close()
    hostile.after("slow clients", grpc=True)
    hostile.memory("slow clients")


if __name__ == "__main__":
    run(main)
