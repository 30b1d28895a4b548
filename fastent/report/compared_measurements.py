"""The report that compares measurements as they were stored: of layers, epochs, networks."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from fastent.errors import FastentError
from fastent.io.reading import is_there, read_json, reading
from fastent.measurement.common_neighbors import overlap_cells
from fastent.measurement.comparison import Comparison, compared
from fastent.measurement.differing_settings import differing_settings
from fastent.measurement.metrics import MEANINGS, METRICS
from fastent.measurement.point_values import POINTS_FILE, PointValues, load_point_values
from fastent.report.page import Headline, Page, option_rows, percent, write_page
from fastent.runtime.formatting import NOTHING, count, readable, readable_interval, rounded
from fastent.statistics.intervals import Estimate
from fastent.statistics.notes import sentence_list

__all__ = ["Stored", "load_measurement", "stored_from", "write_compared_measurements", "write_comparison_report"]

_SUMMARY, _KIND = "summary.json", "no summary of fastent measure"
# How the lines of what chance would give are drawn.
_CHANCE = {"mixing/chance": "dotted", "mixing/balanced_chance": "dashed"}
# Names of lines where the statistic's own would be ambiguous.
_NAMES = {
    "margins/relative": "relative margin",
    "silhouette/exact": "silhouette (exact)",
    "silhouette/simplified": "silhouette (simplified)",
}
# Size of the small lines in the table, in CSS pixels.
_WIDTH, _HEIGHT, _AIR = 96, 26, 4


@dataclass(frozen=True, eq=False)
class Stored:
    """What `fastent measure` kept of a measurement: its statistics, how it was measured, and what differences are made of."""

    statistics: dict[str, Estimate]  # by names such as "mixing/overlap"; NaN where it could not be measured
    how: dict[str, Any]  # points, features, classes, queries, sampled, k, normalize, and under "asked" the options
    points: PointValues | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What a comparison takes of `Measurement.as_json`."""
        return self.how | {"statistics": self.statistics}


def load_measurement(folder: Path) -> Stored:
    """From the summary that `fastent measure` wrote into a folder."""
    path = folder / _SUMMARY
    if not is_there(path):
        raise FastentError(f"no run and no measurement in {str(folder)!r}: name folders that fastent run or measure wrote")
    how = read_json(path, "measure it again", _KIND)
    with reading(path, "measure it again", _KIND):
        found = stored_from(how)
    points = load_point_values(folder)
    if points is not None and not _agree(found.statistics, points.statistics):
        raise FastentError(f"{str(folder / POINTS_FILE)!r} is of another measurement than {_SUMMARY}: measure it again")
    return replace(found, points=points)


def _agree(one: dict[str, Estimate], other: dict[str, Estimate]) -> bool:
    """Whether these are the same values, those that are not finite apart."""
    known = {name: each.value for name, each in other.items() if math.isfinite(each.value)}
    return known == {name: each.value for name, each in one.items() if math.isfinite(each.value)}


def stored_from(how: dict[str, Any]) -> Stored:
    """From what `Measurement.as_json` has."""
    statistics = dict(_estimates(how.pop("statistics")))
    for name in ("points", "features", "queries", "k"):
        how[name] = int(how[name])
    how["classes"] = [str(name) for name in how["classes"]]
    how["asked"] = dict(how.get("asked") or {})
    return Stored(statistics, how)


def _estimates(stored: dict[str, dict[str, float | None]]) -> Iterator[tuple[str, Estimate]]:
    for name, numbers in stored.items():
        value, error, low, high = (
            math.nan if numbers.get(key) is None else float(numbers[key] or 0.0)
            for key in ("value", "standard_error", "low", "high")
        )
        yield name, Estimate(value, error, low, high)


class Panel(NamedTuple):
    """A figure: what it asks, which statistics it draws, and whether their axis is logarithmic."""

    title: str
    statistics: tuple[str, ...]
    axis: str
    logarithmic: bool = False


