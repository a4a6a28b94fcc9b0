"""Makes models.safetensors beside this script with PyTorch: `python make_models.py` (torch, safetensors).

Small configurations in float64, their parameters and inputs made by a formula that the tests repeat (`filled`). Keys: MODEL/y
output, MODEL/loss, MODEL/tokens; MODEL/g.NAME of each gradient its product with `filled` numbers and its norm; MODEL/b.NAME
running statistics afterwards.
"""
import math
import os
import torch
import torch.nn.functional as F
from torch import nn
from safetensors.torch import save_file

torch.set_default_dtype(torch.float64)
tensors = {}


def filled(number, *shape):
    """Numbers in [-1, 1) that look random, from their indices."""
    mask = 0xFFFFFFFF
    values = []
    for j in range(math.prod(shape)):
        h = ((j + 1) * 2654435761 + number * 40503) & mask
        h = ((h ^ (h >> 15)) * 2246822519) & mask
        values.append((h ^ (h >> 13)) / 2**31 - 1)
    return torch.tensor(values).reshape(shape)


def ids(number, high, *shape):
    return ((filled(number, *shape) + 1) / 2 * high).long()


def initialize(model):
    for i, (name, p) in enumerate(model.named_parameters()):
        values = filled(i, *p.shape)
        with torch.no_grad():
            if p.dim() > 1:  # as wide as keeps variances
                p.copy_(values * math.sqrt(3 / math.prod(p.shape[1:])))
            else:
                p.copy_((1 if name.endswith("weight") else 0) + 0.2 * values)
    return model


def record(name, model, y, loss):
    loss.backward()
    tensors[f"{name}/y"], tensors[f"{name}/loss"] = y.detach(), loss.detach()
    for i, (key, p) in enumerate(model.named_parameters()):
        tensors[f"{name}/g.{key}"] = torch.stack([(p.grad * filled(1000 + i, *p.shape)).sum(), p.grad.norm()])
    for key, value in model.named_buffers():
        tensors[f"{name}/b.{key}"] = value.clone()


class BasicBlock(nn.Module):
    def __init__(self, a, b, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b)
        self.conv2, self.bn2 = nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b)
        if a != b or stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNet18(nn.Module):
    """torchvision.models.resnet18, with another width."""

    def __init__(self, classes, width):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        a = width
        for i in range(4):
            b = width << i
            setattr(self, f"layer{i + 1}", nn.Sequential(BasicBlock(a, b, 1 if i == 0 else 2), BasicBlock(b, b, 1)))
            a = b
        self.fc = nn.Linear(a, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x, causal):
        b, s, d = x.shape
        q, k, v = self.qkv(x).view(b, s, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).reshape(b, s, d))


class Block(nn.Module):
    def __init__(self, dim, heads, pre):
        super().__init__()
        self.pre, self.attention = pre, Attention(dim, heads)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def mlp(self, x):
        return self.down(F.gelu(self.up(x), approximate="tanh" if self.pre else "none"))

    def forward(self, x):
        if self.pre:
            x = x + self.attention(self.norm1(x), True)
            return x + self.mlp(self.norm2(x))
        x = self.norm1(x + self.attention(x, False))
        return self.norm2(x + self.mlp(x))


class BERT(nn.Module):
    def __init__(self, vocabulary, positions, dim, heads, layers):
        super().__init__()
        self.word, self.position = nn.Embedding(vocabulary, dim), nn.Embedding(positions, dim)
        self.segment, self.norm = nn.Embedding(2, dim), nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(Block(dim, heads, False) for _ in range(layers))

    def forward(self, ids):
        x = self.norm(self.word(ids) + self.position.weight[:ids.shape[1]] + self.segment.weight[0])
        for block in self.blocks:
            x = block(x)
        return x


class GPT2(nn.Module):
    def __init__(self, vocabulary, positions, dim, heads, layers):
        super().__init__()
        self.word, self.position = nn.Embedding(vocabulary, dim), nn.Embedding(positions, dim)
        self.blocks = nn.ModuleList(Block(dim, heads, True) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, ids):
        x = self.word(ids) + self.position.weight[:ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.word.weight)


class LSTMClassifier(nn.Module):
    def __init__(self, vocabulary, embed, hidden, classes):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, embed)
        self.lstm = nn.LSTM(embed, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, ids):
        return self.head(self.lstm(self.embed(ids))[0][:, -1])


model = initialize(ResNet18(10, 8))
y = model(filled(500, 2, 3, 64, 64))
record("resnet18", model, y, F.cross_entropy(y, ids(501, 10, 2)))
with torch.no_grad():  # with the statistics of the step before
    tensors["resnet18/inference"] = model.eval()(filled(502, 1, 3, 32, 32))

model = initialize(BERT(40, 16, 24, 3, 2))
y = model(ids(500, 40, 2, 9))
record("bert", model, y, (y * filled(501, *y.shape)).sum())

model = initialize(GPT2(50, 16, 24, 3, 2))
tokens = ids(500, 50, 2, 11)
y = model(tokens[:, :-1])
record("gpt2", model, y, F.cross_entropy(y.flatten(0, -2), tokens[:, 1:].flatten()))
sequence = tokens[:, :4]
for _ in range(7):
    sequence = torch.cat([sequence, model(sequence)[:, -1:].argmax(-1)], 1)
tensors["gpt2/tokens"] = sequence
tensors["gpt2/last"] = model(sequence[:, :-1])[:, -1:].detach()

model = initialize(LSTMClassifier(30, 5, 6, 3))
y = model(ids(500, 30, 4, 7))
record("lstm", model, y, F.cross_entropy(y, ids(501, 3, 4)))

save_file({key: value.contiguous() for key, value in tensors.items()},
          os.path.join(os.path.dirname(os.path.abspath(__file__)), "models.safetensors"))
