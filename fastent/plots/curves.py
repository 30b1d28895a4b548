"""Curves of training: radii, distances and errors, with the inversions marked."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.options import choice, whole_number
from fastent.plots.style import add_legend, class_style, epoch_axis, error_axis, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastent.activations.records import ProbeRecords
    from fastent.statistics.inversion import Inversion
    from fastent.training.run import Run

__all__ = ["PROBE_KINDS", "RUN_KINDS", "draw_probe", "draw_run"]

Array = NDArray[np.float64]

RUN_KINDS = ("radius", "distance", "error")
PROBE_KINDS = ("radius", "distance", "error", "loss", "fisher", "mixing", "mixing_error", "margin", "n2", "n3")
_LABELS = {
    "radius": "gyration radius", "distance": "distance of class means", "error": "share misclassified",
    "loss": "cross-entropy", "fisher": "between- over within-class scatter", "mixing": "neighbours with the same label",
    "mixing_error": "error of the neighbours' vote", "margin": "relative margin", "n2": "N2", "n3": "N3",
}  # fmt: skip
# More thin lines than this hide each other; with more classes than that pairs are too many, and each has its mean distance.
_THIN_LINES, _PAIRED_CLASSES = 40, 4
# Characters of a name in a legend.
_LONGEST_NAME = 40


class Line(NamedTuple):
    """Values (S, E) of S seeds, and where each turns, if it does."""

    name: str
    values: Array
    turns: "Sequence[Inversion] | NDArray[Any]" = ()


def draw_run(axes: "Axes", run: "Run", kind: str, against: str, layer: int) -> None:
    choice("kind", kind, RUN_KINDS)
    choice("against", against, ("epoch", "train_error"))
    if kind == "error" and against == "train_error":
        raise FastentError("kind='error' against='train_error': errors are drawn against='epoch'")
    layer = _place("layer", layer, run.n_layers)
    names = run.class_names
    x = run.train_error if against == "train_error" else np.broadcast_to(run.epoch.astype(float), run.train_error.shape)
    if kind == "radius":
        lines = [
            Line(said, run.radius[:, :, layer, c], run.inversion[:, layer, c]) for c, said in enumerate(_of_classes(names))
        ]
    elif kind == "distance":
        lines = _distances(run.distance[:, :, layer], names, lambda: run.inversions("distance")[:, layer])
    else:
        lines = [Line("training error", run.train_error)]
        if run.test_error.size:
            test = np.full(run.train_error.shape, np.nan)
            test[:, run.positions(run.test_epoch)] = run.test_error
            lines.append(Line("test error", test))
    _draw_lines(axes, x, lines, "train_error" if against == "train_error" else "epoch")
    of_layer = "" if kind == "error" or run.n_layers == 1 else f", hidden layer {layer + 1} of {run.n_layers}"
    seeds = f", {run.n_seeds} seeds" if run.n_seeds > 1 else ""
    axes.set(ylabel=_LABELS[kind], title=plain(f"{run.config.get('data', 'run')}{seeds}{of_layer}"))
    if against == "train_error":
        error_axis(axes, run.n_recorded)
    else:
        epoch_axis(axes, float(run.epoch[-1]))
    add_legend(axes)


def draw_probe(axes: "Axes", records: "ProbeRecords", kind: str, layer: str | None, options: dict[str, Any]) -> None:
    choice("kind", kind, PROBE_KINDS)
    if options and kind not in ("radius", "distance"):
        name, value = next(iter(options.items()))
        raise FastentError(f"{name}={value!r} is for inversions, of which kind={kind!r} has none: leave it out")
    if not len(records):
        raise FastentError("the probe has recorded nothing so far: call it in training")
    if layer is not None:
        choice("layer", layer, records.layers)
    at = records.layers.index(records.layers[-1] if layer is None else layer)
    names = [str(name) for name in records.classes]
    title = "probe set"
    if kind == "radius":
        turns = records.inversions(**options)[at]
        lines = [Line(said, records.radius[None, :, at, c], turns[c : c + 1]) for c, said in enumerate(_of_classes(names))]
    elif kind == "distance":
        lines = _distances(_distance(records)[None, :, at], names, lambda: records.inversions("distance", **options)[None, at])
    elif kind in ("error", "loss"):
        lines = [Line(kind, getattr(records, kind)[None])]
    else:
        chosen = enumerate(records.layers) if layer is None else [(at, layer)]
        lines = [Line(name or "the model", getattr(records, kind)[None, :, i]) for i, name in chosen]
    if all(np.isnan(line.values).all() for line in lines):
        raise FastentError(f"kind={kind!r} was not recorded: ask for it when the probe is made, with metrics")
    if kind in ("radius", "distance"):
        title = f"layer {records.layers[at]}" if records.layers[at] else "the model"
    _draw_lines(axes, records.step[None].astype(float), lines, "epoch")
    axes.set(ylabel=_LABELS[kind], title=plain(title))
    epoch_axis(axes, float(records.step[-1]), "step")
    add_legend(axes)


def _distance(records: "ProbeRecords") -> Array:
    if records.distance is None:
        raise FastentError("distances were not recorded, there are many classes: make the probe with 'distances' in metrics")
    return records.distance


def _of_classes(names: list[str]) -> list[str]:
    """What lines of classes are called; even and odd digits are no class's name."""
    return names if names == ["even", "odd"] else [f"class {name}" for name in names]


