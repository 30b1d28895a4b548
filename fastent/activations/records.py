"""What a probe has recorded: curves of each layer and class, their inversions, the stragglers; as files and as numbers."""

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.files import output_folder, write_parquet, write_text
from fastent.io.reading import as_path, is_there, listed, parse_json, reading
from fastent.io.sealed import read_sealed_npz, write_sealed_npz
from fastent.options import choice
from fastent.printable import printable, storable
from fastent.statistics.inversion import Rule, find_inversion
from fastent.training.options import DEFAULTS

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastent.plots.curves import Line

__all__ = ["OF_LAYERS", "ProbeRecords", "load_probe"]

Array = NDArray[np.float64]

_FILE = "probe.npz"
# One number for each record and layer.
OF_LAYERS = ("fisher", "mixing", "mixing_error", "margin", "n2", "n3")


@dataclass(frozen=True, eq=False)
class ProbeRecords:
    """E looks at L layers of a model, on a probe set of n rows and C classes.

    Attributes
    ----------
    config : dict
        How the probe was made; JSON throughout.
    layers : tuple of str
    classes : (C,)
        Their names; the sorted labels, unless others were given.
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
    mixing, mixing_error : (E, L) float64
        Neighbourhood overlap, and error of the k nearest neighbours' vote, of the queries among all rows; NaN if not measured.
    margin, n2, n3 : (E, L) float64
        Mean relative margin, N2 and N3 of the queries among all rows; NaN if not measured.
    wrong : (E, ceil(n / 8)) uint8
        Misclassified rows, one bit each; see `misclassified`.
    scalars : dict of str to (E,) float64
        What the probe was given beside the step; NaN where it was not.
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
    mixing: Array
    mixing_error: Array
    margin: Array
    n2: Array
    n3: Array
    wrong: NDArray[np.uint8]
    scalars: dict[str, Array]

    def __len__(self) -> int:
        return len(self.step)

    def inversions(
        self,
        of: Literal["radius", "distance"] = "radius",
        rule: Rule = "shape",
        *,
        burn_in: float = DEFAULTS.burn_in,
        min_rise: float = DEFAULTS.min_rise,
    ) -> NDArray[Any]:
        """Return the inversions so far: of the radius, (L, C), or of the distance between classes, (L, C, C), as objects.

        Rule and defaults are those of `find_inversion`; `burn_in` is in steps. `train_error` is the error on the probe set;
        None if that was not measured. What is found can still change as training goes on.
        """
        choice("of", of, ("radius", "distance"))
        curves = self.radius if of == "radius" else self._recorded_distance()
        kind: Literal["min", "max"] = "min" if of == "radius" else "max"
        found = np.empty(curves.shape[1:], object)
        judged = bool(np.isfinite(self.error).all())
        errors = self.error if judged else np.zeros(len(self))
        for place in np.ndindex(found.shape):
            turned = find_inversion(
                self.step, curves[(slice(None), *place)], errors, kind=kind, rule=rule, burn_in=burn_in, min_rise=min_rise
            )
            found[place] = turned if judged or not turned else replace(turned, train_error=None, train_error_interval=None)
        return found

    def _recorded_distance(self) -> Array:
        if self.distance is None:
            raise FastentError(
                "distances were not recorded, there are many classes: make the probe with 'distances' in metrics"
            )
        return self.distance

    def misclassified(self, step: int) -> NDArray[np.bool_]:
        """Return (n,) bool: the rows that the model got wrong at a step that was recorded."""
        self._need_errors()
        at = np.flatnonzero(self.step == step)
        if not len(at):
            recorded = f"{self.step[0]}..{self.step[-1]} hold {len(self)} that were" if len(self) else "nothing was"
            raise FastentError(f"step {step} was not recorded: {recorded}")
        return np.unpackbits(self.wrong[at[0]], count=len(self.codes)).astype(bool)

    def stragglers(self, layer: str | None = None, **options: Any) -> NDArray[np.bool_]:
        """Return (n,) bool: the rows of each class that were misclassified at that class's own inversion in a layer.

        By default those of the last layer; options as for `inversions`. A class without an inversion has no stragglers.
        """
        self._need_errors()
        if layer is not None:
            choice("layer", layer, self.layers)
        found = np.zeros(len(self.codes), bool)
        at = self.layers.index(self.layers[-1] if layer is None else layer)
        for c, inversion in enumerate(self.inversions(**options)[at]):
            if inversion:
                bits = np.unpackbits(self.wrong[inversion.index], count=len(self.codes)).astype(bool)
                found |= bits & (self.codes == c)
        return found

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
        import pyarrow as pa

        shape = self.radius.shape

        def column(values: Any, *axes: int) -> Any:
            """Values that vary along some of (step, layer, class), once for each row."""
            expanded = np.expand_dims(np.asarray(values), tuple(axis for axis in range(3) if axis not in axes))
            return pa.array(np.broadcast_to(expanded, shape).ravel(), from_pandas=True)

        columns = {
            "step": column(self.step, 0),
            "layer": column(storable(np.array(self.layers)), 1),
            "class": column(storable(self.classes.astype(str)), 2),
            "error": column(self.error, 0),
            "loss": column(self.loss, 0),
            "radius": column(self.radius, 0, 1, 2),
        }
        columns |= {name: column(getattr(self, name), 0, 1) for name in OF_LAYERS}
        columns |= {name: column(values, 0) for name, values in self.scalars.items()}
        return pa.table(columns).replace_schema_metadata({"fastent.config": json.dumps(self.config)})

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write `table()`."""
        write_parquet(path, self.table(), compression="zstd")

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
        folder = output_folder(folder)
        write_text(folder / "config.json", json.dumps(self.config, indent=2) + "\n")
        write_text(folder / "summary.json", json.dumps(self.summary(), indent=2) + "\n")
        self.to_parquet(folder / "curves.parquet")
        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        arrays |= {f"scalar.{name}": values for name, values in self.scalars.items()}
        write_sealed_npz(folder / _FILE, {"config": json.dumps(self.config), "layers": np.array(self.layers), **arrays})

    def plot(
        self,
        kind: Literal[
            "radius", "distance", "error", "loss", "fisher", "mixing", "mixing_error", "margin", "n2", "n3"
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
            "radius" and "distance" have a line for each class, or pair of classes, and a dot at each inversion; what there is
            one number of for each layer has a line for each layer.
        layer : str, optional
            Which layer; unless said the last for radii and distances, and all for the others.
        ax : matplotlib Axes, optional
            What to draw on; a new figure unless said.
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
            distance = self._recorded_distance()[None, :, at]
            return distance_lines(names, distance, lambda: self.inversions("distance", **options)[None, at], "epoch")
        if kind in ("error", "loss"):
            return [Line(kind, getattr(self, kind)[None])]
        chosen = enumerate(self.layers) if layer is None else [(at, layer)]
        return [Line(name or "the model", getattr(self, kind)[None, :, i]) for i, name in chosen]

    def _repr_html_(self) -> str:
        from fastent.runtime.notebook import html_table

        rows = []
        for layer, of_layer in zip(self.layers, self.inversions(), strict=True):
            for name, found in zip(self.classes, of_layer, strict=True):
                cells = (f"{found.epoch:,}", f"{found.value:.4f}", "") if found else ("", "", found.reason)
                rows.append((layer, str(name), *cells))
        return html_table(repr(self), ("layer", "class", "inversion at step", "radius at inversion", "none, because"), rows)

    def __repr__(self) -> str:
        of = f"{len(self.codes)} rows, {len(self.classes)} classes"
        return printable(f"ProbeRecords({len(self)} looks at layers {', '.join(self.layers)}; {of})")


_ARRAYS = tuple(f.name for f in fields(ProbeRecords) if f.name not in ("config", "layers", "scalars"))


def load_probe(folder: str | os.PathLike[str]) -> ProbeRecords:
    """Load what `fe.Probe.save` wrote.

    Raises
    ------
    FastentError
        No records in the folder, or a file that is damaged or not fastent's.
    """
    path = as_path(folder, "the folder of a probe") / _FILE
    if not is_there(path):
        raise FastentError(f"no records in {str(folder)!r}: {_FILE} is missing; name a folder that a probe was saved to")
    remedy = "save the probe again"
    arrays = read_sealed_npz(path, remedy, earlier=True)
    missing = [name for name in ("config", "layers", *_ARRAYS) if name not in arrays and name != "distance"]
    if missing:
        raise FastentError(f"{str(path)!r} holds no records of a probe, it lacks {listed(missing)}: name another folder")
    values: dict[str, Any] = {name: arrays.get(name) for name in _ARRAYS}
    scalars = {name.removeprefix("scalar."): array for name, array in arrays.items() if name.startswith("scalar.")}
    with reading(path, remedy, "no records of a probe"):
        config = parse_json(str(arrays["config"]))
        _see_that_they_fit(arrays, scalars)
        return ProbeRecords(config, tuple(arrays["layers"].tolist()), scalars=scalars, **values)


def _see_that_they_fit(arrays: dict[str, NDArray[Any]], scalars: dict[str, NDArray[Any]]) -> None:
    """Compare shapes, kinds and ranges of what a file holds."""
    radius = arrays["radius"]
    if radius.ndim != 3:
        raise ValueError(f"radius has shape {radius.shape}")
    records, layers, classes = radius.shape
    n = arrays["codes"].size
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
        **{f"scalar.{name}": ((records,), "f") for name in scalars},
    }
    for name in expected.keys() & arrays.keys():
        shape, kinds = expected[name]
        found = arrays[name]
        if found.shape != shape or found.dtype.kind not in kinds:
            raise ValueError(f"{name} is {found.dtype} of shape {found.shape}, where shape {shape} would fit the others")
    if arrays["wrong"].dtype != np.uint8:
        raise ValueError(f"wrong is {arrays['wrong'].dtype}")
    if n and (arrays["codes"].min() < 0 or arrays["codes"].max() >= classes):
        raise ValueError(f"codes are from {arrays['codes'].min()} to {arrays['codes'].max()}, of {classes} classes")
    if (np.diff(arrays["step"].astype(np.float64)) <= 0).any():
        raise ValueError("its steps do not ascend")
