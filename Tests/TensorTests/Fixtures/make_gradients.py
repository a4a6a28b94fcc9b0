"""Values and gradients by PyTorch in float64: running products and extremes and scatters with ties and zeros; attention,
rotary embedding and recurrent cells by the functions that people call.

    python make_gradients.py > gradients.json

Each case: the operands, weights of the results (their gradient), and the gradients that arrive at the operands.
"""
import json
import math

import torch
import torch.nn.functional as F
from torch.nn.attention.bias import causal_lower_right


def numbers(t):
    return {"shape": list(t.shape), "values": [repr(v) if v != v else v for v in t.reshape(-1).tolist()]}


def case(f, *operands):
    operands = [torch.as_tensor(x, dtype=torch.float64).clone().requires_grad_() for x in operands]
    y = f(*operands)
    weights = (torch.arange(y.numel(), dtype=torch.float64) - 2.5).reshape(y.shape)
    gradients = torch.autograd.grad((y * weights).sum(), operands)
    return {"operands": [numbers(x.detach()) for x in operands], "result": numbers(y.detach()), "weights": numbers(weights),
            "gradients": [numbers(g) for g in gradients]}


def reduce(kind, indices):
    index = torch.tensor(indices)
    return lambda x, u: torch.scatter_reduce(x, 1, index, u, kind, include_self=True)


def spread(seed, *shape):
    """Numbers within −1 and 1, no two neighbours alike."""
    i = torch.arange(math.prod(shape))
    return (((37 * i + 11 * seed + 5) % 127 - 63) / 64).to(torch.float64).reshape(shape)


def attend(mask=None, **options):
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True, **options)


def angles(positions, dim, theta):
    return torch.outer(positions.to(torch.float64), theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim))


def rotate_halves(x, theta=10000.0, dim=None, start=0):
    """As Hugging Face's Llama writes it: x cos + rotate_half(x) sin, with tables of twice the angles."""
    dim = dim or x.shape[-1]
    turned, rest = x[..., :dim], x[..., dim:]
    a = angles(torch.arange(start, start + x.shape[-2]), dim, theta)
    cos, sin = torch.cat([a, a], -1).cos(), torch.cat([a, a], -1).sin()
    left, right = turned.chunk(2, -1)
    return torch.cat([turned * cos + torch.cat([-right, left], -1) * sin, rest], -1)


def rotate_neighbours(x, theta=10000.0):
    """As Llama's own code writes it: products of complex numbers."""
    turn = torch.polar(torch.ones((), dtype=torch.float64), angles(torch.arange(x.shape[-2]), x.shape[-1], theta))
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turn).flatten(-2)


ties = [[1.0, 3.0, 3.0, 2.0, 3.0, 5.0], [4.0, 4.0, -1.0, -1.0, 4.0, -1.0]]
zeros = [[2.0, 0.0, 3.0, -1.0, 0.5], [1.5, -2.0, 0.25, 4.0, 3.0], [0.0, 2.0, 0.0, 7.0, 1.0]]
place = [[0, 2, 0, 2, 2], [1, 1, 1, 0, 3]]
there = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 0.0]]
updates = [[1.0, 5.0, 0.5, 3.0, 5.0], [6.0, 2.0, 6.0, 7.0, 0.0]]
cases = {
    "cumulative max": case(lambda x: torch.cummax(x, 1)[0], ties),
    "cumulative min": case(lambda x: torch.cummin(x, 1)[0], ties),
    "cumulative max from the end": case(lambda x: torch.cummax(x.flip(1), 1)[0].flip(1), ties),
    "cumulative product": case(lambda x: torch.cumprod(x, 1), zeros),
    "cumulative product over rows": case(lambda x: torch.cumprod(x, 0), zeros),
    "scatter max": case(reduce("amax", place), there, updates),
    "scatter min": case(reduce("amin", place), there, updates),
    "scatter multiply": case(reduce("prod", place), there, updates),
    "scatter multiply, one zero": case(reduce("prod", place), there, [[0.0, 5.0, 0.5, 0.0, 2.0], [6.0, 2.0, 0.0, 7.0, 3.0]]),
    "scatter multiply, zeros": case(reduce("prod", place), there, [[0.0, 5.0, 0.0, 0.0, 0.0], [6.0, 2.0, 3.0, 0.0, 1.0]]),
}
q, k, v = spread(1, 1, 4, 3, 4), spread(2, 1, 2, 5, 4), spread(3, 1, 2, 5, 2)
hidden = torch.ones(3, 5, dtype=torch.bool)
hidden[0, 2:] = False
hidden[1] = False  # this query sees nothing
cases |= {
    "attention": case(attend(), q, k, v),
    "attention, scaled": case(attend(scale=0.3), q, k, v),
    "attention, hidden": case(attend(hidden), q, k, v),
    "attention, causal": case(attend(is_causal=True), q, k[:, :, :3], v[:, :, :3]),
    "attention, causal with earlier keys": case(attend(causal_lower_right(3, 5)), q, k.repeat(1, 2, 1, 1), v.repeat(1, 2, 1, 1)),
    "attention, added": case(lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m.expand(1, 4, 3, 5), enable_gqa=True),
                             q, k, v, spread(4, 4, 1, 5)),
    "rope, halves": case(rotate_halves, spread(5, 2, 3, 8)),
    "rope, later positions, part of a row": case(lambda x: rotate_halves(x, 500.0, 4, 7), spread(6, 2, 3, 6)),
    "rope, neighbours": case(rotate_neighbours, spread(7, 2, 3, 8)),
    "lstm cell": case(lambda x, h, c, *w: torch.cat(torch.lstm_cell(x, (h, c), *w), 1), spread(1, 2, 3), spread(2, 2, 4), spread(3, 2, 4),
                      spread(4, 16, 3), spread(5, 16, 4), spread(6, 16), spread(7, 16)),
    "gru cell": case(lambda x, h, *w: torch.gru_cell(x, h, *w), spread(1, 2, 3), spread(2, 2, 4), spread(4, 12, 3), spread(5, 12, 4),
                     spread(6, 12), spread(7, 12)),
}
print(json.dumps(cases))
