#!/usr/bin/env python3
"""NVIDIA's tritonclient over gRPC: blocking, asynchronous, streaming and asyncio."""
import asyncio
import queue
import time

import models
from harness import Server, model_folder, need, run
from triton_http import SAMPLES, numpy_type


def main(apus, check):
    np, client = need("numpy", "tritonclient.grpc")
    error = client.InferenceServerException

    def status(e):
        return e.status() if isinstance(e, error) else type(e).__name__

    with model_folder("half_plus_two", "simple", "every_type", "slow", "large") as folder, Server(apus, folder, check=check) as server:
        with client.InferenceServerClient(server.grpc) as triton:
            def inputs(rows=1):
                a, b = np.arange(16 * rows, dtype=np.int32).reshape(rows, 16), np.ones((rows, 16), np.int32)
                made = [client.InferInput(f"INPUT{i}", [rows, 16], "INT32").set_data_from_numpy(v) for i, v in enumerate((a, b))]
                return made, a + b, a - b

            def x(value, count=2):
                return [client.InferInput("x", [count], "FP32").set_data_from_numpy(np.full(count, value, np.float32))]

            with check.section("metadata"):
                check.true("live and ready", triton.is_server_live() and triton.is_server_ready())
                check.true("model ready", triton.is_model_ready("simple") and triton.is_model_ready("simple", "1"))
                check.true("no model is not ready", not triton.is_model_ready("nope"))
                check.true("server", triton.get_server_metadata(as_json=True)["name"] != "")
                model = triton.get_model_metadata("simple")
                check.equal("inputs", [(i.name, i.datatype, list(i.shape)) for i in model.inputs], [(f"INPUT{i}", "INT32", [-1, 16]) for i in range(2)])
                check.equal("config", triton.get_model_config("simple").config.name, "simple")
            with check.section("infer"):
                made, total, difference = inputs(3)
                answer = triton.infer("simple", made, request_id="r1")
                check.true("sum and difference", np.array_equal(answer.as_numpy("OUTPUT0"), total) and np.array_equal(answer.as_numpy("OUTPUT1"), difference))
                check.equal("id", answer.get_response().id, "r1")
                answer = triton.infer("simple", made, outputs=[client.InferRequestedOutput("OUTPUT1")])
                check.equal("the output that was asked for", [o.name for o in answer.get_response().outputs], ["OUTPUT1"])
                big = np.arange(2_621_440, dtype=np.float32)[None]
                answer = triton.infer("large", [client.InferInput("x", [1, 2_621_440], "FP32").set_data_from_numpy(big)])
                check.close("10 MB of input", answer.as_numpy("y"), [0, 1, 2, 3])
            for algorithm in ("gzip", "deflate"):
                with check.section(algorithm):
                    check.close(algorithm, triton.infer("half_plus_two", x(2), compression_algorithm=algorithm).as_numpy("y"), [3, 3])
            with check.section("all types"):
                made = [client.InferInput(f"in_{kind}", [1, 3], models.DATATYPES[kind]).set_data_from_numpy(
                    np.array([values], numpy_type(kind))) for kind, values in SAMPLES.items()]
                answer = triton.infer("every_type", made)
                for kind, values in SAMPLES.items():
                    got = answer.as_numpy(f"out_{kind}")
                    if kind == "bfloat16":
                        check.close(kind, [float(x) for x in got.reshape(-1)], values, 0.01)
                    else:
                        check.true(kind, got.dtype == np.dtype(kind) and np.array_equal(got, np.array([values], kind)), got)
            with check.section("asynchronous"):
                answers = queue.Queue()
                for i in range(20):
                    triton.async_infer("half_plus_two", x(i), callback=lambda result, error: answers.put((result, error)), request_id=str(i))
                for _ in range(20):
                    result, problem = answers.get(timeout=20)
                    check.true("async: no error", problem is None, problem)
                    if result is not None:
                        check.close("async", result.as_numpy("y")[:1], [int(result.get_response().id) / 2 + 2])
            with check.section("streaming"):
                answers = queue.Queue()
                triton.start_stream(callback=lambda result, error: answers.put((result, error)))
                for i in range(10):
                    triton.async_stream_infer("half_plus_two", x(i), request_id=str(i))
                got = [answers.get(timeout=20) for _ in range(10)]
                check.true("stream: no errors", all(e is None for _, e in got), got)
                check.equal("stream: in order", [r.get_response().id for r, _ in got], [str(i) for i in range(10)])
                check.close("stream", [r.as_numpy("y")[0] for r, _ in got], [i / 2 + 2 for i in range(10)])
                triton.async_stream_infer("nope", x(1))
                result, problem = answers.get(timeout=20)
                check.true("stream: an error is an answer", problem is not None, result)
                triton.async_stream_infer("half_plus_two", x(4))
                result, problem = answers.get(timeout=20)
                check.true("stream: goes on after an error", problem is None and result.as_numpy("y")[0] == 4, problem)
                triton.stop_stream()
            with check.section("errors"):
                one = x(1)
                for what, body, expected in [
                        ("unknown model", lambda: triton.infer("nope", one), "StatusCode.NOT_FOUND"),
                        ("unknown version", lambda: triton.infer("half_plus_two", one, model_version="9"), "StatusCode.NOT_FOUND"),
                        ("version that is no number", lambda: triton.infer("half_plus_two", one, model_version="x"), "StatusCode.INVALID_ARGUMENT"),
                        ("wrong input", lambda: triton.infer("simple", one), "StatusCode.INVALID_ARGUMENT"),
                        ("unknown output", lambda: triton.infer("half_plus_two", one, outputs=[client.InferRequestedOutput("q")]), "StatusCode.INVALID_ARGUMENT")]:
                    check.raises(what, body, status, expected)
            with check.section("deadlines"):
                slow = [client.InferInput("x", [512, 1024], "FP32").set_data_from_numpy(np.ones((512, 1024), np.float32))]
                check.raises("the client's deadline", lambda: triton.infer("slow", slow, client_timeout=0.05), status, "StatusCode.DEADLINE_EXCEEDED")
                check.raises("the server's timeout", lambda: [triton.infer("slow", slow, timeout=1), triton.infer("slow", slow, timeout=1)], status,
                             {"StatusCode.DEADLINE_EXCEEDED", "StatusCode.UNAVAILABLE"})
                check.close("and it answers", triton.infer("half_plus_two", x(2)).as_numpy("y"), [3, 3])
            with check.section("statistics"):
                before = triton.get_inference_statistics("simple").model_stats[0]
                triton.infer("simple", inputs(3)[0])
                after = triton.get_inference_statistics("simple").model_stats[0]
                check.equal("examples", after.inference_count - before.inference_count, 3)
                check.equal("successes", after.inference_stats.success.count - before.inference_stats.success.count, 1)
            with check.section("repository"):
                index = {m.name: m.state for m in triton.get_model_repository_index().models}
                check.equal("index", index.get("half_plus_two"), "READY")
                triton.unload_model("half_plus_two")
                until = time.monotonic() + 10
                while triton.is_model_ready("half_plus_two") and time.monotonic() < until:
                    time.sleep(0.02)
                check.true("unloaded", not triton.is_model_ready("half_plus_two"))
                triton.load_model("half_plus_two")
                check.close("loaded again", triton.infer("half_plus_two", x(2)).as_numpy("y"), [3, 3])
                check.raises("load of no model", lambda: triton.load_model("nope"), status, {"StatusCode.NOT_FOUND", "StatusCode.INVALID_ARGUMENT"})
        with check.section("asyncio"):
            asyncio.run(with_asyncio(server, np, check))


async def with_asyncio(server, np, check):
    import tritonclient.grpc.aio as aio
    async with aio.InferenceServerClient(server.grpc) as triton:
        check.true("asyncio: ready", await triton.is_server_ready())

        def request(value):
            return [aio.InferInput("x", [2], "FP32").set_data_from_numpy(np.full(2, value, np.float32))]

        answers = await asyncio.gather(*(triton.infer("half_plus_two", request(i)) for i in range(20)))
        check.close("asyncio: 20 at once", [a.as_numpy("y")[0] for a in answers], [i / 2 + 2 for i in range(20)])

        async def requests():
            for i in range(5):
                yield {"model_name": "half_plus_two", "inputs": request(i), "request_id": str(i)}
        got = []
        async for result, problem in triton.stream_infer(requests()):
            got.append(problem if result is None else result.as_numpy("y")[0])
            if len(got) == 5:
                break
        check.equal("asyncio: stream", got, [i / 2 + 2 for i in range(5)])


if __name__ == "__main__":
    run(main)
