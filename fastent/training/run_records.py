"""The records of a run and the results derived from them: inversions, stragglers, names of the classes."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastent.activations.history import History, Of
from fastent.arrays.class_names import reading_order
from fastent.errors import FastentError
from fastent.options import number
from fastent.statistics.inversion import InversionSummary, summarize_inversions
from fastent.statistics.inversion_rule import BURN_IN, MIN_RISE, Rule

__all__ = ["RunRecords", "test_error_of_records"]

# Radii of unit rows in single precision that differ by less are equal.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class RunRecords:
    """S networks trained together, recorded E times in L layers; the attributes are described in `fe.Run`."""

    config: dict[str, Any]
    classes: NDArray[Any]
    index: NDArray[np.int64]
    labels: NDArray[Any]
    codes: NDArray[np.int64]
    epoch: NDArray[np.int64]
    train_error: NDArray[np.float64]
    test_epoch: NDArray[np.int64]
    test_error: NDArray[np.float64]
    radius: NDArray[np.float64]
    distance: NDArray[np.float64]
    wrong: NDArray[np.uint8]
    seconds: float
    state: dict[str, NDArray[Any]] = field(repr=False)
    seconds_recording: float = 0.0
    recorded: NDArray[np.int64] | None = None
    mixing: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    neighbor_error: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    straggler_bits: NDArray[np.uint8] | None = None
    straggler_epochs: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        for name in ("mixing", "neighbor_error"):
            if not getattr(self, name).size:
                object.__setattr__(self, name, np.full(self.radius.shape[:3], np.nan))

    @property
    def n_seeds(self) -> int:
        return len(self.train_error)

    @property
    def n_layers(self) -> int:
        return int(self.radius.shape[2])

    @property
    def class_names(self) -> list[str]:
        """Names of the classes in tables, files and reports: as given, or "even" and "odd" for parities, or their values."""
        given = self.config.get("class_names")
        if given is not None and len(given) == len(self.classes):
            return list(map(str, given))
        return ["even", "odd"] if self.parity else [str(label) for label in self.classes.tolist()]

    @property
    def class_order(self) -> list[int]:
        """Positions of the classes in the order of tables, plots and reports: class2 before class10."""
        return reading_order(self.classes, self.class_names)

    @property
    def parity(self) -> bool:
        """Whether the classes are the parities of the labels, even against odd."""
        return self.config.get("classes") == "parity" and self.classes.tolist() == [0, 1]

    @property
    def complete(self) -> bool:
        """Whether all requested epochs were trained."""
        return int(self.epoch[-1]) >= int(self.config["epochs"])

    @property
    def updates_per_epoch(self) -> int:
        """Parameter updates in one pass over the data: 1 with full batches."""
        stored, size = self.config.get("updates_per_epoch"), self.config.get("batch_size")
        if stored is None:  # a run of an earlier version
            return 1 if size is None else -(-len(self.index) // int(size))
        return int(stored)

    @property
    def update(self) -> NDArray[np.int64]:
        """(E,) parameter updates made before each record."""
        updates: NDArray[np.int64] = np.rint(self.epoch * float(self.updates_per_epoch)).astype(np.int64)
        return updates

    @cached_property
    def evenly_spaced(self) -> NDArray[np.int64]:
        """Positions of records that are equally far apart: those after whole passes where early ones lie closer, else all."""
        if self.config.get("record_every") is not None:
            return np.arange(len(self.epoch))
        return np.flatnonzero(self.epoch == np.floor(self.epoch))

    @property
    def burn_in(self) -> float:
        """Parameter updates at the start in which no turn counts as an inversion."""
        return float(self.config.get("burn_in", BURN_IN))

    @property
    def min_rise(self) -> float:
        """Least fall before and rise after an inversion, as a share of the curve's range."""
        return float(self.config.get("min_rise", MIN_RISE))

    def judged_by(self, burn_in: float, min_rise: float) -> Self:
        """The same run, its inversions found by another burn-in and least rise; see `fe.train`."""
        if (burn_in, min_rise) == (self.burn_in, self.min_rise):
            return self
        # Stragglers of a last pass over the data are those of the rule that it was made by.
        return replace(
            self,
            config={**self.config, "burn_in": burn_in, "min_rise": min_rise},
            straggler_bits=None,
            straggler_epochs=None,
        )

    @cached_property
    def inversion(self) -> NDArray[Any]:
        """(S, L, C) of Inversion: the first turn of each class's radius that noise does not explain; see `find_inversion`."""
        return self.inversions()

    @cached_property
    def turned(self) -> NDArray[np.bool_]:
        """(S, L, C) bool: which radii have an inversion."""
        return np.array([bool(inversion) for inversion in self.inversion.flat]).reshape(self.inversion.shape)

    @cached_property
    def _history(self) -> History:
        return History(
            epoch=self.epoch,
            train_error=self.train_error,
            radius=self.radius,
            distance=self.distance,
            wrong=self.wrong,
            codes=self.codes[self._recorded],
            updates_per_epoch=self.updates_per_epoch,
            resolution=_ROUNDING,
        )

    def inversions(
        self, of: Of = "radius", rule: Rule = "shape", *, burn_in: float | None = None, min_rise: float | None = None
    ) -> NDArray[Any]:
        """Return the inversions of the radius, (S, L, C), or of the distance between classes, (S, L, C, C), as objects.

        For distances the inversion is a maximum; a class has no distance, and so no inversion, to itself. Curves are
        judged over parameter updates, so that batches and passes agree; `epoch` and its interval are passes over the data.
        `burn_in` (in updates) and `min_rise` are optional, by default those of the run.
        """
        return self._history.inversions(
            of,
            rule,
            burn_in=self.burn_in if burn_in is None else burn_in,
            min_rise=self.min_rise if min_rise is None else min_rise,
        )

    def inversion_summary(self, layer: int = -1) -> list[InversionSummary]:
        """Mean eps*, spread and interval over seeds, for each class, in one hidden layer, by default the last."""
        return [summarize_inversions(list(self.inversion[:, layer, c])) for c in range(len(self.classes))]

    def positions(self, epochs: ArrayLike) -> NDArray[np.int64]:
        """Return the positions of the records made after these epochs; an epoch that was not recorded is a FastentError."""
        asked = np.asarray(epochs)
        found = np.minimum(np.searchsorted(self.epoch, asked), len(self.epoch) - 1)
        missing = np.atleast_1d(asked)[np.atleast_1d(self.epoch[found] != asked)]
        if len(missing):
            raise FastentError(f"epoch {missing[0]} was not recorded: {self.epoch[0]}..{self.epoch[-1]} were")
        return found

    def misclassified(self, epoch: float) -> NDArray[np.bool_]:
        """Return (S, m) bool: the recorded points that each network got wrong with its weights after `epoch` epochs."""
        return self._history.misclassified(int(self.positions(epoch)))

    @cached_property
    def stragglers(self) -> NDArray[np.bool_]:
        """(S, n) bool: the points of each class misclassified at that class's own inversion in the last hidden layer.

        They come from the weights of each network at the epoch in `straggler_epoch`. A class without an inversion has none. In
        a run that recorded a sample and was interrupted before the last pass over the data, they are those of the sample.
        """
        if self.straggler_bits is not None:
            return np.unpackbits(self.straggler_bits, axis=1, count=len(self.index)).astype(bool)
        stragglers = np.zeros((self.n_seeds, len(self.index)), bool)
        stragglers[:, self._recorded] = self._history.stragglers(self.inversion[:, -1])
        return stragglers

    @property
    def straggler_epoch(self) -> NDArray[np.float64]:
        """(S, C) float64: the recorded epoch with whose weights each class's stragglers are misclassified; NaN without any.

        It is the epoch of the inversion itself, except in long runs that recorded a sample: these keep the weights of some
        epochs only, and it is the nearest of them.
        """
        if self.straggler_bits is not None and self.straggler_epochs is not None:
            return self.straggler_epochs
        at = [[self.epoch[i.index] if i else np.nan for i in row] for row in self.inversion[:, -1]]
        return np.array(at, np.float64)

    @property
    def n_recorded(self) -> int:
        """Number of recorded points, of which errors are shares."""
        return len(self.index) if self.recorded is None else len(self.recorded)

    @cached_property
    def _recorded(self) -> NDArray[np.int64]:
        return np.arange(len(self.index)) if self.recorded is None else self.recorded

    @cached_property
    def straggler_share(self) -> NDArray[np.float64]:
        """(n,) in [0, 1]: in which share of the seeds that have an inversion of the point's class it is a straggler."""
        found = self.turned[:, -1].sum(0)
        share: NDArray[np.float64] = self.stragglers.sum(0) / np.maximum(found, 1)[self.codes]
        return share

    def consensus_stragglers(self, share: float = 0.5) -> NDArray[np.int64]:
        """Return the row numbers, as stored, of the points that are stragglers in at least this share of the seeds."""
        number("share", share, above=0, maximum=1)
        return self.index[self.straggler_share >= share]


def test_error_of_records(run: RunRecords) -> NDArray[np.float64]:
    """(S, E) test errors, NaN where they were not measured."""
    errors = np.full(run.train_error.shape, np.nan)
    errors[:, run.positions(run.test_epoch)] = run.test_error
    return errors
