"""Small artifacts written without a framework, whose answers a client can work out by itself.

    models.py FOLDER [--only NAME,…]     writes FOLDER/<model>/<version>/<model>.apus

An artifact is a folder: program.mlir (StableHLO text), weights.safetensors, manifest.json with the SHA-256 of both.
"""
import argparse
import hashlib
import itertools
import json
import os
import shutil
import struct
import sys

MLIR = {"bool": "i1", "uint8": "ui8", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
        "float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64"}
# Their names in the Open Inference Protocol.
DATATYPES = {"bool": "BOOL", "uint8": "UINT8", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
             "float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64"}
SIZES = {"batch": (5, 7), "length": (11, 13)}


def tensor(type_name, shape):
    return "tensor<" + "".join(f"{size}x" for size in shape) + MLIR[type_name] + ">"


class Function:
    """One signature: its ports as (name, type, shape), sizes that are text being open dimensions, and what its body prints.

    `body(arguments, shape)` gives lines and the names of results; `shape` puts sizes in the place of open dimensions.
    """

    def __init__(self, inputs, outputs, body, weights=(), maximum=65_536):
        self.inputs, self.outputs, self.body, self.weights, self.maximum = inputs, outputs, body, weights, maximum


def write(path, functions, weights=None):
    """`functions` by signature's name; `weights` by name: (shape, bytes of float32)."""
    weights = weights or {}
    text, signatures = ["module @program {"], {}
    for name, function in functions.items():
        axes = []
        for _, _, shape in function.inputs:
            axes += [size for size in shape if isinstance(size, str) and size not in axes]
        corners = []
        for sizes in itertools.product(*(SIZES[axis] for axis in axes)):
            sizes = dict(zip(axes, sizes))
            symbol = name + "".join(f"_{axis}{size}" for axis, size in sizes.items())
            corners.append({"function": symbol, "sizes": sizes})

            def shaped(shape):
                return [sizes.get(size, size) for size in shape]

            arguments, parameters = [], []
            for port, kind, shape in function.inputs:
                arguments.append(f"%arg{len(arguments)}")
                parameters.append(f'{arguments[-1]}: {tensor(kind, shaped(shape))} {{apus.name = "{port}"}}')
            for weight in function.weights:
                arguments.append(f"%arg{len(arguments)}")
                parameters.append(f'{arguments[-1]}: {tensor("float32", weights[weight][0])} {{apus.weight = "{weight}"}}')
            types = [tensor(kind, shaped(shape)) for _, kind, shape in function.outputs]
            named = ", ".join(f'{kind} {{apus.name = "{port[0]}"}}' for kind, port in zip(types, function.outputs))
            lines, results = function.body(arguments, shaped)
            text.append(f"  func.func public @{symbol}({', '.join(parameters)}) -> ({named}) {{")
            text += ["    " + line for line in lines]
            text += [f"    return {', '.join(results)} : {', '.join(types)}", "  }"]
        signatures[name] = {
            "inputs": [{"name": port, "type": kind, "shape": list(shape)} for port, kind, shape in function.inputs],
            "outputs": [{"name": port, "type": kind, "shape": list(shape)} for port, kind, shape in function.outputs],
            "dimensions": {axis: {"minimum": 1, "maximum": function.maximum} for axis in axes},
            "functions": corners, "states": [],
        }
    program = ("\n".join(text) + "\n}\n").encode()
    header, offset = {}, 0
    for name in sorted(weights):
        shape, data = weights[name]
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    saved = struct.pack("<Q", len(head)) + head + b"".join(weights[name][1] for name in sorted(weights))

    def file(data):
        return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}

    manifest = {"format": "apus", "format_version": 1, "framework_version": "0.1.0",
                "files": {"program.mlir": file(program), "weights.safetensors": file(saved)}, "signatures": signatures}
    # Whole, beside its place, then renamed there: a server that polls the folder never sees half of it.
    beside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}")
    os.makedirs(beside)
    for name, data in [("program.mlir", program), ("weights.safetensors", saved), ("manifest.json", json.dumps(manifest, indent=1).encode())]:
        with open(os.path.join(beside, name), "wb") as out:
            out.write(data)
    shutil.rmtree(path, ignore_errors=True)
    os.rename(beside, path)
    return path


