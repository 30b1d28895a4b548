"""Intervals over repetitions: that they are those of the textbooks, and cover as often as they say."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp
from sklearn.datasets import load_digits

import fastent as fe
from fastent.arrays.validation import Labels
from fastent.statistics.intervals import (
    MINIMUM_QUERIES,
    SKEWED,
    Estimate,
    balanced_mean,
    bootstrap,
    class_means,
    coefficient_of_variation,
    heaviest,
    pearson,
    quotient,
    ratio_of_means,
    sample_mean,
    student_mean,
    wilson,
)
from fastent.statistics.margins import margins_from


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


def digits_with_errors():
    """Digits of which 9 have a wrong label, and all that is measured of them."""
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    wrong = rng.choice(len(y), 9, replace=False)
    y[wrong] = (y[wrong] + rng.integers(1, 10, 9)) % 10
    return X, y


def rare(rng, n):
    """Half a percent lie at the other end."""
    return (rng.random(n) < 0.005).astype(float)


BOUNDED = {
    "rare errors": (rare, 0, 1),
    "purity": (lambda rng, n: np.where(rng.random(n) < 0.005, 0, np.where(rng.random(n) < 0.05, 0.9, 1)), 0, 1),
    "one dominating class": (lambda rng, n: np.where(rng.random(n) < 0.02, rng.random(n), 1), 0, 1),
    "silhouettes": (lambda rng, n: rng.normal(0.3, 0.1, n) * np.where(rng.random(n) < 0.005, -1, 1), -1, 1),
    "LISI": (lambda rng, n: 1 + np.minimum(rng.gamma(0.5, 0.3, n), 9), 1, 10),
    "even": (lambda rng, n: rng.beta(5, 5, n), 0, 1),
}
UNBOUNDED = {
    "exponential": lambda rng, n: rng.exponential(size=n),
    "log-normal": lambda rng, n: rng.lognormal(0, 1, n),
    "heavy log-normal": lambda rng, n: rng.lognormal(0, 1.5, n),
    "Pareto": lambda rng, n: rng.pareto(2.5, n),
    "normal": lambda rng, n: rng.normal(0, 1, n),
}


def share_covered(estimate, rows, truth, size, draws=600, seed=0):
    """How often intervals from samples of rows hold the value of all of them; none may have width 0."""
    rng = np.random.default_rng(seed)
    found = [estimate(rng.choice(rows, size, replace=False, shuffle=False)) for _ in range(draws)]
    assert all(each.low < each.high for each in found)
    return np.mean([covers(each, truth) for each in found])


@pytest.mark.parametrize("size", [1, 5, 20, 50, 200, 1500])
@pytest.mark.parametrize("kind", BOUNDED)
def test_means_of_bounded_values_are_covered_by_any_number_of_queries(kind, size):
    draw, least, most = BOUNDED[kind]
    values = draw(np.random.default_rng(1), 2000)

    def estimate(rows):
        return sample_mean(values[rows], 2000, least=least, most=most)

    assert share_covered(estimate, 2000, values.mean(), size) >= 0.93


@pytest.mark.parametrize("size", [MINIMUM_QUERIES, 100, 200, 1000])
@pytest.mark.parametrize("kind", UNBOUNDED)
def test_means_of_unbounded_values_are_covered_from_fifty_queries_on(kind, size):
    values = UNBOUNDED[kind](np.random.default_rng(2), 20_000)

    def estimate(rows):
        return sample_mean(values[rows], 20_000, others=-values[rows])

    assert share_covered(estimate, 20_000, values.mean(), size) >= 0.93


@pytest.mark.parametrize("size", [MINIMUM_QUERIES, 200])
@pytest.mark.parametrize("tails", ["mislabelled", "Pareto", "log-normal"])
def test_ratios_are_covered(tails, size):
    rng = np.random.default_rng(3)
    hit, miss = 1 + 0.1 * rng.random((2, 20_000)) + np.array([[0], [4]])
    if tails == "mislabelled":
        wrong = rng.random(20_000) < 0.005
        hit[wrong], miss[wrong] = miss[wrong], hit[wrong]
    else:
        hit, miss = UNBOUNDED[tails](rng, 40_000).reshape(2, -1) + 0.1
    truth = hit.sum() / (hit.sum() + miss.sum())

    def estimate(rows):
        return ratio_of_means(hit[rows], miss[rows], 20_000)

    assert share_covered(estimate, 20_000, truth, size) >= 0.93


@pytest.fixture(scope="module")
def measured():
    X, y = digits_with_errors()
    return fe.measure(X, y, metrics=["mixing", "margins"]), fe.soft_nearest_neighbor_loss(X, y, "optimal")


@pytest.mark.large
@pytest.mark.parametrize("size", [20, MINIMUM_QUERIES, 100, 200])
def test_what_is_measured_of_mislabelled_digits_is_covered(measured, size):
    whole, y = measured[0], measured[0].labels
    near, labels, truth = whole.neighbors, Labels(y, np.arange(10)), whole.summary()
    rng = np.random.default_rng(size)
    found = dict.fromkeys(("overlap", "balanced_overlap", "entropy", "error", "relative", "margin", "n2", "n3"), 0)
    for _ in range(150):
        rows = rng.choice(len(y), size, replace=False)
        sample = fe.mixing(fe.Neighbors(near.indices[rows], near.distances[rows], rows, n=len(y)), y, matrix=False)
        hits, misses = (
            (distance[rows, None] ** 2, index[rows, None])
            for distance, index in (
                (whole.margins.hit, whole.margins.hit_index),
                (whole.margins.miss, whole.margins.miss_index),
            )
        )
        between = margins_from(rows, hits, misses, labels, unit=False)
        for part, name in ((sample, "mixing"), (between, "margins")):
            for statistic, interval in part.intervals.items():
                assert interval.low < interval.high
                found[statistic] += covers(interval, truth[f"{name}/{statistic}"])
    assert min(found.values()) >= 0.93 * 150, found


@pytest.mark.large
@pytest.mark.parametrize("size", [MINIMUM_QUERIES, 100, 200])
def test_the_soft_nearest_neighbour_loss_of_mislabelled_digits_is_covered(measured, size):
    X, y = digits_with_errors()

    def estimate(rows):
        return fe.soft_nearest_neighbor_loss(X, y, measured[1].temperature, queries=rows).interval

    assert share_covered(estimate, len(y), measured[1].loss, size, draws=150) >= 0.93


@pytest.mark.parametrize("asked", [60, 100, 115, 119])
@pytest.mark.parametrize("errors", [1, 2, 3, 8])
def test_a_few_rows_that_were_not_asked_may_be_the_errors(errors, asked):
    wrong = (np.arange(120) < errors).astype(float)

    def estimate(rows):
        return sample_mean(wrong[rows], 120, least=0, most=1)

    assert share_covered(estimate, 120, errors / 120, asked) >= 0.93


def test_only_what_is_certain_has_no_width():
    ones = np.ones(20)
    assert sample_mean(ones, 20, least=0, most=1) == Estimate(1, 0, 1, 1)
    assert sample_mean(np.array([*ones, np.nan]), 21, least=0, most=1) == Estimate(1, 0, 1, 1)  # all were asked
    almost = sample_mean(ones, 21, least=0, most=1)
    assert 0 <= almost.low < almost.high == 1
    alone = sample_mean(ones[:1], 1000, least=0, most=1)
    assert alone.low < 0.3
    assert alone.standard_error > 0
    # Nothing says how large values without bounds may be.
    unknown = sample_mean(np.zeros(20), 1000)
    assert unknown.value == 0
    assert math.isnan(unknown.low)
    assert sample_mean(np.array([np.nan]), 5).value != sample_mean(np.array([np.nan]), 5).value
    for scale in (1e-170, 1e170):  # squares neither vanish nor overflow
        values = scale * np.random.default_rng(0).normal(size=50)
        found, usual = sample_mean(values, 1000), sample_mean(values / scale, 1000)
        assert tuple(found) == pytest.approx(tuple(scale * np.array(usual)), rel=1e-9)


def test_a_class_without_queries_leaves_the_mean_over_classes_open():
    values, codes, counts = np.array([1.0, 1.0, 0.5, 0.5]), np.array([0, 0, 1, 1]), np.array([2, 2, 5])
    open_mean = balanced_mean(class_means(values, codes, counts, least=0, most=np.ones(3)), counts, least=0, most=np.ones(3))
    assert math.isnan(open_mean.value)
    assert (open_mean.low, open_mean.high) == pytest.approx((1.5 / 3, 2.5 / 3))
    assert balanced_mean(
        class_means(values, codes, counts[:2], least=0, most=np.ones(2)), counts[:2], least=0, most=np.ones(2)
    ) == Estimate(0.75, 0, 0.75, 0.75)


def test_one_value_that_outweighs_the_others_is_found():
    values = np.random.default_rng(0).normal(size=100)
    assert heaviest(values)[1] < SKEWED
    values[[17, 40]] = 50, np.nan
    assert heaviest(values)[0] == 17
    assert heaviest(values)[1] > SKEWED
    assert heaviest(np.ones(3))[1] == 0


def test_a_correlation_has_fishers_interval():
    from scipy.stats import pearsonr

    rng = np.random.default_rng(0)
    a = rng.standard_normal(10)
    b = 3 * a + rng.standard_normal(10)
    found, expected = pearson(a, b), pearsonr(a, b)
    interval = expected.confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((expected.statistic, interval.low, interval.high))
    assert pearson(a, 2 * a).high <= 1
    assert math.isnan(pearson(a[:3], b[:3]).value)
    assert math.isnan(pearson(a, np.ones(10)).value)
