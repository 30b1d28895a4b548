"""The finite-size curve against SciPy, and how often its intervals cover."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from fastent.statistics.finite_size import finite_size

SIZES = np.repeat([1024, 1448, 2048, 2896, 4096, 5793, 8192], [5, 5, 5, 5, 5, 5, 1])
LIMIT, CORRECTION = 0.10, 500.0


def of_points(rng, curve, sizes=SIZES, scatter=0.25):
    """Values of overlapping subsets of the same points, each of which adds its own deviation."""
    deviations = scatter * rng.standard_normal(sizes.max())
    return np.array([curve(size) + rng.choice(deviations, size, replace=False).mean() for size in sizes])


def saturating(size):
    return LIMIT * (1 - CORRECTION / size)


def test_the_curve_is_the_weighted_fit():
    rng = np.random.default_rng(0)
    values = of_points(rng, saturating)
    found = finite_size(SIZES, values, 8192)
    best, _ = curve_fit(lambda P, e, c: e * (1 - c / P), SIZES, values, p0=(0.1, 100), sigma=1 / np.sqrt(SIZES))
    assert (found.limit.value, found.correction.value) == pytest.approx(tuple(best), rel=1e-5)
    exact = finite_size(SIZES, saturating(SIZES), 8192)
    assert exact.limit.value == pytest.approx(LIMIT)
    assert exact.correction.value == pytest.approx(CORRECTION)
    assert exact.next_doubling.value == pytest.approx(saturating(16384) / saturating(8192) - 1)


def test_intervals_cover():
    rng, n, covered = np.random.default_rng(1), 400, np.zeros(3)
    change = saturating(16384) / saturating(8192) - 1
    fits = [finite_size(SIZES, of_points(rng, saturating), 8192) for _ in range(n)]
    for found in fits:
        pairs = zip(found, (LIMIT, CORRECTION, np.nan, change), strict=True)
        covered += [each.low <= true <= each.high for each, true in pairs if not np.isnan(true)]
    assert (covered / n > 0.92).all()
    assert np.mean([found.misfit < 0.05 for found in fits]) < 0.08


def test_intervals_cover_with_noise_of_the_networks():
    """It matters most with all points, where nothing else differs between draws."""
    rng, noise = np.random.default_rng(3), 0.001
    change, n = saturating(16384) / saturating(8192) - 1, 300
    fits = [
        finite_size(
            SIZES, of_points(rng, saturating, scatter=0.05) + noise * rng.standard_normal(len(SIZES)), 8192, noise=noise**2
        )
        for _ in range(n)
    ]
    for name, truth in (("limit", LIMIT), ("correction", CORRECTION), ("next_doubling", change)):
        assert np.mean([getattr(found, name).low <= truth <= getattr(found, name).high for found in fits]) > 0.92


@pytest.mark.parametrize("growth", [0.1, 0.2])
def test_growth_without_end_is_no_limit(growth):
    """The next doubling of what grows with log P changes it as much as the last: seldom is it said to change by less."""
    rng = np.random.default_rng(2)

    def growing(size):
        return LIMIT * (1 + growth * np.log2(size / 8192))

    found = [finite_size(SIZES, of_points(rng, growing, scatter=0.05), 8192) for _ in range(300)]
    assert np.mean([each.next_doubling.high < growth for each in found]) <= 0.05
    assert np.mean([each.next_doubling.low < growth < each.next_doubling.high for each in found]) > 0.92
    assert np.mean([each.misfit < 0.05 for each in found]) > 0.5


def test_what_is_too_little_to_fit():
    assert np.isnan(finite_size([100, 100, 100], [0.1, 0.1, 0.2], 800).limit.value)
    assert np.isnan(finite_size([100, 200, 400], [0.1, np.nan, 0.2], 800).limit.value)
    assert np.isnan(finite_size([100, 200, 400], [0.0, 0.0, 0.0], 800).limit.value)
    two = finite_size([100, 100, 200, 200], [0.1, 0.11, 0.12, 0.13], 800)
    assert two.limit.low < two.limit.value < two.limit.high
    assert np.isnan(two.next_doubling.value)
    assert np.isnan(two.misfit)
    loud = finite_size([100, 200, 400, 800], [0.5, 0.0, 0.9, 0.1], 800)
    assert (loud.limit.low, loud.limit.high) == (0.0, 1.0)
    assert (loud.correction.low, loud.correction.high) == (-np.inf, np.inf)
