"""Intrinsic dimension from the distances to near neighbours: how many directions the points really use."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.options import choice, whole_number
from fastent.search.neighbor_lists import check_not_repeated, check_still_in_range
from fastent.search.neighbors import Neighbors, label_codes
from fastent.statistics.distinct_neighbors import DistinctNeighbors, distinct_neighbors
from fastent.statistics.intervals import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["IntrinsicDimension", "Method", "dimension_notes", "intrinsic_dimension"]

Array = NDArray[np.float64]
Method = Literal["twonn", "twonn-ml", "mle", "gride"]

# The largest ratios are the least certain and bend the line most: Facco et al. leave out a tenth.
_KEPT = 0.9
# Up to this share of ties count with the ratio 1 that they have: rounding makes as many ratios too large. Where not every row
# is a query, ties may be copies of each other, which nothing else shows.
# Up to so many are nothing unusual in ordinary data.
_FEW_SUSPECTS = 0.005
_FEW_TIES = 0.1


@dataclass(frozen=True, eq=False)
class IntrinsicDimension:
    """How many dimensions the points have as their neighbours see them.

    Attributes
    ----------
    value : float
        Over all queries, >= 0; NaN where fewer than two can be used.
    per_class : (C,) float64 or None
        Over the queries of each class, their neighbours of any label.
    classes : (C,) or None
        The sorted classes.
    used : int
        Queries that count.
    duplicates : int
        Queries left out because they repeat an earlier query, exactly or up to rounding, or because their lists hold fewer
        than two rows that differ from them and from each other.
    standard_error : float
        Of `value`, from the curvature of the likelihood, or of the line that was fitted.
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

    @property
    def interval(self) -> Estimate:
        """The value with its 95 % interval."""
        low, high = max(self.value - 1.96 * self.standard_error, 0.0), self.value + 1.96 * self.standard_error
        return Estimate(self.value, self.standard_error, low, high)

    def plot(self, *, ax: "Axes | None" = None) -> "tuple[Figure, Axes]":
        """Draw the dimension of each class beside that of all points, with matplotlib; on `ax` or in a new figure.

        Raises
        ------
        FastentError
            It was found without labels.
        """
        return plot_dimensions({self.method: self}, ax)

    def __repr__(self) -> str:
        return (
            f"IntrinsicDimension({self.value:.2f} +- {self.standard_error:.2f}, {self.method}, {self.used} queries, "
            f"{self.duplicates} duplicates and {self.ties} ties left out)"
        )


def plot_dimensions(found: Mapping[str, IntrinsicDimension], ax: "Axes | None") -> "tuple[Figure, Axes]":
    """Draw the dimension by each method: a mark for each class, a dashed line for all points."""
    from fastent.plots.figure import axes_of
    from fastent.plots.intervals import draw_class_marks

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
        Of the rows, for `per_class`.
    query_labels : array-like (q,), optional
        For queries that are no rows.
    k : int, optional
        For "mle" the neighbours, at least 2, and for "gride" 2n, even: all there are unless said.

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
    choice("method", method, tuple(_ESTIMATES))
    if not isinstance(neighbors, Neighbors):
        raise FastentError(f"neighbors is {type(neighbors).__name__}: pass what fe.neighbors(X, k=10) returns")
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
    check_not_repeated(neighbors.queries, neighbors.n)
    check_still_in_range(neighbors.indices, neighbors.queries, neighbors.n)
    distinct = distinct_neighbors(neighbors)
    ratios = _ratios(distinct, method, k, len(neighbors.indices) == neighbors.n and neighbors.queries is not None)
    usable = distinct.first_of() & ~ratios.lacking & ~ratios.ties
    if not usable.any():
        raise FastentError(_nothing_left(distinct, ratios, method))

    def estimate(rows: NDArray[np.bool_]) -> tuple[float, float]:
        return _ESTIMATES[method](ratios.of(rows)) if rows.sum() > 1 else (np.nan, np.nan)

    value, error = estimate(usable)
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


