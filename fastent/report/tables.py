"""The rows of the report's tables, as text."""

import json
from dataclasses import dataclass
from typing import Any

from fastent.report.words import NOTHING, count, epoch_of, percent_range
from fastent.statistics.inversion import InversionSummary
from fastent.training.reasons import shortly
from fastent.training.run import Run
from fastent.training.tables import radius_at_end, stragglers_per_seed

__all__ = ["HEADINGS", "ClassRow", "class_rows", "config_rows"]

# Of the cells of `class_rows`.
HEADINGS = (
    "Seeds with an inversion", "ε* (mean ± s.d.)", "95\u00a0% interval of ε*", "Epoch (median)", "Radius at inversion",
    "Final radius", "Rebound (rise\u00a0/\u00a0fall)", "Stragglers per seed", "Stragglers in half the seeds or more",
)  # fmt: skip

# Longer lists (the rows left out of the data) are cut.
_LIST_SHOWN = 12


@dataclass(frozen=True)
class ClassRow:
    c: int
    name: str
    cells: tuple[str, ...]


def class_rows(run: Run, layer: int) -> list[ClassRow]:
    """One row for each class: seeds, eps*, interval, epoch, radius there and at the end, rebound, stragglers, consensus.

    All are over the seeds in which the class has an inversion.
    """
    names, last = run.class_names, layer == run.n_layers - 1
    consensus = run.straggler_share >= 0.5
    rows = []
    for c, summary in enumerate(run.inversion_summary(layer)):
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


def config_rows(run: Run) -> list[tuple[str, str]]:
    """Every option and version; the command has a place of its own."""
    return [(name.replace("_", " "), _text(value)) for name, value in run.config.items() if name != "command"]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) > _LIST_SHOWN:
        return f"{', '.join(map(_text, value[:_LIST_SHOWN]))}, … ({count(len(value))} in all)"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if value is None:
        return NOTHING
    return "yes" if value is True else "no" if value is False else json.dumps(value, ensure_ascii=False)
