"""Makes recurrent.safetensors beside this script with PyTorch and Keras: `python make_recurrent.py` (torch, keras, safetensors).

Everything is float64. Keys as in make_sequence_layers.py: CASE/x.I inputs, CASE/y.I outputs, CASE/dy.I the gradients that arrive,
CASE/dx.I gradients by the inputs, CASE/p.NAME parameters, CASE/g.NAME gradients by them; CASE/m.NAME masks and lengths.
Keras's weights are turned into PyTorch's layout and names (channels first, [out, in], gates in PyTorch's order).
"""
import os

os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

torch.manual_seed(17)
torch.set_default_dtype(torch.float64)
keras.config.set_floatx("float64")
# Keras multiplies matrices of float64 in float32 on PyTorch: its rule for types has no float64.
rule = keras.src.backend.torch.numpy.dtypes.result_type
keras.src.backend.torch.numpy.dtypes.result_type = lambda *types: "float64" if any("float64" in str(t) for t in types) else rule(*types)
r = torch.randn
tensors = {}


def record(name, inputs, outputs, parameters, masks):
    """`parameters`: name to (tensor whose gradient is wanted, how it and its gradient are laid out for us)."""
    cotangents = [torch.randn_like(y) for y in outputs]
    torch.autograd.backward(outputs, cotangents)
    for i, x in enumerate(inputs):
        tensors[f"{name}/x.{i}"], tensors[f"{name}/dx.{i}"] = x.detach(), torch.zeros_like(x) if x.grad is None else x.grad
    for i, (y, dy) in enumerate(zip(outputs, cotangents)):
        tensors[f"{name}/y.{i}"], tensors[f"{name}/dy.{i}"] = y.detach(), dy
    for key, (parameter, laid) in parameters.items():
        tensors[f"{name}/p.{key}"] = laid(parameter.detach())
        tensors[f"{name}/g.{key}"] = laid(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    for key, mask in masks.items():
        tensors[f"{name}/m.{key}"] = mask


def case(name, module, f, *inputs, **masks):
    for parameter in module.parameters():
        with torch.no_grad():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    inputs = [x.requires_grad_() for x in inputs]
    outputs = f(module, *inputs)
    record(name, inputs, list(outputs), {k: (p, lambda t: t) for k, p in module.named_parameters()}, masks)


# ---- PyTorch's recurrent layers ---------------------------------------------------------------------
def flat(result):
    y, state = result
    return [y, *state] if isinstance(state, tuple) else [y, state]


def plain(m, x, *state):
    return flat(m(x, (tuple(state) if len(state) > 1 else state[0]) if state else None))


def packed(lengths):
    def f(m, x, *state):
        p = pack_padded_sequence(x, lengths, batch_first=m.batch_first, enforce_sorted=False)
        y, state = m(p, (tuple(state) if len(state) > 1 else state[0]) if state else None)
        steps = x.shape[1] if m.batch_first else x.shape[0]
        y, _ = pad_packed_sequence(y, batch_first=m.batch_first, total_length=steps)
        return flat((y, state))
    return f


case("rnn", nn.RNN(3, 4), plain, r(5, 2, 3), r(1, 2, 4))
case("rnnRelu", nn.RNN(3, 2, num_layers=2, nonlinearity="relu", bidirectional=True, batch_first=True), plain, r(3, 4, 3))
case("lstmProjected", nn.LSTM(3, 5, num_layers=2, bidirectional=True, proj_size=2), plain, r(4, 3, 3), r(4, 3, 2), r(4, 3, 5))
lengths = torch.tensor([3, 5, 1])
case("rnnPacked", nn.RNN(3, 4, bidirectional=True), packed(lengths), r(5, 3, 3), r(2, 3, 4), lengths=lengths)
case("lstmPacked", nn.LSTM(3, 4, num_layers=2, bidirectional=True), packed(lengths), r(5, 3, 3), r(4, 3, 4), r(4, 3, 4), lengths=lengths)
case("lstmPackedFirst", nn.LSTM(3, 4, batch_first=True), packed(lengths), r(3, 6, 3), lengths=lengths)
case("gruPacked", nn.GRU(3, 4, num_layers=2, bidirectional=True, batch_first=True), packed(lengths), r(3, 5, 3), r(4, 3, 4), lengths=lengths)
case("lstmProjectedPacked", nn.LSTM(3, 5, bidirectional=True, proj_size=2), packed(lengths), r(5, 3, 3), lengths=lengths)
case("rnnCell", nn.RNNCell(3, 4), lambda m, x, h: [m(x, h)], r(2, 3), r(2, 4))
case("rnnCellRelu", nn.RNNCell(3, 4, bias=False, nonlinearity="relu"), lambda m, x, h: [m(x, h)], r(2, 3), r(2, 4))
case("lstmCell", nn.LSTMCell(3, 4), lambda m, x, h, c: m(x, (h, c)), r(2, 3), r(2, 4), r(2, 4))
case("gruCell", nn.GRUCell(3, 4), lambda m, x, h: [m(x, h)], r(2, 3), r(2, 4))

# ---- PyTorch's attention ------------------------------------------------------------------------------
padding = torch.tensor([[False, False, True], [False, False, False]])
hidden = torch.tensor([[False, True, False], [False, False, True]])
added = r(2, 3)
case("attentionSizes", nn.MultiheadAttention(6, 2, kdim=4, vdim=5, batch_first=True),
     lambda m, q, k, v: m(q, k, v, need_weights=False)[:1], r(2, 2, 6), r(2, 3, 4), r(2, 3, 5))
case("attentionBiasKV", nn.MultiheadAttention(6, 2, add_bias_kv=True, add_zero_attn=True),
     lambda m, q, k, v: m(q, k, v, key_padding_mask=padding, attn_mask=hidden), r(2, 2, 6), r(3, 2, 6), r(3, 2, 6),
     padding=padding, hidden=hidden)
case("attentionWeights", nn.MultiheadAttention(6, 3), lambda m, q, k, v: m(q, k, v, key_padding_mask=padding, average_attn_weights=False),
     r(2, 2, 6), r(3, 2, 6), r(3, 2, 6), padding=padding)
case("attentionAdded", nn.MultiheadAttention(6, 2, batch_first=True),
     lambda m, q, k, v: m(q, k, v, attn_mask=added, need_weights=False)[:1], r(2, 2, 6), r(2, 3, 6), r(2, 3, 6), added=added)

source = torch.tensor([[False, False, False, True], [False, False, False, False]])
causal = torch.triu(torch.ones(3, 3, dtype=torch.bool), 1)
encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, dropout=0), 2, norm=nn.LayerNorm(6), enable_nested_tensor=False)
case("transformerEncoder", encoder, lambda m, x: [m(x, src_key_padding_mask=source)], r(4, 2, 6), padding=source)
case("decoderLayer", nn.TransformerDecoderLayer(6, 2, 8, dropout=0),
     lambda m, x, memory: [m(x, memory, tgt_mask=causal, memory_key_padding_mask=source)], r(3, 2, 6), r(4, 2, 6),
     hidden=causal, padding=source)
