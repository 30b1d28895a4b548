"""Every family of kernels on so few points that they can also run as Python: `make test-uncompiled` says which lines are met."""

import numpy as np
import pytest

import fastent as fe
from fastent.runtime.threads import limit_threads
from tests import naive

N, CLASSES = 90, 3


@pytest.fixture(params=["float32", "float64"])
def points(request):
    rng = np.random.default_rng(0)
    y = np.arange(N) % CLASSES
    X = rng.standard_normal((N, 5)) + 1.5 * np.eye(CLASSES, 5)[y]
    X[7] = X[40]  # at distance 0
    return X.astype(request.param), y


@pytest.mark.parametrize("k", [1, 6, 30])
def test_neighbors(points, k):
    X, _ = points
    own = np.arange(N)
    indices, distances = naive.nearest(naive.squared_distances(X, X), k, own)
    found = fe.neighbors(X, k)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-6, atol=1e-7)


def test_angles(points):
    X, _ = points
    found = fe.neighbors(X, 4, metric="cosine")
    assert not naive.wrong_lists(found.indices, naive.wide_angles(X, X), np.arange(N), X).any()


def test_rows_on_a_grid_and_in_a_narrow_cone():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 4, (40, 6)).astype(float) + np.eye(40, 6)
    cone = 3 + 1e-9 * rng.standard_normal((40, 6))
    for X in (counts, cone):
        found = fe.neighbors(X, 3, metric="cosine")
        assert not naive.wrong_lists(found.indices, naive.wide_angles(X, X), np.arange(40), X).any()


def test_mixing(points):
    X, y = points
    near = fe.neighbors(X, 6)
    expected = naive.mixing(near.indices, near.distances, y, y, N)
    np.testing.assert_allclose(fe.mixing(near, y).purity, expected["purity"])
    np.testing.assert_allclose(fe.lisi(near, y, perplexity=2), naive.lisi(near.indices, near.distances, y, 2), rtol=1e-6)


def test_margins(points):
    X, y = points
    squared = naive.squared_distances(X, X)
    np.fill_diagonal(squared, np.inf)
    own = y[:, None] == y
    found = fe.margins(X, y)
    np.testing.assert_allclose(found.hit, np.sqrt(np.where(own, squared, np.inf).min(1)), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.miss, np.sqrt(np.where(own, np.inf, squared).min(1)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("normalize", [True, False])
def test_geometry(points, normalize):
    X, y = points
    expected = naive.geometry(X, y, normalize)
    found = fe.geometry(X, y, normalize=normalize)
    np.testing.assert_allclose(found.radius, expected["radius"], rtol=1e-6)
    np.testing.assert_allclose(found.distance, expected["distance"], rtol=1e-6)


def test_pairs(points):
    X, y = points
    np.testing.assert_allclose(fe.silhouette(X, y), naive.silhouette(X, y), atol=1e-6)
    found = fe.soft_nearest_neighbor_loss(X, y, temperature=2.0)
    np.testing.assert_allclose(found.per_point, naive.soft_nearest_neighbor(X, y, 2.0), rtol=1e-5)


def test_complexity(points):
    X, y = points
    found, expected = fe.complexity(X, y), naive.complexity(X, y)
    for name in ("n1", "t1", "lsc", "f1"):
        assert getattr(found, name) == pytest.approx(expected[name]), name


def test_all_in_one_call(points):
    X, y = points
    found = fe.measure(X, y, k=5)
    np.testing.assert_array_equal(found.neighbors.indices, fe.neighbors(X, 5).indices)
    np.testing.assert_array_equal(found.margins.miss_index, fe.margins(X, y).miss_index)


@pytest.mark.parametrize("options", [{}, {"activation": "relu", "hidden": (6, 4)}, {"batch_size": 20, "dtype": "float64"}])
@pytest.mark.parametrize("share_of_zeros", [0.0, 0.9])
def test_training(share_of_zeros, options):
    """Recorded radii are those of the layer at the end, computed from what it returns."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((N, 12)), np.arange(N) % CLASSES
    X[rng.random(X.shape) < share_of_zeros] = 0
    seen = {}
    run = fe.train(
        (X, y, X, y), seeds=2, epochs=2, test_every=1, threads=1, observe=lambda now: seen.update({now.epoch: now.hidden()}),
        **options,
    )  # fmt: skip
    for s in range(2):
        expected = naive.geometry(seen[2][s].astype(np.float64), y)["radius"]
        np.testing.assert_allclose(run.radius[s, -1, -1], expected, atol=1e-4)
    np.testing.assert_allclose(run.test_error[:, -1], run.misclassified(2).mean(1), atol=1 / N)


def test_threads_change_nothing(points):
    X, y = points
    both = fe.measure(X, y, k=5)
    with limit_threads(1):
        assert fe.measure(X, y, k=5).summary() == both.summary()


def test_inversions():
    epoch = np.arange(40)
    rng = np.random.default_rng(0)
    found = fe.find_inversion(epoch, np.abs(epoch - 20.0) + 0.1 * rng.standard_normal(40), np.linspace(1, 0, 40))
    assert found
    assert 15 < found.epoch < 25
