"""Means over a sample of the rows or over networks from different seeds, with what the sample leaves open."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Estimate",
    "bootstrap",
    "class_balanced_mean",
    "coefficient_of_variation",
    "quotient",
    "ratio_of_means",
    "sample_mean",
    "sample_share",
    "student_mean",
    "wilson",
]

# Two-sided 95 % of the normal distribution.
_Z = 1.959963984540054

_RESAMPLES = 9999
# Numbers drawn at once: 32 MB.
_RESAMPLED_AT_ONCE = 4_000_000


class Estimate(NamedTuple):
    """A mean, its standard error, and its 95 % interval; without error where every row was asked."""

    value: float
    standard_error: float
    low: float
    high: float


def sample_mean(values: NDArray[Any], population: float, *, least: float = -math.inf, most: float = math.inf) -> Estimate:
    """Mean of a random sample without replacement from so many, whose values lie within bounds; NaN values do not count."""
    values = values[~np.isnan(values)]
    if not len(values):
        return _unknown()
    return _within(_estimate(float(values.mean()), _squared_error(values, population)), least, most)


def sample_share(holds: NDArray[np.bool_], population: float) -> Estimate:
    """Share of a random sample without replacement for which something holds, with Wilson's interval."""
    size, share = len(holds), float(holds.mean())
    if size >= population:
        return Estimate(share, 0.0, share, share)
    # As many draws with replacement leave as much open.
    return wilson(share, size / (1 - size / population))


def wilson(share: float, draws: float) -> Estimate:
    """A share seen in so many independent draws, with Wilson's interval; on the safe side where each draw itself is a share."""
    middle = (share + _Z**2 / (2 * draws)) / (1 + _Z**2 / draws)
    half = _Z * math.sqrt(max(share * (1 - share), 0) / draws + _Z**2 / (4 * draws**2)) / (1 + _Z**2 / draws)
    return Estimate(share, math.sqrt(max(share * (1 - share), 0) / draws), max(middle - half, 0.0), min(middle + half, 1.0))


def class_balanced_mean(
    values: NDArray[Any],
    codes: NDArray[np.int64],
    counts: NDArray[np.int64],
    *,
    least: float = -math.inf,
    most: float = math.inf,
) -> Estimate:
    """Mean over the sampled classes of the class means; `counts` says how many of each class there are in all."""
    present = np.unique(codes)
    groups = [values[codes == c] for c in present]
    error = sum(_squared_error(group, int(counts[c])) for c, group in zip(present, groups, strict=True)) / len(present) ** 2
    return _within(_estimate(float(np.mean([group.mean() for group in groups])), error), least, most)


def ratio_of_means(above: NDArray[Any], below: NDArray[Any], population: int) -> Estimate:
    """sum(above) / (sum(above) + sum(below)), its error by linearisation."""
    usable = ~np.isnan(above + below)
    above, below = above[usable], below[usable]
    if not len(above):
        return _unknown()
    total = above.mean() + below.mean()
    if total == 0:
        return _unknown()
    value = float(above.mean() / total)
    return _estimate(value, _squared_error(((1 - value) * above - value * below) / total, population))


def student_mean(values: ArrayLike, *, confidence: float = 0.95, least: float = -math.inf) -> Estimate:
    """Mean of independent repetitions (n,), such as networks from different seeds, with Student's interval.

    NaN values do not count; of fewer than two there is no interval. No value lies below `least`. For normal values it covers
    exactly. Simulated with 1,500 samples of 3, 5 and 10 it covered 95, 96 and 95 % of the time, and 90, 88 and 90 % for
    exponential ones. A percentile bootstrap covered 76, 84 and 91 % of normal ones, BCa 73, 85 and 90 %, a bootstrap of
    Student's t 82, 95 and 95 %: networks are too few to be resampled.
    """
    from scipy.stats import t

    kept = np.asarray(values, float)
    kept = kept[~np.isnan(kept)]
    if not len(kept):
        return _unknown()
    if np.ptp(kept) == 0 and len(kept) > 1:  # no round-off of the mean
        return Estimate(float(kept[0]), 0.0, float(kept[0]), float(kept[0]))
    value = float(kept.mean())
    if len(kept) < 2:
        return Estimate(value, np.nan, np.nan, np.nan)
    error = float(kept.std(ddof=1) / math.sqrt(len(kept)))
    half = float(t.ppf((1 + confidence) / 2, len(kept) - 1)) * error
    return Estimate(value, error, max(value - half, least), value + half)


