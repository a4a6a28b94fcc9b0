#!/usr/bin/env python3
"""TensorFlow Serving's own stubs over grpcio: PredictionService and ModelService."""
import os
import struct
import time

import models
from harness import Server, Skip, model_folder, need, run

NUMBERS = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "int64": 9, "bool": 10, "bfloat16": 14, "float16": 19}


def main(apus, check):
    need("google.protobuf")
    grpc = need("grpc")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import importlib.util
    if importlib.util.find_spec("tensorflow_serving") is None:
        raise Skip("tensorflow-serving-api is not installed")
    if importlib.util.find_spec("tensorflow") is None:
        import tensorflow_messages
        tensorflow_messages.install()
    from tensorflow_serving.apis import (classification_pb2, get_model_metadata_pb2, get_model_status_pb2, inference_pb2, input_pb2,
                                         model_management_pb2, model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc,
                                         regression_pb2)
    from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2

    def code(error):
        return error.code().name

    def tensor(kind, shape, **values):
        dims = [tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in shape]
        return tensor_pb2.TensorProto(dtype=NUMBERS[kind], tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=dims), **values)

    def numbers(answer):
        """The values of a tensor, in whichever of its fields they came."""
        letter, field = {1: ("f", "float_val"), 2: ("d", "double_val"), 3: ("i", "int_val"), 4: ("B", "int_val"), 5: ("h", "int_val"),
                         6: ("b", "int_val"), 9: ("q", "int64_val"), 10: ("?", "bool_val")}[answer.dtype]
        if answer.tensor_content:
            count = len(answer.tensor_content) // struct.calcsize("<" + letter)
            return list(struct.unpack(f"<{count}{letter}", answer.tensor_content))
        return list(getattr(answer, field))

    names = ["half_plus_two", "two", "simple", "every_type", "mlp", "echo_float16", "echo_bfloat16"]
    with model_folder(*names) as folder, Server(apus, folder, check=check) as server:
        channel = grpc.insecure_channel(server.grpc)
        prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        service = model_service_pb2_grpc.ModelServiceStub(channel)

        def predict(name="half_plus_two", inputs=None, timeout=10, signature="", version=None, label=None, outputs=()):
            request = predict_pb2.PredictRequest(inputs=inputs if inputs is not None else {"x": tensor("float32", [3], float_val=[1, 2, 5])})
            request.model_spec.name, request.model_spec.signature_name = name, signature
            if version is not None:
                request.model_spec.version.value = version
            if label:
                request.model_spec.version_label = label
            request.output_filter.extend(outputs)
            return prediction.Predict(request, timeout=timeout)

        with check.section("Predict"):
            answer = predict()
            check.close("float_val", numbers(answer.outputs["y"]), [2.5, 3, 4.5])
            check.equal("shape", [d.size for d in answer.outputs["y"].tensor_shape.dim], [3])
            check.equal("model_spec", (answer.model_spec.name, answer.model_spec.version.value), ("half_plus_two", 1))
            check.close("tensor_content", numbers(predict(inputs={"x": tensor("float32", [2], tensor_content=struct.pack("<2f", 2, 4))}).outputs["y"]), [3, 4])
            check.close("one value fills the shape", numbers(predict(inputs={"x": tensor("float32", [4], float_val=[2])}).outputs["y"]), [3] * 4)
            check.close("signature", numbers(predict("two", signature="three").outputs["y"]), [3.5, 4, 5.5])
            check.close("serving_default", numbers(predict("two", signature="serving_default").outputs["y"]), [2.5, 3, 4.5])
            check.close("version", numbers(predict(version=1).outputs["y"]), [2.5, 3, 4.5])
            pair = {f"INPUT{i}": tensor("int32", [1, 16], int_val=[i + 2] * 16) for i in range(2)}
            answer = predict("simple", pair, outputs=["OUTPUT1"])
            check.equal("output_filter", {k: numbers(v) for k, v in answer.outputs.items()}, {"OUTPUT1": [-1] * 16})
        with check.section("all types"):
            values = {"bool": ("bool_val", [True, False, True]), "uint8": ("int_val", [0, 7, 255]), "int8": ("int_val", [-128, 0, 127]),
                      "int16": ("int_val", [-32768, 0, 32767]), "int32": ("int_val", [-2**31, 0, 2**31 - 1]), "int64": ("int64_val", [-2**63, 0, 2**63 - 1]),
                      "float16": ("half_val", [0x3C00, 0xC000, 0x7BFF]), "bfloat16": ("half_val", [0x3F80, 0xC000, 0x7F7F]),
                      "float32": ("float_val", [1.5, -2, 3e38]), "float64": ("double_val", [1e-300, -2, 1e300])}
            answer = predict("every_type", {f"in_{kind}": tensor(kind, [1, 3], **{field: value}) for kind, (field, value) in values.items()})
            for kind, (field, value) in values.items():
                got = answer.outputs[f"out_{kind}"]
                check.equal(f"{kind}: dtype", got.dtype, NUMBERS[kind])
                if kind in ("float16", "bfloat16"):
                    bits = list(struct.unpack("<3H", got.tensor_content)) if got.tensor_content else list(got.half_val)
                    check.equal(kind, bits, value)
                else:
                    check.close(kind, numbers(got), value, 1e-6) if "float32" == kind else check.equal(kind, numbers(got), value)
        with check.section("errors of Predict"):
            for what, body, expected in [
                ("unknown model", lambda: predict("nope"), "NOT_FOUND"), ("unknown version", lambda: predict(version=9), "NOT_FOUND"),
                ("unknown label", lambda: predict(label="canary"), {"NOT_FOUND", "INVALID_ARGUMENT"}), ("no model", lambda: predict(""), "INVALID_ARGUMENT"),
                ("unknown signature", lambda: predict(signature="nope"), {"INVALID_ARGUMENT", "FAILED_PRECONDITION"}),
                ("unknown input", lambda: predict(inputs={"z": tensor("float32", [1], float_val=[1])}), "INVALID_ARGUMENT"),
                ("missing input", lambda: predict(inputs={}), "INVALID_ARGUMENT"),
                ("wrong type", lambda: predict(inputs={"x": tensor("int32", [1], int_val=[1])}), "INVALID_ARGUMENT"),
                ("wrong rank", lambda: predict(inputs={"x": tensor("float32", [1, 1], float_val=[1])}), "INVALID_ARGUMENT"),
                ("content of the wrong length", lambda: predict(inputs={"x": tensor("float32", [2], tensor_content=b"123")}), "INVALID_ARGUMENT"),
                ("too many values", lambda: predict(inputs={"x": tensor("float32", [1], float_val=[1, 2])}), "INVALID_ARGUMENT"),
                ("product of sizes overflows", lambda: predict(inputs={"x": tensor("float32", [1 << 62, 8], float_val=[1])}), "INVALID_ARGUMENT"),
                ("negative size", lambda: predict(inputs={"x": tensor("float32", [-5], float_val=[1])}), "INVALID_ARGUMENT"),
                ("a huge shape filled by one value", lambda: predict(inputs={"x": tensor("float32", [1 << 40], float_val=[1])}), {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}),
                ("unknown output", lambda: predict(outputs=["nope"]), "INVALID_ARGUMENT")]:
                check.raises(what, body, code, expected)
        with check.section("Classify, Regress, MultiInference"):
            def examples(*rows):
                made = input_pb2.Input()
                for row in rows:
                    example = made.example_list.examples.add()
                    for name, values in row.items():
                        example.features.feature[name].float_list.value.extend(values)
                return made
            request = regression_pb2.RegressionRequest(input=examples({"x": [1.0]}, {"x": [3.0]}))
            request.model_spec.name = "half_plus_two"
            check.close("Regress", [r.value for r in prediction.Regress(request, timeout=10).result.regressions], [2.5, 3.5])
            request = classification_pb2.ClassificationRequest(input=examples({"image": [0.25] * 784}))
            request.model_spec.name = "mlp"
            classes = prediction.Classify(request, timeout=10).result.classifications
            check.equal("Classify: classes", [len(c.classes) for c in classes], [10])
            expected = models.mlp_answer([[0.25] * 784], models.mlp_weights())[0]
            check.close("Classify: scores", sorted(c.score for c in classes[0].classes), sorted(expected), 1e-4)
            multi = inference_pb2.MultiInferenceRequest(input=examples({"x": [1.0]}))
            task = multi.tasks.add(method_name="tensorflow/serving/regress")
            task.model_spec.name = "half_plus_two"
            results = prediction.MultiInference(multi, timeout=10).results
            check.close("MultiInference", [results[0].regression_result.regressions[0].value], [2.5])
            context = input_pb2.Input()
            context.example_list_with_context.context.features.feature["x"].float_list.value.append(3.0)
            context.example_list_with_context.examples.add()
            request = regression_pb2.RegressionRequest(input=context)
            request.model_spec.name = "half_plus_two"
            check.close("context", [prediction.Regress(request, timeout=10).result.regressions[0].value], [3.5])
            request = regression_pb2.RegressionRequest(input=input_pb2.Input())
            request.model_spec.name = "half_plus_two"
            check.raises("no examples", lambda: prediction.Regress(request, timeout=10), code, "INVALID_ARGUMENT")
        with check.section("GetModelMetadata"):
            request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
            request.model_spec.name = "simple"
            answer = prediction.GetModelMetadata(request, timeout=10)
            signatures = get_model_metadata_pb2.SignatureDefMap()
            check.true("metadata unpacks", answer.metadata["signature_def"].Unpack(signatures))
            found = signatures.signature_def.get("serving_default") or signatures.signature_def["serve"]
            check.equal("inputs", {k: (v.dtype, [d.size for d in v.tensor_shape.dim]) for k, v in found.inputs.items()},
                        {"INPUT0": (3, [-1, 16]), "INPUT1": (3, [-1, 16])})
            del request.metadata_field[:]
            check.raises("no field", lambda: prediction.GetModelMetadata(request, timeout=10), code, "INVALID_ARGUMENT")
            request.metadata_field.append("nope")
            check.raises("unknown field", lambda: prediction.GetModelMetadata(request, timeout=10), code, "INVALID_ARGUMENT")
        with check.section("GetModelStatus"):
            request = get_model_status_pb2.GetModelStatusRequest()
            request.model_spec.name = "simple"
            states = service.GetModelStatus(request, timeout=10).model_version_status
            check.equal("state", [(s.version, s.state) for s in states], [(1, 30)])
            request.model_spec.name = "nope"
            check.raises("unknown model", lambda: service.GetModelStatus(request, timeout=10), code, "NOT_FOUND")
        with check.section("HandleReloadConfigRequest"):
            models.put(folder, "half_plus_two", 2, "half_plus_20")
            def reload(labels, versions=(1, 2), others=("simple",)):
                made = model_management_pb2.ReloadConfigRequest()
                one = made.config.model_config_list.config.add(name="half_plus_two", base_path=f"{folder}/half_plus_two", model_platform="")
                one.model_version_policy.specific.versions.extend(versions)
                for name, version in labels.items():
                    one.version_labels[name] = version
                for other in others:
                    made.config.model_config_list.config.add(name=other, base_path=f"{folder}/{other}")
                return service.HandleReloadConfigRequest(made, timeout=60)
            check.equal("two versions: status", reload({}).status.error_code, 0)
            check.close("the newer by default", numbers(predict().outputs["y"]), [20.5, 21, 22.5])
            check.close("the older by number", numbers(predict(version=1).outputs["y"]), [2.5, 3, 4.5])
            check.equal("labels: status", reload({"stable": 1, "canary": 2}).status.error_code, 0)
            check.close("by label", numbers(predict(label="stable").outputs["y"]), [2.5, 3, 4.5])
            check.close("by the other label", numbers(predict(label="canary").outputs["y"]), [20.5, 21, 22.5])
            def refused(body):
                try:
                    return body().status.error_code
                except grpc.RpcError as error:
                    return error.code().value[0]
            check.among("a label of a version that is not loaded", refused(lambda: reload({"canary": 7})), (3, 5, 9))
            check.close("then nothing changes", numbers(predict(label="canary").outputs["y"]), [20.5, 21, 22.5])
            check.raises("what is not in the configuration has gone", lambda: predict("two"), code, {"NOT_FOUND", "UNAVAILABLE"})
            check.equal("rollback: status", reload({}, versions=(1,)).status.error_code, 0)
            until = time.monotonic() + 10
            while numbers(predict().outputs["y"])[0] != 2.5 and time.monotonic() < until:
                time.sleep(0.02)
            check.close("rollback", numbers(predict().outputs["y"]), [2.5, 3, 4.5])
        channel.close()


if __name__ == "__main__":
    run(main)
