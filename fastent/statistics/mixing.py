"""How classes mix among nearest neighbours: purity, overlap, mixing matrix, entropy, votes, hubs, LISI."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import as_labels
from fastent.errors import FastentError
from fastent.io.tabular import Tabular
from fastent.options import choice, flag, number
from fastent.printable import in_queries, storable
from fastent.runtime.formatting import percent
from fastent.runtime.memory import check_fits
from fastent.search.found_neighbors import Neighbors, check_neighbors, label_codes
from fastent.statistics.intervals import (
    Estimate,
    Population,
    balanced_mean,
    class_means,
    population_of,
    sample_mean,
    sample_share,
    size_of,
)  # fmt: skip
from fastent.statistics.notes import Note, merged, of_classes

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Lisi", "Mixing", "lisi", "mixing", "mixing_of"]

# Of lists whose neighbours are all equally far, the least share that is worth a note.
_TIED = 0.01


@dataclass(frozen=True, eq=False)
class Mixing(Tabular):
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
        Mean over classes of their mean purity, in [0, 1]; NaN if a class has no query, for nothing is then known of it (a class
        without queries that are no rows is left out). Its interval then allows for any purity of that class.
    chance : float
        The overlap to expect were labels dealt at random.
    class_chance : (C,) float64
        The purity to expect of a point of each class by chance.
    class_purity : (C,) float64
        Mean purity of the points of each class: compare it with `class_chance`. NaN for a class without queries.
    class_intervals : (C, 2) float64
        95 % interval, low and high, of each class's purity over all of its rows; without width where all of them were asked.
    balanced_chance : float
        Mean of `class_chance` over classes: compare it with `balanced_overlap`.
    entropy : (q,) float64
        Entropy of the neighbours' labels in nats, in [0, log C].
    matrix : (C, C) float64 or None
        Mean share of class b (column) among the neighbours of class a (row). Rows sum to 1; NaN for a class without queries.
    vote : (q,)
        The neighbours' majority; ties to the class whose nearest member is nearer, then to the lower.
    error : float
        Share of queries whose majority vote is not their label (leave-one-out k nearest neighbour error), in [0, 1].
    occurrence : (n,) int64
        How often a row is a neighbour.
    bad_occurrence : (n,) int64
        How often it is a neighbour of a query with another label.
    hubness : float
        Skewness of `occurrence`; NaN if all counts are equal, or if some rows were not queries, which alone skews the counts.
    intervals : dict of Estimate
        For "overlap", "balanced_overlap", "entropy" and "error": value, standard error and 95 % interval over all rows, for
        queries that are a random sample of them, however few. Without error where every row was a query, and only there.
    notes : tuple of str
        Classes without queries, or with too few points to be pure; why `hubness` is NaN.
    """

    classes: NDArray[Any]
    purity: NDArray[np.float64]
    overlap: float
    balanced_overlap: float
    chance: float
    class_chance: NDArray[np.float64]
    class_purity: NDArray[np.float64]
    class_intervals: NDArray[np.float64]
    balanced_chance: float
    entropy: NDArray[np.float64]
    matrix: NDArray[np.float64] | None
    vote: NDArray[Any]
    error: float
    occurrence: NDArray[np.int64]
    bad_occurrence: NDArray[np.int64]
    hubness: float
    intervals: dict[str, Estimate]
    notes: tuple[Note, ...] = ()

    def table(self, kind: Literal["queries", "rows", "classes"] = "queries") -> "pa.Table":
        """How classes mix as a table.

        Parameters
        ----------
        kind : "queries", "rows" or "classes", default "queries"
            "queries": purity, entropy and vote of each query, by its position among the queries. "rows": how often each row is
            a neighbour. "classes": the share of each class among the neighbours of each class.

        Raises
        ------
        FastentError
            An unknown kind; "classes" where the matrix was not kept.
        """
        import pyarrow as pa

        choice("kind", kind, ("queries", "rows", "classes"))
        if kind == "rows":
            rows = np.arange(len(self.occurrence))
            return pa.table({"row": rows, "occurrence": self.occurrence, "bad_occurrence": self.bad_occurrence})
        if kind == "queries":
            found = {"purity": self.purity, "entropy": self.entropy, "vote": storable(self.vote)}
            return pa.table({"query": np.arange(len(self.purity)), **found})
        if self.matrix is None:
            raise FastentError("the mixing matrix was not kept: call fe.mixing with matrix=True")
        classes, count = storable(self.classes), len(self.classes)
        shares = pa.array(self.matrix.ravel(), from_pandas=True)
        return pa.table({"class": np.repeat(classes, count), "neighbor_class": np.tile(classes, count), "share": shares})

    def plot(self, kind: Literal["matrix", "purity"] = "matrix", *, ax: "Axes | None" = None) -> "tuple[Figure, Axes]":
        """Draw the mixing matrix, or the purity of each class beside its chance, with matplotlib.

        Parameters
        ----------
        kind : str
            "matrix": a heat map, overall chance marked on its scale. "purity": of each class and of all points (lines).
        ax : matplotlib Axes, optional
            Where to draw; default a new figure.

        Raises
        ------
        FastentError
            An unknown kind; a matrix that was not kept.
        """
        from fastent.plots.by_name import draw_class_marks, draw_heat_map
        from fastent.plots.figure import axes_of
        from fastent.plots.style import COLORS

        if choice("kind", kind, ("matrix", "purity")) == "purity":
            figure, axes = axes_of(ax)
            marks = {"purity": (self.class_purity, self.overlap), "chance": (self.class_chance, self.chance)}
            draw_class_marks(axes, self.classes, marks)
            axes.set_ylabel("share of the neighbours with the same label")
            return figure, axes
        if self.matrix is None:
            raise FastentError("the mixing matrix was not kept: call fe.mixing with matrix=True")
        figure, axes = axes_of(ax, (6, 5))
        bar = draw_heat_map(axes, self.matrix, self.classes, "share", "share of the neighbours (line: overlap by chance)")
        bar.ax.axhline(self.chance, color=COLORS[1], linewidth=2)
        axes.set(
            xlabel="class of the neighbours", ylabel="class of the point",
            title=f"{100 * self.overlap:.1f} % of neighbours share the label; chance {100 * self.chance:.1f} %",
        )  # fmt: skip
        return figure, axes

    def __repr__(self) -> str:
        return (
            f"Mixing({in_queries(len(self.purity))}, {len(self.classes)} classes, overlap {self.overlap:.4f} "
            f"(chance {self.chance:.4f}), error {self.error:.4f})"
        )


