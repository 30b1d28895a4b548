"""A scan for few queries finds what an index finds, to the bit, and refuses the values that it meets and others refuse."""

import os
import signal
import tracemalloc

import numba
import numpy as np
import pytest
from fastent.kernels import differences
from fastent.kernels.scan import widen
from hypothesis import given
from hypothesis import strategies as st

import fastent as fe
from fastent.arrays.ranges import as_wide, check_range
from fastent.runtime.threads import limit_threads
from fastent.search import scan
from fastent.search.exact_index import ExactIndex
from fastent.search.index import ExternalQueries
from fastent.search.planner import is_scanned
from fastent.search.scan import ScannedRows, scan_bytes
from tests import naive
from tests.awkward import KINDS, data_set


def assert_same(X, k, queries, *, unit=False, within=None):
    expected = ExactIndex(np.asarray(X[:]), unit=unit).nearest(k, queries, within=within)
    found = ScannedRows(X, unit=unit).nearest(k, queries, within=within)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.squared, expected.squared)
    return found


def normal(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_same_bits_as_from_an_index(kind, unit):
    for seed in range(3):
        X, points = data_set(kind, seed, largest=1500)
        rng = np.random.default_rng(seed)
        if unit and not (X.any(1).all() and points.any(1).all()):
            continue
        k = min(int(rng.integers(1, 13)), len(X) - 1)
        for q in (1, 3, 20):
            assert_same(X, k, np.sort(rng.choice(len(X), q, replace=False)), unit=unit)
            rows, some = as_wide(X, points[:q])
            assert_same(rows, k, some, unit=unit)


@given(st.integers(1, 90), st.integers(1, 70), st.integers(1, 9), st.integers(0, 99), st.booleans())
def test_any_shape(n, d, q, seed, unit):
    """With ties, and so few rows that some or all of them come in no group of four."""
    rng = np.random.default_rng(seed)
    X, points = (rng.integers(1, 4, (m, d)).astype(rng.choice([np.float32, np.float64])) for m in (n, q))
    X, points = as_wide(X, points)
    k = int(rng.integers(1, n + 1))
    found = assert_same(X, k, points, unit=unit)
    truth = naive.wide_angles(points, X[:]) if unit else naive.wide_squared_distances(points, X[:])
    assert not naive.wrong_lists(found.indices, truth, None).any()


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32", ">f4", "float64", "bool", "uint8", "int16", "int32", "uint64"])
def test_any_type_and_order_in_memory(dtype, unit, tmp_path):
    X = (1 + np.abs(3 * normal(700, 21))).astype(dtype)
    np.save(tmp_path / "X.npy", X)
    odd = np.frombuffer(b"." + X.tobytes(), np.uint8)[1:].view(X.dtype).reshape(X.shape)
    forms = (X, np.asfortranarray(X), np.repeat(X, 2, 0)[::2], X[::-1][::-1], odd, np.load(tmp_path / "X.npy", mmap_mode="r"))
    for rows in (*forms, fe.open(tmp_path / "X.npy")):
        for queries in (np.array([0, 699, 5]), X[:1].astype(ExactIndex(X)._points.rows.rows.dtype)):
            assert_same(rows, 4, queries, unit=unit)


def test_every_half_is_widened():
    words = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256).view(np.float16)
    found = np.empty(words.shape, np.float32)
    widen(words, found)
    np.testing.assert_array_equal(found, words.astype(np.float32))
    np.testing.assert_array_equal(np.signbit(found), np.signbit(words))


@numba.njit
def flagged_of_one(rows, first, queries, query, limits, doubt, ahead):
    return differences.near_one(rows, first, queries, query, limits, doubt, ahead)


@numba.njit
def flagged_of_four(rows, first, queries, query, limits, doubt, ahead):
    return differences.near_four(rows, first, queries, query, limits, doubt, ahead)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 3, 8, 16, 17, 64, 135, 300])
