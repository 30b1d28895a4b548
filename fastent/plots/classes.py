"""Classes beside each other: who mixes with whom, how far apart they are, their margins and dimensions."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import as_labels, which_rows
from fastent.errors import FastentError
from fastent.options import choice
from fastent.plots.style import COLORS, add_legend, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastent.statistics.geometry import ClassGeometry
    from fastent.statistics.intrinsic_dimension import IntrinsicDimension
    from fastent.statistics.margins import Margins
    from fastent.statistics.mixing import Mixing

__all__ = ["draw_dimensions", "draw_geometry", "draw_margins", "draw_mixing"]

Array = NDArray[np.float64]

# Of more classes numbers in the cells overlap, names on the axes, and margins, of which the least are then shown.
_NUMBERED, _NAMED, _BARS = 12, 20, 25
_NAME_LENGTH = 16
_DASH = "\u2013"


def draw_mixing(axes: "Axes", mixing: "Mixing") -> None:
    """The matrix on a scale that shows small shares, too; chance is a line on its colour bar."""
    from matplotlib.colors import PowerNorm

    if mixing.matrix is None:
        raise FastentError("the mixing matrix was not kept: call fe.mixing with matrix=True")
    bar = _heat_map(axes, mixing.matrix, mixing.classes, PowerNorm(0.5, 0, 1), "Blues", _percent)
    ticks = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1]
    bar.set_ticks(ticks, labels=[f"{100 * tick:g} %" for tick in ticks])
    bar.ax.axhline(mixing.chance, color=COLORS[1], linewidth=2)
    bar.set_label("share of the neighbours (line: overlap by chance)")
    axes.set(
        xlabel="class of the neighbours", ylabel="class of the point",
        title=f"{100 * mixing.overlap:.1f} % of neighbours share the label; chance {100 * mixing.chance:.1f} %",
    )  # fmt: skip


def draw_geometry(axes: "Axes", geometry: "ClassGeometry", kind: str) -> None:
    from matplotlib.colors import LogNorm, Normalize

    choice("kind", kind, ("distance", "collapse"))
    apart = ~np.eye(len(geometry.classes), dtype=bool)
    if kind == "distance":
        values = np.where(apart, geometry.distance, np.nan)
        bar = _heat_map(axes, values, geometry.classes, Normalize(0, float(np.nanmax(values))), "Blues", _short)
        bar.set_label("distance of class means")
        means = f"mean distance {np.nanmean(values):.3g}, mean radius {geometry.radius.mean():.3g}"
        title = f"{means}, {which_rows(geometry.normalize)}"
    else:
        values = np.where(apart & np.isfinite(geometry.cdnv) & (geometry.cdnv > 0), geometry.cdnv, np.nan)
        known = values[np.isfinite(values)]
        low, high = (float(known.min()), float(known.max())) if len(known) else (1.0, 1.0)
        bar = _heat_map(axes, values, geometry.classes, LogNorm(low, max(high, 1.001 * low)), "Oranges", _short)
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else "")
        bar.set_label("class-distance normalised variance (0: collapsed)")
        nc1 = "" if geometry.nc1 is None else f"NC1 {geometry.nc1:.3g}, "
        title = f"{nc1}NC2 angles {geometry.nc2.angle_deviation:.3g}, norms {geometry.nc2.norm_spread:.3g}"
    axes.set(xlabel="class", ylabel="class", title=title)


def draw_margins(axes: "Axes", margins: "Margins", labels: Any) -> None:
    """For each class the median, the middle half and the middle nine tenths of the relative margins."""
    if labels is None:
        groups = [("all points", margins.relative)]
    else:
        codes, classes = as_labels(labels)
        if len(codes) <= int(margins.queries.max()):
            raise FastentError(
                f"labels has {len(codes)} entries, the margins are of row {margins.queries.max()}: pass those of all rows"
            )
        own = codes[margins.queries]
        groups = [(str(name), margins.relative[own == c]) for c, name in enumerate(classes)]
    groups = [(name, values[~np.isnan(values)]) for name, values in groups]
    groups = [(name, values) for name, values in groups if len(values)]
    if not groups:
        raise FastentError("no point has another of its class: there are no relative margins to draw")
    of = len(groups)
    if of > _BARS:
        least = sorted(range(of), key=lambda i: np.median(groups[i][1]))[:_BARS]
        groups = [groups[i] for i in sorted(least)]
    for place, (_, values) in enumerate(groups):
        q05, q25, q50, q75, q95 = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95))
        color = COLORS[1] if q50 < 0 else COLORS[0]
        axes.hlines(place, q05, q95, color=color, linewidth=1.2)
        axes.hlines(place, q25, q75, color=color, linewidth=min(6, 80 / len(groups)), alpha=0.5)
        axes.plot(q50, place, "o", color=color, markersize=4, markeredgecolor="white", markeredgewidth=0.5)
    axes.axvline(0, color="0.3", linewidth=0.8, linestyle="--")
    size = "medium" if len(groups) <= _NUMBERED else "x-small"
    axes.set_yticks(range(len(groups)), [_name(name) for name, _ in groups], fontsize=size)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.25)
    left_out = f"; the {_BARS} worst of {of} classes" if of > _BARS else ""
    drawn = "dot: median; bar: middle half; line: 5 to 95 %"
    axes.set_xlabel(f"relative margin; below 0 the nearest point is of another class\n({drawn})")
    axes.set_title(f"{100 * margins.n3:.1f} % lie nearest to another class{left_out}")
    if labels is not None:
        axes.set_ylabel("class")


def draw_dimensions(axes: "Axes", found: "Mapping[str, IntrinsicDimension]") -> None:
    """Of each method a mark for each class, and a line for all points."""
    if all(each.per_class is None for each in found.values()):
        raise FastentError("per_class is None: pass labels to fe.intrinsic_dimension for the dimension of each class")
    classes: NDArray[Any] = np.empty(0)
    for i, (method, each) in enumerate(found.items()):
        if each.per_class is None or each.classes is None:
            continue
        classes = each.classes
        places = np.arange(len(classes)) + 0.12 * (i - (len(found) - 1) / 2)
        color = COLORS[i % len(COLORS)]
        axes.plot(places, each.per_class, "osD^"[i % 4], color=color, markersize=5, label=f"{method}, {each.value:.1f}")
        axes.axhline(each.value, color=color, linewidth=0.9, linestyle="--")
    _name_classes(axes.set_xticks, classes)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.25)
    axes.set(xlabel="class", ylabel="intrinsic dimension", title="Each class; dashed: all points")
    add_legend(axes)


def _heat_map(axes: "Axes", values: Array, classes: NDArray[Any], norm: Any, colors: str, number: Any) -> Any:
    """A cell for each pair of classes, with its number where there is room; returns the colour bar."""
    image = axes.imshow(values, norm=norm, cmap=colors)
    if len(classes) <= _NUMBERED:
        for (a, b), value in np.ndenumerate(values):
            if math.isfinite(value):
                color = "white" if _luminance(image.to_rgba(np.asarray(value))) < 0.5 else "black"
                axes.text(b, a, number(value), ha="center", va="center", fontsize="x-small", color=color)
            else:
                axes.text(b, a, _DASH, ha="center", va="center", fontsize="x-small", color="0.6")
    _name_classes(axes.set_xticks, classes)
    _name_classes(axes.set_yticks, classes)
    return axes.figure.colorbar(image, ax=axes)


def _name_classes(set_ticks: Any, classes: NDArray[Any]) -> None:
    names = [_name(name) for name in classes]
    step = -(-len(names) // _NAMED)
    upright = set_ticks.__name__ == "set_xticks" and max(map(len, names), default=0) > 4
    size = "medium" if len(names) <= _NUMBERED else "x-small"
    set_ticks(range(0, len(names), step), names[::step], rotation=90 if upright else 0, fontsize=size)


def _name(name: Any) -> str:
    text = str(name)
    return plain(text if len(text) <= _NAME_LENGTH else f"{text[: _NAME_LENGTH - 1]}\u2026")


def _luminance(color: Any) -> float:
    red, green, blue = color[:3]
    return float(0.299 * red + 0.587 * green + 0.114 * blue)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if 0 < share < 1 else f"{100 * share:.0f}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:#.3g}" if value >= 1 else f"{value:#.2g}"
