import os
import signal
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest
import torch
from fastent.kernels.lists import LONG
from fastent.kernels.quantized import BITS
from fastent.kernels.target import has_feature
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

import fastent as fe
from fastent.runtime.threads import limit_threads
from fastent.search.coding import Coding, Expected
from fastent.search.exact_index import ExactIndex
from tests import naive

METHODS = ("exact", "flat", "ivf", "hnsw", "torch")


def assert_nearest(found, X, k, queries=None):
    """The very neighbours that double precision finds, ties by the lower index."""
    own = np.arange(len(X)) if queries is None else queries
    indices, distances = naive.nearest(naive.squared_distances(np.asarray(X)[own], X), k, own)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-6)
    # The order of sums differs, so distances that agree to the last bits may change places.
    for row, expected, at in zip(found.indices, indices, own):
        if not np.array_equal(row, expected):
            d = naive.squared_distances(np.asarray(X)[[at]], X)[0]
            np.testing.assert_allclose(d[row], d[expected], rtol=1e-13)
            assert len(set(row)) == k
            assert at not in row


@st.composite
def awkward_points(draw, largest=600):
    """Clusters, lattices full of ties, duplicates, constant columns, points far from the origin, all points equal."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(st.integers(2, largest)), draw(st.sampled_from([1, 2, 3, 7, 16, 17, 33, 130]))
    kind = draw(st.sampled_from(["normal", "clusters", "lattice", "equal", "line", "far", "collapsed"]))
    X = rng.standard_normal((n, d))
    if kind == "clusters":
        X = 0.1 * X + 5 * rng.standard_normal((5, d))[rng.integers(0, 5, n)]
    elif kind == "lattice":
        X = rng.integers(-2, 3, (n, d)).astype(float)
    elif kind == "equal":
        X[:] = X[0]
    elif kind == "line":
        X = X[:, :1] * rng.standard_normal(d)
    elif kind == "far":
        X += 1e4
    elif kind == "collapsed":
        X = 1e-6 * X + rng.standard_normal((3, d))[rng.integers(0, 3, n)]
    if draw(st.booleans()):
        X[rng.integers(0, n, n // 3)] = X[0]
    if draw(st.booleans()):
        X[:, rng.integers(0, d)] = 3.0
    if draw(st.booleans()):
        X = (X * draw(st.sampled_from([1e-30, 1e-3, 1e30]))).astype(np.float32)
    return X


@given(awkward_points(), st.integers(1, 12))
def test_exact_is_exact(X, k):
    k = min(k, len(X) - 1)
    assert_nearest(fe.neighbors(X, k), X, k)


CODINGS = [Coding(width, bits, centred) for width in (0, 16, 64) for bits in BITS for centred in (False, True)]


@contextmanager
def coded(coding):
    """Every index of the block codes its points that way, and has a frame, which few points would not get."""
    with (
        mock.patch.object(ExactIndex, "_choose", return_value=(coding, Expected(0.0, 0.0))),
        mock.patch("fastent.search.index_costs._FEW_POINTS", 0),
        mock.patch("fastent.search.index_costs._SKETCHED", 0),
    ):
        yield


@given(awkward_points(largest=2000), st.integers(1, 12) | st.integers(LONG, 4 * LONG), st.sampled_from(CODINGS))
def test_codes_are_exact_for_awkward_points(X, k, coding):
    k = min(k, len(X) - 1)
    with coded(coding):
        assert_nearest(fe.neighbors(X, k), X, k)


def clusters(n, d, seed=0):
    """Few directions and many: what a frame is for."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 8)) @ rng.standard_normal((8, d)) + 0.2 * rng.standard_normal((n, d))
    return (X + 4 * rng.standard_normal((6, d))[rng.integers(0, 6, n)]).astype(np.float32)