def test_sums_of_differences_are_flagged_as_in_numpy(d, dtype):
    if dtype == np.float16 and not differences.HALVES:
        pytest.skip("rows of half precision are widened beforehand here")
    rng = np.random.default_rng(d)
    rows, queries = rng.integers(-3, 4, (9, d)).astype(dtype), rng.integers(-3, 4, (8, d)).astype(dtype)  # exact sums
    rows[6, d - 1], rows[7, 0] = np.nan, np.inf
    if dtype == np.float16:
        rows, queries = rows.view(np.uint16), queries.astype(np.float32)
    limits = rng.integers(0, 16 * d, 16).astype(queries.dtype)
    wider = np.column_stack([queries, np.full((8, 16), np.nan, queries.dtype)])
    for flagged, twin in ((flagged_of_one, differences._near_one), (flagged_of_four, differences._near_four)):
        for first in range(6):
            for query in (0, 3, 4):
                arguments = (rows, first, queries, query, limits, 9.0 * d, 4096)
                assert flagged(*arguments) == twin(*arguments)
                assert flagged(rows, first, wider, *arguments[3:]) == twin(*arguments)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("d", [512, 513, 1025, 1500, 2048])
def test_wide_rows(d, dtype):
    X = normal(301, d).astype(dtype)
    X[5::9] = X[3]
    for q in (2, 3, 70):
        assert_same(X, 7, np.arange(q))
        assert_same(X, 7, X[:q].astype(ExactIndex(X)._points.rows.rows.dtype) + 0.5)
        assert_same(X, 7, np.arange(q), unit=True)


def test_cosines_of_rows_of_which_single_precision_holds_no_inverse_length():
    X = normal(1000, 8)
    X[5] = 1e-40
    X[6] *= np.float32(1e-39)
    X[7] *= np.float32(1e37)
    for queries in (np.ones((1, 8), np.float32), np.array([5, 6, 7]), X[[6, 7, 7, 8, 9]]):
        assert_same(X, 3, queries, unit=True)
    assert fe.neighbors(X, 3, metric="cosine", queries=np.ones((1, 8), np.float32)).indices[0, 0] == 5
    X[5, 0] = 0
    assert_same(X, 3, np.array([5]), unit=True)


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("d", [1, 15, 16, 33, 200])
def test_half_precision_is_met_as_it_lies_or_widened(d, halves, monkeypatch):
    if halves and not differences.HALVES:
        pytest.skip("rows of half precision are widened beforehand here")
    monkeypatch.setattr(scan, "HALVES", halves)
    words = np.random.default_rng(d).integers(0, 0x7C00, (501, d)).astype(np.uint16)  # any number, subnormal ones too
    X = words.view(np.float16)
    X[::7] = X[0]
    for q in (1, 4, 5):
        assert_same(X, 5, np.arange(7, 7 + q))
        assert_same(X, 5, X[3 : 3 + q].astype(np.float32) + 0.25)
    for value in (np.nan, np.inf):
        for row in (0, 499, 500):
            broken = X.copy()
            broken[row, d - 1] = value
            with pytest.raises(ValueError, match=f"row {row}"):
                ScannedRows(broken).nearest(5, X[1:2].astype(np.float32))


def test_no_order_of_the_rows_changes_what_is_found():
    X = normal(3000, 24)
    far_first = np.argsort(-((X - X[7]) ** 2).sum(1), kind="stable")
    for order in (np.arange(3000), far_first, far_first[::-1]):
        found = assert_same(X[order], 5, X[7:8])
        np.testing.assert_array_equal(order[found.indices[0]][0], 7)


def test_threads_and_batches_change_nothing(monkeypatch):
    X = np.repeat(normal(900, 17), 5, 0)
    expected = ExactIndex(X).nearest(9, np.arange(0, 4500, 90))
    for threads, little, batch in ((1, 1 << 30, 1 << 32), (2, 0, 1 << 32), (2, 0, 1), (1, 0, 1)):
        monkeypatch.setattr(scan, "_LITTLE", little)
        monkeypatch.setattr(scan, "_BATCH", batch)
        monkeypatch.setattr(scan, "_LEAST_ROWS", 1001)
        monkeypatch.setattr(scan, "_BLOCK_BYTES", 4096)
        with limit_threads(threads):
            for rows in (X, np.asfortranarray(X)):
                found = ScannedRows(rows).nearest(9, np.arange(0, 4500, 90))
                np.testing.assert_array_equal(found.indices, expected.indices)
                np.testing.assert_array_equal(found.squared, expected.squared)


