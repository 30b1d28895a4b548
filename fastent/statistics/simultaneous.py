"""Several means of the same repetitions at once: intervals that hold together, and which of the means may be the largest."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastent.statistics.intervals import Estimate

__all__ = ["jackknife", "may_be_largest", "simultaneous_means"]

_DRAWS = 5000
# Correlations estimated from fewer repetitions make intervals too short.
_FEW = 6


def simultaneous_means(
    values: ArrayLike, *, confidence: float = 0.95, seed: int = 0, least: float = -np.inf, most: float = np.inf
) -> list[Estimate]:
    """Means (T,) of independent repetitions (n, T), such as networks at T epochs, whose intervals hold all at once.

    The half-length of each interval is its standard error times the quantile of the largest |t| of T correlated Student's
    variables, simulated with the correlations of the columns: for one column it is Student's interval, for T equal columns
    too, and for independent columns about as wide as Sidak's. Of fewer than six repetitions the correlations are not known well
    enough, and the intervals are Bonferroni's. A column with a NaN has a mean over what is known of it and no
    interval. With fewer than two repetitions no column has an interval. No mean lies below `least` or above `most`.

    References
    ----------
    Hothorn, Bretz & Westfall, "Simultaneous inference in general parametric models", Biometrical Journal 50, 2008.
    """
    columns = np.asarray(values, float)
    spread, half = np.full((2, columns.shape[1]), np.nan)
    known = np.isfinite(columns).all(0) & (len(columns) > 1)
    if known.any():
        spread[known] = columns[:, known].std(0, ddof=1)
        half[known] = _quantile(columns[:, known], spread[known], confidence, seed) * spread[known] / np.sqrt(len(columns))
    errors = spread / np.sqrt(max(len(columns), 1))
    return [
        Estimate(value, float(error), max(value - float(width), least), min(value + float(width), most))
        if not np.isnan(error)
        else Estimate(value, np.nan, np.nan, np.nan)
        for value, error, width in zip(map(_mean, columns.T), errors, half, strict=True)
    ]


def may_be_largest(values: ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> NDArray[np.bool_]:
    """Which of T means, of independent repetitions (n, T), may be the largest: a set that misses the largest in 1 of 20.

    A mean is left out if some other exceeds it by more than chance explains, judged by the largest of T - 1 correlated
    Student's variables, those of the differences. Of means that are all equal, each stays with probability `confidence` at
    least. With fewer than two repetitions nothing is left out. A column with a NaN is never in the set.

    References
    ----------
    Hsu, "Constrained simultaneous confidence intervals for multiple comparisons with the best", Annals of Statistics 12, 1984.
    """
    columns = np.asarray(values, float)
    known: NDArray[np.bool_] = np.isfinite(columns).all(0)
    if len(columns) < 2:
        return known
    found = np.zeros(columns.shape[1], bool)
    rows = columns[:, known]
    drawn = _simulated(rows, seed)
    found[known] = [not _exceeded(rows, drawn, t, confidence) for t in range(rows.shape[1])]
    return found


def jackknife(statistic: Callable[..., Any], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tukey's pseudo-values (n, ...) of `statistic(rows, 0)`: their mean and spread are those of a mean's repetitions.

    References
    ----------
    Miller, "The jackknife: a review", Biometrika 61, 1974.
    """
    n = len(rows)
    whole = np.asarray(statistic(rows, 0), float)
    without = np.stack([statistic(np.delete(rows, i, axis=0), 0) for i in range(n)])
    pseudo: NDArray[np.float64] = n * whole - (n - 1) * without
    return pseudo


def _exceeded(rows: NDArray[np.float64], drawn: NDArray[np.float64], t: int, confidence: float) -> bool:
    """Whether the mean of some other column exceeds that of column t by more than chance explains."""
    ahead = np.delete(rows, t, axis=1) - rows[:, [t]]
    if not ahead.size:
        return False
    means, spread = ahead.mean(0), ahead.std(0, ddof=1)
    still = spread <= 1e-12 * np.abs(rows).max()
    if (means[still] > 0).any():
        return True
    moving = ~still
    if not moving.any():
        return False
    by_chance = (np.delete(drawn, t, axis=1) - drawn[:, [t]])[:, moving] / spread[moving]
    most = np.sqrt(len(rows)) * (means[moving] / spread[moving]).max()
    return bool(most > np.quantile(by_chance.max(1), confidence))


def _quantile(columns: NDArray[np.float64], spread: NDArray[np.float64], confidence: float, seed: int) -> float:
    """Of the largest |t| of the columns."""
    from scipy.special import stdtrit  # scipy.stats takes longer to import

    n, n_columns = columns.shape
    if n < _FEW:
        return float(stdtrit(n - 1, 1 - (1 - confidence) / (2 * n_columns)))
    moving = spread > 0
    drawn = np.abs(_simulated(columns, seed))
    return float(np.quantile((drawn[:, moving] / spread[moving]).max(1, initial=0.0), confidence))


def _simulated(columns: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """(draws, T) correlated Student's variables, each with the standard deviation of its column, about 0."""
    n = len(columns)
    rng = np.random.default_rng((seed, 7))
    normal = rng.standard_normal((_DRAWS, n)) @ ((columns - columns.mean(0)) / np.sqrt(n - 1))
    drawn: NDArray[np.float64] = normal / np.sqrt(rng.chisquare(n - 1, (_DRAWS, 1)) / (n - 1))
    return drawn


def _mean(column: NDArray[np.float64]) -> float:
    known = column[np.isfinite(column)]
    return float(known.mean()) if len(known) else float("nan")
