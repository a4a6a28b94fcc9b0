"""Parses, verifies and runs StableHLO texts in XLA and compares with Apus's results.

  APUS_DUMP_STABLEHLO=DIR swift test --filter DumpTests
  python check_stablehlo.py DIR [PATTERN] [--parse-only] [--types float32,float64]

Needs jax (jaxlib's MLIR bindings and its CPU client).
"""
import argparse
import collections
import json
import os
import re
import sys
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")
import jax

jax.config.update("jax_enable_x64", True)
import ml_dtypes
import numpy as np
from jax._src import compiler
from jax._src.interpreters import mlir as jax_mlir
from jax._src.lib import xla_client
from jaxlib.mlir import ir

TYPES = {
    "bool": np.bool_, "uint8": np.uint8, "int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64,
    "float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32, "float64": np.float64,
}


def array(place, data):
    dtype = np.dtype(TYPES[place["type"]])
    count = int(np.prod(place["shape"], dtype=np.int64))
    return np.frombuffer(data, dtype, count, place["offset"]).reshape(place["shape"])


def run(module, inputs):
    client = jax.devices()[0].client
    options = compiler.get_compile_options(num_replicas=1, num_partitions=1)
    executable = client.compile_and_load(module, xla_client.DeviceList(tuple(jax.devices()[:1])), options)
    buffers = [jax.device_put(x) for x in inputs]
    results = executable.execute_sharded(buffers).disassemble_into_single_device_arrays()
    return [np.asarray(r[0]) for r in results]


def mismatch(got, expected, ulps, magnitude):
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return f"{got.dtype}{got.shape}, expected {expected.dtype}{expected.shape}"
    if got.size == 0:
        return None
    if got.dtype.kind in "biu":
        bad = np.nonzero((got != expected).ravel())[0]
        if len(bad) == 0:
            return None
        return f"{len(bad)} elements, first {bad[0]}: {got.ravel()[bad[0]]}, expected {expected.ravel()[bad[0]]}"
    info = ml_dtypes.finfo(got.dtype)
    g, e = got.astype(np.float64), expected.astype(np.float64)
    with np.errstate(all="ignore"):
        # XLA flushes subnormals of float32 and sums in other orders.
        allowed = ulps * float(info.eps) * (np.abs(e) + magnitude) + float(info.tiny)
        largest = float(info.max)
        near = (np.abs(g) >= largest * (1 - 4 * float(info.eps))) & (np.abs(e) >= largest * (1 - 4 * float(info.eps)))
        good = (np.isnan(g) & np.isnan(e)) | (g == e) | (np.abs(g - e) <= allowed) | (near & (np.sign(g) == np.sign(e)))
    bad = np.nonzero(~good.ravel())[0]
    if len(bad) == 0:
        return None
    i = bad[0]
    return f"{len(bad)} elements, first {i}: {g.ravel()[i]!r}, expected {e.ravel()[i]!r}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("pattern", nargs="?", default="")
    parser.add_argument("--parse-only", action="store_true")
    parser.add_argument("--types", default="")
    arguments = parser.parse_args()

    counts = collections.Counter()

    def problem(kind, entry, message):
        counts[kind] += 1
        print(f"{kind}: {entry['file']} {entry['name']}: {message}", flush=True)

    data = open(os.path.join(arguments.folder, "data.bin"), "rb").read()
    context = jax_mlir.make_ir_context()
    for line in open(os.path.join(arguments.folder, "index.jsonl")):
        entry = json.loads(line)
        if arguments.pattern and not re.search(arguments.pattern, entry["name"]):
            continue
        if arguments.types and not any(entry["name"].endswith(" in " + t) for t in arguments.types.split(",")):
            continue
        counts["texts"] += 1
        start = time.time()
        text = open(os.path.join(arguments.folder, entry["file"])).read()
        with context:
            try:
                module = ir.Module.parse(text)
                module.operation.verify()
            except Exception as error:
                problem("refused by the parser", entry, str(error)[:300])
                continue
            counts["parsed and verified"] += 1
            if arguments.parse_only:
                continue
            try:
                results = run(module, [array(p, data) for p in entry["inputs"]])
            except Exception as error:
                problem("not run", entry, str(error)[:300])
                continue
        counts["run"] += 1
        if time.time() - start > 10:
            print(f"slow: {entry['file']} {entry['name']}: {time.time() - start:.0f} s", flush=True)
        # Formulas differ from kernels by their rounding.
        wrong = [
            m for r, p in zip(results, entry["outputs"])
            if (m := mismatch(r, array(p, data), 4 * entry["ulps"] + 16, entry["magnitude"])) is not None
        ]
        if wrong:
            problem("other values", entry, wrong[0])
        else:
            counts["equal"] += 1
    print(dict(counts))
    return 0 if counts["equal" if not arguments.parse_only else "parsed and verified"] == counts["texts"] else 1


if __name__ == "__main__":
    sys.exit(main())