def test_queries_with_rows_to_leave_out_and_limits():
    X = normal(2000, 12).round(1)
    rows = np.arange(0, 2000, 100)
    squared = assert_same(X, 6, ExternalQueries(X[rows] + 1, rows, np.zeros(20, np.int64))).squared
    limits = squared[:, 2].copy()
    limits[0] = 0
    found = assert_same(X, 6, X[rows] + 1, within=limits)
    assert np.isinf(found.squared[:, -1]).any()
    assert_same(X, 2, None)


def test_a_list_full_of_equal_rows_takes_no_more_distances():
    X = np.repeat(normal(3, 40), [3000, 3000, 1], 0)
    index = ScannedRows(X)
    found = index.nearest(4, np.array([0, 5000]))
    np.testing.assert_array_equal(found.indices, [[1, 2, 3, 4], [3000, 3001, 3002, 3003]])
    assert index.work.near <= 2 * 2 * 5
    assert index.work.scanned == 2 * len(X)


@pytest.mark.parametrize("row", [0, 1, 2, 3, 700, 1998, 1999, 2000])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_is_refused_is_refused_when_it_is_met(row, dtype):
    """Wherever it stands: with the message that a check of all rows gives."""
    bad = [np.nan, np.inf, -np.inf] + [3e38] * (dtype != np.float16) + [1e200] * (dtype == np.float64)
    for value in bad:
        X = normal(2001, 13).astype(dtype)
        X[row, 12] = value
        for unit in (False, True):
            if unit and np.isfinite(value):
                continue
            queries = normal(2, 13, 1)
            with pytest.raises(fe.FastentError) as expected:
                check_range(X, queries, unit=unit)
            for asked in (queries, queries[:1], [3, 5], [row]):
                with pytest.raises(fe.FastentError) as found:
                    fe.neighbors(X, 2, queries=asked, metric="cosine" if unit else "euclidean")
                assert str(found.value) == str(expected.value)


def test_rows_of_zeros_are_refused_when_they_are_met():
    X = normal(900, 6)
    X[[37, 899]] = 0
    with pytest.raises(fe.FastentError, match="2 rows of zeros in X, first row 37"):
        fe.neighbors(X, 2, queries=[1, 2], metric="cosine")
    with pytest.raises(fe.FastentError, match="1 row of zeros in queries, first row 0"):
        fe.neighbors(np.abs(X) + 1, 2, queries=np.zeros((1, 6)), metric="cosine")
    with pytest.raises(fe.FastentError, match="2\\^53"):
        fe.neighbors(np.full((100, 2), 2**53), 2, queries=[[0, 0]])
    tiny = np.full((100, 2), 1e-39)
    with pytest.raises(fe.FastentError, match="no value above"):
        fe.neighbors(tiny, 2, queries=[[0, 0]])
    tiny[99] = 1
    assert fe.neighbors(tiny, 2, queries=[[0, 0]]).indices.tolist() == [[0, 1]]


def test_large_values_within_range_are_not_refused():
    X = normal(1000, 8)
    X[[3, 500, 999]] *= 1e30
    for rows in (X, X.astype(np.float64)):
        for queries in ([1, 500], rows[:1]):
            found = fe.neighbors(rows, 3, queries=queries)
            truth = naive.wide_squared_distances(rows[[1, 500]] if isinstance(queries, list) else queries, rows)
            own = np.array(queries) if isinstance(queries, list) else None
            assert not naive.wrong_lists(found.indices, truth, own).any()


class Counted(fe.ArraySource):
    """Counts the rows that are read, in whichever way."""

    def __init__(self, array):
        super().__init__(array)
        self.n_read = 0

    def read(self, start, stop):
        self.n_read += min(stop, len(self)) - start
        return super().read(start, stop)

    def take(self, rows):
        self.n_read += len(rows)
        return super().take(rows)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("n", [100, 500, 40_000])
