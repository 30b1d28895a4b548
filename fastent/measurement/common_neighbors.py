"""Which neighbours the points of several measurements keep from one to another, as `fe.compare` shows it."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from fastent.measurement.point_values import PointValues, same_rows
from fastent.runtime.formatting import readable
from fastent.search.found_neighbors import Neighbors
from fastent.statistics.neighbor_overlap import OverlapMatrix, overlap_matrix
from fastent.statistics.strata import Strata

__all__ = ["common_neighbors", "keep_no_neighbors", "overlap_cells", "overlap_title", "same_points", "same_queries"]

# Of so many queries, and so many of their neighbours, it is told whether points are the same.
_QUERIES, _NEIGHBORS = 2000, 20
# Standard errors above chance.
_ABOVE = 4


def same_points(one: PointValues, other: PointValues) -> bool:
    """As far as labels tell."""
    return np.array_equal(one.codes, other.codes) and np.array_equal(one.classes, other.classes)


def same_queries(one: PointValues, other: PointValues) -> bool:
    """In any order where all rows were asked."""
    return same_points(one, other) and same_rows(one.queries, other.queries, one.of_queries, other.of_queries)


def common_neighbors(points: Sequence[PointValues], names: Sequence[str]) -> OverlapMatrix | None:
    """Neighbour overlap of every two; None where neighbours were not measured, or are not of the same queries among all.

    Nor is there any where queries were drawn class by class, whose plain mean is not that of all rows.
    """
    first = points[0]
    found = {name: _lists(each) for name, each in zip(names, points, strict=True) if each.lists is not None}
    same = all(
        same_points(each, first) and np.array_equal(each.queries, first.queries) and not isinstance(each.of_queries, Strata)
        for each in points
    )
    return overlap_matrix(found) if same and len(found) == len(points) > 1 else None


def _lists(of: PointValues) -> Neighbors:
    assert of.lists is not None
    return Neighbors(of.lists.indices, of.lists.distances, of.queries, len(of.codes))


def keep_no_neighbors(one: PointValues, other: PointValues) -> bool | None:
    """Whether queries that are taken for the same have no more neighbours in common than chance gives them, if nothing tells
    points of a class apart. None where it is not known.

    That is a_c b_c / n_c neighbours on average, of a query with a_c and b_c neighbours among the n_c other points of class c.
    """
    if one.lists is None or other.lists is None:
        return None
    step, k = -(-len(one.queries) // _QUERIES), min(_NEIGHBORS, one.lists.indices.shape[1], other.lists.indices.shape[1])
    places = [np.argsort(each.queries)[::step] for each in (one, other)]
    codes, rows = one.codes, one.queries[places[0]]
    a, b = (lists.indices[each, :k] for lists, each in zip((one.lists, other.lists), places, strict=True))
    others = np.bincount(codes)[codes[a]] - (codes[a] == codes[rows][:, None])
    common, expected = 0, 0.0
    for place in range(k):
        common += int((a[:, place, None] == b).sum())
        expected += float(((codes[a[:, place, None]] == codes[b]) / others[:, place, None]).sum())
    if expected > 0.5 * len(rows) * k:  # hardly any other points could be in the lists
        return None
    # Counts of pairs vary about as Poisson's; twice that, since neighbours are often mutual.
    return bool(common <= expected + _ABOVE * math.sqrt(2 * expected))


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
