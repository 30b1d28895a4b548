"""A run in words and numbers: tables for other programs and for people, and why there is no inversion."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastent.activations.record_files import long_table, with_config, write_readable
from fastent.printable import shortened, storable
from fastent.statistics.inversion import InversionSummary
from fastent.statistics.notes import sentence_list
from fastent.training.run_records import RunRecords, test_error_of_records
from fastent.training.straggler_list import straggler_scores

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "because", "curves_table", "ended_too_early", "epoch_of", "epoch_text", "inversions_table", "may_turn_later",
    "radius_at_end", "readable_rows", "rule_text", "shortly", "stragglers_per_seed", "subject",
    "summary", "turning_text", "without_inversion", "write_tables",
]  # fmt: skip


def curves_table(run: RunRecords) -> "pa.Table":
    """One row for each seed, record, layer and class; test_error is null where it was not measured.

    Where mixing was measured, of a layer for all classes together, there are two columns more.
    """
    columns: dict[str, tuple[Any, tuple[int, ...]]] = {
        "seed": (run.config["seed"] + np.arange(run.n_seeds), (0,)),
        "epoch": (run.epoch, (1,)),
        "layer": (np.arange(run.n_layers), (2,)),
        "class": (storable(np.array(run.class_names)), (3,)),
        "train_error": (run.train_error, (0, 1)),
        "test_error": (test_error_of_records(run), (0, 1)),
        "radius": (run.radius, (0, 1, 2, 3)),
    }
    columns |= {
        name: (getattr(run, name), (0, 1, 2)) for name in ("mixing", "neighbor_error") if np.isfinite(getattr(run, name)).any()
    }
    return long_table(run.radius.shape, run.config, columns)


def inversions_table(run: RunRecords) -> "pa.Table":
    """One row for each seed, layer and class: its inversion, or the reason why there is none; null for what does not exist."""
    import pyarrow as pa

    names, found = storable(np.array(run.class_names)), run.inversion
    seeds, layers, classes = (axis.ravel() for axis in np.indices(found.shape))
    columns: dict[str, Any] = {"seed": run.config["seed"] + seeds, "layer": layers, "class": names[classes]}
    columns |= {name: [getattr(each, name) for each in found.flat] for name in ("found", "reason")}
    for name in ("epoch", "value", "train_error", "prominence", "rebound", "rise_to_noise"):
        columns[name] = pa.array([getattr(each, name) for each in found.flat], pa.float64())
    for name in ("epoch", "value", "train_error"):
        intervals = [getattr(each, f"{name}_interval") or (None, None) for each in found.flat]
        for end, values in zip(("low", "high"), zip(*intervals, strict=True), strict=True):
            columns[f"{name}_{end}"] = pa.array(values, pa.float64())
    return with_config(pa.table(columns), run.config)


def epoch_of(run: RunRecords, epoch: float) -> str:
    """An epoch of the run, to the nearest whole one unless there are records within epochs."""
    return epoch_text(epoch) if run.epoch.dtype.kind == "f" else f"{epoch:,.0f}"


def epoch_text(epoch: float) -> str:
    """An epoch, with decimals where it is no whole number: two, and for the very first updates as many as tell it from 0."""
    if float(epoch).is_integer():
        return f"{epoch:,.0f}"
    return f"{epoch:,.2f}" if epoch >= 0.1 else f"{epoch:.2g}"


def radius_at_end(run: RunRecords, layer: int, c: int) -> float | None:
    """Mean over the networks in which the class has an inversion, like the rest of its row; over all if none has one.

    None where no network has points of the class.
    """
    radii = run.radius[:, -1, layer, c]
    found = run.turned[:, layer, c]
    known = radii[found] if found.any() else radii[np.isfinite(radii)]
    return float(known.mean()) if len(known) else None


def turning_networks(run: RunRecords, layer: int = -1) -> int:
    """Number of networks in which every class has an inversion in a hidden layer."""
    return int(run.turned[:, layer].all(1).sum())


def turning_text(run: RunRecords, layer: int = -1) -> str:
    """The same as a sentence; "" where there is one network, whose rows say it."""
    turning, seeds = turning_networks(run, layer), run.n_seeds
    if seeds == 1:
        return ""
    if not turning:
        return f"No network has an inversion in {'both' if len(run.classes) == 2 else f'all {len(run.classes)}'} classes."
    classes = "Both classes" if len(run.classes) == 2 else f"All {len(run.classes)} classes"
    return f"{classes} have an inversion in {turning} of {seeds} networks."


def rule_text(run: RunRecords) -> str:
    """What counts as an inversion of this run, in a sentence."""
    start = f" after the first {run.burn_in:g} updates" if run.burn_in else ""
    return (
        f"An inversion is the first turn{start} whose fall and rise each span at least {100 * run.min_rise:g} % of the "
        "radius's range and whose rise is larger than noise explains."
    )


def stragglers_per_seed(run: RunRecords, c: int, found: int) -> float | None:
    """Mean number of stragglers of a class over the `found` seeds that have an inversion of it."""
    return float(run.stragglers[:, run.codes == c].sum() / found) if found else None


def summary(run: RunRecords) -> dict[str, Any]:
    """The result in numbers, JSON throughout: for each class eps* with its interval, epoch, radii and stragglers.

    All figures of a class are over the seeds in which it has an inversion; where there are none, `radius_at_end` is over all.
    null stands for what does not exist: stragglers where no seed has an inversion, radii of a class without points.
    """
    consensus = run.straggler_share >= 0.5
    classes = []
    for c, (name, found) in enumerate(zip(run.class_names, run.inversion_summary(), strict=True)):
        classes.append(
            {
                "class": name,
                **asdict(found),
                "radius_at_end": radius_at_end(run, -1, c),
                "points": int((run.codes == c).sum()),
                "stragglers_per_seed": stragglers_per_seed(run, c, found.found),
                "consensus_stragglers": int((consensus & (run.codes == c)).sum()),
            }
        )
    return {
        "data": run.config["data"],
        "points": len(run.index),
        "seeds": run.n_seeds,
        "epochs": run.epoch[-1].item(),
        "complete": run.complete,
        "train_error": float(run.train_error[:, -1].mean()),
        "test_error": float(run.test_error[:, -1].mean()) if run.test_error.size else None,
        "consensus_stragglers": int(consensus.sum()),
        "networks_with_all_inversions": turning_networks(run),
        "burn_in": run.burn_in,
        "min_rise": run.min_rise,
        "seconds": round(run.seconds, 3),
        **_streamed(run),
        "classes": classes,
    }


def _streamed(run: RunRecords) -> dict[str, Any]:
    """What only a run over data on disk has: how much was recorded, how long that took, mixing in the last hidden layer."""
    if not run.config.get("streamed"):
        return {}
    last = run.mixing[:, -1, -1].mean()
    return {
        "recorded_points": run.n_recorded,
        "seconds_recording": round(run.seconds_recording, 3),
        "mixing": float(last) if np.isfinite(last) else None,
        "stragglers_of": "all points" if run.recorded is None or run.straggler_bits is not None else "the recorded points",
    }


def readable_rows(run: RunRecords) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The result for people to read: headings, and a row for each class."""
    headings = (
        "class", "seeds", "eps*", "95 % interval", "epoch", "radius at inversion", "final radius", "rebound",
        "stragglers / seed", "consensus stragglers",
    )  # fmt: skip
    rows: list[tuple[str, ...]] = []
    classes = summary(run)["classes"]
    for name, row in ((run.class_names[c], classes[c]) for c in run.class_order):
        found = row["found"] > 0
        spread = f" ± {100 * row['std']:.2f}" if row["std"] is not None else ""
        rows.append(
            (
                name,
                f"{row['found']}/{row['seeds']}",
                f"{100 * row['train_error']:.2f}{spread} %" if found else "no inversion",
                f"{100 * row['interval'][0]:.2f} to {100 * row['interval'][1]:.2f} %" if row["interval"] else "",
                epoch_of(run, row["epoch"]) if found else "",
                f"{row['value']:.4f}" if found else "",
                "" if row["radius_at_end"] is None else f"{row['radius_at_end']:.4f}",
                f"{row['rebound']:.2f}" if row["rebound"] is not None else "",
                "" if row["stragglers_per_seed"] is None else f"{row['stragglers_per_seed']:.1f}",
                str(row["consensus_stragglers"]),
            )
        )
    return headings, rows


