#!/usr/bin/env python3
"""Writes the files beside this script with the reference implementations: pip install numpy safetensors; python make_fixtures.py

reference.safetensors   every element type the format and Apus share, in the bytes of the safetensors library 0.8.0
*.gz, *.zlib            streams of Python's zlib and gzip in all three block types; pattern() below is what they contain
checksums.txt           length, CRC-32, Adler-32, MD5, SHA-256 of the first bytes of pattern(), by zlib and hashlib
"""
import gzip, hashlib, io, os, struct, zlib
from safetensors import TensorSpec, serialize_file

here = os.path.dirname(os.path.abspath(__file__))


def path(name):
    return os.path.join(here, name)


def ramp(count, size):
    """Elements 1, 2, 3 … of `size` bytes, little-endian: as bit patterns good for any type."""
    return b"".join(int(i + 1).to_bytes(size, "little") for i in range(count))


shapes = {
    "BOOL": ("flags", [3], 1), "U8": ("pixels", [2, 3], 1), "I8": ("signed", [5], 1), "I16": ("short", [1, 3], 2),
    "F16": ("half", [2, 2], 2), "BF16": ("brain", [3], 2), "I32": ("labels", [2], 4), "F32": ("b.weight", [2, 3], 4),
    "F64": ("double", [], 8), "I64": ("count", [1], 8),
}
tensors = {}
for dtype, (name, shape, size) in shapes.items():
    count = 1
    for d in shape:
        count *= d
    data = bytes([1, 0, 1]) if dtype == "BOOL" else ramp(count, size)
    tensors[name] = (dtype, shape, data)
tensors["a.weight"] = ("F32", [2], struct.pack("<2f", 1.5, -2.0))
tensors["empty"] = ("F32", [0, 4], b"")
tensors["straße \"x\"\\\n\x01"] = ("F32", [1], struct.pack("<f", 0.25))
names = {"BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "F16": "float16", "BF16": "bfloat16", "I32": "int32",
         "F32": "float32", "F64": "float64", "I64": "int64"}
import ctypes
keep, specs = [], {}
for name, (dtype, shape, data) in tensors.items():
    buffer = ctypes.create_string_buffer(data, max(len(data), 1))
    keep.append(buffer)
    specs[name] = TensorSpec(dtype=names[dtype], shape=shape, data_ptr=ctypes.addressof(buffer), data_len=len(data))
serialize_file(specs, path("reference.safetensors"), metadata={"format": "pt"})


def pattern(count):
    """Text-like, compressible, and then noise: a linear congruential generator, as in the Swift tests."""
    state, out = 1, bytearray()
    words = [b"swift ", b"apus ", b"tensor ", b"0123456789", b"\n"]
    while len(out) < count:
        state = (state * 1664525 + 1013904223) % 2**32
        top = state >> 24
        out += words[top % 5] if top < 200 else bytes([top, state >> 16 & 255])
    return bytes(out[:count])


def raw(data, level, strategy, wbits):
    c = zlib.compressobj(level, zlib.DEFLATED, wbits, 9, strategy)
    return c.compress(data) + c.flush()


text = pattern(30000)
open(path("stored.gz"), "wb").write(raw(text[:4000], 0, zlib.Z_DEFAULT_STRATEGY, 31))
open(path("fixed.gz"), "wb").write(raw(text[:8000], 9, zlib.Z_FIXED, 31))
open(path("dynamic.gz"), "wb").write(raw(text, 9, zlib.Z_DEFAULT_STRATEGY, 31))
open(path("huffman.gz"), "wb").write(raw(text[:8000], 9, zlib.Z_HUFFMAN_ONLY, 31))
open(path("dynamic.zlib"), "wb").write(raw(text, 6, zlib.Z_DEFAULT_STRATEGY, 15))
open(path("zeros.gz"), "wb").write(raw(bytes(1_000_000), 9, zlib.Z_DEFAULT_STRATEGY, 31))
open(path("empty.gz"), "wb").write(raw(b"", 9, zlib.Z_DEFAULT_STRATEGY, 31))
named = io.BytesIO()
with gzip.GzipFile("name.txt", "wb", 9, named, mtime=0) as f:
    f.write(text[:1000])
open(path("members.gz"), "wb").write(named.getvalue() + raw(text[1000:2000], 1, zlib.Z_DEFAULT_STRATEGY, 31) + bytes(512))

with open(path("checksums.txt"), "w") as f:
    for n in [0, 1, 3, 7, 8, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 1000, 30000]:
        d = text[:n]
        print(n, zlib.crc32(d), zlib.adler32(d), hashlib.md5(d).hexdigest(), hashlib.sha256(d).hexdigest(), file=f)
