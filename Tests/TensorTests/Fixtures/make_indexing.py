"""Writes indexing.json: what NumPy and PyTorch give for the expressions of IndexingTests, SelectionTests, EinsumTests
and PrintingTests. Run from this folder: python3 make_indexing.py"""
import json
import re

import numpy as np
import torch

cases = {}


def put(name, value):
    value = np.asarray(value)
    flat = [float(v) if value.dtype.kind == "f" else int(v) for v in value.reshape(-1)]
    flat = [v if np.isfinite(v) else str(v) for v in flat]  # JSON has no NaN or infinity
    cases[name] = {"shape": list(value.shape), "values": flat}


# Indexing: x is 0...59 in shape [3, 4, 5].
x = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
i = np.array([0, 2, 1])
j = np.array([[1, 3, -1], [0, 0, 2]])
mask = x % 7 == 0
rows = np.array([True, False, True])
gets = {
    "x[0]": x[0], "x[-1]": x[-1], "x[1,2]": x[1, 2], "x[1,2,3]": x[1, 2, 3], "x[:,1]": x[:, 1], "x[1:3]": x[1:3],
    "x[:,1:]": x[:, 1:], "x[:2,..,:-1]": x[:2, ..., :-1], "x[-3:-1]": x[-3:-1], "x[...]": x[...], "x[...,0]": x[..., 0],
    "x[0,...,1]": x[0, ..., 1], "x[::2,::3]": x[::2, ::3], "x[::-1]": x[::-1], "x[:,3:0:-2]": x[:, 3:0:-2],
    "x[1:-1,1:-1]": x[1:-1, 1:-1], "x[None]": x[None], "x[:,None,0]": x[:, None, 0], "x[...,None]": x[..., None],
    "x[mask]": x[mask], "x[rows]": x[rows], "x[:,mask2]": x[:, x[0] % 2 == 0], "x[rows,1]": x[rows, 1],
    "x[i]": x[i], "x[:,i]": x[:, i], "x[...,j]": x[..., j], "x[i,j]": x[i, j], "x[i,:,j]": x[i, :, j],
    "x[:,i,j]": x[:, i, j], "x[0,:,j]": x[0, :, j], "x[:,0,j]": x[:, 0, j], "x[i,None,i]": x[i, None, i],
    "x[:,i,...,i]": x[:, i, ..., i], "x[1:,i,1:3]": x[1:, i, 1:3], "x[::-1,i]": x[::-1, i], "x[rows,:,[0,4]]": x[rows, :, [0, 4]],
    "x[[],1]": x[np.array([], dtype=int), 1], "x[1:1]": x[1:1], "x[i,i,i]": x[i, i, i],
}
for name, value in gets.items():
    put("get " + name, value)


def assign(name, change):
    y = x.copy()
    change(y)
    put("set " + name, y)


def fill(key, value):
    def change(y):
        y[key] = value
    return change


v45 = -np.arange(20, dtype=np.float32).reshape(4, 5)
assign("x[1]=v", fill(1, v45))
assign("x[0]=7", fill(0, 7))
assign("x[...]=7", fill(Ellipsis, 7))
assign("x[:,1:3]=row", fill((slice(None), slice(1, 3)), np.arange(5)))
assign("x[::2,::-1]=v", fill((slice(None, None, 2), slice(None, None, -1)), v45))
assign("x[mask]=-1", fill(mask, -1))
assign("x[mask]=v", fill(mask, -np.arange(mask.sum())))
assign("x[i]=column", fill(i, np.array([[-1], [-2], [-3], [-4]])))
assign("x[i,:,j]=v", fill((i, slice(None), j), -np.arange(24).reshape(2, 3, 4)))
assign("x[:,[0,0],1]=v", fill((slice(None), np.array([0, 0]), 1), np.array([-1, -2])))
assign("x[rows,1]=v", fill((rows, 1), v45[:2]))
assign("x[...,0]=v", fill((Ellipsis, 0), v45[:3, :4]))
assign("x[0,None,1:2]=v", fill((0, None, slice(1, 2)), np.ones((1, 1, 1, 5))))