@pytest.mark.parametrize("d", [20, 60, 300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sketches_lose_nothing(d, dtype):
    X = clusters(5000, d).astype(dtype)
    index = ExactIndex(X)
    queries = np.arange(0, 5000, 50)
    squared, indices = index.nearest(10, queries)
    expected, distances = naive.nearest(naive.squared_distances(X[queries], X), 10, queries)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(np.sqrt(squared), distances, rtol=1e-12)
    assert index.work.scanned < 0.9 * 100 * 5000


@pytest.fixture(scope="module", params=[False, True])
def clusters_and_truth(request):
    """Points, whether their directions are searched, and the longest lists that are asked for below."""
    X = clusters(5000, 200)
    X[1000:1010] = X[0]
    searched = X / np.linalg.norm(X, axis=1)[:, None] if request.param else X
    return X, request.param, naive.nearest(naive.squared_distances(searched, searched), 2 * LONG, np.arange(5000))[0]


@pytest.mark.parametrize("k", [10, 2 * LONG])
def test_every_coding_finds_the_same(clusters_and_truth, k):
    X, unit, longest = clusters_and_truth
    expected = longest[:, :k]
    queries = np.arange(0, 5000, 3)
    found = []
    for coding in CODINGS:
        with coded(coding):
            index = ExactIndex(X, unit=unit)
        assert index.coding == coding
        found += [index.nearest(k), index.nearest(k, queries)]
    np.testing.assert_array_equal(found[0].indices, expected)
    for all_rows, some in zip(found[::2], found[1::2], strict=True):
        for one, other in zip(found[0], all_rows, strict=True):
            np.testing.assert_array_equal(one, other)
        for one, other in zip(found[0], some, strict=True):
            np.testing.assert_array_equal(one[queries], other)


def test_the_same_bits_for_any_number_of_threads_and_seed():
    X = clusters(5000, 40)
    first = fe.neighbors(X, 7)
    for threads, seed in ((1, 0), (2, 0), (2, 5)):
        with limit_threads(threads):
            again = fe.neighbors(X, 7, seed=seed)
        np.testing.assert_array_equal(first.indices, again.indices)
        np.testing.assert_array_equal(first.distances, again.distances)


@pytest.mark.parametrize("method", METHODS)
def test_methods_agree_with_the_oracle_and_measure_themselves(method):
    X = clusters(700, 24)
    options = {"ivf": {"nprobe": 1000}, "hnsw": {"ef_search": 200}}.get(method, {})
    found = fe.neighbors(X, 5, method=method, **options)
    assert found.method == method
    indices, _ = naive.nearest(naive.squared_distances(X, X), 5, np.arange(700))
    recall = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(found.indices, indices)])
    assert recall == 1 if method != "hnsw" else recall > 0.99
    assert found.recall == 1 if method != "hnsw" else found.recall > 0.98


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_no_method_gives_what_is_no_neighbour(method, scale):
    X = np.zeros((60, 3), np.float32)
    X[:20] = scale * np.arange(20)[:, None]
    options = {"nlist": 20, "nprobe": 1} if method == "ivf" else {}
    found = fe.neighbors(X, 30, method=method, **options)
    assert ((found.indices >= 0) & (found.indices < 60)).all()
    assert (found.indices != np.arange(60)[:, None]).all()
    assert np.isfinite(found.distances).all()
    assert (np.diff(found.distances, axis=1) >= 0).all()
    assert (found.distances >= 0).all()


def test_torch_is_not_misled_by_cancellation():
    X = 1e4 + 1e-2 * np.random.default_rng(0).standard_normal((300, 5))
    assert_nearest(fe.neighbors(X, 5, method="torch"), X, 5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.int64, bool])
def test_dtypes_and_layouts(dtype):
    X = np.random.default_rng(0).integers(0, 2 if dtype is bool else 9, (100, 12)).astype(dtype)
    expected = fe.neighbors(X.astype(np.float64), 6)
    for same in (
        X,
        np.asfortranarray(X),
        np.repeat(X, 2, 1)[:, ::2],
        X.tolist(),
        torch.from_numpy(X.astype(np.float32)).bfloat16(),
    ):
        found = fe.neighbors(same, 6)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-7)


