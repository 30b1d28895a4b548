"""The report of many checkpoints: a heat map of layers and checkpoints for each statistic, curves, inversions, and a map."""

import os
from collections.abc import Iterator

import numpy as np

from fastent.activations.trajectory import Trajectory
from fastent.measurement.metrics import MEANINGS
from fastent.report.layers import LayerCurves, Statistic, headline, write_layers
from fastent.report.measurement import map_of
from fastent.report.page import Page, option_rows
from fastent.runtime.formatting import count
from fastent.statistics.notes import sentence_list

__all__ = ["write_trajectory_report"]

# They span orders of magnitude.
_LOGARITHMIC = ("geometry/nc1", "geometry/fisher", "geometry/cdnv", "geometry/calinski_harabasz")
# What chance would give is the same at all times.
_LEFT_OUT = ("mixing/chance", "mixing/balanced_chance", "soft_nearest_neighbor/temperature")


def _gaps(found: Trajectory) -> Iterator[str]:
    """Of statistics that are not known in every layer of every checkpoint."""
    lacking = {name: int(np.isnan(values).sum()) for name, values in found.statistics.items()}
    for times in sorted(set(lacking.values()) - {0}):
        names = sentence_list([name for name, each in lacking.items() if each == times])
        cells = f"{count(times)} of {count(len(found.names) * len(found.layers))} layers of checkpoints"
        yield f"Not known in {cells}, where rows repeat each other or classes have collapsed: {names}."


def write_trajectory_report(found: Trajectory, path: str | os.PathLike[str], *, command: str | None = None) -> None:
    """Write the layers of all checkpoints as one HTML page; `command` reproduces it."""
    curves = LayerCurves(
        layers=[name or "(the model)" for name in found.layers],
        unit="checkpoint",
        moments=found.step,
        names=found.names,
        classes=[str(name) for name in found.classes],
        statistics=[
            *(
                Statistic(name.replace("/", ": ", 1).replace("_", " "), MEANINGS[name], values, name in _LOGARITHMIC)
                for name, values in found.statistics.items()
                if name not in _LEFT_OUT and np.isfinite(values).any()
            ),
            Statistic("radius of unit rows", "mean gyration radius of the classes, unit rows", found.radius.mean(-1)),
        ],
        radius=found.radius,
        inversions=found.inversions(),
        lines={},
    ).in_reading_order(found.classes)
    write_layers(
        curves,
        path,
        Page(
            title="Layers and checkpoints",
            kicker="fastent trajectory",
            headline=headline(curves),
            configuration=list(option_rows(found.config)),
            command=command,
            facts=(
                f"{count(len(found.names))} checkpoint" + "s" * (len(found.names) != 1),
                f"{count(len(found.layers))} layer" + "s" * (len(found.layers) != 1),
                f"{count(len(found.codes))} rows",
                f"{count(len(found.classes))} classes",
            ),
            notices=list(_gaps(found)),
        ),
        None
        if found.last is None
        else map_of(found.last, where=f"Layer {found.layers[-1] or '(the model)'} at {found.names[-1]}, "),
    )
