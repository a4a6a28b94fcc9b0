"""Drives a running server of the Open Inference Protocol with NVIDIA's tritonclient: HTTP with JSON and binary tensors, compressed
and not, gRPC unary and streaming, and both asyncio clients.

    python oip_tritonclient.py --http 127.0.0.1:8501 --grpc 127.0.0.1:8500 --model mlp

Any model will do: requests are made from its metadata, with every open size set to 2, and the answers of all ways of asking are
compared with each other. Ends with status 0 if everything is as it should be.
"""

import argparse
import asyncio
import queue
import sys

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http
import tritonclient.http.aio as http_aio
from tritonclient.utils import InferenceServerException, triton_to_np_dtype


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--http", default="127.0.0.1:8501")
    parser.add_argument("--grpc", default="127.0.0.1:8500")
    parser.add_argument("--model", required=True)
    parser.add_argument("--control", action="store_true", help="also unload the model and load it again")
    options = parser.parse_args()
    checks = Checks(options)
    checks.metadata()
    checks.infer()
    checks.stream()
    checks.errors()
    asyncio.run(checks.asynchronous())
    checks.statistics()
    if options.control:
        checks.control()
    print(f"{checks.count} checks passed")


class Checks:
    def __init__(self, options):
        self.model, self.options, self.count = options.model, options, 0
        self.http = http.InferenceServerClient(options.http, concurrency=4)
        self.grpc = grpc.InferenceServerClient(options.grpc)

    def check(self, condition, what):
        if not condition:
            sys.exit(f"failed: {what}")
        self.count += 1

    def fails(self, body, part, what, status=None):
        try:
            body()
        except InferenceServerException as error:
            self.check(part in str(error.message()), f"{what}: the message is {error.message()!r}")
            if status:
                self.check(str(error.status()) in status, f"{what}: the status is {error.status()!r}")
            return
        sys.exit(f"failed: {what}: no error")

    def same(self, a, b, what):
        self.check(a.keys() == b.keys(), f"{what}: outputs {a.keys()} and {b.keys()}")
        for name in a:
            self.check(a[name].dtype == b[name].dtype and a[name].shape == b[name].shape, f"{what}: type of {name}")
            close = np.allclose(a[name].astype(np.float64), b[name].astype(np.float64), rtol=1e-6, atol=1e-6)
            self.check(close, f"{what}: values of {name}")

    # What the server says of itself and the model.

    def metadata(self):
        for client, name in [(self.http, "HTTP"), (self.grpc, "gRPC")]:
            self.check(client.is_server_live(), f"{name}: live")
            self.check(client.is_server_ready(), f"{name}: ready")
            self.check(client.is_model_ready(self.model), f"{name}: model ready")
            self.check(not client.is_model_ready("no such model"), f"{name}: unknown model not ready")
        server = self.http.get_server_metadata()
        self.check({"binary_tensor_data", "model_repository", "statistics"} <= set(server["extensions"]), "extensions")
        self.check(list(self.grpc.get_server_metadata().extensions) == server["extensions"], "extensions over gRPC")
        self.data = self.http.get_model_metadata(self.model)
        other = self.grpc.get_model_metadata(self.model, as_json=True)
        self.check(other["name"] == self.data["name"] == self.model, "the model's name")
        for kind in ["inputs", "outputs"]:
            for a, b in zip(self.data[kind], other[kind], strict=True):
                self.check(a["name"] == b["name"] and a["datatype"] == b["datatype"], f"{kind} over both")
                self.check(a["shape"] == [int(n) for n in b.get("shape", [])], f"{kind}: shapes over both")
        version = self.data["versions"][-1]
        self.check(self.http.get_model_metadata(self.model, version)["versions"] == [version], "a version's metadata")
        self.check(self.http.is_model_ready(self.model, version), "a version is ready")
        config = self.http.get_model_config(self.model)
        other = self.grpc.get_model_config(self.model).config
        self.check(config["name"] == other.name == self.model, "the configuration's name")
        self.check(config["max_batch_size"] == other.max_batch_size, "max_batch_size")
        self.check([list(i.dims) for i in other.input] == [i["dims"] for i in config["input"]], "dims")
        index = [m for m in self.http.get_model_repository_index() if m["name"] == self.model]
        self.check(index and index[-1]["state"] == "READY", "the index")
        self.check(self.model in [m.name for m in self.grpc.get_model_repository_index().models], "the index over gRPC")

    # Inference.

    def arrays(self):
        random = np.random.default_rng(1)
        result = {}
        for entry in self.data["inputs"]:
            shape = [2 if n < 0 else n for n in entry["shape"]]
            if entry["datatype"] == "BF16":
                import ml_dtypes

                result[entry["name"]] = (random.standard_normal(shape).astype(ml_dtypes.bfloat16), "BF16")
                continue
            dtype = triton_to_np_dtype(entry["datatype"])
            if dtype is bool:
                array = random.integers(0, 2, shape).astype(bool)
            elif np.issubdtype(dtype, np.integer):
                array = random.integers(0, 9, shape).astype(dtype)
            else:
                array = random.standard_normal(shape).astype(dtype)
            result[entry["name"]] = (array, entry["datatype"])
        return result

    def inputs(self, module, **options):
        result = []
        for name, (array, datatype) in self.arrays().items():
            value = module.InferInput(name, list(array.shape), datatype)
            # This client refuses to write bfloat16 as JSON.
            value.set_data_from_numpy(array, **({} if datatype == "BF16" else options))
            result.append(value)
        return result

    def outputs(self, result):
        return {entry["name"]: result.as_numpy(entry["name"]) for entry in self.data["outputs"]}

    def infer(self):
        first = self.http.infer(self.model, self.inputs(http), request_id="one")
        self.check(first.get_response()["id"] == "one", "the id")
        self.check(first.get_response()["model_version"] == self.data["versions"][-1], "the version")
        self.expected = self.outputs(first)
        for entry in self.data["outputs"]:
            self.check(self.expected[entry["name"]] is not None, f"output {entry['name']}")
            shape = self.expected[entry["name"]].shape
            self.check(all(n in (-1, m) for n, m in zip(entry["shape"], shape, strict=True)), "an output's shape")
        names = [entry["name"] for entry in self.data["outputs"]]
        for binary in [True, False]:
            wanted = [http.InferRequestedOutput(name, binary_data=binary) for name in names]
            for data in [True, False]:
                result = self.http.infer(self.model, self.inputs(http, binary_data=data), outputs=wanted)
                self.same(self.expected, self.outputs(result), f"binary outputs {binary}, inputs {data}")
        for algorithm in ["gzip", "deflate"]:
            result = self.http.infer(
                self.model,
                self.inputs(http),
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )
            self.same(self.expected, self.outputs(result), algorithm)
        pending = [self.http.async_infer(self.model, self.inputs(http)) for _ in range(16)]
        for request in pending:
            self.same(self.expected, self.outputs(request.get_result()), "async_infer over HTTP")
        one = [http.InferRequestedOutput(names[0])]
        result = self.http.infer(self.model, self.inputs(http), outputs=one)
        self.check([o["name"] for o in result.get_response()["outputs"]] == names[:1], "one output alone")

        result = self.grpc.infer(self.model, self.inputs(grpc), request_id="two", client_timeout=30)
        self.check(result.get_response().id == "two", "the id over gRPC")
        self.same(self.expected, self.outputs(result), "gRPC")
        for algorithm in ["gzip", "deflate"]:
            result = self.grpc.infer(self.model, self.inputs(grpc), compression_algorithm=algorithm)
            self.same(self.expected, self.outputs(result), f"gRPC, {algorithm}")
        result = self.grpc.infer(self.model, self.inputs(grpc), model_version=self.data["versions"][-1], priority=1, timeout=10**7)
        self.same(self.expected, self.outputs(result), "gRPC with version, priority and timeout")
        answers = queue.Queue()
        for _ in range(16):
            self.grpc.async_infer(self.model, self.inputs(grpc), lambda result, error: answers.put((result, error)))
        for _ in range(16):
            result, error = answers.get(timeout=30)
            self.check(error is None, f"async_infer over gRPC: {error}")
            self.same(self.expected, self.outputs(result), "async_infer over gRPC")
        classes = [grpc.InferRequestedOutput(names[0], class_count=2)]
        over_grpc = self.grpc.infer(self.model, self.inputs(grpc), outputs=classes).as_numpy(names[0])
        classes = [http.InferRequestedOutput(names[0], class_count=2)]
        over_http = self.http.infer(self.model, self.inputs(http), outputs=classes).as_numpy(names[0])
        self.check((over_grpc == over_http).all(), "classes over both")
        value, index = over_http.flatten()[0].decode().split(":")[:2]
        row = self.expected[names[0]]
        row = (row[0] if row.ndim > 1 else row).flatten()
        self.check(abs(float(value) - float(row.max())) < 1e-5 and row[int(index)] == row.max(), "the best class")

    def stream(self):
        answers = queue.Queue()
        client = grpc.InferenceServerClient(self.options.grpc)
        client.start_stream(lambda result, error: answers.put((result, error)))
        for i in range(20):
            model = "no such model" if i == 7 else self.model
            client.async_stream_infer(model, self.inputs(grpc), request_id=f"{i}", enable_empty_final_response=True)
        for i in range(20):
            result, error = answers.get(timeout=30)
            if i == 7:
                self.check(error is not None and "is not found" in str(error), "an error in a stream")
                continue
            self.check(error is None, f"a stream's answer {i}: {error}")
            response = result.get_response()
            self.check(response.id == f"{i}", "a stream's order")
            self.check(response.parameters["triton_final_response"].bool_param, "the last answer's mark")
            self.same(self.expected, self.outputs(result), "a stream")
        client.stop_stream()
        client.close()

    async def asynchronous(self):
        async with http_aio.InferenceServerClient(self.options.http) as client:
            self.check(await client.is_server_ready(), "aio HTTP: ready")
            results = await asyncio.gather(*[client.infer(self.model, self.inputs(http)) for _ in range(16)])
            for result in results:
                self.same(self.expected, self.outputs(result), "aio HTTP")
        async with grpc_aio.InferenceServerClient(self.options.grpc) as client:
            self.check(await client.is_server_ready(), "aio gRPC: ready")
            results = await asyncio.gather(*[client.infer(self.model, self.inputs(grpc)) for _ in range(16)])
            for result in results:
                self.same(self.expected, self.outputs(result), "aio gRPC")

    # Mistakes.

    def errors(self):
        gone = "Request for unknown model: 'no such model' is not found"
        self.fails(lambda: self.http.infer("no such model", self.inputs(http)), gone, "an unknown model", ["404"])
        self.fails(
            lambda: self.grpc.infer("no such model", self.inputs(grpc)), gone, "gRPC: an unknown model", ["StatusCode.NOT_FOUND"]
        )
        self.fails(lambda: self.http.infer(self.model, self.inputs(http), model_version="987"), "987", "an unknown version", ["404"])
        for client, module, code in [(self.http, http, "400"), (self.grpc, grpc, "StatusCode.INVALID_ARGUMENT")]:
            inputs = self.inputs(module)
            wrong = module.InferInput("no such input", [1], "FP32")
            wrong.set_data_from_numpy(np.zeros(1, np.float32))
            self.fails(lambda: client.infer(self.model, inputs + [wrong]), "unexpected inference input", "one input more", [code])
            self.fails(lambda: client.infer(self.model, inputs[1:]), "", "an input is missing", [code])
            self.fails(lambda: client.infer(self.model, inputs + inputs[:1]), "twice", "an input twice", [code])
            output = [module.InferRequestedOutput("no such output")]
            self.fails(
                lambda: client.infer(self.model, inputs, outputs=output), "unexpected inference output", "no such output", [code]
            )
            array, datatype = self.arrays()[inputs[0].name()]
            other = module.InferInput(inputs[0].name(), [1, *array.shape], datatype)
            other.set_data_from_numpy(array[None])
            self.fails(lambda: client.infer(self.model, [other, *inputs[1:]]), "unexpected shape", "another rank", [code])
            other = module.InferInput(inputs[0].name(), list(array.shape), "UINT64")
            other.set_data_from_numpy(np.zeros(array.shape, np.uint64))
            self.fails(lambda: client.infer(self.model, [other, *inputs[1:]]), "UINT64", "another type", [code])
            shared = module.InferInput(inputs[0].name(), list(array.shape), datatype)
            shared.set_shared_memory("region", 4)
            self.fails(lambda: client.infer(self.model, [shared, *inputs[1:]]), "shared memory", "shared memory")
            self.fails(lambda: client.infer(self.model, inputs, sequence_id=3), "sequence", "a sequence")
            self.fails(lambda: client.get_trace_settings(), "not supported", "trace settings")
            self.fails(lambda: client.get_log_settings(), "not supported", "log settings")

    def statistics(self):
        before = self.http.get_inference_statistics(self.model)["model_stats"][-1]["inference_stats"]["success"]
        self.check(before["count"] > 0 and before["ns"] > 0, "statistics")
        self.http.infer(self.model, self.inputs(http))
        after = self.grpc.get_inference_statistics(self.model).model_stats[-1].inference_stats.success
        self.check(after.count == before["count"] + 1 and after.ns > before["ns"], "statistics over gRPC")
        self.check(len(self.http.get_inference_statistics()["model_stats"]) > 0, "statistics of all models")

    def control(self):
        for client, module in [(self.http, http), (self.grpc, grpc)]:
            client.unload_model(self.model)
            self.check(not client.is_model_ready(self.model), "unloaded")
            self.fails(lambda: client.infer(self.model, self.inputs(module)), "", "an unloaded model")
            client.load_model(self.model)
            self.check(client.is_model_ready(self.model), "loaded")
            self.same(self.expected, self.outputs(client.infer(self.model, self.inputs(module))), "loaded again")


main()
