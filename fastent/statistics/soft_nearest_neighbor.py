"""Soft nearest neighbour loss: how far same-class points stand out among all, at a temperature."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.labelled import as_labelled
from fastent.arrays.queries import query_rows
from fastent.errors import FastentError
from fastent.options import choice, number, whole_number
from fastent.printable import in_queries
from fastent.runtime.progress import Progress
from fastent.runtime.threads import single_blas_thread
from fastent.search.planner import points_to_pair
from fastent.search.sweep import LabelledPoints, distances_in_double, sweep, sweep_bytes
from fastent.statistics.intervals import Estimate, Population, population_of, sample_mean
from fastent.statistics.notes import Note, few_or_skewed, merged, one_point
from fastent.statistics.similarity_sums import NEAREST, SimilaritySums
from fastent.statistics.strata import Strata

__all__ = [
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
_LOSS = "the soft nearest neighbour loss"
# Losses of 5 digits or more are shown by their size.
_LARGE = 1e4


@dataclass(frozen=True, eq=False)
class SoftNearestNeighbor:
    """The loss and how it came about.

    Attributes
    ----------
    loss : float
        Mean of `per_point`, >= 0: 0 where every point's weight lies on its own class. Of a sample that `fe.measure` stratified,
        classes weigh by their shares of all rows.
    per_point : (q,) float64
        -log of the own class's share of exp(-d^2 / T), the point itself left out; NaN for a point alone in its class.
    temperature : float
        T, in squared units of X.
    alone : int
        Number of queries that are alone in their class; the mean leaves them out.
    interval : Estimate
        The loss over all rows with its interval, for queries that are a random sample of them.
    error_bound : float
        What skipped terms may add to or take from the loss: 0 unless T is small compared with distances to near neighbours.
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
        asked, loss = in_queries(len(self.per_point)), format(self.loss, ".4f" if self.loss < _LARGE else ".4g")
        return f"SoftNearestNeighbor({asked}, loss {loss} at temperature {self.temperature:.4g})"


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
        A number above 0, in squared units of X. "median": the median squared distance over all pairs of rows, or of 1,024 rows
        drawn with `seed` if there are more. "optimal": the T with the smallest loss, between 1e-7 and 600 times the median; a
        sample of 4,096 rows brackets it, and sums over all rows at a few temperatures locate it.
    queries : int or (q,) int, optional
        How many rows to draw at random with `seed`, or row numbers; default all rows.
    memory_budget : int or str, optional
        Bytes, or a string such as "4GiB"; default the memory that is available.
    seed : int, optional, default 0
        Seed of the random queries, and of the rows from which a temperature is found.
    progress : bool or callable

    Returns
    -------
    SoftNearestNeighbor

    Raises
    ------
    FastentError
        Bad input; only one class; every point alone in its class; T to be found, but all points equal.

    References
    ----------
    Frosst, Papernot, Hinton, "Analyzing and improving representations with the soft nearest neighbor loss", 2019.

    Examples
    --------
    >>> import fastent as fe
    >>> round(fe.soft_nearest_neighbor_loss([[0.0], [1.0], [5.0], [6.0]], ["a", "a", "b", "b"], temperature=1.0).loss, 6)
    0.0
    """
    features, coded = as_labelled(X, labels)
    n, d = features.shape
    temperature, seed = checked_temperature(temperature), whole_number("seed", seed, minimum=0)
    asked = query_rows(queries, n, d, seed=seed, what="the soft nearest neighbour loss")
    q = n if asked is None else len(asked)
    points = points_to_pair(
        features,
        coded,
        sweep_bytes(features, q) + (32 + 8) * _NODES * q + 32 * NEAREST * q,
        f"the soft nearest neighbour loss of {in_queries(q)} among {n} x {d} points",
        "use fewer queries",
        memory_budget,
        whole=asked is None,
    )
    sums = SimilaritySums(points, asked, temperature_nodes(points, temperature, seed))
    sweep(points, asked, [sums], progress=progress, description="soft nearest neighbours")
    return settled(sums, coded.classes, progress)


def settled(
    sums: SimilaritySums, classes: Array, progress: Progress = None, population: Population | None = None
) -> SoftNearestNeighbor:
    """The result of a sweep's sums; of further sweeps, where the optimum lies beyond the temperatures of the first.

    population : what the queries are a sample of; all rows alike if it is None.
    """
    if sums.alone.all():
        raise FastentError("every query is alone in its class: the soft nearest neighbour loss needs two points of a class")
    n, n_classes = len(sums.points.X), sums.points.n_classes
    if population is None:
        population = population_of(sums.queries, n)
    per_point, temperature, nodes = _optimum(sums, population)
    for _ in range(_MOVES):
        if nodes is None:
            break
        sums = SimilaritySums(sums.points, sums.queries, nodes, memory=sums.memory)
        sweep(sums.points, sums.queries, [sums], progress=progress, description="soft nearest neighbours")
        per_point, temperature, nodes = _optimum(sums, population)
    with np.errstate(over="ignore", invalid="ignore"):  # at temperatures about the least number the loss is infinite
        interval = sample_mean(per_point, population, least=0, others=_if_mislabelled(per_point, n_classes))
    bound = sums.error_bound
    if isinstance(population, Strata):  # which is that of a mean in which all queries weigh the same
        bound *= float(population.weights.max() / population.weights.mean())
    return SoftNearestNeighbor(
        interval.value,
        per_point,
        temperature,
        int(sums.alone.sum()),
        interval,
        bound,
        merged(_notes(sums, per_point, interval, classes, population)),
    )


def _optimum(sums: SimilaritySums, population: Population) -> tuple[Array, float, Array | None]:
    """Losses (q,) at the only temperature, or where between several their mean is least, and that temperature.

    Where the mean is least at an end, the optimum is to be sought between other temperatures, which come third.
    """
    log_ratio, temperatures = sums.log_ratios(), sums.temperatures
    if len(log_ratio) == 1:
        return np.maximum(log_ratio[0], 0.0), float(temperatures[0]), None
    of_all = [population.mean(each) for each in log_ratio] if isinstance(population, Strata) else np.nanmean(log_ratio, 1)
    place, weights = _least(np.asarray(of_all))
    centre = math.sqrt(temperatures[0] * temperatures[-1])
    beyond = _nodes_around(centre * math.exp(1.5 * place * _WIDTH)) if abs(place) == 1 else None
    return np.maximum(weights @ log_ratio, 0.0), centre * math.exp(place * _WIDTH), beyond


def _if_mislabelled(per_point: Array, n_classes: int) -> Array:
    """(1,) What the loss of a typical query would be with the label of another class, of which it has an average share."""
    others = np.maximum(-np.expm1(-per_point), np.finfo(np.float64).tiny)
    return np.array([np.nanmedian(math.log(n_classes - 1) - np.log(others))])


def _notes(
    sums: SimilaritySums, per_point: Array, interval: Estimate, classes: Array, population: Population
) -> Iterator[Note]:
    if sums.alone.any():
        counts = np.bincount(sums.points.codes, minlength=len(classes))
        yield from one_point(classes, counts, f"{_LOSS} leaves the point out")
    yield from few_or_skewed({_LOSS: per_point}, sums.queries, {_LOSS: interval}, population)
    if beyond := int(np.isinf(per_point).sum()):
        yield Note(
            f"{_LOSS} of {in_queries(beyond)} is infinite, beyond what double precision holds",
            "a larger temperature leaves it finite",
        )
    if isinstance(sums.temperatures, GappedMedian):
        below, above = sums.temperatures.around
        yield Note(
            f"the median squared distance of a sample lies in a gap, from {below:.3g} to {above:.3g}",
            f"{_LOSS} depends on the sample, and so on the seed: choose a temperature to compare",
        )


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
    rows = _sample(points, _MEDIAN_ROWS, seed)
    pairs = _squared_of_pairs(points, rows)
    last = len(pairs) - 1
    middle, around = (last // 2, -(-last // 2)), (math.floor((0.5 - _UNSURE) * last), math.ceil((0.5 + _UNSURE) * last))
    pairs.partition((*middle, *around))  # once: it takes as long as all distances
    median = float(pairs[list(middle)].mean())
    if median == 0:
        raise FastentError(f"temperature={temperature!r}: more than half of the points are equal, choose a number")
    if temperature == "median":
        if len(rows) < len(points.X):
            below, above = pairs[list(around)]
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


def _squared_of_pairs(points: LabelledPoints, rows: Array) -> Array:
    """Squared distances of some rows, each pair once, in double precision."""
    some = np.asarray(points.X[rows], np.float64)
    with single_blas_thread():
        squared = distances_in_double(some, some, some.mean(0), points.scale).squared
    pairs = np.concatenate([row[i + 1 :] for i, row in enumerate(squared)])
    pairs /= points.scale**2
    return pairs


class GappedMedian(np.ndarray):  # type: ignore[type-arg]
    """The median (1,), of a sample whose middle lies in a gap: another sample's may lie on the other side.

    around : what some of the pairs below and above have for squared distances.
    """

    around: tuple[float, float]

    def __new__(cls, values: Sequence[float], around: tuple[float, float]) -> "GappedMedian":
        found = np.asarray(values).view(cls)
        found.around = around
        return found


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


def _sample(points: LabelledPoints, count: int, seed: int) -> Array:
    n = len(points.X)
    return np.arange(n) if n <= count else np.sort(np.random.default_rng(seed).choice(n, count, replace=False))
