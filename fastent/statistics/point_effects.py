"""How a mean over nearest neighbours would differ with other points: what each contributes as a query, and as a neighbour.

The purities of points that share neighbours are not independent, so a mean over all points varies more, from one set of points
to another, than its values suggest. The jackknife accounts for that: without point j the mean lacks the value of j, and each
point that had j among its neighbours has the next one instead. It counts twice, however, what a value owes to a pair of
points, for which Efron and Stein's correction makes up. Both take only the lists of neighbours: a value for each query, and a
change of it for each of its neighbours. For two representations of the same points, both are taken of the differences.

Of a sample of the points, both sums run over pairs of points that are in it, each for as many pairs of all points.

References
----------
Efron & Stein, "The jackknife estimate of variance", Annals of Statistics 9, 1981.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Effects",
    "NearestRows",
    "effects_of_margins",
    "effects_of_mixing",
    "effects_on_radius",
    "standard_error",
    "standard_error_of_all",
]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


class NearestRows(NamedTuple):
    """Nearest neighbours of all n points, or of a sample: (n, k) row numbers and distances, ascending."""

    indices: Rows
    distances: NDArray[Any]


class Effects(NamedTuple):
    """Values (n,) whose mean is the statistic, and how they change: without point index[i] that of i changes by change[i]."""

    values: Array
    changes: tuple[tuple[Rows, Array], ...] = ()

    def pseudo_values(self) -> Array:
        """(n,) of the jackknife: they vary over points as n times the statistic does over sets of points."""
        found = self.values.copy()
        for index, change in self.changes:
            found -= np.bincount(index, change, len(found))
        return found


def standard_error(effects: Effects, minus: Effects | None = None) -> float:
    """Of a statistic, or of the difference of two of the same points."""
    n = len(effects.values)
    pseudo, values, changes = effects.pseudo_values(), effects.values, list(effects.changes)
    if minus is not None:
        pseudo, values = pseudo - minus.pseudo_values(), values - minus.values
        changes += [(index, -change) for index, change in minus.changes]
    variance = float(pseudo.var(ddof=1)) - _of_pairs(np.arange(n), changes, n) / n
    # Where the correction is all, what independent values would leave open remains.
    return math.sqrt(max(variance, float(values.var(ddof=1))) / n)


def standard_error_of_all(effects: Effects, rows: Rows, weights: Array, n: int) -> float:
    """Of a statistic of all n points, from effects on a sample of them.

    It does not say how far the sample's statistic is from that of all points; where the sample is all of them, it is
    `standard_error`.

    rows : (q,) different row numbers. weights : (q,) how many points each stands for.
    """
    apart = effects.values - np.average(effects.values, weights=weights)
    variance = float(np.average(apart**2, weights=weights)) * len(rows) / (len(rows) - 1)
    changes = [(index, weights * change) for index, change in effects.changes]
    lost, own = np.zeros(n), np.zeros(n)
    for index, change in changes:
        lost += np.bincount(index, change, n)
    own[rows] = weights * apart
    # The squared change that a point makes to one other, of which a sample has too little, cancels out but for 1 / n.
    shared = (float((lost**2).sum()) - float(lost.sum()) ** 2 / n - 2 * float(own @ lost)) / (n - 1)
    return math.sqrt(max(variance + shared - _of_pairs(rows, changes, n) / n, variance) / n)


def _of_pairs(rows: Rows, changes: list[tuple[Rows, Array]], n: int) -> float:
    """Sum over pairs of points of the squared change that the two make together, from changes of those of some rows."""
    if not changes:
        return 0.0
    keys = np.concatenate([np.minimum(rows, index) * n + np.maximum(rows, index) for index, _ in changes])
    order = np.argsort(keys, kind="stable")
    first = np.flatnonzero(np.diff(keys[order], prepend=-1))
    sums = np.add.reduceat(np.concatenate([change for _, change in changes])[order], first)
    return float((sums**2).sum())


def effects_of_mixing(lists: NearestRows, codes: Rows, n_classes: int, rows: Rows | None = None) -> dict[str, Effects]:
    """For "overlap" and "entropy", of lists of one neighbour fewer: the last follows up where another is left out.

    codes : (n,) of all points. rows : those that the lists are of, default all.
    """
    from fastent.kernels.mixing import label_shares

    columns, own = range(lists.indices.shape[1]), codes if rows is None else codes[rows]

    def shares(left_out: int) -> tuple[Array, Array]:
        kept = [column for column in columns if column != left_out]
        indices, distances = (np.ascontiguousarray(each[:, kept]) for each in lists)
        purity, entropy, _ = label_shares(indices, distances.astype(np.float32), codes, own, n_classes)
        return purity, entropy

    whole = shares(columns[-1])
    without = [shares(column) for column in columns[:-1]]
    return {
        name: Effects(whole[i], tuple((lists.indices[:, c], each[i] - whole[i]) for c, each in enumerate(without)))
        for i, name in enumerate(("overlap", "entropy"))
    }


def effects_of_margins(
    hit: Array,
    miss: Array,
    index: tuple[Rows, Rows],
    lists: NearestRows,
    codes: Rows,
    rows: Rows | None = None,
    weights: Array | float = 1.0,
) -> dict[str, Effects]:
    """For "relative", "n2" and "n3", from hits and misses (n,), their row numbers, and lists of two neighbours or more.

    {} if a point is alone in its class, or if no list has a second hit, or a second miss.

    codes : (n,) of all points. rows : those that the others are of, default all. weights : how many points each stands for.
    """
    same = codes[lists.indices] == (codes if rows is None else codes[rows])[:, None]
    wrong = (~same).astype(np.float64)
    second = [
        _second(first, lists, among & (lists.indices != at[:, None]))
        for first, among, at in zip((hit, miss), (same, ~same), index, strict=True)
    ]
    if np.isnan(hit).any() or not np.isfinite(second).all():
        return {}
    found = {"n3": Effects(wrong[:, 0], ((lists.indices[:, 0], wrong[:, 1] - wrong[:, 0]),))}
    weights = np.broadcast_to(weights, hit.shape)
    total = float(weights @ (hit + miss))
    share = float(weights @ hit) / total if total > 0 else math.nan
    values: dict[str, Callable[[Array, Array], Array]] = {
        "relative": lambda hit, miss: np.divide(miss - hit, miss + hit, out=np.zeros(len(hit)), where=hit + miss > 0),
        "n2": lambda hit, miss: share + ((1 - share) * hit - share * miss) * (float(weights.sum()) / total),
    }
    for name, value in values.items():
        if name == "n2" and not total > 0:
            continue
        whole = value(hit, miss)
        found[name] = Effects(whole, ((index[0], value(second[0], miss) - whole), (index[1], value(hit, second[1]) - whole)))
    return found


def effects_on_radius(apart: Array, codes: Rows, counts: Rows) -> Effects:
    """Of the mean over classes of the gyration radii, from distances (n,) of the points to their class means."""
    squares = np.bincount(codes, apart**2, len(counts))
    radii = np.sqrt(squares / counts)
    m = counts[codes]
    # Without a point, its class has another mean too: the squares lose m / (m - 1) times that of the point.
    left = np.maximum(squares[codes] - apart**2 * m / np.maximum(m - 1, 1), 0.0) / np.maximum(m - 1, 1)
    return Effects(radii.mean() - (len(codes) - 1) * (np.sqrt(left) - radii[codes]) / len(counts))


def _second(first: Array, lists: NearestRows, others: NDArray[np.bool_]) -> Array:
    """Distances to the next point after the first: known where the lists reach it, else expected beyond their ends.

    Log ratios of second to first distances are exponential in the intrinsic dimension (Facco et al. 2017). Where a list ends
    before the second, its end is known to come first; the maximum likelihood of the rate allows for that.
    """
    reached = others.any(1)
    known = lists.distances[np.arange(len(first)), others.argmax(1)].astype(np.float64)
    second = np.where(reached, known, np.maximum(lists.distances[:, -1], first))
    usable = (first > 0) & np.isfinite(first)
    if not (reached & usable).any():
        return np.where(reached, second, np.nan)
    ratios = np.log(np.maximum(second[usable] / first[usable], 1.0))
    beyond = float(np.exp(ratios.sum() / (reached & usable).sum()))
    expected: Array = np.where(reached, second, second * beyond)
    return expected
