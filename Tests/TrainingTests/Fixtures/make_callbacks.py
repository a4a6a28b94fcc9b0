"""What Keras's callbacks do with scripted values: writes callbacks.json beside this file.

KERAS_BACKEND=torch python make_callbacks.py
"""

import json
import os
import tempfile

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(0)

noisy = (np.exp(-np.arange(24) / 6) + rng.uniform(-0.08, 0.08, 24)).round(4).tolist()
SEQUENCES = {
    "falls and rises": [1.0, 0.8, 0.7, 0.71, 0.705, 0.69, 0.72, 0.73, 0.74, 0.6, 0.61, 0.62, 0.63, 0.64],
    "constant": [0.5] * 12,
    "noisy": noisy,
    "rises at once": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
    "nan": [float("nan"), 0.9, float("nan"), 0.8, 0.85, 0.86, 0.87, 0.88],
    "equal and better": [1, 1, 0.9999, 0.9999, 0.99985, 0.5, 0.5, 0.5, 0.4999, 0.4, 0.4, 0.4],
}
EARLY = [
    {}, {"patience": 1}, {"patience": 2}, {"patience": 3, "min_delta": 0.02}, {"patience": 2, "baseline": 0.65},
    {"patience": 2, "baseline": 0.05}, {"patience": 2, "start_from_epoch": 3}, {"patience": 2, "mode": "max"},
    {"patience": 2, "restore_best_weights": True}, {"patience": 1, "min_delta": -0.1, "mode": "max"},
]
PLATEAU = [
    {"patience": 1, "factor": 0.5}, {"patience": 2}, {"patience": 1, "cooldown": 2, "factor": 0.3},
    {"patience": 2, "min_delta": 0.05, "min_lr": 0.004}, {"patience": 1, "mode": "max", "factor": 0.9},
    {"patience": 0, "factor": 0.5, "min_delta": 0},
]


def model():
    m = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    m.compile(optimizer=keras.optimizers.SGD(learning_rate=0.1), loss="mse")
    return m


def number(x):
    return None if x is None else float(x)


def early(values, arguments):
    m = model()
    callback = keras.callbacks.EarlyStopping(**arguments)
    callback.set_model(m)
    m.stop_training = False
    callback.on_train_begin()
    rows = []
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {"loss": 1.0, "val_loss": value})
        rows.append([callback.wait, number(callback.best), int(m.stop_training), callback.stopped_epoch, callback.best_epoch])
        if m.stop_training:
            break
    return rows


def plateau(values, arguments):
    m = model()
    callback = keras.callbacks.ReduceLROnPlateau(**arguments)
    callback.set_model(m)
    callback.on_train_begin()
    rows = []
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {"loss": 1.0, "val_loss": value})
        rows.append([callback.wait, number(callback.best), callback.cooldown_counter, float(m.optimizer.learning_rate.numpy())])
    return rows


def csv(rows, **arguments):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "log.csv")
        for part in rows:
            callback = keras.callbacks.CSVLogger(path, **arguments)
            callback.set_model(model())
            callback.on_train_begin()
            for epoch, logs in part:
                callback.on_epoch_end(epoch, logs)
            callback.on_train_end()
        with open(path, "rb") as file:
            return file.read().decode()


def clean(value):
    """JSON has no NaN."""
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [clean(x) for x in value]
    if isinstance(value, dict):
        return {k: clean(v) for k, v in value.items()}
    return value


def paths():
    logs = {"val_loss": 0.123456, "accuracy": 0.5}
    result = {}
    for pattern in ["a/{epoch:02d}-{val_loss:.2f}.keras", "{epoch}-{accuracy:.3e}.keras", "m-{epoch:03d}.keras"]:
        callback = keras.callbacks.ModelCheckpoint(pattern)
        result[pattern] = callback._get_file_path(epoch=6, batch=None, logs=logs)
    return result


ROWS = [
    [(0, {"loss": 0.25, "accuracy": 0.1, "learning_rate": 1e-05}), (1, {"loss": float("nan"), "accuracy": 1.0})],
    [(2, {"loss": 123456789012345680.0, "accuracy": 0.30000001192092896, "val_loss": 3e-7})],
]
result = {
    "sequences": SEQUENCES,
    "early stopping": [
        {"values": name, "arguments": a, "rows": early(values, a)} for name, values in SEQUENCES.items() for a in EARLY
    ],
    "plateau": [
        {"values": name, "arguments": a, "rows": plateau(values, a)} for name, values in SEQUENCES.items() for a in PLATEAU
    ],
    "csv": {
        "plain": csv(ROWS[:1]),
        "validated": csv([[(0, {"loss": 0.5, "val_loss": 0.75}), (1, {"loss": 0.25})]], separator=";"),
        "appended": csv(ROWS, append=True),
    },
    "paths": paths(),
}
with open(os.path.join(HERE, "callbacks.json"), "w") as file:
    json.dump(clean(result), file, separators=(",", ":"))
    file.write("\n")
