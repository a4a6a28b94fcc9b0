#!/usr/bin/env python3
"""Reads a server's metrics with Prometheus' own parser, and checks what their names promise.

    metrics_parse.py http://127.0.0.1:8501 [MODEL]

Needs prometheus_client. With MODEL, its counters must be there.
"""
import math
import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

TRITON = [
    "nv_inference_request_success", "nv_inference_request_failure", "nv_inference_count", "nv_inference_exec_count",
    "nv_inference_pending_request_count", "nv_inference_request_duration_us", "nv_inference_queue_duration_us",
    "nv_inference_compute_input_duration_us", "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_output_duration_us", "nv_cache_num_hits_per_model", "nv_cache_num_misses_per_model",
]
PROCESS = ["process_resident_memory_bytes", "process_cpu_seconds", "process_open_fds", "process_start_time_seconds"]


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        kind = answer.headers["content-type"]
        assert kind.startswith("text/plain") and "version=0.0.4" in kind, kind
        return answer.read().decode("utf-8")


def families(text):
    helps = [line.split(" ")[2] for line in text.splitlines() if line.startswith("# HELP ")]
    types = [line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(set(helps)) == len(helps) and len(set(types)) == len(types), "HELP or TYPE twice"
    assert helps == types, "HELP and TYPE differ"
    return {family.name: family for family in text_string_to_metric_families(text)}


def check_histograms(found):
    for family in found.values():
        if family.type != "histogram":
            continue
        series = {}
        for sample in family.samples:
            labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
            one = series.setdefault(labels, {"buckets": []})
            if sample.name.endswith("_bucket"):
                one["buckets"].append((float(sample.labels["le"]), sample.value))
            else:
                one[sample.name.rsplit("_", 1)[1]] = sample.value
        for labels, one in series.items():
            bounds = [bound for bound, _ in one["buckets"]]
            counts = [count for _, count in one["buckets"]]
            where = f"{family.name}{labels}"
            assert bounds == sorted(set(bounds)) and math.isinf(bounds[-1]), f"{where}: bounds {bounds}"
            assert counts == sorted(counts), f"{where}: counts go back"
            assert counts[-1] == one["count"], f"{where}: the last bucket is not the count"
            assert one["sum"] >= 0


def main():
    base = sys.argv[1].rstrip("/")
    model = sys.argv[2] if len(sys.argv) > 2 else None
    first = families(get(base + "/metrics"))
    second = families(get(base + "/monitoring/prometheus/metrics"))
    for found in (first, second):
        check_histograms(found)
        for name in PROCESS:
            assert name in found, f"{name} is missing"
        for family in found.values():
            keys = [(s.name, tuple(sorted(s.labels.items()))) for s in family.samples]
            assert len(set(keys)) == len(keys), f"{family.name}: a sample twice"
    for name, family in first.items():
        if family.type != "counter":
            continue
        later = {(s.name, tuple(sorted(s.labels.items()))): s.value for s in second[name].samples}
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert later[key] >= sample.value, f"{key} went back"
    if model:
        for name in TRITON:
            assert any(s.labels.get("model") == model for s in first[name].samples), f"{name} of {model} is missing"
        reasons = {s.labels["reason"] for s in first["nv_inference_request_failure"].samples}
        assert reasons == {"REJECTED", "CANCELED", "BACKEND", "OTHER"}, reasons
        answered = sum(s.value for s in first["nv_inference_request_success"].samples if s.labels["model"] == model)
        print(f"{model}: {answered:.0f} answered")
    print(f"ok: {len(first)} families, {sum(len(f.samples) for f in first.values())} samples")


main()
