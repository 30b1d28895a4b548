"""The report of a run."""

import os
from typing import Any

from fastent.report.curves import figure_data
from fastent.report.page import write_page
from fastent.report.pictures import gallery
from fastent.report.tables import class_rows, config_rows
from fastent.report.words import answers, class_names, count, description, epoch_of, headline
from fastent.training.run import Run

__all__ = ["write_report"]

# As many colours as can be told apart by everybody; further classes get the same ones with dashes.
_COLORS = 7


def write_report(run: Run, path: str | os.PathLike[str], *, pictures: Any = None, command: str | None = None) -> None:
    """Write a run as one HTML page that needs nothing else: no network, no other file.

    It says in words when the classes of the last hidden layer were most compact and at which training error, and shows
    radii, distances and errors of all hidden layers as they change, and the stragglers behind the inversion.

    Parameters
    ----------
    run : Run
    path : path
        The file to write, whole or not at all; its folder must exist.
    pictures : (n, h, w) or (n, h, w, 3), uint8 or float, optional
        The picture of each training point, in the order of `run.index`. uint8 is shown as it is; of anything else the
        least value becomes black and the greatest white. Without pictures the stragglers are listed.
    command : str, optional
        The command line that makes this run again.

    Raises
    ------
    FastentError
        Pictures of another number, shape or type, or with values that are not finite.
    """
    last = run.n_layers - 1
    write_page(
        path,
        "report.html.j2",
        figure_data(run),
        "report.js",
        done="What was run",
        headline=headline(run),
        description=description(run),
        names=class_names(run),
        complete=run.complete,
        epochs_done=epoch_of(run, run.epoch[-1]),
        epochs_asked=count(run.config["epochs"]),
        seeds=run.n_seeds,
        tables=[class_rows(run, layer) for layer in range(run.n_layers)],
        answers=answers(run, last),
        last=last,
        gallery=gallery(run, pictures),
        config=config_rows(run),
        command=command,
        colors=_COLORS,
    )
