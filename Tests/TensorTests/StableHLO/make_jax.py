"""Writes JAX/*.mlir, programs as JAX lowers them, and JAX/values.jsonl with operands and JAX's results."""
import json
import os

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_platforms", "cpu")
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "JAX")
NAMES = {"bool": "bool", "int32": "int32", "int64": "int64", "float32": "float32", "bfloat16": "bfloat16", "uint8": "uint8"}
rng = np.random.default_rng(7)


def normal(*shape):
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def mlp(x, w1, b1, w2, labels):
    def loss(w1, b1, w2):
        h = jax.nn.gelu(x @ w1 + b1, approximate=False)
        logits = jax.nn.log_softmax(h @ w2)
        return -jnp.mean(jnp.take_along_axis(logits, labels[:, None], axis=1))

    return jax.value_and_grad(loss, argnums=(0, 1, 2))(w1, b1, w2)


def cnn(x, w, v):
    def loss(w, v):
        h = jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        h = jax.lax.reduce_window(jax.nn.relu(h), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        h = jax.lax.conv_general_dilated(
            h, v, (2, 2), [(1, 1), (1, 1)], rhs_dilation=(1, 1), dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=2)
        return jnp.sum(jnp.tanh(h.mean(axis=(1, 2))))

    return jax.value_and_grad(loss, argnums=(0, 1))(w, v)


def attention(q, k, v):
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1])
    mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    weights = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), axis=-1)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v)


def lstm(x, w, u, b):
    def step(state, x):
        h, c = state
        i, f, g, o = jnp.split(x @ w + h @ u + b, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros((x.shape[1], u.shape[0]))
    return jax.lax.scan(step, (zero, zero), x)


def order(x):
    values, places = jax.lax.top_k(x, 3)
    return jnp.sort(x, axis=0), jnp.argsort(x, axis=1), jnp.argmax(x, axis=1), jnp.argmin(x, axis=0), values, places


def indexing(x, i):
    return x[i], x[:, i[:2]], x.at[i].add(1.0), x.at[i, 1].set(5.0), jax.lax.dynamic_slice(x, (i[0], 1), (2, 2)), jnp.clip(x, -0.5, 0.5)


def control(x, n):
    y = jax.lax.fori_loop(0, n, lambda i, y: y * 0.5 + i, x)
    return jax.lax.cond(y.sum() > 3, lambda y: jnp.cumsum(y), lambda y: -y, y)


PROGRAMS = {
    "mlp": (mlp, normal(4, 5), normal(5, 6), normal(6), normal(6, 3), jnp.asarray([0, 2, 1, 1])),
    "cnn": (cnn, normal(2, 6, 6, 3), normal(3, 3, 3, 4), normal(3, 3, 2, 6)),
    "attention": (attention, normal(2, 4, 2, 3), normal(2, 4, 2, 3), normal(2, 4, 2, 5)),
    "lstm": (lstm, normal(5, 2, 3), normal(3, 8), normal(2, 8), normal(8)),
    "order": (order, jnp.asarray([[3.0, -1.0, jnp.nan, 2.0], [0.5, -0.25, 0.0, jnp.inf], [2.0, 2.0, -jnp.inf, 7.0]])),
    "indexing": (indexing, normal(4, 3), jnp.asarray([2, -1, 0])),
    "control": (control, normal(5), jnp.asarray(3)),
}


def place(x):
    x = np.asarray(x)
    return {"type": NAMES[str(x.dtype)], "shape": list(x.shape), "bytes": x.tobytes().hex()}


with open(os.path.join(FOLDER, "values.jsonl"), "w") as values:
    for name, (f, *arguments) in PROGRAMS.items():
        with open(os.path.join(FOLDER, name + ".mlir"), "w") as file:
            file.write(jax.jit(f).lower(*arguments).as_text())
        results = jax.tree.leaves(jax.jit(f)(*arguments))
        line = {"name": name, "inputs": [place(x) for x in arguments], "outputs": [place(x) for x in results]}
        values.write(json.dumps(line) + "\n")
