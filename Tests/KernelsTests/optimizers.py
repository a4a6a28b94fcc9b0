"""Prints the expected values of FusedTests.optimizers."""
import torch

def train(make):
    p = torch.tensor([1, -2, 0.5], dtype=torch.float64, requires_grad=True)
    optimizer = make([p])
    for step in range(1, 4):
        p.grad = p.detach() + 0.1 * step
        optimizer.step()
    return p.tolist()

O = torch.optim
for make in (lambda p: O.SGD(p, 0.1, momentum=0.9, dampening=0.1, weight_decay=0.01),
             lambda p: O.Adam(p, 0.01, weight_decay=0.01), lambda p: O.AdamW(p, 0.01, weight_decay=0.01),
             lambda p: O.RMSprop(p, 0.01, alpha=0.99, momentum=0.9)):
    print("    %s," % train(make))
