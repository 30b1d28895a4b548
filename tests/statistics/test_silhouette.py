import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits, load_iris
from sklearn.metrics import silhouette_samples

import fastent as fe
from fastent.runtime.threads import limit_threads
from tests import naive


def clusters(seed, n, d, n_classes, *, lattice=False, offset=0.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    labels[:2] = 0, 1
    if lattice:
        return rng.integers(0, 3, (n, d)).astype(float) + offset, labels
    return rng.standard_normal((n, d)) + rng.standard_normal((n_classes, d))[labels] + offset, labels


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 200),
    n_classes=st.integers(2, 40),
    d=st.sampled_from([1, 3, 40]),
    lattice=st.booleans(),
    offset=st.sampled_from([0.0, 1000.0]),
    method=st.sampled_from(["exact", "simplified", "squared"]),
)
def test_silhouettes_are_what_their_definition_says(seed, n, n_classes, d, lattice, offset, method):
    X, labels = clusters(seed, n, d, n_classes, lattice=lattice, offset=offset)
    found = fe.silhouette(X, labels, method=method)
    np.testing.assert_allclose(found, naive.silhouette(X, labels, method), atol=2e-6)
    assert (np.abs(found) <= 1).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16])
@pytest.mark.parametrize("order", ["C", "F"])
def test_scikit_learn_agrees(dtype, order):
    X, y = load_digits(return_X_y=True)
    X = np.asarray(X, dtype, order=order)
    np.testing.assert_allclose(fe.silhouette(X, y.astype(str)), silhouette_samples(X.astype(float), y), atol=1e-6)


def test_iris():
    X, y = load_iris(return_X_y=True)
    assert fe.silhouette(X, y).mean() == pytest.approx(0.5033, abs=2e-4)


def test_squared_silhouettes_are_those_of_squared_distances():
    X, y = clusters(0, 300, 5, 4)
    squared = naive.squared_distances(X, X)
    np.fill_diagonal(squared, 0)
    np.testing.assert_allclose(
        fe.silhouette(X, y, method="squared"), silhouette_samples(squared, y, metric="precomputed"), atol=1e-9
    )


def test_some_queries_as_among_all():
    X, y = clusters(1, 3000, 20, 5)
    every = fe.silhouette(X, y)
    rows = np.array([7, 2999, 0, 1500])
    np.testing.assert_allclose(fe.silhouette(X, y, queries=rows), every[rows], atol=1e-6)
    sample = fe.silhouette(X, y, queries=2000, seed=3)
    chosen = np.sort(np.random.default_rng(3).choice(3000, 2000, replace=False))
    np.testing.assert_allclose(sample, every[chosen], atol=1e-6)
    for method in ("simplified", "squared"):
        np.testing.assert_array_equal(
            fe.silhouette(X, y, queries=rows, method=method), fe.silhouette(X, y, method=method)[rows]
        )


def test_no_number_depends_on_threads_or_on_the_order_of_rows():
    X, y = clusters(2, 2500, 10, 3)
    every = fe.silhouette(X, y)
    with limit_threads(1):
        np.testing.assert_array_equal(fe.silhouette(X, y), every)
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_allclose(fe.silhouette(X[order], y[order]), every[order], atol=1e-6)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((10, 10)))[0]
    np.testing.assert_allclose(fe.silhouette(X @ rotation + 5, y), every, atol=2e-6)


def test_a_memory_map_is_read_block_by_block(tmp_path):
    X, y = clusters(3, 5000, 16, 4)
    np.save(tmp_path / "X.npy", X.astype(np.float16))
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    rows = np.arange(0, 5000, 50)
    np.testing.assert_allclose(
        fe.silhouette(mapped, y, queries=rows), fe.silhouette(np.array(mapped), y)[rows], rtol=1e-6, atol=1e-7
    )


def test_extreme_values():
    X, y = clusters(4, 200, 3, 3)
    for factor in (1e-30, 1e30):
        np.testing.assert_allclose(fe.silhouette(X * factor, y), fe.silhouette(X, y), atol=1e-6)


def test_collapsed_classes():
    X = np.repeat([[0.0, 0.0], [3.0, 4.0]], [5, 7], 0)
    for method in ("exact", "simplified", "squared"):
        np.testing.assert_array_equal(fe.silhouette(X, np.repeat([0, 1], [5, 7]), method=method), 1)
        np.testing.assert_array_equal(fe.silhouette(0 * X, np.repeat([0, 1], [5, 7]), method=method), 0)
