"""The records of a probe: curves of each layer and class, their inversions, the stragglers; in memory and on disk."""

import os
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.activations.history import History, Of
from fastent.activations.record_files import RecordFile, check_codes, check_shapes, long_table, write_readable
from fastent.errors import FastentError
from fastent.io.reading import parse_json, reading
from fastent.io.tabular import Tabular
from fastent.options import choice
from fastent.printable import printable, storable
from fastent.statistics.inversion_rule import BURN_IN, MIN_RISE, Rule

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastent.plots.curves import Line

__all__ = ["OF_LAYERS", "ProbeRecords", "load_probe"]

Array = NDArray[np.float64]

_FILE = RecordFile("probe.npz", "records", "the records of a probe", "a probe was saved to", "save the probe again")
# One number for each record and layer.
OF_LAYERS = ("fisher", "nc1", "mixing", "mixing_error", "margin", "n2", "n3", "dimension")


@dataclass(frozen=True, eq=False)
class ProbeRecords(Tabular):
    """E records of L layers of a model, on a probe set of n rows and C classes.

    Attributes
    ----------
    config : dict
        How the probe was made; JSON throughout.
    layers : tuple of str
    classes : (C,)
        Their names; by default the sorted labels.
    codes : (n,) int64
        Class of each row, as a position in `classes`.
    step : (E,) int64
        Increasing: epochs or updates, whatever the probe was called with.
    error : (E,) float64
        Share of the rows that the model misclassifies, in [0, 1]; NaN if it returns no logits of these classes.
    loss : (E,) float64
        Its mean cross-entropy; NaN likewise.
    radius : (E, L, C) float64
        Gyration radii, of unit rows if the probe's `normalize` was on.
    distance : (E, L, C, C) float64 or None
        Between class means; None if they were not recorded.
    fisher : (E, L) float64
        Trace of the between-class over trace of the within-class scatter.
    nc1 : (E, L) float64
        Within-class over between-class variation, as in `fe.geometry`; NaN if not measured.
    mixing, mixing_error : (E, L) float64
        Neighbourhood overlap, and error of the k nearest neighbours' vote, of the queries among all rows; NaN if not measured.
    margin, n2, n3 : (E, L) float64
        Mean relative margin, N2 and N3 of the queries among all rows; NaN if not measured.
    dimension : (E, L) float64
        Intrinsic dimension by TwoNN from the queries' neighbours among all rows; NaN if not measured, or if no query has
        neighbours at two distances.
    wrong : (E, ceil(n / 8)) uint8
        Misclassified rows, one bit each; see `misclassified`.
    scalars : dict of str to (E,) float64
        Numbers that the probe was given along with the step; NaN where it was not given them.
    queries : (q,) int64 or None
        The rows that `points` are of.
    points : (q, d) float32 or None
        Their activations in the last layer at the last step, for a map; None unless "map" is among the probe's metrics.
    """

    config: dict[str, Any]
    layers: tuple[str, ...]
    classes: NDArray[Any]
    codes: NDArray[np.int64]
    step: NDArray[np.int64]
    error: Array
    loss: Array
    radius: Array
    distance: Array | None
    fisher: Array
    nc1: Array
    mixing: Array
    mixing_error: Array
    margin: Array
    n2: Array
    n3: Array
    dimension: Array
    wrong: NDArray[np.uint8]
    scalars: dict[str, Array]
    queries: NDArray[np.int64] | None = None
    points: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.step)

    def inversions(
        self,
        of: Of = "radius",
        rule: Rule = "shape",
        *,
        burn_in: float = BURN_IN,
        min_rise: float = MIN_RISE,
    ) -> NDArray[Any]:
        """Return the inversions so far: of the radius, (L, C), or of the distance between classes, (L, C, C), as objects.

        Rule and defaults are those of `find_inversion`; `burn_in` is in steps. `train_error` is the error on the probe set;
        None if that was not measured. What is found can still change as training goes on.
        """
        return self._history.inversions(of, rule, burn_in=burn_in, min_rise=min_rise).squeeze(0)

    @cached_property
    def _history(self) -> History:
        """These records as those of one network."""
        return History(
            epoch=self.step,
            train_error=self.error[None],
            radius=self.radius[None],
            distance=None if self.distance is None else self.distance[None],
            wrong=self.wrong[None],
            codes=self.codes,
        )

    def misclassified(self, step: int) -> NDArray[np.bool_]:
        """Return (n,) bool: the rows that the model got wrong at a step that was recorded."""
        self._need_errors()
        at = np.flatnonzero(self.step == step)
        if not len(at):
            recorded = f"{self.step[0]}..{self.step[-1]} hold {len(self)} that were" if len(self) else "nothing was"
            raise FastentError(f"step {step} was not recorded: {recorded}")
        return self._history.misclassified(int(at[0])).squeeze(0)

    def stragglers(self, layer: str | None = None, **options: Any) -> NDArray[np.bool_]:
        """Return (n,) bool: the rows of each class that were misclassified at that class's own inversion in a layer.

        By default those of the last layer; options as for `inversions`. A class without an inversion has no stragglers.
        """
        self._need_errors()
        if layer is not None:
            choice("layer", layer, self.layers)
        at = self.layers.index(self.layers[-1] if layer is None else layer)
        return self._history.stragglers(self.inversions(**options)[None, at]).squeeze(0)

    def _need_errors(self) -> None:
        if len(self) and np.isnan(self.error).all():
            raise FastentError(
                "which rows are misclassified is not known: the model returned no logits (batch, classes) with a column for "
                "each label 0, 1, ..."
            )

    def flat(self, at: int = -1) -> dict[str, float]:
        """One record as {"error": ..., "LAYER/radius/CLASS": ..., "LAYER/fisher": ...}, without what was not measured.

        Of the distances between classes it has the mean over pairs.
        """
        numbers = {name: float(values[at]) for name, values in self.scalars.items()}
        numbers |= {"error": float(self.error[at]), "loss": float(self.loss[at])}
        apart = ~np.eye(len(self.classes), dtype=bool)
        for i, layer in enumerate(self.layers):
            numbers |= {f"{layer}/radius/{name}": float(r) for name, r in zip(self.classes, self.radius[at, i], strict=True)}
            if self.distance is not None:
                numbers[f"{layer}/distance"] = float(self.distance[at, i][apart].mean())
            numbers |= {f"{layer}/{name}": float(getattr(self, name)[at, i]) for name in OF_LAYERS}
        return {name: value for name, value in numbers.items() if not np.isnan(value)}

    def table(self) -> "pa.Table":
        """One row for each step, layer and class; null where something was not measured."""
        columns = {
            "step": (self.step, (0,)),
            "layer": (storable(np.array(self.layers)), (1,)),
            "class": (storable(self.classes.astype(str)), (2,)),
            "error": (self.error, (0,)),
            "loss": (self.loss, (0,)),
            "radius": (self.radius, (0, 1, 2)),
            **{name: (getattr(self, name), (0, 1)) for name in OF_LAYERS},
            **{name: (values, (0,)) for name, values in self.scalars.items()},
        }
        return long_table(self.radius.shape, self.config, columns)

    def summary(self) -> dict[str, Any]:
        """The result in a few numbers, JSON throughout: for each layer and class its inversion, or why there is none."""
        judged = len(self) > 0 and not np.isnan(self.error).all()
        straggler = self.stragglers() if judged else None
        inversions = self.inversions()
        return {
            "rows": len(self.codes),
            "records": len(self),
            "step": int(self.step[-1]) if len(self) else None,
            "error": float(self.error[-1]) if judged else None,
            "stragglers": None if straggler is None else int(straggler.sum()),
            "inversions": [
                {"layer": layer, "class": str(name), **asdict(inversions[i, c])}
                for i, layer in enumerate(self.layers)
                for c, name in enumerate(self.classes)
            ],
        }

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the records to a folder, each file whole or not at all.

        `probe.npz` has everything: `fe.load_probe` reads it. For other programs there are `config.json`, `summary.json` and
        `curves.parquet` (a row for each step, layer and class).
        """
        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        arrays |= {"layers": np.array(self.layers)} | {f"scalar.{name}": values for name, values in self.scalars.items()}
        write_readable(_FILE.write(folder, self.config, arrays), self.config, self.summary(), curves=self.table())

    def plot(
        self,
        kind: Literal[
            "radius",
            "distance",
            "error",
            "loss",
            "fisher",
            "nc1",
            "mixing",
            "mixing_error",
            "margin",
            "n2",
            "n3",
            "dimension",
        ] = "radius",
        *,
        layer: str | None = None,
        ax: "Axes | None" = None,
        **options: Any,
    ) -> "tuple[Figure, Axes]":
        """Draw what was recorded against the step, with matplotlib.

        Parameters
        ----------
        kind : str
            "radius" and "distance" have a line for each class, or pair of classes, and a dot at each inversion; "error" and
            "loss" have one line, and other kinds a line for each layer.
        layer : str, optional
            Which layer; by default the last one for radii and distances, and all layers for other kinds.
        ax : matplotlib Axes, optional
            Axes to draw on; by default those of a new figure.
        **options
            Options of `inversions`, for the dots: `rule`, `burn_in`, `min_rise`.

        Raises
        ------
        FastentError
            An unknown kind or layer; nothing recorded, or not that; options of inversions where none are drawn.
        """
        from fastent.plots.curves import AXIS_LABELS, draw_lines
        from fastent.plots.figure import axes_of
        from fastent.plots.style import add_legend, epoch_axis, plain

        choice("kind", kind, ("radius", "distance", "error", "loss", *OF_LAYERS))
        if options and kind not in ("radius", "distance"):
            name, value = next(iter(options.items()))
            raise FastentError(f"{name}={value!r} is for inversions, of which kind={kind!r} has none: leave it out")
        if not len(self):
            raise FastentError("the probe has recorded nothing so far: call it in training")
        if layer is not None:
            choice("layer", layer, self.layers)
        lines = self._lines(kind, layer, options)
        if all(np.isnan(line.values).all() for line in lines):
            raise FastentError(f"kind={kind!r} was not recorded: ask for it when the probe is made, with metrics")
        title = "probe set"
        if kind in ("radius", "distance"):
            name = self.layers[-1] if layer is None else layer
            title = f"layer {name}" if name else "the model"
        figure, axes = axes_of(ax)
        draw_lines(axes, self.step[None].astype(float), lines, "epoch")
        axes.set(ylabel=AXIS_LABELS[kind], title=plain(title))
        epoch_axis(axes, float(self.step[-1]), "step")
        add_legend(axes)
        return figure, axes

    def _lines(self, kind: str, layer: str | None, options: dict[str, Any]) -> "list[Line]":
        """The curves to draw, with their inversions."""
        from fastent.plots.curves import Line, class_lines, distance_lines

        at = self.layers.index(self.layers[-1] if layer is None else layer)
        names = [str(name) for name in self.classes]
        if kind == "radius":
            return class_lines(names, self.radius[None, :, at], self.inversions(**options)[None, at], "epoch")
        if kind == "distance":
            distance = self._history.recorded_distance()[:, :, at]
            return distance_lines(names, distance, lambda: self.inversions("distance", **options)[None, at], "epoch")
        if kind in ("error", "loss"):
            return [Line(kind, getattr(self, kind)[None])]
        chosen = enumerate(self.layers) if layer is None else [(at, layer)]
        return [Line(name or "the model", getattr(self, kind)[None, :, i]) for i, name in chosen]

    def _repr_html_(self) -> str:
        from fastent.runtime.formatting import html_table

        rows = []
        for layer, of_layer in zip(self.layers, self.inversions(), strict=True):
            for name, found in zip(self.classes, of_layer, strict=True):
                cells = (f"{found.epoch:,}", f"{found.value:.4f}", "") if found else ("", "", found.reason)
                rows.append((layer, str(name), *cells))
        return html_table(repr(self), ("layer", "class", "inversion at step", "radius at inversion", "none, because"), rows)

    def __repr__(self) -> str:
        of = f"{len(self.codes)} rows, {len(self.classes)} classes"
        return printable(f"ProbeRecords({len(self)} records of layers {', '.join(self.layers)}; {of})")


_ARRAYS = tuple(f.name for f in fields(ProbeRecords) if f.name not in ("config", "layers", "scalars"))
_LATER = ("nc1", "dimension")  # which earlier versions did not record
_OPTIONAL = ("distance", "queries", "points", *_LATER)


def load_probe(folder: str | os.PathLike[str]) -> ProbeRecords:
    """Load what `fe.Probe.save` wrote; what the version that wrote it did not record is NaN.

    Parameters
    ----------
    folder : path
        The folder it was saved in.

    Returns
    -------
    ProbeRecords

    Raises
    ------
    FastentError
        No records in the folder, or a file that is damaged or not fastent's.
    """
    arrays = _FILE.read(folder, ("layers", *(name for name in _ARRAYS if name not in _OPTIONAL)))
    scalars = {name.removeprefix("scalar."): array for name, array in arrays.items() if name.startswith("scalar.")}
    with reading(_FILE.path(folder), _FILE.remedy, "no records of a probe"):
        config = parse_json(str(arrays["config"]))
        _check_arrays(arrays, scalars)
        values: dict[str, Any] = {name: arrays.get(name) for name in _ARRAYS}
        values |= {name: np.full_like(arrays["fisher"], np.nan) for name in _LATER if name not in arrays}
        return ProbeRecords(config, tuple(arrays["layers"].tolist()), scalars=scalars, **values)


def _check_arrays(arrays: dict[str, NDArray[Any]], scalars: dict[str, NDArray[Any]]) -> None:
    """Compare shapes, kinds and ranges of the arrays of a file."""
    radius = arrays["radius"]
    if radius.ndim != 3:
        raise ValueError(f"radius has shape {radius.shape}")
    records, layers, classes = radius.shape
    n, q = arrays["codes"].size, arrays["queries"].size if "queries" in arrays else 0
    expected: dict[str, tuple[tuple[int, ...], str]] = {
        "layers": ((layers,), "U"),
        "classes": ((classes,), "iubUS"),
        "codes": ((n,), "iu"),
        "step": ((records,), "iu"),
        "error": ((records,), "f"),
        "loss": ((records,), "f"),
        "radius": (radius.shape, "f"),
        "distance": ((*radius.shape, classes), "f"),
        "wrong": ((records, -(-n // 8)), "u"),
        **dict.fromkeys(OF_LAYERS, ((records, layers), "f")),
        "queries": ((q,), "i"),
        "points": ((q, arrays["points"].size // max(q, 1) if "points" in arrays else 0), "f"),
        **{f"scalar.{name}": ((records,), "f") for name in scalars},
    }
    check_shapes(arrays, expected)
    check_codes(arrays["codes"], classes)
    if (queries := arrays.get("queries", arrays["codes"][:0])).size and not 0 <= queries.min() <= queries.max() < n:
        raise ValueError(f"queries are from {queries.min()} to {queries.max()}, of {n} rows")
    if (np.diff(arrays["step"].astype(np.float64)) <= 0).any():
        raise ValueError("its steps do not ascend")
