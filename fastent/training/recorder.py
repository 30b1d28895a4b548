"""What is kept of every epoch: errors, class radii and distances of each hidden layer, and which points were wrong."""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Recorder"]

Records = dict[str, NDArray[Any]]


class Recorder:
    """Records of S networks on n training points whose classes lie side by side, class c at bounds[c]..bounds[c + 1].

    `original` (n,) puts points back into the order in which the data set has them. Misclassified points are kept for every
    epoch as one bit each, so the stragglers of any epoch are those of the weights at that epoch, whatever came later.
    """

    def __init__(
        self, n_epochs: int, n_networks: int, n_layers: int, bounds: NDArray[np.int64], original: NDArray[np.int64]
    ) -> None:
        n_classes, n = len(bounds) - 1, int(bounds[-1])
        self._bounds, self._original = bounds, original
        self._counts = np.diff(bounds)
        self.n_recorded = 0
        self.train_error = np.empty((n_epochs, n_networks))
        self.radius = np.empty((n_epochs, n_networks, n_layers, n_classes))
        self.distance = np.empty((n_epochs, n_networks, n_layers, n_classes, n_classes))
        self.wrong = np.empty((n_epochs, n_networks, -(-n // 8)), np.uint8)
        self.test_epoch: list[int] = []
        self.test_error: list[NDArray[np.float64]] = []

    def record(self, hidden: list[Tensor], logits: Tensor) -> None:
        """Add the next epoch, from the forward pass that training makes anyway."""
        now = self.n_recorded
        wrong = _misclassified(logits, self._bounds, self._original)
        self.train_error[now] = wrong.mean(1)
        self.wrong[now] = np.packbits(wrong, axis=1)
        for layer, activations in enumerate(hidden):
            sums, directed = _unit_class_sums(activations, self._bounds)
            means = sums / self._counts[:, None]
            # Mean squared norm of the unit rows, 1 but for rows of zeros, less the squared norm of their mean.
            spread = directed / self._counts - (means * means).sum(2)
            self.radius[now, :, layer] = np.sqrt(np.maximum(spread, 0.0))
            for c in range(means.shape[1]):
                self.distance[now, :, layer, c] = np.sqrt(((means - means[:, c, None]) ** 2).sum(2))
        self.n_recorded = now + 1

    def record_test(self, epoch: int, logits: Tensor, codes: Tensor) -> None:
        self.test_epoch.append(epoch)
        self.test_error.append((logits.argmax(1) != codes).double().mean(1).cpu().numpy())

    def records(self) -> Records:
        """Return everything so far, seeds first (see Run for shapes)."""
        kept = slice(self.n_recorded)
        n_networks = self.train_error.shape[1]
        tests = np.array(self.test_error).reshape(len(self.test_error), n_networks)
        return {
            "epoch": np.arange(self.n_recorded),
            "train_error": self.train_error[kept].T.copy(),
            "test_epoch": np.array(self.test_epoch, np.int64),
            "test_error": tests.T.copy(),
            "radius": self.radius[kept].swapaxes(0, 1).copy(),
            "distance": self.distance[kept].swapaxes(0, 1).copy(),
            "wrong": self.wrong[kept].swapaxes(0, 1).copy(),
        }

    def restore(self, records: Records, test_every: int) -> None:
        """Take up where `records` end, without the extra test at what was the last epoch then."""
        n = self.n_recorded = len(records["epoch"])
        for name in ("train_error", "radius", "distance", "wrong"):
            getattr(self, name)[:n] = records[name].swapaxes(0, 1)
        regular = records["test_epoch"] % test_every == 0
        self.test_epoch = records["test_epoch"][regular].tolist()
        self.test_error = list(records["test_error"].T[regular])


# On the CPU a kernel reads activations and logits where they lie; elsewhere torch does the same on the device.


def _misclassified(logits: Tensor, bounds: NDArray[np.int64], original: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(S, n) bool in the data's order, from logits (S, C, n)."""
    if logits.device.type == "cpu":
        from fastent.kernels.recording import misclassified

        return np.asarray(misclassified(logits.numpy(), bounds, original))
    codes = torch.from_numpy(np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))).to(logits.device)
    wrong = np.empty((len(logits), len(original)), bool)
    wrong[:, original] = (logits.argmax(1) != codes).cpu().numpy()
    return wrong


def _unit_class_sums(activations: Tensor, bounds: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sums (S, C, h) of each class's unit vectors and how many are not zero (S, C), from activations (S, h, n)."""
    if activations.device.type == "cpu":
        from fastent.kernels.recording import unit_class_sums

        sums, directed = unit_class_sums(activations.numpy(), bounds)
        return sums, directed
    norms = torch.linalg.vector_norm(activations, dim=1, keepdim=True, dtype=torch.float64)
    unit = activations * torch.where(norms > 0, 1 / norms, 0.0)
    pieces = [slice(start, stop) for start, stop in pairwise(bounds)]
    class_sums = torch.stack([unit[:, :, piece].sum(2) for piece in pieces], dim=1)
    nonzero = torch.stack([(norms[:, 0, piece] > 0).sum(1) for piece in pieces], dim=1)
    return class_sums.cpu().numpy(), nonzero.cpu().numpy()
