"""Silhouettes: how much nearer a point is to its own class than to the next one."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.labelled import as_labelled
from fastent.arrays.queries import query_rows
from fastent.options import choice, whole_number
from fastent.printable import in_queries
from fastent.runtime.progress import Progress
from fastent.search.planner import points_to_pair
from fastent.search.sweep import ClassBlock, PairBlock, Reduction, Sums, sweep, sweep_bytes
from fastent.statistics.class_geometry import ClassMeans
from fastent.statistics.class_moments import moments_of
from fastent.statistics.geometry import AboutMeans, about_means
from fastent.statistics.intervals import Estimate
from fastent.statistics.notes import Note

__all__ = ["DistanceSums", "Silhouettes", "silhouette", "silhouettes_about_means"]

Array = NDArray[np.float64]


def silhouette(
    X: Any,
    labels: Any,
    *,
    queries: Any = None,
    method: Literal["exact", "simplified", "squared"] = "exact",
    memory_budget: int | str | None = None,
    seed: int = 0,
    progress: Progress = None,
) -> Array:
    """Silhouette (b - a) / max(a, b) of every row or of some: (q,) float64 in [-1, 1], 0 for a point alone in its class.

    Parameters
    ----------
    X : array-like (n, d)
        Any real dtype and memory order; with few queries a memory map is read block by block.
    labels : array-like (n,)
        Two classes or more.
    queries : int or (q,) int, optional
        How many rows to draw at random with `seed`, or row numbers; default all rows.
    method : str
        "exact": a is the mean distance to the other points of the own class, b the least mean distance to another class; n d
        operations a query. "simplified": distances to the class means instead, the own point in its own. "squared": the exact
        one of squared distances, from class moments. The last two cost C d operations a row.
    memory_budget : int or str, optional
        Bytes, or a string such as "4GiB"; default the memory that is available.
    seed : int, optional, default 0
        Seed of the random queries.
    progress : bool or callable

    Returns
    -------
    (q,) float64

    Raises
    ------
    FastentError
        Bad input; only one class; too little memory.

    References
    ----------
    Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis", 1987.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.silhouette([[0.0], [1.0], [5.0], [6.0]], ["a", "a", "b", "b"]).round(3).tolist()
    [0.818, 0.778, 0.778, 0.818]
    """
    choice("method", method, ("exact", "simplified", "squared"))
    seed = whole_number("seed", seed, minimum=0)
    features, coded = as_labelled(X, labels)
    n, d = features.shape
    codes, classes = coded
    asked = query_rows(queries, n, d, seed=seed, what="silhouettes", once=False)
    if method != "exact":
        means = moments_of(features, codes, len(classes), normalize=False).class_means()
        every = silhouettes_about_means(method, means, about_means(features, codes, means))
        return every if asked is None else every[asked]
    sums = DistanceSums(codes, len(classes), asked)
    points = points_to_pair(
        features,
        coded,
        sweep_bytes(features, sums.n_queries) + sums.nbytes,
        f"the silhouettes of {in_queries(sums.n_queries)} among {n} x {d} points of {len(classes)} classes",
        "use fewer queries, or method='simplified'",
        memory_budget,
        whole=asked is None,
    )
    sweep(points, asked, [sums], progress=progress, description="silhouettes")
    return sums.silhouettes()


@dataclass(frozen=True, eq=False)
class Silhouettes:
    """Silhouettes by the three methods of `fe.silhouette`.

    Attributes
    ----------
    exact : (q,) float64
        Silhouettes of the rows that were compared with all others.
    simplified, squared : (n,) float64
        Silhouettes of all rows.
    intervals : dict of Estimate
        For "exact", "simplified" and "squared": mean, standard error and 95 % interval over all rows.
    notes : tuple of str
        Classes with one point, whose silhouettes are 0.
    """

    exact: Array
    simplified: Array
    squared: Array
    intervals: dict[str, Estimate]
    notes: tuple[Note, ...] = ()

    def __repr__(self) -> str:
        means = ", ".join(f"{name} {each.value:.4f}" for name, each in self.intervals.items())
        return f"Silhouettes({in_queries(len(self.exact))}, {means})"


class DistanceSums(Reduction):
    """Sums of the distances from each query to each class."""

    def __init__(self, codes: NDArray[np.int64], n_classes: int, queries: NDArray[np.int64] | None) -> None:
        self._counts = np.bincount(codes, minlength=n_classes)
        self._own = codes if queries is None else codes[queries]
        self.n_queries = len(self._own)
        super().__init__(self.n_queries, sums=np.zeros((n_classes, self.n_queries)))

    @property
    def nbytes(self) -> int:
        """Memory that they take, and a copy of them in the order of the queries."""
        return 2 * self._arrays["sums"].nbytes

    def reduce(self, block: PairBlock) -> Sums:
        from fastent.kernels.pairs import sum_distances

        across = np.zeros((len(block.columns.classes), len(block.rows.ids)))
        down = np.zeros((len(block.rows.classes) * block.mirrored, len(block.columns.ids)))
        sum_distances(block.distances.squared, block.rows.bounds, block.columns.bounds, across, down)
        return {"sums": across / block.distances.scale}, {"sums": down / block.distances.scale}

    def entry(self, others: ClassBlock) -> Array:
        return others.classes

    def silhouettes(self) -> Array:
        each, means = np.arange(self.n_queries), self.by_query("sums")
        with np.errstate(invalid="ignore", divide="ignore"):
            own = means[self._own, each] / (self._counts[self._own] - 1)
        means /= self._counts[:, None]
        means[self._own, each] = np.inf
        return _silhouettes(own, means.min(0), self._counts[self._own])


def silhouettes_about_means(method: Literal["simplified", "squared"], means: ClassMeans, about: AboutMeans) -> Array:
    """The silhouettes of all rows by the methods that take no pairs of rows."""
    counts = means.counts[about.codes]
    if method == "simplified":
        own, other = np.sqrt(about.own), np.sqrt(about.other)
    else:
        with np.errstate(invalid="ignore", divide="ignore"):
            own, other = (about.own + means.variances[about.codes]) * counts / (counts - 1), about.wide
    return _silhouettes(own, other, counts)


def _silhouettes(a: Array, b: Array, counts: NDArray[np.int64]) -> Array:
    """(b - a) / max(a, b), 0 where both are 0 and for points alone in their class; counts (n,) of the points' classes."""
    with np.errstate(invalid="ignore", divide="ignore"):
        result = np.where(np.maximum(a, b) > 0, (b - a) / np.maximum(a, b), 0.0)
    result[counts == 1] = 0.0
    return result
