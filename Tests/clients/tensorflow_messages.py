"""The few messages of TensorFlow that the stubs of tensorflow-serving-api are made of, where TensorFlow itself is not installed.

`install()` puts modules in the place of tensorflow.core.…_pb2, so that `pip install --no-deps tensorflow-serving-api` suffices: a client of 50 kB
instead of 600 MB. Fields and numbers are those of TensorFlow's .proto files; what the stubs do not touch (graphs, functions) is left out.
"""
import sys
import types as python_types

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

TYPES = ("INVALID FLOAT DOUBLE INT32 UINT8 INT16 INT8 STRING COMPLEX64 INT64 BOOL QINT8 QUINT8 QINT32 BFLOAT16 QINT16 QUINT16 UINT16 "
         "COMPLEX128 HALF RESOURCE VARIANT UINT32 UINT64").split()
CODES = ("OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED "
         "FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED").split()
# file: (what it imports, {message: [field = number: type]}); * is repeated, a type in <> is the value of a map from text.
FILES = {
    "tensorflow/core/framework/types.proto": ([], {}),
    "tensorflow/core/framework/tensor_shape.proto": ([], {
        "TensorShapeProto.Dim": ["size=1:int64", "name=2:string"],
        "TensorShapeProto": ["dim=2:*TensorShapeProto.Dim", "unknown_rank=3:bool"]}),
    "tensorflow/core/framework/tensor.proto": (["tensorflow/core/framework/tensor_shape.proto", "tensorflow/core/framework/types.proto"], {
        "TensorProto": ["dtype=1:DataType", "tensor_shape=2:TensorShapeProto", "version_number=3:int32", "tensor_content=4:bytes",
                        "half_val=13:*int32", "float_val=5:*float", "double_val=6:*double", "int_val=7:*int32", "string_val=8:*bytes",
                        "int64_val=10:*int64", "bool_val=11:*bool", "uint32_val=16:*uint32", "uint64_val=17:*uint64"]}),
    "tensorflow/core/example/feature.proto": ([], {
        "BytesList": ["value=1:*bytes"], "FloatList": ["value=1:*float"], "Int64List": ["value=1:*int64"],
        "Feature": ["bytes_list=1:BytesList", "float_list=2:FloatList", "int64_list=3:Int64List"],
        "Features": ["feature=1:<Feature>"]}),
    "tensorflow/core/example/example.proto": (["tensorflow/core/example/feature.proto"], {"Example": ["features=1:Features"]}),
    "tensorflow/core/protobuf/meta_graph.proto": (["tensorflow/core/framework/tensor_shape.proto", "tensorflow/core/framework/types.proto"], {
        "TensorInfo": ["name=1:string", "dtype=2:DataType", "tensor_shape=3:TensorShapeProto"],
        "SignatureDef": ["inputs=1:<TensorInfo>", "outputs=2:<TensorInfo>", "method_name=3:string"]}),
    "xla/tsl/protobuf/error_codes.proto": ([], {}),
    "tensorflow/core/protobuf/error_codes.proto": (["xla/tsl/protobuf/error_codes.proto"], {}),
}


def field(message, text, package):
    name, rest = text.split("=")
    number, kind = rest.split(":")
    made = message.field.add(name=name, number=int(number), label=3 if kind[0] in "*<" else 1)
    if kind[0] == "<":
        entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=1, type=9)
        entry.field.add(name="value", number=2, label=1, type=11, type_name=f".{package}.{kind[1:-1]}")
        made.type, made.type_name = 11, f".{package}.{message.name}.{entry.name}"
        return
    kind = kind.lstrip("*")
    number = getattr(descriptor_pb2.FieldDescriptorProto, "TYPE_" + kind.upper(), None)
    if number is not None:
        made.type = number
    else:
        made.type, made.type_name = (14 if kind == "DataType" else 11), f".{package}.{kind}"


def install():
    """Where tensorflow is missing: the modules that the stubs import."""
    pool = descriptor_pool.Default()
    for path, (imports, messages) in FILES.items():
        package = "tensorflow.error" if path.startswith("xla") else "tensorflow"
        file = descriptor_pb2.FileDescriptorProto(name=path, package=package, syntax="proto3", dependency=imports)
        if path.startswith("tensorflow/core/protobuf/error"):
            file.public_dependency.append(0)
        for name, fields in messages.items():
            outer, _, inner = name.partition(".")
            found = next((m for m in file.message_type if m.name == outer), None)
            message = file.message_type.add(name=outer) if found is None else found
            message = message.nested_type.add(name=inner) if inner else message
            for text in fields:
                field(message, text, package)
        if path.endswith("types.proto") or path.startswith("xla"):
            names, prefix, kind = (TYPES, "DT_", "DataType") if path.endswith("types.proto") else (CODES, "", "Code")
            enum = file.enum_type.add(name=kind)
            for number, name in enumerate(names):
                enum.value.add(name=prefix + name, number=number)
        pool.AddSerializedFile(file.SerializeToString())
        module = python_types.ModuleType(path[:-6].replace("/", ".") + "_pb2")
        descriptor = pool.FindFileByName(path)
        module.DESCRIPTOR = descriptor
        for name, found in descriptor.message_types_by_name.items():
            setattr(module, name, message_factory.GetMessageClass(found))
        for enum in descriptor.enum_types_by_name.values():
            for value in enum.values:
                setattr(module, value.name, value.number)
        for public in descriptor.public_dependencies:  # generated code looks for these by the name that protoc gives them
            name = public.name[:-6]
            setattr(module, name.replace("_", "__").replace("/", "_dot_") + "__pb2", sys.modules[name.replace("/", ".") + "_pb2"])
        parts = module.__name__.split(".")
        for i in range(1, len(parts)):
            package_name = ".".join(parts[:i])
            if package_name not in sys.modules:
                sys.modules[package_name] = python_types.ModuleType(package_name)
                sys.modules[package_name].__path__ = []
                if i > 1:
                    setattr(sys.modules[".".join(parts[:i - 1])], parts[i - 1], sys.modules[package_name])
        sys.modules[module.__name__] = module
        setattr(sys.modules[".".join(parts[:-1])], parts[-1], module)
