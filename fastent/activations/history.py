"""The history of training that runs and probes share: curves, their inversions, and the points misclassified at each record.

Recording       grows, record by record, while `fe.train` and `fe.train_streamed` train (a probe has its ProbeRecorder)
    |  arrays()
History         all records as arrays, networks first
    |-- inversions()      where each curve turns, or why it does not
    |-- misclassified()   the rows that were wrong at a record
    `-- stragglers()      the rows that were wrong at their own class's inversion
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.options import choice
from fastent.statistics.inversion import Inversion, find_inversion
from fastent.statistics.inversion_rule import BURN_IN, MIN_RISE, Rule

__all__ = ["History", "Of", "Recording"]

Of = Literal["radius", "distance"]


@dataclass(frozen=True, eq=False)
class History:
    """Curves of S networks, recorded E times in L layers for C classes, and which of m rows were misclassified.

    Attributes
    ----------
    epoch : (E,)
        Passes, updates or steps made before each record.
    train_error : (S, E)
        Share of the rows that were misclassified, NaN if that is unknown.
    radius : (S, E, L, C)
    distance : (S, E, L, C, C) or None
    wrong : (S, E, ceil(m / 8)) uint8
        Misclassified rows, one bit each.
    codes : (m,)
        The rows' classes.
    updates_per_epoch : int
        Curves are judged over updates, so that batches and passes agree.
    resolution : float
        Curves that move by less have not moved.
    """

    epoch: NDArray[Any]
    train_error: NDArray[np.float64]
    radius: NDArray[np.float64]
    distance: NDArray[np.float64] | None
    wrong: NDArray[np.uint8]
    codes: NDArray[np.int64]
    updates_per_epoch: int = 1
    resolution: float = 0.0

    def inversions(
        self, of: Of = "radius", rule: Rule = "shape", *, burn_in: float = BURN_IN, min_rise: float = MIN_RISE
    ) -> NDArray[Any]:
        """The inversions of the radius, (S, L, C), or of the distance, (S, L, C, C), as objects; `burn_in` is in updates."""
        curves = self.radius if choice("of", of, ("radius", "distance")) == "radius" else self.recorded_distance()
        kind: Literal["min", "max"] = "min" if of == "radius" else "max"
        updates, judged = self.epoch * self.updates_per_epoch, bool(np.isfinite(self.train_error).all())
        errors = self.train_error if judged else np.zeros(self.train_error.shape)
        found = np.empty((curves.shape[0], *curves.shape[2:]), object)
        for place in np.ndindex(found.shape):
            network, *rest = place
            curve = curves[(network, slice(None), *rest)]
            if np.isnan(curve).any():
                found[place] = Inversion(False, "the network is trained on no point of the class")
            elif self.resolution and np.ptp(curve) < self.resolution:
                found[place] = Inversion(False, "did not move")
            else:
                turned = find_inversion(
                    updates, curve, errors[network], kind=kind, rule=rule, burn_in=burn_in, min_rise=min_rise
                )
                known = turned if judged or not turned else replace(turned, train_error=None, train_error_interval=None)
                found[place] = known if self.updates_per_epoch == 1 or not turned else self._in_epochs(known)
        return found

    def recorded_distance(self) -> NDArray[np.float64]:
        if self.distance is None:
            raise FastentError(
                "distances were not recorded, there are many classes: make the probe with 'distances' in metrics"
            )
        return self.distance

    def misclassified(self, record: int) -> NDArray[np.bool_]:
        """(S, m) bool: the rows that were wrong at a record."""
        return np.unpackbits(self.wrong[:, record], axis=1, count=len(self.codes)).astype(bool)

    def stragglers(self, inversions: NDArray[Any]) -> NDArray[np.bool_]:
        """(S, m) bool: the rows of each class that were wrong at that class's inversion, given those of one layer, (S, C)."""
        found = np.zeros((len(self.wrong), len(self.codes)), bool)
        for (network, c), inversion in np.ndenumerate(inversions):
            if inversion:
                wrong = np.unpackbits(self.wrong[network, inversion.index], count=len(self.codes)).astype(bool)
                found[network] |= wrong & (self.codes == c)
        return found

    def _in_epochs(self, turned: Inversion) -> Inversion:
        """Convert the epochs of an inversion from updates to the epochs of the records."""
        updates = self.epoch * self.updates_per_epoch

        def epoch_of(update: Any) -> float:
            epoch = float(self.epoch[np.abs(updates - update).argmin()])
            return int(epoch) if epoch.is_integer() else epoch

        interval = turned.epoch_interval
        return replace(
            turned,
            epoch=epoch_of(turned.epoch),
            epoch_interval=None if interval is None else (epoch_of(interval[0]), epoch_of(interval[1])),
            turns=None if turned.turns is None else tuple(map(epoch_of, turned.turns)),
        )


class Recording:
    """Records of S networks as they come, by the update that each was made after, ascending; room for `capacity` of them.

    Attributes
    ----------
    updates : list of int
    """

    def __init__(self, capacity: int) -> None:
        self.updates: list[int] = []
        self._capacity = capacity
        self._values: dict[str, NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self.updates)

    @property
    def last(self) -> int:
        """The last update that there is a record of; -1 without any."""
        return self.updates[-1] if self.updates else -1

    def add(self, update: int, **values: NDArray[Any]) -> None:
        """Add a record: values (S, ...) of each quantity, the same quantities every time."""
        for name, value in values.items():
            if name not in self._values:
                self._values[name] = np.empty((self._capacity, *value.shape), value.dtype)
            self._values[name][len(self)] = value
        self.updates.append(update)

    def only(self, updates: Set[int]) -> None:
        """Forget the records of all other updates."""
        kept = [i for i, update in enumerate(self.updates) if update in updates]
        self._take([self.updates[i] for i in kept], {name: values[kept] for name, values in self._values.items()})

    def last_of(self, name: str) -> NDArray[Any]:
        """A quantity's values in the last record, (S, ...)."""
        values: NDArray[Any] = self._values[name][len(self) - 1]
        return values

    def arrays(self) -> dict[str, NDArray[Any]]:
        """(S, records, ...) for each quantity."""
        return {name: values[: len(self)].swapaxes(0, 1).copy() for name, values in self._values.items()}

    def load(self, updates: Sequence[int], arrays: dict[str, NDArray[Any]]) -> None:
        """Restore the `arrays` of these updates."""
        self._take(list(updates), {name: values.swapaxes(0, 1) for name, values in arrays.items()})

    def state_dict(self) -> dict[str, Any]:
        import torch

        records = {name: torch.from_numpy(values[: len(self)].copy()) for name, values in self._values.items()}
        return {"updates": list(self.updates), "records": records}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._take(list(state["updates"]), {name: values.numpy() for name, values in state["records"].items()})

    def _take(self, updates: list[int], records: dict[str, NDArray[Any]]) -> None:
        """Hold these records, records first, and have room for more."""
        self.updates, self._values = updates, {}
        for name, values in records.items():
            if len(updates):  # without records there are no shapes
                self._values[name] = np.empty((max(self._capacity, len(updates)), *values.shape[1:]), values.dtype)
                self._values[name][: len(updates)] = values
