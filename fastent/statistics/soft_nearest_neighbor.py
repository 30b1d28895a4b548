"""Soft nearest neighbour loss: how far same-class points stand out among all, at a temperature."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.queries import query_rows
from fastent.arrays.ranges import check_range
from fastent.arrays.validation import as_features, as_labels, bytes_in_memory, in_memory, kernel_dtype, row_blocks
from fastent.errors import FastentError
from fastent.options import choice, number, whole_number
from fastent.runtime.memory import check_fits
from fastent.runtime.progress import Progress
from fastent.runtime.threads import in_parallel
from fastent.search.index import Wanted
from fastent.search.planner import plan_index
from fastent.search.sketch import typical_scale
from fastent.search.sweep import ClassBlock, LabelledPoints, PairBlock, Reduction, Sums, sweep, sweep_bytes
from fastent.statistics.intervals import Estimate, sample_mean
from fastent.statistics.notes import Note, few_or_skewed, merged, one_point

__all__ = [
    "SimilaritySums",
    "SoftNearestNeighbor",
    "checked_temperature",
    "settled",
    "soft_nearest_neighbor_loss",
    "temperature_nodes",
]

Array = NDArray[Any]
Temperature = float | Literal["median", "optimal"]

# Rows whose distances to each other give the median. The optimum is sought first on a ladder of log T about the median, for a
# sample of rows, then for all between Chebyshev nodes exp(+-_WIDTH) around the sample's: there the log sums, analytic functions
# of log T, are interpolated to 1e-7.
_MEDIAN_ROWS, _LADDER_ROWS = 1024, 4096
_LADDER = (-16.0, 7.0, 0.5)
_NODES, _WIDTH = 8, 0.5
# How often these are moved, should the optimum over all rows not lie between them.
_MOVES = 6
# Where so large a share of the pairs on either side of a sample's median differ by such a factor, that of another sample may be
# quite another.
_UNSURE, _GAP = 0.03, 1.5
# exp(-x) of more than that is as good as nothing in single precision.
_VANISHING = 1e30
# A sum below this may have lost terms to the range of single precision, and is taken again.
_LOST = 1e-15
# Sums that are taken again are taken over so many neighbours, if more pairs than this would be met and all other terms come to
# less than this share.
_NEAR, _FEW_PAIRS, _SKIPPED = 64, 1 << 26, 1e-9
_CHUNK_BYTES = 32 << 20
_LOSS = "the soft nearest neighbour loss"


@dataclass(frozen=True, eq=False)
class SoftNearestNeighbor:
    """The loss and how it came about.

    Attributes
    ----------
    loss : float
        Mean of `per_point`, >= 0: 0 where every point's weight lies on its own class.
    per_point : (q,) float64
        -log of the own class's share of exp(-d^2 / T), the point itself left out; NaN for a point alone in its class.
    temperature : float
        T, in squared units of X.
    alone : int
        Queries that are alone in their class, and left out of the mean.
    interval : Estimate
        Of the loss over all rows, for queries that are a random sample of them.
    error_bound : float
        What skipped terms can add to the loss or take from it: 0 unless T is small beside the distances to near neighbours.
    notes : tuple of str
        Whether points alone in their class were left out, and whether the interval may be too narrow.
    """

    loss: float
    per_point: NDArray[np.float64]
    temperature: float
    alone: int
    interval: Estimate
    error_bound: float = 0.0
    notes: tuple[Note, ...] = ()

    def __repr__(self) -> str:
        return f"SoftNearestNeighbor({len(self.per_point)} queries, loss {self.loss:.4f} at temperature {self.temperature:.4g})"


def soft_nearest_neighbor_loss(
    X: Any,
    labels: Any,
    temperature: Temperature = "median",
    *,
    queries: Any = None,
    memory_budget: int | str | None = None,
    seed: int = 0,
    progress: Progress = None,
) -> SoftNearestNeighbor:
    """Mean over points of -log(sum of exp(-d^2 / T) over the own class / over all points), each without the point itself.

    Parameters
    ----------
    X : array-like (n, d)
        Any real dtype and memory order; with few queries a memory map is read block by block.
    labels : array-like (n,)
        Two classes or more.
    temperature : float or str
        In squared units of X, above 0. "median": the median squared distance, of all pairs up to 1,024 rows, of a seeded sample
        of so many rows beyond. "optimal": where the loss is least, from 1e-7 to 600 times the median; bracketed on a sample of
        4,096 rows, found between nodes of one set of sums over all.
    queries : int or (q,) int, optional
        A number: that many rows, drawn at random with `seed`. Or row numbers. All rows unless said.
    memory_budget : int or str, optional
        Bytes, or like "4GiB"; what is available unless said.
    seed : int
        Of the random queries, and of the rows from which a temperature is found.
    progress : bool or callable

    Returns
    -------
    SoftNearestNeighbor

    Raises
    ------
    FastentError
        Bad input; one class only; nothing but points alone in their class; all points equal, where T is to be found.

    References
    ----------
    Frosst, Papernot, Hinton, "Analyzing and improving representations with the soft nearest neighbor loss", 2019.

    Examples
    --------
    >>> import fastent as fe
    >>> round(fe.soft_nearest_neighbor_loss([[0.0], [1.0], [5.0], [6.0]], ["a", "a", "b", "b"], temperature=1.0).loss, 6)
    0.0
    """
    features = as_features(X)
    n, d = features.shape
    codes, classes = as_labels(labels, n=n, minimum_classes=2)
    temperature, seed = checked_temperature(temperature), whole_number("seed", seed, minimum=0)
    asked = query_rows(queries, n, d, seed=seed, what="the soft nearest neighbour loss")
    q, whole = n if asked is None else len(asked), asked is None
    check_fits(
        sweep_bytes(features, q) + (32 + 8) * _NODES * q + 32 * _NEAR * q + whole * bytes_in_memory(features),
        f"the soft nearest neighbour loss of {q} queries among {n} x {d} points",
        "use fewer queries",
        memory_budget,
    )
    features = in_memory(features) if whole else features
    check_range(features)
    points = LabelledPoints(features, codes, typical_scale(features), len(classes))
    sums = SimilaritySums(points, asked, temperature_nodes(points, temperature, seed))
    sweep(points, asked, [sums], progress=progress, description="soft nearest neighbours")
    return settled(sums, classes, progress)


def settled(sums: "SimilaritySums", classes: Array, progress: Progress = None) -> SoftNearestNeighbor:
    """The result of a sweep's sums; of further sweeps, where the optimum lies beyond the temperatures of the first."""
    found = sums.result()
    for _ in range(_MOVES):
        if sums.next_nodes is None:
            break
        sums = SimilaritySums(sums.points, sums.queries, sums.next_nodes, memory=sums.memory)
        sweep(sums.points, sums.queries, [sums], progress=progress, description="soft nearest neighbours")
        found = sums.result()
    return replace(found, notes=merged(sums.notes(found, classes)))


