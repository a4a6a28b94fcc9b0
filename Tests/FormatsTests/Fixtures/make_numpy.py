"""Writes the .npy and .npz fixtures beside this file with NumPy and ml_dtypes; with --check PATH, reads what Apus wrote.

    python3 make_numpy.py
    python3 make_numpy.py --check FOLDER    # FOLDER: what NumPyTests leaves where APUS_NUMPY_OUT says
"""

import io
import pathlib
import struct
import sys
import zipfile

import ml_dtypes
import numpy as np

HERE = pathlib.Path(__file__).parent / "numpy"
TYPES = {
    "bool": np.bool_, "uint8": np.uint8, "int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64,
    "float16": np.float16, "float32": np.float32, "float64": np.float64, "bfloat16": ml_dtypes.bfloat16,
}


def sample(name):
    """[2, 3]: -2, -1, 0, 1, 2, 3 and what becomes of them."""
    return np.arange(-2, 4).reshape(2, 3).astype(TYPES[name])


def write():
    HERE.mkdir(exist_ok=True)
    for name in TYPES:
        np.save(HERE / f"{name}.npy", sample(name))
    np.save(HERE / "fortran.npy", np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4)))
    np.save(HERE / "big_endian.npy", sample("int32").astype(">i4"))
    np.save(HERE / "scalar.npy", np.float32(2.5))
    np.save(HERE / "empty.npy", np.zeros((0, 3), np.float32))
    for version in [(2, 0), (3, 0)]:
        with open(HERE / f"version{version[0]}.npy", "wb") as f:
            np.lib.format.write_array(f, sample("float32"), version=version)
    np.save(HERE / "structured.npy", np.zeros(2, dtype=[("a", "<f4"), ("b", "<i4")]))
    np.save(HERE / "object.npy", np.array([None, 1], dtype=object), allow_pickle=True)
    np.save(HERE / "complex.npy", np.zeros(2, np.complex64))
    np.save(HERE / "unicode.npy", np.array(["ab"]))
    arrays = {name: sample(name) for name in TYPES}
    np.savez(HERE / "stored.npz", **arrays)
    np.savez_compressed(HERE / "deflated.npz", zeros=np.zeros((300, 100), np.float32), **arrays)
    # As zipfile writes to a pipe: sizes follow the content.
    class Pipe(io.RawIOBase):
        def __init__(self): self.data = bytearray()
        def writable(self): return True
        def write(self, b):
            self.data += bytes(b)
            return len(b)
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        buffer = io.BytesIO()
        np.save(buffer, sample("float32"))
        archive.writestr("a.npy", buffer.getvalue())
    (HERE / "streamed.npz").write_bytes(bytes(pipe.data))


def check(folder):
    folder = pathlib.Path(folder)
    for name in TYPES:
        for array in [np.load(folder / f"{name}.npy"), np.load(folder / "all.npz")[name]]:
            if name == "bfloat16":
                array = array.view(ml_dtypes.bfloat16)
            assert array.dtype == TYPES[name] and np.array_equal(array, sample(name)), name
    for name, shape in [("scalar", ()), ("vector", (5,)), ("empty", (0, 3)), ("rank8", (1, 2, 1, 2, 1, 2, 1, 2))]:
        assert np.load(folder / "all.npz")[name].shape == shape, name
    assert zipfile.ZipFile(folder / "all.npz").testzip() is None
    print("NumPy", np.__version__, "reads all of it")


if __name__ == "__main__":
    check(sys.argv[2]) if sys.argv[1:2] == ["--check"] else write()
