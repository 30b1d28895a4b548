"""Variance components of a complete two-way table: between its rows, between its columns, and what is left."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastent.errors import FastentError
from fastent.statistics.intervals import Estimate

__all__ = ["VarianceComponents", "variance_components"]

# Each end of a 95 % interval.
_LOW, _HIGH = 0.025, 0.975
_NONE = Estimate(np.nan, np.nan, np.nan, np.nan)


class VarianceComponents(NamedTuple):
    """Standard deviations of the random effects of a two-way table, in the units of its values.

    mean, of all values; rows, columns, between these; residual, of single values once rows and columns are accounted for;
    one_column, between the values of one column, whose square is the sum of those of rows and residual.
    """

    mean: float
    rows: Estimate
    columns: Estimate
    residual: Estimate
    one_column: Estimate


class _MeanSquare(NamedTuple):
    value: float
    freedom: int


def variance_components(values: ArrayLike) -> VarianceComponents:
    """Estimate the random effects of rows and columns from one value for each pair, with 95 % intervals.

    The model is ``value = mean + row + column + residual``, all three random, normal and independent. Components are those of
    the analysis of variance, 0 where they would be negative. The residual's interval is exact; the others are modified
    large-sample intervals (Graybill and Wang for sums of mean squares, Ting et al. for differences), which lie in [0, inf). One
    column leaves rows and residual together: then only `one_column` is known, and its interval is exact.

    Parameters
    ----------
    values : (rows, columns)
        At least two rows and one column, all finite.

    Returns
    -------
    VarianceComponents

    Raises
    ------
    FastentError
        Fewer rows or columns, or values that are not finite.

    References
    ----------
    Burdick & Graybill, "Confidence intervals on variance components", 1992, chapters 3 and 6. Graybill & Wang, "Confidence
    intervals on nonnegative linear combinations of variances", JASA 75, 1980. Ting, Burdick, Graybill, Jeyaratnam & Lu,
    "Confidence intervals on linear combinations of variance components that are unrestricted in sign", 1990.

    Examples
    --------
    >>> found = variance_components([[1.0, 2.0], [3.0, 4.0], [5.0, 6.5]])
    >>> round(found.rows.value, 2), round(found.residual.value, 2)
    (2.12, 0.2)
    """
    table = np.asarray(values, float)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 1:
        raise FastentError(f"a table of shape {table.shape}: at least two rows and one column are needed")
    if not np.isfinite(table).all():
        raise FastentError("the table has values that are not finite: leave out the columns that lack some")
    n_rows, n_columns = table.shape
    mean = float(table.mean())
    of_rows = _mean_square(table.mean(1), n_columns)
    if n_columns == 1:
        return VarianceComponents(mean, _NONE, _NONE, _NONE, _spread((1.0, of_rows)))
    left = table - table.mean(1, keepdims=True) - table.mean(0) + mean
    freedom = (n_rows - 1) * (n_columns - 1)
    of_columns, residual = _mean_square(table.mean(0), n_rows), _MeanSquare(float((left**2).sum()) / freedom, freedom)
    return VarianceComponents(
        mean,
        _spread((1 / n_columns, of_rows), (-1 / n_columns, residual)),
        _spread((1 / n_rows, of_columns), (-1 / n_rows, residual)),
        _spread((1.0, residual)),
        _spread((1 / n_columns, of_rows), (1 - 1 / n_columns, residual)),
    )


def _mean_square(means: NDArray[np.float64], times: int) -> _MeanSquare:
    return _MeanSquare(times * float(means.var(ddof=1)), len(means) - 1)


def _spread(*terms: tuple[float, _MeanSquare]) -> Estimate:
    """Root of a weighted sum of one or two independent mean squares, the first with a positive weight."""
    variance = sum(weight * square.value for weight, square in terms)
    (first, one), second = terms[0], terms[1] if len(terms) == 2 else (0.0, terms[0][1])
    down = _distance(first, one, *second, _below, _above, _HIGH)
    up = _distance(first, one, *second, _above, _below, _LOW)
    value = math.sqrt(max(variance, 0.0))
    spread = math.sqrt(sum(2 * (weight * square.value) ** 2 / square.freedom for weight, square in terms))
    error = spread / (2 * value) if value else np.nan
    return Estimate(value, error, math.sqrt(max(variance - down, 0.0)), math.sqrt(max(variance + up, 0.0)))


def _distance(
    first: float, one: _MeanSquare, second: float, two: _MeanSquare, own: Any, other: Any, probability: float
) -> float:
    """From the weighted sum to one end of its interval; `own` and `other` are how far a mean square reaches on either side."""
    from scipy.stats import f

    a, b = first * one.value, abs(second) * two.value
    if second >= 0:
        return math.hypot(own(one.freedom) * a, own(two.freedom) * b)
    # A difference: the second mean square counts with its other end, and Ting's cross term makes the interval exact at 0.
    g, h, ratio = own(one.freedom), other(two.freedom), float(f.ppf(probability, one.freedom, two.freedom))
    cross = ((ratio - 1) ** 2 - (g * ratio) ** 2 - h**2) / ratio
    return math.sqrt(max((g * a) ** 2 + (h * b) ** 2 + cross * a * b, 0.0))


def _below(freedom: int) -> float:
    """How far below a mean square its 95 % interval begins, as a share of it."""
    from scipy.stats import chi2

    return 1 - freedom / float(chi2.ppf(_HIGH, freedom))


def _above(freedom: int) -> float:
    """How far above a mean square its 95 % interval ends, as a share of it."""
    from scipy.stats import chi2

    return freedom / float(chi2.ppf(_LOW, freedom)) - 1
