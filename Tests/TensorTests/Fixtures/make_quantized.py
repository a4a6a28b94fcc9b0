"""Values of quantization by PyTorch, for QuantizedTests.

    python make_quantized.py quantized.json
"""
import json
import sys

import torch


def case(x):
    return {"shape": list(x.shape), "values": x.reshape(-1).tolist()}


def main(target):
    torch.manual_seed(3)
    torch.set_num_threads(1)
    out = {}
    # The zero points are even: PyTorch adds them before it rounds halves to even, ONNX and we after.
    # Halves, limits and beyond; a scale that is a power of two, so that multiplying by its inverse is dividing by it.
    x = torch.cat([torch.arange(-40, 40) / 8 + 1 / 16, torch.tensor([300.0, -300.0, 1e30, -1e30]), torch.randn(60) * 9])
    out["x"] = case(x)
    for name, dtype, zero in (("int8", torch.qint8, -4), ("uint8", torch.quint8, 130)):
        q = torch.quantize_per_tensor(x, 0.125, zero, dtype)
        out[name] = {"zeroPoint": zero, "values": case(q.int_repr()), "dequantized": case(q.dequantize())}
    w = torch.randn(6, 5)
    scales, zeros = torch.tensor([0.5, 0.25, 0.0625, 1.0, 2.0, 0.03125]), torch.zeros(6, dtype=torch.int64)
    q = torch.quantize_per_channel(w, scales, zeros, 0, torch.qint8)
    out["channels"] = {
        "x": case(w), "scales": case(scales), "values": case(q.int_repr()), "dequantized": case(q.dequantize())}
    # A linear layer over quantized operands: PyTorch's kernel with float32 output would round between; this is its definition.
    x = torch.randn(9, 40)
    w, b = torch.randn(11, 40), torch.randn(11)
    qx = torch.quantize_per_tensor(x, 0.03, 121, torch.quint8)
    qw = torch.quantize_per_channel(w, w.abs().amax(1) / 127, torch.zeros(11, dtype=torch.int64), 0, torch.qint8)
    y = qx.dequantize().double() @ qw.dequantize().double().T + b.double()
    out["linear"] = {
        "x": case(qx.int_repr()), "w": case(qw.int_repr()), "scales": case(qw.q_per_channel_scales()), "b": case(b), "y": case(y)}
    # The layer with dynamic quantization, as torch.ao.nn.quantized.dynamic.Linear runs it.
    engine = torch.backends.quantized.supported_engines
    torch.backends.quantized.engine = "onednn" if "onednn" in engine else "fbgemm"
    packed = torch.ops.quantized.linear_prepack(qw, b)
    out["dynamic"] = {"x": case(x), "y": case(torch.ops.quantized.linear_dynamic(x, packed, False))}
    with open(target, "w") as file:
        json.dump(out, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