# Picking and placing.
t = torch.from_numpy(x.copy())
along = torch.tensor([[[0, 1, 4, 3, 2]], [[4, 4, 0, 0, 1]], [[2, 2, 2, 3, 3]]])
put("gather", torch.gather(t, 2, along))
put("scatter", t.scatter(2, torch.tensor([[[0, 1]], [[4, 3]]]), -torch.ones(2, 1, 2)))
put("scatterAdd", t.scatter_add(1, torch.tensor([[[0, 1, 1, 0, 3]]]), 100 * torch.ones(1, 1, 5)))
put("indexAdd", t.index_add(1, torch.tensor([0, 3, 0]), torch.arange(45.).reshape(3, 3, 5)))
put("take", t.index_select(1, torch.tensor([3, 0, 0])))
put("nonzero", np.argwhere(x % 13 == 0))
messy = np.array([[3, -1, 2, 2, 9, 0], [5, 5, -7, 4, 1, 1]], dtype=np.float32)
put("sorted", np.sort(messy, axis=1))
put("argSort", np.argsort(messy, axis=1, kind="stable"))
put("sorted down", torch.sort(torch.from_numpy(messy), dim=1, descending=True, stable=True).values)
put("sorted 0", np.sort(messy, axis=0))
top = torch.topk(torch.from_numpy(messy), 3, dim=1)
put("topK", top.values)
put("bottomK", torch.topk(torch.from_numpy(messy), 2, dim=1, largest=False).values)
edges = np.array([-1, 0, 2, 2, 5], dtype=np.float32)
put("searchSorted", np.searchsorted(edges, messy))
put("searchSorted right", np.searchsorted(edges, messy, side="right"))
put("searchSorted rows", torch.searchsorted(torch.from_numpy(np.sort(messy, axis=1)), torch.tensor([[1., 2.], [5., 0.]])))
values, inverse, counts = np.unique(messy, return_inverse=True, return_counts=True)
put("unique", values)
put("unique inverse", inverse.reshape(messy.shape))
put("unique counts", counts)
put("unique nan", np.unique(np.array([np.nan, 1, np.nan, -np.inf])))
put("bincount", np.bincount([1, 4, 1, 0, 4, 4], minlength=7))
put("bincount weights", np.bincount([1, 4, 1], weights=[0.5, 2, 0.25]))
hist = np.histogram(messy, bins=4)
put("histogram", hist[0])
put("histogram edges", hist[1])
put("histogram range", np.histogram(messy, bins=3, range=(0, 3))[0])
put("median", np.median(messy, axis=1))
put("median all", np.median(messy))
put("quantile", np.quantile(messy, 0.3, axis=1, keepdims=True))
grid = np.meshgrid(np.arange(3.), np.arange(2.), indexing="ij")
put("meshgrid 0", grid[0])
put("meshgrid 1", grid[1])
put("meshgrid xy", np.meshgrid(np.arange(3.), np.arange(2.))[0])

