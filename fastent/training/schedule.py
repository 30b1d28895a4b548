"""The parameter updates after which a run is recorded, and those whose weights are kept.

In memory that is after every pass, and more often early on. Of data on disk it is after every so many epochs, or parts of them,
and by default after every epoch and on a log scale of updates within the first, where radii may turn.
"""

from collections.abc import Iterator, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Schedule", "spaced_updates", "thinned", "updates_to_record"]

# Records for each factor of two in the number of updates, while these are less than a pass apart; of data on disk fewer, as
# each passes all the points that are recorded.
_PER_DOUBLING, _STREAMED_PER_DOUBLING = 8, 2


def updates_to_record(epochs: int, updates_per_epoch: int) -> NDArray[np.int64]:
    """Return the ascending numbers of updates after which `fe.train` records.

    These are 0, every whole pass, and 1, 2, 3, ... round(2 ** (k / 8)) as long as the step to the next of these is shorter than
    a pass: up to about the eleventh pass, and nowhere if a pass is a single update. The total number of epochs changes nothing
    but the end, so that a run can be continued.
    """
    passes = np.arange(epochs + 1) * updates_per_epoch
    early = spaced_updates(_PER_DOUBLING, updates_per_epoch)
    return np.union1d(passes, early[early <= passes[-1]])


def spaced_updates(per_doubling: int, step: float) -> NDArray[np.int64]:
    """Return the distinct round(2 ** (k / per_doubling)), k = 0, 1, ..., from which the next is less than `step` away."""
    growth = 2 ** (1 / per_doubling) - 1
    updates: list[int] = []
    while growth * (update := 2 ** (len(updates) / per_doubling)) < step:
        updates.append(round(update))
    return np.unique(np.array(updates, np.int64))


class Schedule(NamedTuple):
    """When a run over data on disk is recorded: after every so many epochs, to the nearest update, and at the end."""

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
        updates = spaced_updates(_STREAMED_PER_DOUBLING, self.updates_per_epoch)
        return set(updates[updates < self.updates_per_epoch].tolist())


def thinned(updates: Sequence[int], spared: Set[int], most: int) -> list[int]:
    """At most so many of some ascending updates: those whose neighbours lie closest on a log scale are removed one by one.

    The first and the last stay, and the `spared` for as long as there are others.
    """
    kept = list(updates)
    while len(kept) > max(most, 2):
        ratios = [
            (kept[i] in spared, (kept[i + 1] + 1) / (kept[i - 1] + 1), i) for i in range(1, len(kept) - 1)
        ]  # False, for what is not spared, comes first
        del kept[min(ratios)[2]]
    return kept
