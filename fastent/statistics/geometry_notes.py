"""Where class geometry degenerates, in words: classes of one point, means that coincide, rows without a direction."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.statistics.neural_collapse import ROUNDING, centred_alike
from fastent.statistics.notes import Note, listed, of_classes, one_point

__all__ = ["geometry_notes", "rows_of_zeros"]

Array = NDArray[np.float64]

_OF_SCATTER = ("fisher", "calinski_harabasz")


def rows_of_zeros(rows: NDArray[np.int64]) -> Iterator[Note]:
    """On rows of zeros that were to be scaled to unit length, by their numbers."""
    if len(rows):
        one = len(rows) == 1
        what = f"row {rows[0]} is" if one else f"{len(rows):,} rows are"
        where = "" if one else f" ({listed(rows)})"
        yield Note(
            f"{what} all zeros{where}", f"{'it has' if one else 'they have'} no direction and cannot be scaled to unit length"
        )


def geometry_notes(
    classes: NDArray[Any], counts: NDArray[np.int64], means: Array, distance: Array, values: Mapping[str, float | None]
) -> Iterator[Note]:
    """On class means (C, d), their distances (C, C), and statistics by name, None where there are none."""
    known = {name: value for name, value in values.items() if value is not None}
    scatter = {name: value for name, value in known.items() if name in _OF_SCATTER}
    if math.isnan(known["fisher"]):
        yield Note("all rows are equal", "there is nothing to tell classes apart")
    if not all(map(math.isfinite, scatter.values())):
        yield Note("every class is a single point", _not_finite(scatter))
    sizes = np.abs(means).max(1)
    pairs = np.argwhere(np.triu(distance <= ROUNDING * np.maximum(sizes[:, None], sizes), 1))
    if len(pairs):
        rest = {name: value for name, value in known.items() if name not in _OF_SCATTER}
        effect = _not_finite(rest) or "davies_bouldin and cdnv are made of rounding errors"
        yield Note(_coincident(classes, pairs), effect)
    yield from one_point(classes, counts, "the radius is 0, and averages over classes give the class full weight")
    central = centred_alike(means)
    if central.any() and not central.all():
        reason = of_classes(classes, central, "has its mean", "have their means") + " at the centre of all class means"
        yield Note(reason, "nc2_angle_deviation counts angles there as 90 degrees")


def _coincident(classes: NDArray[Any], pairs: NDArray[np.int64]) -> str:
    if len(pairs) == 1:
        return f"the means of classes {listed(classes[pairs[0]])} coincide"
    return f"the means of {len(pairs):,} pairs of classes coincide ({listed([f'{a} with {b}' for a, b in classes[pairs]])})"


def _not_finite(values: Mapping[str, float]) -> str:
    """`fisher is infinite`, `nc1 is infinite, nc2_norm_spread is unknown`."""
    said = []
    for kind, wrong in (("infinite", math.isinf), ("unknown", math.isnan)):
        names = [name for name, value in values.items() if wrong(value)]
        if names:
            said.append(f"{listed(names)} {'is' if len(names) == 1 else 'are'} {kind}")
    return ", ".join(said)
