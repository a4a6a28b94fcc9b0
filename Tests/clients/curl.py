#!/usr/bin/env python3
"""Every route of both REST APIs by plain curl: answers, codes and bodies of errors as TensorFlow Serving and Triton document them."""
import json
import shutil
import struct
import subprocess
import tempfile

from harness import Server, Skip, model_folder, run


class Curl:
    def __init__(self, server):
        self.server = server

    def __call__(self, method, path, data=None, *options):
        """(status, headers, body): `data` is sent as it is, by a file, so that curl changes nothing."""
        command = ["curl", "-sS", "--max-time", "30", "-i", "-X", method, *options]
        with tempfile.NamedTemporaryFile() as file:
            if data is not None:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                command += ["--data-binary", f"@{file.name}"]
            done = subprocess.run(command + [f"http://{self.server.rest}{path}"], capture_output=True)
        if done.returncode != 0:
            raise RuntimeError(f"curl {method} {path}: {done.stderr.decode()}")
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        while head.startswith(b"HTTP/1.1 100"):
            head, _, body = body.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        return int(lines[0].split()[1]), headers, body


def main(apus, check):
    if not shutil.which("curl"):
        raise Skip("there is no curl")
    names = ["half_plus_two", "simple", "every_type", "two", "mlp", "echo_uint8", "echo_float32", "echo_bool", "echo_int64"]
    with model_folder(*names) as folder, Server(apus, folder, check=check) as server:
        curl = Curl(server)
        with check.section("TensorFlow Serving"):
            tensorflow(curl, check)
        with check.section("Open Inference Protocol"):
            inference(curl, check)
        with check.section("operations"):
            operations(curl, check)


