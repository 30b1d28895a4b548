"""The page itself: template, style, script, figures' data and pictures in one file that opens without a network."""

import json
import os
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from fastent.files import write_text
from fastent.report.curves import figure_data
from fastent.report.pictures import gallery
from fastent.report.tables import class_rows, config_rows
from fastent.report.words import answers, class_names, count, description, headline
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
    environment = _environment()
    last = run.n_layers - 1
    page = environment.get_template("report.html.j2").render(
        headline=headline(run),
        description=description(run),
        names=class_names(run),
        complete=run.complete,
        epochs_done=count(run.epoch[-1]),
        epochs_asked=count(run.config["epochs"]),
        seeds=run.n_seeds,
        tables=[class_rows(run, layer) for layer in range(run.n_layers)],
        answers=answers(run, last),
        last=last,
        gallery=gallery(run, pictures),
        config=config_rows(run),
        command=command,
        curves=_json_in_html(figure_data(run)),
        colors=_COLORS,
        # These three are this package's and plotly's own text, not data; none of them contains "</script" or "</style".
        style=Markup(_source("report.css")),
        script=Markup(_source("report.js")),
        plotly=Markup(_plotly()),
    )
    write_text(path, page)


def _json_in_html(data: Any) -> Markup:
    """JSON that no HTML parser can mistake for markup, and that is JavaScript as well."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("fastent.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(name: str) -> str:
    return files("fastent.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())