def coefficient_of_variation(values: ArrayLike) -> Estimate:
    """Standard deviation (ddof 1) over mean of independent repetitions (n,), with its 95 % interval after McKay and Vangel.

    For normal values whose true coefficient is at most a third; fewer than two (NaN do not count), or a mean that is not
    positive, have none. Tails heavier than the normal's make it too narrow: for 3, 5 and 10 networks drawn from 150 on digits,
    whose eps* has an excess kurtosis of 1.8, it covered 90, 89 and 85 % of the time, as against 95 % for normal values.

    References
    ----------
    Vangel, "Confidence intervals for a normal coefficient of variation", The American Statistician 50, 1996.
    """
    from scipy.stats import chi2

    kept = np.asarray(values, float)
    kept = kept[~np.isnan(kept)]
    if len(kept) < 2 or kept.mean() <= 0:
        return _unknown()
    n, freedom = len(kept), len(kept) - 1
    value = 0.0 if np.ptp(kept) == 0 else float(kept.std(ddof=1) / kept.mean())
    below = [
        ((quantile + 2) / n - 1) * value**2 + quantile / freedom for quantile in map(float, chi2.ppf((0.975, 0.025), freedom))
    ]
    # Where so few values are so far apart, any larger coefficient would do.
    low, high = (value / math.sqrt(x) if x > 0 else math.inf for x in below)
    return Estimate(value, value * math.sqrt(1 / (2 * freedom) + value**2 / n), low, high)


def quotient(above: Estimate, below: Estimate) -> Estimate:
    """Of two independent positive estimates; its 95 % interval from theirs, whose lengths in logarithms add in squares.

    References
    ----------
    Zou & Donner, "Construction of confidence limits about effect measures", Statistics in Medicine 27, 2008.
    """
    if not (above.value > 0 and below.value > 0):
        return _unknown()
    value = above.value / below.value
    # An end at or below 0 leaves open everything on its side.
    down = math.hypot(_log_distance(above.low, above.value), _log_distance(below.value, below.high))
    up = math.hypot(_log_distance(above.value, above.high), _log_distance(below.low, below.value))
    error = value * math.hypot(above.standard_error / above.value, below.standard_error / below.value)
    return Estimate(value, error, value * math.exp(-down), math.inf if up > 700 else value * math.exp(up))


def bootstrap(values: ArrayLike, statistic: Callable[..., Any], *, seed: int = 0) -> Estimate:
    """A statistic of independent repetitions, values (n, ...), with its 95 % percentile bootstrap interval over them.

    For what is no mean and has many repetitions, say 50: of few the interval is too narrow (see `student_mean`).
    `statistic(values, axis=...)` reduces one axis, as numpy's do, and leaves a number. Repetitions with a NaN do not count; of
    fewer than two there is no interval.
    """
    rows = np.asarray(values, float)
    rows = rows[~np.isnan(rows).reshape(len(rows), -1).any(1)] if len(rows) else rows
    if not len(rows):
        return _unknown()
    value = float(statistic(rows, axis=0))
    if len(rows) < 2:
        return Estimate(value, np.nan, np.nan, np.nan)
    drawn = np.random.default_rng(seed).integers(0, len(rows), (_RESAMPLES, len(rows)))
    pieces = np.array_split(drawn, -(-_RESAMPLES * rows.size // _RESAMPLED_AT_ONCE))
    found = np.concatenate([statistic(rows[piece], axis=1) for piece in pieces])
    low, high = np.percentile(found, [2.5, 97.5])
    return Estimate(value, float(np.std(found, ddof=1)), float(low), float(high))


def _squared_error(values: NDArray[Any], population: float) -> float:
    if len(values) >= population:
        return 0.0
    return float(values.var(ddof=1) / len(values) * (1 - len(values) / population)) if len(values) > 1 else np.nan


def _estimate(value: float, squared_error: float) -> Estimate:
    error = float(np.sqrt(squared_error))
    return Estimate(value, error, value - _Z * error, value + _Z * error)


def _log_distance(low: float, high: float) -> float:
    return math.log(high / low) if low > 0 else math.inf if low <= 0 else math.nan


def _within(estimate: Estimate, least: float, most: float) -> Estimate:
    return estimate._replace(low=max(estimate.low, least), high=min(estimate.high, most))


def _unknown() -> Estimate:
    return Estimate(np.nan, np.nan, np.nan, np.nan)
