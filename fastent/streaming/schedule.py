"""When a run is recorded: every so many epochs, in parts of them too, to the nearest update, and at the end."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Schedule"]


class Schedule(NamedTuple):
    every: float
    epochs: int
    updates_per_epoch: int

    @property
    def last(self) -> int:
        return self.epochs * self.updates_per_epoch

    def due(self) -> set[int]:
        """The updates after which there is a record; 0 is the initial state."""
        return {update for update, _ in self._regular(self.epochs)} | {self.last}

    def epochs_of(self, updates: list[int]) -> NDArray[Any]:
        """The epoch of each record: whole numbers where all are."""
        longest = max(self.epochs, -(-max(updates, default=0) // self.updates_per_epoch))
        named = dict(self._regular(longest + 1))
        epochs = np.array([named.get(update, update / self.updates_per_epoch) for update in updates])
        return epochs.astype(np.int64) if float(self.every).is_integer() and (epochs == np.round(epochs)).all() else epochs

    def _regular(self, epochs: int) -> Iterator[tuple[int, float]]:
        """(update, epoch) of the records before the end."""
        k = 0
        while k * self.every < epochs:
            yield round(k * self.every * self.updates_per_epoch), k * self.every
            k += 1
