"""The same bits from a Dask cluster as from one process, also if a worker is lost on the way."""

import os
import signal

import fsspec
import numpy as np
import pytest

import fastent as fe
from fastent.search.cells.index import PartitionedIndex
from fastent.search.exact_index import ExactIndex
from tests.search.test_out_of_core import interrupting

distributed = pytest.importorskip("distributed")

# Warnings of distributed and of what it starts.
pytestmark = [pytest.mark.spawn, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 9000)
    X = (rng.standard_normal((9000, 20)) + 2 * rng.standard_normal((4, 20))[y]).round(2).astype(np.float16)
    for i, part in enumerate(np.array_split(X, 5)):
        np.save(folder / f"{i}.npy", part)
    return fe.open(folder), y


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def assert_same(one, other):
    assert one.summary() == pytest.approx(other.summary(), rel=0, abs=0, nan_ok=True)
    assert one.per_point().equals(other.per_point())
    if one.geometry is not None:
        np.testing.assert_array_equal(one.geometry.means, other.geometry.means)


@pytest.mark.parametrize(
    "options",
    [
        {"metrics": ["geometry", "mixing", "margins"], "queries": 3000},
        {"queries": 2500},
        {"queries": 1500, "normalize": True, "metrics": ["silhouette", "soft_nearest_neighbor", "margins"]},
    ],
)
def test_measured_by_two_workers_is_measured_by_one_process(stored, client, options, monkeypatch):
    X, y = stored
    monkeypatch.setattr("fastent.io.sources._PART_BYTES", 1 << 16)
    assert_same(fe.measure(X, y, client=client, **options), fe.measure(X, y, **options))


def test_neighbors_margins_and_geometry(stored, client, monkeypatch):
    X, y = stored
    monkeypatch.setattr("fastent.search.cells.plan._WORTH_SENDING", 1000)  # several cells
    one, other = fe.neighbors(X, 7, client=client, memory_budget="20MiB"), fe.neighbors(X, 7)
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_array_equal(one.distances, other.distances)
    assert one.work.cells == 4
    assert one.work.visits > 0
    np.testing.assert_array_equal(fe.margins(X, y, client=client).margin, fe.margins(X, y).margin)
    np.testing.assert_array_equal(fe.geometry(X, y, client=client).distance, fe.geometry(X, y).distance)
    assert fe.geometry(X, y, client=client).nc1 == fe.geometry(X, y).nc1


def test_a_lost_worker_is_made_up_for(stored, client, monkeypatch):
    X, y = stored
    monkeypatch.setattr("fastent.search.cells.plan._WORTH_SENDING", 1000)
    options = {"queries": 4000, "metrics": ["silhouette", "margins", "mixing"]}
    whole = fe.measure(X, y, **options)
    victim = next(iter(client.run(os.getpid).values()))
    killed = []

    def kill(done, total, message):
        if not killed:
            killed.append(victim)
            os.kill(victim, signal.SIGKILL)

    found = fe.measure(X, y, client=client, progress=kill, **options)
    assert killed
    killed.clear()
    victim = next(iter(client.run(os.getpid).values()))
    one, other = fe.neighbors(X, 7, client=client, progress=kill), fe.neighbors(X, 7)
    assert killed
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_array_equal(one.distances, other.distances)
    assert_same(found, whole)


def test_what_workers_cannot_read_is_refused(stored, client):
    X, y = stored
    with pytest.raises(fe.FastentError, match=r"pass fe.open\(path\)"):
        fe.neighbors(X[:100], client=client)
    with pytest.raises(fe.FastentError, match=r"a distributed\.Client is needed"):
        fe.measure(X, y, client=object())
    with pytest.raises(fe.FastentError, match="client= is for method='exact'"):
        fe.neighbors(X, client=client, method="flat")


def test_threads_of_this_process_are_workers_too(stored):
    X, y = stored
    options = {"queries": 2000, "metrics": ["geometry", "silhouette", "margins", "mixing"]}
    with distributed.Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0") as client:
        found, whole = fe.measure(X, y, client=client, **options), fe.measure(X, y, **options)
        np.testing.assert_array_equal(found.neighbors.indices, whole.neighbors.indices)
        np.testing.assert_array_equal(found.margins.margin, whole.margins.margin)
        # BLAS has one setting for all threads of a process, which a cluster's threads find as it happens to be.
        assert found.summary() == pytest.approx(whole.summary(), rel=1e-6, nan_ok=True)
        one = fe.neighbors(X, 5, queries=2000, client=client, memory_budget="20MiB")
        np.testing.assert_array_equal(one.indices, fe.neighbors(X, 5, queries=2000).indices)


