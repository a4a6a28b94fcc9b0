#!/usr/bin/env python3
"""NVIDIA's perf_analyzer, in its triton kind (HTTP, gRPC, streaming) and its tfserving kind.

It is looked for in PERF_ANALYZER, on the PATH and in the package perf-analyzer (PyPI, from 2.58: needs glibc 2.38). `drive_perf_analyzer.py --fetch FOLDER`
gets one that runs on older systems, from the wheel of tritonclient 2.40, with the libraries it wants: libcudart from nvidia-cuda-runtime-cu12, and
libb64, which is Debian's libb64-0d. FOLDER/perf_analyzer then runs it.
"""
import glob
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

from harness import Server, Skip, model_folder, run


def fetch(folder):
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory() as wheels:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", wheels, "tritonclient==2.40.0", "nvidia-cuda-runtime-cu12"], check=True)
        for wheel in glob.glob(os.path.join(wheels, "*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    if name.endswith(("/bin/perf_analyzer", "/libcudart.so.12")):
                        with archive.open(name) as source, open(os.path.join(folder, os.path.basename(name) + (".bin" if "perf" in name else "")), "wb") as out:
                            shutil.copyfileobj(source, out)
    os.chmod(os.path.join(folder, "perf_analyzer.bin"), 0o755)
    script = os.path.join(folder, "perf_analyzer")
    with open(script, "w") as out:
        out.write('#!/bin/sh\nhere=$(dirname "$(readlink -f "$0")")\nLD_LIBRARY_PATH="$here" exec "$here/perf_analyzer.bin" "$@"\n')
    os.chmod(script, 0o755)
    print(script)


def find():
    spec = importlib.util.find_spec("perf_analyzer")
    inside = [os.path.join(place, "bin", "perf_analyzer") for place in (spec.submodule_search_locations if spec and spec.submodule_search_locations else [])]
    for path in [os.environ.get("PERF_ANALYZER"), shutil.which("perf_analyzer"), *inside]:
        if path and os.path.exists(path):
            done = subprocess.run([path, "--version"], capture_output=True, text=True)
            if done.returncode == 0:
                return path
            reason = (done.stderr.strip().splitlines() or ["it does not start"])[0]
    raise Skip(f"there is no perf_analyzer that runs here{': ' + reason if 'reason' in locals() else ''}")


def main(apus, check):
    tool = find()
    print("  " + subprocess.run([tool, "--version"], capture_output=True, text=True).stdout.strip())
    with model_folder("mlp", "simple") as folder, Server(apus, folder, check=check) as server:
        kinds = [("triton over HTTP", ["-u", server.rest, "-i", "http"]), ("triton over gRPC", ["-u", server.grpc, "-i", "grpc"]),
                 ("triton over gRPC, streaming", ["-u", server.grpc, "-i", "grpc", "--streaming", "--async"]),
                 ("triton over HTTP, asynchronous", ["-u", server.rest, "-i", "http", "--async"]),
                 ("tfserving over gRPC", ["-u", server.grpc, "-i", "grpc", "--service-kind", "tfserving"])]
        for model in ["mlp", "simple"]:
            for what, options in kinds:
                with check.section(f"{model}, {what}"):
                    shape = ["--shape", "image:1,784"] if model == "mlp" else ["--shape", "INPUT0:1,16", "--shape", "INPUT1:1,16"]
                    done = subprocess.run([tool, "-m", model, "-b", "1", "--concurrency-range", "1:2", "-p", "1000", "-s", "50", "-r", "4", *options, *shape], capture_output=True, text=True, timeout=120)
                    text = done.stdout + done.stderr
                    lines = re.findall(r"Concurrency: (\d+), throughput: ([\d.]+) infer/sec, latency (\d+) usec", text)
                    check.true(f"{model}, {what}: it measures", done.returncode == 0 and len(lines) == 2 and all(float(rate) > 0 for _, rate, _ in lines), text[-800:])
                    for clients, rate, latency in lines:
                        print(f"  {model}, {what}: {clients} at once: {float(rate):.0f}/s, {int(latency)} µs", flush=True)
                    check.true(f"{model}, {what}: no errors", "Failed to" not in text and "error" not in text.lower().replace("error_", ""), text[-400:])


if __name__ == "__main__":
    if "--fetch" in sys.argv:
        fetch(sys.argv[sys.argv.index("--fetch") + 1])
    else:
        run(main)
