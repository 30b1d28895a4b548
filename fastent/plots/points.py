"""Points of classes in a plane."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.plots.style import COLORS, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_points"]

# A colour and a form tell so many classes apart; of more, all are grey but the largest, as many as there are colours.
_FORMS = "osD"
_REST = "0.75"
_SIZE = 10.0


def draw_points(
    axes: "Axes",
    coordinates: NDArray[np.float64],
    codes: NDArray[np.int64],
    names: Sequence[str],
    marked: NDArray[np.bool_],
    mark: str,
) -> None:
    """Draw points (m, 2) in the colours of their classes (m,), with rings around those that are marked (m,), and a legend.

    Without names all have one colour, and the legend has none.
    """
    x, y = coordinates.T
    sizes = np.bincount(codes, minlength=len(names))
    told = list(range(len(sizes)))
    if len(sizes) > len(COLORS) * len(_FORMS):
        told = sorted(np.argsort(-sizes, kind="stable")[: len(COLORS)].tolist())
        rest = ~np.isin(codes, told)
        axes.scatter(x[rest], y[rest], s=_SIZE, color=_REST, linewidths=0, label=f"{len(sizes) - len(told)} other classes")
    for i, c in enumerate(told):
        style: dict[str, Any] = {"color": COLORS[i % len(COLORS)], "marker": _FORMS[i // len(COLORS)]}
        label = short_name(names[c]) if names else None
        axes.scatter(x[codes == c], y[codes == c], s=_SIZE, alpha=0.75, linewidths=0, label=label, **style)
    if marked.any():
        rings: dict[str, Any] = {"facecolors": "none", "edgecolors": "0.1", "linewidths": 0.5, "alpha": 0.7}
        axes.scatter(x[marked], y[marked], s=2.2 * _SIZE, label=f"{mark} ({marked.sum():,})", **rings)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    if names or marked.any():
        axes.legend(frameon=False, fontsize="small", markerscale=1.6, loc="center left", bbox_to_anchor=(1, 0.5))
