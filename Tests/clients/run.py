#!/usr/bin/env python3
"""Drives `apus serve` with real clients.

    Tests/clients/run.py [--apus PATH] [--only curl,hostile,…] [--quick] [--venv FOLDER [--install]]

Each script runs in a process of its own against servers of its own, and is skipped, with the reason, where its client is not
installed. --quick leaves out what takes long. --venv runs them with the interpreter of a virtual environment; with
--install it is made first, if it is not there, and gets the small clients from PyPI: without network the scripts are skipped.
"""
import argparse
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
QUICK = ["curl", "hostile", "versions", "drain", "triton_http", "triton_grpc", "health_grpc", "tfserving_grpc"]
ALL = QUICK + ["open_inference_grpc", "memory", "drive_perf_analyzer"]
# tensorflow-serving-api asks for all of tensorflow, of which its stubs use a few messages: see tfserving_grpc.py.
PACKAGES = ["tritonclient[http,grpc]", "grpcio-health-checking"]
STUBS = ["tensorflow-serving-api"]


def prepare(venv):
    """A virtual environment with the small clients; False, with the reason printed, where they cannot be had."""
    python = os.path.join(venv, "bin", "python")
    mark = os.path.join(venv, "clients")
    if os.path.exists(mark):
        return python
    began = time.monotonic()
    steps = [] if os.path.exists(python) else [[sys.executable, "-m", "venv", venv]]
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "15"]
    for step in steps + [pip + PACKAGES, pip + ["--no-deps"] + STUBS]:
        try:
            done = subprocess.run(step, capture_output=True, text=True, timeout=240)
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"clients are not installed: {error}")
            return None
        if done.returncode != 0:
            print(f"clients are not installed: {(done.stderr.strip().splitlines() or ['pip failed'])[-1]}")
            return python if os.path.exists(python) else None
    open(mark, "w").close()
    print(f"clients installed in {time.monotonic() - began:.0f} s")
    return python


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--apus")
    args.add_argument("--only", default="")
    args.add_argument("--quick", action="store_true")
    args.add_argument("--venv")
    args.add_argument("--install", action="store_true")
    args = args.parse_args()
    python = sys.executable
    if args.venv:
        python = (prepare(args.venv) if args.install else os.path.join(args.venv, "bin", "python")) or sys.executable
    names = args.only.split(",") if args.only else QUICK if args.quick else ALL
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for name in names:
        script = os.path.join(HERE, name + ".py")
        command = [python, script] + (["--apus", os.path.abspath(args.apus)] if args.apus else []) + (["--quick"] if args.quick else [])
        status = subprocess.run(command).returncode
        counts["passed" if status == 0 else "skipped" if status == 77 else "failed"] += 1
    print(f"clients: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    sys.exit(1 if counts["failed"] else 0)


if __name__ == "__main__":
    main()
