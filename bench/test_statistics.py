"""Each statistic compared with the usual alternative, and measure() with its slowest parts; results are compared first."""

from functools import partial

import numpy as np
import pytest
import skdim
import torch
from scipy.sparse.csgraph import minimum_spanning_tree
from sklearn.metrics import pairwise_distances, silhouette_samples

import fastent as fe
from bench.activations import activations
from bench.scale import scaled
from fastent.runtime.threads import limit_threads

SOME = scaled(20_000)
# Rows and features whose pairs are timed beside matrix products.
PAIRED = (
    (4_000, 512, "float32"),
    (20_000, 128, "float32"),
    (10_000, 768, "float32"),
    (20_000, 16, "float32"),
    (4_000, 512, "float64"),
)


@pytest.fixture(scope="module")
def layer():
    X, y = activations("trained", 2)
    return np.ascontiguousarray(X), y


@pytest.fixture(scope="module")
def some(layer):
    rows = np.random.default_rng(0).choice(len(layer[0]), SOME, replace=False)
    return np.ascontiguousarray(layer[0][rows]), layer[1][rows]


def test_silhouette(side_by_side, some):
    X, y = some
    np.testing.assert_allclose(fe.silhouette(X, y), silhouette_samples(X, y), atol=2e-5)
    side_by_side(
        lambda: fe.silhouette(X, y),
        {"scikit-learn silhouette_samples": lambda: silhouette_samples(X, y)},
        rounds=3,
        warmup=False,
        job=f"silhouette: trained, second, {SOME:,} x {X.shape[1]}",
    )


def dense_soft_nearest_neighbor(X, y, temperature):
    """All pairs at once in float32, as the loss is usually written."""
    points, labels = torch.from_numpy(X), torch.from_numpy(y)
    squares = points.square().sum(1)
    logits = -(squares[:, None] + squares - 2 * points @ points.T).clamp_min_(0) / temperature
    logits.fill_diagonal_(-torch.inf)
    own = logits.masked_fill(labels[:, None] != labels, -torch.inf)
    return float((logits.logsumexp(1) - own.logsumexp(1)).mean())


def test_soft_nearest_neighbor(side_by_side, some):
    X, y = some
    found = fe.soft_nearest_neighbor_loss(X, y)
    temperature = found.temperature
    assert found.loss == pytest.approx(dense_soft_nearest_neighbor(X, y, temperature), rel=1e-3)
    side_by_side(
        lambda: fe.soft_nearest_neighbor_loss(X, y, temperature),
        {"dense torch": lambda: dense_soft_nearest_neighbor(X, y, temperature)},
        rounds=3,
        warmup=False,
        job=f"soft nearest neighbour loss at one temperature: trained, second, {SOME:,} x {X.shape[1]}",
    )


def in_blocks(product, X, others, room):
    """All products of two sets of rows, into a room that is used again, so that memory costs little."""
    for begin in range(0, len(X), len(room)):
        block = X[begin : begin + len(room)]
        product(block, others.T, out=room[: len(block)])


def beside_products(side_by_side, benchmark, work, X, job):
    """A sweep meets each pair once: as many multiply-adds as a product of n x d by d x n / 2, in single precision.

    On one thread, where products take the least processor time.
    """
    n, d = X.shape
    arrays = X.astype(np.float32), X[: n // 2].astype(np.float32), np.empty((2048, n // 2), np.float32)
    products = {
        "numpy": partial(in_blocks, np.matmul, *arrays),
        "torch": partial(in_blocks, torch.mm, *map(torch.from_numpy, arrays)),
    }
    peers = {f"only the products of its distances, by {name}": product for name, product in products.items()}
    with limit_threads(1):
        side_by_side(work, peers, rounds=3, job=f"{job}, one thread")
    best = min(benchmark.extra_info["peers"].values(), key=lambda peer: peer["processor_s"])
    benchmark.extra_info["product_share"] = best["processor_ratio"]
    benchmark.extra_info["product_rate"] = n * (n // 2) * d / best["processor_s"]


@pytest.mark.parametrize(("n", "d", "dtype"), PAIRED)
@pytest.mark.parametrize("statistic", ["silhouettes", "soft nearest neighbours at one temperature"])
def test_pairs_and_matrix_products(side_by_side, benchmark, statistic, n, d, dtype):
    n, rng = scaled(n), np.random.default_rng(0)
    y = rng.integers(0, 10, n)
    X = (rng.standard_normal((n, d)) + rng.standard_normal((10, d))[y] / 2).astype(dtype)
    loss = partial(fe.soft_nearest_neighbor_loss, X, y, 2.0 * d)  # about the median of the squared distances
    work = partial(fe.silhouette, X, y) if statistic == "silhouettes" else loss
    beside_products(side_by_side, benchmark, work, X, f"{statistic}: Gaussian classes, {n:,} x {d} {dtype}")


def test_the_sweep_and_matrix_products(side_by_side, benchmark, some):
    """Class geometry and a temperature come on top."""
    X, y = some
    work = partial(fe.measure, X, y, metrics=["silhouette", "soft_nearest_neighbor"])
    job = f"silhouettes and soft nearest neighbours in one sweep: trained, second, {len(X):,} x {X.shape[1]}"
    beside_products(side_by_side, benchmark, work, X, job)


def test_twonn(side_by_side, some):
    X, _ = some
    found = fe.intrinsic_dimension(fe.neighbors(X, 2))
    assert found.value == pytest.approx(skdim.id.TwoNN().fit(X).dimension_, rel=1e-3)
    side_by_side(
        lambda: fe.intrinsic_dimension(fe.neighbors(X, 2)),
        {"scikit-dimension": lambda: skdim.id.TwoNN().fit(X)},
        rounds=3,
        warmup=False,
        job=f"TwoNN with its neighbours: trained, second, {SOME:,} x {X.shape[1]}",
    )


def test_spanning_tree(side_by_side, some):
    """The peer computes only N1; fastent computes all complexity measures."""
    X, y = some[0][: SOME // 2], some[1][: SOME // 2]

    def n1_with_scipy():
        tree = minimum_spanning_tree(pairwise_distances(X.astype(np.float64))).tocoo()
        across = y[tree.row] != y[tree.col]
        return len(np.unique(np.concatenate([tree.row[across], tree.col[across]]))) / len(X)

    assert fe.complexity(X, y).n1 == n1_with_scipy()
    side_by_side(
        lambda: fe.complexity(X, y),
        {"N1 alone, dense with scipy": n1_with_scipy},
        rounds=3,
        warmup=False,
        job=f"N1, N2, N3, N4, T1, LSC, F1: trained, second, {len(X):,} x {X.shape[1]}",
    )


def test_measure(side_by_side, layer):
    X, y = layer
    side_by_side(
        lambda: fe.measure(X, y),
        {
            "its silhouette alone": lambda: fe.measure(X, y, metrics="silhouette"),
            "its soft nearest neighbour loss alone": lambda: fe.measure(X, y, metrics="soft_nearest_neighbor"),
        },
        rounds=3,
        job=f"measure, all statistics: trained, second, {len(X):,} x {X.shape[1]}",
    )
