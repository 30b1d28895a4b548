"""Neighbours and margins on a network's layers, compared with exact and approximate peers; results are checked first."""

import faiss
import hnswlib
import numba
import numpy as np
import pynndescent
import pytest
from sklearn.neighbors import NearestNeighbors

import fastent as fe
from bench.activations import activations, gaussian
from bench.conftest import Part
from bench.scale import scaled

K = 10
CHECKED = 1000
PART = 4000
SETS = {
    "trained, last hidden layer": ("trained", 3),
    "trained, second": ("trained", 2),
    "trained, first": ("trained", 1),
    "untrained, last hidden layer": ("untrained", 3),
    "untrained, first": ("untrained", 1),
    "raw pixels": ("untrained", 0),
    "isotropic Gaussian": None,
}


def load(name):
    X, y = activations(*SETS[name]) if SETS[name] else gaussian(scaled(40_000))
    return np.ascontiguousarray(X), y


def nearest_of_some(X, rows):
    """Squared distances to the K nearest others, in double precision from differences."""
    X = X.astype(np.float64)
    squared = (X**2).sum(1) - 2 * X[rows] @ X.T
    squared[np.arange(len(rows)), rows] = np.inf
    candidates = np.argpartition(squared, K + 50, axis=1)[:, : K + 50]
    exact = np.stack([((X[near] - X[row]) ** 2).sum(1) for row, near in zip(rows, candidates, strict=True)])
    order = np.lexsort((candidates, exact))[:, :K]
    return np.take_along_axis(exact, order, 1), np.take_along_axis(candidates, order, 1)


def recall(X, rows, indices):
    """Share of the returned neighbours, without the query's own row, that are as near as the K nearest."""
    within = nearest_of_some(X, rows)[0][:, -1:] * (1 + 1e-6)
    X = X.astype(np.float64)
    hits = 0
    for row, near, limit in zip(rows, indices, within, strict=True):
        others = near[near != row][:K]
        hits += (((X[others] - X[row]) ** 2).sum(1) <= limit).sum()
    return float(hits / (K * len(rows)))


def assert_exact(found, X):
    rows = np.random.default_rng(0).choice(len(X), CHECKED, replace=False)
    squared, indices = nearest_of_some(X, rows)
    np.testing.assert_allclose(found.distances[rows], np.sqrt(squared), rtol=1e-5)
    for mine, theirs, d in zip(found.indices[rows], indices, squared, strict=True):
        different = np.setxor1d(mine, theirs)
        assert len(different) == 0 or np.isclose(d[-1], d[-2], rtol=1e-12), (mine, theirs)


@pytest.mark.parametrize("name", SETS)
def test_neighbors(side_by_side, name):
    X, _ = load(name)
    found = fe.neighbors(X, K)
    assert_exact(found, X)
    again = fe.neighbors(X, K)
    np.testing.assert_array_equal(found.indices, again.indices)
    np.testing.assert_array_equal(found.distances, again.distances)
    brute = NearestNeighbors(n_neighbors=K + 1, algorithm="brute").fit(X)
    side_by_side(
        lambda: fe.neighbors(X, K),
        {
            "faiss.knn": lambda: faiss.knn(X, X, K + 1),
            f"scikit-learn brute, from {PART:,} queries": Part(lambda: brute.kneighbors(X[:PART]), len(X) / PART),
        },
        rounds=3,
        warmup=False,
        job=f"neighbors, k = {K}: {name}, {len(X):,} x {X.shape[1]}",
        pairs_scanned=found.work.scanned / len(X) ** 2,
        distances_computed=found.work.near / len(X),
    )


def nn_descent(X):
    return pynndescent.NNDescent(X, n_neighbors=K + 1, random_state=0).neighbor_graph[0]


def hnsw(X):
    index = hnswlib.Index("l2", X.shape[1])
    index.init_index(len(X), M=16, ef_construction=100, random_seed=0)
    index.set_ef(50)
    index.add_items(X)
    return index.knn_query(X, K + 1)[0].astype(np.int64)


def ivf(X):
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(X.shape[1]), X.shape[1], 256)
    index.train(X)
    index.add(X)
    index.nprobe = 8
    return index.search(X, K + 1)[1]


@pytest.mark.parametrize("name", ["trained, last hidden layer", "trained, second", "trained, first"])
def test_approximate_search(side_by_side, name):
    X, _ = load(name)
    peers = {"pynndescent, warm": nn_descent, "hnswlib, M 16, ef 100 / 50": hnsw, "faiss IVF, 256 / 8": ivf}
    rows = np.random.default_rng(0).choice(len(X), CHECKED, replace=False)
    fe.neighbors(X, K)
    side_by_side(
        lambda: fe.neighbors(X, K),
        {name: lambda peer=peer: peer(X) for name, peer in peers.items()},
        rounds=3,
        warmup=True,
        job=f"neighbors, k = {K}: {name}, {len(X):,} x {X.shape[1]}",
        recall={name: recall(X, rows, peer(X)[rows]) for name, peer in peers.items()},
    )


def hits_and_misses_by_class(X, y):
    """Search each class within itself and among the other classes."""
    hit, miss = np.empty(len(X), np.float32), np.empty(len(X), np.float32)
    for c in np.unique(y):
        own, others = X[y == c], X[y != c]
        hit[y == c] = faiss.knn(own, own, 2)[0][:, 1]
        miss[y == c] = faiss.knn(own, others, 1)[0][:, 0]
    return np.sqrt(np.maximum(hit, 0)), np.sqrt(np.maximum(miss, 0))


def misses_by_growing_k(X, y, rows):
    """Search all classes together, with eight times as many neighbours for queries without a miss, up to the limit of faiss."""
    k = K
    while len(rows) and k <= 2048:
        near = faiss.knn(X[rows], X, k + 1)[1]
        rows = rows[(y[near] == y[rows, None]).all(1)]
        k = min(8 * k, 2048) if k < 2048 else 2 * k
    for c in np.unique(y[rows]):
        faiss.knn(X[rows[y[rows] == c]], X[y != c], 1)


def test_margins(side_by_side):
    X, y = load("trained, second")
    found = fe.margins(X, y)
    hit, miss = hits_and_misses_by_class(X, y)
    np.testing.assert_allclose(found.miss, miss, rtol=1e-3)
    assert np.quantile(np.abs(found.hit - hit), 0.99) < 0.02 * np.median(hit)  # faiss cancels where two points nearly meet
    some = np.arange(0, len(X), 10)
    side_by_side(
        lambda: fe.margins(X, y),
        {
            "faiss, class by class": lambda: hits_and_misses_by_class(X, y),
            "faiss, k grown until a miss, from every tenth": Part(lambda: misses_by_growing_k(X, y, some), 10),
        },
        rounds=3,
        warmup=False,
        job=f"margins: trained, second, {len(X):,} x {X.shape[1]}",
    )


def test_mixing(side_by_side):
    X, y = load("trained, second")
    near = fe.neighbors(X, 30)

    def with_numpy():
        labels = y[near.indices]
        purity = (labels == y[:, None]).mean(1)
        shares = np.stack([(labels == c).mean(1) for c in range(10)], 1)
        entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(1)
        matrix = np.stack([shares[y == c].mean(0) for c in range(10)])
        return purity, entropy, matrix, (shares.argmax(1) != y).mean()

    fe.mixing(near, y)
    side_by_side(
        lambda: fe.mixing(near, y),
        {"numpy, without occurrences": with_numpy},
        job=f"mixing of {len(X):,} lists, k = 30, 10 classes, {numba.get_num_threads()} threads",
    )
