"""Other libraries' searches for nearest rows, each in its fastest form for the data.

A peer is built for rows (n, d) as they were given and a metric, which is timed too, and returns a search: of points (q, d) and k,
the numbers (q, k) of the nearest rows. Peers are imported when they are built; `installed` says which can be.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.processors import processors

__all__ = ["APPROXIMATE", "EXACT", "Peer", "Search", "hnsw", "installed", "ivf", "nn_descent"]

Array = NDArray[Any]
Search = Callable[[Array, int], Array]
Peer = Callable[[Array, str], Search]

_PANORAMA_LEVELS = 8


def faiss_flat(X: Array, metric: str) -> Search:
    import faiss

    rows = _comparable(X, metric)
    measure = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2

    def nearest(points: Array, k: int) -> Array:
        with _products(faiss):
            return faiss.knn(_comparable(points, metric), rows, k, metric=measure)[1]

    return nearest


@contextmanager
def _products(faiss: Any) -> Iterator[None]:
    """Let faiss multiply matrices for any number of queries: unless told it begins at 128,000 / d, where that is long cheaper.

    On a Zen 4, 100 queries among 200,000 x 384 take 1.2 s of processor time without products and 0.28 s with; one takes the same.
    """
    before = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = 0
    try:
        yield
    finally:
        faiss.cvar.distance_compute_blas_threshold = before


def faiss_panorama(X: Array, metric: str) -> Search:
    """All features of the rotated rows, in levels; needs an axis per level."""
    import faiss

    rows, d = _comparable(X, metric), X.shape[1]
    rotation = faiss.PCAMatrix(d, d)
    rotation.train(rows)
    index = faiss.IndexFlatL2Panorama(d, _PANORAMA_LEVELS)
    index.add(rotation.apply(rows))
    return lambda points, k: index.search(rotation.apply(_comparable(points, metric)), k)[1]


def sklearn_brute(X: Array, metric: str) -> Search:
    from sklearn.neighbors import NearestNeighbors

    return _brute(NearestNeighbors, X, metric)


def sklearn_intelex(X: Array, metric: str) -> Search:
    from sklearnex.neighbors import NearestNeighbors

    return _brute(NearestNeighbors, X, metric)


def usearch_exact(X: Array, metric: str) -> Search:
    """Takes float16 as it is."""
    from usearch.index import MetricKind, search

    def given(points: Array) -> Array:
        return points if points.dtype == np.float16 else _comparable(points, "euclidean")

    rows, kind = given(X), MetricKind.Cos if metric == "cosine" else MetricKind.L2sq

    def nearest(points: Array, k: int) -> Array:
        keys = search(rows, given(points), k, kind, exact=True, threads=processors()).keys
        return np.asarray(keys, np.int64).reshape(len(points), k)

    return nearest


def nn_descent(X: Array, metric: str) -> Search:
    """Its graph of the rows; what it is asked for must be all of them."""
    import pynndescent

    rows = _comparable(X, metric)
    return lambda points, k: pynndescent.NNDescent(rows, n_neighbors=k, random_state=0).neighbor_graph[0]


def hnsw(X: Array, metric: str) -> Search:
    import hnswlib

    index = hnswlib.Index("l2", X.shape[1])
    index.init_index(len(X), M=16, ef_construction=100, random_seed=0)
    index.set_ef(50)
    index.add_items(_comparable(X, metric))
    return lambda points, k: index.knn_query(_comparable(points, metric), k)[0].astype(np.int64)


def ivf(X: Array, metric: str) -> Search:
    import faiss

    rows = _comparable(X, metric)
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(X.shape[1]), X.shape[1], 256)
    index.train(rows)
    index.add(rows)
    index.nprobe = 8
    return lambda points, k: index.search(_comparable(points, metric), k)[1]


# By name: the peer, and the module that it needs.
EXACT: dict[str, tuple[Peer, str]] = {
    "faiss.knn": (faiss_flat, "faiss"),
    "faiss Panorama after PCA": (faiss_panorama, "faiss"),
    "scikit-learn brute": (sklearn_brute, "sklearn"),
    "scikit-learn-intelex brute": (sklearn_intelex, "sklearnex"),
    "usearch exact": (usearch_exact, "usearch"),
}
APPROXIMATE: dict[str, tuple[Peer, str]] = {
    "pynndescent, warm": (nn_descent, "pynndescent"),
    "hnswlib, M 16, ef 100 / 50": (hnsw, "hnswlib"),
    "faiss IVF, 256 / 8": (ivf, "faiss"),
}


def installed(peers: dict[str, tuple[Peer, str]]) -> dict[str, Peer]:
    """Those that this machine has; Panorama came with faiss 1.14."""
    return {name: peer for name, (peer, module) in peers.items() if find_spec(module) is not None and _has_panorama(peer)}


def _has_panorama(peer: Peer) -> bool:
    if peer is not faiss_panorama:
        return True
    import faiss

    return hasattr(faiss, "IndexFlatL2Panorama")


def _brute(neighbors: Any, X: Array, metric: str) -> Search:
    fitted = neighbors(algorithm="brute").fit(_comparable(X, metric))
    return lambda points, k: fitted.kneighbors(_comparable(points, metric), k, return_distance=False)


def _comparable(points: Array, metric: str) -> Array:
    """In float32, and of unit length where the metric is cosine: their squared distances are twice the cosine distances."""
    single = np.ascontiguousarray(points, np.float32)
    if metric != "cosine":
        return single
    return single / np.maximum(np.linalg.norm(single, axis=1, keepdims=True), np.finfo(np.float32).tiny)