def tensorflow(curl, check):
    predict = "/v1/models/half_plus_two:predict"

    def answers(what, path, body, expected, status=200, method="POST"):
        got, headers, data = curl(method, path, body if isinstance(body, (str, bytes, type(None))) else json.dumps(body))
        if check.equal(f"{what}: status", got, status) and expected is not None:
            check.equal(what, json.loads(data), expected)
        return headers, data

    def fails(what, path, body, status, word="", method="POST"):
        got, headers, data = curl(method, path, body if isinstance(body, (str, bytes, type(None))) else json.dumps(body))
        if check.equal(f"{what}: status", got, status):
            error = json.loads(data)
            check.equal(f"{what}: body has an error alone", list(error), ["error"])
            check.true(f"{what}: says '{word}'", word in error["error"], error["error"])
            check.true(f"{what}: pretty-printed", b"\n" in data, data)
            check.true(f"{what}: JSON", headers.get("content-type", "").startswith("application/json"), headers)

    with check.section("predict"):
        headers, data = answers("row format", predict, {"instances": [1.0, 2.0, 5.0]}, {"predictions": [2.5, 3.0, 4.5]})
        check.true("whole numbers end in .0", b"3.0" in data, data)
        check.true("JSON", headers["content-type"].startswith("application/json"), headers)
        answers("row format, named input", predict, {"instances": [{"x": 1.0}, {"x": 4}]}, {"predictions": [2.5, 4.0]})
        answers("column format", predict, {"inputs": [1.0, 2.0]}, {"outputs": [2.5, 3.0]})
        answers("column format, named input", predict, {"inputs": {"x": [1.0, 2.0]}}, {"outputs": [2.5, 3.0]})
        answers("by version", "/v1/models/half_plus_two/versions/1:predict", {"instances": [0]}, {"predictions": [2.0]})
        answers("any case", "/V1/Models/half_plus_two:PREDICT", {"instances": [0]}, {"predictions": [2.0]})
        answers("percent-decoded name", "/v1/models/half%5Fplus_two:predict", {"instances": [0]}, {"predictions": [2.0]})
        answers("signature by name", "/v1/models/two:predict", {"signature_name": "three", "instances": [2]}, {"predictions": [4.0]})
        answers("default signature", "/v1/models/two:predict", {"signature_name": "serving_default", "instances": [2]}, {"predictions": [3.0]})
        rows = [{"INPUT0": list(range(16)), "INPUT1": [1] * 16}]
        answers("several outputs, row", "/v1/models/simple:predict", {"instances": rows},
                {"predictions": [{"OUTPUT0": [i + 1 for i in range(16)], "OUTPUT1": [i - 1 for i in range(16)]}]})
        answers("several outputs, column", "/v1/models/simple:predict", {"inputs": {"INPUT0": [[2] * 16], "INPUT1": [[1] * 16]}},
                {"outputs": {"OUTPUT0": [[3] * 16], "OUTPUT1": [[1] * 16]}})
        answers("b64 fills uint8", "/v1/models/echo_uint8:predict", {"instances": [{"b64": "AQID"}]}, {"predictions": [[1, 2, 3]]})
        answers("booleans", "/v1/models/echo_bool:predict", {"instances": [[True, False]]}, {"predictions": [[True, False]]})
        answers("int64, all digits", "/v1/models/echo_int64:predict", {"instances": [[9223372036854775807, -9223372036854775808]]},
                {"predictions": [[9223372036854775807, -9223372036854775808]]})
        status, _, data = curl("POST", "/v1/models/echo_float32:predict", '{"instances": [[NaN, Infinity, -Infinity, 0.1, 1e-9, 16777216, 1234567.9]]}')
        check.equal("numbers that are none: status", status, 200)
        text = data.decode()
        for word in ["NaN", " Infinity", "-Infinity", "0.1", "16777216.0"]:
            check.true(f"prints {word.strip()}", word in text, text)
    with check.section("errors of predict"):
        fails("both formats", predict, {"inputs": [1], "instances": [1]}, 400)
        fails("neither format", predict, {}, 400)
        fails("no JSON", predict, "{", 400)
        fails("empty body", predict, "", 400)
        fails("text for a number", predict, {"instances": ["a"]}, 400)
        fails("wrong rank", predict, {"instances": [[1.0]]}, 400, "x")
        fails("unknown input", predict, {"instances": [{"z": 1.0}]}, 400)
        fails("missing input", "/v1/models/simple:predict", {"instances": [{"INPUT0": [1] * 16}]}, 400, "INPUT1")
        fails("wrong size", "/v1/models/mlp:predict", {"instances": [[0.0] * 783]}, 400, "image")
        fails("ragged rows", "/v1/models/echo_float32:predict", {"instances": [[1, 2], [1]]}, 400)
        fails("number too large for its type", "/v1/models/echo_uint8:predict", {"instances": [[256]]}, 400)
        fails("bad b64", "/v1/models/echo_uint8:predict", {"instances": [{"b64": "A*=="}]}, 400)
        fails("unknown signature", predict, {"signature_name": "nope", "instances": [1]}, 400)
        fails("unknown model", "/v1/models/nope:predict", {"instances": [1]}, 404, "nope")
        fails("unknown version", "/v1/models/half_plus_two/versions/7:predict", {"instances": [1]}, 404, "7")
        fails("version that is no number", "/v1/models/half_plus_two/versions/x:predict", {"instances": [1]}, 400)
        fails("version beyond 64 bits", "/v1/models/half_plus_two/versions/99999999999999999999:predict", {"instances": [1]}, 400)
        fails("unknown verb", "/v1/models/half_plus_two:guess", {"instances": [1]}, 400)
        fails("GET of predict", predict, None, 400, method="GET")
    with check.section("status"):
        _, data = answers("status", "/v1/models/half_plus_two", None, {"model_version_status": [
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]}, method="GET")
        answers("status of a version", "/v1/models/half_plus_two/versions/1", None, None, method="GET")
        fails("status of no model", "/v1/models/nope", None, 404, "nope", "GET")
        fails("status of no version", "/v1/models/half_plus_two/versions/9", None, 404, "9", "GET")
        status, _, data = curl("GET", "/v1/models/simple/metadata")
        check.equal("metadata: status", status, 200)
        answer = json.loads(data)
        check.equal("metadata: model", answer["model_spec"]["name"], "simple")
        check.equal("metadata: version is text", answer["model_spec"]["version"], "1")
        signatures = answer["metadata"]["signature_def"]["signature_def"]
        one = signatures.get("serving_default") or signatures["serve"]
        check.equal("metadata: inputs", sorted(one["inputs"]), ["INPUT0", "INPUT1"])
        check.equal("metadata: type", one["inputs"]["INPUT0"]["dtype"], "DT_INT32")
        check.equal("metadata: sizes", [d["size"] for d in one["inputs"]["INPUT0"]["tensor_shape"]["dim"]], ["-1", "16"])
        check.equal("metadata: method", one["method_name"], "tensorflow/serving/predict")
    with check.section("classify and regress"):
        for verb in ["classify", "regress"]:
            # half_plus_two has one number per example, which is what a regression gives; a classification is of scores by class.
            status, _, data = curl("POST", f"/v1/models/half_plus_two:{verb}", json.dumps({"examples": [{"x": 1.0}, {"x": 3.0}]}))
            if verb == "regress":
                check.equal("regress: status", status, 200)
                check.equal("regress", json.loads(data), {"results": [2.5, 3.5]})
            else:
                check.among("classify of no scores: status", status, (200, 400))
        status, _, data = curl("POST", "/v1/models/mlp:classify", json.dumps({"examples": [{"image": [0.0] * 784}]}))
        check.equal("classify: status", status, 200)
        results = json.loads(data)["results"]
        check.equal("classify: examples and classes", [len(r) for r in results], [10])
        check.true("classify: label and score", all(isinstance(label, str) and isinstance(score, float) for label, score in results[0]), results)