# MARK: The models

def echo(kind, x="x", y="y", shape=("batch", "length")):
    return Function([(x, kind, shape)], [(y, kind, shape)], lambda a, s: ([], [a[0]]))


def half_plus(number):
    """TensorFlow Serving's own example is half_plus_two: y = x / 2 + 2. Which version answered shows in the number."""
    def body(a, s):
        kind = tensor("float32", s(["batch"]))
        return [f"%0 = stablehlo.constant dense<0.5> : {kind}", f"%1 = stablehlo.multiply {a[0]}, %0 : ({kind}, {kind}) -> {kind}",
                f"%2 = stablehlo.constant dense<{float(number)}> : {kind}", f"%3 = stablehlo.add %1, %2 : ({kind}, {kind}) -> {kind}"], ["%3"]
    return Function([("x", "float32", ("batch",))], [("y", "float32", ("batch",))], body)


def simple():
    """Triton's own example: two int32 inputs of 16, their sum and their difference."""
    def body(a, s):
        kind = tensor("int32", s(["batch", 16]))
        return [f"%0 = stablehlo.add {a[0]}, {a[1]} : ({kind}, {kind}) -> {kind}",
                f"%1 = stablehlo.subtract {a[0]}, {a[1]} : ({kind}, {kind}) -> {kind}"], ["%0", "%1"]
    ports = ("batch", 16)
    return Function([("INPUT0", "int32", ports), ("INPUT1", "int32", ports)], [("OUTPUT0", "int32", ports), ("OUTPUT1", "int32", ports)], body)


def every_type():
    """All types at once, each coming back as it went in."""
    shape = ("batch", 3)
    return Function([(f"in_{kind}", kind, shape) for kind in MLIR], [(f"out_{kind}", kind, shape) for kind in MLIR],
                    lambda a, s: ([], list(a)))


def first_four(width):
    """The first four numbers of each example: large inputs at no cost."""
    def body(a, s):
        batch = s(["batch"])[0]
        return [f"%0 = stablehlo.slice {a[0]} [0:{batch}, 0:4] : ({tensor('float32', [batch, width])}) -> {tensor('float32', [batch, 4])}"], ["%0"]
    return Function([("x", "float32", ("batch", width))], [("y", "float32", ("batch", 4))], body)


def dot(left, right, out, wide, inner, narrow):
    """left · rightᵀ, the weight as [narrow, inner]."""
    return (f"{out} = stablehlo.dot_general {left}, {right}, contracting_dims = [1] x [1] : "
            f"({tensor('float32', [wide, inner])}, {tensor('float32', [narrow, inner])}) -> {tensor('float32', [wide, narrow])}")


def slow(width=1024, layers=48):
    """The identity, by way of `layers` products with the identity matrix: a batch of 1 takes some tens of ms, one of 256 about a second."""
    def body(a, s):
        batch, lines, value = s(["batch"])[0], [], a[0]
        for i in range(layers):
            lines.append(dot(value, a[1], f"%{i}", batch, width, width))
            value = f"%{i}"
        return lines, [value]
    function = Function([("x", "float32", ("batch", width))], [("y", "float32", ("batch", width))], body, ["w"], 4096)
    rows = bytearray(4 * width * width)
    for i in range(width):
        struct.pack_into("<f", rows, 4 * (i * width + i), 1.0)
    return function, {"w": ((width, width), bytes(rows))}


