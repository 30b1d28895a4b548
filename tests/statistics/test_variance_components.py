"""Variance components against the analysis of variance by hand, a simulation, and each other."""

import numpy as np
import pytest
from scipy.stats import chi2

from fastent.errors import FastentError
from fastent.statistics.variance_components import variance_components


def table(rng, rows, columns, between_rows, between_columns, residual):
    return (
        10
        + between_rows * rng.standard_normal((rows, 1))
        + between_columns * rng.standard_normal((1, columns))
        + residual * rng.standard_normal((rows, columns))
    )


def test_components_by_hand():
    rng = np.random.default_rng(0)
    values = table(rng, 5, 4, 1, 0.5, 0.2)
    found = variance_components(values)
    total = ((values - values.mean()) ** 2).sum()
    of_rows = 4 * ((values.mean(1) - values.mean()) ** 2).sum()
    of_columns = 5 * ((values.mean(0) - values.mean()) ** 2).sum()
    residual = (total - of_rows - of_columns) / 12
    assert found.mean == pytest.approx(values.mean())
    assert found.residual.value**2 == pytest.approx(residual)
    assert found.rows.value**2 == pytest.approx((of_rows / 4 - residual) / 4)
    assert found.columns.value**2 == pytest.approx((of_columns / 3 - residual) / 5)
    # Between the rows of one column: the mean over columns of the variance between rows.
    assert found.one_column.value**2 == pytest.approx(values.var(0, ddof=1).mean())
    low, high = (np.sqrt(12 * residual / quantile) for quantile in chi2.ppf((0.975, 0.025), 12))
    assert (found.residual.low, found.residual.high) == pytest.approx((low, high))


def test_rows_and_columns_are_exchangeable():
    values = table(np.random.default_rng(1), 4, 6, 1, 0.5, 0.3)
    here, there = variance_components(values), variance_components(values.T)
    assert tuple(here.rows) == pytest.approx(tuple(there.columns))
    assert tuple(here.residual) == pytest.approx(tuple(there.residual))
    scaled = variance_components(3 * values + 7)
    assert tuple(scaled.rows) == pytest.approx(tuple(3 * np.array(here.rows)))


def test_one_column_has_the_exact_interval_of_a_standard_deviation():
    values = np.array([1.0, 2.0, 4.0, 7.0])
    found = variance_components(values[:, None])
    low, high = (np.sqrt(3 * values.var(ddof=1) / quantile) for quantile in chi2.ppf((0.975, 0.025), 3))
    assert (found.one_column.low, found.one_column.high) == pytest.approx((low, high))
    assert np.isnan([found.rows.value, found.columns.value, found.residual.value]).all()


def test_equal_values_do_not_vary():
    found = variance_components(np.full((3, 4), 0.1))
    assert [each.value for each in found[1:]] == pytest.approx([0, 0, 0, 0])
    assert [each.high for each in found[1:]] == pytest.approx([0, 0, 0, 0])


@pytest.mark.parametrize(
    ("rows", "columns", "between_rows", "between_columns", "residual"),
    [(7, 10, 1, 0.3, 0.3), (3, 10, 1, 0.3, 0.3), (7, 3, 0.1, 0.3, 1), (3, 2, 0, 0, 1)],
)
def test_intervals_cover(rows, columns, between_rows, between_columns, residual):
    rng, covered, n = np.random.default_rng(2), np.zeros(4), 400
    truth = (between_rows, between_columns, residual, np.hypot(between_rows, residual))
    for _ in range(n):
        found = variance_components(table(rng, rows, columns, between_rows, between_columns, residual))
        covered += [each.low <= true <= each.high for each, true in zip(found[1:], truth, strict=True)]
    assert (covered / n > 0.92).all()


@pytest.mark.parametrize("values", [np.ones((1, 3)), np.ones(3), np.ones((2, 0)), np.array([[1.0, np.nan], [2.0, 3.0]])])
def test_bad_tables(values):
    with pytest.raises(FastentError, match="table"):
        variance_components(values)
