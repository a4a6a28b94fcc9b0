"""What every client script shares: a server process of its own, checks that are counted, and a reason when one cannot run.

A script is a module with `def main(apus, check)`; `python3 SCRIPT.py [--apus PATH] [--quick]` runs it by itself. It ends with 0, 1 (a check failed)
or 77 (skipped). Only the scripts named after a client need that client; the rest is Python's own library.
"""
import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

import models

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SKIPPED = 77
HOST = "127.0.0.1"


class Skip(Exception):
    """The reason why a script cannot run here."""


def need(*names):
    """Imports modules, or skips the script, naming the package that is missing."""
    import importlib
    found = []
    for name in names:
        try:
            found.append(importlib.import_module(name))
        except ImportError as error:
            raise Skip(f"{name} is not installed ({error})") from None
    return found[0] if len(found) == 1 else found


class Check:
    """Counts what held and what did not, and prints the latter."""

    def __init__(self, quick=False):
        self.passed, self.failed, self.quick = 0, 0, quick

    def true(self, what, holds, detail=""):
        if holds:
            self.passed += 1
        else:
            self.failed += 1
            print(f"  FAILED {what}{': ' + str(detail)[:600] if detail != '' else ''}", flush=True)
        return holds

    def equal(self, what, got, expected):
        return self.true(what, got == expected, f"got {got!r}, expected {expected!r}")

    def among(self, what, got, expected):
        return self.true(what, got in expected, f"got {got!r}, expected one of {expected!r}")

    def close(self, what, got, expected, tolerance=1e-5):
        def flat(value):
            if hasattr(value, "tolist"):
                value = value.tolist()
            return [x for part in value for x in flat(part)] if isinstance(value, (list, tuple)) else [float(value)]
        got, expected = flat(got), flat(expected)
        holds = len(got) == len(expected) and all(abs(a - b) <= tolerance * max(1, abs(b)) for a, b in zip(got, expected))
        return self.true(what, holds, f"got {got[:8]}, expected {expected[:8]}")

    @contextlib.contextmanager
    def section(self, what):
        """A part whose surprise is a failed check, not the end of the script."""
        try:
            yield
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            place = next((f"{os.path.basename(f.filename)}:{f.lineno}" for f in reversed(frames) if f.filename.startswith(ROOT)), "")
            self.true(what, False, f"{type(error).__name__} at {place}: {str(error)[:300]}")

    def raises(self, what, body, describe, expected):
        """`body` must fail with an exception of which `describe` says `expected` (a value or a set of them)."""
        try:
            answer = body()
        except Exception as error:
            got = describe(error)
            allowed = expected if isinstance(expected, (set, tuple, list)) else {expected}
            return self.true(what, got in allowed, f"got {got!r} ({str(error)[:200]}), expected {expected!r}")
        return self.true(what, False, f"no error, but {str(answer)[:200]}")


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def resident(pid):
    """Bytes of memory that are a process's own and in use: without files that are only mapped."""
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields["RssAnon"].split()[0]) * 1024


class Server:
    """`apus serve` on free ports, with its output in a file; leaving the `with` stops it by SIGTERM and checks how it ended."""

    def __init__(self, apus, folder=None, *options, check=None, grace=20, wait=True):
        self.port, self.grpc_port, self.check, self.grace = free_port(), free_port(), check, grace
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log", delete=False)
        command = [apus, "serve"] + (["--models", folder] if folder else []) + list(options)
        command += ["--http-port", str(self.port), "--grpc-port", str(self.grpc_port)]
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        self.pid = self.process.pid
        self.rest, self.grpc = f"{HOST}:{self.port}", f"{HOST}:{self.grpc_port}"
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds=60):
        while time.monotonic() - self.started < seconds:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}: {self.output()[-2000:]}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.request("GET", "/v2/health/ready")[0] == 200:
                    self.ready_after = time.monotonic() - self.started
                    return self
            time.sleep(0.005)
        raise RuntimeError(f"the server was not ready after {seconds} s: {self.output()[-2000:]}")

    def request(self, method, path, body=None, headers=None, timeout=30):
        """(status, headers, body as bytes) of one request on a connection of its own."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body).encode()
                headers = {"Content-Type": "application/json", **(headers or {})}
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def json(self, method, path, body=None, headers=None, timeout=30):
        """(status, parsed body)."""
        status, _, data = self.request(method, path, body, headers, timeout)
        return status, json.loads(data) if data.strip() else None

    def resident(self):
        return resident(self.pid)

    def alive(self):
        return self.process.poll() is None

    def output(self):
        with open(self.log.name) as log:
            return log.read()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def stop(self):
        """Ends the process; True if it drained and ended by itself with status 0."""
        if self.process.poll() is None:
            self.terminate()
            try:
                self.process.wait(self.grace)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode == 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.process.poll() is not None and self.check:
            self.check.true("the server lives until it is told to end", self.process.returncode == 0, self.output()[-2000:])
        clean = self.stop()
        if self.check and not error[0]:
            self.check.true("the server ends with status 0 at SIGTERM", clean, f"{self.process.returncode}: {self.output()[-2000:]}")
        if error[0]:
            print(self.output()[-3000:], file=sys.stderr)
        self.log.close()
        os.unlink(self.log.name)


@contextlib.contextmanager
def model_folder(*names):
    """A folder with some of the models, removed at the end. A name may be (name, version, kind)."""
    folder = tempfile.mkdtemp(prefix="models")
    try:
        for name in names:
            models.put(folder, *(name if isinstance(name, tuple) else (name,)))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def default_apus():
    for kind in ["release", "debug"]:
        path = os.path.join(ROOT, ".build", kind, "apus")
        if os.path.exists(path):
            return path
    return "apus"


def run(main, quick=False):
    args = argparse.ArgumentParser()
    args.add_argument("--apus", default=default_apus())
    args.add_argument("--quick", action="store_true", help="leave out what takes long")
    args = args.parse_args()
    name, check, began = os.path.basename(sys.argv[0]), Check(args.quick), time.monotonic()
    try:
        main(args.apus, check)
    except Skip as reason:
        print(f"{name}: skipped: {reason}", flush=True)
        os._exit(SKIPPED)
    except Exception:
        traceback.print_exc()
        check.failed += 1
    print(f"{name}: {check.passed} passed, {check.failed} failed, {time.monotonic() - began:.1f} s", flush=True)
    sys.stdout.flush()
    os._exit(1 if check.failed else 0)
