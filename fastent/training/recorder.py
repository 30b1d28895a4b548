"""What is kept of every record: errors, class radii and distances of each hidden layer, and which points were wrong."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.training.ensemble import Observation
from fastent.training.points import Points

__all__ = ["Recorder"]

Records = dict[str, Any]  # arrays


class Recorder:
    """Records of S networks on `points`; errors, radii and distances are of the points that each network learns from.

    Misclassified points are kept for every record as one bit each, so the stragglers at any record are those of the weights at
    that moment, whatever came later. `epochs` are the epochs at which there will be a record.
    """

    def __init__(self, epochs: NDArray[Any], n_layers: int, points: Points) -> None:
        counts = points.counts()
        self._counts = np.where(counts > 0, counts, np.nan)  # a class of which a network is left nothing has no radius
        self._points = counts.sum(1)
        n_networks, n_classes = self._counts.shape
        n, n_epochs = len(points.original), len(epochs)
        self.epoch = epochs
        self.n_recorded = 0
        self.train_error = np.empty((n_epochs, n_networks))
        self.radius = np.empty((n_epochs, n_networks, n_layers, n_classes))
        self.distance = np.empty((n_epochs, n_networks, n_layers, n_classes, n_classes))
        self.wrong = np.empty((n_epochs, n_networks, -(-n // 8)), np.uint8)
        self.test_epoch: list[int] = []
        self.test_error: list[NDArray[np.float64]] = []

    def record(self, observed: Observation) -> None:
        """Add the next record, from a forward pass over all points: with full batches the one that training makes anyway."""
        now = self.n_recorded
        self.train_error[now] = observed.wrong.sum(1) / self._points
        self.wrong[now] = np.packbits(observed.wrong, axis=1)
        for layer, (sums, directed) in enumerate(zip(observed.sums, observed.directed, strict=True)):
            means = sums / self._counts[:, :, None]
            # Mean squared norm of the unit rows, 1 but for rows of zeros, less the squared norm of their mean.
            spread = directed / self._counts - (means * means).sum(2)
            self.radius[now, :, layer] = np.sqrt(np.maximum(spread, 0.0))
            for c in range(means.shape[1]):
                self.distance[now, :, layer, c] = np.sqrt(((means - means[:, c, None]) ** 2).sum(2))
        self.n_recorded = now + 1

    def record_test(self, epoch: int, errors: NDArray[np.float64]) -> None:
        self.test_epoch.append(epoch)
        self.test_error.append(errors)

    def records(self) -> Records:
        """Return everything so far, seeds first (see Run for shapes)."""
        kept = slice(self.n_recorded)
        n_networks = self.train_error.shape[1]
        tests = np.array(self.test_error).reshape(len(self.test_error), n_networks)
        return {
            "epoch": self.epoch[kept].copy(),
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