_PANELS = (
    Panel(
        "Do neighbours share a label?",
        ("mixing/overlap", "mixing/balanced_overlap", "mixing/chance", "mixing/balanced_chance"),
        "share of all",
    ),
    Panel("Is the nearest neighbour of another class?", ("margins/n3", "mixing/error", "complexity/n1"), "share of the points"),
    Panel("Margins and silhouettes", ("margins/relative", "silhouette/exact", "silhouette/simplified"), "mean, -1 to 1"),
    Panel("How tangled are all pairs?", ("soft_nearest_neighbor/loss",), "soft nearest neighbour loss"),
    Panel("Have the classes collapsed?", ("geometry/nc1", "geometry/cdnv"), "NC1, CDNV (0 = collapsed)", True),
    Panel("How many directions are there?", ("dimension/twonn", "dimension/mle", "dimension/gride"), "intrinsic dimension"),
)  # fmt: skip

# What a headline can be made of, the best first: a statistic, what it is a share of, and how it is written.
_FINDINGS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("mixing/overlap", "of a point\u2019s nearest neighbours share its label", percent),
    ("margins/n3", "of the points lie nearest to another class", percent),
    ("silhouette/exact", "is the mean silhouette", lambda value: f"{value:.3f}"),
)


def write_compared_measurements(
    measurements: Sequence[Stored],
    names: Sequence[str],
    path: str | os.PathLike[str],
    *,
    command: str | None = None,
    of: Comparison | None = None,
) -> None:
    """Write one page of two or more measurements, in their order; see `write_comparison`.

    of : their differences; by default those of the measurements that keep what these are made of.
    """
    known = [(name, each) for name, each in zip(names, measurements, strict=True) if each.points is not None]
    if of is None and len(known) > 1:
        points = [each.points for _, each in known if each.points is not None]
        of = compared(points, [name for name, _ in known], settings=[each.settings for _, each in known])
    panels = [panel for panel in (_panel(panel, measurements) for panel in _PANELS) if panel is not None]
    write_page(
        path,
        "compared_measurements.html.j2",
        Page(
            title=f"{len(names)} measurements compared",
            kicker=f"fastent report \u00b7 {len(names)} measurements",
            headline=_headline(measurements, names),
            configuration=_config(measurements, names),
            command=command,
            facts=_description(measurements),
            notices=[*_differences(measurements), *_without_points(measurements, names, of)],
        ),
        {"names": list(names), "panels": panels},
        ("compared_measurements.js",),
        names=names,
        panels=panels,
        groups=_groups(measurements),
        compared=of,
        overlap=None if of is None else of.neighbor_overlap,
        overlap_rows=[]
        if of is None or of.neighbor_overlap is None
        else [(name, *cells) for name, cells in overlap_cells(of.neighbor_overlap)],
        apart=[] if of is None else [(MEANINGS[name], name, cells) for name, cells in of.difference_cells()],
    )


def write_comparison_report(found: Comparison, path: str | os.PathLike[str], *, command: str | None = None) -> None:
    """Write what `fe.compare` found as one HTML page: the measurements side by side, and their differences with intervals."""
    stored = [stored_from(dict(summary)) for summary in found.summaries]
    write_compared_measurements(stored, found.names, path, command=command, of=found)


def _headline(measurements: Sequence[Stored], names: Sequence[str]) -> Headline:
    for statistic, subject, said in _FINDINGS:
        values = [each.statistics[statistic].value if statistic in each.statistics else math.nan for each in measurements]
        known = [(value, name) for value, name in zip(values, names, strict=True) if math.isfinite(value)]
        if len(known) < 2:
            continue
        (first, start), (last, end) = known[0], known[-1]
        least, most = min(known), max(known)
        title = f"{said(first)} {subject} in {start}, {said(last)} in {end}."
        if _monotone([value for value, _ in known]):
            return Headline(title)
        return Headline(title, (f"Smallest in {least[1]} ({said(least[0])}), largest in {most[1]} ({said(most[0])}).",))
    return Headline(f"{len(names)} measurements, compared.")


def _monotone(values: Sequence[float]) -> bool:
    steps = [after - before for before, after in pairwise(values)]
    return all(step >= 0 for step in steps) or all(step <= 0 for step in steps)


def _description(measurements: Sequence[Stored]) -> list[str]:
    parts = [f"{len(measurements)} measurements"]
    for name in ("points", "features"):
        values = {each.how[name] for each in measurements}
        if len(values) == 1:
            parts.append(f"{count(values.pop())} {name}")
    classes = {len(each.how["classes"]) for each in measurements}
    return [*parts, f"{classes.pop()} classes"] if len(classes) == 1 else parts


