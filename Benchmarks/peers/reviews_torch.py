#!/usr/bin/env python3
"""The models of `apus train reviews` (Sources/CLI/Train/ReviewModels.swift) in PyTorch, on the tokens that Apus wrote.

    reviews_torch.py TOKENS.npz --model lstm|conv --seed 1 [--epochs 5] [--threads 2]

Prints one line of JSON, as `apus train reviews --json` does."""
import argparse
import json
import resource
import time

begin = time.perf_counter()
import numpy as np
import torch
from torch import nn

EMBEDDING, HIDDEN, DROPOUT = 64, 64, 0.5


class ReviewLSTM(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, EMBEDDING)
        self.lstm = nn.LSTM(EMBEDDING, HIDDEN, batch_first=True)  # uniform within ± 1 / √hidden by default
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(HIDDEN, 1)
        nn.init.uniform_(self.embed.weight, -0.05, 0.05)

    def forward(self, ids):
        _, (hidden, _) = self.lstm(self.embed(ids))
        return self.head(self.dropout(hidden[-1])).squeeze(-1)


class ReviewConvolution(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, EMBEDDING)
        self.conv = nn.Conv1d(EMBEDDING, HIDDEN, 5)  # uniform within ± 1 / √fan in by default
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(HIDDEN, 1)
        nn.init.uniform_(self.embed.weight, -0.05, 0.05)

    def forward(self, ids):
        features = torch.relu(self.conv(self.embed(ids).transpose(1, 2)))
        return self.head(self.dropout(features.amax(2))).squeeze(-1)


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

    torch.set_num_threads(args.threads)
    data = np.load(args.tokens)
    x, y, x_test, y_test = (torch.from_numpy(data[name]) for name in ["x_train", "y_train", "x_test", "y_test"])
    torch.manual_seed(args.seed)
    vocabulary = int(max(x.max(), x_test.max())) + 1
    model = (ReviewLSTM if args.model == "lstm" else ReviewConvolution)(vocabulary)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate, eps=1e-7)
    loss_function = nn.BCEWithLogitsLoss()
    seconds = []
    for _ in range(args.epochs):
        model.train()
        started = time.perf_counter()
        for rows in torch.randperm(len(x)).split(args.batch_size):
            loss = loss_function(model(x[rows]), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - started)
    model.eval()
    with torch.no_grad():
        right = sum(((model(x_test[i:i + 512]) > 0) == (y_test[i:i + 512] > 0)).sum().item() for i in range(0, len(x_test), 512))
    print(json.dumps({
        "framework": "torch", "model": args.model, "seed": args.seed, "epoch_seconds": seconds, "train_seconds": sum(seconds),
        "total_seconds": time.perf_counter() - begin, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "test_accuracy": right / len(x_test)}))


main()
