"""Gradients of running products and extremes and of scatters with ties and zeros, by PyTorch in float64.

    python make_gradients.py > gradients.json

Each case: the operands, weights of the results (their gradient), and the gradients that arrive at the operands.
"""
import json

import torch


def numbers(t):
    return {"shape": list(t.shape), "values": [repr(v) if v != v else v for v in t.reshape(-1).tolist()]}


def case(f, *operands):
    operands = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in operands]
    y = f(*operands)
    weights = (torch.arange(y.numel(), dtype=torch.float64) - 2.5).reshape(y.shape)
    gradients = torch.autograd.grad((y * weights).sum(), operands)
    return {"operands": [numbers(x.detach()) for x in operands], "result": numbers(y.detach()), "weights": numbers(weights),
            "gradients": [numbers(g) for g in gradients]}


def reduce(kind, indices):
    index = torch.tensor(indices)
    return lambda x, u: torch.scatter_reduce(x, 1, index, u, kind, include_self=True)


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
print(json.dumps(cases))
