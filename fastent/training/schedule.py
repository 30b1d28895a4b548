"""After which parameter updates a run is recorded: after every pass over the data, and more often early on."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["spaced_updates", "updates_to_record"]

# Records for each factor of two in the number of updates, while these are less than a pass apart.
_PER_DOUBLING = 8


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
