#!/usr/bin/env python3
"""Memory after unloading: cycles of load, answer, unload through the repository API end within 10 % of where they began."""
import time

from harness import Server, model_folder, run

MEGABYTE = 1 << 20


def main(apus, check):
    cycles = 100 if check.quick else 1000
    with model_folder("mlp", "half_plus_two") as folder, Server(apus, folder, "--explicit", check=check) as server:
        check.equal("load", server.request("POST", "/v2/repository/models/half_plus_two/load", {})[0], 200)
        image = {"inputs": [{"name": "image", "shape": [1, 784], "datatype": "FP32", "data": [0.5] * 784}]}
        figures, began = [], time.monotonic()
        for cycle in range(cycles):
            status, _, body = server.request("POST", "/v2/repository/models/mlp/load", {})
            if not check.equal("load", status, 200):
                print(body[:300])
                return
            if cycle % 10 == 0:
                check.equal("answered", server.request("POST", "/v2/models/mlp/infer", image)[0], 200)
            check.equal("unload", server.request("POST", "/v2/repository/models/mlp/unload", {})[0], 200)
            if cycle % (cycles // 20) == 0:
                figures.append(server.resident())
        time.sleep(1)
        figures.append(server.resident())
        print("  resident MB: " + " ".join(f"{f / MEGABYTE:.1f}" for f in figures) + f"; {(time.monotonic() - began) / cycles * 1000:.1f} ms a cycle", flush=True)
        start = figures[2]  # when every path has been taken
        check.true(f"after {cycles} cycles within 10 % of the start", figures[-1] <= start * 1.1, f"{start / MEGABYTE:.1f} MB, then {figures[-1] / MEGABYTE:.1f} MB")
        check.equal("the other model answers", server.json("POST", "/v1/models/half_plus_two:predict", {"instances": [1]})[1], {"predictions": [2.5]})


if __name__ == "__main__":
    run(main)