def mixing(neighbors: Neighbors, labels: Any, *, query_labels: Any = None, matrix: bool = True) -> Mixing:
    """Measure how classes mix among nearest neighbours.

    Parameters
    ----------
    neighbors : Neighbors
    labels : array-like (n,)
        Labels of the rows that were searched: integers, strings or booleans.
    query_labels : array-like (q,), optional
        Labels of queries that are not rows of X.
    matrix : bool
        Whether to build the (C, C) matrix; default True.

    Returns
    -------
    Mixing

    Raises
    ------
    FastentError
        Different lengths; queries that are not rows, without `query_labels` or with labels that no row has; a matrix that
        does not fit in memory.

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
    return mixing_of(neighbors, labels, query_labels, matrix=flag("matrix", matrix))


def mixing_of(
    neighbors: Neighbors, labels: Any, query_labels: Any = None, *, matrix: bool, population: Population | None = None
) -> Mixing:
    """As `mixing`; population : what the queries are a sample of, all rows alike if it is None."""
    from fastent.kernels.mixing import count_classes, count_occurrences, label_shares

    check_neighbors(neighbors)
    (codes, classes), own = label_codes(neighbors, labels, query_labels)
    n_classes, (q, k) = len(classes), neighbors.indices.shape
    if matrix:
        check_fits(16 * n_classes**2, f"the mixing matrix of {n_classes} classes", "pass matrix=False")
    purity, entropy, vote = label_shares(neighbors.indices, neighbors.distances, codes, own, n_classes)
    shares = None
    if matrix:
        order = np.argsort(own, kind="stable")
        bounds = np.searchsorted(own[order], np.arange(n_classes + 1))
        with np.errstate(invalid="ignore"):
            shares = count_classes(neighbors.indices, codes, order, bounds) / (k * np.diff(bounds)[:, None])
    occurrence, bad_occurrence = count_occurrences(neighbors.indices, codes, own)
    counts = np.bincount(codes, minlength=n_classes)
    rows = neighbors.queries is not None
    if population is None:
        population = population_of(neighbors.queries, neighbors.n if rows else q)
    every = not rows or q >= size_of(population)
    hubness = _skewness(occurrence) if every else np.nan
    asked = counts if rows else np.bincount(own, minlength=n_classes)
    class_chance = (counts - rows) / (neighbors.n - rows)
    most = np.minimum((counts - rows) / k, 1)
    per_class = class_means(purity, own, asked, least=0, most=most, sampled=size_of(population) < np.inf)
    intervals = {
        "overlap": sample_mean(purity, population, least=0, most=1),
        "balanced_overlap": balanced_mean(per_class, asked, least=0, most=most),
        "entropy": sample_mean(entropy, population, least=0, most=np.log(min(n_classes, k))),
        "error": sample_share(vote != own, population),
    }
    return Mixing(
        classes=classes,
        purity=purity,
        overlap=intervals["overlap"].value,
        balanced_overlap=intervals["balanced_overlap"].value,
        chance=float((asked / asked.sum() * class_chance).sum()),
        class_chance=class_chance,
        class_purity=per_class[:, 0],
        class_intervals=per_class[:, 2:],
        balanced_chance=float(class_chance[asked > 0].mean()),
        entropy=entropy,
        matrix=shares,
        vote=classes[vote],
        error=intervals["error"].value,
        occurrence=occurrence,
        bad_occurrence=bad_occurrence,
        hubness=hubness,
        intervals=intervals,
        notes=merged(
            [
                *_of_absent(classes, np.bincount(own, minlength=n_classes) == 0, counts, rows),
                *_of_small(classes, counts - rows, k),
                *_of_hubness(hubness, every),
                *_of_ties(neighbors.distances),
            ]
        ),
    )


def _of_ties(distances: NDArray[np.float32]) -> Iterator[Note]:
    """On lists whose neighbours are all equally far, if these are more than a few: there may be others as near."""
    share = float((distances[:, 0] == distances[:, -1]).mean())
    if distances.shape[1] > 1 and share >= _TIED:
        yield Note(
            f"in {percent(share, 0)} of the lists all {distances.shape[1]} neighbours are equally far",
            "where other rows are as near, the order of the rows decides which are listed, and with it purity and overlap; "
            "shuffle the rows, drop repeated ones or raise k",
        )


def _of_absent(classes: NDArray[Any], absent: NDArray[np.bool_], counts: NDArray[np.int64], rows: bool) -> Iterator[Note]:
    """On classes without queries, which are rows or other points."""
    lost = "purity there and balanced_overlap are unknown; ask for more queries, or name rows of every class"
    elsewhere = "balanced_overlap and balanced_chance are means over the other classes"
    alone = absent & (counts == 1) & rows
    for which, effect in (
        (absent & ~alone, lost if rows else elsewhere),
        (alone, "the purity of a class of one point is 0 all the same"),
    ):
        if which.any():
            yield Note(of_classes(classes, which, "has no query", "have no query"), effect)


def _of_small(classes: NDArray[Any], others: NDArray[np.int64], k: int) -> Iterator[Note]:
    """On classes that cannot be pure: (C,) points that may be neighbours of a point of each class."""
    if (others < k).any():
        what = f"fewer than {k} points that could be neighbours"
        yield Note(of_classes(classes, others < k, f"has {what}", f"have {what}"), "purity cannot reach 1 there")


def _of_hubness(hubness: float, every: bool) -> Iterator[Note]:
    if np.isnan(hubness):
        yield Note("hubness is unknown", "all rows are neighbours equally often" if every else "it takes all rows as queries")


def _skewness(values: NDArray[np.int64]) -> float:
    """As `scipy.stats.skew`, whose import takes longer than most measurements."""
    centred = values - values.mean()
    variance = float((centred**2).mean())
    return float((centred**3).mean() / variance**1.5) if variance > 0 else np.nan


@dataclass(frozen=True, eq=False)
class Lisi:
    """Local inverse Simpson index of each query, (q,) in [1, C]; its mean with the interval over all rows."""

    per_point: NDArray[np.float64]
    interval: Estimate

    @property
    def mean(self) -> float:
        return self.interval.value


def lisi(neighbors: Neighbors, labels: Any, perplexity: float = 30) -> NDArray[np.float64]:
    """Local inverse Simpson index: the effective number of classes around each query, (q,) in [1, C].

    Parameters
    ----------
    neighbors : Neighbors
        With k of at least three times the perplexity; the first so many are used.
    labels : array-like (n,)
    perplexity : float
        Above 1. Neighbours weigh exp(-beta d), beta such that the weights' entropy is that of so many equal ones.

    Returns
    -------
    (q,) float64

    Raises
    ------
    FastentError
        Too few neighbours; lengths that differ.

    References
    ----------
    Korsunsky et al., "Fast, sensitive and accurate integration of single-cell data with Harmony", 2019.
    """
    from fastent.kernels.mixing import inverse_simpson

    perplexity = number("perplexity", perplexity, above=1)
    k = round(3 * perplexity)
    check_neighbors(neighbors, k, queries=False)
    if neighbors.k < k:
        raise FastentError(
            f"perplexity={perplexity:g} needs k={k} neighbours, there are {neighbors.k}: search for more, or lower it"
        )
    codes, classes = as_labels(labels, n=neighbors.n)
    near = neighbors.subset(k)
    result: NDArray[np.float64] = inverse_simpson(near.indices, near.distances, codes, len(classes), perplexity)
    return result