case("decoderLayerNormFirst", nn.TransformerDecoderLayer(6, 2, 8, dropout=0, activation="gelu", norm_first=True, batch_first=True),
     lambda m, x, memory: [m(x, memory)], r(2, 3, 6), r(2, 4, 6))
case("transformer", nn.Transformer(6, 2, 2, 2, 8, dropout=0, batch_first=True),
     lambda m, s, t: [m(s, t, tgt_mask=causal, src_key_padding_mask=source, memory_key_padding_mask=source)], r(2, 4, 6), r(2, 3, 6),
     hidden=causal, padding=source)


# ---- Keras's layers -----------------------------------------------------------------------------------
def keras_case(name, layer, f, names, *inputs, **masks):
    """`names`: of the layer's weights in order, (name, how to lay it out) or None: not ours."""
    inputs = [x.requires_grad_() for x in inputs]
    f(layer, *inputs)  # builds
    layer.set_weights([w + torch.randn(w.shape).numpy() * 0.3 for w in layer.get_weights()])
    outputs = f(layer, *inputs)
    outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    values = [v.value for v in layer.weights]
    assert len(values) == len(names), (name, [v.path for v in layer.weights])
    record(name, inputs, outputs, {key: (v, laid) for v, (key, laid) in zip(values, names)}, masks)


