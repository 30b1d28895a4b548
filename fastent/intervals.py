"""Means over a sample of the rows, with what the sample leaves open."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Estimate", "bootstrap", "class_balanced_mean", "ratio_of_means", "sample_mean", "sample_share"]

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
    draws = size / (1 - size / population)
    middle = (share + _Z**2 / (2 * draws)) / (1 + _Z**2 / draws)
    half = _Z * math.sqrt(share * (1 - share) / draws + _Z**2 / (4 * draws**2)) / (1 + _Z**2 / draws)
    return Estimate(share, math.sqrt(share * (1 - share) / draws), max(middle - half, 0.0), min(middle + half, 1.0))


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


def bootstrap(
    values: ArrayLike, statistic: Callable[..., Any] = np.mean, *, seed: int = 0, resamples: int = _RESAMPLES
) -> Estimate:
    """A statistic of independent repetitions, values (n, ...), with its 95 % percentile bootstrap interval over them.

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


def _within(estimate: Estimate, least: float, most: float) -> Estimate:
    return estimate._replace(low=max(estimate.low, least), high=min(estimate.high, most))


def _unknown() -> Estimate:
    return Estimate(np.nan, np.nan, np.nan, np.nan)
