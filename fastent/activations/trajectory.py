"""All layers of all checkpoints of a model, measured from what `fe.capture` kept of them."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.activations.history import History
from fastent.activations.record_files import long_table, write_readable
from fastent.arrays.validation import as_array, as_labels
from fastent.errors import FastentError
from fastent.io.files import output_folder
from fastent.io.result_cache import ResultCache
from fastent.io.store import Store, open_store
from fastent.measurement.measure import measure
from fastent.measurement.metrics import MEANINGS
from fastent.measurement.plan import metric_names, wanted_metrics
from fastent.measurement.result import Measurement
from fastent.options import short_repr
from fastent.printable import natural_key, printable, storable
from fastent.runtime.formatting import as_plain
from fastent.runtime.progress import Progress, reporting
from fastent.statistics.class_moments import moments_of
from fastent.statistics.point_map import map_methods

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Trajectory", "trajectory", "without_number"]

Array = NDArray[np.float64]

_METRICS = ("mixing", "margins", "geometry", "dimension")
# A layer whose rows repeat each other, as in a network that has collapsed or diverged, does not have them.
_NOT_EVERYWHERE = ("dimension", "soft_nearest_neighbor")
# Of fewer rows nothing is to be seen.
_LEAST_MAPPED = 4
# Of fe.measure.
_OPTIONS = ("k", "queries", "normalize", "temperature", "memory_budget", "seed")


@dataclass(frozen=True, eq=False)
class Trajectory:
    """L layers of a model at E checkpoints, measured on the same n rows of C classes.

    Attributes
    ----------
    config : dict
        How they were measured.
    layers : tuple of str
    names : tuple of str
        Of the checkpoints, in their order.
    step : (E,) int64
        The number in each name that ascends; 1, 2, ... if there is none.
    classes : (C,)
    codes : (n,) int64
        Class of each row, as a position in `classes`.
    statistics : dict of str to (E, L) float64
        By names such as "mixing/overlap"; NaN where something could not be measured.
    low, high : dict of str to (E, L) float64
        95 % intervals where rows were sampled; else NaN.
    radius : (E, L, C) float64
        Gyration radii of unit rows, as in `fe.Probe`, whatever `normalize` says.
    last : Measurement or None
        Mixing in the last layer at the last checkpoint, with its `maps`; None if no map was asked for, or of fewer than four
        rows.
    """

    config: dict[str, Any]
    layers: tuple[str, ...]
    names: tuple[str, ...]
    step: NDArray[np.int64]
    classes: NDArray[Any]
    codes: NDArray[np.int64]
    statistics: dict[str, Array]
    low: dict[str, Array]
    high: dict[str, Array]
    radius: Array
    last: Measurement | None = None

    def inversions(self, **options: Any) -> NDArray[Any]:
        """(L, C) of Inversion: where each class's radius turns, or why it does not; ten checkpoints are needed at least."""
        n = len(self.step)
        history = History(
            epoch=self.step,
            train_error=np.full((1, n), np.nan),
            radius=self.radius[None],
            distance=None,
            wrong=np.zeros((1, n, 0), np.uint8),
            codes=self.codes,
        )
        return history.inversions(**options).squeeze(0)

    def table(self) -> "pa.Table":
        """One row for each checkpoint, layer and class; null where something was not measured."""
        columns: dict[str, Any] = {
            "checkpoint": (storable(np.array(self.names)), (0,)),
            "step": (self.step, (0,)),
            "layer": (storable(np.array(self.layers)), (1,)),
            "class": (storable(self.classes.astype(str)), (2,)),
            "radius": (self.radius, (0, 1, 2)),
        }
        for name, values in self.statistics.items():
            columns[name] = (values, (0, 1))
            if np.isfinite(self.low[name]).any():
                columns |= {f"{name} low": (self.low[name], (0, 1)), f"{name} high": (self.high[name], (0, 1))}
        return long_table(self.radius.shape, self.config, columns)

    def summary(self) -> dict[str, Any]:
        """The result in a few numbers, JSON throughout: statistics at the last checkpoint, and all inversions."""
        found = self.inversions()
        return {
            "rows": len(self.codes),
            "checkpoints": list(self.names),
            "steps": self.step.tolist(),
            "layers": list(self.layers),
            "last": {
                layer: {name: float(values[-1, i]) for name, values in self.statistics.items()}
                for i, layer in enumerate(self.layers)
            },
            "inversions": [
                {"layer": layer, "class": str(name), **found[i, c].__dict__}
                for i, layer in enumerate(self.layers)
                for c, name in enumerate(self.classes)
            ],
        }

    def save(self, folder: str | os.PathLike[str], *, asked: dict[str, Any] | None = None) -> None:
        """Write `config.json`, `summary.json` and `curves.parquet` (a row for each checkpoint, layer and class).

        `asked`, which captures were measured with which options, is kept in the summary.
        """
        summary = self.summary() | ({} if asked is None else {"asked": asked})
        write_readable(output_folder(folder), self.config, summary, curves=self.table())

    def __repr__(self) -> str:
        of = f"{len(self.codes)} rows, {len(self.classes)} classes"
        return printable(f"Trajectory({len(self.names)} checkpoints of layers {', '.join(self.layers)}; {of})")


