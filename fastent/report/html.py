"""The report of a run."""

import os
from typing import Any

from fastent.report.curves import figure_data
from fastent.report.gallery import gallery
from fastent.report.page import room_beside, write_page
from fastent.report.pictures import Sheet
from fastent.report.tables import HEADINGS, class_rows, config_rows
from fastent.report.words import answers, count, description, epoch_of, headline
from fastent.training.reasons import without_inversion
from fastent.training.run import Run
from fastent.training.tables import rule_text, turning_text

__all__ = ["write_report"]

# As many colours as can be told apart by everybody; further classes get the same ones with dashes.
_COLORS = 7


def write_report(run: Run, path: str | os.PathLike[str], *, points: Any = None, command: str | None = None) -> None:
    """Write a run as one HTML page that needs nothing else: no network, no other file.

    It says in words when the classes of the last hidden layer turn and at which training error, and shows
    radii with their fits, distances and errors of all hidden layers as they change, and the stragglers, each with how hard it
    was to learn and, where the points are at hand, its nearest neighbours among them.

    Parameters
    ----------
    run : Run
    path : path
        The file to write, whole or not at all; its folder must exist.
    points : (n, h, w), (n, h, w, 3) or (n, d), optional
        The training points as stored, in the order of `run.index`. Pictures are shown: uint8 as it is, of anything else the
        least value becomes black and the greatest white. Of other points the features are listed in which they lie farthest
        from their class. Without points the stragglers are listed without neighbours.
    command : str, optional
        The command line that makes this run again.

    Raises
    ------
    FastentError
        Points of another number, shape or type, or with values that are not finite.
    """
    last = run.n_layers - 1
    figures = figure_data(run)
    stragglers = gallery(run, points, room_beside(figures))
    write_page(
        path,
        "report.html.j2",
        figures | {"stragglers": stragglers.details, "sheet": _cells(stragglers.sheet)},
        ("curves.js", "report.js", "gallery.js"),
        done="Configuration",
        headline=headline(run),
        description=description(run),
        names=run.class_names,
        complete=run.complete,
        epochs_done=epoch_of(run, run.epoch[-1]),
        epochs_asked=count(run.config["epochs"]),
        seeds=run.n_seeds,
        headings=HEADINGS,
        tables=[class_rows(run, layer) for layer in range(run.n_layers)],
        rule=rule_text(run),
        turning=[turning_text(run, layer) for layer in range(run.n_layers)],
        fits=any(fits for layer in figures["fit"] for fits in layer),
        without=[without_inversion(run, layer) for layer in range(run.n_layers)],
        moments=len(figures["epoch"]),
        start=figures["start"],
        answers=answers(run, last),
        last=last,
        gallery=stragglers,
        config=config_rows(run),
        command=command,
        colors=_COLORS,
    )


def _cells(drawn: Sheet | None) -> dict[str, int] | None:
    """Where the script finds pictures: it has the sheet itself from the style."""
    return None if drawn is None else {"width": drawn.width, "height": drawn.height, "columns": drawn.columns}