class _Ratios(NamedTuple):
    """Logarithms of ratios of distances, for each query, and what goes into them.

    log_ratio : (q,) of the outer to the inner distance; for "mle" the sum over the inner ones.
    inner : (q,) for "gride" n of r_2n / r_n, for "mle" how many ratios are summed, otherwise 1.
    cut : (q,) below what the logarithm of the ratio comes out as 0.
    lacking, ties : (q,) queries whose lists have too few distances, or one distance only.
    """

    log_ratio: Array
    inner: Array
    cut: Array
    lacking: NDArray[np.bool_]
    ties: NDArray[np.bool_]

    def of(self, rows: NDArray[np.bool_]) -> "_Ratios":
        return _Ratios(self.log_ratio[rows], self.inner[rows], self.cut[rows], self.lacking[rows], self.ties[rows])


def _ratios(distinct: DistinctNeighbors, method: Method, k: int, every_row: bool) -> _Ratios:
    counts = np.minimum(distinct.counts, k)
    lacking = counts < 2
    counts = np.maximum(counts, 2)
    inner = counts // 2 if method == "gride" else counts - 1 if method == "mle" else np.ones_like(counts)
    first = inner - 1 if method == "gride" else np.zeros_like(inner)
    last = 2 * inner - 1 if method == "gride" else counts - 1
    here = np.arange(len(counts))
    near, far = distinct.distances[here, first], distinct.distances[here, last]
    with np.errstate(invalid="ignore", divide="ignore"):
        ties = ~lacking & (far - near <= distinct.tolerance)
        if method == "mle":
            ratios = np.log(far[:, None] / distinct.distances[:, : k - 1])
            log_ratio = np.where(np.arange(k - 1) < inner[:, None], ratios, 0).sum(1)
        else:
            log_ratio = np.log(far / near)
    if every_row and (method == "mle" or inner.max() == 1) and ties.sum() <= _FEW_TIES * (~lacking).sum():
        ties = np.zeros_like(ties)
    cut = _cut(near, ties, distinct) if ties.any() and method != "mle" else np.zeros_like(log_ratio)
    return _Ratios(log_ratio, inner.astype(np.float64), cut, lacking, ties)


def _cut(near: Array, ties: NDArray[np.bool_], distinct: DistinctNeighbors) -> Array:
    """Half the step from each inner distance to the next one that occurs anywhere, if it is also a distance of ties.

    Where ties are left out, the other ratios are a sample of their distribution without what lies below.
    """
    tolerance = distinct.tolerance
    tied = np.sort(near[ties])
    with np.errstate(invalid="ignore"):  # of queries whose lists lack it
        at = np.searchsorted(tied, near - tolerance)
    occurs_in_ties = tied[np.minimum(at, len(tied) - 1)] <= near + tolerance
    all_distances = np.sort(distinct.distances, axis=None)
    beyond = np.searchsorted(all_distances, near + tolerance, side="right")
    following = all_distances[np.minimum(beyond, len(all_distances) - 1)]
    with np.errstate(invalid="ignore", divide="ignore"):
        step = np.log(np.maximum(np.sqrt(following / near), 1 + tolerance / near))
    return np.where(occurs_in_ties & np.isfinite(step), step, 0.0)


def _suspects(distinct: DistinctNeighbors, usable: NDArray[np.bool_]) -> int:
    """How many ratios are so large that fewer than a thousandth of one is to be expected, by the line of the smaller ones."""
    near, far = distinct.distances[usable, 0], distinct.distances[usable, 1]
    known = far > near
    log_ratio = np.log(far[known] / near[known])
    if len(log_ratio) < 2:
        return 0
    ones = np.ones_like(log_ratio)
    slope, _ = _fit(_Ratios(log_ratio, ones, 0 * ones, ones > 1, ones > 1))
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
        grid = ": the data lie on a grid, and these dimensions are rough" if max(ties.values()) > _FEW_TIES * q else ""
        yield f"dimension leaves out points whose neighbours are equally far, of {q:,}: {named}{grid}"
    suspects = max(each.suspects for each in found.values())
    if suspects > _FEW_SUSPECTS * q:
        yield (
            f"{suspects:,} of {q:,} points ({_percent(suspects, q)}) have a nearest neighbour far nearer than the next one: "
            "near duplicates, or parts of a lower dimension, which lower every dimension but twonn"
        )


def _percent(count: int, q: int) -> str:
    return f"{100 * count / q:.2g} %"


