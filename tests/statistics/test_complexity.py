import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.csgraph import minimum_spanning_tree as scipy_tree
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

import fastent as fe
from fastent.runtime.threads import limit_threads
from fastent.search.exact_index import ExactIndex
from fastent.search.spanning_tree import minimum_spanning_tree
from fastent.statistics.complexity import interpolated_points
from tests import naive
from tests.statistics.test_silhouette import clusters


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 120),
    n_classes=st.integers(2, 20),
    d=st.sampled_from([1, 2, 5, 40]),
    lattice=st.booleans(),
    offset=st.sampled_from([0.0, 1024.0]),
)
def test_complexity_is_what_its_definition_says(seed, n, n_classes, d, lattice, offset):
    X, labels = clusters(seed, n, d, n_classes, lattice=lattice, offset=offset)
    found, expected = fe.complexity(X, labels), naive.complexity(X, labels)
    np.testing.assert_array_equal(found.border, expected["border"])
    np.testing.assert_allclose(found.radius, expected["radius"], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(found.local_set, expected["local_set"])
    np.testing.assert_array_equal(found.absorbed, expected["absorbed"])
    assert found.t1 == pytest.approx(expected["t1"])
    for name in ("n1", "lsc"):
        assert getattr(found, name) == pytest.approx(expected[name])
    assert found.f1 == pytest.approx(expected["f1"], rel=1e-6)
    assert (found.n2, found.n3) == (fe.margins(X, labels).n2, fe.margins(X, labels).n3)


def test_spheres_cover_separate_classes_in_one_each():
    rng = np.random.default_rng(0)
    X = np.repeat([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]], 500, 0) + 0.01 * rng.standard_normal((1500, 2))
    labels = np.repeat([0, 1, 2], 500)
    found = fe.complexity(X, labels)
    assert found.t1 == pytest.approx(3 / 1500)
    assert fe.complexity(X, rng.permutation(labels)).t1 > 0.5
    for c in range(3):
        kept = X[(labels == c) & ~found.absorbed]
        assert (
            (np.linalg.norm(X[labels == c][:, None] - kept, axis=2) < found.radius[(labels == c) & ~found.absorbed])
            .any(1)
            .all()
        )


@pytest.mark.spawn
def test_digits_and_scikit_learn():
    X, y = load_digits(return_X_y=True)
    found, expected = fe.complexity(X, y), naive.complexity(X, y)
    for name in ("n1", "t1", "lsc", "f1"):
        assert getattr(found, name) == pytest.approx(expected[name]), name
    made_up = interpolated_points(X, y, seed=0)
    nearest = KNeighborsClassifier(1).fit(X, y).predict(made_up.points)
    assert found.n4 == pytest.approx(np.mean(nearest != made_up.classes))


def spanning_tree(X):
    index = ExactIndex(X)
    return minimum_spanning_tree(index, index.nearest(max(1, min(8, len(X) - 1))))


@pytest.mark.parametrize("n", [1, 2, 3, 500])
@pytest.mark.parametrize("d", [1, 2, 20])
@pytest.mark.parametrize("kind", ["points", "lattice", "repeated", "clusters"])
def test_spanning_tree_is_the_one_of_kruskal(n, d, kind):
    rng = np.random.default_rng(n + d)
    X = rng.standard_normal((n, d))
    if kind == "lattice":
        X = rng.integers(0, 4, (n, d)).astype(float)
    elif kind == "repeated":
        X = np.repeat(X, 5, 0)[:n]
    elif kind == "clusters":
        X += 100 * np.repeat(np.arange(5), -(-n // 5))[:n, None]
    n = min(n, 120)
    found = spanning_tree(X[:n])
    expected = naive.spanning_tree(X[:n])
    assert sorted(map(tuple, found.edges.tolist())) == sorted((i, j) for i, j, _ in expected)
    assert found.squared.sum() == pytest.approx(sum(length for _, _, length in expected))


@pytest.mark.large
@pytest.mark.parametrize("shape", ["gauss", "classes", "far apart"])
def test_scipy_finds_a_tree_of_the_same_length(shape):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((5000, 12))
    if shape != "gauss":
        X += rng.standard_normal((6, 12))[rng.integers(0, 6, 5000)] * (3 if shape == "classes" else 1e4)
    found = spanning_tree(X)
    squared = np.maximum((X**2).sum(1)[:, None] + (X**2).sum(1) - 2 * X @ X.T, 1e-300)
    assert len(np.unique(found.edges, axis=0)) == 4999
    # No edge of a shortest tree is longer than the longest of any other: scipy need not sort the rest.
    squared[squared > (1 + 1e-6) * found.squared.max()] = 0
    expected = scipy_tree(np.sqrt(squared))
    assert expected.nnz == 4999
    assert np.sqrt(found.squared).sum() == pytest.approx(expected.sum(), rel=1e-6)


def test_trees_do_not_depend_on_threads():
    X = np.random.default_rng(1).standard_normal((6000, 30))
    found = spanning_tree(X)
    with limit_threads(1):
        again = spanning_tree(X)
    np.testing.assert_array_equal(np.sort(found.edges, 0), np.sort(again.edges, 0))


def test_classes_that_have_collapsed():
    X = np.repeat([[0.0, 0.0], [3.0, 4.0], [9.0, 0.0]], 4, 0)
    found = fe.complexity(X, np.repeat([0, 1, 2], 4))
    assert (found.n2, found.n3, found.n4, found.f1) == (0, 0, 0, 0)
    assert found.t1 == pytest.approx(3 / 12)  # one sphere a class
    assert found.n1 == pytest.approx(3 / 12)  # edges from row 0 to 4 and from 4 to 8, the lowest of each class
    assert found.lsc == pytest.approx(1 - 1 / 3)


def test_invariances():
    X, y = clusters(3, 1500, 8, 4)
    found = fe.complexity(X, y)
    order = np.random.default_rng(0).permutation(len(X))
    shuffled = fe.complexity(X[order], y[order])
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0]
    moved = fe.complexity(X @ rotation - 3, y)
    for name in ("n1", "n2", "n3", "t1", "lsc"):
        assert getattr(shuffled, name) == pytest.approx(getattr(found, name)), name
        assert getattr(moved, name) == pytest.approx(getattr(found, name), rel=1e-6), name
    np.testing.assert_array_equal(shuffled.local_set, found.local_set[order])


def test_interpolated_points_lie_between_two_of_a_class():
    X, y = clusters(4, 200, 1, 3)
    made_up = interpolated_points(X, y, seed=5)
    for c in range(3):
        mine = made_up.points[made_up.classes == c]
        assert X[y == c].min() <= mine.min()
        assert mine.max() <= X[y == c].max()
    assert len(made_up.points) == 200


def test_a_constant_feature_tells_nothing_apart():
    X, y = np.random.default_rng(0).standard_normal((90, 3)), np.arange(90) % 3
    f1 = fe.complexity(X, y).f1
    for value in (1 / 3, 0.1, 7e5 / 3, -2 / 7):
        wider = np.column_stack([X, np.full(90, value)])
        assert fe.complexity(wider, y).f1 == f1
        assert fe.measure(wider, y).complexity.f1 == f1
