"""Reference results for the tests of operations, by PyTorch and NumPy in float64 and int64.

    APUS_WRITE_SAMPLES=samples.txt swift test --filter OperationTests/writeSamples
    python make_operations.py samples.txt operations.txt

Each line of samples.txt is an operation and its operands; operands follow the formulas of Operations/Input.swift.
Each line of operations.txt is such a line and its results, separated by tabs.
"""
import ctypes
import ctypes.util
import itertools
import math
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F

SPECIALS = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 16384.0, 2.0**-14]


def real(pattern, i, k, n):
    name, _, argument = pattern.partition(":")
    if name == "signed":
        return (k - 63) / 16
    if name == "nonzero":
        return (k - 63 if k < 63 else k - 62) / 16
    if name == "offset":
        return (4 * (k - 63) + 1) / 64
    if name == "positive":
        return (k + 1) / 32
    if name == "unit":
        return (k - 63) / 64
    if name == "aboveOne":
        return (k + 65) / 64
    if name == "special":
        return SPECIALS[i // int(argument) % 11]
    return float(integer(pattern, i, k, n, False))


def integer(pattern, i, k, n, unsigned):
    name, _, argument = pattern.partition(":")
    if name in ("signed", "unit"):
        return k if unsigned else k - 63
    if name == "nonzero":
        return k + 1 if unsigned else (k - 63 if k < 63 else k - 62)
    if name in ("offset", "positive", "aboveOne"):
        return k + 1
    if name == "small":
        return k % 5 if unsigned else k % 5 - 2
    if name == "count":
        return k % 7
    if name == "special":
        return 0
    if name == "index":
        return n % (2 * int(argument)) - int(argument)
    if name == "distinct":
        return None
    if name == "list":
        return int(argument.split(",")[i])
    raise ValueError(pattern)


def numbers(text):
    return [] if text == "_" else [int(part) for part in text.split(",")]


def operand(text):
    kind, shape, pattern, seed = text.split(" ")
    shape, seed = numbers(shape), int(seed)
    values = []
    for i in range(math.prod(shape)):
        n = 37 * i + 11 * seed + 5
        k = n % 127
        if kind == "real":
            values.append(real(pattern, i, k, n))
        elif kind == "bool":
            values.append(k % 3 == 0)
        elif pattern.startswith("distinct:"):
            values.append((i + seed) % int(pattern[9:]))
        else:
            values.append(integer(pattern, i, k, n, kind == "unsigned"))
    dtype = {"real": torch.float64, "bool": torch.bool}.get(kind, torch.int64)
    return torch.tensor(values, dtype=dtype).reshape(shape)


def write(result):
    result = torch.as_tensor(result)
    shape = ",".join(map(str, result.shape)) or "_"
    flat = result.reshape(-1).tolist()
    if result.dtype == torch.float64:
        return "real %s %s" % (shape, "".join(struct.pack(">d", value).hex() for value in flat))
    return "integer %s %s" % (shape, ",".join(str(int(value)) for value in flat))


# ---- Elementwise


def unary(kind, x):
    if kind in ("isNaN", "isInfinite", "isFinite"):
        return {"isNaN": torch.isnan, "isInfinite": torch.isinf, "isFinite": torch.isfinite}[kind](x)
    if kind == "not":
        return torch.logical_not(x) if x.dtype == torch.bool else torch.bitwise_not(x)
    if kind == "gelu":
        return torch.where(x == -math.inf, -0.0, F.gelu(x))  # the limit; PyTorch multiplies −∞ by 0
    if kind == "geluTanh":
        return F.gelu(x, approximate="tanh")
    if kind == "softplus":
        # PyTorch's own turns linear beyond a threshold.
        return torch.logaddexp(x, torch.zeros_like(x))
    if kind == "sign" and x.dtype == torch.float64:
        return torch.where(torch.isnan(x), x, torch.sign(x))  # NaN stays NaN
    names = {"silu": F.silu, "relu": F.relu, "erfInv": torch.erfinv}
    return names[kind](x) if kind in names else getattr(torch, kind)(x)


def whole(f, a, b):
    """An integer function, with Apus's rule that division by zero gives zero."""
    values = [0 if q == 0 else f(p, q) for p, q in zip(a.reshape(-1).tolist(), b.reshape(-1).tolist())]
    return torch.tensor(values, dtype=torch.int64).reshape(a.shape)


def truncated(p, q):
    return abs(p) // abs(q) * (1 if (p < 0) == (q < 0) else -1)


def binary(kind, a, b):
    floating = a.dtype == torch.float64
    if kind in ("add", "sub", "mul"):
        return getattr(torch, kind)(a, b)
    if kind in ("max", "min"):
        return torch.maximum(a, b) if kind == "max" else torch.minimum(a, b)
    if kind in ("and", "or", "xor"):
        return getattr(torch, "bitwise_" + kind)(a, b)
    if kind == "shiftLeft":
        return torch.bitwise_left_shift(a, b)
    if kind == "shiftRight":
        return torch.bitwise_right_shift(a, b)
    if kind == "pow":
        if floating:
            return torch.tensor([LIBM.pow(p, q) for p, q in zip(a.reshape(-1).tolist(), b.reshape(-1).tolist())],
                                dtype=torch.float64).reshape(a.shape)
        return torch.pow(a, b)
    if floating:
        f = {"div": torch.div, "floorDiv": torch.floor_divide, "rem": torch.fmod, "mod": torch.remainder,
             "atan2": torch.atan2}[kind]
        return f(a, b)
    f = {"div": truncated, "floorDiv": lambda p, q: p // q, "rem": lambda p, q: p - q * truncated(p, q),
         "mod": lambda p, q: p % q}[kind]
    return whole(f, a, b)


# C99's table of special values, which torch.pow leaves for exponents such as 0.5.
LIBM = ctypes.CDLL(ctypes.util.find_library("m"))
LIBM.pow.restype = ctypes.c_double
LIBM.pow.argtypes = [ctypes.c_double, ctypes.c_double]


def compare(kind, a, b):
    names = {"equal": torch.eq, "notEqual": torch.ne, "less": torch.lt, "lessEqual": torch.le, "greater": torch.gt,
             "greaterEqual": torch.ge}
    return names[kind](a, b)


RANGES = {"uint8": (0, 255), "int8": (-128, 127), "int16": (-2**15, 2**15 - 1), "int32": (-2**31, 2**31 - 1),
          "int64": (-2**63, 2**63 - 1)}


def convert(name, x):
    if name == "bool":
        return x != 0
    if name in RANGES:
        if x.dtype != torch.float64:
            return x.to(torch.int64)
        low, high = RANGES[name]
        values = [0 if math.isnan(v) else low if v <= low else high if v >= high else int(v) for v in x.reshape(-1).tolist()]
        return torch.tensor(values, dtype=torch.int64).reshape(x.shape)
    return x.to(torch.float64)


def derivative(kind, dy, saved):
    if kind == "relu":
        return torch.where(saved > 0, dy, torch.zeros_like(dy))
    if kind == "sigmoid":
        return dy * saved * (1 - saved)
    if kind == "tanh":
        return dy * (1 - saved * saved)
    x = saved.clone().requires_grad_()
    unary(kind, x).backward(dy)
    return x.grad


# ---- Random bits: Philox4x32-10 as in the paper (Salmon et al. 2011)


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k[1], p0 & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def random_bits(state, shape):
    key, offset = (int(v) & (2**64 - 1) for v in state.tolist())
    words = []
    for w in range(offset, offset + math.prod(shape)):
        block = philox([w // 4 & 0xFFFFFFFF, w // 4 >> 32, 0, 0], [key & 0xFFFFFFFF, key >> 32])
        words.append(block[w % 4])
    return torch.tensor([w - 2**32 if w >= 2**31 else w for w in words], dtype=torch.int64).reshape(shape)


# ---- Shaping


def pad(x, value, low, high, interior):
    out = x
    for axis in range(x.ndim):
        n = out.shape[axis]
        size = 0 if n == 0 else (n - 1) * (interior[axis] + 1) + 1
        shape = list(out.shape)
        shape[axis] = size + max(low[axis], 0) + max(high[axis], 0)
        wide = value.expand(shape).clone()
        index = [slice(None)] * x.ndim
        index[axis] = slice(max(low[axis], 0), max(low[axis], 0) + size, interior[axis] + 1)
        if n:
            wide[tuple(index)] = out
        index[axis] = slice(max(-low[axis], 0), shape[axis] - max(-high[axis], 0))
        out = wide[tuple(index)]
    return out


def window_at(start, sizes, size):
    return tuple(slice(s, s + n) for s, n in ((min(max(s, 0), full - n), n) for s, full, n in zip(start.tolist(), sizes, size)))


# ---- Reductions and order


def reduce(kind, x, axes, keep):
    if kind in ("all", "any", "max", "min", "product"):
        out = x
        for axis in sorted(axes, reverse=True):
            f = {"all": torch.all, "any": torch.any, "max": torch.amax, "min": torch.amin, "product": torch.prod}[kind]
            out = f(out, dim=axis, keepdim=keep)
        return out
    return torch.sum(x, dim=axes, keepdim=keep) if axes else x.clone()


def scan(kind, x, axis, reverse, exclusive):
    if reverse:
        x = x.flip(axis)
    f = {"sum": torch.cumsum, "product": torch.cumprod, "max": lambda a, d: torch.cummax(a, d).values,
         "min": lambda a, d: torch.cummin(a, d).values}[kind]
    y = f(x, axis) if x.numel() else x.clone()
    if exclusive:
        first = {"sum": 0, "product": 1, "max": -math.inf, "min": math.inf}[kind]
        shape = list(x.shape)
        shape[axis] = 1
        y = torch.cat([torch.full(shape, first, dtype=x.dtype), y.narrow(axis, 0, x.shape[axis] - 1)], axis)
    return y.flip(axis) if reverse else y


def order(x, axis, descending):
    if x.dtype == torch.bool:
        values, indices = torch.sort(x.to(torch.int64), dim=axis, descending=descending, stable=True)
        return values != 0, indices
    return torch.sort(x, dim=axis, descending=descending, stable=True)


# ---- Indexing


def meet(kind, old, new):
    if kind == "set":
        return new
    if kind == "add":
        return old + new
    if kind == "multiply":
        return old * new
    return torch.maximum(old, new) if kind == "max" else torch.minimum(old, new)


def scatter(kind, x, indices, updates, axis):
    out = x.clone().movedim(axis, 0)
    moved = updates.reshape(list(x.shape[:axis]) + [indices.numel()] + list(x.shape[axis + 1:])).movedim(axis, 0)
    for j, index in enumerate(indices.reshape(-1).tolist()):
        out[index] = meet(kind, out[index].clone(), moved[j])
    return out.movedim(0, axis)


def scatter_along(kind, x, indices, updates, axis):
    out = x.clone()
    for place in itertools.product(*map(range, indices.shape)):
        target = list(place)
        target[axis] = int(indices[place])
        out[tuple(target)] = meet(kind, out[tuple(target)].clone(), updates[place])
    return out


def take_along(x, indices, axis):
    out = torch.zeros(indices.shape, dtype=x.dtype)
    for place in itertools.product(*map(range, indices.shape)):
        source = list(place)
        source[axis] = int(indices[place])
        out[place] = x[tuple(source)]
    return out


def scatter_nd(kind, x, indices, updates):
    out = x.clone()
    for place in itertools.product(*map(range, indices.shape[:-1])):
        target = tuple(indices[place].tolist())
        out[target] = meet(kind, out[target].clone(), updates[place])
    return out


def gather_nd(x, indices):
    k = indices.shape[-1]
    out = torch.zeros(list(indices.shape[:-1]) + list(x.shape[k:]), dtype=x.dtype)
    for place in itertools.product(*map(range, indices.shape[:-1])):
        out[place] = x[tuple(indices[place].tolist())]
    return out


# ---- Contraction; integers of this size are exact in float64


def dot(a, b, lhs_batch, rhs_batch, lhs, rhs):
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    names_a = [next(letters) for _ in range(a.ndim)]
    names_b = [next(letters) for _ in range(b.ndim)]
    for i, j in list(zip(lhs_batch, rhs_batch)) + list(zip(lhs, rhs)):
        names_b[j] = names_a[i]
    out = [names_a[i] for i in lhs_batch]
    out += [names_a[i] for i in range(a.ndim) if i not in lhs_batch and i not in lhs]
    out += [names_b[i] for i in range(b.ndim) if i not in rhs_batch and i not in rhs]
    return torch.einsum("%s,%s->%s" % ("".join(names_a), "".join(names_b), "".join(out)), a, b)


def convolution(x, w, bias, p):
    n = x.ndim - 2
    zero = torch.zeros((), dtype=x.dtype)
    low, high = numbers(p["padLow"]), numbers(p["padHigh"])
    interior = [d - 1 for d in numbers(p["inputDilation"])]
    x = pad(x, zero, [0, 0] + low, [0, 0] + high, [0, 0] + interior)
    f = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[n]
    return f(x, w, bias, stride=numbers(p["stride"]), dilation=numbers(p["kernelDilation"]), groups=int(p["groups"]))


def floats(f):
    """Runs f in float64, and gives integers back where integers came."""
    def run(operands, *rest):
        whole_numbers = operands[0].dtype == torch.int64
        y = f([x.to(torch.float64) for x in operands], *rest)
        return y.to(torch.int64) if whole_numbers else y
    return run


@floats
def convolve(x, p):
    return convolution(x[0], x[1], x[2] if len(x) > 2 else None, p)


@floats
def input_gradient(operands, p):
    dy, w = operands
    x = torch.zeros([dy.shape[0], w.shape[1] * int(p["groups"])] + numbers(p["inputSize"]), dtype=torch.float64, requires_grad=True)
    if not dy.numel():
        return x.detach()  # PyTorch records nothing for an empty batch
    convolution(x, w, None, p).backward(dy)
    return x.grad


@floats
def kernel_gradient(operands, p):
    x, dy = operands
    w = torch.zeros([dy.shape[1], x.shape[1] // int(p["groups"])] + numbers(p["kernelSize"]), dtype=torch.float64, requires_grad=True)
    if not dy.numel():
        return w.detach()
    convolution(x, w, None, p).backward(dy)
    return w.grad


def windows(x, p, fill):
    """x's windows: [batch, channels, output…, window elements], and the flat position of each element, −1 in the padding."""
    size, stride, dilation = numbers(p["size"]), numbers(p["stride"]), numbers(p["dilation"])
    low, high = numbers(p["padLow"]), numbers(p["padHigh"])
    n = len(size)
    spatial = list(x.shape[2:])
    outputs = [(spatial[i] + low[i] + high[i] - (size[i] - 1) * dilation[i] - 1) // stride[i] + 1 for i in range(n)]
    values = torch.full(list(x.shape[:2]) + outputs + [math.prod(size)], fill, dtype=x.dtype)
    places = torch.full(outputs + [math.prod(size)], -1, dtype=torch.int64)
    for out in itertools.product(*map(range, outputs)):
        for e, offset in enumerate(itertools.product(*map(range, size))):
            at = [out[i] * stride[i] + offset[i] * dilation[i] - low[i] for i in range(n)]
            if all(0 <= a < s for a, s in zip(at, spatial)):
                values[(slice(None), slice(None)) + out + (e,)] = x[(slice(None), slice(None)) + tuple(at)]
                flat = 0
                for a, s in zip(at, spatial):
                    flat = flat * s + a
                places[out + (e,)] = flat
    return values, places


def first_maximum(values, places):
    """The element that holds a window's maximum: the first one, or the last NaN, as in PyTorch; never padding."""
    valid = (places >= 0).expand(values.shape)
    v = values.to(torch.float64)
    best = torch.zeros(values.shape[:-1], dtype=torch.int64)
    for place in itertools.product(*map(range, best.shape)):
        top = -1
        for e in range(values.shape[-1]):
            if valid[place + (e,)] and (top < 0 or torch.isnan(v[place + (e,)]) or v[place + (e,)] > v[place + (top,)]):
                top = e
        best[place] = top
    return best


def pool(kind, x, p):
    values, places = windows(x, p, 0)
    if kind == "max":
        best = first_maximum(values, places)
        return torch.gather(values, -1, best.unsqueeze(-1)).squeeze(-1) if best.numel() else values[..., 0]
    total = values.sum(-1)
    if kind == "average":
        return total / values.shape[-1]
    return total / (places >= 0).sum(-1) if kind == "averageValid" else total


def pool_gradient(kind, x, dy, p):
    values, places = windows(x, p, 0)
    flat = torch.zeros(list(x.shape[:2]) + [math.prod(x.shape[2:])], dtype=x.dtype)
    best = first_maximum(values, places) if kind == "max" else None
    for place in itertools.product(*map(range, dy.shape)):
        out = place[2:]
        elements = [int(best[place])] if kind == "max" else range(values.shape[-1])
        count = {"average": values.shape[-1], "averageValid": int((places[out] >= 0).sum())}.get(kind, 1)
        for e in elements:
            at = int(places[out + (e,)])
            if at >= 0:
                flat[place[0], place[1], at] += dy[place] / count if count != 1 else dy[place]
    return flat.reshape(x.shape)


# ---- Composites


def along(v, x):
    return v.reshape([1, -1] + [1] * (x.ndim - 2))


def normalized_gradient(dy, x, weight, mean, rstd, axes):
    """dx, and what dweight sums, of normal · weight with normal = (x − mean) · rstd and statistics of x over `axes`."""
    normal = (x - mean) * rstd
    g = dy * weight
    return (g - g.mean(axes, keepdim=True) - normal * (g * normal).mean(axes, keepdim=True)) * rstd, dy * normal


def added(mask, q, k, causal):
    """What is added to the scores: a mask that is added, −∞ for one that is false, −∞ for keys after the query's position."""
    scores = torch.zeros(list(q.shape[:3]) + [k.shape[2]], dtype=torch.float64)
    if mask is not None:
        scores = torch.where(mask, 0.0, -math.inf) if mask.dtype == torch.bool else mask
    if causal:
        queries, keys = scores.shape[2:]
        seen = torch.arange(keys) <= (torch.arange(queries) + keys - queries).unsqueeze(1)
        scores = torch.where(seen, scores, -math.inf)
    return scores


def shared(q, *kv):
    """Heads of k and v repeated as often as q's share them."""
    return [x.repeat_interleave(q.shape[1] // max(x.shape[1], 1), 1) for x in kv]


def attention(q, k, v, mask=None, *, scale, causal):
    bias = added(mask, q, k, causal)
    k, v = shared(q, k, v)
    lse = torch.logsumexp(q @ k.transpose(-1, -2) * scale + bias, -1) if k.shape[2] else torch.full(q.shape[:3], -math.inf)
    return [F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale), lse.to(torch.float64)]


def attention_gradient(dy, q, k, v, y, lse, mask=None, *, scale, causal, for_mask):
    """With y and lse as numbers of their own: weights are e^(scores − lse), zero where lse is −∞."""
    bias = added(mask, q, k, causal)
    groups = k.shape[:2] + (q.shape[1] // max(k.shape[1], 1),)
    heads_k, heads_v = shared(q, k, v)
    weights = torch.exp(q @ heads_k.transpose(-1, -2) * scale + bias - lse.unsqueeze(-1))
    slopes = weights * (dy @ heads_v.transpose(-1, -2) - (dy * y).sum(-1, keepdim=True))
    dk = (slopes.transpose(-1, -2) @ q * scale).reshape(groups + k.shape[2:]).sum(2)
    dv = (weights.transpose(-1, -2) @ dy).reshape(groups + v.shape[2:]).sum(2)
    return [slopes @ heads_k * scale, dk, dv] + ([slopes] if for_mask else [])


def rope(x, cos, sin, interleaved, sign):
    half = cos.shape[-1]
    if not cos.numel():
        return x
    turned, rest = x[..., :2 * half], x[..., 2 * half:]
    pairs = turned.unflatten(-1, (half, 2)) if interleaved else turned.unflatten(-1, (2, half)).transpose(-1, -2)
    product = torch.view_as_complex(pairs.contiguous()) * torch.complex(cos, sign * sin)
    pairs = torch.view_as_real(product)
    return torch.cat([(pairs if interleaved else pairs.transpose(-1, -2)).flatten(-2), rest], -1)


def recurrent(name, x):
    """PyTorch's own cells: weights of the identity and zeros make gates of the operands."""
    count = 4 if name.startswith("lstm") else 3
    state = x[-1]
    n = state.shape[-1]
    if not state.numel():  # what is empty stays so
        outputs = {"lstmCell": [state, state], "gruCell": [state], "lstmCellGradient": x[2:], "gruCellGradient": x[1:]}
        return outputs[name]
    flat = [t.reshape(-1, t.shape[-1]).clone().requires_grad_() for t in x]
    identity = torch.eye(count * n, dtype=torch.float64)
    if name.startswith("lstm"):
        gates, cell = flat[-2:]
        nothing = torch.zeros(count * n, n, dtype=torch.float64)
        results = torch._VF.lstm_cell(gates, [torch.zeros_like(cell), cell], identity, nothing, None, None)
        inputs, slopes = flat[-2:], flat[:2]
    else:
        a, b, h = flat[-3:]
        # gru_cell's products are one for the input and one for the hidden state, which also enters as it is: written out here.
        (ar, az, an), (br, bz, bn) = a.chunk(3, 1), b.chunk(3, 1)
        r, z = torch.sigmoid(ar + br), torch.sigmoid(az + bz)
        results = [(1 - z) * torch.tanh(an + r * bn) + z * h]
        inputs, slopes = flat[-3:], flat[:1]
    if name.endswith("Gradient"):
        results = torch.autograd.grad(results, inputs, [slope.detach() for slope in slopes])
        like = x[-len(inputs):]
        return [result.reshape(t.shape) for result, t in zip(results, like)]
    return [result.detach().reshape(state.shape) for result in results]


def sequence(name, p, x):
    """Recurrent layers step by step, by PyTorch; the gradient by its rules for what a forward walk had kept."""
    kind, back, reverse = name.split("Sequence")[0], name.endswith("Gradient"), p["reverse"] == "true"
    gates = {"lstm": 4, "gru": 3}.get(kind, 1)
    operands = ({"lstm": 6, "gru": 5} if back else {"lstm": 4, "gru": 4}).get(kind, 4 if back else 3)
    mask = x[operands] if len(x) > operands else None
    steps, batch = x[0].shape[:2]
    hidden = x[0].shape[2] // (1 if back else gates)
    order = range(steps) if reverse == back else range(steps - 1, -1, -1)
    each = lambda n: torch.zeros(steps, batch, n, dtype=torch.float64)
    seen = lambda t: torch.ones(batch, 1, dtype=torch.bool) if mask is None else mask[t][:, None]
    chosen = lambda t, a, b: torch.where(seen(t), a, b)
    zero = torch.zeros((), dtype=torch.float64)
    if not back:
        weight, h = x[1], x[3] if kind == "gru" else x[2]
        c = x[3] if kind == "lstm" else None
        y, h_before, c_before, kept = each(hidden), each(hidden), each(hidden), each(4 * hidden)
        for t in order:
            h_before[t] = h
            if kind == "lstm":
                c_before[t] = c
                i, f, g, o = (x[0][t] + h @ weight.T).chunk(4, 1)
                i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
                cell = f * c + i * g
                new, keep = o * torch.tanh(cell), torch.cat([i, f, g, o], 1)
                c = chosen(t, cell, c)
            elif kind == "gru":
                (a, b, n), (ha, hb, hn) = x[0][t].chunk(3, 1), (h @ weight.T + x[2]).chunk(3, 1)
                r, z = torch.sigmoid(a + ha), torch.sigmoid(b + hb)
                n = torch.tanh(n + r * hn)
                new, keep = (1 - z) * n + z * h, torch.cat([r, z, n, hn], 1)
            else:
                new, keep = {"tanh": torch.tanh, "relu": torch.relu}[kind](x[0][t] + h @ weight.T), None
            y[t] = chosen(t, new, zero)
            h = chosen(t, new, h)
            if keep is not None:
                kept[t] = chosen(t, keep, zero)
        results, more = {"lstm": ([y, h, c], [h_before, c_before, kept]), "gru": ([y, h], [h_before, kept])}.get(kind, ([y, h], [h_before]))
        return results + more if p["keeps"] == "true" else results
    dh, dc = x[1], x[2] if kind == "lstm" else None
    weight, known = (x[3], x[4]) if kind == "lstm" else (x[2], x[3])
    kept = {"lstm": x[5] if kind == "lstm" else None, "gru": x[4] if kind == "gru" else None}.get(kind)
    dgates, dproduct = each(gates * hidden), each(gates * hidden)
    for t in order:
        slope = dh + x[0][t]
        if kind == "lstm":
            i, f, g, o = kept[t].chunk(4, 1)
            tanh = torch.tanh(f * known[t] + i * g)
            total = dc + slope * o * (1 - tanh**2)
            d = torch.cat([total * g * i * (1 - i), total * known[t] * f * (1 - f), total * i * (1 - g**2), slope * tanh * o * (1 - o)], 1)
            dc, through = chosen(t, total * f, dc), d
        elif kind == "gru":
            r, z, n, hn = kept[t].chunk(4, 1)
            dn = slope * (1 - z) * (1 - n**2)
            dr, dz = dn * hn * r * (1 - r), slope * (known[t] - n) * z * (1 - z)
            d, through = torch.cat([dr, dz, dn], 1), torch.cat([dr, dz, dn * r], 1)
        else:
            d = through = slope * ((1 - known[t] ** 2) if kind == "tanh" else (known[t] > 0))
        dgates[t], dproduct[t] = chosen(t, d, zero), chosen(t, through, zero)
        dh = chosen(t, through @ weight + (slope * z if kind == "gru" else 0), dh)
    return {"lstm": [dgates, dh, dc], "gru": [dgates, dproduct, dh]}.get(kind, [dgates, dh])


def composite(name, p, x):
    if name == "softmax":
        return [torch.softmax(x[0], -1)]
    if name == "logSoftmax":
        return [torch.log_softmax(x[0], -1)]
    if name == "softmaxGradient":
        return [torch.ops.aten._softmax_backward_data(x[1], x[0], x[0].ndim - 1, torch.float64)]
    if name == "logSoftmaxGradient":
        return [torch.ops.aten._log_softmax_backward_data(x[1], x[0], x[0].ndim - 1, torch.float64)]
    if name == "layerNorm":
        variance, mean = torch.var_mean(x[0], -1, correction=0)
        return [F.layer_norm(x[0], x[1].shape, x[1], x[2], float(p["epsilon"])), mean, torch.rsqrt(variance + float(p["epsilon"]))]
    if name == "layerNormGradient":
        dy, value, weight, mean, rstd = x
        dx, terms = normalized_gradient(dy, value, weight, mean.unsqueeze(-1), rstd.unsqueeze(-1), [-1])
        rows = list(range(dy.ndim - 1))
        return [dx, terms.sum(rows) if rows else terms, dy.sum(rows) if rows else dy]
    if name == "rmsNorm":
        rrms = torch.rsqrt((x[0] * x[0]).mean(-1) + float(p["epsilon"]))
        return [F.rms_norm(x[0], x[1].shape, x[1], float(p["epsilon"])), rrms]
    if name == "rmsNormGradient":
        dy, value, weight, rrms = x
        normal = value * rrms.unsqueeze(-1)
        g = dy * weight
        dx = (g - normal * (g * normal).mean(-1, keepdim=True)) * rrms.unsqueeze(-1)
        rows = list(range(dy.ndim - 1))
        return [dx, (dy * normal).sum(rows) if rows else dy * normal]
    if name == "batchNorm":
        axes = [0] + list(range(2, x[0].ndim))
        variance, mean = torch.var_mean(x[0], axes, correction=0)
        return [F.batch_norm(x[0], None, None, x[1], x[2], True, 0.1, float(p["epsilon"])), mean, variance]
    if name == "batchNormGradient":
        dy, value, weight, mean, variance = x
        axes = [0] + list(range(2, dy.ndim))
        rstd = torch.rsqrt(variance + float(p["epsilon"]))
        dx, terms = normalized_gradient(dy, value, along(weight, dy), along(mean, dy), along(rstd, dy), axes)
        return [dx, terms.sum(axes), dy.sum(axes)]
    if name == "batchNormInference":
        return [F.batch_norm(x[0], x[3], x[4], x[1], x[2], False, 0.1, float(p["epsilon"]))]
    if name == "softmaxCrossEntropy":
        ignored, smoothing = int(p["ignoreIndex"]), float(p["smoothing"])
        loss = F.cross_entropy(x[0], x[1], reduction="none", ignore_index=ignored, label_smoothing=smoothing)
        return [loss, torch.logsumexp(x[0], 1)]
    if name == "softmaxCrossEntropyGradient":
        dloss, logits, labels, lse = x
        ignored, smoothing = int(p["ignoreIndex"]), float(p["smoothing"])
        classes = logits.shape[1]
        valid = labels != ignored
        hot = F.one_hot(torch.where(valid, labels, 0), classes).to(torch.float64)
        target = hot * (1 - smoothing) + smoothing / classes
        return [(torch.exp(logits - lse.unsqueeze(1)) - target) * (dloss * valid).unsqueeze(1)]
    if name == "linear":
        return [F.linear(*x)]
    if name == "attention":
        return attention(*x, scale=float(p["scale"]), causal=p["causal"] == "true")
    if name == "attentionGradient":
        return attention_gradient(*x, scale=float(p["scale"]), causal=p["causal"] == "true", for_mask=p["forMask"] == "true")
    if name == "rope":
        return [rope(*x, p["interleaved"] == "true", -1 if p["inverse"] == "true" else 1)]
    if name in ("lstmCell", "lstmCellGradient", "gruCell", "gruCellGradient"):
        return recurrent(name, x)
    if "Sequence" in name:
        return sequence(name, p, x)
    raise ValueError(name)


def results(name, p, x):
    if name == "unary":
        return [unary(p["kind"], x[0])]
    if name == "binary":
        return [binary(p["kind"], *x)]
    if name == "compare":
        return [compare(p["kind"], *x)]
    if name == "select":
        return [torch.where(*x)]
    if name == "convert":
        return [convert(p["type"], x[0])]
    if name == "activationGradient":
        return [derivative(p["kind"], *x)]
    if name == "fill":
        filled = torch.full(numbers(p["shape"]), float(p["value"]), dtype=torch.float64)
        return [convert(p["type"], filled)]
    if name == "iota":
        shape, axis = numbers(p["shape"]), int(p["axis"])
        line = torch.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))]).expand(shape)
        return [convert(p["type"], line)]
    if name == "random":
        return [random_bits(x[0], numbers(p["shape"]))]
    if name == "broadcast":
        return [x[0].expand(numbers(p["shape"]))]
    if name == "reshape":
        return [x[0].reshape(numbers(p["shape"]))]
    if name == "transpose":
        return [x[0].permute(numbers(p["permutation"]))]
    if name == "slice":
        start, size, step = numbers(p["start"]), numbers(p["size"]), numbers(p["step"])
        return [x[0][tuple(slice(b, b + (n - 1) * s + 1 if n else b, s) for b, n, s in zip(start, size, step))]]
    if name == "pad":
        return [pad(x[0], x[1], numbers(p["low"]), numbers(p["high"]), numbers(p["interior"]))]
    if name == "concatenate":
        return [torch.cat(x, int(p["axis"]))]
    if name == "reverse":
        return [x[0].flip(numbers(p["axes"]))]
    if name == "dynamicSlice":
        return [x[0][window_at(x[1], x[0].shape, numbers(p["size"]))]]
    if name == "dynamicUpdateSlice":
        out = x[0].clone()
        out[window_at(x[2], out.shape, x[1].shape)] = x[1]
        return [out]
    if name == "triangle":
        return [(torch.triu if p["upper"] == "true" else torch.tril)(x[0], int(p["diagonal"]))]
    if name == "stopGradient":
        return [x[0]]
    if name == "reduce":
        return [reduce(p["kind"], x[0], numbers(p["axes"]), p["keepDims"] == "true")]
    if name == "argReduce":
        # NumPy gives the first of equal elements, and the first NaN.
        f = np.argmax if p["kind"] == "max" else np.argmin
        out = torch.from_numpy(np.asarray(f(x[0].numpy(), axis=int(p["axis"]), keepdims=p["keepDims"] == "true")))
        return [out]
    if name == "scan":
        return [scan(p["kind"], x[0], int(p["axis"]), p["reverse"] == "true", p["exclusive"] == "true")]
    if name == "sort":
        return list(order(x[0], int(p["axis"]), p["descending"] == "true"))
    if name == "topK":
        axis, k = int(p["axis"]), int(p["k"])
        return [t.narrow(axis, 0, k) for t in order(x[0], axis, p["largest"] == "true")]
    if name == "gather":
        axis = int(p["axis"])
        picked = torch.index_select(x[0], axis, x[1].reshape(-1) % x[0].shape[axis])
        return [picked.reshape(list(x[0].shape[:axis]) + list(x[1].shape) + list(x[0].shape[axis + 1:]))]
    if name == "takeAlong":
        return [take_along(x[0], x[1], int(p["axis"]))]
    if name == "gatherND":
        return [gather_nd(*x)]
    if name == "scatter":
        return [scatter(p["kind"], *x, int(p["axis"]))]
    if name == "scatterAlong":
        return [scatter_along(p["kind"], *x, int(p["axis"]))]
    if name == "scatterND":
        return [scatter_nd(p["kind"], *x)]
    if name == "dot":
        return [dot(*x, *(numbers(p[key]) for key in ("lhsBatch", "rhsBatch", "lhsContracting", "rhsContracting")))]
    if name == "quantizedDot":
        q, scale, zero, weight, weight_scale = x[:5]
        sums = (q - (zero.unsqueeze(-1) if zero.ndim else zero)) @ weight.T
        scaled = sums.double() * (scale.unsqueeze(-1) if scale.ndim else scale) * weight_scale
        return [scaled + x[5] if len(x) > 5 else scaled]
    if name == "convolution":
        return [convolve(x, p)]
    if name == "convolutionInputGradient":
        return [input_gradient(x, p)]
    if name == "convolutionKernelGradient":
        return [kernel_gradient(x, p)]
    if name == "reduceWindow":
        return [pool(p["kind"], x[0], p)]
    if name == "reduceWindowGradient":
        return [pool_gradient(p["kind"], *x, p)]
    if name == "maxPoolIndices":
        values, places = windows(x[0], p, 0)
        best = first_maximum(values, places)
        return [torch.gather(places.expand(values.shape), -1, best.unsqueeze(-1)).squeeze(-1)]
    return composite(name, p, x)


def main(source, target):
    np.seterr(all="ignore")
    torch.set_num_threads(1)
    with open(source) as lines, open(target, "w") as out:
        for line in lines:
            operation, *operands = line.rstrip("\n").split(" | ")
            name, *pairs = operation.split(" ")
            parameters = dict(pair.split("=", 1) for pair in pairs)
            try:
                values = results(name, parameters, [operand(text) for text in operands])
            except Exception as error:
                raise SystemExit("%s: %r" % (line.strip(), error)) from error
            out.write("\t".join([line.rstrip("\n")] + [write(value) for value in values]) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
