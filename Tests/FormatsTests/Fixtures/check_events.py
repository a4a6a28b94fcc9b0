"""Reads the event file that EventFileTests.swift wrote, with TensorBoard's own reader, and compares every value.

python check_events.py FOLDER
"""

import struct
import sys
import zlib

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto import graph_pb2
from tensorboard.plugins.hparams import metadata
from tensorboard.util import tensor_util


def pixels(png, channels):
    """Only what is needed for a small picture: all filters, no interlacing."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    data, at = b"", 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + content)
        if kind == b"IDAT":
            data += content
        at += 12 + length
    raw, row = zlib.decompress(data), width * channels
    out, above = [], [0] * row
    for y in range(height):
        kind, line = raw[y * (row + 1)], raw[y * (row + 1) + 1 : (y + 1) * (row + 1)]
        current = []
        for x in range(row):
            a = current[x - channels] if x >= channels else 0
            b, c = above[x], above[x - channels] if x >= channels else 0
            p = a + b - c
            paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            current.append((line[x] + [0, a, b, (a + b) // 2, paeth][kind]) % 256)
        out.append(current)
        above = current
    return np.array(out).reshape(height, width, channels)


def main(folder):
    events = EventAccumulator(folder, size_guidance={k: 0 for k in ("scalars", "tensors", "images", "histograms", "audio")})
    events.Reload()

    losses = events.Scalars("loss/train")
    assert [e.step for e in losses] == [10 * i for i in range(20)]
    assert [e.wall_time for e in losses] == [1_700_000_000 + i for i in range(20)]
    assert [np.float32(e.value) for e in losses] == [np.float32(1) / np.float32(i + 1) for i in range(20)]
    assert events.Scalars("odd")[0].value == float("inf")
    assert events.Scalars("accuracy")[0].value == 0.75

    (event,) = events.Histograms("weights")
    values = np.arange(-10, 11) / 4
    counts, edges = np.histogram(values, 5)
    h = event.histogram_value
    assert event.step == 3 and (h.min, h.max, h.num) == (-2.5, 2.5, 21)
    assert h.sum == values.sum() and h.sum_squares == (values**2).sum()
    assert list(h.bucket) == [0] + list(counts) and np.allclose(h.bucket_limit, edges, atol=1e-12, rtol=0)

    (event,) = events.Images("picture")
    expected = np.round(np.arange(60, dtype=np.float32) / np.float32(59) * 255).reshape(3, 4, 5).transpose(1, 2, 0)
    assert (event.step, event.width, event.height) == (4, 5, 4)
    assert np.array_equal(pixels(event.encoded_image_string, 3), expected)

    (event,) = events.Tensors("notes")
    assert event.step == 5 and tensor_util.make_ndarray(event.tensor_proto).item().decode() == "**hello** wörld"
    assert events.SummaryMetadata("notes").plugin_data.plugin_name == "text"

    (event,) = events.Audio("beep")
    assert (event.step, event.sample_rate, event.length_frames, event.content_type) == (6, 8000, 100, "audio/wav")
    samples = np.frombuffer(event.encoded_audio_string[44:], "<i2")
    assert np.abs(samples - np.sin(np.arange(100) / 5) * 32767).max() <= 1

    graph = events.Graph()
    assert isinstance(graph, graph_pb2.GraphDef)
    assert {n.name: (n.op, list(n.input)) for n in graph.node} == {
        "image": ("Placeholder", []),
        "block/0/weight": ("VariableV2", []),
        "block/0/add": ("add", ["image", "block/0/weight"]),
        "y": ("Identity", ["block/0/add"]),
    }
    shape = graph.node[2].attr["_output_shapes"].list.shape[0]
    assert [d.size for d in shape.dim] == [2, 3] and graph.node[2].attr["T"].type == 1

    records = events.PluginTagToContent("hparams")
    experiment = metadata.parse_experiment_plugin_data(records[metadata.EXPERIMENT_TAG])
    assert {i.name: i.type for i in experiment.hparam_infos} == {"rate": 3, "name": 1, "flag": 2}
    assert [i.name.tag for i in experiment.metric_infos] == ["accuracy"]
    start = metadata.parse_session_start_info_plugin_data(records[metadata.SESSION_START_INFO_TAG])
    assert start.hparams["rate"].number_value == 0.5 and start.hparams["name"].string_value == "adam"
    assert start.hparams["flag"].bool_value is True and start.start_time_secs > 1.7e9
    end = metadata.parse_session_end_info_plugin_data(records[metadata.SESSION_END_INFO_TAG])
    assert end.status == 1 and end.end_time_secs >= start.start_time_secs
    print("every value came back")


if __name__ == "__main__":
    main(sys.argv[1])
