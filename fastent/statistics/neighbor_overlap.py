"""Which neighbours the same points keep from one representation to another: two layers, epochs or networks, or many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import as_labels
from fastent.printable import in_queries, printable
from fastent.search.found_neighbors import Neighbors
from fastent.statistics.intervals import Estimate, population_of, sample_mean
from fastent.statistics.layers import as_layers, common_k

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["NeighborOverlap", "OverlapMatrix", "neighbor_overlap", "overlap_matrix"]

Array = NDArray[np.float64]

# Of the lists that are sorted at once.
_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True, eq=False)
class NeighborOverlap:
    """How far q queries have the same k neighbours in two representations.

    Attributes
    ----------
    k : int
        How many neighbours were compared.
    share : (q,) float64
        Share of a query's k neighbours that are in both lists, in [0, 1].
    jaccard : (q,) float64
        Neighbours in both lists over neighbours in either, in [0, 1].
    rank_similarity : (q,) float64
        How far the neighbours in both lists come in the same order there, near ones weighing more, in [0, 1]; 0 if there are
        none. It says nothing about how many there are: read it together with `share`.
    overlap : float
        Mean share: the chi of Doimo et al. between two layers, the mutual k nearest neighbour alignment of Huh et al.
    chance : dict of float
        What "overlap", "jaccard" and "rank_similarity" are to be expected to be if lists were drawn at random.
    hub_chance : float
        The overlap to expect between a query's list and that of another query in the other representation. It exceeds `chance`
        where both representations have the same hubs, which alone are then no sign that a point keeps its neighbours.
    classes : (C,) or None
        The sorted classes, where labels were given.
    per_class : (C,) float64 or None
        Mean share of the queries of each class; NaN for a class without queries.
    intervals : dict of Estimate
        For "overlap", "jaccard" and "rank_similarity": value, standard error and 95 % interval over all rows, for queries that
        are a random sample of them. Without error where every row was a query.
    """

    k: int
    share: Array
    jaccard: Array
    rank_similarity: Array
    overlap: float
    chance: dict[str, float]
    hub_chance: float
    classes: NDArray[Any] | None
    per_class: Array | None
    intervals: dict[str, Estimate]

    def __repr__(self) -> str:
        return (
            f"NeighborOverlap({in_queries(len(self.share))}, k={self.k}, overlap {self.overlap:.4f} "
            f"(chance {self.chance['overlap']:.4f}))"
        )


@dataclass(frozen=True, eq=False)
class OverlapMatrix:
    """Neighbour overlap of each of m representations with each other.

    Attributes
    ----------
    names : tuple of str
        Names of the representations.
    k : int
        How many neighbours were compared.
    overlap, jaccard, rank_similarity : (m, m) float64
        Means over the queries as in `NeighborOverlap`; symmetric, with 1 on the diagonal.
    standard_errors : dict of (m, m) float64
        Those of "overlap", "jaccard" and "rank_similarity"; 0 where every row was a query.
    chance : dict of float
        The three to be expected if lists were drawn at random.
    """

    names: tuple[str, ...]
    k: int
    overlap: Array
    jaccard: Array
    rank_similarity: Array
    standard_errors: dict[str, Array]
    chance: dict[str, float]

    def plot(self, *, ax: "Axes | None" = None) -> "tuple[Figure, Axes]":
        """Draw the overlaps as a heat map with matplotlib, chance marked on its scale; on `ax` or in a new figure."""
        from fastent.plots.by_name import draw_heat_map
        from fastent.plots.figure import axes_of
        from fastent.plots.style import COLORS

        figure, axes = axes_of(ax, (6, 5))
        names = np.array(self.names)
        bar = draw_heat_map(axes, self.overlap, names, "share", f"share of the {self.k} neighbours in common (line: chance)")
        bar.ax.axhline(self.chance["overlap"], color=COLORS[1], linewidth=2)
        return figure, axes

    def __repr__(self) -> str:
        names = [printable(name) for name in self.names]
        width = max(map(len, names))
        rows = zip(names, self.overlap, strict=True)
        lines = [f"{name:{width}}  " + "  ".join(f"{value:.3f}" for value in row) for name, row in rows]
        return "\n".join([f"neighbour overlap, k={self.k}, chance {self.chance['overlap']:.4f}", *lines])


def neighbor_overlap(a: Neighbors, b: Neighbors, *, k: int | None = None, labels: Any = None) -> NeighborOverlap:
    """Measure how far the same points have the same neighbours in two representations.

    Parameters
    ----------
    a, b : Neighbors
        Neighbours of the same queries among the same n rows, in two layers, epochs or networks, each from `fe.neighbors`.
    k : int, optional
        How many neighbours to compare, the first of each list; default as many as both have.
    labels : array-like, optional
        Labels of the rows, (n,), for the overlap of each class; of the queries, (q,), if these are no rows.

    Returns
    -------
    NeighborOverlap

    Raises
    ------
    FastentError
        Other numbers of rows, or other queries; more neighbours than there are.

    References
    ----------
    Doimo et al., "Hierarchical nucleation in deep neural networks", 2020 (chi). Huh et al., "The Platonic representation
    hypothesis", 2024 (mutual nearest neighbours). Wang et al., "Towards understanding the instability of network embedding",
    2022, and Klabunde et al., "ReSi", 2024 (Jaccard and rank similarity).

    Examples
    --------
    >>> import fastent as fe
    >>> before = fe.neighbors([[0.0], [1.0], [3.0], [7.0]], k=2)
    >>> after = fe.neighbors([[0.0], [1.0], [3.0], [3.5]], k=2)
    >>> fe.neighbor_overlap(before, after).share.tolist()
    [1.0, 1.0, 0.5, 1.0]
    """
    k = common_k(("a", "b"), (a, b), k)
    found = _compared(a.indices, b.indices, k)
    classes = per_class = None
    if labels is not None:
        rows = a.queries is not None
        codes, classes = as_labels(labels, n=a.n if rows else len(a.indices))
        own = codes[a.queries] if rows else codes
        with np.errstate(invalid="ignore"):
            per_class = np.bincount(own, found.share, len(classes)) / np.bincount(own, minlength=len(classes))
    intervals = _intervals(found, a)
    # Each list of a with each of b, pair by pair of queries.
    met = np.bincount(a.indices[:, :k].ravel(), minlength=a.n) @ np.bincount(b.indices[:, :k].ravel(), minlength=b.n)
    return NeighborOverlap(
        k=k,
        share=found.share,
        jaccard=found.jaccard,
        rank_similarity=found.rank_similarity,
        overlap=intervals["overlap"].value,
        chance=_chance(k, _candidates(a)),
        hub_chance=_of_others(float(met), float(found.share.sum()), len(found.share), k),
        classes=classes,
        per_class=per_class,
        intervals=intervals,
    )


def overlap_matrix(layers: Mapping[str, Neighbors] | Sequence[Neighbors], *, k: int | None = None) -> OverlapMatrix:
    """Measure the neighbour overlap of every two of several representations of the same points.

    Parameters
    ----------
    layers : dict or sequence of Neighbors
        By name, or in a list, whose names are then "0", "1", ...: layers of a network, its epochs, several networks. All of the
        same queries among the same rows.
    k : int, optional
        How many neighbours to compare; default as many as all have.

    Returns
    -------
    OverlapMatrix

    Raises
    ------
    FastentError
        Fewer than two; other numbers of rows, or other queries; more neighbours than there are.

    References
    ----------
    As `neighbor_overlap`.

    Examples
    --------
    >>> import fastent as fe
    >>> before = fe.neighbors([[0.0], [1.0], [3.0], [7.0]], k=2)
    >>> after = fe.neighbors([[0.0], [1.0], [3.0], [3.5]], k=2)
    >>> fe.overlap_matrix({"before": before, "after": after}).overlap.tolist()
    [[1.0, 0.875], [0.875, 1.0]]
    """
    names, lists = as_layers(layers, "what fe.neighbors returns", at_least=2)
    k = common_k(names, lists, k)
    size = len(lists)
    values: dict[str, Any] = {name: np.eye(size) for name in _MEASURES}
    errors = {name: np.zeros((size, size)) for name in _MEASURES}
    for i, j in combinations(range(size), 2):
        for name, estimate in _intervals(_compared(lists[i].indices, lists[j].indices, k), lists[i]).items():
            values[name][[i, j], [j, i]] = estimate.value
            errors[name][[i, j], [j, i]] = estimate.standard_error
    return OverlapMatrix(names, k, standard_errors=errors, chance=_chance(k, _candidates(lists[0])), **values)


_MEASURES = {"overlap": "share", "jaccard": "jaccard", "rank_similarity": "rank_similarity"}


class _Compared(NamedTuple):
    share: Array
    jaccard: Array
    rank_similarity: Array


def _compared(first: NDArray[np.int64], second: NDArray[np.int64], k: int) -> _Compared:
    """How the first k of each list agree."""
    q, size = len(first), max(1, _BLOCK_BYTES // (16 * k))
    common, score = np.empty(q, np.int64), np.empty(q)
    for start in range(0, q, size):
        here = slice(start, start + size)
        common[here], score[here] = _common(first[here, :k], second[here, :k])
    harmonic = np.cumsum(1 / np.arange(1, k + 1))
    return _Compared(common / k, common / (2 * k - common), np.where(common > 0, score / harmonic[common - 1], 0.0))


def _common(first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[NDArray[np.int64], Array]:
    """How many neighbours are in both lists (q, k), and the sum of what their ranks say."""
    q, k = first.shape
    both = np.concatenate([first, second], 1)
    order = np.argsort(both, 1, kind="stable")  # of equal ones, that of the first list comes first
    ordered = np.take_along_axis(both, order, 1)
    rows, places = np.nonzero(ordered[:, 1:] == ordered[:, :-1])
    ranks = order[rows, places] + 1, order[rows, places + 1] - k + 1
    common: NDArray[Any] = np.bincount(rows, minlength=q)
    score: NDArray[Any] = np.bincount(rows, _of_ranks(*ranks), q)
    return common, score


def _of_ranks(a: NDArray[Any], b: NDArray[Any]) -> Array:
    """1 over the rank for equal ranks, less the more they differ."""
    weights: Array = 2 / ((1 + np.abs(a - b)) * (a + b))
    return weights


def _intervals(found: _Compared, near: Neighbors) -> dict[str, Estimate]:
    population = population_of(near.queries, near.n if near.queries is not None else len(near.indices))
    return {name: sample_mean(getattr(found, of), population, least=0, most=1) for name, of in _MEASURES.items()}


def _candidates(near: Neighbors) -> int:
    """How many rows may be neighbours of a query."""
    return near.n - (near.queries is not None)


def _chance(k: int, candidates: int) -> dict[str, float]:
    """Means for two independent lists of k of the candidates, any as likely as any other in each place."""
    from scipy.special import betaln

    def log_binomial(n: Any, m: Any) -> Any:
        return -betaln(n - m + 1, m + 1) - np.log1p(n)

    common = np.arange(max(0, 2 * k - candidates), k + 1)
    logs = log_binomial(k, common) + log_binomial(candidates - k, k - common) - log_binomial(candidates, k)
    probability = np.exp(logs) / np.exp(logs).sum()
    ranks = np.arange(1, k + 1)
    of_pair = float(_of_ranks(ranks[:, None], ranks).mean())
    harmonic = np.cumsum(1 / ranks)
    return {
        "overlap": k / candidates,
        "jaccard": float(probability @ (common / (2 * k - common))),
        "rank_similarity": float(probability @ np.where(common > 0, common * of_pair / harmonic[common - 1], 0.0)),
    }


def _of_others(met: float, own: float, q: int, k: int) -> float:
    """Mean share of a list that is in the list of another query; NaN for a single one. own : the sum of the shares."""
    return (met / k - own) / (q * (q - 1)) if q > 1 else np.nan
