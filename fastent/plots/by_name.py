"""Values by class or name: heat maps of pairs, quantiles of groups, marks for classes, points with error bars."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.plots.style import COLORS, MOST_NUMBERED, add_legend, class_style, name_classes, plain, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MOST_GROUPS", "draw_class_marks", "draw_error_bars", "draw_heat_map", "draw_quantiles"]

Array = NDArray[np.float64]

# More rows of quantiles overlap.
MOST_GROUPS = 25
_DASH = "\u2013"


def draw_quantiles(axes: "Axes", groups: Sequence[tuple[str, Array]]) -> None:
    """Draw the median, the middle half and the middle nine tenths of each group; if there are many, of the lowest medians."""
    medians = [np.median(values) for _, values in groups]
    lowest = sorted(range(len(groups)), key=medians.__getitem__)[:MOST_GROUPS]
    groups = [groups[i] for i in sorted(lowest)]
    for place, (_, values) in enumerate(groups):
        q05, q25, q50, q75, q95 = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95))
        color = COLORS[1] if q50 < 0 else COLORS[0]
        axes.hlines(place, q05, q95, color=color, linewidth=1.2)
        axes.hlines(place, q25, q75, color=color, linewidth=min(6, 80 / len(groups)), alpha=0.5)
        axes.plot(q50, place, "o", color=color, markersize=4, markeredgecolor="white", markeredgewidth=0.5)
    axes.axvline(0, color="0.3", linewidth=0.8, linestyle="--")
    size = "medium" if len(groups) <= MOST_NUMBERED else "x-small"
    axes.set_yticks(range(len(groups)), [short_name(name) for name, _ in groups], fontsize=size)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.25)


def draw_class_marks(axes: "Axes", classes: NDArray[Any], series: Mapping[str, tuple[Array, float]]) -> None:
    """Draw each series as a mark for each class (C,) and a dashed line for all points."""
    for i, (label, (per_class, value)) in enumerate(series.items()):
        places = np.arange(len(classes)) + 0.12 * (i - (len(series) - 1) / 2)
        color = COLORS[i % len(COLORS)]
        axes.plot(places, per_class, "osD^"[i % 4], color=color, markersize=5, label=label)
        axes.axhline(value, color=color, linewidth=0.9, linestyle="--")
    name_classes(axes.set_xticks, classes)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.25)
    add_legend(axes)


def draw_error_bars(axes: "Axes", names: Sequence[str], series: Mapping[str, tuple[Array, Array]]) -> None:
    """Draw each series as a line over the names, from values (m,) and how far their intervals reach: (m,), or (2, m) below and
    above; NaN for none."""
    for i, (label, (values, reach)) in enumerate(series.items()):
        axes.errorbar(
            np.arange(len(names)),
            values,
            np.nan_to_num(reach),
            marker="o",
            markersize=5,
            capsize=3,
            label=label,
            **class_style(i),
        )
    slanted = sum(map(len, names)) > 60
    rotation, align = (30, "right") if slanted else (0, "center")
    axes.set_xticks(np.arange(len(names)), [plain(name) for name in names], rotation=rotation, ha=align)
    axes.grid(axis="y", alpha=0.25)
    if len(series) == 1:
        axes.set_ylabel(next(iter(series)))
    else:
        add_legend(axes)


def draw_heat_map(
    axes: "Axes", values: Array, classes: NDArray[Any], scale: Literal["share", "linear", "logarithmic"], label: str
) -> Any:
    """Draw a cell for each pair of classes, with its number if there is room, and return the labelled colour bar.

    The scale of shares shows small ones too. A dash stands for what is NaN, or has no place on a logarithmic scale.
    """
    from matplotlib.colors import LogNorm, Normalize, PowerNorm

    number = _percent if scale == "share" else _short
    if scale == "share":
        bar = _draw_cells(axes, values, classes, PowerNorm(0.5, 0, 1), "Blues", number)
        ticks = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1]
        bar.set_ticks(ticks, labels=[f"{100 * tick:g} %" for tick in ticks])
    elif scale == "linear":
        bar = _draw_cells(axes, values, classes, Normalize(0, float(np.nanmax(values))), "Blues", number)
    else:
        values = np.where(np.isfinite(values) & (values > 0), values, np.nan)
        known = values[np.isfinite(values)]
        low, high = (float(known.min()), float(known.max())) if len(known) else (1.0, 1.0)
        bar = _draw_cells(axes, values, classes, LogNorm(low, max(high, 1.001 * low)), "Oranges", number)
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else "")
    bar.set_label(label)
    return bar


def _draw_cells(axes: "Axes", values: Array, classes: NDArray[Any], norm: Any, colors: str, number: Any) -> Any:
    image = axes.imshow(values, norm=norm, cmap=colors)
    if len(classes) <= MOST_NUMBERED:
        for (a, b), value in np.ndenumerate(values):
            known = math.isfinite(value)
            dark = known and _luminance(image.to_rgba(np.asarray(value))) < 0.5
            color = "white" if dark else "black" if known else "0.6"
            axes.text(b, a, number(value) if known else _DASH, ha="center", va="center", fontsize="x-small", color=color)
    name_classes(axes.set_xticks, classes)
    name_classes(axes.set_yticks, classes)
    return axes.figure.colorbar(image, ax=axes)


def _luminance(color: Any) -> float:
    red, green, blue = color[:3]
    return float(0.299 * red + 0.587 * green + 0.114 * blue)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if 0 < share < 1 else f"{100 * share:.0f}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:#.3g}" if value >= 1 else f"{value:#.2g}"