def checked_temperature(temperature: Any) -> Temperature:
    """A number above 0, "median" or "optimal"."""
    if isinstance(temperature, str):
        choice("temperature", temperature, ("median", "optimal"))
        return temperature  # type: ignore[return-value]
    return number("temperature", temperature, above=0)


def temperature_nodes(points: LabelledPoints, temperature: Temperature, seed: int) -> Array:
    """The temperature, or those around the optimum between which it will be interpolated."""
    if not isinstance(temperature, str):
        return np.array([temperature])
    from scipy.spatial.distance import pdist

    rows = _sample(points, _MEDIAN_ROWS, seed)
    pairs = pdist(np.asarray(points.X[rows], np.float64), "sqeuclidean")
    median = float(np.median(pairs))
    if median == 0:
        raise FastentError(f"temperature={temperature!r}: more than half of the points are equal, choose a number")
    if temperature == "median":
        if len(rows) < len(points.X):
            below, above = np.quantile(pairs, [0.5 - _UNSURE, 0.5 + _UNSURE])
            if above > _GAP * max(below, np.finfo(float).tiny):
                return GappedMedian([median], (float(below), float(above)))
        return np.array([median])
    ladder = median * np.exp(np.arange(*_LADDER))
    sums = SimilaritySums(points, _sample(points, _LADDER_ROWS, seed), ladder)
    sweep(points, sums.queries, [sums])
    losses = np.nanmean(sums.log_ratios(), 1)
    best = int(np.argmin(losses))
    if best in (0, len(ladder) - 1):
        return np.array([ladder[best]])
    # The lowest point of the parabola through the three.
    below, least, above = losses[best - 1 : best + 2]
    shift = (below - above) / (2 * (below - 2 * least + above)) if below + above > 2 * least else 0.0
    return _nodes_around(ladder[best] * math.exp(shift * _LADDER[2]))


