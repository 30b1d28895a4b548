"""Intervals over repetitions: that they are those of the textbooks, and cover as often as they say."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from fastent.intervals import Estimate, bootstrap, coefficient_of_variation, quotient, student_mean, wilson


def covers(found, truth):
    return found.low <= truth <= found.high


def test_a_mean_has_students_interval():
    values = np.random.default_rng(0).normal(3, 1, 7)
    found, expected = student_mean(values), ttest_1samp(values, 0)
    assert found.value == pytest.approx(values.mean())
    assert found.standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(7))
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    surer = student_mean(values, confidence=0.975)
    assert (surer.low, surer.high) == pytest.approx(tuple(expected.confidence_interval(0.975)))
    assert student_mean([*values, np.nan]) == found
    assert student_mean([0.05, 0.01], least=0).low == 0
    assert student_mean([0.06, 0.06, 0.06]) == Estimate(0.06, 0.0, 0.06, 0.06)


def test_one_network_has_no_interval_and_none_no_mean():
    assert student_mean([1.0, np.nan]).value == 1
    assert math.isnan(student_mean([1.0, np.nan]).low)
    assert math.isnan(student_mean([]).value)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_interval_of_a_mean_covers(n):
    """Of 1,000; a binomial of 95 % stays within 3 points but for one time in 100,000."""
    rng = np.random.default_rng(n)
    assert sum(covers(student_mean(rng.normal(0.065, 0.003, n)), 0.065) for _ in range(1000)) == pytest.approx(950, abs=30)
    skewed = sum(covers(student_mean(rng.lognormal(0, 0.5, n)), math.exp(0.125)) for _ in range(1000))
    assert skewed > 880


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("truth", [0.03, 0.2])
def test_the_interval_of_a_coefficient_of_variation_covers(n, truth):
    rng = np.random.default_rng(n)
    covered = sum(covers(coefficient_of_variation(rng.normal(0.065, truth * 0.065, n)), truth) for _ in range(1000))
    assert covered == pytest.approx(950, abs=30)


def test_a_coefficient_of_variation_has_no_unit():
    values = np.array([0.06, 0.066, 0.071, np.nan])
    found = coefficient_of_variation(values)
    assert found.value == pytest.approx(np.nanstd(values, ddof=1) / np.nanmean(values))
    assert found.low < found.value < found.high
    assert coefficient_of_variation(1000 * values) == pytest.approx(found)
    assert coefficient_of_variation([0.06, 0.06]) == Estimate(0, 0, 0, 0)
    assert coefficient_of_variation([1.0, 9.0, 2.0]).high == math.inf  # three values so far apart bound nothing above
    for none in ([], [0.06], [0.0, 0.0, 0.0], [np.nan, 0.06]):
        assert all(math.isnan(figure) for figure in coefficient_of_variation(none))


@pytest.mark.parametrize(("k", "n"), [(0, 4), (3, 10), (10, 10)])
def test_a_share_has_wilsons_interval(k, n):
    found, expected = wilson(k / n, n), binomtest(k, n).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_quotient_of_estimates():
    a, b = Estimate(2.0, 0.1, 1.8, 2.2), Estimate(1.0, 0.1, 0.8, 1.2)
    found, other = quotient(a, b), quotient(b, a)
    assert found.value == 2
    assert (other.low, other.high) == pytest.approx((1 / found.high, 1 / found.low))
    exact = quotient(a, Estimate(1.0, 0.0, 1.0, 1.0))
    assert (exact.low, exact.high) == pytest.approx((1.8, 2.2))
    assert quotient(a, Estimate(1.0, 2.0, -3.0, 5.0)).high == math.inf
    assert quotient(Estimate(1.0, 2.0, -3.0, 5.0), a).low == 0
    assert math.isnan(quotient(a, Estimate(0.0, 0.0, 0.0, 0.0)).value)
    assert math.isnan(quotient(a, student_mean([1.0])).low)
    assert math.isnan(quotient(a, student_mean([1.0])).high)


def test_the_interval_of_a_quotient_covers():
    rng = np.random.default_rng(0)
    draws = ((student_mean(rng.normal(0.08, 0.006, 8)), student_mean(rng.normal(0.065, 0.004, 5))) for _ in range(1000))
    assert sum(covers(quotient(above, below), 0.08 / 0.065) for above, below in draws) == pytest.approx(950, abs=35)


def test_bootstrap():
    values = np.random.default_rng(0).normal(3, 1, 400)
    found = bootstrap(values, np.mean)
    assert found.value == pytest.approx(values.mean())
    assert found.standard_error == pytest.approx(values.std(ddof=1) / 20, rel=0.05)
    assert found.low == pytest.approx(values.mean() - 1.96 * values.std(ddof=1) / 20, rel=0.01)
    assert bootstrap([1.0, np.nan], np.mean).value == 1
    assert math.isnan(bootstrap([1.0, np.nan], np.mean).low)
    assert math.isnan(bootstrap([], np.mean).value)
    assert bootstrap(np.ones((5, 2)), lambda v, axis: v.sum(-1).mean(axis)) == Estimate(2, 0, 2, 2)
