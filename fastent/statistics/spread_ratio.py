"""Which of two paired measurements varies less: the ratio of their standard deviations."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastent.statistics.intervals import Estimate

__all__ = ["log_share", "relative_spread", "spread_ratio"]


def log_share(shares: ArrayLike, n: int) -> NDArray[np.float64]:
    """Logarithms of shares of n points, each with half a point added so that none is infinite; their spread is relative."""
    logarithms: NDArray[np.float64] = np.log((np.asarray(shares, float) * n + 0.5) / (n + 1))
    return logarithms


def relative_spread(groups: list[NDArray[np.float64]]) -> Estimate:
    """Pooled standard deviation within groups of values (n_i,), with its exact 95 % interval for normal values, in [0, inf)."""
    from scipy.stats import chi2

    kept = [group[np.isfinite(group)] for group in groups]
    freedom = sum(max(len(group) - 1, 0) for group in kept)
    if not freedom:
        return Estimate(np.nan, np.nan, np.nan, np.nan)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in kept if len(group))
    value = math.sqrt(squares / freedom)
    low, high = (math.sqrt(squares / quantile) for quantile in map(float, chi2.ppf((0.975, 0.025), freedom)))
    return Estimate(value, value / math.sqrt(2 * freedom), low, high)


def spread_ratio(above: ArrayLike, below: ArrayLike) -> Estimate:
    """Standard deviation of one measurement over that of another of the same n items, with its 95 % interval in [0, inf).

    The interval holds exactly for normal pairs, whatever their correlation (Pitman 1939, Morgan 1939): it has the ratios that
    leave sums and differences of the values so scaled uncorrelated. Pairs with a NaN do not count; fewer than three have no
    interval, and there is no ratio where the second does not vary.

    References
    ----------
    Pitman, "A note on normal correlation", Biometrika 31, 1939.

    Examples
    --------
    >>> found = spread_ratio([1, 2, 4, 3, 6], [2, 5, 6, 9, 12])
    >>> round(found.value, 3), round(found.low, 2), round(found.high, 2)
    (0.502, 0.23, 1.08)
    """
    from scipy.special import stdtrit

    pairs = np.stack([np.asarray(above, float), np.asarray(below, float)])
    pairs = pairs[:, np.isfinite(pairs).all(0)]
    n = pairs.shape[1]
    if n < 2 or np.ptp(pairs[1]) == 0:
        return Estimate(np.nan, np.nan, np.nan, np.nan)
    first, second = pairs.std(1, ddof=1)
    value = float(first / second) if np.ptp(pairs[0]) else 0.0
    if n < 3 or value == 0:
        return Estimate(value, np.nan, np.nan, np.nan)
    unexplained = 1 - min(float(np.corrcoef(pairs)[0, 1]) ** 2, 1.0)
    excess = 2 * unexplained * float(stdtrit(n - 2, 0.975)) ** 2 / (n - 2)
    reach = math.sqrt(1 + excess + math.sqrt(excess * (excess + 2)))
    return Estimate(value, value * math.sqrt(unexplained / (n - 1)), value / reach, value * reach)
