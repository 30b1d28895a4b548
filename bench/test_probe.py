"""The cost of recording every epoch: training with a probe of a tenth of the points, compared with training without it.

The target is 5 %, with the geometry of two layers. Most of it is the forward pass, which any evaluation of a tenth of the
points needs: about a third of the work of a training step, so 3 %. On a busy machine two trainings differ by more than that. Therefore
`cpu_share` is the processor time of the records divided by that of the training between them in one run, as a median of five.
"""

import statistics
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fastent as fe
from bench.scale import scaled

POINTS, EPOCHS = scaled(4_000, 1000), 2
PROBED = POINTS // 10


class CNN(nn.Sequential):
    layers = ("4", "8")

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
        )  # fmt: skip


class Encoder(nn.Module):
    """A transformer over 28 tokens, the rows of an image."""

    layers = ("encoder.layers.0", "encoder.layers.1")

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(28, 64)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, dropout=0.1, batch_first=True), 2)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.encoder(self.embed(x[:, 0])).mean(1))


def points(n):
    """Images with a blob whose position depends on the class; their content does not affect the cost of a step."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, n)
    pictures = rng.standard_normal((n, 1, 28, 28), dtype=np.float32)
    for c in range(10):
        pictures[labels == c, :, 2 * c : 2 * c + 6] += 1
    return TensorDataset(torch.from_numpy(pictures), torch.from_numpy(labels))


def train(kind, data, probed, **options):
    """Train with a probe of some points or none; return the processor time of the records over that of all else."""
    torch.manual_seed(0)
    model = kind()
    rule = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    probe = None if probed is None else fe.Probe(model, DataLoader(probed, 256), kind.layers, **options)
    started, looking = time.process_time(), 0.0
    for epoch in range(EPOCHS):
        for x, y in DataLoader(data, 128, shuffle=True):
            rule.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            rule.step()
        if probe is not None:
            before = time.process_time()
            probe(epoch + 1)
            looking += time.process_time() - before
    return looking / (time.process_time() - started - looking)


def evaluate(kind, data, probed):
    """The least one could evaluate at every epoch: the error on the same points."""
    torch.manual_seed(0)
    model = kind()
    rule = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(EPOCHS):
        model.train()
        for x, y in DataLoader(data, 128, shuffle=True):
            rule.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            rule.step()
        model.eval()
        with torch.no_grad():
            sum(int((model(x).argmax(1) != y).sum()) for x, y in DataLoader(probed, 256))


@pytest.mark.parametrize("metrics", [("geometry",), ("geometry", "mixing", "margins")], ids=["geometry", "all"])
@pytest.mark.parametrize("kind", [CNN, Encoder], ids=["cnn", "encoder"])
def test_probe_at_every_epoch(side_by_side, kind, metrics):
    data, probed = points(POINTS), points(PROBED)
    train(kind, torch.utils.data.Subset(data, range(256)), probed, metrics=metrics)  # kernels compile
    ratios = side_by_side(
        lambda: train(kind, data, probed, metrics=metrics),
        {"without a probe": lambda: train(kind, data, None), "error on the same points": lambda: evaluate(kind, data, probed)},
        rounds=3,
        cpu_share=(share := statistics.median(train(kind, data, probed, metrics=metrics) for _ in range(5))),
        job=f"{EPOCHS} epochs of {POINTS:,}, {' and '.join(metrics)} of 2 layers on {PROBED:,} each, {kind.__name__}",
    )
    wall = 1 / ratios["without a probe"] - 1
    print(f"looks take {share:.1%} of the processor time of training; by the clock {wall:.1%}")
