import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import pdist
from sklearn.datasets import load_digits

import fastent as fe
from fastent.runtime.threads import limit_threads
from fastent.search.sketch import typical_scale
from fastent.search.sweep import LabelledPoints
from fastent.statistics.soft_nearest_neighbor import temperature_nodes
from tests import naive
from tests.awkward import KINDS, data_set
from tests.statistics.test_silhouette import clusters


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(4, 200),
    n_classes=st.integers(2, 30),
    d=st.sampled_from([1, 3, 40]),
    lattice=st.booleans(),
    offset=st.sampled_from([0.0, 1000.0]),
    temperature=st.sampled_from([1e-6, 1e-3, 0.1, 1.0, 50.0, 1e6]),
)
def test_the_loss_is_what_its_definition_says(seed, n, n_classes, d, lattice, offset, temperature):
    X, labels = clusters(seed, n, d, n_classes, lattice=lattice, offset=offset)
    labels[:3] = 0, 0, 1
    found = fe.soft_nearest_neighbor_loss(X, labels, temperature)
    expected = naive.soft_nearest_neighbor(X, labels, temperature)
    np.testing.assert_allclose(found.per_point, expected, rtol=1e-5, atol=1e-5)
    assert found.loss == pytest.approx(np.nanmean(expected), rel=1e-5, abs=1e-5)
    assert found.alone == np.isnan(expected).sum()


def test_median_temperature_is_that_of_all_pairs_of_few_points():
    X, y = clusters(0, 300, 4, 3)
    found = fe.soft_nearest_neighbor_loss(X, y)
    assert found.temperature == pytest.approx(np.median(pdist(X, "sqeuclidean")))
    assert found.loss == pytest.approx(np.nanmean(naive.soft_nearest_neighbor(X, y, found.temperature)), rel=1e-6)


def test_exponents_are_held_where_points_are_far_from_each_other_beside_the_temperature():
    for seed in range(20):
        X, labels = clusters(seed, 190, 3, 9)
        found = fe.soft_nearest_neighbor_loss(X, labels, 0.1)
        np.testing.assert_allclose(found.per_point, naive.soft_nearest_neighbor(X, labels, 0.1), rtol=2e-6, atol=2e-6)


@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(sorted(KINDS)))
def test_the_median_of_awkward_points(seed, kind):
    X = data_set(kind, seed, largest=300)[0]
    points = LabelledPoints(X, np.zeros(len(X), np.int64), typical_scale(X), 1)
    expected = np.median(pdist(X.astype(np.float64), "sqeuclidean"))
    if expected == 0:
        with pytest.raises(fe.FastentError, match="more than half of the points are equal"):
            temperature_nodes(points, "median", 0)
    else:
        np.testing.assert_allclose(temperature_nodes(points, "median", 0), [expected], rtol=1e-11)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_optimal_temperature(seed):
    X, y = clusters(seed, 300, 4, 3)
    found = fe.soft_nearest_neighbor_loss(X, y, "optimal")

    def loss(log_temperature):
        return np.nanmean(naive.soft_nearest_neighbor(X, y, np.exp(log_temperature)))

    middle = np.log(np.median(pdist(X, "sqeuclidean")))
    best = minimize_scalar(loss, bounds=(middle - 6, middle + 2), method="bounded", options={"xatol": 1e-6})
    assert found.loss == pytest.approx(best.fun, rel=1e-6)
    assert np.log(found.temperature) == pytest.approx(best.x, abs=0.01)
    again = fe.soft_nearest_neighbor_loss(X, y, found.temperature)
    np.testing.assert_allclose(again.per_point, found.per_point, atol=1e-5)


def test_digits():
    X, y = load_digits(return_X_y=True)
    found = fe.soft_nearest_neighbor_loss(X, y)
    np.testing.assert_allclose(found.per_point, naive.soft_nearest_neighbor(X, y, found.temperature), rtol=1e-6)


def test_hot_points_all_weigh_the_same():
    X, y = clusters(5, 400, 3, 4)
    counts = np.bincount(y)[y]
    expected = -np.log((counts - 1) / (len(y) - 1)).mean()
    assert fe.soft_nearest_neighbor_loss(X, y, 1e12).loss == pytest.approx(expected, rel=1e-6)


def test_collapsed_classes_have_no_loss():
    X = np.repeat([[0.0, 0.0], [30.0, 40.0]], 6, 0)
    assert fe.soft_nearest_neighbor_loss(X, np.repeat([0, 1], 6), 1.0).loss == 0


