"""Makes sequences.safetensors beside this script with PyTorch: `python make_sequence_layers.py` (torch, safetensors).

Everything is float64. Keys: CASE/x.I inputs, CASE/y.I outputs, CASE/dy.I the gradients that arrive, CASE/dx.I gradients by
the inputs, CASE/p.NAME parameters, CASE/g.NAME gradients by them.
"""
import os
import torch
from torch import nn
from safetensors.torch import save_file

torch.manual_seed(11)
torch.set_default_dtype(torch.float64)
r = torch.randn
tensors = {}


def case(name, module, f, *inputs):
    for parameter in module.parameters():
        with torch.no_grad():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    inputs = [x.requires_grad_() for x in inputs]
    outputs = f(module, *inputs)
    cotangents = [torch.randn_like(y) for y in outputs]
    torch.autograd.backward(outputs, cotangents)
    for i, x in enumerate(inputs):
        tensors[f"{name}/x.{i}"], tensors[f"{name}/dx.{i}"] = x.detach(), x.grad
    for i, (y, dy) in enumerate(zip(outputs, cotangents)):
        tensors[f"{name}/y.{i}"], tensors[f"{name}/dy.{i}"] = y.detach(), dy
    for key, parameter in module.named_parameters():
        tensors[f"{name}/p.{key}"], tensors[f"{name}/g.{key}"] = parameter.detach(), parameter.grad


def lstm(m, x, *state):
    y, (h, c) = m(x, tuple(state) if state else None)
    return y, h, c


def gru(m, x, *state):
    return m(x, *state)


case("lstm", nn.LSTM(3, 4), lstm, r(5, 2, 3))
case("lstmState", nn.LSTM(3, 4, bias=False, batch_first=True), lstm, r(2, 5, 3), r(1, 2, 4), r(1, 2, 4))
case("lstmDeep", nn.LSTM(3, 2, num_layers=2, bidirectional=True), lstm, r(4, 3, 3), r(4, 3, 2), r(4, 3, 2))
case("gru", nn.GRU(3, 4), gru, r(5, 2, 3))
case("gruState", nn.GRU(3, 4, bias=False, batch_first=True), gru, r(2, 5, 3), r(1, 2, 4))
case("gruDeep", nn.GRU(3, 2, num_layers=2, bidirectional=True), gru, r(4, 3, 3), r(4, 3, 2))

hidden = torch.tensor([[False, True, True], [False, False, True]])  # PyTorch: true where a key is hidden
causal = torch.triu(torch.ones(4, 4, dtype=torch.bool), 1)
case("attentionSelf", nn.MultiheadAttention(6, 2), lambda m, x: m(x, x, x, need_weights=False)[:1], r(4, 2, 6))
case("attentionCausal", nn.MultiheadAttention(6, 3, bias=False, batch_first=True),
     lambda m, x: m(x, x, x, need_weights=False, attn_mask=causal)[:1], r(2, 4, 6))
case("attentionCross", nn.MultiheadAttention(6, 2, batch_first=True),
     lambda m, q, k, v: m(q, k, v, need_weights=False, attn_mask=hidden)[:1], r(2, 2, 6), r(2, 3, 6), r(2, 3, 6))
case("encoder", nn.TransformerEncoderLayer(6, 2, 8, dropout=0), lambda m, x: [m(x)], r(4, 2, 6))
case("encoderNormFirst", nn.TransformerEncoderLayer(6, 2, 8, dropout=0, activation="gelu", norm_first=True, batch_first=True),
     lambda m, x: [m(x)], r(2, 4, 6))

save_file({key: value.contiguous() for key, value in tensors.items()},
          os.path.join(os.path.dirname(os.path.abspath(__file__)), "sequences.safetensors"))
