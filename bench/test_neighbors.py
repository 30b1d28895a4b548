"""Neighbours and margins on a network's layers, compared with exact and approximate peers; results are checked first."""

from functools import partial

import faiss
import numba
import numpy as np
import pytest

import fastent as fe
from bench.activations import activations, gaussian
from bench.conftest import Part
from bench.embeddings import sentences
from bench.oracle import Oracle, assert_exact
from bench.peers import APPROXIMATE, EXACT, installed
from bench.scale import scaled

K = 10
PART = 4000
SETS = {
    "trained, last hidden layer": lambda: activations("trained", 3)[0],
    "trained, second": lambda: activations("trained", 2)[0],
    "trained, first": lambda: activations("trained", 1)[0],
    "untrained, last hidden layer": lambda: activations("untrained", 3)[0],
    "untrained, first": lambda: activations("untrained", 1)[0],
    "raw pixels": lambda: activations("untrained", 0)[0],
    "sentence embeddings": lambda: sentences()[: scaled(63_144)].astype(np.float32),
    "isotropic Gaussian": lambda: gaussian(scaled(40_000))[0],
    "isotropic Gaussian, wide": lambda: gaussian(scaled(15_000), 384)[0],
}


def load(name):
    return np.ascontiguousarray(SETS[name]())


SCANS = ("scikit-learn brute", "scikit-learn-intelex brute")


def part_of_scan(scan, X):
    search = scan(X, "euclidean")
    return Part(lambda: search(X[:PART], K + 1), len(X) / PART)


@pytest.mark.parametrize("name", SETS)
def test_neighbors(side_by_side, name):
    X = load(name)
    found = fe.neighbors(X, K)
    assert_exact(found, X)
    again = fe.neighbors(X, K)
    np.testing.assert_array_equal(found.indices, again.indices)
    np.testing.assert_array_equal(found.distances, again.distances)
    peers = installed(EXACT)
    scans = {name: peers[name] for name in SCANS if name in peers}
    side_by_side(
        lambda: fe.neighbors(X, K),
        {
            "faiss.knn": lambda: faiss.knn(X, X, K + 1),
            **{f"{name}, from {PART:,} queries": part_of_scan(scan, X) for name, scan in scans.items()},
        },
        rounds=3,
        warmup=False,
        job=f"neighbors, k = {K}: {name}, {len(X):,} x {X.shape[1]}",
        pairs_scanned=found.work.scanned / len(X) ** 2,
        distances_computed=found.work.near / len(X),
    )


def all_lists(peer, X):
    return peer(X, "euclidean")(X, K + 1)


@pytest.mark.parametrize("name", ["trained, last hidden layer", "trained, second", "trained, first"])
def test_approximate_search(side_by_side, name):
    X = load(name)
    peers = {name: partial(all_lists, peer, X) for name, peer in installed(APPROXIMATE).items()}
    oracle = Oracle(X, X, K)
    fe.neighbors(X, K)
    side_by_side(
        lambda: fe.neighbors(X, K),
        peers,
        rounds=3,
        warmup=True,
        job=f"neighbors, k = {K}: {name}, {len(X):,} x {X.shape[1]}",
        recall={name: oracle.recall(oracle.distances_to(peer()[oracle.queries])) for name, peer in peers.items()},
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
    X, y = activations("trained", 2)
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
    X, y = activations("trained", 2)
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
