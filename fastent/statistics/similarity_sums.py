"""Sums of exp(-d^2 / T) over the own class and over all points, for each query and several temperatures."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import kernel_dtype, row_blocks
from fastent.runtime.threads import in_parallel
from fastent.search.index import Wanted
from fastent.search.planner import plan_index
from fastent.search.sweep import ClassBlock, LabelledPoints, PairBlock, Reduction, Sums, distances_in_double, shared_classes

__all__ = ["NEAREST", "SimilaritySums"]

Array = NDArray[Any]

# exp(-x) of more than that is as good as nothing in single precision.
_VANISHING = 1e30
# How far the exponent of a term may be off as a rule, unless that is beyond the other: then the term is nothing beside `_LOST`.
_EXPONENT, _COUNTS = 4e-6, 60.0
# A sum below this may have lost terms to the range of single precision, and is taken again.
_LOST = 1e-15
# Sums that are taken again are taken over so many neighbours, if more pairs than this would be met and all other terms come to
# less than this share.
NEAREST, _FEW_PAIRS, _SKIPPED = 64, 1 << 26, 1e-9
_CHUNK_BYTES = 32 << 20


class SimilaritySums(Reduction):
    """Sums of exp(-d^2 / T) over the own class and over all, for each query.

    memory : bytes that an index of the points may take, should one be needed for sums that are lost.
    """

    def __init__(
        self, points: LabelledPoints, queries: NDArray[np.int64] | None, temperatures: Array, *, memory: float = math.inf
    ) -> None:
        self.points, self.queries, self.memory = points, queries, memory
        self._own = points.codes if queries is None else points.codes[queries]
        self.alone = np.bincount(points.codes)[self._own] == 1
        self.temperatures = temperatures
        limits = np.finfo(np.float32)
        with np.errstate(over="ignore", divide="ignore"):  # temperatures of which the reciprocal is no number any more
            rates = 1 / (temperatures * points.scale**2)
        self._exact_rates = np.minimum(rates, np.finfo(float).max)
        self._rates = np.clip(rates, limits.tiny, limits.max).astype(np.float32)
        self.error_bound = 0.0
        shape = len(temperatures), len(self._own)
        super().__init__(len(self._own), same=np.zeros(shape), all=np.zeros(shape))

    def reduce(self, block: PairBlock) -> Sums:
        from fastent.kernels.pairs import sum_similarities

        rows, columns, size = block.rows, block.columns, len(self._rates)
        across = np.zeros((size, len(columns.classes), len(rows.ids)))
        down = np.zeros((size, len(rows.classes) * block.mirrored, len(columns.ids)))
        themselves = _themselves(block)
        squared, ends = self._squared(block, themselves), (themselves, rows.bounds, columns.bounds)
        if squared.dtype == np.float32:
            sum_similarities(squared, *ends, self._rates, across, down)
        else:  # single precision holds the exponents that count
            for j, rate in enumerate(self._exact_rates):
                with np.errstate(over="ignore"):
                    exponents = np.minimum(squared * rate, _VANISHING).astype(np.float32)
                here = slice(j, j + 1)
                sum_similarities(exponents, *ends, np.ones(1, np.float32), across[here], down[here])
        return (
            {"same": self._of_own(across, columns, rows), "all": across.sum(1)},
            {"same": self._of_own(down, rows, columns), "all": down.sum(1)} if block.mirrored else {},
        )

    def _squared(self, block: PairBlock, themselves: tuple[Array, Array]) -> Array:
        """Of all pairs: in double precision where single is off by more than may be in exponents of terms that count."""
        squared: Array = block.distances.squared
        norms, other_norms = block.distances.norms, block.distances.other_norms
        if squared.dtype == np.float32:
            rates, rounding = self._rates.astype(np.float64), 2.0**-23 * (1 + block.rows.rows.shape[1] ** 0.5 / 16)
            coarse = rates * (float(norms.max()) + float(other_norms.max())) * rounding > _EXPONENT
            if coarse.any() and (_nearest(squared, themselves) * rates[coarse] < _COUNTS).any():
                rows, others = block.rows.rows, block.columns.rows
                middle = (block.rows.mean + block.columns.mean) / 2
                squared = distances_in_double(rows, others, middle, self.points.scale).squared
        return squared

    def _of_own(self, sums: Array, summed: ClassBlock, of: ClassBlock) -> Array:
        """(J, r) of (J, segments, r): the segment that is the point's own class, 0 where there is none."""
        result = np.zeros((len(sums), sums.shape[2]))
        for s, t in shared_classes(summed, of):
            here = slice(*of.bounds[t : t + 2])
            result[:, here] = sums[:, s, here]
        return result

    def log_ratios(self) -> Array:
        """-log of the own class's share, (J, q); NaN for points alone in their class."""
        same, everything = self.by_query("same"), self.by_query("all")
        log_ratio = np.full(same.shape, np.nan)
        lost = (same < _LOST) & ~self.alone
        kept = ~lost & ~self.alone
        log_ratio[kept] = np.log(everything[kept]) - np.log(same[kept])
        some = np.flatnonzero(lost.any(0))
        if len(some):
            log_ratio[lost] = self._again(some, lost[:, some])[lost[:, some]]
        return log_ratio

    def _again(self, places: Array, lost: Array) -> Array:
        """(J, places) log ratios, where these are lost, about the nearest point of each sum, in double precision.

        From the nearest neighbours, where all others together cannot change a sum by more than `_SKIPPED` of it.
        """
        points, ids = self.points, places if self.queries is None else self.queries[places]
        result = np.empty((len(self._rates), len(places)))
        left = np.arange(len(ids))
        n = len(points.X)
        wanted: Wanted = {"own class": NEAREST, "all": NEAREST}
        if len(ids) * n > _FEW_PAIRS and (plan := plan_index(points.X, len(ids), wanted, memory=self.memory)).kind == "index":
            lists = plan.build(points.X, classes=points.codes).search(wanted, ids)
            counts = np.bincount(points.codes)[points.codes[ids]] - 1
            own, everything = lists["own class"].squared, lists["all"].squared
            log_own, own_skipped = self._near(own, counts)
            log_all, skipped = self._near(everything, np.full(len(ids), n - 1))
            result[:] = log_all - log_own + _over(own[:, 0] - everything[:, 0], self.temperatures[:, None])
            skipped = np.where(lost, np.maximum(own_skipped, skipped), 0)
            left = np.flatnonzero((skipped > _SKIPPED).any(0))
            self.error_bound = float(np.minimum(skipped, _SKIPPED).max(0).sum() / len(self._own))
        chunk = max(1, _CHUNK_BYTES // (8 * n))

        def take(begin: int) -> None:
            here = left[begin : begin + chunk]
            some = ids[here]
            squared = _squared(points, some)
            squared[np.arange(len(some)), some] = np.inf
            result[:, here] = _log_ratios(squared, points.codes[some], points.codes, self.temperatures)

        in_parallel(take, range(0, len(left), chunk))
        return result

    def _near(self, squared: Array, counts: Array) -> tuple[Array, Array]:
        """(J, r) logs of sums about the nearest, and the largest share that all but these few, at least as far, may add."""
        squared = np.where(np.arange(squared.shape[1]) < counts[:, None], squared, np.inf)
        nearest = squared[:, :1]
        logs, skipped = np.empty((2, len(self._rates), len(squared)))
        rest = np.maximum(counts - squared.shape[1], 0)
        for j, temperature in enumerate(self.temperatures):
            terms = np.exp(_over(nearest - squared, temperature))
            sums = terms.sum(1)
            logs[j] = np.log(sums)
            skipped[j] = rest * terms[:, -1] / sums
        return logs, skipped


def _themselves(block: PairBlock) -> tuple[Array, Array]:
    """Rows and columns of the pairs of a point and itself."""
    if block.mirrored:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    ids, other_ids = block.rows.ids, block.columns.ids
    if ids is other_ids:
        return np.arange(len(ids)), np.arange(len(ids))
    by_id = np.argsort(other_ids)
    places = by_id[np.minimum(np.searchsorted(other_ids[by_id], ids), len(by_id) - 1)]
    same = np.flatnonzero(other_ids[places] == ids)
    return same, places[same]


def _nearest(squared: Array, themselves: tuple[Array, Array]) -> float:
    """The least squared distance of two points."""
    squared[themselves] = np.inf
    least = float(squared.min())
    squared[themselves] = 0
    return least


def _over(differences: Any, temperature: Any) -> Any:
    """Divided, not multiplied by the reciprocal, which for the least temperatures is infinite: 0 / T is 0 for all."""
    with np.errstate(over="ignore"):
        return differences / temperature


def _log_ratios(squared: Array, own: Array, codes: Array, temperatures: Sequence[float] | Array) -> Array:
    """log sum over all - log sum over the own class, each about its nearest point; (J, r)."""
    result = np.empty((len(temperatures), len(squared)))
    for i, row in enumerate(squared):
        of_class = row[codes == own[i]]
        nearest, nearest_own = row.min(), of_class.min()
        for j, temperature in enumerate(temperatures):
            over_all = np.exp(_over(nearest - row, temperature)).sum()
            over_own = np.exp(_over(nearest_own - of_class, temperature)).sum()
            result[j, i] = math.log(over_all) - math.log(over_own) + _over(nearest_own - nearest, temperature)
    return result


def _squared(points: LabelledPoints, rows: Array) -> Array:
    """(rows, n) squared distances in double precision, from differences."""
    from fastent.kernels.pairs import square_differences

    some = np.ascontiguousarray(points.X[rows], kernel_dtype(points.X))
    squared = np.empty((len(rows), len(points.X)))
    for start, block in row_blocks(points.X):
        square_differences(some, block, start, squared)
    return squared
