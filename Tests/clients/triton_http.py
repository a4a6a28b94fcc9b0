#!/usr/bin/env python3
"""NVIDIA's tritonclient over HTTP, its blocking, asynchronous and asyncio clients."""
import asyncio
import time

import models
from harness import Server, model_folder, need, run

SAMPLES = {"bool": [True, False, True], "uint8": [0, 7, 255], "int8": [-128, 0, 127], "int16": [-32768, 0, 32767], "int32": [-2**31, 0, 2**31 - 1],
           "int64": [-2**63, 0, 2**63 - 1], "float16": [1.5, -2, 65504], "bfloat16": [1.5, -2, 3e38], "float32": [1.5, -2, 3e38],
           "float64": [1e-300, -2, 1e300]}


def numpy_type(kind):
    """tritonclient wants bfloat16 as the type of ml_dtypes, which it installs; older ones take float32."""
    if kind != "bfloat16":
        return kind
    try:
        import ml_dtypes
        return ml_dtypes.bfloat16
    except ImportError:
        return "float32"


def main(apus, check):
    np, client = need("numpy", "tritonclient.http")
    error = client.InferenceServerException
    with model_folder("half_plus_two", "simple", "every_type", "slow", "echo_bfloat16") as folder, Server(apus, folder, check=check) as server:
        with client.InferenceServerClient(server.rest, concurrency=8, network_timeout=60, connection_timeout=60) as triton:
            with check.section("metadata"):
                metadata(triton, check)
            with check.section("infer"):
                infer(triton, client, np, check)
            with check.section("all types"):
                every_type(triton, client, np, check)
            with check.section("errors"):
                x = client.InferInput("x", [1], "FP32").set_data_from_numpy(np.ones(1, np.float32))
                for what, body in [("unknown model", lambda: triton.infer("nope", [x])), ("unknown version", lambda: triton.infer("half_plus_two", [x], model_version="9")),
                                   ("wrong input", lambda: triton.infer("simple", [x])),
                                   ("unknown output", lambda: triton.infer("half_plus_two", [x], outputs=[client.InferRequestedOutput("q")]))]:
                    check.raises(what, body, lambda e: type(e) is error and e.status() in ("400", "404"), True)
            with check.section("timeout"):
                slow = client.InferInput("x", [256, 1024], "FP32").set_data_from_numpy(np.ones((256, 1024), np.float32))
                check.raises("a request whose time is over", lambda: triton.infer("slow", [slow], timeout=1000), lambda e: type(e) is error, True)
            with check.section("repository"):
                repository(triton, client, np, check, server)
        with check.section("asyncio"):
            asyncio.run(with_asyncio(server, np, check))


def metadata(triton, check):
    check.true("live", triton.is_server_live())
    check.true("ready", triton.is_server_ready())
    check.true("model ready", triton.is_model_ready("simple") and triton.is_model_ready("simple", "1"))
    check.true("no model is not ready", not triton.is_model_ready("nope"))
    check.true("server", {"name", "version", "extensions"} <= set(triton.get_server_metadata()))
    model = triton.get_model_metadata("simple")
    check.equal("inputs", model["inputs"], [{"name": f"INPUT{i}", "datatype": "INT32", "shape": [-1, 16]} for i in range(2)])
    config = triton.get_model_config("simple")
    check.equal("config: name", config["name"], "simple")
    check.equal("config: input types", [i["data_type"] for i in config["input"]], ["TYPE_INT32"] * 2)