def test_terms_are_skipped_only_within_the_bound_that_is_stated():
    # Few are near in units of the temperature: sums are taken again from the nearest neighbours.
    X, y = clusters(6, 9000, 5, 3)
    found = fe.soft_nearest_neighbor_loss(X, y, 1e-4)
    rows = np.arange(0, 9000, 300)
    squared = naive.squared_distances(X[rows], X)
    squared[np.arange(len(rows)), rows] = np.inf
    near = squared.min(1, keepdims=True)
    own = np.where(y[rows][:, None] == y, squared, np.inf)
    nearest = own.min(1, keepdims=True)
    expected = (
        np.log(np.exp((near - squared) / 1e-4).sum(1))
        - np.log(np.exp((nearest - own) / 1e-4).sum(1))
        + ((nearest - near) / 1e-4)[:, 0]
    )
    np.testing.assert_allclose(found.per_point[rows], expected, rtol=1e-6, atol=1e-8 + found.error_bound)
    assert found.error_bound < 1e-6


def test_some_queries_threads_and_order():
    X, y = clusters(7, 2500, 12, 5)
    every = fe.soft_nearest_neighbor_loss(X, y, 3.0)
    rows = np.array([2400, 3, 77])
    some = fe.soft_nearest_neighbor_loss(X, y, 3.0, queries=rows)
    np.testing.assert_allclose(some.per_point, every.per_point[rows], rtol=1e-6)
    with limit_threads(1):
        np.testing.assert_array_equal(fe.soft_nearest_neighbor_loss(X, y, 3.0).per_point, every.per_point)
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_allclose(
        fe.soft_nearest_neighbor_loss(X[order], y[order], 3.0).per_point, every.per_point[order], rtol=1e-5
    )
    sample = fe.soft_nearest_neighbor_loss(X, y, 3.0, queries=500)
    assert sample.interval.low < every.loss < sample.interval.high


def test_units_do_not_matter():
    X, y = clusters(8, 300, 4, 3)
    found = fe.soft_nearest_neighbor_loss(X, y)
    for factor in (1e-15, 1e15):
        scaled = fe.soft_nearest_neighbor_loss(X * factor, y)
        assert scaled.temperature == pytest.approx(found.temperature * factor**2)
        assert scaled.loss == pytest.approx(found.loss, rel=1e-6)


def test_what_the_loss_leaves_out_is_named():
    X, y = clusters(9, 400, 5, 3)
    assert fe.soft_nearest_neighbor_loss(X, y).notes == ()
    y[5] = 8
    assert fe.soft_nearest_neighbor_loss(X, y).notes == (
        "class 8 has one point: the soft nearest neighbour loss leaves the point out",
    )
    few = fe.soft_nearest_neighbor_loss(X, y, queries=np.arange(10, 40))
    assert few.notes[0].endswith("the interval of the soft nearest neighbour loss may be too narrow")
    # Nothing is certain of rows that were not asked, even where every query is pure.
    far = np.repeat([[0.0], [1e3]], 200, 0) + np.random.default_rng(0).random((400, 1))
    pure = fe.soft_nearest_neighbor_loss(far, np.repeat([0, 1], 200), 1.0, queries=100)
    assert pure.loss == 0
    assert pure.interval.low == 0 < pure.interval.high


@pytest.mark.parametrize("temperature", [1e-290, 1e-306, 1e-308, 1e-310, 5e-324])
def test_temperatures_about_the_least_number(temperature):
    X = np.array([[0.0], [1.0], [1.5], [3.0], [3.0], [7.0]])
    y = np.array([0, 0, 1, 1, 1, 0])
    # The gap between the nearest point of the own class and the nearest of all, in squared distances.
    gap = np.array([0.0, 1 - 0.25, 2.25 - 0.25, 0.0, 0.0, 36 - 16])
    found = fe.soft_nearest_neighbor_loss(X, y, temperature)
    with np.errstate(over="ignore"):
        expected = gap / temperature
    np.testing.assert_allclose(found.per_point, expected, rtol=1e-12, atol=np.log(3))
    assert not np.isnan(found.loss)


def test_a_median_in_a_gap_is_said_to_depend_on_the_sample():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 1200)
    X = (rng.standard_normal((1200, 6)) + 8 * y[:, None]).astype(np.float32)
    found = fe.soft_nearest_neighbor_loss(X, y)
    assert found.notes[0].startswith("the median squared distance of a sample lies in a gap, from ")
    assert fe.soft_nearest_neighbor_loss(X, y, temperature=50.0).notes == ()
    assert fe.soft_nearest_neighbor_loss(X[:1000], y[:1000]).notes == ()  # all pairs have one median


def test_infinite_losses_are_named():
    X, y = np.random.default_rng(0).standard_normal((50, 5)), np.arange(50) % 2
    found = fe.soft_nearest_neighbor_loss(X, y, temperature=1e-310)
    beyond = int(np.isinf(found.per_point).sum())
    assert beyond > 0
    assert any(f"{beyond} queries is infinite" in note for note in found.notes)
    assert "loss inf at temperature 1e-310" in repr(found)
    large = fe.soft_nearest_neighbor_loss(X, y, temperature=1e-300)
    assert np.isfinite(large.loss)
    assert len(repr(large)) < 80
