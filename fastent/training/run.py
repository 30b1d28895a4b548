"""A finished (or interrupted) run: its records, its inversions, its stragglers, and how it is kept on disk."""

import json
import os
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastent.errors import FastentError
from fastent.io.files import output_folder
from fastent.io.reading import as_path, is_there, listed, reading
from fastent.io.sealed import check_seal, read_sealed_npz, write_sealed_npz
from fastent.options import choice, number, whole_number
from fastent.printable import printable
from fastent.statistics.inversion import Inversion, InversionSummary, Rule, find_inversion, summarize_inversions
from fastent.training.options import DEFAULTS
from fastent.training.stored_run import checked_config, see_that_it_fits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastent.plots.curves import Line

__all__ = ["Run", "load_run", "run_to_resume"]

RECORDS_FILE = "run.npz"
# Radii of unit rows in single precision that differ by less are equal.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Run:
    """S networks trained together on n points of C classes, recorded E times in L hidden layers.

    Attributes
    ----------
    config : dict
        Everything that `fe.train` or `fe.train_streamed` was called with, and the versions and machine it ran on; JSON
        throughout.
    classes : (C,)
        The sorted classes; for "parity" 0 (even) and 1 (odd).
    index : (n,) int64
        Row numbers of the points in the training set as stored.
    labels : (n,)
        Their labels as stored (the digit, also where the classes are parities).
    codes : (n,) int64
        Their class, as a position in `classes`.
    epoch : (E,) int64, or float64 where records lie within epochs
        Passes over the data made before each record; 0 is the initial state.
    train_error : (S, E) float64
        Share of the recorded points misclassified.
    test_epoch : (E',) int64
    test_error : (S, E') float64
    radius : (S, E, L, C) float64
        Gyration radius of each class's unit vectors, in [0, 1].
    distance : (S, E, L, C, C) float64
        Distance between the class means of the unit vectors, in [0, 2].
    wrong : (S, E, ceil(m / 8)) uint8
        Misclassified points of the m recorded ones, one bit each; see `misclassified`.
    state : dict
        Parameters and optimiser state after the last epoch: what `fe.train(..., resume=run)` continues from.
    seconds : float
        Time spent training and recording, over all sessions.
    seconds_recording : float
        Of these, on records where they take passes of their own (`fe.train_streamed`).
    recorded : (m,) int64 or None
        Positions of the points that were recorded, where that is a sample of the n.
    mixing : (S, E, L) float64
        Share of the nearest neighbours that have a point's class (`fe.mixing`), NaN where it was not measured.
    neighbor_error : (S, E, L) float64
        Their leave-one-out error, likewise.
    straggler_bits : (S, ceil(n / 8)) uint8 or None
        Stragglers among all n points, one bit each, where a sample was recorded and a last pass found them.
    straggler_epochs : (S, C) float64 or None
        The epochs whose weights that pass used; see `straggler_epoch`.
    """

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
        """What the classes are called in tables, files and reports: "even" and "odd" where they are parities of the labels."""
        return ["even", "odd"] if self.parity else [str(label) for label in self.classes.tolist()]

    @property
    def parity(self) -> bool:
        """Whether the classes are the parities of the labels, even against odd."""
        return self.config.get("classes") == "parity" and self.classes.tolist() == [0, 1]

    @property
    def complete(self) -> bool:
        """Whether all the epochs asked for were trained."""
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
        """Parameter updates before which nothing counts as an inversion: 0, or what the run was made with."""
        return float(self.config.get("burn_in", DEFAULTS.burn_in))

    @property
    def min_rise(self) -> float:
        """The least fall and rise about an inversion, as a share of the curve's range."""
        return float(self.config.get("min_rise", DEFAULTS.min_rise))

    def judged_by(self, burn_in: float, min_rise: float) -> "Run":
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

    def inversions(
        self,
        of: Literal["radius", "distance"] = "radius",
        rule: Rule = "shape",
        *,
        burn_in: float | None = None,
        min_rise: float | None = None,
    ) -> NDArray[Any]:
        """Return the inversions of the radius, (S, L, C), or of the distance between classes, (S, L, C, C), as objects.

        For distances the inversion is a maximum; a class has no distance, and so no inversion, to itself. Curves are
        judged over parameter updates, so that batches and passes agree; `epoch` and its interval are passes over the data.
        `burn_in` (in updates) and `min_rise` are optional, by default those of the run.
        """
        choice("of", of, ("radius", "distance"))
        curves = self.radius if of == "radius" else self.distance
        kind: Literal["min", "max"] = "min" if of == "radius" else "max"
        first = self.burn_in if burn_in is None else burn_in
        least = self.min_rise if min_rise is None else min_rise
        updates = self.epoch * self.updates_per_epoch
        found = np.empty((curves.shape[0], *curves.shape[2:]), object)
        for place in np.ndindex(found.shape):
            seed, *rest = place
            curve = curves[(seed, slice(None), *rest)]
            if np.isnan(curve).any():
                found[place] = Inversion(False, "the network is trained on no point of the class")
            elif np.ptp(curve) < _ROUNDING:
                found[place] = Inversion(False, "did not move")
            else:
                turned = find_inversion(
                    updates, curve, self.train_error[seed], kind=kind, rule=rule, burn_in=first, min_rise=least
                )
                found[place] = turned if self.updates_per_epoch == 1 or not turned else self._in_epochs(turned)
        return found

    def _in_epochs(self, turned: Inversion) -> Inversion:
        """An inversion whose epochs are updates, by passes over the data."""
        updates = self.epoch * self.updates_per_epoch

        def passes(update: Any) -> float:
            epoch = float(self.epoch[np.abs(updates - update).argmin()])
            return int(epoch) if epoch.is_integer() else epoch

        interval = turned.epoch_interval
        return replace(
            turned,
            epoch=passes(turned.epoch),
            epoch_interval=None if interval is None else (passes(interval[0]), passes(interval[1])),
            turns=None if turned.turns is None else tuple(map(passes, turned.turns)),
        )

    def inversion_summary(self, layer: int = -1) -> list[InversionSummary]:
        """Mean eps*, spread and interval over seeds, for each class, in one hidden layer, by default the last."""
        return [summarize_inversions(list(self.inversion[:, layer, c])) for c in range(len(self.classes))]

    def positions(self, epochs: ArrayLike) -> NDArray[np.int64]:
        """Return where among the records those after these epochs are; epochs that were not recorded are a FastentError."""
        asked = np.asarray(epochs)
        found = np.minimum(np.searchsorted(self.epoch, asked), len(self.epoch) - 1)
        missing = np.atleast_1d(asked)[np.atleast_1d(self.epoch[found] != asked)]
        if len(missing):
            raise FastentError(f"epoch {missing[0]} was not recorded: {self.epoch[0]}..{self.epoch[-1]} were")
        return found

    def misclassified(self, epoch: float) -> NDArray[np.bool_]:
        """Return (S, m) bool: the recorded points that each network got wrong with its weights after `epoch` epochs."""
        position = int(self.positions(epoch))
        return np.unpackbits(self.wrong[:, position], axis=1, count=len(self._recorded)).astype(bool)

    @cached_property
    def stragglers(self) -> NDArray[np.bool_]:
        """(S, n) bool: the points of each class misclassified at that class's own inversion in the last hidden layer.

        They come from the weights of each network at the epoch in `straggler_epoch`. A class without an inversion has none. In
        a run that recorded a sample and was interrupted before the last pass over the data, they are those of the sample.
        """
        if self.straggler_bits is not None:
            return np.unpackbits(self.straggler_bits, axis=1, count=len(self.index)).astype(bool)
        stragglers = np.zeros((self.n_seeds, len(self.index)), bool)
        for (seed, c), inversion in np.ndenumerate(self.inversion[:, -1]):
            if inversion:
                bits = np.unpackbits(self.wrong[seed, inversion.index], count=len(self._recorded)).astype(bool)
                stragglers[seed, self._recorded] |= bits & (self.codes[self._recorded] == c)
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
        """How many points were recorded, of which errors are shares."""
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

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the run to a folder, each file whole or not at all.

        `run.npz` holds everything: `fe.load_run` restores the run from it and `fe.train` continues it. For other programs there
        are `config.json`, `summary.json`, `curves.parquet` (long form) and `stragglers.parquet`.
        """
        from fastent.training.tables import write_tables

        folder = output_folder(folder)
        arrays = {name: getattr(self, name) for name in (*_ARRAYS, *_LATER) if getattr(self, name) is not None}
        arrays |= {f"state.{name}": a for name, a in self.state.items()}
        write_sealed_npz(folder / RECORDS_FILE, {"config": json.dumps(self.config), **arrays})
        write_tables(self, folder)

    def plot(
        self,
        kind: Literal["radius", "distance", "error"] = "radius",
        *,
        against: Literal["epoch", "train_error"] = "epoch",
        layer: int = -1,
        ax: "Axes | None" = None,
    ) -> "tuple[Figure, Axes]":
        """Draw curves with matplotlib: a line for each class, its seeds thin, a dot at each inversion.

        Parameters
        ----------
        kind : "radius", "distance" or "error"
            Gyration radii; distances between class means, of more than four classes each class's mean over the others; or
            training and test error.
        against : "epoch" or "train_error"
        layer : int
            Of the hidden layers, from 0, or from the end as -1; errors have none.
        ax : matplotlib Axes, optional
            What to draw on; a new figure unless said.

        Returns
        -------
        (Figure, Axes)
            SVG and PDF files of a new figure keep text as text.

        Raises
        ------
        FastentError
            An unknown kind or layer; errors against the training error.
        """
        from fastent.plots.curves import AXIS_LABELS, draw_lines
        from fastent.plots.figure import axes_of
        from fastent.plots.style import add_legend, epoch_axis, error_axis, plain

        choice("kind", kind, ("radius", "distance", "error"))
        choice("against", against, ("epoch", "train_error"))
        if kind == "error" and against == "train_error":
            raise FastentError("kind='error' against='train_error': errors are drawn against='epoch'")
        layer = whole_number("layer", layer, minimum=-self.n_layers, maximum=self.n_layers - 1) % self.n_layers
        lines = self._lines(kind, against, layer)
        x = self.train_error if against == "train_error" else np.broadcast_to(self.epoch.astype(float), self.train_error.shape)
        figure, axes = axes_of(ax)
        draw_lines(axes, x, lines, against)
        of_layer = "" if kind == "error" or self.n_layers == 1 else f", hidden layer {layer + 1} of {self.n_layers}"
        seeds = f", {self.n_seeds} seeds" if self.n_seeds > 1 else ""
        axes.set(ylabel=AXIS_LABELS[kind], title=plain(f"{self.config.get('data', 'run')}{seeds}{of_layer}"))
        if against == "train_error":
            error_axis(axes, self.n_recorded)
        else:
            epoch_axis(axes, float(self.epoch[-1]))
        add_legend(axes)
        return figure, axes

    def _lines(self, kind: str, against: Literal["epoch", "train_error"], layer: int) -> "list[Line]":
        """The curves to draw, with their inversions."""
        from fastent.plots.curves import Line, class_lines, distance_lines

        if kind == "radius":
            return class_lines(self.class_names, self.radius[:, :, layer], self.inversion[:, layer], against)
        if kind == "distance":
            distance = self.distance[:, :, layer]
            return distance_lines(self.class_names, distance, lambda: self.inversions("distance")[:, layer], against)
        lines = [Line("training error", self.train_error)]
        if self.test_error.size:
            test = np.full(self.train_error.shape, np.nan)
            test[:, self.positions(self.test_epoch)] = self.test_error
            lines.append(Line("test error", test))
        return lines

    def _repr_html_(self) -> str:
        from fastent.runtime.notebook import html_table
        from fastent.training.reasons import without_inversion
        from fastent.training.tables import readable_rows, rule_text, turning_text

        return html_table(repr(self), *readable_rows(self), (turning_text(self), *without_inversion(self), rule_text(self)))

    def __repr__(self) -> str:
        done = f"{self.epoch[-1]:.6g} of {self.config['epochs']} epochs"
        classes = "even against odd" if self.parity else f"{len(self.classes)} classes"
        return printable(f"Run({self.config['data']}, {self.n_seeds} seeds, {len(self.index)} points, {classes}, {done})")


# What every stored run has, and what those of older versions lack.
_LATER = tuple(f.name for f in fields(Run) if f.default is not MISSING or f.default_factory is not MISSING)
_ARRAYS = tuple(f.name for f in fields(Run) if f.name not in ("config", "state", *_LATER))


def load_run(folder: str | os.PathLike[str]) -> Run:
    """Load what `Run.save` (or `fastent run --out`) wrote.

    Raises
    ------
    FastentError
        No run in the folder, or a file that is damaged or not fastent's: its arrays must fit each other and the configuration.
    """
    path = as_path(folder, "the folder of a run") / RECORDS_FILE
    if not is_there(path):
        raise FastentError(f"no run in {str(folder)!r}: {RECORDS_FILE} is missing; name a folder that fastent run wrote")
    remedy = "train it again with --overwrite, or into another folder"
    arrays = read_sealed_npz(path, remedy, earlier=True)
    missing = [name for name in ("config", *_ARRAYS) if name not in arrays]
    if missing:
        raise FastentError(f"{str(path)!r} is no run of fastent's, it lacks {listed(missing)}: name another folder")
    with reading(path, remedy, "no run of fastent's"):
        config = checked_config(arrays["config"])
        see_that_it_fits(config, arrays)
    values: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
    values |= {name: arrays[name] for name in _LATER if name in arrays}
    for name in ("seconds", "seconds_recording"):
        values[name] = float(values.get(name, 0.0))
    state = {name.removeprefix("state."): array for name, array in arrays.items() if name.startswith("state.")}
    return Run(config=config, state=state, **values)


def run_to_resume(folder: str | os.PathLike[str], remedy: str) -> Run:
    """Load a run for training to go on with: one without a checksum, of an earlier version, is refused with the `remedy`."""
    path = as_path(folder, "the folder of a run") / RECORDS_FILE
    if is_there(path):
        check_seal(path, remedy)
    return load_run(folder)
