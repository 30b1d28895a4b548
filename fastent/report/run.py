"""The report of a run: when its classes turn, its curves, and its stragglers."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastent.data.training_set import Data
from fastent.report.map import Fact, Layout, MapSection, map_section
from fastent.report.page import COLORS, Page, option_rows, percent, percent_range, room_beside, write_page
from fastent.report.pictures import Sheet, are_pictures
from fastent.report.run_curves import figure_data
from fastent.report.run_words import description, headline
from fastent.report.stragglers import gallery
from fastent.runtime.formatting import NOTHING, count
from fastent.statistics.inversion import InversionSummary
from fastent.training.run import Run
from fastent.training.run_map import run_maps
from fastent.training.straggler_list import Stragglers
from fastent.training.tables import (
    epoch_of,
    radius_at_end,
    rule_text,
    shortly,
    stragglers_per_seed,
    turning_text,
    without_inversion,
)

__all__ = ["HEADINGS", "ClassRow", "class_rows", "write_run_report"]

# What the gallery may take of the room for pictures if there is a map.
_ROOM_BESIDE_MAP = 0.5
# Of the cells of `class_rows`.
HEADINGS = (
    "Seeds with an inversion", "ε* (mean ± s.d.)", "95\u00a0% interval of ε*", "Epoch (median)", "Radius at inversion",
    "Final radius", "Rebound (rise\u00a0/\u00a0fall)", "Stragglers per seed", "Consensus stragglers",
)  # fmt: skip


def write_run_report(
    run: Run,
    path: str | os.PathLike[str],
    *,
    points: Any = None,
    stragglers: Stragglers | None = None,
    command: str | None = None,
    maps: Sequence[str] = ("pca",),
) -> None:
    """Write a run as one HTML page; `command` reproduces it.

    It says when the classes of the last hidden layer turn and at which training error, shows radii with their fits, distances
    and errors of all hidden layers during training, and lists the stragglers, each with scores of how hard it was to learn and,
    if `points` are given, its nearest neighbours among them.

    These are `fe.Data`, or the training points as stored, in the order of `run.index`. `maps` are the methods by which they are
    laid out in two dimensions, for `fe.Data` also as the last hidden layer has them. Pictures, (n, h, w) or (n, h, w, 3), are
    shown, uint8 as it is, other types scaled from black for the smallest value to white for the largest. For other points,
    (n, d), the features in which a straggler lies farthest from its class are listed. `stragglers`, from `fe.stragglers`, adds
    what the networks predicted for them.
    """
    figures = figure_data(run)
    raw = points.raw if isinstance(points, Data) else points
    with_map = points is not None and bool(maps)
    shown = gallery(run, raw, int(room_beside(figures) * (_ROOM_BESIDE_MAP if with_map else 1)), stragglers)
    figures |= {"gallery": shown.details, "sheet": _cells(shown.sheet), "parity": run.parity}
    mapped = None
    if with_map:
        left = room_beside(figures) - (0 if shown.sheet is None else shown.sheet.size)
        mapped = _map(run, points, raw, maps, left)
        figures |= {} if mapped is None else {"map": mapped.figure}
    facts = description(run)
    done, asked = epoch_of(run, run.epoch[-1]), count(run.config["epochs"])
    interrupted = f"Interrupted at epoch {done} of {asked}. The report covers the run so far."
    write_page(
        path,
        "run.html.j2",
        Page(
            title=f"{facts[0]}: when the classes turn",
            kicker="fastent run",
            headline=headline(run),
            configuration=list(option_rows({name: value for name, value in run.config.items() if name != "command"})),
            command=command,
            facts=facts,
            notices=[] if run.complete else [interrupted],
        ),
        figures,
        ("curves.js", "run.js", "gallery.js", "map.js"),
        map=mapped,
        names=run.class_names,
        order=run.class_order,
        seeds=run.n_seeds,
        headings=HEADINGS,
        tables=[class_rows(run, layer) for layer in range(run.n_layers)],
        rule=rule_text(run),
        turning=[turning_text(run, layer) for layer in range(run.n_layers)],
        fits=any(fits for layer in figures["fit"] for fits in layer),
        without=[without_inversion(run, layer) for layer in range(run.n_layers)],
        moments=len(figures["epoch"]),
        start=figures["start"],
        answers=figures["answers"][-1],
        gallery=shown,
        colors=COLORS,
    )


def _map(run: Run, points: Any, raw: Any, methods: Sequence[str], room: int) -> MapSection | None:
    found = run_maps(run, points, methods)
    last = f"Hidden layer {run.n_layers}" if run.n_layers > 1 else "The hidden layer"
    of_layer = f"{last} of the first network after the last epoch"
    layouts = [Layout(f"hidden layer, {each.title}", f"{of_layer}, {each.title}:", each) for each in found.hidden.values()]
    layouts += [Layout(f"input, {each.title}", f"The training points, {each.title}:", each) for each in found.inputs.values()]
    labels, of = np.unique(run.labels, return_inverse=True)
    shares, agreeing = np.unique(run.straggler_share, return_inverse=True)
    said = [str(label) for label in labels.tolist()]
    facts = [] if said == run.class_names else [Fact("label", said, of)]
    if found.predicted is not None:
        facts.append(Fact("predicted at the end", run.class_names, found.predicted))
    facts.append(Fact("straggler in", [f"{percent(share, 0)} of the seeds" for share in shares], agreeing))
    return map_section(
        layouts, run.codes, run.class_names, order=run.class_order,
        rows=run.index, facts=facts, marked=run.straggler_share >= 0.5, mark="stragglers", kept=found.kept,
        without=found.without_hidden and f"{last} is not shown: {found.without_hidden}.",
        rings_mark="Rings mark the stragglers.", images=raw if are_pictures(raw) else None, room=room,
    )  # fmt: skip


def _cells(drawn: Sheet | None) -> dict[str, int] | None:
    """Where the script finds pictures: it has the sheet itself from the style."""
    return None if drawn is None else {"width": drawn.width, "height": drawn.height, "columns": drawn.columns}


@dataclass(frozen=True)
class ClassRow:
    c: int
    name: str
    cells: tuple[str, ...]


def class_rows(run: Run, layer: int) -> list[ClassRow]:
    """One row for each class: cells under the `HEADINGS`.

    All are over the seeds in which the class has an inversion.
    """
    names, last = run.class_names, layer == run.n_layers - 1
    consensus = run.straggler_share >= 0.5
    rows = []
    summaries = run.inversion_summary(layer)
    for c, summary in ((c, summaries[c]) for c in run.class_order):
        mine, at_end = run.codes == c, radius_at_end(run, layer, c)
        stragglers = stragglers_per_seed(run, c, summary.found) if last else None
        spread = f" ± {100 * summary.std:.2f}" if summary.std is not None else ""
        cells = (
            f"{summary.found} of {summary.seeds}",
            f"{100 * summary.train_error:.2f}{spread}\u00a0%" if summary.train_error is not None else _reasons(summary),
            percent_range(summary.interval, 2) if summary.interval is not None else NOTHING,
            epoch_of(run, summary.epoch) if summary.epoch is not None else NOTHING,
            f"{summary.value:.4f}" if summary.value is not None else NOTHING,
            NOTHING if at_end is None else f"{at_end:.4f}",
            f"{summary.rebound:.2f}" if summary.rebound is not None else NOTHING,
            # Stragglers are defined by the last hidden layer.
            NOTHING if stragglers is None else f"{stragglers:,.1f}",
            f"{count((consensus & mine).sum())} of {count(mine.sum())}" if last and summary.found else NOTHING,
        )
        rows.append(ClassRow(c, names[c], cells))
    return rows


def _reasons(summary: InversionSummary) -> str:
    """Why a class has no inversion, in few words; with several reasons the number of seeds of each."""
    short = {shortly(reason): times for reason, times in summary.reasons.items()}
    words = [f"{reason} {times}" for reason, times in short.items()] if len(short) > 1 else short
    return "none: " + ", ".join(words)
