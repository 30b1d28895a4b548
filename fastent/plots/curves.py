"""Curves of training: a line for each class or pair of classes, its seeds thin, a dot at each inversion."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.plots.style import class_style, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["AXIS_LABELS", "Line", "class_lines", "distance_lines", "draw_lines"]

Array = NDArray[np.float64]
Against = Literal["epoch", "train_error"]

AXIS_LABELS = {
    "radius": "gyration radius", "distance": "distance of class means", "error": "share misclassified",
    "loss": "cross-entropy", "fisher": "between- over within-class scatter", "mixing": "neighbours with the same label",
    "mixing_error": "error of the neighbours' vote", "margin": "relative margin", "n2": "N2", "n3": "N3", "nc1": "NC1",
    "dimension": "intrinsic dimension",
}  # fmt: skip
# More thin lines than this hide each other; with more classes than that pairs are too many, and each has its mean distance.
_THIN_LINES, _PAIRED_CLASSES = 40, 4
# Characters of a name in a legend.
_LONGEST_NAME = 40


class Mark(NamedTuple):
    """An inversion: where it lies on both axes, and its interval on the horizontal one."""

    x: float
    y: float
    interval: tuple[float, float] | None


class Line(NamedTuple):
    """Values (S, E) of S seeds, and the inversions of all of them."""

    name: str
    values: Array
    marks: Sequence[Mark] = ()


def class_lines(names: Sequence[str], values: Array, inversions: NDArray[Any], against: Against) -> list[Line]:
    """A line for each class, from values (S, E, C) and inversions (S, C)."""
    # "even" and "odd" describe a class; any other name needs the word.
    said = names if list(names) == ["even", "odd"] else [f"class {name}" for name in names]
    return [Line(name, values[:, :, c], _marks(inversions[:, c], against)) for c, name in enumerate(said)]


def distance_lines(
    names: Sequence[str], distance: Array, inversions: Callable[[], NDArray[Any]], against: Against
) -> list[Line]:
    """A line for each pair of classes, from distances (S, E, C, C) and inversions (S, C, C).

    Many classes have a line each, without inversions: the mean distance to the others, where it is known.
    """
    n = len(names)
    if n > _PAIRED_CLASSES:
        others = [np.ma.masked_invalid(np.delete(distance[:, :, a], a, axis=-1)) for a in range(n)]
        return [Line(f"class {names[a]} to others", others[a].mean(-1).filled(np.nan)) for a in range(n)]
    found = inversions()
    return [
        Line(f"{names[a]} to {names[b]}", distance[:, :, a, b], _marks(found[:, a, b], against))
        for a in range(n)
        for b in range(a + 1, n)
    ]


def draw_lines(axes: "Axes", x: Array, lines: Sequence[Line], against: Against) -> None:
    """Draw for each line its seeds thin, or a band of a standard deviation, their mean, and its inversions; x is (S, E)."""
    n_seeds = len(x)
    thin = len(lines) * n_seeds <= _THIN_LINES
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
        if line.marks:
            _draw_marks(axes, line.marks, style["color"], intervals=thin)
    if any(line.marks for line in lines):
        axes.plot([], [], "o", color="0.4", markersize=5, label="inversion")


def _draw_marks(axes: "Axes", marks: Sequence[Mark], color: str, *, intervals: bool) -> None:
    x, y = (np.array([mark[axis] for mark in marks], float) for axis in (0, 1))
    if intervals and all(mark.interval is not None for mark in marks):
        low, high = np.array([mark.interval for mark in marks], float).T
        axes.hlines(y, low, high, color=color, linewidth=0.9, zorder=3)
    axes.plot(x, y, "o", zorder=3, color=color, markersize=5, markeredgecolor="white", markeredgewidth=0.6)


def _marks(inversions: Iterable[Any], against: Against) -> list[Mark]:
    """The inversions that were found, by their attributes `epoch` or `train_error`, its interval, and `value`."""
    return [Mark(getattr(turn, against), turn.value, getattr(turn, f"{against}_interval")) for turn in inversions if turn]