def _differences(measurements: Sequence[Stored]) -> list[str]:
    """A notice of what the measurements differ in, other than in what was measured."""
    said = list(differing_settings([each.settings for each in measurements]))
    differ = " ".join(f"{each[0].upper()}{each[1:]}." for each in said)
    return [f"The measurements differ in settings that some statistics depend on. {differ}"] if said else []


def _without_points(measurements: Sequence[Stored], names: Sequence[str], of: Comparison | None) -> list[str]:
    """A notice of the measurements whose differences are not known."""
    lacking = [name for name, each in zip(names, measurements, strict=True) if each.points is None]
    if not lacking or (of is not None and len(of.names) == len(names)):
        return []
    keep, them = ("keeps", "it") if len(lacking) == 1 else ("keep", "them")
    return [
        f"Differences from other measurements are not known for {sentence_list(lacking)}, which {keep} no {POINTS_FILE}: "
        f"measure {them} again."
    ]


def _panel(panel: Panel, measurements: Sequence[Stored]) -> dict[str, Any] | None:
    lines = []
    for statistic in panel.statistics:
        found = [each.statistics.get(statistic) for each in measurements]
        if sum(each is not None and math.isfinite(each.value) for each in found) < 2:
            continue
        line: dict[str, Any] = {
            "name": _NAMES.get(statistic, statistic.split("/")[1].replace("_", " ")),
            "chance": _CHANCE.get(statistic),
        }
        for key in ("value", "low", "high"):
            line[key] = rounded((None if each is None else getattr(each, key) for each in found), ".6g")
        lines.append(line)
    if not lines or all(line["chance"] for line in lines):
        return None
    positive = all(value is None or value > 0 for line in lines for value in line["value"])
    return {"title": panel.title, "axis": panel.axis, "log": panel.logarithmic and positive, "lines": lines}


def _groups(measurements: Sequence[Stored]) -> list[tuple[str, list[dict[str, Any]]]]:
    """For each group its title, and for each statistic its name, its meaning, its small line and its values."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, meaning in MEANINGS.items():
        found = [each.statistics.get(name) for each in measurements]
        values = [math.nan if each is None else each.value for each in found]
        if all(math.isnan(value) for value in values):
            continue
        group, statistic = name.split("/")
        row = {
            "name": statistic.replace("_", " "),
            "meaning": meaning,
            "line": _line(values),
            "cells": [_cell(each) for each in found],
        }
        groups.setdefault(METRICS[group].title, []).append(row)
    return list(groups.items())


def _cell(found: Estimate | None) -> tuple[str, str]:
    return (NOTHING, "") if found is None else (readable(found.value), readable_interval(found))


def _line(values: Sequence[float]) -> dict[str, Any]:
    """Points of a small line over the measurements, in CSS pixels; unknown values are left out."""
    known = [value for value in values if math.isfinite(value)]
    low, span = min(known, default=0.0), (max(known, default=0.0) - min(known, default=0.0)) or 1.0
    step = (_WIDTH - 2 * _AIR) / max(len(values) - 1, 1)
    points = [
        (round(_AIR + i * step, 1), round(_HEIGHT - _AIR - (value - low) / span * (_HEIGHT - 2 * _AIR), 1))
        for i, value in enumerate(values)
        if math.isfinite(value)
    ]
    return {"width": _WIDTH, "height": _HEIGHT, "points": points}


def _config(measurements: Sequence[Stored], names: Sequence[str]) -> list[tuple[str, str]]:
    """For each measurement the options that were stored with it."""
    rows = []
    for name, each in zip(names, measurements, strict=True):
        asked = each.how.get("asked") or {}
        said = [f"{key} {value}" for key, value in option_rows(asked)]
        n = f"{count(each.how['points'])} points, {count(each.how['features'])} features, {count(each.how['queries'])} queries"
        mark = [f"fingerprint {each.how['fingerprint']}"] if each.how.get("fingerprint") else []
        rows.append((name, "; ".join([n, *said, *mark, *each.how.get("notes", ())])))
    return rows
