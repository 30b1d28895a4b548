"""Several means at once: coverage together, and the set that may hold the largest, by simulation."""

import numpy as np
import pytest
from scipy.stats import t as student

from fastent.statistics.intervals import student_mean
from fastent.statistics.simultaneous import jackknife, may_be_largest, simultaneous_means


def test_one_column_has_students_interval():
    values = np.random.default_rng(0).normal(3, 1, 9)
    found, expected = simultaneous_means(values[:, None])[0], student_mean(values)
    assert found.value == expected.value
    assert found.standard_error == pytest.approx(expected.standard_error)
    assert found.low == pytest.approx(expected.low, abs=0.06 * (expected.high - expected.low))
    equal = simultaneous_means(np.stack([values] * 5, axis=1))
    assert equal[3].high == pytest.approx(found.high)


def test_independent_columns_have_wider_intervals():
    values = np.random.default_rng(0).standard_normal((400, 10))
    found = simultaneous_means(values)[0]
    sidak = student.ppf((1 + 0.95**0.1) / 2, 399)
    assert (found.high - found.value) / found.standard_error == pytest.approx(sidak, rel=0.03)


def test_intervals_hold_together():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        values = rng.standard_normal((8, 6)) + rng.standard_normal((8, 1))
        held += all(one.low <= 0 <= one.high for one in simultaneous_means(values))
    assert held >= 0.92 * 400


@pytest.mark.parametrize("n", [5, 60])
def test_the_largest_is_seldom_missed(n):
    rng = np.random.default_rng(2)
    means = np.array([0.0, 0.1, 0.3, 0.3, 0.0, -1.0])
    missed = np.zeros(6)
    for _ in range(400):
        missed += ~may_be_largest(means + rng.standard_normal((n, 6)) + rng.standard_normal((n, 1)))
    assert missed[2] <= 0.08 * 400
    assert missed[3] <= 0.08 * 400
    assert missed[5] > 0.3 * 400


def test_a_clear_maximum_is_alone():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.1, (30, 7)) + np.array([0, 0, 0, 1, 0, 0, 0])
    assert may_be_largest(values).tolist() == [False] * 3 + [True] + [False] * 3
    assert may_be_largest(np.tile([1.0, 2.0, 2.0], (4, 1))).tolist() == [False, True, True]


def test_what_is_unknown():
    values = np.array([[1.0, np.nan, 0.0], [1.1, 2.0, 0.1]])
    assert not may_be_largest(values)[1]
    assert may_be_largest(values[:1]).tolist() == [True, False, True]
    assert np.isnan(simultaneous_means(values)[1].low)
    assert simultaneous_means(values)[1].value == 2
    assert np.isnan(simultaneous_means(values[:1])[0].low)
    assert simultaneous_means(np.array([[0.1, 0.9], [0.9, 0.2]]), least=0, most=1)[0].high == 1


def test_pseudo_values_of_a_mean_are_its_repetitions():
    rows = np.random.default_rng(0).standard_normal((12, 3))
    np.testing.assert_allclose(jackknife(lambda values, axis: values.mean(axis), rows), rows)
    spread = jackknife(lambda values, axis: values.std(axis, ddof=1), rows)
    np.testing.assert_allclose(spread.mean(0), rows.std(0, ddof=1), rtol=0.2)