def test_scratch_in_an_object_store(stored):
    """Threads of this process see its memory as all workers see a store."""
    X, y = stored
    store = fsspec.filesystem("memory")
    with distributed.Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0") as client:
        options = {"classes": y, "memory": 20 << 20, "cells": 5, "scratch": "memory://shared"}
        by_threads, alone = PartitionedIndex(X, client=client, **options), PartitionedIndex(X, **options)
        found, expected = by_threads.search({"all": 5, "own class": 1}), alone.search({"all": 5, "own class": 1})
    for among, lists in expected.items():
        np.testing.assert_array_equal(found[among].indices, lists.indices)
        np.testing.assert_array_equal(found[among].squared, lists.squared)
    assert by_threads.work.visits == alone.work.visits > 0
    # Threads may index the same cell at once, but count what they read each for itself.
    assert alone.work.bytes_read <= by_threads.work.bytes_read < 1.2 * alone.work.bytes_read
    assert not store.find("/shared")


def test_resumed_with_and_without_workers(stored, client, tmp_path, monkeypatch):
    """Whatever was interrupted, what is there is used; nothing that was sent stays."""
    X, y = stored
    monkeypatch.setattr("fastent.search.cells.plan._WORTH_SENDING", 1000)
    monkeypatch.setattr("fastent.search.cells.plan._BLOCK", 1 << 16)
    wanted, options = {"all": 5, "other classes": 1}, {"classes": y, "memory": 20 << 20}
    expected, steps = ExactIndex(X[:], classes=y).search(wanted), []
    PartitionedIndex(X, client=client, **options).search(wanted, progress=lambda done, total, message: steps.append(done))
    for turn, after in enumerate(range(2, len(steps), 4)):
        index = PartitionedIndex(X, client=client, kept_in=tmp_path, **options)
        with pytest.raises(KeyboardInterrupt):
            index.search(wanted, progress=interrupting(after))
        if turn == 2:
            with pytest.raises(KeyboardInterrupt):
                PartitionedIndex(X, kept_in=tmp_path, **options).search(wanted, progress=interrupting(after + 1))
    for workers in (client, None):
        index = PartitionedIndex(X, client=workers, kept_in=tmp_path, **options)
        found = index.search(wanted)
        for among, lists in expected.items():
            np.testing.assert_array_equal(found[among].indices, lists.indices)
            np.testing.assert_array_equal(found[among].squared, lists.squared)
        assert index.work.visits > 0
        assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".npz"}
        assert not list(tmp_path.rglob("*.asked.npz"))


@pytest.mark.parametrize("when", [1, 3, 6])
def test_all_workers_are_lost_at_once(stored, client, when, monkeypatch):
    """What they need is still with the scheduler."""
    X, _ = stored
    monkeypatch.setattr("fastent.search.cells.plan._WORTH_SENDING", 1000)
    called = []

    def kill(done, total, message):
        called.append(done)
        if len(called) == when:
            for process in client.run(os.getpid).values():
                os.kill(process, signal.SIGKILL)

    found = fe.neighbors(X, 7, client=client, memory_budget="20MiB", progress=kill)
    assert len(called) > when
    np.testing.assert_array_equal(found.indices, fe.neighbors(X, 7).indices)


def test_a_folder_that_workers_do_not_see_is_refused(stored, client):
    X, _ = stored
    with pytest.raises(fe.FastentError, match=r"does not see the scratch folder 'memory://mine/.*': name one that all workers"):
        fe.neighbors(X, client=client, memory_budget="20MiB", scratch="memory://mine")


def test_what_would_be_sent_is_refused(tmp_path, client):
    X = np.random.default_rng(0).standard_normal((90_000, 4))
    np.save(tmp_path / "X.npy", X)
    with pytest.raises(fe.FastentError, match="would be sent to them"):
        fe.neighbors(np.load(tmp_path / "X.npy", mmap_mode="r")[10:], client=client)
