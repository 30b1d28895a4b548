"""Records of networks on rows in memory: errors, radii and distances of the classes, and the misclassified points."""

from typing import Any

import numpy as np

from fastent.activations.history import Recording
from fastent.training.ensemble import Observation
from fastent.training.points import Points
from fastent.training.run import Run

__all__ = ["Recorder"]


class Recorder:
    """Records of S networks on `points`; errors, radii and distances are of the points that each network learns from.

    Misclassified points are kept for every record as one bit each, so the stragglers at any record are those of the weights at
    that moment, whatever came later. There is room for so many records and tests.
    """

    def __init__(self, points: Points, n_records: int, n_tests: int) -> None:
        counts = points.counts()
        self._counts = np.where(counts > 0, counts, np.nan)  # a class of which a network is left nothing has no radius
        self._points = counts.sum(1)
        self.records, self.tests = Recording(n_records), Recording(n_tests)

    def record(self, update: int, observed: Observation) -> None:
        """Add the next record, from a forward pass over all points: with full batches the one that training makes anyway."""
        n_networks, n_classes = self._counts.shape
        radius = np.empty((n_networks, len(observed.sums), n_classes))
        distance = np.empty((*radius.shape, n_classes))
        for layer, (sums, directed) in enumerate(zip(observed.sums, observed.directed, strict=True)):
            means = sums / self._counts[:, :, None]
            # Mean squared norm of the unit rows, 1 but for rows of zeros, less the squared norm of their mean.
            spread = directed / self._counts - (means * means).sum(2)
            radius[:, layer] = np.sqrt(np.maximum(spread, 0.0))
            for c in range(n_classes):
                distance[:, layer, c] = np.sqrt(((means - means[:, c, None]) ** 2).sum(2))
        train_error, wrong = observed.wrong.sum(1) / self._points, np.packbits(observed.wrong, axis=1)
        self.records.add(update, train_error=train_error, wrong=wrong, radius=radius, distance=distance)

    def arrays(self) -> dict[str, Any]:
        """Everything so far but the epochs of the records, as `Run` has it."""
        return {"test_epoch": np.array(self.tests.updates, np.int64), **self.tests.arrays(), **self.records.arrays()}

    def restore(self, run: Run, test_every: int) -> None:
        """Continue from the end of the run, without the extra test at its last epoch."""
        records = {name: getattr(run, name) for name in ("train_error", "wrong", "radius", "distance")}
        self.records.load(run.update.tolist(), records)
        regular = run.test_epoch % test_every == 0
        self.tests.load(run.test_epoch[regular].tolist(), {"test_error": run.test_error[:, regular]})
