"""When a run is recorded: every so many epochs, in parts of them too, to the nearest update, and at the end.

Unless said how often, that is after every epoch, and within the first on a log scale of updates, where radii may turn.
"""

from collections.abc import Iterator, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.training.schedule import spaced_updates

__all__ = ["Schedule", "thinned"]

# Records for each factor of two in the number of updates, within the first epoch: fewer than of data in memory, as each passes
# all the points that are recorded.
_PER_DOUBLING = 2


class Schedule(NamedTuple):
    every: float | None
    epochs: int
    updates_per_epoch: int

    @property
    def last(self) -> int:
        return self.epochs * self.updates_per_epoch

    def due(self) -> set[int]:
        """The updates after which there is a record; 0 is the initial state."""
        return {update for update, _ in self._regular(self.epochs)} | self._early() | {self.last}

    def lasts(self, update: int) -> bool:
        """Whether a run of more epochs has a record after this update too."""
        if update < self.updates_per_epoch and self.every is None:
            return update in self._early() or update == 0
        nearest = round(update / (self._step * self.updates_per_epoch))
        return round(nearest * self._step * self.updates_per_epoch) == update

    def epochs_of(self, updates: list[int]) -> NDArray[Any]:
        """The epoch of each record: whole numbers where all are."""
        longest = max(self.epochs, -(-max(updates, default=0) // self.updates_per_epoch))
        named = dict(self._regular(longest + 1))
        epochs = np.array([named.get(update, update / self.updates_per_epoch) for update in updates])
        return epochs.astype(np.int64) if self._step.is_integer() and (epochs == np.round(epochs)).all() else epochs

    def _regular(self, epochs: int) -> Iterator[tuple[int, float]]:
        """(update, epoch) of the records before the end."""
        k = 0
        while k * self._step < epochs:
            yield round(k * self._step * self.updates_per_epoch), k * self._step
            k += 1

    @property
    def _step(self) -> float:
        return 1.0 if self.every is None else float(self.every)

    def _early(self) -> set[int]:
        if self.every is not None:
            return set()
        updates = spaced_updates(_PER_DOUBLING, self.updates_per_epoch)
        return set(updates[updates < self.updates_per_epoch].tolist())


def thinned(updates: Sequence[int], spared: Set[int], most: int) -> list[int]:
    """Ascending updates of which so many at most stay: one by one those go whose neighbours lie closest on a log scale.

    The first and the last stay, and the `spared` for as long as there are others.
    """
    kept = list(updates)
    while len(kept) > max(most, 2):
        ratios = [
            (kept[i] in spared, (kept[i + 1] + 1) / (kept[i - 1] + 1), i) for i in range(1, len(kept) - 1)
        ]  # False, for what is not spared, comes first
        del kept[min(ratios)[2]]
    return kept
