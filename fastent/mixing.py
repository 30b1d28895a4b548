"""How classes mix among nearest neighbours: purity, overlap, mixing matrix, entropy, votes, hubs, LISI."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numpy.typing import NDArray

from fastent.arrays import as_labels
from fastent.errors import FastentError
from fastent.intervals import Estimate, class_balanced_mean, sample_mean, sample_share
from fastent.memory import check_fits
from fastent.neighbors import Neighbors, label_codes
from fastent.options import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Mixing", "lisi", "mixing"]


@dataclass(frozen=True, eq=False)
class Mixing:
    """What labels n rows have among the k nearest neighbours of q queries.

    Attributes
    ----------
    classes : (C,)
        The sorted classes.
    purity : (q,) float64
        Share of a query's neighbours that have its label, in [0, 1].
    overlap : float
        Mean purity (neighbourhood overlap; Doimo et al. 2020), in [0, 1].
    balanced_overlap : float
        Mean over classes of their mean purity, in [0, 1].
    chance : float
        The overlap to expect were labels dealt at random.
    entropy : (q,) float64
        Of the neighbours' labels, in nats, in [0, log C].
    matrix : (C, C) float64 or None
        Mean share of class b (column) among the neighbours of class a (row). Rows sum to 1; NaN for a class without queries.
    vote : (q,)
        The neighbours' majority; ties to the class whose nearest member is nearer, then to the lower.
    error : float
        Share of queries whose majority vote is not their label (leave-one-out k nearest neighbour error), in [0, 1].
    occurrence : (n,) int64
        How often a row is a neighbour.
    bad_occurrence : (n,) int64
        How often of a query with another label.
    hubness : float
        Skewness of `occurrence`; NaN if all are equal, and where not all rows were queries, whose number alone would skew it.
    intervals : dict of Estimate
        For "overlap", "balanced_overlap", "entropy" and "error": value, standard error and 95 % interval over all rows, for
        queries that are a random sample of them. Without error where every row was a query.
    """

    classes: NDArray[Any]
    purity: NDArray[np.float64]
    overlap: float
    balanced_overlap: float
    chance: float
    entropy: NDArray[np.float64]
    matrix: NDArray[np.float64] | None
    vote: NDArray[Any]
    error: float
    occurrence: NDArray[np.int64]
    bad_occurrence: NDArray[np.int64]
    hubness: float
    intervals: dict[str, Estimate]

    def plot(self, *, ax: "Axes | None" = None) -> "tuple[Figure, Axes]":
        """Draw the mixing matrix as a heat map with matplotlib, chance marked on its scale; on `ax` or in a new figure."""
        from fastent.plots.classes import draw_mixing
        from fastent.plots.figure import axes_of

        figure, axes = axes_of(ax, (6, 5))
        draw_mixing(axes, self)
        return figure, axes

    def __repr__(self) -> str:
        return (
            f"Mixing({len(self.purity)} queries, {len(self.classes)} classes, overlap {self.overlap:.4f} "
            f"(chance {self.chance:.4f}), error {self.error:.4f})"
        )


def mixing(neighbors: Neighbors, labels: Any, *, query_labels: Any = None, matrix: bool = True) -> Mixing:
    """Measure how classes mix among nearest neighbours.

    Parameters
    ----------
    neighbors : Neighbors
    labels : array-like (n,)
        Of the rows that were searched: integers, strings or booleans.
    query_labels : array-like (q,), optional
        For queries that are no rows.
    matrix : bool
        Whether to build the (C, C) matrix.

    Raises
    ------
    FastentError
        Lengths that differ; queries that are no rows without `query_labels`, or whose labels no row has; a matrix that does not
        fit in memory.

    References
    ----------
    Doimo et al., "Hierarchical nucleation in deep neural networks", 2020. Radovanovic et al., "Hubs in space", 2010.

    Examples
    --------
    >>> import fastent as fe
    >>> near = fe.neighbors([[0.0], [1.0], [3.0], [7.0]], k=1)
    >>> fe.mixing(near, ["a", "a", "b", "b"]).purity.tolist()
    [1.0, 1.0, 0.0, 1.0]
    """
    from fastent.kernels.mixing import count_classes, count_occurrences, label_shares

    if not isinstance(neighbors, Neighbors):
        raise FastentError(f"neighbors is {type(neighbors).__name__}: pass what fe.neighbors(X) returns")
    (codes, classes), own = label_codes(neighbors, labels, query_labels)
    n_classes, (q, k) = len(classes), neighbors.indices.shape
    if matrix:
        check_fits(16 * n_classes**2, f"the mixing matrix of {n_classes} classes", "pass matrix=False")
    purity, entropy, vote = label_shares(neighbors.indices, neighbors.distances, codes, own, n_classes, numba.get_num_threads())
    shares = None
    if matrix:
        order = np.argsort(own, kind="stable")
        bounds = np.searchsorted(own[order], np.arange(n_classes + 1))
        with np.errstate(invalid="ignore"):
            shares = count_classes(neighbors.indices, codes, order, bounds) / (k * np.diff(bounds)[:, None])
    occurrence, bad_occurrence = count_occurrences(neighbors.indices, codes, own)
    counts = np.bincount(codes, minlength=n_classes)
    rows = neighbors.queries is not None
    population = neighbors.n if rows else q
    asked = counts if rows else np.bincount(own, minlength=n_classes)
    intervals = {
        "overlap": sample_mean(purity, population, least=0, most=1),
        "balanced_overlap": class_balanced_mean(purity, own, asked, least=0, most=1),
        "entropy": sample_mean(entropy, population, least=0, most=np.log(n_classes)),
        "error": sample_share(vote != own, population),
    }
    return Mixing(
        classes=classes,
        purity=purity,
        overlap=intervals["overlap"].value,
        balanced_overlap=intervals["balanced_overlap"].value,
        chance=float(((asked / asked.sum()) * (counts - rows) / (neighbors.n - rows)).sum()),
        entropy=entropy,
        matrix=shares,
        vote=classes[vote],
        error=intervals["error"].value,
        occurrence=occurrence,
        bad_occurrence=bad_occurrence,
        hubness=_skewness(occurrence) if not rows or q == neighbors.n else np.nan,
        intervals=intervals,
    )


def _skewness(values: NDArray[np.int64]) -> float:
    """As `scipy.stats.skew`, whose import takes longer than most measurements."""
    centred = values - values.mean()
    variance = float((centred**2).mean())
    return float((centred**3).mean() / variance**1.5) if variance > 0 else np.nan


def lisi(neighbors: Neighbors, labels: Any, perplexity: float = 30) -> NDArray[np.float64]:
    """Local inverse Simpson index: the effective number of classes around each query, (q,) in [1, C].

    Parameters
    ----------
    neighbors : Neighbors
        With k of at least three times the perplexity; the first so many are used.
    labels : array-like (n,)
    perplexity : float
        Above 1. Neighbours weigh exp(-beta d), beta such that the weights' entropy is that of so many equal ones.

    Raises
    ------
    FastentError
        Too few neighbours; lengths that differ.

    References
    ----------
    Korsunsky et al., "Fast, sensitive and accurate integration of single-cell data with Harmony", 2019.
    """
    from fastent.kernels.mixing import inverse_simpson

    if not isinstance(neighbors, Neighbors):
        raise FastentError(f"neighbors is a {type(neighbors).__name__}: pass what fe.neighbors(X) returns, or an fe.Neighbors")
    perplexity = number("perplexity", perplexity, above=1)
    k = round(3 * perplexity)
    if neighbors.k < k:
        raise FastentError(
            f"perplexity={perplexity:g} needs k={k} neighbours, there are {neighbors.k}: search for more, or lower it"
        )
    codes, classes = as_labels(labels, n=neighbors.n)
    near = neighbors.subset(k)
    result: NDArray[np.float64] = inverse_simpson(
        near.indices, near.distances, codes, len(classes), perplexity, numba.get_num_threads()
    )
    return result
