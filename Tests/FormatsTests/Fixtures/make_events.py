"""Event files written by PyTorch's SummaryWriter and by TensorFlow's summary API, which EventFileTests.swift reads.

python make_events.py (torch, tensorflow and tensorboard are needed)
"""

import glob
import os
import shutil
import tempfile

import numpy as np


def moved(folder, name):
    (file,) = glob.glob(os.path.join(folder, "**", "events.out.tfevents*"), recursive=True)
    shutil.copy(file, os.path.join(os.path.dirname(os.path.abspath(__file__)), name))
    shutil.rmtree(folder)


def torch_events():
    from torch.utils.tensorboard import SummaryWriter

    folder = tempfile.mkdtemp()
    writer = SummaryWriter(folder)
    for step in range(5):
        writer.add_scalar("loss/train", 1 / (step + 1), step, walltime=1_700_000_000 + step)
    writer.add_scalar("odd", float("nan"), -3, walltime=1_700_000_010)
    writer.add_histogram("weights", np.arange(-10, 11) / 4, 2, bins="doane", walltime=1_700_000_011)
    writer.add_image("square", np.full((3, 4, 5), 0.5), 1, walltime=1_700_000_012)
    writer.add_text("notes", "**hello** wörld", 0, walltime=1_700_000_013)
    writer.add_audio("beep", np.sin(np.arange(100) / 5).astype(np.float32)[None], 2, sample_rate=8000, walltime=1_700_000_014)
    writer.close()
    moved(folder, "torch.tfevents")

    folder = tempfile.mkdtemp()
    writer = SummaryWriter(folder)
    writer.add_hparams({"rate": 0.1, "name": "adam", "nesterov": True}, {"accuracy": 0.75}, run_name=".")
    writer.close()
    files = glob.glob(os.path.join(folder, "events.out.tfevents*"))
    for file in files:
        if b"_hparams_" not in open(file, "rb").read():
            os.remove(file)
    moved(folder, "torch_hparams.tfevents")


def tensorflow_events():
    import tensorflow as tf

    folder = tempfile.mkdtemp()
    writer = tf.summary.create_file_writer(folder)
    with writer.as_default():
        for step in range(3):
            tf.summary.scalar("epoch_loss", 0.5 ** step, step=step)
        tf.summary.histogram("weights", tf.constant(np.arange(-10, 11) / 4), step=2, buckets=5)
        tf.summary.image("square", np.full((1, 4, 5, 3), 0.5), step=1)
        tf.summary.text("notes", "hello", step=0)
    writer.close()
    moved(folder, "tensorflow.tfevents")


if __name__ == "__main__":
    torch_events()
    tensorflow_events()