def inference(curl, check):
    def get(path, status=200):
        got, _, data = curl("GET", path)
        check.equal(f"GET {path}: status", got, status)
        return json.loads(data) if data.strip() else None

    def infer(name, body, *options, path=None):
        return curl("POST", path or f"/v2/models/{name}/infer", body if isinstance(body, (str, bytes)) else json.dumps(body), *options)

    def fails(what, status, got, word=""):
        code, headers, data = got
        expected = status if isinstance(status, tuple) else (status,)
        if check.among(f"{what}: status", code, expected):
            error = json.loads(data)
            check.equal(f"{what}: body has an error alone", list(error), ["error"])
            check.true(f"{what}: says '{word}'", word in error["error"], error["error"])

    with check.section("health and metadata"):
        get("/v2/health/live"), get("/v2/health/ready"), get("/v2/models/simple/ready"), get("/v2/models/simple/versions/1/ready")
        server = get("/v2")
        check.true("server: name, version, extensions", {"name", "version", "extensions"} <= set(server), server)
        check.true("server: binary tensors", "binary_tensor_data" in server["extensions"], server)
        model = get("/v2/models/simple")
        check.equal("model: name", model["name"], "simple")
        check.equal("model: versions", model["versions"], ["1"])
        check.equal("model: inputs", model["inputs"], [
            {"name": "INPUT0", "datatype": "INT32", "shape": [-1, 16]}, {"name": "INPUT1", "datatype": "INT32", "shape": [-1, 16]}])
        check.equal("model: outputs", [o["name"] for o in model["outputs"]], ["OUTPUT0", "OUTPUT1"])
        get("/v2/models/simple/versions/1"), get("/v2/models/simple/config"), get("/v2/models/simple/stats"), get("/v2/models/stats")
        fails("no model", (400, 404), curl("GET", "/v2/models/nope"), "nope")
        fails("no version", (400, 404), curl("GET", "/v2/models/simple/versions/9"), "9")
        check.among("no model is not ready", curl("GET", "/v2/models/nope/ready")[0], (400, 404))
    with check.section("infer"):
        x = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1.0, 2.0]}
        status, _, data = infer("half_plus_two", {"id": "7", "inputs": [x]})
        check.equal("infer: status", status, 200)
        answer = json.loads(data)
        check.equal("infer: id", answer["id"], "7")
        check.equal("infer: model", (answer["model_name"], answer["model_version"]), ("half_plus_two", "1"))
        check.equal("infer: outputs", answer["outputs"], [{"name": "y", "datatype": "FP32", "shape": [2], "data": [2.5, 3.0]}])
        check.equal("infer by version", infer("", {"inputs": [x]}, path="/v2/models/half_plus_two/versions/1/infer")[0], 200)
        nested = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2], [3, 4]]}
        status, _, data = infer("echo_float32", {"inputs": [nested]})
        check.equal("nested data", json.loads(data)["outputs"][0]["data"], [1.0, 2.0, 3.0, 4.0])
        pair = [{"name": f"INPUT{i}", "shape": [1, 16], "datatype": "INT32", "data": [i + 2] * 16} for i in range(2)]
        status, _, data = infer("simple", {"inputs": pair, "outputs": [{"name": "OUTPUT1"}]})
        check.equal("the output that was asked for", [(o["name"], o["data"]) for o in json.loads(data)["outputs"]], [("OUTPUT1", [-1] * 16)])
    with check.section("binary tensors"):
        head = json.dumps({"inputs": [{"name": "x", "shape": [3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}],
                           "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}).encode()
        status, headers, data = infer("half_plus_two", head + struct.pack("<3f", 1, 2, 5), "-H", f"Inference-Header-Content-Length: {len(head)}",
                                      "-H", "Content-Type: application/octet-stream")
        check.equal("binary: status", status, 200)
        length = int(headers["inference-header-content-length"])
        check.equal("binary: sizes", json.loads(data[:length])["outputs"][0]["parameters"], {"binary_data_size": 12})
        check.equal("binary: values", struct.unpack("<3f", data[length:]), (2.5, 3.0, 4.5))
        head = json.dumps({"parameters": {"binary_data_output": True}, "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [2]}]}).encode()
        status, headers, data = infer("half_plus_two", head)
        check.equal("binary_data_output: values", data[int(headers["inference-header-content-length"]):], struct.pack("<f", 3))
        status, headers, data = infer("echo_uint8", b"\x01\x02\x03", "-H", "Inference-Header-Content-Length: 0", "-H", "Content-Type: application/octet-stream")
        check.among("raw body: status", status, (200, 400))
    with check.section("errors of infer"):
        fails("no JSON", 400, infer("half_plus_two", "{"))
        fails("no inputs", 400, infer("half_plus_two", {}))
        fails("unknown input", 400, infer("half_plus_two", {"inputs": [{**x, "name": "z"}]}), "z")
        fails("wrong type", 400, infer("half_plus_two", {"inputs": [{**x, "datatype": "INT32"}]}), "x")
        fails("unknown type", 400, infer("half_plus_two", {"inputs": [{**x, "datatype": "FP33"}]}))
        fails("wrong shape", 400, infer("half_plus_two", {"inputs": [{**x, "shape": [1, 2]}]}), "x")
        fails("fewer numbers than the shape has", 400, infer("half_plus_two", {"inputs": [{**x, "shape": [3]}]}), "x")
        fails("negative size", 400, infer("half_plus_two", {"inputs": [{**x, "shape": [-2]}]}), "x")
        fails("missing input", 400, infer("simple", {"inputs": pair[:1]}), "INPUT1")
        fails("input twice", 400, infer("half_plus_two", {"inputs": [x, x]}), "x")
        fails("unknown output", 400, infer("half_plus_two", {"inputs": [x], "outputs": [{"name": "q"}]}), "q")
        fails("unknown model", (400, 404), infer("nope", {"inputs": [x]}), "nope")
        fails("unknown version", (400, 404), infer("", {"inputs": [x]}, path="/v2/models/half_plus_two/versions/9/infer"), "9")
        fails("header longer than the body", 400, infer("half_plus_two", head, "-H", "Inference-Header-Content-Length: 100000"))
        fails("binary size that is none", 400, infer("half_plus_two", json.dumps({"inputs": [
            {"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": -4}}]}), "-H", "Inference-Header-Content-Length: 0"))
    with check.section("repository"):
        status, _, data = curl("POST", "/v2/repository/index", "{}")
        check.equal("index: status", status, 200)
        entries = {entry["name"]: entry for entry in json.loads(data)}
        check.equal("index: an entry", entries["simple"], {"name": "simple", "version": "1", "state": "READY"} | {
            key: entries["simple"][key] for key in ("reason",) if key in entries["simple"]})


def operations(curl, check):
    status, headers, data = curl("GET", "/metrics")
    check.equal("metrics: status", status, 200)
    check.true("metrics: Triton's names", b"nv_inference_request_success{" in data, data[:300])
    status, _, data = curl("GET", "/monitoring/prometheus/metrics")
    check.equal("TensorFlow Serving's metrics: status", status, 200)
    check.true("TensorFlow Serving's metrics: names", b":tensorflow:serving:request_count" in data, data[:300])
    check.among("no such route", curl("GET", "/nope")[0], (404,))


if __name__ == "__main__":
    run(main)