def _distances(distance: Array, names: list[str], turns: Callable[[], NDArray[Any]]) -> list[Line]:
    """Of (S, E, C, C): a line for each pair of classes, or of many classes for each its mean over the others, where known."""
    n = len(names)
    if n > _PAIRED_CLASSES:
        others = [np.ma.masked_invalid(np.delete(distance[:, :, a], a, axis=-1)) for a in range(n)]
        return [Line(f"class {names[a]} to others", others[a].mean(-1).filled(np.nan)) for a in range(n)]
    found = turns()
    return [Line(f"{names[a]} to {names[b]}", distance[:, :, a, b], found[:, a, b]) for a in range(n) for b in range(a + 1, n)]


def _draw_lines(axes: "Axes", x: Array, lines: list[Line], against: str) -> None:
    """Of each line its seeds thin, or a band of a standard deviation, their mean, and a dot wherever one turns."""
    n_seeds = len(x)
    thin = len(lines) * n_seeds <= _THIN_LINES
    marked = False
    for i, line in enumerate(lines):
        style = class_style(i)
        kept = np.isfinite(line.values).all(0)
        if against == "epoch":
            kept &= x[0] > 0  # nothing has been learned, and a logarithmic axis has no place for it
        xs, values = x[:, kept], line.values[:, kept]
        if n_seeds > 1 and thin:
            axes.plot(xs.T, values.T, linewidth=0.6, alpha=0.35, **style)
        elif n_seeds > 1 and against == "epoch":
            mean, spread = values.mean(0), values.std(0, ddof=1)
            axes.fill_between(xs[0], mean - spread, mean + spread, color=style["color"], alpha=0.15, linewidth=0)
        axes.plot(xs.mean(0), values.mean(0), linewidth=1.6, label=plain(line.name, _LONGEST_NAME), **style)
        found = [turn for turn in line.turns if turn]
        places: list[Any] = [turn.epoch if against == "epoch" else turn.train_error for turn in found]
        if found:
            marks = {"color": style["color"], "markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.6}
            reach = [turn.epoch_interval if against == "epoch" else turn.train_error_interval for turn in found]
            if thin and all(interval is not None for interval in reach):
                low, high = np.array(reach, float).T
                axes.hlines(
                    np.array([turn.value for turn in found], float), low, high, color=style["color"], linewidth=0.9, zorder=3
                )
            axes.plot(places, np.array([turn.value for turn in found], float), "o", zorder=3, **marks)
            marked = True
    if marked:
        axes.plot([], [], "o", color="0.4", markersize=5, label="inversion")


def _place(name: str, value: int, length: int) -> int:
    """A position, counted from the end where it is negative."""
    return whole_number(name, value, minimum=-length, maximum=length - 1) % length
