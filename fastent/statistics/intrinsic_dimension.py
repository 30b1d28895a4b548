"""Intrinsic dimension from the distances to near neighbours: how many directions the points really use."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.options import choice, whole_number
from fastent.printable import in_queries
from fastent.search.found_neighbors import Neighbors, check_neighbors, label_codes
from fastent.statistics.dimension_estimators import (
    ESTIMATES,
    FEW_TIES,
    DistinctNeighbors,
    Method,
    Ratios,
    distinct_neighbors,
    fit,
    ratios_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["IntrinsicDimension", "Method", "dimension_notes", "dimension_of", "intrinsic_dimension"]

Array = NDArray[np.float64]

# Up to so many are nothing unusual in ordinary data.
_FEW_SUSPECTS = 0.005


@dataclass(frozen=True, eq=False)
class IntrinsicDimension:
    """How many dimensions the points have as their neighbours see them.

    Attributes
    ----------
    value : float
        Over all queries, >= 0; NaN where fewer than two can be used.
    per_class : (C,) float64 or None
        The same over the queries of each class, with neighbours of any class.
    classes : (C,) or None
        The sorted classes.
    used : int
        Queries that count.
    duplicates : int
        Queries left out because they repeat an earlier query, exactly or up to rounding, or because their lists hold fewer
        than two rows that differ from them and from each other.
    standard_error : float
        Standard error of `value`, from the curvature of the likelihood or from the fitted line.
    method : str
    ties : int
        Queries left out because the distances whose ratio is taken are equal, as on a grid.
    suspects : int
        Queries that count although r_2 / r_1 is larger than points of any density make it: near duplicates that differ by more
        than rounding, or parts of the data with a lower dimension.
    """

    value: float
    per_class: Array | None
    classes: NDArray[Any] | None
    used: int
    duplicates: int
    standard_error: float
    method: str
    ties: int = 0
    suspects: int = 0

    @property
    def left_out(self) -> float:
        """Share of the queries that do not count, in [0, 1]."""
        return (self.duplicates + self.ties) / (self.used + self.duplicates + self.ties)

    def plot(self, *, ax: "Axes | None" = None) -> "tuple[Figure, Axes]":
        """Draw the dimensions of the classes and of all points with matplotlib, on `ax` or in a new figure.

        Raises
        ------
        FastentError
            It was found without labels.
        """
        return plot_dimensions({self.method: self}, ax)

    def __repr__(self) -> str:
        return (
            f"IntrinsicDimension({self.value:.2f} +- {self.standard_error:.2f}, {self.method}, {in_queries(self.used)}, "
            f"{self.duplicates} duplicates and {self.ties} ties left out)"
        )


def plot_dimensions(found: Mapping[str, IntrinsicDimension], ax: "Axes | None") -> "tuple[Figure, Axes]":
    """Draw the dimension by each method: a mark for each class, a dashed line for all points."""
    from fastent.plots.by_name import draw_class_marks
    from fastent.plots.figure import axes_of

    classes: NDArray[Any] = np.empty(0)
    series = {}
    for method, each in found.items():
        if each.per_class is not None and each.classes is not None:
            classes, series[f"{method}, {each.value:.1f}"] = each.classes, (each.per_class, each.value)
    if not series:
        raise FastentError("per_class is None: pass labels to fe.intrinsic_dimension for the dimension of each class")
    figure, axes = axes_of(ax)
    draw_class_marks(axes, classes, series)
    axes.set(xlabel="class", ylabel="intrinsic dimension", title="Each class; dashed: all points")
    return figure, axes


def intrinsic_dimension(
    neighbors: Neighbors,
    method: Method = "twonn",
    labels: Any = None,
    *,
    query_labels: Any = None,
    k: int | None = None,
) -> IntrinsicDimension:
    """Estimate the intrinsic dimension of the data from Euclidean distances to near neighbours.

    Rows that repeat another, exactly or up to `neighbors.resolution`, are one point, which counts once. Equal distances, as on
    a grid, count while they are rare and all rows are queries; otherwise they are left out, and what is left is taken for a
    sample of a distribution without its lower end.

    Parameters
    ----------
    neighbors : Neighbors
        Found with metric="euclidean".
    method : str
        "twonn": slope of -log(1 - F) against log(r_2 / r_1), the largest tenth left out. "twonn-ml": its maximum likelihood,
        (N - 1) / sum log(r_2 / r_1). "mle": Levina and Bickel's estimate over k neighbours, inverses averaged as by MacKay and
        Ghahramani. "gride": maximum likelihood from r_2n / r_n, less shaken by noise the larger n.
    labels : array-like (n,), optional
        Labels of the rows, for `per_class`.
    query_labels : array-like (q,), optional
        Labels of queries that are not rows of X.
    k : int, optional
        Number of neighbours for "mle", at least 2, and 2n for "gride", even; default all that were found.

    Returns
    -------
    IntrinsicDimension

    Raises
    ------
    FastentError
        Cosine distances; too few neighbours; a query that is named twice; lists that hold nothing but repeated rows, or equal
        distances only.

    References
    ----------
    Facco et al., "Estimating the intrinsic dimension of datasets by a minimal neighborhood information", 2017.
    Levina and Bickel, "Maximum likelihood estimation of intrinsic dimension", 2004; MacKay and Ghahramani on it, 2005.
    Denti et al., "The generalized ratios intrinsic dimension estimator", 2022.

    Examples
    --------
    >>> import fastent as fe, numpy as np
    >>> plane = np.random.default_rng(0).random((2000, 2)) @ np.ones((2, 50))
    >>> round(fe.intrinsic_dimension(fe.neighbors(plane, k=2)).value)
    1
    """
    return dimension_of(neighbors, method, labels, query_labels, k)


def dimension_of(
    neighbors: Neighbors,
    method: Method,
    labels: Any = None,
    query_labels: Any = None,
    k: int | None = None,
    *,
    representative: NDArray[np.bool_] | None = None,
) -> IntrinsicDimension:
    """As `intrinsic_dimension`; representative : (q,) which queries the value over all is of, should some classes have more
    than their shares."""
    choice("method", method, tuple(ESTIMATES))
    check_neighbors(neighbors)
    if neighbors.metric != "euclidean":
        raise FastentError(
            f"neighbors have metric={neighbors.metric!r}: ratios of Euclidean distances are needed; "
            "use fe.neighbors(X, k), with rows of unit length for the dimension of directions"
        )
    if neighbors.k < 2:
        raise FastentError(f"method={method!r} needs two neighbours or more, there is {neighbors.k}: search for more")
    if method in ("twonn", "twonn-ml"):
        k = 2
    elif k is None:
        k = neighbors.k - (neighbors.k % 2 if method == "gride" else 0)
    else:
        k = whole_number("k", k, minimum=2, maximum=neighbors.k)
        if method == "gride" and k % 2:
            raise FastentError(f"k={k}: an even number is needed for method='gride'")
    distinct = distinct_neighbors(neighbors)
    ratios = ratios_of(distinct, method, k, len(neighbors.indices) == neighbors.n and neighbors.queries is not None)
    usable = distinct.first_of() & ~ratios.lacking & ~ratios.ties
    if not usable.any():
        raise FastentError(_nothing_left(distinct, ratios, method))

    def estimate(rows: NDArray[np.bool_]) -> tuple[float, float]:
        return ESTIMATES[method](ratios.of(rows)) if rows.sum() > 1 else (np.nan, np.nan)

    value, error = estimate(usable if representative is None else usable & representative)
    per_class = classes = None
    if labels is not None:
        (_, classes), codes = label_codes(neighbors, labels, query_labels)
        usable_in_class = distinct.first_of(codes) & ~ratios.lacking & ~ratios.ties
        per_class = np.array([estimate(usable_in_class & (codes == c))[0] for c in range(len(classes))])
    ties = int((distinct.first_of() & ~ratios.lacking & ratios.ties).sum())
    used = int(usable.sum())
    return IntrinsicDimension(
        value, per_class, classes, used, len(usable) - used - ties, error, method, ties, _suspects(distinct, usable)
    )


def _suspects(distinct: DistinctNeighbors, usable: NDArray[np.bool_]) -> int:
    """How many ratios are so large that fewer than a thousandth of one is to be expected, by the line of the smaller ones."""
    near, far = distinct.distances[usable, 0], distinct.distances[usable, 1]
    known = far > near
    log_ratio = np.log(far[known] / near[known])
    if len(log_ratio) < 2:
        return 0
    ones = np.ones_like(log_ratio)
    slope, _ = fit(Ratios(log_ratio, ones, 0 * ones, ones > 1, ones > 1))
    return int((log_ratio * slope > np.log(1000 * len(log_ratio))).sum())


def dimension_notes(found: Mapping[str, IntrinsicDimension]) -> Iterator[str]:
    """What the points left out and the odd ones mean for these estimates of one data set."""
    if not found:
        return
    q = max(each.used + each.duplicates + each.ties for each in found.values())
    duplicates = max(each.duplicates for each in found.values())
    if duplicates:
        yield (
            f"dimension leaves out {duplicates:,} of {q:,} points ({_percent(duplicates, q)}), which repeat another exactly or "
            "up to rounding, or whose neighbours do"
        )
    ties = {method: each.ties for method, each in found.items() if each.ties}
    if ties:
        named = ", ".join(f"{method} {count:,} ({_percent(count, q)})" for method, count in ties.items())
        grid = ": the data lie on a grid, and these dimensions are rough" if max(ties.values()) > FEW_TIES * q else ""
        yield f"dimension leaves out points whose neighbours are equally far, of {q:,}: {named}{grid}"
    suspects = max(each.suspects for each in found.values())
    if suspects > _FEW_SUSPECTS * q:
        yield (
            f"{suspects:,} of {q:,} points ({_percent(suspects, q)}) have a nearest neighbour far nearer than the next one: "
            "near duplicates, or parts of a lower dimension, which lower every dimension but twonn"
        )


def _percent(count: int, q: int) -> str:
    return f"{100 * count / q:.2g} %"


def _nothing_left(distinct: DistinctNeighbors, ratios: Ratios, method: Method) -> str:
    q = len(ratios.ties)
    if ratios.lacking.all():
        return (
            f"{'the list of the query holds' if q == 1 else f'the lists of all {q:,} queries hold'} fewer than two rows that "
            "differ from the query and from each other: drop repeated rows, or search for more neighbours than a row has copies"
        )
    remedy = "use method='mle' with more neighbours" if method != "mle" else "search for more neighbours"
    left = int((distinct.first_of() & ~ratios.lacking).sum())
    whose = "the query has" if left == 1 else f"all {left:,} queries have"
    return f"{whose} neighbours at one distance, as on a grid, whose ratios say nothing: {remedy}"
