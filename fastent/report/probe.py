"""The report of a probe: its layers and records as a heat map, the curves, where classes turn, and a map of the queries."""

import os
from collections.abc import Sequence

import numpy as np

from fastent.activations.records import ProbeRecords
from fastent.arrays.class_names import reading_order
from fastent.errors import FastentError
from fastent.report.layers import LayerCurves, Statistic, headline, write_layers
from fastent.report.map import Fact, Layout, MapSection, map_section
from fastent.report.page import Page, option_rows
from fastent.runtime.formatting import count
from fastent.statistics.point_map import point_maps

__all__ = ["curves_of", "write_probe_report"]

# What is recorded of each layer, by its name in the records, as it is shown; the first that was measured is shown first.
_STATISTICS = (
    ("mixing", "overlap", "share of the nearest neighbours with the same label; 1 = all"),
    ("margin", "relative margin", "(miss - hit) / (miss + hit) of the nearest points, -1 to 1; below 0 in another class"),
    ("mixing_error", "kNN error", "share of the queries whose nearest neighbours vote for another class"),
    ("n2", "N2", "distances within a class over those to other classes; 0 = apart, 0.5 = tangled"),
    ("n3", "N3", "share of the queries whose nearest point is of another class"),
    ("dimension", "dimension", "intrinsic dimension of the queries, from two neighbours (TwoNN)"),
    ("nc1", "NC1", "within-class over between-class variation; 0 = collapsed"),
    ("fisher", "Fisher ratio", "between-class over within-class scatter; large = apart"),
)
# Of fewer points nothing is to be seen.
_LEAST_MAPPED = 3


def write_probe_report(
    records: ProbeRecords, path: str | os.PathLike[str], *, command: str | None = None, maps: Sequence[str] = ("pca",)
) -> None:
    """Write the records of a probe as one HTML page; `command` reproduces it, `maps` are the methods of its map.

    It has a heat map of layers and steps for each statistic that was recorded, curves of the layers, of the classes' radii and
    of the error, and for each layer and class where its radius turns, or why it does not; and a map
    of the queries in the last layer if the probe was made with "map" among its metrics.
    """
    if not len(records):
        raise FastentError("the probe has recorded nothing so far: call it in training")
    curves = curves_of(records)
    write_layers(
        curves,
        path,
        Page(
            title="Layers during training",
            kicker="fastent probe",
            headline=headline(curves),
            configuration=list(option_rows(records.config)),
            command=command,
            facts=(
                f"{count(len(records))} records, steps {count(records.step[0])} to {count(records.step[-1])}",
                f"{count(len(records.layers))} layer" + "s" * (len(records.layers) != 1),
                f"{count(len(records.codes))} rows in the probe set",
                f"{count(len(records.classes))} classes",
            ),
            notices=[]
            if np.isfinite(records.error).any()
            else ["The model gave no logits of these classes: no error is known."],
        ),
        _map(records, maps),
    )


def _map(records: ProbeRecords, methods: Sequence[str]) -> MapSection | None:
    rows, points = records.queries, records.points
    if rows is None or points is None or len(rows) < _LEAST_MAPPED:
        return None
    codes, names = records.codes[rows], [str(name) for name in records.classes]
    order = reading_order(records.classes, names)
    layer, step = records.layers[-1] or "(the model)", records.step[-1]
    layouts = [
        Layout(
            each.title, f"{count(len(rows))} rows of the probe set in layer {layer} at step {count(step)}, {each.title}:", each
        )
        for each in point_maps(points, codes, methods, k=min(10, len(rows) - 1)).values()
    ]
    if np.isnan(records.error[-1]):
        return map_section(layouts, codes, names, order=order, rows=rows, facts=(), marked=None, mark="", rings_mark="")
    stragglers = records.stragglers()[rows]
    return map_section(
        layouts, codes, names, order=order,
        rows=rows, facts=[Fact("straggler", ["no", "yes"], stragglers.astype(np.int64))] if stragglers.any() else [],
        marked=records.misclassified(int(step))[rows], mark="misclassified",
        rings_mark="Rings mark rows that the model misclassifies at this step.",
    )  # fmt: skip


def curves_of(records: ProbeRecords) -> LayerCurves:
    """What a page shows of records, of one at least."""
    rows = "unit rows" if records.config.get("normalize", True) else "rows as given"
    statistics = [Statistic("radius", f"mean gyration radius of the classes, {rows}", records.radius.mean(-1))]
    if records.distance is not None:
        apart = ~np.eye(len(records.classes), dtype=bool)
        statistics.append(Statistic("distance", f"mean distance of class means, {rows}", records.distance[..., apart].mean(-1)))
    measured = [
        Statistic(shown, says, values, logarithmic=name in ("fisher", "nc1"))
        for name, shown, says in _STATISTICS
        if np.isfinite(values := getattr(records, name)).any()
    ]
    neighbours = [each for each in measured if each.name != "Fisher ratio"]
    return LayerCurves(
        layers=[name or "(the model)" for name in records.layers],
        unit="step",
        moments=records.step,
        names=[count(step) for step in records.step],
        classes=[str(name) for name in records.classes],
        statistics=[*neighbours, *statistics, *(each for each in measured if each not in neighbours)],
        radius=records.radius,
        inversions=records.inversions(),
        lines={"error": records.error, "loss": records.loss, **records.scalars},
    ).in_reading_order(records.classes)
