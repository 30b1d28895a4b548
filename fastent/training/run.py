"""A finished (or interrupted) run: its records, its files, pictures and text."""

import os
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fastent.activations.record_files import RecordFile
from fastent.errors import FastentError
from fastent.io.checksums import verify_checksum
from fastent.io.reading import is_there, reading
from fastent.io.tabular import Tabular
from fastent.options import choice, whole_number
from fastent.printable import printable
from fastent.training.run_records import RunRecords, test_error_of_records
from fastent.training.stored_run import check_arrays, checked_config
from fastent.training.straggler_list import straggler_scores
from fastent.training.tables import (
    curves_table,
    inversions_table,
    readable_rows,
    rule_text,
    turning_text,
    without_inversion,
    write_tables,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastent.plots.curves import Line

__all__ = ["Run", "load_run", "run_to_resume"]

RECORDS_FILE = "run.npz"
_FILE = RecordFile(RECORDS_FILE, "run", "a run", "fastent run wrote", "train it again with --overwrite, or into another folder")


class Run(Tabular, RunRecords):
    """S networks trained together on n points of C classes, recorded E times in L hidden layers.

    Attributes
    ----------
    config : dict
        The arguments of `fe.train` or `fe.train_streamed`, and the versions and the machine that were used; JSON throughout.
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
        Part of `seconds` that was spent on records, where these take their own passes over the data (`fe.train_streamed`).
    recorded : (m,) int64 or None
        Positions of the points that were recorded, where that is a sample of the n.
    mixing : (S, E, L) float64
        Share of the nearest neighbours that have a point's class (`fe.mixing`), NaN where it was not measured.
    neighbor_error : (S, E, L) float64
        Leave-one-out error of the nearest neighbours' vote, NaN where it was not measured.
    straggler_bits : (S, ceil(n / 8)) uint8 or None
        Stragglers among all n points, one bit each, where a sample was recorded and a last pass found them.
    straggler_epochs : (S, C) float64 or None
        The epochs whose weights that pass used; see `straggler_epoch`.
    """

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the run to a folder, each file whole or not at all.

        `run.npz` holds everything: `fe.load_run` restores the run from it and `fe.train` continues it. For other programs there
        are `config.json`, `summary.json`, `curves.parquet` (long form) and `stragglers.parquet`, which
        `fe.stragglers(run).save(folder)` replaces by all that is known of the stragglers.
        """
        arrays = {name: getattr(self, name) for name in (*_ARRAYS, *_LATER) if getattr(self, name) is not None}
        folder = _FILE.write(folder, self.config, arrays | {f"state.{name}": a for name, a in self.state.items()})
        write_tables(self, folder)

    def table(self, kind: Literal["curves", "inversions", "stragglers"] = "curves") -> "pa.Table":
        """The run as a table.

        Parameters
        ----------
        kind : "curves", "inversions" or "stragglers", default "curves"
            "curves": a row for each seed, record, layer and class. "inversions": a row for each seed, layer and class, with the
            inversion or the reason why there is none. "stragglers": a row for each point that is a straggler in at least one
            seed, the largest share of the seeds first: the table of `fe.stragglers(run)`, as far as the run alone tells.
        """
        choice("kind", kind, ("curves", "inversions", "stragglers"))
        if kind == "stragglers":
            return straggler_scores(self).table()
        return curves_table(self) if kind == "curves" else inversions_table(self)

    def plot(
        self,
        kind: Literal["radius", "distance", "error", "map"] = "radius",
        *,
        against: Literal["epoch", "train_error"] = "epoch",
        layer: int = -1,
        data: Any = None,
        ax: "Axes | None" = None,
    ) -> "tuple[Figure, Axes]":
        """Draw curves with matplotlib: a line for each class, its seeds thin, a dot at each inversion; or a map of the points.

        Parameters
        ----------
        kind : "radius", "distance", "error" or "map"
            Gyration radii; distances between class means, of more than four classes each class's mean over the others;
            training and test error; or the training points in two dimensions, with rings around the consensus stragglers.
        against : "epoch" or "train_error"
        layer : int
            Of the hidden layers, from 0, or from the end as -1; errors have none.
        data : Data or (n, ...) array
            For a map, the training points: what `fe.load_data` returns, for the hidden layer of the first network after the
            last epoch, or points in the order of `index`, for these as they are.
        ax : matplotlib Axes, optional
            Axes to draw on; by default those of a new figure.

        Returns
        -------
        (Figure, Axes)
            SVG and PDF files of a new figure keep text as text.

        Raises
        ------
        FastentError
            An unknown kind or layer; errors against the training error; a map without data, with other data, or of
            a layer that is not known.
        """
        from fastent.plots.curves import AXIS_LABELS, draw_lines
        from fastent.plots.figure import axes_of
        from fastent.plots.style import add_legend, epoch_axis, error_axis, plain

        choice("kind", kind, ("radius", "distance", "error", "map"))
        choice("against", against, ("epoch", "train_error"))
        if kind == "error" and against == "train_error":
            raise FastentError("kind='error' against='train_error': errors are drawn against='epoch'")
        layer = whole_number("layer", layer, minimum=-self.n_layers, maximum=self.n_layers - 1) % self.n_layers
        if kind == "map":
            return self._plot_map(data, layer, ax)
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

    def _plot_map(self, data: Any, layer: int, ax: "Axes | None") -> "tuple[Figure, Axes]":
        from fastent.data.training_set import Data
        from fastent.training.run_map import run_maps

        if data is None:
            raise FastentError("kind='map' needs the training points: pass data=fe.load_data(...), as the run was given them")
        found = run_maps(self, data, ("pca",), layer=layer)
        names = np.array(self.class_names)[self.codes]
        if found.without_hidden and isinstance(data, Data):
            raise FastentError(
                f"the hidden layer is not known ({found.without_hidden}): data=data.raw draws the points as they were given"
            )
        shown = found.hidden or found.inputs
        return shown["pca"].plot(names, marked=self.straggler_share >= 0.5, mark="stragglers", ax=ax)

    def _lines(self, kind: str, against: Literal["epoch", "train_error"], layer: int) -> "list[Line]":
        """The curves to draw, with their inversions."""
        from fastent.plots.curves import Line, class_lines, distance_lines

        order = np.array(self.class_order)
        names = [self.class_names[c] for c in order]
        if kind == "radius":
            values, turns = self.radius[:, :, layer].take(order, 2), self.inversion[:, layer].take(order, 1)
            return class_lines(names, values, turns, against)
        if kind == "distance":
            distance = self.distance[:, :, layer].take(order, 2).take(order, 3)
            return distance_lines(
                names, distance, lambda: self.inversions("distance")[:, layer].take(order, 1).take(order, 2), against
            )
        lines = [Line("training error", self.train_error)]
        if self.test_error.size:
            lines.append(Line("test error", test_error_of_records(self)))
        return lines

    def _repr_html_(self) -> str:
        from fastent.runtime.formatting import html_table

        return html_table(repr(self), *readable_rows(self), (turning_text(self), *without_inversion(self), rule_text(self)))

    def __repr__(self) -> str:
        done = f"{self.epoch[-1]:.6g} of {self.config['epochs']} epochs"
        classes = "even against odd" if self.parity else f"{len(self.classes)} classes"
        return printable(f"Run({self.config['data']}, {self.n_seeds} seeds, {len(self.index)} points, {classes}, {done})")


# What every stored run has, and what those of older versions lack.
_LATER = tuple(f.name for f in fields(RunRecords) if f.default is not MISSING or f.default_factory is not MISSING)
_ARRAYS = tuple(f.name for f in fields(RunRecords) if f.name not in ("config", "state", *_LATER))


def load_run(folder: str | os.PathLike[str]) -> Run:
    """Load what `Run.save` (or `fastent run --out`) wrote.

    Parameters
    ----------
    folder : path
        The folder it was saved in.

    Returns
    -------
    Run

    Raises
    ------
    FastentError
        No run in the folder, or a file that is damaged or not fastent's: its arrays must fit each other and the configuration.
    """
    arrays = _FILE.read(folder, _ARRAYS)
    with reading(_FILE.path(folder), _FILE.remedy, "no run of fastent's"):
        config = checked_config(arrays["config"])
        check_arrays(config, arrays)
    values: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
    values |= {name: arrays[name] for name in _LATER if name in arrays}
    for name in ("seconds", "seconds_recording"):
        values[name] = float(values.get(name, 0.0))
    state = {name.removeprefix("state."): array for name, array in arrays.items() if name.startswith("state.")}
    return Run(config=config, state=state, **values)


def run_to_resume(folder: str | os.PathLike[str], remedy: str) -> Run:
    """Load a run that training continues; a run without a checksum, of an earlier version, is refused with the `remedy`."""
    path = _FILE.path(folder)
    if is_there(path):
        verify_checksum(path, remedy)
    return load_run(folder)
