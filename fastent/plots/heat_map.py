"""Heat maps over pairs of classes."""

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.plots.style import MOST_NUMBERED, name_classes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_heat_map"]

Array = NDArray[np.float64]

_DASH = "\u2013"


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