def write_tables(run: RunRecords, folder: Path) -> None:
    """Write `config.json`, `summary.json`, `curves.parquet` and `stragglers.parquet`."""
    write_readable(folder, run.config, summary(run), curves=curves_table(run), stragglers=straggler_scores(run).table())


# More classes than this are counted, not named; longer names are no part of a sentence.
_NAMED, _LONGEST = 3, 60
_STILL_FALLING, _TOO_SHORT = "still falling at the last record", "too few records"
_RISING = "the rise is below min_rise"
_SHORT = {
    _STILL_FALLING: "still falling", _TOO_SHORT: "too few records", _RISING: "rise too small", "no rise": "no rise",
    "rose before": "rose first", "did not move": "did not move", "no larger": "noise",
    "the network is trained on no": "no points",
}  # fmt: skip
# Reasons of `find_inversion` that need a subject to be read in a sentence, of one radius and of several.
_CLAUSES = {
    _STILL_FALLING: ("the radius was still falling at the last record", "radii were still falling at the last record"),
    "rose before it fell": ("the radius rose before it fell", "radii rose before they fell"),
    "did not move": ("the radius did not move", "radii did not move"),
    "no rise after the fall": ("the radius fell and did not rise", "radii fell and did not rise"),
    _RISING: (
        "the rise after the minimum is below the least that counts",
        "rises after the minimum are below the least that counts",
    ),
    "too few records after the minimum": (
        "too few records follow the minimum",
        "too few records follow the minima",
    ),
    "no larger than the noise explains": (
        "the rise after the minimum is no larger than noise explains",
        "rises after the minimum are no larger than noise explains",
    ),
}


