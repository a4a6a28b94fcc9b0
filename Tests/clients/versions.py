#!/usr/bin/env python3
"""New versions under load: no request fails, half-copied and harmed versions never take traffic, and removing one goes back."""
import json
import os
import shutil
import time

import models
from harness import Server, model_folder, run
from load import Load

POLL = ["--poll", "0.2"]


def main(apus, check):
    with model_folder(("m", 1, "half_plus_1"), "slow") as folder, Server(apus, folder, *POLL, check=check) as server:
        loads = [Load(server, "m", 3), Load(server, "m", 2, grpc=True)]

        def all_answer(version, what):
            for load, kind in zip(loads, ["REST", "gRPC"]):
                check.true(f"{what}: {kind} answers come from it", load.wait_for(version), load.latest())

        def states():
            return {int(s["version"]): (s["state"], s["status"]) for s in server.json("GET", "/v1/models/m")[1]["model_version_status"]}

        all_answer(1, "version 1")
        models.put(folder, "m", 2, "half_plus_2")
        all_answer(2, "version 2")
        with check.section("half-copied"):
            # As `cp` would leave it for a while: the manifest is there, the program is half there, the weights are not.
            whole = models.put(folder + "-beside", "m", 3, "half_plus_3")
            place = os.path.join(folder, "m", "3", "m.apus")
            os.makedirs(place)
            shutil.copy(f"{whole}/manifest.json", place)
            with open(f"{whole}/program.mlir", "rb") as source, open(f"{place}/program.mlir", "wb") as half:
                half.write(source.read()[:200])
            time.sleep(1.2)
            check.true("half-copied: it is not served", all(load.latest()[2] == 2 for load in loads), [load.latest() for load in loads])
            check.true("half-copied: its status is not AVAILABLE", states().get(3, ("",))[0] != "AVAILABLE", states())
            check.equal("half-copied: the server stays ready", server.request("GET", "/v2/health/ready")[0], 200)
            for name in ["program.mlir", "weights.safetensors"]:
                shutil.copy(f"{whole}/{name}", place)
            all_answer(3, "when it is whole")
        with check.section("harmed"):
            harmed = models.put(folder + "-beside", "m", 4, "half_plus_4")
            with open(f"{harmed}/program.mlir", "r+b") as program:
                program.seek(100)
                program.write(b"#")
            os.makedirs(f"{folder}/m/4")
            os.rename(harmed, f"{folder}/m/4/m.apus")
            time.sleep(1.5)
            check.true("harmed: it is not served", all(load.latest()[2] == 3 for load in loads), [load.latest() for load in loads])
            state = states().get(4)
            check.true("harmed: status is not AVAILABLE", state is None or state[0] != "AVAILABLE", states())
            check.true("harmed: status says why", state and "program.mlir" in json.dumps(state[1]), states())
        with check.section("rollback"):
            shutil.rmtree(f"{folder}/m/4")
            shutil.rmtree(f"{folder}/m/3")
            all_answer(2, "rollback")
        with check.section("a new version in place of a harmed one"):
            models.put(folder, "m", 4, "half_plus_4")
            all_answer(4, "version 4")
        with check.section("the folder is emptied"):
            for version in os.listdir(f"{folder}/m"):
                shutil.rmtree(f"{folder}/m/{version}")
            time.sleep(1)
            check.true("a model whose folder is emptied goes on", all(load.latest()[2] == 4 for load in loads), [load.latest() for load in loads])
        requests = [request for load in loads for request in load.stop()]
        bad = [request for request in requests if request[3]]
        check.true(f"none of {len(requests)} requests failed", not bad, bad[:3])
        order = sorted(requests, key=lambda r: r[0])
        check.true("no answer from a version that never was whole", all(r[2] in (1, 2, 3, 4) for r in order if not r[3]), {r[2] for r in order})
        print(f"  {len(requests)} requests while versions came and went, {len(bad)} failed", flush=True)
        shutil.rmtree(folder + "-beside", ignore_errors=True)


if __name__ == "__main__":
    run(main)
