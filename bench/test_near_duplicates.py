"""All pairs of rows within a radius, compared with exact peers; what these find is checked first."""

import faiss
import numpy as np
import pytest
from scipy.spatial import cKDTree
from sklearn.neighbors import NearestNeighbors

import fastent as fe
from bench.activations import activations, gaussian
from bench.embeddings import sentences
from bench.scale import scaled


def planted(rows, share=0.01):
    """Rows of which a share are copies of others with a little noise."""
    rng = np.random.default_rng(0)
    X, copies = rows.copy(), int(share * len(rows))
    originals, changed = rng.permutation(len(X))[: 2 * copies].reshape(2, copies)
    X[changed] = X[originals] + 1e-3 * rng.standard_normal((copies, X.shape[1])).astype(np.float32)
    return X


# Rows, and a radius.
SETS = {
    "isotropic Gaussian, 1 % planted": lambda: (planted(gaussian(scaled(50_000))[0]), 0.05),
    "isotropic Gaussian in 8 dimensions": lambda: (gaussian(scaled(50_000), 8)[0], 0.25),
    "sentence embeddings": lambda: (sentences()[: scaled(20_000)].astype(np.float32), 0.5),
    "raw pixels": lambda: (activations("untrained", 0)[0][: scaled(20_000)], 3.0),
}


def ranges(X, radius):
    """faiss: pairs from both ends, and each row with itself; in single precision."""
    index = faiss.IndexFlatL2(X.shape[1])
    index.add(X)
    return index.range_search(X, radius**2)


def scikit_learn(X, radius, algorithm):
    return NearestNeighbors(radius=radius, algorithm=algorithm).fit(X).radius_neighbors()


def as_pairs(limits, others):
    rows = np.repeat(np.arange(len(limits) - 1), np.diff(limits.astype(np.int64)))
    once = rows < others
    return set(zip(rows[once].tolist(), others[once].tolist(), strict=True))


@pytest.mark.parametrize("name", SETS)
def test_near_duplicates(side_by_side, name):
    X, radius = SETS[name]()
    X = np.ascontiguousarray(X, np.float32)
    found = fe.near_duplicates(X, radius)
    mine = set(map(tuple, found.pairs.tolist()))
    limits, _, others = ranges(X, radius * (1 + 1e-3))
    theirs = as_pairs(limits, others)
    for row, other in mine ^ theirs:  # they differ only where the radius of theirs is larger
        assert (row, other) in theirs
        assert np.linalg.norm(X[row].astype(float) - X[other]) > radius
    peers = {
        "faiss range_search": lambda: ranges(X, radius),
        "scikit-learn brute": lambda: scikit_learn(X, radius, "brute"),
    }
    if X.shape[1] <= 16:
        peers |= {
            "scipy cKDTree.query_pairs": lambda: cKDTree(X).query_pairs(radius, output_type="ndarray"),
            "scikit-learn kd_tree": lambda: scikit_learn(X, radius, "kd_tree"),
        }
    side_by_side(
        lambda: fe.near_duplicates(X, radius),
        peers,
        rounds=3,
        warmup=False,
        job=f"near duplicates within {radius:g}: {name}, {len(X):,} x {X.shape[1]}",
        pairs=len(found.pairs),
    )