t = lambda w: w.T
same = lambda w: w
# Keras's GRU has its gates in the order update, reset, new.
order = lambda w: torch.cat([w[w.shape[0] // 3:2 * w.shape[0] // 3], w[:w.shape[0] // 3], w[2 * w.shape[0] // 3:]])
cell = lambda prefix: [(prefix + "weight_ih", t), (prefix + "weight_hh", t), (prefix + "bias_ih", same)]
seen = torch.tensor([[True, True, True, False, False], [True, False, True, True, False]])
L = keras.layers
keras_case("kerasSimpleRNN", L.SimpleRNN(4, return_sequences=True, return_state=True), lambda m, x: m(x), cell("cell."), r(2, 5, 3))
keras_case("kerasLSTM", L.LSTM(4), lambda m, x: m(x), cell("cell."), r(2, 5, 3))
keras_case("kerasLSTMMasked", L.LSTM(4, return_sequences=True, return_state=True), lambda m, x: m(x, mask=seen), cell("cell."), r(2, 5, 3), seen=seen)
keras_case("kerasLSTMBackwards", L.LSTM(4, return_sequences=True, go_backwards=True), lambda m, x: m(x), cell("cell."), r(2, 5, 3))
keras_case("kerasLSTMLast", L.LSTM(4), lambda m, x: m(x, mask=seen), cell("cell."), r(2, 5, 3), seen=seen)
keras_case("kerasGRU", L.GRU(4, return_sequences=True, use_bias=False), lambda m, x: m(x),
           [("cell.weight_ih", lambda w: order(w.T)), ("cell.weight_hh", lambda w: order(w.T))], r(2, 5, 3))
keras_case("kerasStacked", L.RNN([L.LSTMCell(4), L.SimpleRNNCell(2)], return_sequences=True, return_state=True),
           lambda m, x: [y for part in m(x) for y in (part if isinstance(part, (list, tuple)) else [part])],
           cell("cell.cells.0.") + cell("cell.cells.1."), r(2, 5, 3))
keras_case("kerasBidirectional", L.Bidirectional(L.LSTM(4, return_sequences=True)), lambda m, x: m(x),
           cell("forward_layer.cell.") + cell("backward_layer.cell."), r(2, 5, 3))
keras_case("kerasBidirectionalSum", L.Bidirectional(L.SimpleRNN(4), merge_mode="sum"), lambda m, x: m(x, mask=seen),
           cell("forward_layer.cell.") + cell("backward_layer.cell."), r(2, 5, 3), seen=seen)
keras_case("kerasTimeDistributed", L.TimeDistributed(L.Dense(4)), lambda m, x: m(x), [("layer.weight", t), ("layer.bias", same)], r(2, 5, 3))

for n, size in ((1, [5]), (2, [4, 5]), (3, [2, 3, 3])):
    make = getattr(L, f"ConvLSTM{n}D")
    # Ours: [batch, steps, channels, …], kernels [4 · filters, in, …].
    first = lambda x, n=n: x.permute(0, 1, n + 2, *range(2, n + 2))
    kernel = lambda w, n=n: w.permute(n + 1, n, *range(n))
    kwargs = {"padding": "same", "return_sequences": True} if n != 2 else {"strides": 2, "return_state": True}
    keras_layer = make(2, 3 if n < 3 else 2, **kwargs)
    def run(m, x, n=n):
        y = m(x.permute(0, 1, *range(3, n + 3), 2))
        if isinstance(y, (list, tuple)):
            return [part.permute(0, n + 1, *range(1, n + 1)) for part in y]
        return first(y)
    keras_case(f"kerasConvLSTM{n}d", keras_layer, run, [("cell.weight_ih", kernel), ("cell.weight_hh", kernel), ("cell.bias", same)],
               r(2, 3, 2, *size))

queries, values = torch.tensor([[True, True], [True, False]]), torch.tensor([[True, True, False], [True, True, True]])
attend = lambda m, q, v, k: m([q, v, k], mask=[queries, values], return_attention_scores=True)
keras_case("kerasAttention", L.Attention(use_scale=True), attend, [("scale", same)], r(2, 2, 4), r(2, 3, 4), r(2, 3, 4), queries=queries, values=values)
keras_case("kerasAttentionConcat", L.Attention(score_mode="concat"), lambda m, q, v: m([q, v]), [("concat_score_weight", same)], r(2, 2, 4), r(2, 3, 4))
keras_case("kerasAttentionCausal", L.Attention(), lambda m, q, v: m([q, v], use_causal_mask=True), [], r(2, 3, 4), r(2, 3, 4))
keras_case("kerasAdditiveAttention", L.AdditiveAttention(), attend, [("scale", same)], r(2, 2, 4), r(2, 3, 4), r(2, 3, 4), queries=queries, values=values)
rows = lambda w: w.reshape(w.shape[0], -1).T  # [dim, heads, head dim] → [heads · head dim, dim]
keras_case("kerasGroupQueryAttention", L.GroupQueryAttention(3, 4, 2), lambda m, q, v: m(q, v),
           [pair for n in ("query", "key", "value") for pair in ((f"{n}.weight", rows), (f"{n}.bias", lambda b: b.reshape(-1)))]
           + [("output.weight", lambda w: w.reshape(-1, w.shape[-1]).T), ("output.bias", same)], r(2, 2, 5), r(2, 3, 5))

decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(6, 2, 8, dropout=0), 2, norm=nn.LayerNorm(6))
case("transformerDecoder", decoder, lambda m, x, memory: [m(x, memory, tgt_mask=causal, memory_key_padding_mask=source)], r(3, 2, 6), r(4, 2, 6),
     padding=source)

save_file({key: value.clone().contiguous() for key, value in tensors.items()}, os.path.join(os.path.dirname(os.path.abspath(__file__)), "recurrent.safetensors"))
