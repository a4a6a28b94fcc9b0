#!/usr/bin/env python3
"""Writes preprocessing.safetensors: Keras's preprocessing layers on numbers, in float64 (floatx), with the TensorFlow backend.

    KERAS_BACKEND=tensorflow python make_preprocessing.py

Names: case/x, case/y and what else a case needs; case/dx is the gradient of (y * case/g).sum(). Quantiles are float32 in Keras."""
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file

keras.config.set_floatx("float64")
layers = keras.layers
random = np.random.default_rng(4)
out = {}


def keep(case, **values):
    for name, value in values.items():
        out[f"{case}/{name}"] = np.ascontiguousarray(np.asarray(value))


def with_gradient(case, layer, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        g = tf.constant(random.normal(size=y.shape), dtype=y.dtype)
        loss = tf.reduce_sum(y * g)
    keep(case, x=x, y=y, g=g, dx=tape.gradient(loss, x))


# Normalization
data = random.normal(2, 3, size=(40, 5, 3))
x = random.normal(size=(4, 5, 3))
for name, axis in [("last", -1), ("two", (1, 2)), ("none", None)]:
    for invert in [False, True]:
        layer = layers.Normalization(axis=axis, invert=invert)
        layer.adapt(data)
        case = f"normalization_{name}" + ("_invert" if invert else "")
        with_gradient(case, layer, x)
        keep(case, data=data, mean=layer.mean, variance=layer.variance)
layer = layers.Normalization(axis=-1)
layer.adapt([data[:7], data[7:30], data[30:]])
with_gradient("normalization_batches", layer, x)
keep("normalization_batches", data=data)
layer = layers.Normalization(mean=[1.0, -2.0, 0.5], variance=[4.0, 0.0, 2.0])
layer.build(x.shape)
with_gradient("normalization_given", layer, x)
with_gradient("rescaling", layers.Rescaling(1 / 127.5, offset=-1.0), x)
keep("rescaling_bytes", x=np.arange(12, dtype=np.uint8).reshape(3, 4), y=layers.Rescaling(1 / 255.0)(np.arange(12.0).reshape(3, 4)))

# Discretization
x = np.round(random.normal(size=(6, 4)), 2)
x[0, 0], x[1, 1] = 0.5, -1.0
for mode in ["int", "one_hot", "multi_hot", "count"]:
    keep(f"discretization_{mode}", x=x, y=np.asarray(layers.Discretization(bin_boundaries=[-1.0, 0.0, 0.5], output_mode=mode)(x), dtype=np.float64))
keep("discretization_column", x=x[:, :1], y=np.asarray(layers.Discretization(bin_boundaries=[-1.0, 0.0], output_mode="one_hot")(x[:, :1]), dtype=np.float64))
data = random.gamma(2, size=(350, 3))
keep("quantiles", data=data)
for name, bins, epsilon in [("coarse", 4, 0.1), ("fine", 10, 0.01)]:
    layer = layers.Discretization(num_bins=bins, epsilon=epsilon)
    layer.adapt(data)
    keep(f"quantiles_{name}", boundaries=np.array(layer.bin_boundaries))
    layer.adapt([data[:100], data[100:101], data[101:]])
    keep(f"quantiles_{name}_batches", boundaries=np.array(layer.bin_boundaries))
layer = layers.Discretization(num_bins=3)
layer.adapt(data[:2])
keep("quantiles_few", data=data[:2], boundaries=np.array(layer.bin_boundaries))

# CategoryEncoding
x = np.array([[3, 2, 2], [0, 1, 5], [4, 4, 4], [5, 0, 3]])
weights = random.uniform(size=x.shape)
for mode in ["one_hot", "multi_hot", "count"]:
    layer = layers.CategoryEncoding(num_tokens=6, output_mode=mode)
    keep(f"category_encoding_{mode}", x=x, y=layer(x))
    keep(f"category_encoding_{mode}_row", x=x[0], y=layer(x[0]))
    keep(f"category_encoding_{mode}_column", x=x[:, :1], y=layer(x[:, :1]))
layer = layers.CategoryEncoding(num_tokens=6, output_mode="count")
keep("category_encoding_weighted", x=x, weights=weights, y=layer(x, count_weights=weights))

# IntegerLookup
data = np.array([[12, 1138], [42, 12], [42, 5], [5, 42], [-3, 7], [7, 7], [0, 0]])
x = np.array([[42, 9, 12], [1138, 1000, 7], [0, -3, -8]])


def lookup(case, **arguments):
    layer = layers.IntegerLookup(**arguments)
    if "vocabulary" not in arguments:
        layer.adapt(data)
    keep(case, data=data, x=x, y=np.asarray(layer(x), dtype=np.float64), vocabulary=np.array(layer.get_vocabulary(), dtype=np.int64))


lookup("integer_lookup")
lookup("integer_lookup_mask", mask_token=0)
lookup("integer_lookup_max", max_tokens=4)
lookup("integer_lookup_buckets", num_oov_indices=3, mask_token=0)
lookup("integer_lookup_farmhash", num_oov_indices=3, oov_method="farmhash")
lookup("integer_lookup_siphash", num_oov_indices=3, oov_method="farmhash", salt=[133, 137])
lookup("integer_lookup_given", vocabulary=[1000, 9, 7])
for mode in ["one_hot", "multi_hot", "count", "tf_idf"]:
    lookup(f"integer_lookup_{mode}", output_mode=mode, num_oov_indices=2, mask_token=7)
lookup("integer_lookup_padded", output_mode="multi_hot", max_tokens=12, pad_to_max_tokens=True)
layer = layers.IntegerLookup(vocabulary=[12, 36, 1138], invert=True)
places = np.array([[1, 3], [2, 0], [9, 1]])
keep("integer_lookup_invert", x=places, y=layer(places))

# Spectrograms: short frames, so that the file stays small.
signal = random.normal(size=(2, 60, 2))
for mode in ["log", "magnitude", "psd", "real", "imag", "angle", "stft"]:
    with_gradient(f"stft_{mode}", layers.STFTSpectrogram(mode=mode, frame_length=12, frame_step=5, fft_length=16), signal)
for case, arguments in {
    "same": dict(padding="same"), "expand": dict(expand_dims=True), "hamming": dict(window="hamming", periodic=True, scaling="spectrum"),
    "plain": dict(window=None, scaling=None), "window": dict(window=np.linspace(0.2, 1, 12)), "step": dict(frame_step=None, fft_length=None),
}.items():
    arguments = dict(dict(mode="magnitude", frame_length=12, frame_step=5, fft_length=16), **arguments)
    with_gradient(f"stft_{case}", layers.STFTSpectrogram(**arguments), signal)
first = layers.STFTSpectrogram(mode="real", frame_length=12, frame_step=5, fft_length=16, data_format="channels_last", expand_dims=True)
# TensorFlow has no channels-first convolution here: the same numbers, transposed.
keep("stft_channels_first", x=signal.transpose(0, 2, 1), y=np.asarray(first(signal)).transpose(0, 3, 1, 2))
# Keras's mel spectrogram fails in float64: these are float32's values.
signal = random.normal(size=(2, 300)).astype(np.float32)
for case, arguments in {
    "default": {}, "magnitudes": dict(mag_exp=1.0, power_to_db=False), "hamming": dict(window="hamming", sequence_length=48, min_freq=100.0, max_freq=3000),
    "reference": dict(ref_power=0.1, top_db=20.0),
}.items():
    arguments = dict(dict(fft_length=64, sequence_stride=25, sampling_rate=8000, num_mel_bins=10, dtype="float32"), **arguments)
    with_gradient(f"mel_{case}", layers.MelSpectrogram(**arguments), signal)
keep("mel_one", x=signal[0], y=layers.MelSpectrogram(fft_length=64, sequence_stride=25, sampling_rate=8000, num_mel_bins=10, dtype="float32")(signal[0]))

pipeline = layers.Pipeline([layers.Rescaling(2.0, offset=1.0), layers.Discretization(bin_boundaries=[0.0, 2.0])])
x = random.normal(size=(3, 4))
keep("pipeline", x=x, y=np.asarray(pipeline(x), dtype=np.float64))

save_file(out, os.path.join(os.path.dirname(os.path.abspath(__file__)), "preprocessing.safetensors"))
print(len(out), "tensors")
