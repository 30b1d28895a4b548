"""Measurements side by side."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastent.errors import FastentError
from fastent.plots.style import add_legend, class_style, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastent.measurement.result import Comparison

__all__ = ["draw_comparison"]

# Of each view one that has no unit and lies in [-1, 1], so that they share an axis.
_USUAL = ("mixing/overlap", "margins/relative", "silhouette/exact")


def draw_comparison(axes: "Axes", comparison: "Comparison", statistics: "str | Sequence[str] | None") -> None:
    """A line for each statistic, with 1.96 standard errors where a sample estimates it."""
    if statistics is None:
        usual = [name for name in _USUAL if name in comparison.statistics]
        shown = usual or list(comparison.statistics[:1])
    else:
        shown = [statistics] if isinstance(statistics, str) else list(statistics)
    unknown = [name for name in shown if name not in comparison.statistics]
    if unknown or not shown:
        raise FastentError(f"statistics={statistics!r}: choose some of {', '.join(map(repr, comparison.statistics))}")
    places = np.arange(len(comparison.names))
    for i, name in enumerate(shown):
        row = comparison.statistics.index(name)
        errors = 1.96 * np.nan_to_num(comparison.standard_errors[row])
        axes.errorbar(places, comparison.values[row], errors, marker="o", markersize=5, capsize=3, label=name, **class_style(i))
    slanted = sum(map(len, comparison.names)) > 60
    axes.set_xticks(
        places, [plain(name) for name in comparison.names], rotation=30 if slanted else 0, ha="right" if slanted else "center"
    )
    axes.grid(axis="y", alpha=0.25)
    if len(shown) == 1:
        axes.set_ylabel(shown[0])
    else:
        add_legend(axes)
    if comparison.notes:
        axes.set_title(plain(f"differ in {'; '.join(comparison.notes)}"), fontsize="small")
