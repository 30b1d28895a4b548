"""How pictures look: colours, legends and axes that all of them share."""

import math
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fastent.printable import printable, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLORS", "MOST_NUMBERED", "add_legend", "class_style", "epoch_axis", "error_axis", "name_classes", "plain", "short_name",
]  # fmt: skip

# Of Okabe and Ito: can be told apart by everybody.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b6f75")
_DASHES = ("-", "--", ":", "-.")
# Longer legends hide the lines that they explain; still longer ones explain nothing.
_INSIDE, _EXPLAINED = 5, 28
# With more classes the numbers in cells overlap, and the names on an axis; of longer names the start is shown.
MOST_NUMBERED, _NAMED, _NAME_LENGTH = 12, 20, 16
# What happens early is lost on an even axis that is longer than this.
_EVEN = 100


def class_style(i: int) -> dict[str, Any]:
    """Colour and dashes of class or line i."""
    return {"color": COLORS[i % len(COLORS)], "linestyle": _DASHES[i // len(COLORS) % len(_DASHES)]}


def plain(text: Any, most: int = 200) -> str:
    """Text of the user's that matplotlib shows as it is: between two dollars it would read a formula.

    What cannot be seen of it is written as escapes, and a long text is shortened, so that there is room for the axes.
    """
    shown = shortened(printable(text, keep="\n"), most).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown  # a name that matplotlib would leave out of the legend


def short_name(name: Any) -> str:
    text = str(name)
    return plain(text if len(text) <= _NAME_LENGTH else f"{text[: _NAME_LENGTH - 1]}\u2026")


def name_classes(set_ticks: Any, classes: NDArray[Any]) -> None:
    """Put the names of classes at 0, 1, ... along an axis, by its `set_xticks` or `set_yticks`."""
    names = [short_name(name) for name in classes]
    step = -(-len(names) // _NAMED)
    upright = set_ticks.__name__ == "set_xticks" and max(map(len, names), default=0) > 4
    size = "medium" if len(names) <= MOST_NUMBERED else "x-small"
    set_ticks(range(0, len(names), step), names[::step], rotation=90 if upright else 0, fontsize=size)


def add_legend(axes: "Axes") -> None:
    """Beside the axes where it is long, none where nobody could tell so many lines apart."""
    entries = len(axes.get_legend_handles_labels()[1])
    if 0 < entries <= _INSIDE:
        axes.legend(frameon=False, fontsize="small")
    elif entries <= _EXPLAINED:
        axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), ncols=1 + (entries > 14))


def epoch_axis(axes: "Axes", last: float, label: str = "epoch") -> None:
    """Epochs along x; logarithmic for long training, so that 0 has no place."""
    axes.set_xlabel(label)
    axes.grid(alpha=0.25)
    if last > _EVEN:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")


def error_axis(axes: "Axes", n: int) -> None:
    """Training error of n points along x: logarithmic, falling to the right, with a place for 0 where there is any."""
    axes.set_xlabel("training error")
    axes.grid(alpha=0.25)
    least, most = axes.dataLim.intervalx
    if not (math.isfinite(least) and math.isfinite(most)):
        return  # nothing is drawn
    most = max(most, 1 / n)
    axes.set_xscale("symlog", linthresh=1 / n, linscale=0.4)
    ticks = [factor * 10.0**-power for power in range(1, 6) for factor in (5, 2, 1)]
    ticks = [tick for tick in ticks if max(least, 2 / n) <= tick <= most]
    if len(ticks) > 7:
        ticks = [tick for tick in ticks if f"{tick:e}".startswith("1")]
    if least < 1 / n:
        ticks.append(0)
        axes.set_xlim(1.15 * most, 0)
    else:
        axes.set_xlim(1.15 * most, least / 1.15)
    axes.set_xticks(ticks, [f"{100 * tick:g} %" for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)
