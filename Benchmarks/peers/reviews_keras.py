#!/usr/bin/env python3
"""The models of `apus train reviews` (Sources/CLI/Train/ReviewModels.swift) in Keras on TensorFlow, on the tokens that Apus wrote.

    reviews_keras.py TOKENS.npz --model lstm|conv --seed 1 [--epochs 5] [--threads 2]

Prints one line of JSON, as `apus train reviews --json` does."""
import argparse
import json
import os
import resource
import time

begin = time.perf_counter()
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import tensorflow as tf

layers = keras.layers
EMBEDDING, HIDDEN, DROPOUT = 64, 64, 0.5


def uniform(bound):
    return keras.initializers.RandomUniform(-bound, bound)


def review_model(name, vocabulary, length):
    features = [layers.Input((length,), dtype="int32"), layers.Embedding(vocabulary, EMBEDDING, embeddings_initializer=uniform(0.05))]
    bound = HIDDEN ** -0.5
    if name == "lstm":
        # One bias where PyTorch and Apus have two; the gates, and where dropout is, are the same.
        features.append(layers.LSTM(
            HIDDEN, kernel_initializer=uniform(bound), recurrent_initializer=uniform(bound), bias_initializer=uniform(bound),
            unit_forget_bias=False))
    else:
        inner = (EMBEDDING * 5) ** -0.5
        features += [layers.Conv1D(HIDDEN, 5, activation="relu", kernel_initializer=uniform(inner), bias_initializer=uniform(inner)),
                     layers.GlobalMaxPooling1D()]
    return keras.Sequential(features + [layers.Dropout(DROPOUT), layers.Dense(1, kernel_initializer=uniform(bound), bias_initializer=uniform(bound))])


class EpochTimes(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.started)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("tokens")
    args.add_argument("--model", choices=["lstm", "conv"], default="lstm")
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--epochs", type=int, default=5)
    args.add_argument("--batch-size", type=int, default=64)
    args.add_argument("--learning-rate", type=float, default=1e-3)
    args.add_argument("--threads", type=int, default=2)
    args = args.parse_args()

    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    data = np.load(args.tokens)
    x, y, x_test, y_test = (data[name] for name in ["x_train", "y_train", "x_test", "y_test"])
    x, x_test = x.astype(np.int32), x_test.astype(np.int32)
    keras.utils.set_random_seed(args.seed)
    model = review_model(args.model, int(max(x.max(), x_test.max())) + 1, x.shape[1])
    model.compile(
        optimizer=keras.optimizers.Adam(args.learning_rate, epsilon=1e-7), loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")])
    times = EpochTimes()
    model.fit(x, y, batch_size=args.batch_size, epochs=args.epochs, verbose=0, callbacks=[times])
    accuracy = model.evaluate(x_test, y_test, batch_size=512, verbose=0, return_dict=True)["accuracy"]
    print(json.dumps({
        "framework": "keras", "model": args.model, "seed": args.seed, "epoch_seconds": times.seconds, "train_seconds": sum(times.seconds),
        "total_seconds": time.perf_counter() - begin, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "test_accuracy": float(accuracy)}))


main()
