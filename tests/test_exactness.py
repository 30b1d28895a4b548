"""Nearest neighbours by every route against extended precision, on data for which nobody tuned."""

import numpy as np
import pytest

import fastent as fe
from fastent.outofcore import NearestSoFar
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
    chunked = NearestSoFar(X[rows], rows, k)
    for start in range(0, n, -(-n // 3)):
        chunked.update(X[start : start + -(-n // 3)], start)
    assert np.array_equal(chunked.found()[1], found.indices[rows]), f"chunks, {kind}, seed {seed}"
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