def trajectory(
    captures: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    labels: Any = None,
    *,
    layers: str | Sequence[str] | None = None,
    metrics: Any = _METRICS,
    map: str = "pca",
    out: str | os.PathLike[str] | None = None,
    progress: Progress = None,
    **options: Any,
) -> Trajectory:
    """Measure all layers of many checkpoints, each captured on the same rows by `fe.capture`.

    One layer of one checkpoint is measured at a time, and read from disk as `fe.measure` does, so that memory does not grow
    with their number.

    Parameters
    ----------
    captures : path or sequence of path
        Folders that `fe.capture` wrote, one for each checkpoint; or one folder that holds them. They are put in natural order
        of their names: step2 comes before step10. If some have no number, such as "final", name all of them in their order,
        which is then kept.
    labels : array-like (n,), optional
        Default those that were captured.
    layers : str or sequence of str, optional
        Default all that were captured.
    metrics : "all", str or sequence of str
        As for `fe.measure`; default mixing, margins, geometry and dimension.
    map : str, default "pca"
        How the last layer at the last checkpoint is laid out in two dimensions: "pca"; "umap" or "tsne" besides that; or
        "none". See `fe.map_points`. Its neighbours are searched for once more.
    out : path, optional
        A folder whose subfolder `parts` keeps each layer of each checkpoint as soon as it is measured. The same call resumes
        from it; another checkpoint, or a capture that has changed, is measured, and the others are not measured again.
    progress : bool or callable, optional
        True for a bar on stderr, or a function of (done, total, message), in layers of checkpoints.
    **options
        Of `fe.measure`: `k`, `queries`, `normalize`, `temperature`, `memory_budget`, `seed`.

    Returns
    -------
    Trajectory

    Raises
    ------
    FastentError
        No captures; unfinished ones; captures of other rows, labels or layers than the first; what `fe.measure` refuses.

    Examples
    --------
    >>> import fastent as fe, tempfile, torch
    >>> data = torch.utils.data.TensorDataset(torch.randn(40, 4), torch.arange(40) % 2)
    >>> folder = tempfile.mkdtemp()
    >>> for epoch in (2, 10):
    ...     model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh())
    ...     _ = fe.capture(model, torch.utils.data.DataLoader(data, batch_size=20), ["0", "1"], f"{folder}/epoch{epoch}")
    >>> fe.trajectory(folder, metrics="geometry")
    Trajectory(2 checkpoints of layers 0, 1; 40 rows, 2 classes)
    """
    methods = map_methods("map", map)
    metrics = metrics if isinstance(metrics, str) else metric_names(metrics)
    _, each_named = wanted_metrics(metrics)
    strange = [name for name in options if name not in _OPTIONS]
    if strange:
        raise FastentError(f"{strange[0]}={short_repr(options[strange[0]])}: the options are {', '.join(_OPTIONS)}")
    if options.get("queries") is not None and (rows := as_array(options["queries"], "queries")).ndim:
        options["queries"] = rows.tolist()
    stores = _stores(captures)
    names = [store.path.name for store in stores]
    if len(set(names)) < len(names):
        raise FastentError(f"captures={short_repr(names)}: two have the same name, rename one of the folders")
    given = stores[0].labels if labels is None else labels
    if given is None:
        raise FastentError(f"{str(stores[0].path)!r} was captured without labels: pass labels, --labels on the command line")
    coded = as_labels(given, n=len(stores[0]), minimum_classes=2)
    wanted = stores[0].layers if layers is None else (layers,) if isinstance(layers, str) else tuple(layers)
    for store in stores:
        _check_alike(store, stores[0], wanted)
    parts = ResultCache(out)
    asked = {"metrics": metrics, **options}
    cells: list[dict[str, NDArray[Any]]] = []
    with reporting(progress, "checkpoints", len(stores) * len(wanted)) as report:
        for store in stores:
            identity = {name: value for name, value in store.manifest.items() if name != "throughput"}
            for layer in wanted:
                report(len(cells), f"{store.path.name}, layer {layer}")
                depends_on = {"store": identity, "layer": layer, "labels": _digest(coded.codes)}
                depends_on |= {"asked": asked, "threads": "any"}

                def make(source: Any = store.layer(layer)) -> dict[str, NDArray[Any]]:  # noqa: B008
                    return _measured(source, coded.classes[coded.codes], metrics, options)

                cells.append(parts.keep("cell", depends_on, make))
    grid = len(stores), len(wanted)
    for name in metric_names(metrics) if each_named else ():
        if not any(each.startswith(f"{name}/") for cell in cells for each in cell["names"]):
            raise FastentError(f"metrics: no layer of any checkpoint has {name!r}; leave it out")
    found = {name: _grid(cells, name, grid) for name in MEANINGS if any(name in cell["names"] for cell in cells)}
    return Trajectory(
        config={
            "captures": [str(store.path) for store in stores],
            **as_plain(asked),
            "parts": None if out is None else str(out),
        },
        layers=wanted,
        names=tuple(names),
        step=_steps(names),
        classes=coded.classes,
        codes=coded.codes,
        statistics={name: values[..., 0] for name, values in found.items()},
        low={name: values[..., 1] for name, values in found.items()},
        high={name: values[..., 2] for name, values in found.items()},
        radius=np.stack([cell["radius"] for cell in cells]).reshape(*grid, -1),
        last=_mapped(stores[-1].layer(wanted[-1]), coded.classes[coded.codes], map, options) if methods else None,
    )