# Einsum: operand k has the values sin(1), sin(2), ... of the shape named.
equations = [
    ("ij,jk->ik", [[3, 4], [4, 2]]), ("ij,jk", [[3, 4], [4, 2]]), ("bij,bjk->bik", [[2, 3, 4], [2, 4, 5]]),
    ("ba", [[2, 3]]), ("ij->", [[2, 3]]), ("ij->j", [[2, 3]]), ("ii", [[3, 3]]), ("ii->i", [[3, 3]]),
    ("iij->ji", [[3, 3, 2]]), ("iii->i", [[2, 2, 2]]), ("i,i", [[4], [4]]), ("i,j->ij", [[2], [3]]),
    ("ij,ij->ij", [[2, 3], [2, 3]]), ("ij,ij->i", [[2, 3], [2, 3]]), ("ij,ji->", [[2, 3], [3, 2]]),
    ("...ij,...jk->...ik", [[2, 1, 3, 4], [5, 4, 2]]), ("...i->...", [[2, 3, 4]]), ("i...,i...", [[3, 2], [3, 2]]),
    ("...,...", [[2, 3], [3]]), ("b h q d , b h k d -> b h q k", [[2, 3, 4, 5], [2, 3, 6, 5]]),
    ("ij,jk,kl->il", [[2, 3], [3, 4], [4, 5]]), ("ij,jk,kl,lm->im", [[2, 7], [7, 3], [3, 6], [6, 2]]),
    ("bi,oij,bj->bo", [[2, 3], [4, 3, 5], [2, 5]]), ("i,ij,j,ij->", [[3], [3, 2], [2], [3, 2]]), ("ijk,k->ji", [[2, 3, 4], [4]]),
    ("aij,ij->a", [[2, 3, 4], [3, 4]]), ("i,jk->k", [[2], [3, 4]]), (",i->i", [[], [3]]), ("Aa,aB->BA", [[2, 3], [3, 2]]),
    ("ij,jk->ik", [[3, 1], [4, 2]]), ("ij,jk->ik", [[0, 4], [4, 2]]), ("ij,jk->ik", [[3, 0], [0, 2]]),
    ("ijij->ij", [[2, 3, 2, 3]]), ("ij,i,k->kj", [[2, 3], [2], [4]]),
]
cases["einsum"] = []
for equation, shapes in equations:
    operands = [np.sin(np.arange(1, int(np.prod(s)) + 1, dtype=np.float64) + k).reshape(s) for k, s in enumerate(shapes)]
    result = np.asarray(np.einsum(equation, *operands))
    cases["einsum"].append({"equation": equation, "shapes": shapes, "shape": list(result.shape), "values": result.reshape(-1).tolist()})
a = np.sin(np.arange(24.)).reshape(2, 3, 4)
b = np.cos(np.arange(24.)).reshape(4, 3, 2)
put("tensordot", np.tensordot(a, b, axes=([1, 0], [1, 2])))
put("tensordot 1", np.tensordot(a, b, axes=1))
put("inner", np.inner(a, b.reshape(2, 3, 4)))
put("kron", np.kron(a[0], b[0]))

# Printing. NumPy leaves out the zero after the point of whole numbers; Apus does not. The rest is the same text.
r = np.random.default_rng(0)
prints = {
    "whole": np.arange(6.).reshape(2, 3), "halves": np.array([[1, 2.5], [-0.25, 100]]), "thirds": np.array([1 / 3, 2 / 3, 10]),
    "wide": np.array([1e-5, 1, 300.5]), "large": np.array([1e10, 2.5e8]), "special": np.array([np.nan, 1.5, -np.inf, np.inf]),
    "only special": np.array([np.nan, np.inf]), "zeros": np.zeros((2, 2)), "tiny": np.array([1e-30, 0]),
    "scalar": np.array(3.25), "whole scalar": np.array(-2.), "many": r.normal(size=(4, 30)), "deep": r.normal(size=(2, 2, 2, 3)),
    "long": np.arange(1001.), "long rows": r.normal(size=(34, 31)), "cube": r.normal(size=(11, 10, 10)), "negative": -np.arange(5.) / 7,
    "one column": np.arange(4.).reshape(4, 1), "thousand": np.array([999.99999, 1.]), "hundredths": np.array([0.01, 0.02]),
    "million": np.array([999999.5, 123456.7]),
}
integers = {
    "line": np.arange(12).reshape(3, 4), "signs": np.array([[-1, 20], [300, -4000]]), "many": np.arange(100), "long": np.arange(1100).reshape(11, 100),
    "scalar": np.array(7),
}
cases["print"] = []


def text(array):
    body = np.array2string(array, precision=4, floatmode="maxprec_equal", separator=", ", prefix="Tensor(")
    if array.ndim == 0:
        body = body.strip()
    if array.dtype.kind == "f":
        body = re.sub(r"(\d)\.(?=e|,|\]|$)", r"\1.0", body, flags=re.M)
    return body


for kind, types, group in (("f", ("float32", "float64"), prints), ("i", ("int32", "int64"), integers)):
    for name, value in group.items():
        for dtype in types:
            array = value.astype(dtype)
            flat = [str(v) for v in array.astype(np.float64 if kind == "f" else np.int64).reshape(-1).tolist()]
            cases["print"].append({"name": name, "type": dtype, "shape": list(array.shape), "values": flat, "text": text(array)})
with open("indexing.json", "w") as file:
    json.dump(cases, file, separators=(",", ":"), allow_nan=False)
