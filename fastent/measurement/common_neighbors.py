"""Which neighbours the points of several measurements keep from one to another, as `fe.compare` shows it."""

from collections.abc import Iterator, Sequence

import numpy as np

from fastent.measurement.result import Measurement
from fastent.runtime.formatting import readable
from fastent.statistics.neighbor_overlap import OverlapMatrix, overlap_matrix
from fastent.statistics.strata import Strata

__all__ = ["common_neighbors", "overlap_cells", "overlap_title"]


def common_neighbors(measurements: Sequence[Measurement], names: Sequence[str]) -> OverlapMatrix | None:
    """Neighbour overlap of every two; None where neighbours were not measured, or are not of the same queries among all.

    Nor is there any where queries were drawn class by class, whose plain mean is not that of all rows.
    """
    first = measurements[0]
    lists = {name: each.neighbors for name, each in zip(names, measurements, strict=True)}
    found = {name: near for name, near in lists.items() if near is not None}
    same = all(
        np.array_equal(each.labels, first.labels)
        and np.array_equal(each.queries, first.queries)
        and not isinstance(each.of_queries, Strata)
        for each in measurements
    )
    return overlap_matrix(found) if same and len(found) == len(lists) > 1 else None


def overlap_title(found: OverlapMatrix) -> str:
    return (
        f"Neighbours in common: share of a point's {found.k} nearest neighbours that it keeps; "
        f"chance {readable(found.chance['overlap'])}"
    )


def overlap_cells(found: OverlapMatrix) -> Iterator[tuple[str, list[str]]]:
    """For each measurement what it shares with each, with standard errors where a sample was asked."""
    for name, values, errors in zip(found.names, found.overlap, found.standard_errors["overlap"], strict=True):
        yield (
            name,
            [
                readable(value) + (f" ± {readable(error)}" if error > 0 else "")
                for value, error in zip(values, errors, strict=True)
            ],
        )
