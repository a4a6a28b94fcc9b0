#!/usr/bin/env python3
"""SIGTERM under load: whatever was asked before it is answered, what comes after is refused in words or not taken; status 0."""
import json
import struct
import threading
import time

from h2frames import Connection, infer_request, message
from harness import HOST, Server, model_folder, run
from load import INFER, Load


def main(apus, check):
    for attempt in range(2 if check.quick else 5):
        with check.section(f"run {attempt}"):
            one(apus, check)


def one(apus, check):
    with model_folder("half_plus_two", "slow") as folder, Server(apus, folder, check=check) as server:
        loads = [Load(server, threads=4), Load(server, threads=2, grpc=True)]
        answers = {}

        def ask(kind):
            try:
                if kind == "REST":
                    status, answer = server.json("POST", "/v1/models/slow:predict", {"instances": [[1.0] * 1024] * 8}, timeout=30)
                    answers[kind] = status == 200 and answer["predictions"] == [[1.0] * 1024] * 8
                else:
                    connection = Connection(HOST, server.grpc_port)
                    stream = connection.begin(INFER)
                    connection.data(stream, message(infer_request("slow", [("x", "FP32", [64, 1024])], [struct.pack("<f", 1) * 65536])))
                    found = connection.answer(stream, 30)
                    answers[kind] = found["headers"].get("grpc-status") == "0" and found["data"].endswith(struct.pack("<f", 1) * 65536)
            except (OSError, ValueError) as error:
                answers[kind] = repr(error)

        time.sleep(0.5)
        slow = [threading.Thread(target=ask, args=(kind,)) for kind in ["REST", "gRPC"]]
        for thread in slow:
            thread.start()
        time.sleep(0.08)  # both are in: sent whole, not yet answered
        told = time.monotonic()
        server.terminate()
        for thread in slow:
            thread.join(30)
        try:
            server.process.wait(20)
        except Exception:
            pass
        ended = time.monotonic() - told
        check.equal("slow requests that were in are answered", answers, {"REST": True, "gRPC": True})
        for load, kind in zip(loads, ["REST", "gRPC"]):
            requests = load.stop()
            before = [r for r in requests if r[0] < told - 0.02]
            lost = [r for r in before if r[3]]
            check.true(f"{kind}: none of {len(before)} requests sent before is lost", not lost, lost[:3])
            # A request may cross the end of its connection; but an answer is whole, and an error says that the server is leaving.
            odd = [r for r in requests if r[0] >= told and r[3] and not any(
                word in r[3] for word in ["503", "grpc-status 14", "refused", "reset", "RemoteDisconnected", "no answer", "Broken pipe", "ConnectionError", "ConnectionAborted", "ConnectionReset"])]
            check.true(f"{kind}: what comes after is served, refused in words or not taken", not odd, odd[:3])
            wrong = [r for r in requests if not r[3] and r[2] != 2]
            check.true(f"{kind}: no wrong answer", not wrong, wrong[:3])
        check.true("it ends soon", ended < 15, ended)


if __name__ == "__main__":
    run(main)
