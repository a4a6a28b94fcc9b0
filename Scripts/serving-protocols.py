#!/usr/bin/env python3
"""Writes Sources/ServingProtocols from the protocols' own descriptors, as the packages on PyPI have them.

    Scripts/serving-protocols.py --plugins FOLDER

Needs tensorflow-serving-api (and tensorflow), tritonclient[grpc] and grpcio-health-checking; FOLDER holds protoc-gen-swift (of
swift-protobuf) and protoc-gen-grpc-swift-2 (of grpc-swift-protobuf), built with `swift build --product NAME`. Messages that a server
of frozen programs has no use for (graphs, sessions, devices) are left out; the fields that are left have their numbers, and what a client
sends in others is kept as unknown fields.
"""
import argparse
import os
import subprocess

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2

OUT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "Sources", "ServingProtocols")
# Fields and messages that would pull in what is left out.
DROPPED_FIELDS = {
    ".tensorflow.TensorInfo.composite_tensor", ".tensorflow.TensorInfo.CompositeTensor.type_spec", ".tensorflow.TensorInfo.type_spec", ".tensorflow.TensorInfo.coo_sparse",
    ".tensorflow.serving.PredictionLog.session_run_log", ".tensorflow.SignatureDef.defaults",
}
# Of each file, the messages that stay; other files stay whole.
KEPT_MESSAGES = {
    "tensorflow/core/protobuf/meta_graph.proto": {"TensorInfo", "SignatureDef"},
    "tensorflow_serving/apis/prediction_log.proto": {
        "ClassifyLog", "RegressLog", "PredictLog", "PredictStreamedLog", "MultiInferenceLog", "PredictionLog"},
    "tensorflow/core/framework/types.proto": set(),
}
FILES = [
    "tensorflow/core/example/feature.proto", "tensorflow/core/example/example.proto", "tensorflow/core/framework/tensor_shape.proto",
    "tensorflow/core/framework/types.proto", "tensorflow/core/framework/resource_handle.proto",
    "tensorflow/core/framework/tensor.proto", "tensorflow/core/protobuf/meta_graph.proto", "xla/tsl/protobuf/error_codes.proto",
    "tensorflow_serving/apis/input.proto", "tensorflow_serving/apis/model.proto", "tensorflow_serving/apis/classification.proto",
    "tensorflow_serving/apis/regression.proto", "tensorflow_serving/apis/inference.proto", "tensorflow_serving/apis/predict.proto",
    "tensorflow_serving/apis/get_model_metadata.proto", "tensorflow_serving/apis/status.proto",
    "tensorflow_serving/apis/get_model_status.proto", "tensorflow_serving/apis/logging.proto",
    "tensorflow_serving/config/file_system_storage_path_source.proto", "tensorflow_serving/config/log_collector_config.proto",
    "tensorflow_serving/config/logging_config.proto", "tensorflow_serving/config/model_server_config.proto",
    "tensorflow_serving/apis/model_management.proto", "tensorflow_serving/apis/prediction_log.proto",
    "tensorflow_serving/apis/model_service.proto", "tensorflow_serving/apis/prediction_service.proto",
    "model_config.proto", "grpc_service.proto", "grpc_health/v1/health.proto",
]


def collect(descriptor, found):
    if descriptor.name in found:
        return
    for dependency in descriptor.dependencies:
        collect(dependency, found)
    found[descriptor.name] = descriptor


