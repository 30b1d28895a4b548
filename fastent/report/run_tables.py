"""A run as a table: a row for each class, as text."""

from dataclasses import dataclass

from fastent.report.page import percent_range
from fastent.runtime.formatting import NOTHING, count
from fastent.statistics.inversion import InversionSummary
from fastent.training.run import Run
from fastent.training.tables import epoch_of, radius_at_end, shortly, stragglers_per_seed

__all__ = ["HEADINGS", "ClassRow", "class_rows"]

# Of the cells of `class_rows`.
HEADINGS = (
    "Seeds with an inversion", "ε* (mean ± s.d.)", "95\u00a0% interval of ε*", "Epoch (median)", "Radius at inversion",
    "Final radius", "Rebound (rise\u00a0/\u00a0fall)", "Stragglers per seed", "Consensus stragglers",
)  # fmt: skip


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
