"""Ratios of paired standard deviations against Pitman and Morgan's test, and how often intervals cover."""

import numpy as np
import pytest
from scipy.stats import chi2, pearsonr

from fastent.statistics.spread_ratio import log_share, relative_spread, spread_ratio


def test_at_the_ends_of_the_interval_sums_and_differences_are_just_uncorrelated():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(12)
    y = 0.6 * x + rng.standard_normal(12)
    found = spread_ratio(x, y)
    assert found.value == pytest.approx(x.std(ddof=1) / y.std(ddof=1))
    for end in (found.low, found.high):
        assert pearsonr(x / end + y, x / end - y).pvalue == pytest.approx(0.05)
    turned = spread_ratio(y, x)
    assert (turned.low, turned.high) == pytest.approx((1 / found.high, 1 / found.low))


@pytest.mark.parametrize(("ratio", "correlation", "n"), [(1.0, 0.0, 5), (0.5, 0.8, 10), (2.0, -0.5, 30)])
def test_intervals_cover(ratio, correlation, n):
    rng, covered = np.random.default_rng(1), 0
    for _ in range(400):
        x, y = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], n).T
        found = spread_ratio(ratio * x, y)
        covered += found.low <= ratio <= found.high
    assert covered > 0.92 * 400


def test_what_does_not_vary():
    assert np.isnan(spread_ratio([1, 2, 3], [2, 2, 2]).value)
    assert np.isnan(spread_ratio([1], [2]).value)
    still = spread_ratio([2, 2, 2], [1, 2, 3])
    assert still.value == 0
    assert np.isnan(still.high)
    two = spread_ratio([1, 3, np.nan], [1, 2, 7])
    assert two.value == 2
    assert np.isnan(two.high)
    same = spread_ratio([1, 2, 4], [1, 2, 4])
    assert (same.low, same.high) == pytest.approx((1, 1))


def test_spread_within_groups():
    groups = [np.array([1.0, 2.0, 4.0]), np.array([7.0, np.nan, 9.0]), np.array([5.0]), np.array([])]
    found = relative_spread(groups)
    squares = groups[0].var() * 3 + 2
    assert found.value**2 == pytest.approx(squares / 3)
    assert (found.low**2, found.high**2) == pytest.approx(tuple(squares / chi2.ppf((0.975, 0.025), 3)))
    assert np.isnan(relative_spread([np.array([1.0])]).value)


def test_no_share_has_an_infinite_logarithm():
    found = log_share([0, 0.1, 1], 1000)
    assert np.isfinite(found).all()
    assert found[1] == pytest.approx(np.log(0.1), abs=0.005)
    assert found[2] == pytest.approx(0, abs=0.001)