def test_memory_maps(tmp_path):
    X = clusters(500, 10).astype(np.float16)
    np.save(tmp_path / "X.npy", X)
    found = fe.neighbors(np.load(tmp_path / "X.npy", mmap_mode="r"), 4)
    np.testing.assert_array_equal(found.indices, fe.neighbors(X, 4).indices)


@pytest.mark.parametrize("n", [300, 5000])
@pytest.mark.parametrize("method", ["exact", "flat"])
def test_queries(n, method):
    X = clusters(n, 20)
    everything = fe.neighbors(X, 6, method=method)
    rows = np.array([5, 3, 5, n - 1])
    some = fe.neighbors(X, 6, queries=rows, method=method)
    np.testing.assert_array_equal(some.indices, everything.indices[rows])
    np.testing.assert_array_equal(some.distances, everything.distances[rows])
    sample = fe.neighbors(X, 6, queries=50, seed=3, method=method)
    assert len(np.unique(sample.queries)) == 50
    np.testing.assert_array_equal(sample.indices, everything.indices[sample.queries])
    points = X[:10] + 0.5
    outside = fe.neighbors(X, 6, queries=points, method=method)
    assert outside.queries is None
    np.testing.assert_array_equal(outside.indices, naive.nearest(naive.squared_distances(points, X), 6)[0])
    as_points = fe.neighbors(X, 1, queries=X[:10], method=method)
    np.testing.assert_array_equal(as_points.indices[:, 0], np.arange(10))


@pytest.mark.parametrize("method", ["exact", "flat", "torch"])
def test_cosine(method):
    X = np.random.default_rng(0).standard_normal((200, 9)) * np.geomspace(1e-3, 1e3, 200)[:, None]
    found = fe.neighbors(X, 5, metric="cosine", method=method)
    unit = naive.unit_rows(X)
    cosine = 1 - unit @ unit.T
    np.fill_diagonal(cosine, np.inf)
    np.testing.assert_allclose(found.distances, np.sort(cosine, 1)[:, :5], rtol=1e-5)
    with pytest.raises(fe.FastentError, match="1 row of zeros in X, first row 200, has no direction"):
        fe.neighbors(np.concatenate([X, np.zeros((1, 9))]), 5, metric="cosine", method=method)


def test_counting_within_a_radius():
    X = clusters(3000, 30)
    index, squared = ExactIndex(X), naive.squared_distances(X[:100], X)
    between = np.sort(squared, 1)[:, 20:22].mean(1)
    np.testing.assert_array_equal(index.count_nearer(between, np.arange(100)), 20)
    # At a neighbour's own distance that neighbour is not nearer.
    tenth = index.nearest(10)[0][:, -1]
    np.testing.assert_array_equal(index.count_nearer(tenth), 9)
    np.testing.assert_array_equal(ExactIndex(np.zeros((5, 2))).count_nearer(np.zeros(5)), 0)


def test_fewer_neighbours_are_the_first_of_more():
    found = fe.neighbors(clusters(300, 5), 9)
    np.testing.assert_array_equal(found.subset(4).indices, fe.neighbors(clusters(300, 5), 4).indices)
    with pytest.raises(fe.FastentError, match="k=10: a whole number from 1 to 9"):
        found.subset(10)


def test_permutation_rotation_and_translation():
    rng = np.random.default_rng(0)
    X = clusters(400, 12).astype(np.float64)
    found, shuffle = fe.neighbors(X, 5), rng.permutation(400)
    again = fe.neighbors(X[shuffle], 5)
    np.testing.assert_array_equal(shuffle[again.indices], found.indices[shuffle])
    rotation = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    np.testing.assert_array_equal(fe.neighbors(X @ rotation + 3, 5).indices, found.indices)


@pytest.mark.spawn
def test_digits_against_scikit_learn():
    from sklearn.neighbors import NearestNeighbors

    X, _ = load_digits(return_X_y=True)
    distances, _ = NearestNeighbors(n_neighbors=11, algorithm="brute").fit(X).kneighbors()
    np.testing.assert_allclose(fe.neighbors(X, 11).distances, distances, rtol=1e-6)


