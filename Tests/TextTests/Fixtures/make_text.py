#!/usr/bin/env python3
"""Writes text.json: the buckets, vocabularies and encodings of Keras's text layers, with the TensorFlow backend.

    KERAS_BACKEND=tensorflow python make_text.py
"""
import json
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import tensorflow as tf

layers = keras.layers
here = os.path.dirname(os.path.abspath(__file__))
out = {}


def values(x):
    x = np.asarray(x)
    return {"shape": list(x.shape), "values": [float(v) for v in x.reshape(-1)]}


# Hashes of all lengths that have a branch of their own.
letters = "abcdefghijklmnopqrstuvwxyz0123456789" * 8
words = [letters[i:i + n] for i, n in enumerate([0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 128, 129, 200])] + ["é漢字", "e\u0301", "[UNK]"]
out["words"] = words
out["fingerprints"] = [str(v) for v in tf.strings.to_hash_bucket_fast(words, 1 << 62).numpy()]
out["siphashes"] = [str(v) for v in tf.strings.to_hash_bucket_strong(words, 1 << 62, key=[133, 137]).numpy()]
rows = [["A", "B"], ["C", ""], ["A", "long token of the text"]]
numbers = [[5, -7], [0, 1138]]
out["rows"], out["numbers"] = rows, numbers
out["hashing"] = {
    "int": values(layers.Hashing(num_bins=7)(rows)),
    "mask": values(layers.Hashing(num_bins=4, mask_value="")(rows)),
    "salt": values(layers.Hashing(num_bins=7, salt=[133, 137])(rows)),
    "integers": values(layers.Hashing(num_bins=7)(np.array(numbers))),
    "floats": values(layers.Hashing(num_bins=7)(np.array([[1.7, -2.9], [3.0, 0.4]]))),
    "one_hot": values(layers.Hashing(num_bins=3, output_mode="one_hot")(rows)),
    "multi_hot": values(layers.Hashing(num_bins=5, output_mode="multi_hot")(rows)),
    "count": values(layers.Hashing(num_bins=3, output_mode="count")(rows)),
}
first, second, third = ["red", "green", "", "blue"], ["x", "y", "z", "a much longer text than eight bytes"], [1, -2, 3, 1 << 40]
out["crossed"] = [first, second, third]
out["hashed_crossing"] = {
    "strings": values(layers.HashedCrossing(num_bins=11)((np.array(first), np.array(second)))),
    "mixed": values(layers.HashedCrossing(num_bins=1000)((np.array(first), np.array(third)))),
    "three": values(layers.HashedCrossing(num_bins=1000)((np.array(first), np.array(third), np.array(second)))),
    "one_hot": values(layers.HashedCrossing(num_bins=5, output_mode="one_hot")((np.array(first), np.array(second)))),
}

# StringLookup
documents = [["b", "a", "b"], ["c", "b", "é"], ["a", "Z", "[UNK]"], ["", "c", "zz"]]
asked = [["b", "é", "unknown"], ["", "c", "[UNK]"], ["Z", "another", "a"]]
out["documents"], out["asked"] = documents, asked
out["string_lookup"] = {}
for case, arguments in {
    "plain": {}, "mask": dict(mask_token=""), "max": dict(max_tokens=4), "buckets": dict(num_oov_indices=3, mask_token=""),
    "salt": dict(num_oov_indices=3, salt=[5, 6]), "one_hot": dict(output_mode="one_hot"),
    "multi_hot": dict(output_mode="multi_hot", mask_token=""), "count": dict(output_mode="count", num_oov_indices=2),
    "tf_idf": dict(output_mode="tf_idf", mask_token=""), "padded": dict(output_mode="count", max_tokens=12, pad_to_max_tokens=True),
    "given": dict(vocabulary=["Z", "b"], mask_token=""),
    "weights": dict(vocabulary=["Z", "b", "c"], idf_weights=[0.5, 0.25, 2.0], output_mode="tf_idf"),
}.items():
    layer = layers.StringLookup(**arguments)
    if "vocabulary" not in arguments:
        layer.adapt(np.array(documents))
    out["string_lookup"][case] = {"vocabulary": layer.get_vocabulary(), **values(layer(np.array(asked)))}
layer = layers.StringLookup(vocabulary=["a", "b"], invert=True)
out["inverted"] = [v.decode() for v in layer(np.array([1, 0, 2, 7])).numpy()]

# TextVectorization
texts = [
    "The film is GOOD, very good!", "  a  tab\tand\na line\u00a0stay ", "l'été -- isn't it?", "", "the THE the film", "漢字 and Ünder_scores",
    "good film", "...", "(very) [good] {film} ~ `x` \\ ^", "cafe\u0301 café",
]
asked = ["The good, the unknown and the film.", "", "very very very very VERY good film isnt it", "Ünder_scores café"]
out["texts"], out["asked_texts"] = texts, asked
out["text_vectorization"] = {}
for case, arguments in {
    "plain": {}, "max": dict(max_tokens=6), "length": dict(output_sequence_length=4), "long": dict(output_sequence_length=12),
    "lower": dict(standardize="lower"), "strip": dict(standardize="strip_punctuation"), "as_is": dict(standardize=None),
    "character": dict(split="character"), "whole": dict(split=None), "bigrams": dict(ngrams=2), "two_and_three": dict(ngrams=(2, 3)),
    "multi_hot": dict(output_mode="multi_hot"), "count": dict(output_mode="count", max_tokens=8),
    "padded": dict(output_mode="count", max_tokens=60, pad_to_max_tokens=True), "tf_idf": dict(output_mode="tf_idf", max_tokens=10),
    "tf_idf_bigrams": dict(output_mode="tf_idf", ngrams=2, max_tokens=12),
}.items():
    layer = layers.TextVectorization(**arguments)
    layer.adapt(texts)
    result = layer(np.array(asked).reshape(-1, 1) if arguments.get("split", "") is None else asked)
    out["text_vectorization"][case] = {"vocabulary": layer.get_vocabulary(), **values(result)}

with open(os.path.join(here, "text.json"), "w") as file:
    json.dump(out, file, ensure_ascii=False, indent=0)
    file.write("\n")
