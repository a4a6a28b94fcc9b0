"""Clients under load whose every request is accounted for: on connections that stay open, over HTTP and, with grpc=True, over frames of HTTP/2."""
import http.client
import json
import random
import struct
import threading
import time

from h2frames import Connection, infer_request, message
from harness import HOST

INFER = "/inference.GRPCInferenceService/ModelInfer"


class Load:
    """`threads` clients that send half_plus requests until `stop()`. `allowed(answer of x)` says whether the added number is right at this time.

    What is kept of each request: (when it was sent, when it ended, the added number or None, what went wrong or None).
    """

    def __init__(self, server, model="half_plus_two", threads=4, grpc=False, pause=0.0, path=None):
        self.server, self.model, self.grpc, self.pause, self.path = server, model, grpc, pause, path
        self.requests, self.lock, self.ending = [], threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self, seed):
        numbers = random.Random(seed)
        connection = None
        while not self.ending.is_set():
            x = float(numbers.randrange(1000))
            sent = time.monotonic()
            version = problem = None
            try:
                if self.grpc:
                    connection = connection or Connection(HOST, self.server.grpc_port)
                    stream = connection.begin(INFER)
                    connection.data(stream, message(infer_request(self.model, [("x", "FP32", [1])], [struct.pack("<f", x)])))
                    found = connection.answer(stream)
                    if found["headers"].get("grpc-status") != "0":
                        problem = f"grpc-status {found['headers'].get('grpc-status')} {found['headers'].get('grpc-message', '')}"
                        if not found["headers"].get("grpc-status"):
                            problem = f"no answer: {found}"
                    else:
                        version = struct.unpack("<f", found["data"][-4:])[0] - x / 2
                    if found["goaway"] is not None or connection.stream > 1 << 20:
                        connection.close()
                        connection = None
                else:
                    connection = connection or http.client.HTTPConnection(HOST, self.server.port, timeout=30)
                    connection.request("POST", self.path or f"/v1/models/{self.model}:predict", json.dumps({"instances": [x]}), {"Content-Type": "application/json"})
                    answer = connection.getresponse()
                    data = answer.read()
                    if answer.status != 200:
                        problem = f"{answer.status} {data[:200]}"
                    else:
                        version = json.loads(data)["predictions"][0] - x / 2
            except OSError as error:
                problem = f"{type(error).__name__}: {error}"
            except http.client.HTTPException as error:
                problem = f"{type(error).__name__}: {error}"
            if problem and connection and not problem.startswith(("4", "5", "grpc-status")):
                connection.close()
                connection = None
            with self.lock:
                self.requests.append((sent, time.monotonic(), version, problem))
            if self.pause or (problem and "refused" in problem):
                time.sleep(self.pause or 0.05)
        if connection:
            connection.close()

    def latest(self):
        with self.lock:
            return self.requests[-1] if self.requests else None

    def wait_for(self, version, seconds=20):
        """Until answers come from a version."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if (last := self.latest()) and last[2] == version:
                return True
            time.sleep(0.01)
        return False

    def stop(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(30)
        return self.requests