def test_progress_is_reported():
    seen = []
    fe.neighbors(clusters(2000, 6), 3, progress=lambda done, total, message: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]
    assert sorted(seen) == seen


def test_ctrl_c_ends_a_search():
    done = []

    def interrupt(so_far, total, message):
        done.append((so_far, total))
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    X = np.random.default_rng(0).standard_normal((80_000, 64))
    with pytest.raises(KeyboardInterrupt):
        fe.neighbors(X, 3, progress=interrupt)
    assert done[-1][0] < done[-1][1]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("method", ["exact", "flat"])
@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_queries_of_another_size(method, scale):
    rng = np.random.default_rng(0)
    X, points = rng.standard_normal((5000, 20)), scale * rng.standard_normal((600, 20))
    found = fe.neighbors(X, 3, queries=points, method=method)
    assert np.isfinite(found.distances).all()
    if scale < 1:
        np.testing.assert_array_equal(found.indices[0], naive.nearest(naive.squared_distances(points[:1], X), 3)[0][0])


@pytest.mark.large
@pytest.mark.parametrize("largest", [1.0, 1e9])
def test_more_features_than_all_axes_are_sought_for(largest):
    X = clusters(4200, 1100).astype(np.float64)
    X[:, 0] *= largest
    rows = np.arange(0, 4200, 7)
    assert_nearest(fe.neighbors(X, 5, queries=rows), X, 5, rows)


def test_few_points_of_very_many_features():
    X = np.random.default_rng(0).standard_normal((40, 1500)).astype(np.float32)
    assert_nearest(fe.neighbors(X, 39), X, 39)


def test_many_duplicates():
    X = np.ones((6000, 20))
    X[::50] = np.random.default_rng(0).standard_normal((120, 20))
    found = fe.neighbors(X, 4)
    lowest = np.flatnonzero((X == 1).all(1))[:5]
    for row in (1, 2, 4001, 5999):
        np.testing.assert_array_equal(found.indices[row], lowest[lowest != row][:4])
    assert found.work.near < 6000 * 400  # not every pair at distance 0 has its distance taken
    rows = np.arange(0, 6000, 50)
    assert_nearest(fe.neighbors(X, 4, queries=rows), X, 4, rows)