def mlp_weights(sizes=(784, 512, 512, 10)):
    """Numbers that any language can make again: a linear congruential generator, in [-1, 1) / √inputs."""
    state, weights = 12345, {}
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        values = []
        for _ in range(inputs * outputs):
            state = (state * 1_103_515_245 + 12_345) & 0x7FFFFFFF
            values.append((state / 0x40000000 - 1) / inputs ** 0.5)
        weights[f"w{i}"] = ((outputs, inputs), struct.pack(f"<{len(values)}f", *values))
        weights[f"b{i}"] = ((outputs,), struct.pack(f"<{outputs}f", *(j % 7 / 10 for j in range(outputs))))
    return weights


def mlp(sizes=(784, 512, 512, 10)):
    """Three linear layers with ReLU between, 784 numbers to 10."""
    def body(a, s):
        batch, lines, value, next_value = s(["batch"])[0], [], a[0], 0

        def line(text):
            nonlocal next_value
            lines.append(f"%{next_value} = {text}")
            next_value += 1
            return f"%{next_value - 1}"

        for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
            kind = tensor("float32", [batch, outputs])
            product = f"%{next_value}"
            lines.append(dot(value, a[1 + 2 * i], product, batch, inputs, outputs))
            next_value += 1
            bias = line(f"stablehlo.broadcast_in_dim {a[2 + 2 * i]}, dims = [1] : ({tensor('float32', [outputs])}) -> {kind}")
            value = line(f"stablehlo.add {product}, {bias} : ({kind}, {kind}) -> {kind}")
            if i < len(sizes) - 2:
                zero = line(f"stablehlo.constant dense<0.0> : {kind}")
                value = line(f"stablehlo.maximum {value}, {zero} : ({kind}, {kind}) -> {kind}")
        return lines, [value]
    names = [f"{letter}{i}" for i in range(len(sizes) - 1) for letter in "wb"]
    return Function([("image", "float32", ("batch", sizes[0]))], [("scores", "float32", ("batch", sizes[-1]))], body, names, 4096)


def mlp_answer(rows, weights, sizes=(784, 512, 512, 10)):
    """The mlp's scores of some rows, by plain arithmetic."""
    layers = []
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        w = struct.unpack(f"<{inputs * outputs}f", weights[f"w{i}"][1])
        layers.append(([w[j * inputs:(j + 1) * inputs] for j in range(outputs)], struct.unpack(f"<{outputs}f", weights[f"b{i}"][1])))
    answers = []
    for row in rows:
        for i, (w, b) in enumerate(layers):
            row = [sum(map(float.__mul__, line, map(float, row))) + bias for line, bias in zip(w, b)]
            if i < len(layers) - 1:
                row = [max(0.0, value) for value in row]
        answers.append(row)
    return answers


def one(name):
    """The functions and weights of a model by its name."""
    if name.startswith("echo_"):
        return {"serve": echo(name[5:])}, None
    if name.startswith("half_plus_"):
        return {"serve": half_plus(int(name[10:]))}, None
    if name == "simple":
        return {"serve": simple()}, None
    if name == "every_type":
        return {"serve": every_type()}, None
    if name == "large":
        return {"serve": first_four(2_621_440)}, None
    if name == "slow":
        function, weights = slow()
        return {"serve": function}, weights
    if name == "mlp":
        return {"serve": mlp()}, mlp_weights()
    if name == "two":
        return {"serve": half_plus(2), "three": half_plus(3)}, None
    raise SystemExit(f"models.py: there is no model '{name}'")


NAMES = ["half_plus_two", "simple", "every_type", "large", "slow", "mlp", "two"] + [f"echo_{kind}" for kind in MLIR]


def put(folder, name, version=1, kind=None):
    """Writes the model `kind` (or of the same name) as version `version` of `folder/name`."""
    kind = kind or {"half_plus_two": "half_plus_2"}.get(name, name)
    place = os.path.join(folder, name, str(version))
    os.makedirs(place, exist_ok=True)
    return write(os.path.join(place, f"{name}.apus"), *one(kind))


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("folder")
    args.add_argument("--only", default=",".join(NAMES))
    args = args.parse_args()
    for name in args.only.split(","):
        print(put(args.folder, name), file=sys.stderr)


if __name__ == "__main__":
    main()
