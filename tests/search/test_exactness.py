"""Nearest neighbours by every route against extended precision, on data for which nobody tuned."""

import numpy as np
import pytest

import fastent as fe
from fastent.search.index import ExternalQueries
from fastent.search.out_of_core import NearestSoFar
from tests import naive
from tests.awkward import KINDS, data_set

SEEDS = 25  # of each kind, where there is time
CHECKED = 3400  # rows of a data set


def check(kind, seed, *, largest, checked):
    """All routes, on one data set; how many lists were checked."""
    X, points = data_set(kind, seed, largest=largest)
    rng = np.random.default_rng(seed)
    n = len(X)
    k = min(int(rng.integers(1, 13)), n - 1)
    rows = np.sort(rng.choice(n, min(n, checked), replace=False))
    labels = rng.integers(0, 2, n)
    labels[:2] = 0, 1
    lists = 0

    def right(found, truth, own, what, kept=None):
        nonlocal lists
        wrong = naive.wrong_lists(found, truth, own, kept)
        assert not wrong.any(), f"{what}, {kind} {X.shape} {X.dtype}, seed {seed}: {wrong.sum()} wrong rows"
        lists += len(found)

    truth = naive.wide_squared_distances(X[rows], X)
    found = fe.neighbors(X, k)
    right(found.indices[rows], truth, rows, "neighbors", X)
    expected = np.sqrt(np.take_along_axis(truth, found.indices[rows], 1)).astype(np.float32)
    np.testing.assert_allclose(found.distances[rows], expected, rtol=1e-6, atol=1e-45)
    chunked = NearestSoFar(ExternalQueries(X[rows], rows, labels[rows]), {"all": k})
    for start in range(0, n, -(-n // 3)):
        chunked.update(X[start : start + -(-n // 3)], start)
    assert np.array_equal(chunked.found()["all"].indices, found.indices[rows]), f"chunks, {kind}, seed {seed}"
    some = rows[:60]
    few = truth[:60]
    for method in ("flat", "torch"):
        right(fe.neighbors(X, k, queries=some, method=method).indices, few, some, method, X)
    measured = fe.measure(X, labels, k=min(k, 5), metrics=["silhouette", "mixing", "margins"]) if n > k > 1 else None
    if measured is not None:  # by the sweep
        right(measured.neighbors.indices[some], few, some, "sweep", X)
    margins = fe.margins(X, labels)
    own = labels[rows, None] == labels
    hits, misses = truth.copy(), np.where(own, np.inf, truth)
    hits[~own] = np.inf
    hits[np.arange(len(rows)), rows] = np.inf
    for name, distance, index in (("hits", hits, margins.hit_index), ("misses", misses, margins.miss_index)):
        some_rows = np.flatnonzero(np.isfinite(distance.min(1)))
        right(index[rows[some_rows], None], distance[some_rows], None, name, X)
    right(fe.neighbors(X, k, queries=points).indices, naive.wide_squared_distances(points, X), None, "points", X)
    if np.all(np.any(X, axis=1)):
        right(fe.neighbors(X, k, metric="cosine").indices[some], naive.wide_angles(X[some], X), some, "cosine")
    return lists


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_exact_wherever_it_says_so(kind):
    for seed in range(2):
        check(kind, seed, largest=300, checked=300)


@pytest.mark.large
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_exact_in_the_frame(kind):
    """With so many rows that sketches are taken."""
    shapes = ((seed, data_set(kind, seed)[0].shape) for seed in range(999))
    check(kind, next(seed for seed, (n, d) in shapes if n == 4500 and d > 16), largest=4500, checked=100)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 100 + SEEDS))
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_exact_on_many(kind, seed, record_property):
    record_property("lists", check(kind, seed, largest=4500, checked=CHECKED))


def test_a_third_class_far_away_changes_no_silhouette_of_the_others():
    """Single precision does not hold the distances of both: those blocks are taken in double."""
    rng = np.random.default_rng(0)
    near, y = rng.standard_normal((300, 5)), np.arange(300) % 2
    far = np.concatenate([near, 1e22 * (1 + rng.random((4, 5)))])
    expected = fe.silhouette(near, y)
    for dtype in (np.float32, np.float64):
        found = fe.silhouette(far.astype(dtype), np.append(y, [2] * 4))
        np.testing.assert_allclose(found[:300], expected, atol=2e-6)
        np.testing.assert_allclose(found[300:], naive.silhouette(far, np.append(y, [2] * 4))[300:], atol=2e-6)


def test_damaged_rows_change_nothing_of_the_others():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((500, 5)), np.arange(500) % 2
    damaged = X.copy()
    damaged[499] = 1e25
    after = fe.complexity(damaged, y)
    without = fe.complexity(X[:499], y[:499])
    np.testing.assert_array_equal(after.local_set[:499], without.local_set)
    np.testing.assert_array_equal(after.absorbed[:499], without.absorbed)


def test_soft_nearest_neighbours_beside_a_damaged_row():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((400, 6)), np.arange(400) % 2
    damaged = np.append(X, np.full((1, 6), 1e20), 0)
    found = fe.soft_nearest_neighbor_loss(damaged, np.append(y, 0), temperature=3.0)
    np.testing.assert_allclose(found.per_point[:400], naive.soft_nearest_neighbor(X, y, 3.0), rtol=1e-5)


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_torch_proves_what_it_proposes_however_it_multiplies(precision):
    import torch

    X = (5 + 0.01 * np.random.default_rng(0).standard_normal((3000, 40))).astype(np.float32)
    expected = fe.neighbors(X, 5)
    kept = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        with torch.autocast("cpu", torch.bfloat16):
            found = fe.neighbors(X, 5, method="torch")
    finally:
        torch.set_float32_matmul_precision(kept)
    np.testing.assert_array_equal(found.indices, expected.indices)
    assert found.recall == 1


def test_equal_rows_come_in_order_from_every_scan():
    """More equal rows than are proposed: those of the lowest numbers are searched for."""
    X = np.repeat(np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32), 100, 0)
    X = X[np.random.default_rng(1).permutation(len(X))]
    expected = fe.neighbors(X, 5).indices
    for method in ("flat", "torch"):
        np.testing.assert_array_equal(fe.neighbors(X, 5, method=method).indices, expected)


def test_queries_in_double_precision_are_not_rounded():
    X = np.array([[1.0], [1.00000012]], np.float32)
    for method in ("exact", "flat", "torch"):
        found = fe.neighbors(X, 1, queries=np.array([[1.00000004]]), method=method)
        assert found.distances[0, 0] == np.float32(1.00000004 - 1)
    halves = np.arange(12, dtype=np.float16).reshape(6, 2)
    assert fe.neighbors(halves, 1, queries=halves.astype(np.float64)).indices.ravel().tolist() == list(range(6))


@pytest.mark.large
@pytest.mark.parametrize("d", [6000, 16384])
def test_sums_of_many_features_stay_bounds(d):
    """Terms that are all equal round to the same side: what adds them one after another must take that off again."""
    rng = np.random.default_rng(0)
    value = np.float32(max(rng.uniform(1, 2, 40), key=lambda c: np.cumsum(np.full(d, np.float32(c) ** 2))[-1] / (d * c * c)))
    query = np.full(d, value, np.float32)
    distance = float(value) * np.sqrt(d)
    near = np.zeros((512, d), np.float32)
    near[:, 0] = rng.uniform(-1e-4, 1e-4, 512)
    others = np.tile(query, (128, 1))  # the query itself, a decoy that is a little too far, and many farther away
    others[np.arange(1, 128), 7 * np.arange(1, 128)] += np.float32(1.5 * distance)
    others[1, 7] = query[7] + np.float32(distance * (1 + 1e-6))
    X = np.concatenate([near, others])
    truth = naive.squared_distances(X[[512]], X)
    for found in (fe.neighbors(X, 1).indices[[512]], fe.neighbors(X, 1, queries=[512]).indices):
        assert not naive.wrong_lists(found, truth, np.array([512])).any()


def test_equal_cosines_of_counts_come_in_the_order_of_the_rows():
    from fractions import Fraction

    rng = np.random.default_rng(0)
    for X in ((rng.random((400, 16)) < 0.5).astype(np.float32), rng.poisson(1.5, (400, 12)).astype(np.float64) / 4):
        X = X[X.any(1)]
        whole = (4 * X).astype(int)
        products, lengths = whole @ whole.T, (whole**2).sum(1)
        found = fe.neighbors(X, 7, metric="cosine")
        for i in range(50):
            cosines = [Fraction(int(products[i, j]) ** 2, int(lengths[i] * lengths[j])) for j in range(len(X))]
            order = sorted((j for j in range(len(X)) if j != i), key=lambda j: (-cosines[j], j))
            assert found.indices[i].tolist() == order[:7]
