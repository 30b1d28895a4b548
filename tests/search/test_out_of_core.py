"""Rows that do not fit in memory: chunks give what one index of all rows gives, to the bit; kills lose nothing."""

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastent as fe
from fastent.io.result_cache import PartialResult, ResultCache
from fastent.runtime.threads import limit_threads
from fastent.search.exact_index import ExactIndex
from fastent.search.index import ExternalQueries
from fastent.search.out_of_core import ChunkedIndex, NearestSoFar, chunking

AMONG = ("all", "own class", "other classes")


def points(n, d, n_classes, seed, decimals=1):
    """Many duplicates and ties."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)).round(decimals), rng.integers(0, n_classes, n)


def interrupting(after):
    """Progress that interrupts when it is told so many times."""

    def stop(done, total, message, left=[after]):  # noqa: B006
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    return stop


def in_one_index(X, codes, rows, k):
    index = ExactIndex(X, classes=codes)
    return {among: index.nearest(k, rows, among=among) for among in AMONG}


@given(
    n=st.integers(2, 400), d=st.sampled_from([1, 3, 17, 40]), n_classes=st.integers(1, 5), k=st.integers(1, 12),
    n_chunks=st.integers(1, 6), dtype=st.sampled_from(["float16", "float32", "float64"]), seed=st.integers(0, 99),
)  # fmt: skip
def test_chunk_by_chunk_is_one_index(n, d, n_classes, k, n_chunks, dtype, seed):
    X, y = points(n, d, n_classes, seed)
    X, y = X.astype(dtype), np.unique(y, return_inverse=True)[1]
    k = min(k, n - 1)
    rows = np.random.default_rng(seed).permutation(n)[: max(1, n // 2)]
    kernel = X.astype(np.float64 if dtype == "float64" else np.float32)
    near = NearestSoFar(ExternalQueries(kernel[rows], rows, y[rows]), dict.fromkeys(AMONG, k))
    for chunk in np.array_split(np.arange(n), n_chunks):
        if len(chunk):
            near.update(X[chunk], chunk[0], y[chunk])
    for among, (squared, index) in in_one_index(X, y, rows, k).items():
        found = near.found()[among]
        np.testing.assert_array_equal(found[0], squared)
        np.testing.assert_array_equal(found[1], index)


@pytest.mark.large
@pytest.mark.parametrize("memory", [2 << 20, 8 << 20, 1 << 30])
def test_any_memory_gives_the_same(memory):
    X, y = points(9000, 20, 4, 0, decimals=2)
    X = X.astype(np.float32)
    rows = np.arange(9000)
    wanted = dict.fromkeys(AMONG, 3)
    if chunking(X, 9000, wanted, memory).needed > memory:
        with pytest.raises(fe.FastentError, match="use fewer queries or a larger memory_budget"):
            ChunkedIndex(X, classes=y, memory=memory).search(wanted, rows)
        return
    found = ChunkedIndex(X, classes=y, memory=memory).search(wanted, rows)
    for among, lists in in_one_index(X, y, rows, 3).items():
        np.testing.assert_array_equal(found[among][0], lists[0])
        np.testing.assert_array_equal(found[among][1], lists[1])


def test_chunks_fit_the_memory_they_are_planned_for():
    X = np.broadcast_to(np.float16(0), (5_000_000, 128))
    plan = chunking(X, 50_000, {"all": 10, "own class": 1, "other classes": 1}, 900 << 20)
    assert plan.needed <= 900 << 20
    assert plan.rows > 150_000


@pytest.fixture
def stored(tmp_path):
    X, y = points(6000, 24, 4, 1, decimals=2)
    X = X.astype(np.float16)
    np.save(tmp_path / "X.npy", X)
    return fe.open(tmp_path / "X.npy"), X, y


@pytest.mark.large
@pytest.mark.parametrize("queries", [None, 700])
def test_sources_are_arrays_that_stay_where_they_are(stored, queries):
    source, X, y = stored
    for one, other in (
        (fe.neighbors(source, 5, queries=queries), fe.neighbors(X, 5, queries=queries)),
        (fe.neighbors(source, 5, queries=queries, memory_budget="5MiB"), fe.neighbors(X, 5, queries=queries)),
        (fe.neighbors(source, 5, queries=queries, metric="cosine", memory_budget="5MiB"),
         fe.neighbors(X, 5, queries=queries, metric="cosine")),
    ):  # fmt: skip
        np.testing.assert_array_equal(one.indices, other.indices)
        np.testing.assert_array_equal(one.distances, other.distances)
    for budget in (None, "5MiB"):
        one, other = fe.margins(source, y, queries=queries, memory_budget=budget), fe.margins(X, y, queries=queries)
        np.testing.assert_array_equal(one.margin, other.margin)
        np.testing.assert_array_equal(one.miss_index, other.miss_index)
    np.testing.assert_array_equal(fe.silhouette(source, y, queries=queries), fe.silhouette(X, y, queries=queries))
    assert (
        fe.soft_nearest_neighbor_loss(source, y, queries=queries).loss
        == fe.soft_nearest_neighbor_loss(X, y, queries=queries).loss
    )
    assert fe.geometry(source, y).nc1 == pytest.approx(fe.geometry(X, y).nc1, rel=1e-12)
    assert fe.participation_ratio(source) == pytest.approx(fe.participation_ratio(X), rel=1e-12)
    assert fe.cka(source, source) == pytest.approx(1)
    for normalize in (False, True):
        one, other = (fe.measure(data, y, queries=queries, normalize=normalize) for data in (source, X))
        assert one.summary() == pytest.approx(other.summary(), rel=1e-9, nan_ok=True)


def test_complexity_of_a_source(stored):
    source, X, y = stored
    one, other = fe.complexity(fe.ArraySource(source[:1500]), y[:1500]), fe.complexity(X[:1500], y[:1500])
    assert (one.n1, one.t1, one.lsc) == (other.n1, other.t1, other.lsc)


def test_a_cut_measured_from_disk_is_the_cut_in_memory_bit_for_bit(stored):
    source, X, y = stored
    wanted = {"metrics": ["mixing", "margins"], "queries": 500}
    by_chunks = fe.measure(source, y, memory_budget="8MiB", **wanted)
    at_once = fe.measure(X, y, **wanted)
    assert "neighbours" in {stage.name for stage in by_chunks.stages}
    assert by_chunks.summary() == at_once.summary()
    np.testing.assert_array_equal(by_chunks.neighbors.distances, at_once.neighbors.distances)


def test_nan_is_named_before_anything_is_searched(tmp_path):
    X, y = points(5000, 8, 3, 0)
    X[4321, 5] = np.nan
    np.save(tmp_path / "X.npy", X)
    with pytest.raises(fe.FastentError, match=r"NaN or infinity in 1 of 5000 rows, first at row 4321, column 5"):
        fe.measure(fe.open(tmp_path / "X.npy"), y, metrics=["margins"], queries=10, memory_budget="4MiB")


@pytest.mark.large
def test_lists_go_on_from_what_was_kept(stored, tmp_path, monkeypatch):
    """Interrupted after any chunk, the search goes on from there."""
    source, _, y = stored
    monkeypatch.setattr("fastent.io.result_cache._SECONDS", 0.0)
    monkeypatch.setattr("fastent.search.out_of_core._MOST", 1500)
    monkeypatch.setattr("fastent.search.out_of_core._LEAST", 1500)
    rows, wanted = np.arange(600), dict.fromkeys(AMONG, 2)
    whole = ChunkedIndex(source, classes=y, memory=7 << 20).search(wanted, rows)
    for stop_after in (1, 2, 3):
        place = PartialResult(tmp_path / f"{stop_after}.npz")
        with pytest.raises(KeyboardInterrupt):
            ChunkedIndex(source, classes=y, memory=7 << 20, unfinished=place).search(
                wanted, rows, progress=interrupting(stop_after)
            )
        found = ChunkedIndex(source, classes=y, memory=7 << 20, unfinished=place).search(wanted, rows)
        for among in AMONG:
            np.testing.assert_array_equal(found[among][0], whole[among][0])
            np.testing.assert_array_equal(found[among][1], whole[among][1])


MEASURE = """
import sys, numpy as np, fastent as fe, fastent.io.result_cache
fastent.io.result_cache._SECONDS = 0.05
X, y, out, metrics, queries, memory = sys.argv[1:]
found = fe.measure(
    fe.open(X), np.load(y), metrics=metrics.split(","), queries=int(queries) or None, checkpoint=out, memory_budget=memory
)
found.save(out)
fastent.io.result_cache.ResultCache(out, name="measure-parts").clear()
print("done")
"""


@pytest.mark.spawn
@pytest.mark.parametrize(
    ("metrics", "queries", "memory"),
    [
        ("mixing,margins", 4000, "1GiB"),
        ("mixing,margins", 0, "5MiB"),  # cell by cell
        ("silhouette,soft_nearest_neighbor,margins", 3000, "1GiB"),
        ("complexity,silhouette", 0, "1GiB"),
    ],
)
def test_killed_and_run_again_is_uninterrupted_bit_for_bit(tmp_path, metrics, queries, memory):
    X, y = points(8000, 32, 4, 3, decimals=3)
    np.save(tmp_path / "X.npy", X.astype(np.float32))
    np.save(tmp_path / "y.npy", y)
    whole = fe.measure(fe.open(tmp_path / "X.npy"), y, metrics=metrics.split(","), queries=queries or None)
    out = tmp_path / "out"
    command = [sys.executable, "-c", MEASURE, tmp_path / "X.npy", tmp_path / "y.npy", out, metrics, str(queries), memory]
    rng = np.random.default_rng(0)
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.getcwd()}) as process:
            while process.poll() is None and not list(out.glob("measure-parts/**/*.npz")):
                time.sleep(0.02)  # into the middle of it, wherever that is on this machine
            time.sleep(rng.uniform(0, 0.4))
            process.send_signal(signal.SIGKILL)
    subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.getcwd()})
    assert sorted(path.name for path in out.iterdir()) == ["differences.npz", "per_point.parquet", "summary.json"]
    fresh = tmp_path / "fresh"
    whole.save(fresh)
    one, other = (json.loads((place / "summary.json").read_text())["statistics"] for place in (out, fresh))
    assert one == other
    assert pq.read_table(out / "per_point.parquet").equals(pq.read_table(fresh / "per_point.parquet"))


@pytest.mark.large
def test_a_checkpoint_holds_no_copy_of_the_rows(tmp_path):
    """Everything that the result depends on is digested, block by block."""
    n, d = 1_200_000, 32
    rng = np.random.default_rng(0)
    np.save(tmp_path / "X.npy", rng.standard_normal((n, d), np.float32).astype(np.float16))
    source, y = fe.open(tmp_path / "X.npy"), rng.integers(0, 3, n)
    tracemalloc.start()
    try:
        fe.measure(source, y, metrics=["margins"], queries=20, checkpoint=tmp_path / "kept", memory_budget="200MiB")
        assert tracemalloc.get_traced_memory()[1] < 4 * n * d
    finally:
        tracemalloc.stop()


def test_what_is_not_ours_stays(stored, tmp_path):
    source, _, y = stored
    theirs = tmp_path / "measure-parts" / "mine.npz"
    theirs.parent.mkdir()
    theirs.write_text("dear")
    kept = tmp_path / "parts"
    kept.mkdir()
    (kept / "shard.npy").write_text("dear")
    fe.measure(source, y, metrics=["margins"], checkpoint=tmp_path)
    assert len(list(theirs.parent.iterdir())) > 1
    ResultCache(tmp_path, name="measure-parts").clear()
    assert [path.name for path in theirs.parent.iterdir()] == ["mine.npz"]
    assert (kept / "shard.npy").exists()


def test_the_order_of_the_rows_does_not_depend_on_threads():
    X = np.eye(700, dtype=np.float32)[np.random.default_rng(0).integers(0, 700, 5000)]
    orders = []
    for threads in (1, 2):
        with limit_threads(threads):
            orders.append(ExactIndex(X).order)
    np.testing.assert_array_equal(*orders)


def test_sums_over_classes_are_planned_for_silhouettes_alone():
    X, y = points(20_000, 4, 3, 0)
    y = np.arange(20_000) % 1000
    assert fe.measure(X, y, metrics=["geometry"], memory_budget="300MiB").geometry is not None
    with pytest.raises(fe.FastentError, match="needs about"):
        fe.measure(X, y, metrics=["silhouette"], memory_budget="300MiB")


def test_a_radius_beyond_single_precision():
    """Of tiny rows seen at a large scale, and one far out: no warning, and what one index finds."""
    X = np.random.default_rng(0).standard_normal((20_000, 24)).astype(np.float32) * np.float32(1e-36)
    X[17] = 1e30
    found, expected = fe.neighbors(X, 3, memory_budget="10MiB"), fe.neighbors(X, 3)
    assert "cells of space" in found.work.chosen
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_how_far_to_search_holds_on_processors_that_round_otherwise(dtype, unit):
    """Vectors of another length take sums in another order: so do other places of the features, with zeros between them."""
    rng = np.random.default_rng(0)
    X = (5 + rng.standard_normal((600, 77))).astype(dtype)
    other = np.zeros((600, 200), dtype)
    other[:, rng.choice(200, 77, replace=False)] = X[:, ::-1]
    rows, sample, k = np.arange(300), np.arange(0, 600, 2), 3
    codes = np.zeros(len(rows), np.int64)
    elsewhere = NearestSoFar(ExternalQueries(other[rows], rows, codes), {"all": k}, unit=unit).confined(
        other[sample], sample, None
    )
    here = NearestSoFar(ExternalQueries(X[rows], rows, codes), {"all": k}, unit=unit)
    here._within = elsewhere._within
    here.update(X, 0)
    found = here.found()["all"]
    assert np.isfinite(found.squared).all()
    np.testing.assert_array_equal(found.indices, ExactIndex(X, unit=unit).nearest(k, rows).indices)
    # Among the sample alone each query's farthest is at the limit itself, here or elsewhere.
    here = here.afresh()
    excluded = np.where(rows % 2 == 0, rows // 2, -1)
    here._queries = here._queries._replace(excluded=excluded)
    here.update(X[sample], 0)
    assert np.isfinite(here.found()["all"].squared).all()
