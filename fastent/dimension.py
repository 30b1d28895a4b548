"""Intrinsic dimension from the distances to near neighbours: how many directions the points really use."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.neighbors import Neighbors, label_codes
from fastent.options import choice, whole_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["IntrinsicDimension", "Method", "intrinsic_dimension"]

Array = NDArray[np.float64]
Method = Literal["twonn", "twonn-ml", "mle", "gride"]

# The largest ratios are the least certain and bend the line most: Facco et al. leave out a tenth.
_KEPT = 0.9


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
        Queries left out because a neighbour lies at distance 0, or with "gride" r_2n = r_n, which has no likelihood.
    standard_error : float
        Of `value`, from the curvature of the likelihood, or of the line that was fitted.
    method : str
    """

    value: float
    per_class: Array | None
    classes: NDArray[Any] | None
    used: int
    duplicates: int
    standard_error: float
    method: str

    def plot(self, *, ax: "Axes | None" = None) -> "tuple[Figure, Axes]":
        """Draw the dimension of each class beside that of all points, with matplotlib; on `ax` or in a new figure.

        Raises
        ------
        FastentError
            It was found without labels.
        """
        from fastent.plots.classes import draw_dimensions
        from fastent.plots.figure import axes_of

        figure, axes = axes_of(ax)
        draw_dimensions(axes, {self.method: self})
        return figure, axes

    def __repr__(self) -> str:
        return (
            f"IntrinsicDimension({self.value:.2f} +- {self.standard_error:.2f}, {self.method}, {self.used} queries, "
            f"{self.duplicates} duplicates left out)"
        )


def intrinsic_dimension(
    neighbors: Neighbors,
    method: Method = "twonn",
    labels: Any = None,
    *,
    query_labels: Any = None,
    k: int | None = None,
) -> IntrinsicDimension:
    """Estimate the intrinsic dimension of the data from Euclidean distances to near neighbours.

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

    Raises
    ------
    FastentError
        Too few neighbours; no query without duplicates.

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
    choice("method", method, ("twonn", "twonn-ml", "mle", "gride"))
    if not isinstance(neighbors, Neighbors):
        raise FastentError(f"neighbors is {type(neighbors).__name__}: pass what fe.neighbors(X, k=10) returns")
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
    distances = neighbors.distances[:, :k].astype(np.float64)
    usable = distances[:, 0] > 0
    if method == "gride" and k > 2:
        usable &= distances[:, -1] > distances[:, k // 2 - 1]
    if not usable.any():
        raise FastentError(f"all {len(usable)} queries have neighbours at distance 0 or as far as others: drop the duplicates")

    def estimate(rows: NDArray[np.bool_]) -> tuple[float, float]:
        return _ESTIMATES[method](distances[rows]) if rows.sum() > 1 else (np.nan, np.nan)

    value, error = estimate(usable)
    per_class = classes = None
    if labels is not None:
        (_, classes), codes = label_codes(neighbors, labels, query_labels)
        per_class = np.array([estimate(usable & (codes == c))[0] for c in range(len(classes))])
    return IntrinsicDimension(value, per_class, classes, int(usable.sum()), int((~usable).sum()), error, method)


def _fit(distances: Array) -> tuple[float, float]:
    log_ratio = np.sort(np.log(distances[:, 1] / distances[:, 0]))
    n = len(log_ratio)
    kept = max(1, int(n * _KEPT))
    x, y = log_ratio[:kept], -np.log1p(-np.arange(1, kept + 1) / n)
    squares = x @ x
    if squares == 0:
        return np.inf, np.nan
    slope = x @ y / squares
    # The points of the line are order statistics, far from independent: the error is that of the likelihood.
    return float(slope), float(slope / np.sqrt(n))


def _twonn_likelihood(distances: Array) -> tuple[float, float]:
    total = np.log(distances[:, 1] / distances[:, 0]).sum()
    value = (len(distances) - 1) / total if total > 0 else np.inf
    return float(value), float(value / np.sqrt(len(distances)))


def _levina_bickel(distances: Array) -> tuple[float, float]:
    inverse = np.log(distances[:, -1:] / distances[:, :-1]).mean(1)
    mean = inverse.mean()
    value = 1 / mean if mean > 0 else np.inf
    return float(value), float(value / np.sqrt(len(inverse) * (distances.shape[1] - 1)))


def _gride(distances: Array) -> tuple[float, float]:
    """Maximum of the likelihood N log d + (n - 1) sum log(mu^d - 1) - ((2n - 1) d + 1) sum log mu, mu = r_2n / r_n."""
    from scipy.optimize import brentq

    half = distances.shape[1] // 2
    if half == 1:
        return _twonn_likelihood(distances)
    log_ratio = np.log(distances[:, -1] / distances[:, half - 1])
    n, total = len(log_ratio), log_ratio.sum()

    def slope(d: float) -> float:
        # d/dd log(mu^d - 1) = log mu / (1 - mu^-d)
        return float(n / d + (half - 1) * (log_ratio / -np.expm1(-d * log_ratio)).sum() - (2 * half - 1) * total)

    high = 1.0
    while slope(high) > 0:
        high *= 2
    value = float(brentq(slope, 1e-12, high, rtol=1e-12))
    x = value * log_ratio
    curvature = n / value**2 + (half - 1) * ((log_ratio / (2 * np.sinh(np.minimum(x, 600) / 2))) ** 2).sum()
    return value, float(1 / np.sqrt(curvature))


_ESTIMATES = {"twonn": _fit, "twonn-ml": _twonn_likelihood, "mle": _levina_bickel, "gride": _gride}