def test_every_row_is_read_once(n, metric):
    for queries in (None, np.arange(5), normal(5, 16, 1)):
        X = Counted(normal(n, 16))
        found = fe.neighbors(X, 3, queries=queries, metric=metric)
        assert X.n_read == n
        expected = fe.neighbors(normal(n, 16), 3, queries=queries, metric=metric)
        np.testing.assert_array_equal(found.indices, expected.indices)
    X = Counted(normal(n, 16))
    fe.margins(X, np.arange(n) % 3, metric=metric, queries=20)
    assert X.n_read == n


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("n", [100, 500, 40_000])
def test_rows_for_which_there_is_no_room_are_read_once_but_for_a_sample(n, metric, monkeypatch):
    monkeypatch.setattr("fastent.search.neighbors.BLOCK_BYTES", 1)
    for queries in (np.arange(5), normal(5, 16, 1)):
        X = Counted(normal(n, 16))
        found = fe.neighbors(X, 3, queries=queries, metric=metric)
        assert n <= X.n_read <= n + min(n / 8 + 1, 2 * 256) + 3 * 5 + 64  # queries three times; rows that show the precision
        expected = fe.neighbors(normal(n, 16), 3, queries=queries, metric=metric)
        np.testing.assert_array_equal(found.indices, expected.indices)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_nothing_is_copied(dtype):
    X = normal(200_000, 64).astype(dtype)
    fe.neighbors(X, 10, queries=8)
    tracemalloc.start()
    fe.neighbors(X, 10, queries=8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= scan_bytes(X, 8, 10) < X.nbytes / 2


def test_few_queries_are_scanned_and_others_are_not():
    X = normal(8000, 4)
    assert is_scanned(X, 10, 5, None)
    assert not is_scanned(X, 8000, 5, None)
    assert not is_scanned(X, 10, 2000, None)
    assert is_scanned(normal(100_000, 4), 1, 1000, None)
    assert not is_scanned(X, 10, 5, scan_bytes(X, 10, 5) - 1)
    assert is_scanned(X, 10, 5, scan_bytes(X, 10, 5))
    assert not is_scanned(X, 10, 5, None, client=object())
    found = fe.neighbors(X, 5, queries=10)
    assert found.method == "exact"
    assert found.work.scanned == 80_000
    assert found.work.tiles == 0


def test_whoever_searches_once_for_few_queries_scans(monkeypatch):
    """`measure` without lists of a class, the recall of an approximate method, queries that a proposal leaves open."""
    X, y, searched = normal(4000, 8), np.arange(4000) % 3, []
    X[50:90] = X[3]
    expected = fe.neighbors(X, 5)
    search = ScannedRows.search

    def noted(self, wanted, queries, **options):
        searched.append(len(queries))
        return search(self, wanted, queries, **options)

    monkeypatch.setattr(ScannedRows, "search", noted)
    for normalize in (False, True):
        found = fe.measure(X, y, k=5, queries=40, metrics="mixing", normalize=normalize).neighbors
        truth = fe.neighbors(X, 5, metric="cosine" if normalize else "euclidean")
        np.testing.assert_array_equal(found.indices, truth.indices[found.queries])
    assert searched == [40, 40]
    assert fe.measure(X, y, k=5, queries=40, metrics=["mixing", "margins"]).margins is not None
    assert len(searched) == 2
    found = fe.neighbors(X, 5, method="hnsw")
    assert searched[2:] == [200]
    assert found.recall == pytest.approx((found.distances <= expected.distances[:, -1:] * (1 + 1e-6)).mean(), abs=0.1)
    found = fe.neighbors(X, 5, method="flat", queries=np.arange(30))
    assert searched[3:] == [1]
    assert found.work.chosen == "1 of 30 queries were left open and searched exactly: a scan of the rows as they lie"
    np.testing.assert_array_equal(found.indices, expected.indices[:30])


def test_a_scan_reports_and_can_be_interrupted(monkeypatch):
    X = normal(9000, 4)
    monkeypatch.setattr(scan, "_BATCH", 1)
    said = []
    fe.neighbors(X, 2, queries=5, progress=lambda *each: said.append(each[:2]))
    assert said == [(4096, 9000), (8192, 9000), (9000, 9000)]
    with pytest.raises(KeyboardInterrupt):
        fe.neighbors(X, 2, queries=5, progress=lambda *_: os.kill(os.getpid(), signal.SIGINT))


def test_so_many_features_that_no_sum_tells():
    """Equal rows are at distance 0, which times an infinite factor would be no number."""
    X = np.zeros((12, 1 << 21), np.float32)
    X[8:, 0] = [1, 2, 3, 4]
    found = fe.neighbors(X, 2, queries=X[:1])
    assert found.work.tiles == 0
    assert found.indices.tolist() == [[0, 1]]
