"""The report that compares runs: radii, training errors at which the classes turn, and shared stragglers."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from fastent.report.page import Headline, Page, option_rows, percent, write_page
from fastent.report.run import HEADINGS, class_rows
from fastent.report.run_curves import NUMBERS, figure_data
from fastent.runtime.formatting import NOTHING, Table, count
from fastent.training.run import Run

__all__ = ["Shared", "shared_stragglers", "write_compared_runs"]


@dataclass(frozen=True)
class Shared:
    """Consensus stragglers of two runs among the points that both were trained on: how many in both, and in either."""

    both: int
    either: int
    jaccard: float | None  # their ratio, None where neither run has stragglers
    chance: float | None  # what it would be if as many points were drawn independently


def write_compared_runs(
    runs: Sequence[Run], names: Sequence[str], path: str | os.PathLike[str], *, command: str | None = None
) -> None:
    """Write one page of two or more runs, in their order; see `write_comparison`."""
    classes = list(dict.fromkeys(run.class_names[c] for run in runs for c in run.class_order))
    common, different = _configs(runs)
    unfinished = [name for name, run in zip(names, runs, strict=True) if not run.complete]
    write_page(
        path,
        "compared_runs.html.j2",
        Page(
            title=f"{len(names)} runs compared",
            kicker=f"fastent report \u00b7 {len(names)} runs",
            headline=_headline(runs, names),
            configuration=common,
            command=command,
            notices=[f"Interrupted before the last epoch: {', '.join(unfinished)}."] if unfinished else [],
            configured="Configuration shared by all runs",
        ),
        {"names": list(names), "classes": classes, "runs": [_figures(run, classes, len(runs)) for run in runs]},
        ("curves.js", "compared_runs.js"),
        names=names,
        seeds=max(run.n_seeds for run in runs),
        classes=classes,
        headings=HEADINGS,
        rows=_rows(runs, names, classes),
        shared=_overlaps(runs) if len({_points_of(run) for run in runs}) == 1 else None,
        stragglers=[len(run.consensus_stragglers()) for run in runs],
        different=Table(("Option", *names), different),
    )


def shared_stragglers(one: Run, other: Run) -> Shared:
    """How far two runs over the same data agree on their stragglers, by the row numbers of the points."""
    known = np.intersect1d(one.index, other.index)
    a, b = (np.intersect1d(run.consensus_stragglers(), known) for run in (one, other))
    both = len(np.intersect1d(a, b))
    either = len(a) + len(b) - both
    by_chance = len(a) * len(b) / max(len(known), 1)
    if not either:
        return Shared(both, either, None, None)
    return Shared(both, either, both / either, by_chance / (len(a) + len(b) - by_chance))


def _points_of(run: Run) -> tuple[Any, ...]:
    """What row numbers are the numbers of: the stored data, and how these were split; of arrays nothing but what they were."""
    config = run.config
    if config.get("source") is None:
        return (config.get("data"), config.get("fingerprint"))
    where = (
        os.path.realpath(path) if path and os.path.exists(path) else path for path in (config["source"], config.get("labels"))
    )
    return (*where, config.get("data_dir"), config.get("split_seed"))


def _headline(runs: Sequence[Run], names: Sequence[str]) -> Headline:
    said, without = [], []
    for run, name in zip(runs, names, strict=True):
        errors = [
            summary.train_error for summary in run.inversion_summary() if summary.usual and summary.train_error is not None
        ]
        if errors:
            said.append((float(np.mean(errors)), name))
        else:
            without.append(name)
    none = (f"No class has an inversion in at least half of the seeds of {', '.join(without)}.",) if without else ()
    if not said:
        return Headline(f"No class turns in at least half of the seeds in any of the {len(runs)} runs.")
    if len(said) <= 3:
        where = [f"{percent(error)} in {name}" for error, name in said]
        return Headline(f"Classes turn at a training error of {', at '.join(where)}.", none)
    (least, first), (most, last) = min(said), max(said)
    return Headline(f"Classes turn at a training error between {percent(least)} ({first}) and {percent(most)} ({last}).", none)


def _figures(run: Run, classes: Sequence[str], n_runs: int) -> dict[str, Any]:
    """Curves of the last hidden layer, and eps* with its interval, by the numbers of the page's classes."""
    last, own = run.n_layers - 1, run.class_names
    drawn = figure_data(run, NUMBERS // n_runs, [last], distances=False, fits=False)
    place = [own.index(name) if name in own else None for name in classes]
    summaries = run.inversion_summary()
    return {
        **{name: drawn[name] for name in ("epoch", "epoch_axis", "points", "train_error", "seeds")},
        "radius": [None if c is None else drawn["radius"][-1][c] for c in place],
        "inversion": [None if c is None else drawn["inversion"][-1][c] for c in place],
        "turn": [
            None
            if c is None or summaries[c].train_error is None
            else [summaries[c].train_error, *(summaries[c].interval or ())]
            for c in place
        ],
    }


def _rows(runs: Sequence[Run], names: Sequence[str], classes: Sequence[str]) -> list[tuple[str, list[tuple[int, str, Any]]]]:
    """For each class its name, and for each run that has it the run's number, its name and the cells of `class_rows`."""
    rows = [{row.name: row.cells for row in class_rows(run, run.n_layers - 1)} for run in runs]
    return [(name, [(i, names[i], of[name]) for i, of in enumerate(rows) if name in of]) for name in classes]


def _overlaps(runs: Sequence[Run]) -> list[list[str]]:
    """For each pair of runs the Jaccard index of their stragglers, and what chance would give."""
    cells = [[NOTHING] * len(runs) for _ in runs]
    for a, b in combinations(range(len(runs)), 2):
        shared = shared_stragglers(runs[a], runs[b])
        if shared.jaccard is not None and shared.chance is not None:
            said = f"{shared.jaccard:.2f} ({count(shared.both)} of {count(shared.either)}; chance {shared.chance:.2f})"
            cells[a][b] = cells[b][a] = said
    return cells


def _configs(runs: Sequence[Run]) -> tuple[list[tuple[str, str]], list[tuple[str, ...]]]:
    """Options that all runs share, and those in which they differ with the value of each."""
    each = [dict(option_rows(run.config)) for run in runs]
    options = list(dict.fromkeys(name for rows in each for name in rows if name != "command"))
    values = {name: [rows.get(name, NOTHING) for rows in each] for name in options}
    common = [(name, of[0]) for name, of in values.items() if len(set(of)) == 1]
    return common, [(name, *of) for name, of in values.items() if len(set(of)) > 1]