def infer(triton, client, np, check):
    def inputs(binary, rows=1):
        a, b = np.arange(16 * rows, dtype=np.int32).reshape(rows, 16), np.ones((rows, 16), np.int32)
        made = [client.InferInput(f"INPUT{i}", [rows, 16], "INT32").set_data_from_numpy(v, binary_data=binary) for i, v in enumerate((a, b))]
        return made, a + b, a - b

    def outputs(binary):
        return [client.InferRequestedOutput(f"OUTPUT{i}", binary_data=binary) for i in range(2)]

    for binary in (False, True):
        for ask in (None, False, True):
            made, total, difference = inputs(binary, 3)
            answer = triton.infer("simple", made, outputs=None if ask is None else outputs(ask), request_id="r1")
            what = f"{'binary' if binary else 'JSON'} in, {'all' if ask is None else 'binary' if ask else 'JSON'} out"
            check.true(f"{what}: sum", np.array_equal(answer.as_numpy("OUTPUT0"), total))
            check.true(f"{what}: difference", np.array_equal(answer.as_numpy("OUTPUT1"), difference))
            check.equal(f"{what}: id", answer.get_response()["id"], "r1")
    for algorithm in ("gzip", "deflate"):
        with check.section(algorithm):
            made, total, _ = inputs(True, 64)
            answer = triton.infer("simple", made, request_compression_algorithm=algorithm, response_compression_algorithm=algorithm)
            check.true(f"{algorithm}: sum", np.array_equal(answer.as_numpy("OUTPUT0"), total))
    pending = []
    for rows in range(1, 9):
        made, total, _ = inputs(True, rows)
        pending.append((triton.async_infer("simple", made, request_id=str(rows)), total))
    for request, total in pending:
        check.true("async", np.array_equal(request.get_result().as_numpy("OUTPUT0"), total))
    before = statistics(triton, "simple")
    made, _, _ = inputs(True, 3)
    triton.infer("simple", made)
    after = statistics(triton, "simple")
    check.equal("statistics: examples", after["inference_count"] - before["inference_count"], 3)
    check.equal("statistics: runs", after["execution_count"] - before["execution_count"], 1)
    check.equal("statistics: successes", after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"], 1)
    check.true("statistics: last inference is now", abs(after["last_inference"] / 1000 - time.time()) < 60, after["last_inference"])


def statistics(triton, name):
    return triton.get_inference_statistics(name)["model_stats"][0]


def every_type(triton, client, np, check):
    inputs = []
    for kind, values in SAMPLES.items():
        made = client.InferInput(f"in_{kind}", [1, 3], models.DATATYPES[kind])
        inputs.append(made.set_data_from_numpy(np.array([values], numpy_type(kind))))
    answer = triton.infer("every_type", inputs)
    for kind, values in SAMPLES.items():
        got = answer.as_numpy(f"out_{kind}")
        if kind == "bfloat16":
            check.close(kind, [float(x) for x in got.reshape(-1)], values, 0.01)
        else:
            check.true(kind, got.dtype == np.dtype(kind) and np.array_equal(got, np.array([values], kind)), got)
    json_kinds = [kind for kind in SAMPLES if kind not in ("float16", "bfloat16")]
    inputs = [i if i.name()[3:] not in json_kinds else
              client.InferInput(i.name(), [1, 3], i.datatype()).set_data_from_numpy(np.array([SAMPLES[i.name()[3:]]], i.name()[3:]), binary_data=False) for i in inputs]
    answer = triton.infer("every_type", inputs, outputs=[client.InferRequestedOutput(f"out_{kind}", binary_data=False) for kind in json_kinds])
    for kind in json_kinds:
        check.true(f"{kind} as JSON", np.array_equal(answer.as_numpy(f"out_{kind}"), np.array([SAMPLES[kind]], kind)), answer.as_numpy(f"out_{kind}"))


def repository(triton, client, np, check, server):
    index = {entry["name"]: entry["state"] for entry in triton.get_model_repository_index()}
    check.equal("index", index, {name: "READY" for name in ["half_plus_two", "simple", "every_type", "slow", "echo_bfloat16"]})
    triton.unload_model("half_plus_two")
    until = time.monotonic() + 10
    while triton.is_model_ready("half_plus_two") and time.monotonic() < until:
        time.sleep(0.02)
    check.true("unloaded", not triton.is_model_ready("half_plus_two"))
    x = client.InferInput("x", [1], "FP32").set_data_from_numpy(np.ones(1, np.float32))
    check.raises("infer of what is unloaded", lambda: triton.infer("half_plus_two", [x]), lambda e: e.status() in ("400", "404", "503"), True)
    triton.load_model("half_plus_two")
    check.true("loaded again", triton.is_model_ready("half_plus_two"))
    check.close("answers again", triton.infer("half_plus_two", [x]).as_numpy("y"), [2.5])
    check.raises("load of no model", lambda: triton.load_model("nope"), lambda e: e.status() in ("400", "404"), True)
    check.among("unload of no model", server.request("POST", "/v2/repository/models/nope/unload", {})[0], (200, 400, 404))


async def with_asyncio(server, np, check):
    import tritonclient.http.aio as aio
    async with aio.InferenceServerClient(server.rest) as triton:
        check.true("asyncio: ready", await triton.is_server_ready())

        async def one(value):
            x = aio.InferInput("x", [2], "FP32")
            x.set_data_from_numpy(np.full(2, value, np.float32))
            return (await triton.infer("half_plus_two", [x])).as_numpy("y")[0]

        answers = await asyncio.gather(*(one(i) for i in range(20)))
        check.close("asyncio: 20 at once", answers, [i / 2 + 2 for i in range(20)])


if __name__ == "__main__":
    run(main)
