"""How a share measured on P points depends on P: its limit, its finite-size correction, and whether it still changes."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastent.statistics.intervals import Estimate

__all__ = ["FiniteSize", "finite_size"]

Array = NDArray[np.float64]
_NONE = Estimate(np.nan, np.nan, np.nan, np.nan)


class FiniteSize(NamedTuple):
    """The curve ``e(P) = limit (1 - correction / P)``, with 95 % intervals.

    limit, of infinitely many points, in [0, 1]; correction, in points, negative where e falls; misfit, the p value of the F
    test for lack of fit, NaN without repetitions; next_doubling, the relative change of e from the largest size to twice as
    many points. It is taken from a curve with a term in log P too, so that unlimited growth is not mistaken for a limit; that
    takes three sizes.
    """

    limit: Estimate
    correction: Estimate
    misfit: float
    next_doubling: Estimate


def finite_size(sizes: ArrayLike, values: ArrayLike, points: int, *, noise: float = 0.0) -> FiniteSize:
    """Fit the finite-size curve to values of random subsets by weighted least squares.

    Values are taken to vary as means over points do: the variance of a value is proportional to 1/P, with a factor estimated
    from the residuals. Subsets drawn from the same n points share some of them, so that any two values have a covariance of 1/n
    times that factor: they vary less among each other than 1/P, and together more. Noise of other origin is added. Intervals
    are Student's, those of quotients Fieller's.

    Parameters
    ----------
    sizes : (N,)
        Numbers of points, > 0.
    values : (N,)
        Shares in [0, 1], one for each subset. NaN do not count.
    points : int
        How many points the subsets are drawn from.
    noise : float, optional, default 0
        Variance of a value for a given subset, such as that of a mean over networks from different seeds.

    Returns
    -------
    FiniteSize
        NaN where there are too few sizes or values.

    References
    ----------
    Fieller, "Some problems in interval estimation", JRSS B 16, 1954. Draper & Smith, "Applied regression analysis", 1998.
    """
    P, e = np.asarray(sizes, float), np.asarray(values, float)
    P, e = P[~np.isnan(e)], e[~np.isnan(e)]
    different = len(np.unique(P))
    if different < 2 or len(P) < 3 or not e.any():
        return FiniteSize(_NONE, _NONE, np.nan, _NONE)
    fit = _Fit.of(np.column_stack([np.ones_like(P), 1 / P]), e, P, points, noise)
    limit = fit.quotient(np.array([1.0, 0.0]), None)
    limit = limit._replace(low=max(limit.low, 0.0), high=min(limit.high, 1.0))
    correction = fit.quotient(np.array([0.0, -1.0]), np.array([1.0, 0.0]))
    if different < 3 or len(P) < 4:
        return FiniteSize(limit, correction, _misfit(fit, P, e), _NONE)
    guarded = _Fit.of(np.column_stack([np.ones_like(P), 1 / P, np.log2(P)]), e, P, points, noise)
    most = P.max()
    change, level = np.array([0.0, -1 / (2 * most), 1.0]), np.array([1.0, 1 / most, np.log2(most)])
    return FiniteSize(limit, correction, _misfit(fit, P, e), guarded.quotient(change, level))


class _Fit(NamedTuple):
    """A least-squares fit with weights P, its first term a constant."""

    coefficients: Array
    covariance: Array
    squares: float
    freedom: int

    @classmethod
    def of(cls, terms: Array, values: Array, sizes: Array, points: int, noise: float) -> "_Fit":
        scale = np.sqrt(sizes)
        weighted = terms * scale[:, None]
        inverse = np.linalg.pinv(weighted)
        coefficients = inverse @ (values * scale)
        squares = float((sizes * (values - terms @ coefficients) ** 2).sum())
        # Variances of the weighted values apart from what all of them share, which goes into the constant.
        sampled, free = 1 - sizes / points, 1 - np.einsum("ij,ji->i", weighted, inverse)
        factor = max(squares - noise * float(free @ sizes), 0.0) / float(free @ sampled)
        covariance = (inverse * (factor * sampled + noise * sizes)) @ inverse.T
        covariance[0, 0] += factor / points
        return cls(coefficients, covariance, squares, len(values) - terms.shape[1])

    def quotient(self, above: Array, below: Array | None) -> Estimate:
        """A combination of the coefficients, over another one if there is one, with Fieller's interval."""
        from scipy.stats import t

        quantile = float(t.ppf(0.975, self.freedom))
        x, xx = float(above @ self.coefficients), float(above @ self.covariance @ above)
        if below is None:
            error = math.sqrt(xx)
            return Estimate(x, error, x - quantile * error, x + quantile * error)
        y, yy, xy = (
            float(below @ self.coefficients),
            float(below @ self.covariance @ below),
            float(above @ self.covariance @ below),
        )
        value = x / y
        error = math.sqrt(max(xx - 2 * value * xy + value**2 * yy, 0.0)) / abs(y)
        # Roots r of (x - r y)^2 = quantile^2 var(x - r y).
        a, b, c = y**2 - quantile**2 * yy, x * y - quantile**2 * xy, x**2 - quantile**2 * xx
        if a <= 0:  # a denominator that may be 0 leaves everything open
            return Estimate(value, error, -math.inf, math.inf)
        half = math.sqrt(max(b**2 - a * c, 0.0))
        return Estimate(value, error, (b - half) / a, (b + half) / a)


def _misfit(fit: _Fit, sizes: Array, values: Array) -> float:
    """p of the F test of what the curve leaves between sizes against the scatter within them."""
    from scipy.stats import f

    different, place = np.unique(sizes, return_inverse=True)
    means = np.bincount(place, values) / np.bincount(place)
    within = float((sizes * (values - means[place]) ** 2).sum())
    freedom, left = len(sizes) - len(different), fit.freedom - (len(sizes) - len(different))
    if freedom < 1 or left < 1 or within == 0:
        return np.nan
    return float(f.sf((fit.squares - within) / left / (within / freedom), left, freedom))