def _stores(captures: Any) -> list[Store]:
    several = not isinstance(captures, str | os.PathLike)
    places = [Path(each) for each in captures] if several else [Path(captures)]
    if not several and places[0].is_dir() and not (places[0] / "manifest.json").is_file():
        places = [each.parent for each in places[0].glob("*/manifest.json")]
    if not places:
        raise FastentError(f"captures={short_repr(captures)}: no capture is there; name folders that fe.capture wrote")
    names = [place.resolve().name for place in places]
    order = sorted(range(len(places)), key=lambda i: natural_key(names[i]))
    unnumbered = without_number(names)
    if several and unnumbered:  # only the user knows where they belong
        order = sorted(order)
        _check_order([name for name in names if name not in unnumbered], unnumbered[0])
    elif 0 < len(unnumbered) < len(names):
        numbered = next(names[i] for i in order if names[i] not in unnumbered)
        raise FastentError(
            f"{str(captures)!r} holds {unnumbered[0]!r} beside {numbered!r}, and no number says where it belongs: name the "
            "folders one by one in their order, or leave it out"
        )
    return [open_store(places[i]) for i in order]


def without_number(names: Sequence[str]) -> list[str]:
    """Those that have no number of their own, behind what all have in common, which would tell their place."""
    common = len(re.sub(r"\d+$", "", os.path.commonprefix(list(names))))  # noqa: RUF071 (of names, not of paths)
    return [name for name in names if re.search(r"\d", name[common:]) is None] if len(names) > 1 else []


def _check_order(numbered: Sequence[str], other: str) -> None:
    for one, following in pairwise(numbered):
        if natural_key(one) > natural_key(following):
            raise FastentError(
                f"captures: {one!r} comes before {following!r}, and {other!r} has no number that says where it belongs: name "
                "them in their order, or leave it out"
            )


def _check_alike(store: Store, first: Store, layers: Sequence[str]) -> None:
    missing = [layer for layer in layers if layer not in store.layers]
    if missing:
        raise FastentError(f"{str(store.path)!r} has no layer {missing[0]!r}: it has {', '.join(map(repr, store.layers))}")
    labels = [each.labels for each in (store, first)]
    known = [each is not None for each in labels]
    if len(store) != len(first) or known[0] != known[1] or (known[0] and not np.array_equal(*labels)):  # type: ignore[arg-type]
        raise FastentError(f"{str(store.path)!r} and {str(first.path)!r} are of other rows or labels: capture the same for all")


def _measured(source: Any, labels: NDArray[Any], metrics: Any, options: dict[str, Any]) -> dict[str, NDArray[Any]]:
    try:
        measured = measure(source, labels, metrics=metrics, map="none", **options)
    except FastentError:
        others = [name for name in metrics if name not in _NOT_EVERYWHERE]
        if isinstance(metrics, str) or len(others) in (0, len(metrics)):
            raise
        measured = measure(source, labels, metrics=others, map="none", **options)
    intervals, summary = measured.intervals(), measured.summary()
    numbers = []
    for name, value in summary.items():
        found = intervals.get(name)
        numbers.append(
            (value, *((found.low, found.high) if found is not None and found.low < found.high else (np.nan, np.nan)))
        )
    codes = np.searchsorted(measured.classes, labels)
    radius = moments_of(source, codes, len(measured.classes), normalize=True).compute().radius
    return {"names": np.array(list(summary)), "values": np.array(numbers, float).reshape(-1, 3), "radius": radius}


def _mapped(source: Any, labels: NDArray[Any], map: Any, options: dict[str, Any]) -> Measurement | None:
    if len(labels) < _LEAST_MAPPED:
        return None
    k = min(options.get("k", 10), len(labels) - 1)
    return measure(source, labels, metrics="mixing", map=map, **{**options, "k": max(k, 2)})


def _grid(cells: list[dict[str, NDArray[Any]]], name: str, shape: tuple[int, int]) -> Array:
    nothing = np.full(3, np.nan)
    rows = [cell["values"][cell["names"] == name] for cell in cells]
    return np.array([found[0] if len(found) else nothing for found in rows]).reshape(*shape, 3)


def _steps(names: Sequence[str]) -> NDArray[np.int64]:
    """The first number in the names that ascends from each to the next."""
    numbers = [[int(part) for part in re.findall(r"\d+", name)] for name in names]
    for column in zip(*numbers, strict=False):
        if max(column) < 2**53 and all(column[i] < column[i + 1] for i in range(len(column) - 1)):
            return np.array(column, np.int64)
    return np.arange(1, len(names) + 1)


def _digest(codes: NDArray[np.int64]) -> str:
    import hashlib

    return hashlib.sha256(codes.tobytes()).hexdigest()