def shortly(reason: str) -> str:
    """A reason in a word or two, for a cell of a table."""
    return next((words for start, words in _SHORT.items() if reason.startswith(start)), reason)


def without_inversion(run: RunRecords, layer: int = -1) -> list[str]:
    """Why radii of a hidden layer (by default the last) have no inversion: one sentence for each reason."""
    summaries = run.inversion_summary(layer)
    sentences = []
    for reason in dict.fromkeys(reason for summary in summaries for reason in summary.reasons):
        times = {c: summary.reasons[reason] for c, summary in enumerate(summaries) if reason in summary.reasons}
        least, most = min(times.values()), max(times.values())
        seeds = f" in {least if least == most else f'{least} to {most}'} of {run.n_seeds} seeds"
        one = len(times) == 1 and most == 1
        why = _CLAUSES.get(reason, (reason, reason))[not one]
        sentences.append(f"No inversion in {_classes(run, list(times))}{seeds if least < run.n_seeds else ''}: {why}.")
    return sentences


def because(summary: InversionSummary) -> str:
    """The reasons of one class, most frequent first, each with its number of seeds."""
    reasons = sorted(summary.reasons.items(), key=lambda item: (-item[1], item[0]))
    seeds = "" if summary.seeds == 1 else " in {} of " + f"{summary.seeds} seeds"
    return sentence_list([_CLAUSES.get(reason, (reason,))[0] + seeds.format(times) for reason, times in reasons])


def ended_too_early(summaries: list[InversionSummary]) -> bool:
    """Whether every radius without an inversion may have one later."""
    return all(may_turn_later(reason) for summary in summaries for reason in summary.reasons)


def may_turn_later(reason: str) -> bool:
    """Whether a radius without an inversion, for this reason, may have one when training goes on."""
    return reason in (_STILL_FALLING, _RISING) or reason.startswith(_TOO_SHORT)


def subject(run: RunRecords, c: int) -> str:
    """A class as the subject of a sentence."""
    name = _short(run.class_names[c])
    return f"the {name} class" if run.config.get("classes") == "parity" else f"class {name}"


def _classes(run: RunRecords, some: list[int]) -> str:
    """Some of the classes: by name where these are few, and how many of all."""
    names = [_short(run.class_names[c]) for c in some]
    if len(some) == 1:
        return subject(run, some[0])
    of_all = f"{len(some)} of {len(run.classes)} classes"
    return of_all if len(some) == len(run.classes) or len(some) > _NAMED else f"{of_all} ({sentence_list(names)})"


def _short(name: str) -> str:
    return shortened(name, _LONGEST)
