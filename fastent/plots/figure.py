"""The figure that a picture is drawn into, or the user's own axes."""

from typing import Any

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fastent.errors import FastentError

__all__ = ["VectorFigure", "axes_of", "new_figure"]

_TEXT_AS_TEXT = {"svg.fonttype": "none", "pdf.fonttype": 42, "ps.fonttype": 42}
_SIZE = (7.0, 4.2)


class VectorFigure(Figure):
    """As any figure; in SVG and PDF its text stays text, to search and to edit, whatever rcParams say."""

    def savefig(self, *args: Any, **options: Any) -> None:
        with matplotlib.rc_context(_TEXT_AS_TEXT):  # type: ignore[arg-type]
            super().savefig(*args, **options)


def new_figure(size: tuple[float, float] = _SIZE) -> VectorFigure:
    """Known to pyplot, so that notebooks show it."""
    figure = pyplot.figure(figsize=size, layout="constrained", FigureClass=VectorFigure)
    assert isinstance(figure, VectorFigure)
    return figure


def axes_of(ax: Axes | None, size: tuple[float, float] = _SIZE) -> tuple[Figure, Axes]:
    """The figure and axes to draw on: those given, or new ones."""
    if ax is None:
        new = new_figure(size)
        return new, new.subplots()
    if not isinstance(ax, Axes):
        raise FastentError(f"ax is {type(ax).__name__}: pass one Axes, as matplotlib.pyplot.subplots() returns it")
    figure = ax.figure.figure  # of a subfigure, its figure
    assert figure is not None
    return figure, ax
