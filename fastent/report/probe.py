"""The report of a probe: its layers and records as a heat map, the curves, and where classes turn."""

import os

import numpy as np

from fastent.activations.records import ProbeRecords
from fastent.errors import FastentError
from fastent.report.layers import LayerCurves, Statistic, headline, write_layers
from fastent.report.page import Page, option_rows
from fastent.runtime.formatting import count

__all__ = ["curves_of", "write_probe_report"]

# What is recorded of each layer, by its name in the records, as it is shown; the first that was measured is shown first.
_STATISTICS = (
    ("mixing", "overlap", "share of the nearest neighbours with the same label; 1 = all"),
    ("margin", "relative margin", "(miss - hit) / (miss + hit) of the nearest points, -1 to 1; below 0 in another class"),
    ("mixing_error", "kNN error", "share of the queries whose nearest neighbours vote for another class"),
    ("n2", "N2", "distances within a class over those to other classes; 0 = apart, 0.5 = tangled"),
    ("n3", "N3", "share of the queries whose nearest point is of another class"),
    ("fisher", "Fisher ratio", "between-class over within-class scatter; large = apart"),
)


def write_probe_report(records: ProbeRecords, path: str | os.PathLike[str], *, command: str | None = None) -> None:
    """Write the records of a probe as one HTML page; `command` reproduces it.

    It has a heat map of layers and steps for each statistic that was recorded, curves of the layers, of the classes' radii and
    of the error, and for each layer and class where its radius turns, or why it does not.
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
    )


def curves_of(records: ProbeRecords) -> LayerCurves:
    """What a page shows of records, of one at least."""
    rows = "unit rows" if records.config.get("normalize", True) else "rows as given"
    statistics = [Statistic("radius", f"mean gyration radius of the classes, {rows}", records.radius.mean(-1))]
    if records.distance is not None:
        apart = ~np.eye(len(records.classes), dtype=bool)
        statistics.append(Statistic("distance", f"mean distance of class means, {rows}", records.distance[..., apart].mean(-1)))
    measured = [
        Statistic(shown, says, values, logarithmic=name == "fisher")
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
    )