def pruned(descriptor, names):
    file = descriptor_pb2.FileDescriptorProto()
    descriptor.CopyToProto(file)
    kept = KEPT_MESSAGES.get(file.name)
    if kept is not None:
        left = [m for m in file.message_type if m.name in kept]
        del file.message_type[:]
        file.message_type.extend(left)

    def prune(message, path):
        path = f"{path}.{message.name}"
        left = [f for f in message.field if f"{path}.{f.name}" not in DROPPED_FIELDS]
        del message.field[:]
        message.field.extend(left)
        for nested in message.nested_type:
            prune(nested, path)

    for message in file.message_type:
        prune(message, "." + file.package)
    used = set()

    def visit(message):
        for field in message.field:
            used.add(field.type_name)
        for nested in message.nested_type:
            visit(nested)

    for message in file.message_type:
        visit(message)
    for service in file.service:
        for method in service.method:
            used |= {method.input_type, method.output_type}
    # Only files that something in this one is of, wherever it was imported through.
    owners = {t: name for name, types in names.items() for t in types}
    dependencies = sorted({owners[t] for t in used if t} - {file.name})
    strangers = [d for d in dependencies if d not in FILES and not d.startswith("google/protobuf/")]
    if strangers:
        raise SystemExit(f"{file.name} needs {strangers}")
    del file.dependency[:]
    file.dependency.extend(dependencies)
    del file.public_dependency[:]
    del file.weak_dependency[:]
    file.ClearField("source_code_info")
    return file


def types(descriptor):
    names = set()

    def visit(message):
        names.add("." + message.full_name)
        for nested in message.nested_types:
            visit(nested)
        for enum in message.enum_types:
            names.add("." + enum.full_name)

    for message in descriptor.message_types_by_name.values():
        visit(message)
    for enum in descriptor.enum_types_by_name.values():
        names.add("." + enum.full_name)
    return names


def named(file):
    """protoc, whose place this script takes, fills in the names that JSON has for fields."""
    def visit(message):
        for field in message.field:
            first, *rest = field.name.split("_")
            field.json_name = field.json_name or first + "".join(part[:1].upper() + part[1:] for part in rest)
        for nested in message.nested_type:
            visit(nested)

    for message in file.message_type:
        visit(message)
    return file


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--plugins", required=True)
    args = args.parse_args()
    from grpc_health.v1 import health_pb2
    from tensorflow_serving.apis import model_service_pb2, prediction_log_pb2, prediction_service_pb2
    from tritonclient.grpc import service_pb2

    found = {}
    for module in (prediction_service_pb2, model_service_pb2, prediction_log_pb2, service_pb2, health_pb2):
        collect(module.DESCRIPTOR, found)
    names = {name: types(d) for name, d in found.items()}
    missing = [f for f in FILES if f not in found]
    if missing:
        raise SystemExit(f"no descriptors of {missing}; there are {sorted(found)}")
    request = plugin_pb2.CodeGeneratorRequest()
    for name, descriptor in found.items():
        if name.startswith("google/protobuf/"):
            file = descriptor_pb2.FileDescriptorProto()
            descriptor.CopyToProto(file)
            request.proto_file.append(named(file))
        elif name in FILES:
            request.proto_file.append(named(pruned(descriptor, names)))
    request.compiler_version.major = 6
    options = {
        "protoc-gen-swift": "Visibility=Public,FileNaming=PathToUnderscores",
        "protoc-gen-grpc-swift-2": "Visibility=Public,FileNaming=PathToUnderscores,Client=true,Server=true",
    }
    for old in os.listdir(OUT):
        if old.endswith(".swift"):
            os.remove(os.path.join(OUT, old))
    for plugin, option in options.items():
        request.parameter = option
        services = {f.name for f in request.proto_file if f.service}
        del request.file_to_generate[:]
        request.file_to_generate.extend(f for f in FILES if f in services or plugin == "protoc-gen-swift")
        done = subprocess.run([os.path.join(args.plugins, plugin)], input=request.SerializeToString(), stdout=subprocess.PIPE, check=True)
        response = plugin_pb2.CodeGeneratorResponse.FromString(done.stdout)
        if response.error:
            raise SystemExit(response.error)
        for file in response.file:
            if file.content.strip() and not file.name.endswith("_service.pb.swift") or file.name.startswith("grpc_service"):
                with open(os.path.join(OUT, file.name), "w") as out:
                    out.write("// swift-format-ignore-file\n" + file.content)
                print(file.name, len(file.content))


if __name__ == "__main__":
    main()