def test_collapsed_classes():
    """As at the end of training: classes almost points, far apart beside their size."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 5000)
    X = (np.eye(10, 64)[labels] * 50 + 1e-4 * rng.standard_normal((5000, 64))).astype(np.float32)
    near = fe.neighbors(X, 10, queries=np.arange(0, 5000, 25))
    assert_nearest(near, X, 10, near.queries)
    assert fe.mixing(near, labels).overlap == 1


@pytest.mark.large
@pytest.mark.parametrize(("n", "d", "k"), [(100_000, 40, 10), (40_000, 300, 5), (30_000, 60, 90)])
def test_memory_stays_within_the_formula(n, d, k):
    """Peak of what numpy allocates, X not counted."""
    from fastent.search.index_costs import index_bytes

    X = clusters(n, d)
    fe.neighbors(X[:5000], k)  # what stays for good, as imports, is not the search's
    tracemalloc.start()
    try:
        fe.neighbors(X, k)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Blocks in double precision, one for each thread, are the same for any n.
    assert peak <= index_bytes(X, n, k) + 24 * 2**20


@pytest.mark.parametrize("kind", ["normal", "lattice"])
def test_memory_of_lists_that_are_longer_than_they_are_many(kind):
    from fastent.search.index_costs import index_bytes

    rng = np.random.default_rng(0)
    X = (rng.standard_normal((1100, 40)) if kind == "normal" else rng.integers(0, 2, (1100, 40))).astype(np.float32)
    fe.neighbors(X, 1000)
    tracemalloc.start()
    try:
        fe.neighbors(X, 1000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= index_bytes(X, len(X), 1000)


@pytest.mark.parametrize("k", [LONG, LONG + 1, 97, 300, 1199])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_long_lists(k, metric):
    """Beyond so many entries lists begin with a radius, and are heaps when they are full. Whole numbers have many ties, and sums without rounding."""
    X = np.random.default_rng(k).integers(1, 6, (1200, 5)).astype(np.float32)
    X[500:540] = X[500]
    found = fe.neighbors(X, k, metric=metric)
    if metric == "euclidean":
        expected, distances = naive.nearest(naive.squared_distances(X, X), k, np.arange(1200))
        np.testing.assert_array_equal(found.indices, expected)
        np.testing.assert_allclose(found.distances, distances, rtol=1e-6)
    for method in ("flat", "torch"):
        np.testing.assert_array_equal(fe.neighbors(X, k, metric=metric, method=method).indices, found.indices)
    by_number = fe.neighbors(X, k, metric=metric, queries=np.arange(300))
    np.testing.assert_array_equal(by_number.indices, found.indices[:300])
    np.testing.assert_array_equal(by_number.distances, found.distances[:300])


def in_a_thread_that_flushes(call):
    """What a call returns or raises in a thread that takes subnormal numbers for 0."""

    def work():
        assert torch.set_flush_denormal(True)
        try:
            return call()
        finally:
            torch.set_flush_denormal(False)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot")
@pytest.mark.parametrize(("dtype", "metric"), [(np.float32, "euclidean"), (np.float32, "cosine"), (np.float64, "cosine")])
def test_numbers_that_a_thread_takes_for_0_are_refused_there(dtype, metric):
    """Not where it does not, and no others."""
    X = rng_rows(300, 4).astype(dtype)
    expected = fe.neighbors(X, 3, metric=metric)
    found = in_a_thread_that_flushes(lambda: fe.neighbors(X, 3, metric=metric))
    np.testing.assert_array_equal(found.indices, expected.indices)
    X[0, :2] = 0
    X[7, 2] = -np.finfo(dtype).tiny / 4
    message = (
        f"has values between 0 and {np.finfo(dtype).tiny:.2g}, first in row 7, column 2, which this thread takes for 0: call"
    )
    for call in (
        lambda: fe.neighbors(X, 3, metric=metric),
        lambda: fe.neighbors(X, 3, metric=metric, queries=2),
        lambda: fe.neighbors(X, 3, metric=metric, method="torch"),
        lambda: fe.margins(X, np.arange(300) % 2, metric=metric),
    ):
        assert call() is not None
        with pytest.raises(fe.FastentError, match=f"X {message}"):
            in_a_thread_that_flushes(call)
    with pytest.raises(fe.FastentError, match=f"queries {message}"):
        in_a_thread_that_flushes(lambda: fe.neighbors(X[:5], 2, queries=X, metric=metric))


def rng_rows(n, d):
    return np.random.default_rng(0).standard_normal((n, d))


@pytest.mark.skipif(not has_feature("fma"), reason="without fused multiply-adds they may not be: docs/limits.md")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 2, 3, 50, 300, 2000])
def test_parallel_rows_of_any_length_are_equal_by_their_angles(d, dtype):
    """Lengths fill the mantissa, so that no product or quotient of them is exact."""
    rng = np.random.default_rng(d)
    directions = rng.standard_normal((7, d)).astype(np.float16)
    directions[0] = np.arange(d) == d - 1  # one active unit
    of, lengths = rng.integers(0, 7, 900), (0.1 + rng.random(900)).astype(np.float32)
    # Exact in either type where directions have few bits.
    X = (directions[of].astype(dtype) * (lengths if dtype == np.float64 else lengths.astype(np.float16))[:, None]).astype(dtype)
    near = fe.neighbors(X, 5, metric="cosine")
    few = fe.neighbors(X, 5, metric="cosine", queries=np.arange(0, 900, 60))
    np.testing.assert_array_equal(few.indices, near.indices[::60])
    signs = np.sign(X[:, 0]) if d == 1 else of
    for i in range(900):
        same = np.flatnonzero(signs == signs[i])
        np.testing.assert_array_equal(near.indices[i], same[same != i][:5])
    assert (near.distances == 0).all()