class GappedMedian(np.ndarray):  # type: ignore[type-arg]
    """The median (1,), of a sample whose middle lies in a gap: another sample's may lie on the other side.

    around : what some of the pairs below and above have for squared distances.
    """

    around: tuple[float, float]

    def __new__(cls, values: Sequence[float], around: tuple[float, float]) -> "GappedMedian":
        found = np.asarray(values).view(cls)
        found.around = around
        return found


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
        self._rates = np.clip(rates, limits.tiny, limits.max).astype(np.float32)
        # Where to look for the optimum if it does not lie between these temperatures.
        self.next_nodes: Array | None = None
        self.error_bound = 0.0
        shape = len(temperatures), len(self._own)
        super().__init__(len(self._own), same=np.zeros(shape), all=np.zeros(shape))

    def reduce(self, block: PairBlock) -> Sums:
        from fastent.kernels.pairs import sum_similarities

        rows, columns, size = block.rows, block.columns, len(self._rates)
        across = np.zeros((size, len(columns.classes), len(rows.ids)))
        down = np.zeros((size * block.mirrored, len(rows.classes), len(columns.ids)))
        squared, ends = block.distances.squared, (rows.ids, columns.ids, rows.bounds, columns.bounds)
        if squared.dtype == np.float32:
            sum_similarities(squared, *ends, self._rates, across, down)
        else:  # single precision holds the exponents that count
            for j, rate in enumerate(1 / (self.temperatures * self.points.scale**2)):
                exponents = np.minimum(squared * rate, _VANISHING).astype(np.float32)
                here = slice(j, j + 1)
                sum_similarities(exponents, *ends, np.ones(1, np.float32), across[here], down[here])
        return (
            {"same": self._of_own(across, columns, rows), "all": across.sum(1)},
            {"same": self._of_own(down, rows, columns), "all": down.sum(1)} if block.mirrored else {},
        )

    def _of_own(self, sums: Array, summed: ClassBlock, of: ClassBlock) -> Array:
        """(J, r) of (J, segments, r): the segment that is the point's own class, 0 where there is none."""
        result = np.zeros((len(sums), sums.shape[2]))
        for s, t in zip(*np.intersect1d(summed.classes, of.classes, return_indices=True)[1:], strict=True):
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

    def result(self) -> SoftNearestNeighbor:
        if self.alone.all():
            raise FastentError("every query is alone in its class: the soft nearest neighbour loss needs two points of a class")
        log_ratio = self.log_ratios()
        per_point, temperature = log_ratio[0], self.temperatures[0]
        if len(log_ratio) > 1:
            place, weights = _least(np.nanmean(log_ratio, 1))
            centre = math.sqrt(self.temperatures[0] * self.temperatures[-1])
            per_point, temperature = weights @ log_ratio, centre * math.exp(place * _WIDTH)
            if abs(place) == 1:
                self.next_nodes = _nodes_around(centre * math.exp(1.5 * place * _WIDTH))
        per_point = np.maximum(per_point, 0.0)
        rows = self.queries
        # Rows that were drawn more than once were drawn independently.
        population = len(self.points.X) if rows is None or len(np.unique(rows)) == len(rows) else math.inf
        with np.errstate(over="ignore", invalid="ignore"):  # at temperatures about the least number the loss is infinite
            interval = sample_mean(per_point, population, least=0, others=self._if_mislabelled(per_point))
        return SoftNearestNeighbor(
            interval.value,
            per_point,
            float(temperature),
            int(self.alone.sum()),
            interval,
            self.error_bound,
        )

    def _if_mislabelled(self, per_point: Array) -> Array:
        """(1,) What the loss of a typical query would be with the label of another class, of which it has an average share."""
        others = np.maximum(-np.expm1(-per_point), np.finfo(np.float64).tiny)
        return np.array([np.nanmedian(math.log(self.points.n_classes - 1) - np.log(others))])

    def notes(self, found: SoftNearestNeighbor, classes: Array) -> Iterator[Note]:
        if found.alone:
            counts = np.bincount(self.points.codes, minlength=len(classes))
            yield from one_point(classes, counts, f"{_LOSS} leaves the point out")
        yield from few_or_skewed({_LOSS: found.per_point}, self.queries, {_LOSS: found.interval})
        if isinstance(self.temperatures, GappedMedian):
            below, above = self.temperatures.around
            yield Note(
                f"the median squared distance of a sample lies in a gap, from {below:.3g} to {above:.3g}",
                f"{_LOSS} depends on the sample, and so on the seed: choose a temperature to compare",
            )

    def _again(self, places: Array, lost: Array) -> Array:
        """(J, places) log ratios, where these are lost, about the nearest point of each sum, in double precision.

        From the nearest neighbours, where all others together cannot change a sum by more than `_SKIPPED` of it.
        """
        points, ids = self.points, places if self.queries is None else self.queries[places]
        result = np.empty((len(self._rates), len(places)))
        left = np.arange(len(ids))
        n = len(points.X)
        wanted: Wanted = {"own class": _NEAR, "all": _NEAR}
        if len(ids) * n > _FEW_PAIRS and (plan := plan_index(points.X, len(ids), wanted, memory=self.memory)).kind == "index":
            lists = plan.build(points.X, codes=points.codes).search(wanted, ids)
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


def _nodes_around(temperature: float) -> Array:
    return temperature * np.exp(_WIDTH * np.polynomial.chebyshev.chebpts1(_NODES))


def _least(losses: Array) -> tuple[float, Array]:
    """Where in [-1, 1] the interpolated loss is least, and the weights of the nodes there."""
    nodes = np.polynomial.chebyshev.chebpts1(_NODES)

    def weights(place: Any) -> Array:
        factors = [[(place - b) / (a - b) for b in nodes if b != a] for a in nodes]
        return np.array([np.prod(factor, axis=0) for factor in factors])

    fine = np.linspace(-1, 1, 20001)
    place = float(fine[np.argmin(losses @ weights(fine))])
    return place, weights(place)


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
    """(rows, n) squared distances in double precision, of differences."""
    from fastent.kernels.pairs import square_differences

    some = np.ascontiguousarray(points.X[rows], kernel_dtype(points.X))
    squared = np.empty((len(rows), len(points.X)))
    for start, block in row_blocks(points.X):
        square_differences(some, block, squared[:, start : start + len(block)])
    return squared


def _sample(points: LabelledPoints, count: int, seed: int) -> Array:
    n = len(points.X)
    return np.arange(n) if n <= count else np.sort(np.random.default_rng(seed).choice(n, count, replace=False))
