"""The data of the neighbour benchmarks: layers of a small network on MNIST, before and after training, and harder data.

The network is 784-512-512-128-10 with ReLU, trained for 3 epochs with Adam (learning rate 0.001, batches of 128) on the 60,000
training images. For more than 70,000 points, the images are shifted, rotated and made noisy before the network sees them.
"""

import os
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bench.scale import scaled
from fastent.data.datasets import read_dataset

WIDTHS = (784, 512, 512, 128, 10)
BLOCK = 10_000


class Network(NamedTuple):
    images: torch.Tensor
    labels: torch.Tensor
    untrained: torch.nn.Sequential
    trained: torch.nn.Sequential


@cache
def network() -> Network:
    """Takes 15 seconds, once per run."""
    if "FASTENT_DATA" not in os.environ:
        pytest.skip("set FASTENT_DATA to a folder with mnist.npz")
    raw = read_dataset("mnist")
    images = torch.from_numpy(np.concatenate([raw.x_train, raw.x_test]).reshape(-1, WIDTHS[0]).astype(np.float32) / 255)
    labels = torch.from_numpy(np.concatenate([raw.y_train, raw.y_test]).astype(np.int64))
    torch.manual_seed(0)
    untrained, trained = _layers(), _layers()
    trained.load_state_dict(untrained.state_dict())
    optimizer = torch.optim.Adam(trained.parameters(), lr=1e-3)
    for _ in range(3):
        for batch in torch.randperm(scaled(len(raw.x_train))).split(128):
            optimizer.zero_grad()
            F.cross_entropy(trained(images[batch]), labels[batch]).backward()
            optimizer.step()
    return Network(images, labels, untrained, trained)


def activations(state: str, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """The 70,000 images after hidden layer 1, 2 or 3 of the "trained" or "untrained" network (0: pixels), and their labels."""
    net = network()
    n = scaled(len(net.images))
    return _after(getattr(net, state), net.images[:n], layer).numpy(), net.labels[:n].numpy()


def augmented(state: str, n: int, layer: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """n images, each an original shifted by up to 2 pixels, rotated by up to 15 degrees and made noisy; and their labels."""
    X, y = np.empty((n, WIDTHS[layer]), np.float32), np.empty(n, np.int64)
    for begin, rows, labels in augmented_blocks(state, n, layer):
        X[begin : begin + len(rows)], y[begin : begin + len(rows)] = rows, labels
    return X, y


def augmented_blocks(state: str, n: int, layer: int = 3) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The same in blocks: the first row number, the rows and their labels."""
    net = network()
    generator = torch.Generator().manual_seed(1)
    chosen = torch.randint(len(net.images), (n,), generator=generator)
    for begin in range(0, n, BLOCK):
        rows = chosen[begin : begin + BLOCK]
        angle = (torch.rand(len(rows), generator=generator) - 0.5) * np.pi / 6
        shift = (torch.rand(len(rows), 2, generator=generator) - 0.5) * 8 / 28
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).reshape(-1, 2, 2)
        grid = F.affine_grid(torch.cat([turn, shift[:, :, None]], 2), [len(rows), 1, 28, 28], align_corners=False)
        images = F.grid_sample(net.images[rows].reshape(-1, 1, 28, 28), grid, align_corners=False).reshape(len(rows), -1)
        images += 0.05 * torch.randn(images.shape, generator=generator)
        yield begin, _after(getattr(net, state), images, layer).numpy(), net.labels[rows].numpy()


def gaussian(n: int, d: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Isotropic and without classes, so that nothing can be skipped."""
    generator = np.random.default_rng(0)
    return generator.standard_normal((n, d), dtype=np.float32), generator.integers(0, 10, n)


def clustered(n: int, d: int, clusters: int = 100) -> np.ndarray:
    """Isotropic clusters whose centres lie as far apart as a cluster is wide, in float32."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((clusters, d), dtype=np.float32)
    return centres[generator.integers(0, clusters, n)] + generator.standard_normal((n, d), dtype=np.float32)


def cifar10(n: int) -> np.ndarray:
    """n of the 12,000 pictures in cifar10-12k.npz as rows of 3,072 pixels from 0 to 1, in float32."""
    path = Path(os.environ.get("FASTENT_DATA", "")) / "cifar10-12k.npz"
    if not path.is_file():
        pytest.skip("set FASTENT_DATA to a folder with cifar10-12k.npz")
    raw = read_dataset(path)
    pictures = np.concatenate([raw.x_train, raw.x_test])[:n]
    return pictures.reshape(len(pictures), -1).astype(np.float32) / 255


def _layers() -> torch.nn.Sequential:
    parts: list[Any] = []
    for wide, narrow in pairwise(WIDTHS[:-1]):
        parts += [torch.nn.Linear(wide, narrow), torch.nn.ReLU()]
    return torch.nn.Sequential(*parts, torch.nn.Linear(*WIDTHS[-2:]))


@torch.no_grad()
def _after(layers: torch.nn.Sequential, images: torch.Tensor, layer: int) -> torch.Tensor:
    return layers[: 2 * layer](images)