def _nothing_left(distinct: DistinctNeighbors, ratios: _Ratios, method: Method) -> str:
    q = len(ratios.ties)
    if ratios.lacking.all():
        return (
            f"the lists of all {q} queries hold fewer than two rows that differ from the query and from each other: "
            "drop repeated rows, or search for more neighbours than a row has copies"
        )
    remedy = "use method='mle' with more neighbours" if method != "mle" else "search for more neighbours"
    left = int((distinct.first_of() & ~ratios.lacking).sum())
    return f"all {left} queries have neighbours at one distance, as on a grid, whose ratios say nothing: {remedy}"


def _fit(ratios: _Ratios) -> tuple[float, float]:
    # -log(1 - F) of an exponential distribution is a line, also from where its left is cut off.
    log_ratio = np.sort(ratios.log_ratio - ratios.cut)
    n = len(log_ratio)
    kept = max(1, int(n * _KEPT))
    x, y = log_ratio[:kept], -np.log1p(-np.arange(1, kept + 1) / n)
    slope = x @ y / (x @ x)
    # The points of the line are order statistics, far from independent: the error is that of the likelihood.
    value, error = _twonn_likelihood(ratios)
    return float(slope), float(slope * error / value)


# Errors are the larger of two: what the model says, and what the points say by how far apart their own estimates lie (the
# "sandwich").


def _twonn_likelihood(ratios: _Ratios) -> tuple[float, float]:
    logs = ratios.log_ratio - ratios.cut
    value = (len(logs) - 1) / logs.sum()
    return float(value), float(value * max(1.0, logs.std() / logs.mean()) / np.sqrt(len(logs)))


def _levina_bickel(ratios: _Ratios) -> tuple[float, float]:
    value = ratios.inner.sum() / ratios.log_ratio.sum()
    apart = np.sqrt(((ratios.inner - value * ratios.log_ratio) ** 2).sum()) / ratios.log_ratio.sum()
    return float(value), float(max(value / np.sqrt(ratios.inner.sum()), apart))


def _gride(ratios: _Ratios) -> tuple[float, float]:
    """Maximum of the likelihood N log d + sum (n - 1) log(mu^d - 1) - ((2n - 1) d + 1) log mu, mu = r_2n / r_n.

    mu^-d has a Beta(n, n) distribution: where ties are left out, up to a `cut`, divided by its share up to exp(-d cut).
    """
    from scipy.optimize import brentq

    log_ratio, inner = ratios.log_ratio, ratios.inner
    if (inner == 1).all():
        return _twonn_likelihood(ratios)
    n = len(log_ratio)
    is_cut = ratios.cut > 0

    def slope(d: float) -> float:
        # d/dd log(mu^d - 1) = log mu / (1 - mu^-d)
        whole = n / d + (((inner - 1) / -np.expm1(-d * log_ratio) - (2 * inner - 1)) * log_ratio).sum()
        return float(whole + _slope_of_share(d, ratios.cut[is_cut], inner[is_cut]))

    high = 1.0
    while slope(high) > 0:
        high *= 2
    value = float(brentq(slope, 1e-12, high, rtol=1e-12))
    curvature = (slope(value * (1 - 1e-4)) - slope(value * (1 + 1e-4))) / (2e-4 * value)
    scores = 1 / value + ((inner - 1) / -np.expm1(-value * log_ratio) - (2 * inner - 1)) * log_ratio
    apart = 0.0 if is_cut.any() else float(np.sqrt((scores**2).sum()))
    return value, float(max(np.sqrt(curvature), apart) / curvature)


def _slope_of_share(d: float, cut: Array, inner: Array) -> float:
    """d/dd of -sum log I(exp(-d cut)), I the distribution function of Beta(n, n)."""
    if len(cut) == 0:
        return 0.0
    from scipy.special import betainc, betaln, xlog1py

    x = np.exp(-d * cut)
    share = betainc(inner, inner, x)
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        log_density = (1 - inner) * d * cut + xlog1py(inner - 1, -x) - betaln(inner, inner)
        rate = np.exp(log_density + np.log(x) - np.log(share))  # n where both vanish
    return float((cut * np.where(np.isfinite(rate), rate, inner)).sum())


_ESTIMATES: dict[Method, Callable[[_Ratios], tuple[float, float]]] = {
    "twonn": _fit, "twonn-ml": _twonn_likelihood, "mle": _levina_bickel, "gride": _gride,
}  # fmt: skip
