"""Rows in cells of space: what is found is what one index of all rows finds, to the bit, wherever and however they lie."""

import errno
import os
import tempfile
import tracemalloc
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest
from fastent.kernels.merging import merge_lists
from fastent.kernels.reach import boxes_within
from hypothesis import given
from hypothesis import strategies as st

import fastent as fe
from fastent.arrays.validation import UnitRows
from fastent.io.files import signature
from fastent.io.scratch import LocalFolder, RemoteFolder
from fastent.search import sketch
from fastent.search.cells import cell as cell_module
from fastent.search.cells import index as index_module
from fastent.search.cells.cell import CellSearch
from fastent.search.cells.index import PartitionedIndex
from fastent.search.cells.partition import ROOM, boxes_of_cells, take_partition
from fastent.search.cells.plan import plan_cells
from fastent.search.cells.reach import Reached
from fastent.search.cells.time_left import TimeLeft
from fastent.search.exact_index import ExactIndex
from fastent.search.index import AMONG, ExternalQueries, NeighborLists, merged
from tests.search.test_out_of_core import interrupting


def points(n, d, n_classes, seed, decimals=1):
    """Many duplicates and ties."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)).round(decimals), rng.integers(0, n_classes, n)


def the_same(found, expected):
    for among in expected:
        np.testing.assert_array_equal(found[among].squared, expected[among].squared)
        np.testing.assert_array_equal(found[among].indices, expected[among].indices)


@given(
    n=st.integers(2, 400), d=st.sampled_from([1, 3, 17, 40]), n_classes=st.integers(1, 5), k=st.integers(1, 12),
    cells=st.integers(1, 9), dtype=st.sampled_from(["float16", "float32", "float64"]), unit=st.booleans(),
    which=st.sampled_from(["all", "rows", "points"]), seed=st.integers(0, 99), one_point=st.booleans(),
)  # fmt: skip
def test_cell_by_cell_is_one_index(n, d, n_classes, k, cells, dtype, unit, which, seed, one_point):
    X, y = points(n, d, n_classes, seed)
    if one_point:
        X[: n // 2] = X[0]
    if unit:
        X[~X.any(1)] = 1  # rows of zeros have no direction, and are refused before
    X, y = X.astype(dtype), np.unique(y, return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    rows = rng.permutation(n)[: max(1, n // 2)]
    kernel = X.astype(np.float64 if dtype == "float64" else np.float32)
    queries = {"all": None, "rows": rows, "points": ExternalQueries(kernel[rows], np.where(rows % 3, rows, -1), y[rows])}[which]
    wanted = dict.fromkeys(AMONG, min(k, n - 1)) if seed % 2 else {"all": min(k, n - 1), "own class": 1, "other classes": 1}
    expected = ExactIndex(X, classes=y, unit=unit).search(wanted, queries)
    index = PartitionedIndex(X, classes=y, unit=unit, memory=1 << 30, cells=cells)
    the_same(index.search(wanted, queries), expected)


@given(seed=st.integers(0, 20), cells=st.integers(1, 6), far=st.floats(0, 4))
def test_no_farther_than_is_wanted(seed, cells, far):
    X, y = points(300, 5, 3, seed)
    within = np.random.default_rng(seed).uniform(0, far, 300)
    wanted = dict.fromkeys(AMONG, 4)
    expected = ExactIndex(X, classes=y).search(wanted, within=within)
    the_same(PartitionedIndex(X, classes=y, memory=1 << 30, cells=cells).search(wanted, within=within), expected)


@pytest.mark.parametrize("lists_on_disk", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rows_on_disk(tmp_path, dtype, lists_on_disk, monkeypatch):
    X, y = points(9000, 24, 4, 1, decimals=2)
    np.save(tmp_path / "X.npy", X.astype(dtype))
    monkeypatch.setattr("fastent.search.cells.plan._LISTS", 1 if not lists_on_disk else 1 << 40)
    monkeypatch.setattr("fastent.search.cells.plan._BLOCK", 1 << 16)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    source = fe.open(tmp_path / "X.npy")
    wanted = {"all": 5, "own class": 1, "other classes": 1}
    for X_given in (source, UnitRows(source)):
        index = PartitionedIndex(X_given, classes=y, memory=1 << 28, cells=5)
        expected = ExactIndex(np.asarray(X_given[:]), classes=y).search(wanted)
        the_same(index.search(wanted), expected)
        assert index.work.scanned > 0
        assert "in 5 cells" in index.work.chosen
    assert [path.name for path in tmp_path.iterdir()] == ["X.npy"]  # no scratch is left


@pytest.mark.parametrize("memory", [3 << 20, 8 << 20, 1 << 30])
def test_any_memory_gives_the_same(memory):
    X, y = points(9000, 20, 4, 0, decimals=2)
    X = X.astype(np.float32)
    wanted = dict.fromkeys(AMONG, 3)
    if plan_cells(X, 9000, wanted, memory).needed > memory:
        with pytest.raises(fe.FastentError, match="use fewer queries or a larger memory_budget"):
            PartitionedIndex(X, classes=y, memory=memory).search(wanted)
        return
    the_same(PartitionedIndex(X, classes=y, memory=memory).search(wanted), ExactIndex(X, classes=y).search(wanted))


@given(
    n=st.integers(1, 5000),
    cells=st.integers(1, 40),
    decimals=st.integers(0, 6),
    seed=st.integers(0, 9),
    d=st.sampled_from([1, 8, 30]),
)
def test_every_row_has_a_cell_of_bounded_size(n, cells, decimals, seed, d):
    X = points(n, d, 1, seed, decimals)[0]
    X[: n // 3] = X[0]
    partition = take_partition(X, cells, unit=False, seed=seed)
    seen = partition.sketch(X)
    places, counts = partition.dealt(seen, np.arange(n))
    np.testing.assert_array_equal(np.sort(places), np.arange(n))
    ends = np.cumsum(counts)
    boxes = boxes_of_cells(partition, seen[places], counts)
    for cell, (begin, end) in enumerate(zip(ends - counts, ends)):
        assert (np.diff(places[begin:end]) > 0).all()
        assert (seen[places[begin:end]] >= boxes.lower[cell]).all()
        assert (seen[places[begin:end]] <= boxes.upper[cell]).all()
    if n >= 4096 and cells <= 4:  # the sample is all rows, or nearly so
        assert counts.max() <= ROOM * n / cells


@given(seed=st.integers(0, 30), m=st.integers(1, 17), n_boxes=st.integers(1, 20))
def test_boxes_within(seed, m, n_boxes):
    """None is left out that double precision sees within the radius, and none is reached that lies clearly beyond."""
    rng = np.random.default_rng(seed)
    some = rng.standard_normal((50, m)).astype(np.float32)
    ends = np.sort(rng.standard_normal((2, n_boxes, m)), axis=0).astype(np.float32)
    radii = np.append(rng.uniform(0, 3, 49), np.inf).astype(np.float32)
    below, above = (ends[0] - some[:, None].astype(float)), (some[:, None].astype(float) - ends[1])
    gaps = np.sqrt((np.maximum(np.maximum(below, above), 0) ** 2).sum(2))
    reached = boxes_within(some, radii, *ends)
    assert reached[gaps <= radii[:, None]].all()
    assert not reached[gaps > radii[:, None] * 1.0001 + 1e-6].any()


@given(seed=st.integers(0, 50), k=st.integers(1, 9))
def test_merged_lists(seed, k):
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(40)

    def some(rows):
        squared = rng.integers(0, 4, (6, len(rows))).astype(float)
        squared[rng.random(squared.shape) < 0.2] = np.inf
        index = np.where(np.isinf(squared), 40, rows)
        order = np.lexsort((index, squared))[:, :k]
        return NeighborLists(np.take_along_axis(squared, order, 1), np.take_along_axis(index, order, 1))

    one, other = some(numbers[:20]), some(numbers[20:])
    expected = merged([one, other])
    merge_lists(one.squared, one.indices, other.squared, other.indices)
    np.testing.assert_array_equal(one.squared, expected.squared)
    np.testing.assert_array_equal(one.indices, expected.indices)


@pytest.fixture
def on_disk(tmp_path, monkeypatch):
    """Rows and classes, in blocks of some hundred rows."""
    monkeypatch.setattr("fastent.search.cells.plan._BLOCK", 1 << 16)
    X, y = points(6000, 24, 4, 1, decimals=2)
    np.save(tmp_path / "X.npy", X.astype(np.float16))
    return fe.open(tmp_path / "X.npy"), y


def test_interrupted_anywhere_it_goes_on_from_there(on_disk, tmp_path):
    X, y = on_disk
    wanted = {"all": 3, "other classes": 1}
    options = {"classes": y, "memory": 1 << 28, "cells": 4}
    whole, steps = PartitionedIndex(X, **options).search(wanted), []
    PartitionedIndex(X, **options).search(wanted, progress=lambda done, total, message: steps.append(done))
    assert steps == sorted(steps)
    for place in (tmp_path / "a", tmp_path / "b"):  # whatever was interrupted before
        for after in range(1, len(steps), 3):
            with pytest.raises(KeyboardInterrupt):
                PartitionedIndex(X, kept_in=place, **options).search(wanted, progress=interrupting(after))
        before = {path.name: path.stat().st_mtime_ns for path in place.rglob("*.npz")}
        the_same(PartitionedIndex(X, kept_in=place, **options).search(wanted), whole)
        made = {path.name: path.stat().st_mtime_ns for path in place.rglob("*.npz")}
        assert before.items() <= made.items()  # nothing was made again
        assert not list(place.rglob("*.bin"))  # copies of rows are not needed any more
        assert len(list(place.iterdir())) == 1


def test_on_another_processor_space_stays_cut_as_it_was(on_disk, tmp_path, monkeypatch):
    """Axes may come out the other way round there."""
    X, y = on_disk
    options = {"classes": y, "memory": 1 << 28, "cells": 4}
    expected = ExactIndex(X[:], classes=y).search({"all": 3})
    axes_of = sketch._principal_axes
    for after in (3, 8, 12):
        monkeypatch.setattr(sketch, "_principal_axes", axes_of)
        place = tmp_path / str(after)
        with pytest.raises(KeyboardInterrupt):
            PartitionedIndex(X, kept_in=place, **options).search({"all": 3}, progress=interrupting(after))
        monkeypatch.setattr(sketch, "_principal_axes", lambda sample, n: axes_of(sample, n) * (-1.0) ** np.arange(n))
        the_same(PartitionedIndex(X, kept_in=place, **options).search({"all": 3}), expected)


def test_one_process_searches_in_a_folder(on_disk, tmp_path):
    X, _ = on_disk
    refused = []

    def search_too(done, total, message):
        with pytest.raises(fe.FastentError, match="another process writes to"):
            PartitionedIndex(X, memory=1 << 28, cells=2, kept_in=tmp_path / "kept").search({"all": 3})
        refused.append(done)

    PartitionedIndex(X, memory=1 << 28, cells=3, kept_in=tmp_path / "kept").search({"all": 3}, progress=search_too)
    assert refused


def test_points_that_all_lie_in_one_cell_come_some_at_a_time(monkeypatch):
    X, _ = points(6000, 8, 1, 0, decimals=3)
    queries = X[:1] + 1e-3 * np.random.default_rng(0).standard_normal((3000, 8))
    sizes, own = [], CellSearch.own

    def counted(self, cell, asked):
        sizes.append(len(asked["points"]))
        return own(self, cell, asked)

    monkeypatch.setattr(CellSearch, "own", counted)
    index = PartitionedIndex(X, memory=1 << 21, cells=4)
    the_same(index.search({"all": 3}, queries), ExactIndex(X).search({"all": 3}, queries))
    assert max(sizes) == 1024
    assert sum(sizes) == 3000


def test_what_searches_take_is_what_the_plan_says(on_disk, tmp_path):
    X, _ = points(60_000, 24, 1, 0, decimals=4)
    X = X.astype(np.float32)
    PartitionedIndex(X[:3000], memory=1 << 28, cells=2).search({"all": 5})
    for memory in (12 << 20, 24 << 20):
        index = PartitionedIndex(X, memory=memory)
        tracemalloc.start()
        try:
            index.search({"all": 5})
            assert tracemalloc.get_traced_memory()[1] < memory
        finally:
            tracemalloc.stop()


def test_a_temporary_folder_that_is_none_is_refused(on_disk, monkeypatch):
    X, _ = on_disk
    monkeypatch.setenv("TMPDIR", "/nowhere/at/all")
    with pytest.raises(fe.FastentError, match=r"TMPDIR='/nowhere/at/all' is no folder that can be written to"):
        PartitionedIndex(X, memory=1 << 28, cells=3).search({"all": 3})


def test_another_memory_begins_anew_only_if_it_must(on_disk, tmp_path):
    X, _ = on_disk
    expected, place = ExactIndex(X[:]).search({"all": 3}), tmp_path / "kept"
    n_cells = []
    for memory in (9 << 20, 1 << 28, 5 << 20):
        index = PartitionedIndex(X, memory=memory, kept_in=place)
        the_same(index.search({"all": 3}), expected)
        n_cells.append(index.work.chosen.split()[1])
    assert n_cells[0] == n_cells[1] != n_cells[2]


def test_damaged_scratch_is_refused(on_disk, tmp_path):
    X, _ = on_disk
    place = tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):  # when all rows are dealt
        PartitionedIndex(X, memory=1 << 28, cells=3, kept_in=place).search({"all": 3}, progress=interrupting(5))
    victim = sorted(place.rglob("rows-*.bin"))[2]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    with pytest.raises(fe.FastentError, match=r"is damaged, its checksum \(CRC-32\) does not agree: remove that folder"):
        PartitionedIndex(X, memory=1 << 28, cells=3, kept_in=place).search({"all": 3})


def test_a_full_disk_is_refused_beforehand(on_disk, monkeypatch):
    X, _ = on_disk
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(
        fe.FastentError, match=r"takes about .* of disk in .*, which has 1000 bytes free: make room, or name a folder on"
    ):
        PartitionedIndex(X, memory=1 << 28, cells=3).search({"all": 3})


def test_a_finished_search_goes_on_with_another_memory(on_disk, tmp_path):
    """As another search of the same call was interrupted after it; copies of rows are gone, and visitors are others."""
    X, _ = on_disk
    expected, chosen = ExactIndex(X[:]).search({"all": 3}), []
    for memory in (6 << 20, 1 << 28, 6 << 20):
        searched = PartitionedIndex(X, memory=memory, cells=12 if memory < 1 << 28 else None, kept_in=tmp_path / "kept")
        the_same(searched.search({"all": 3}), expected)
        chosen.append(searched.work)
    assert [work.cells for work in chosen] == [12, 12, 12]
    assert chosen[0].visits > 0


def test_what_other_queries_found_is_refused(on_disk, tmp_path):
    """Their groups have names, but which they are depends on bounds, which another processor may compute otherwise."""
    X, _ = on_disk
    PartitionedIndex(X, memory=1 << 28, cells=4, kept_in=tmp_path / "kept").search({"all": 3})
    one, other, *_ = sorted((tmp_path / "kept").rglob("visit-*.npz"))
    one.replace(other)
    with pytest.raises(fe.FastentError, match=r"'visit-.*' in '.*' is of other queries, .*: remove that folder"):
        PartitionedIndex(X, memory=1 << 28, cells=4, kept_in=tmp_path / "kept").search({"all": 3})


def test_less_memory_goes_on_where_it_can(on_disk, tmp_path, monkeypatch):
    """Nothing is made again: groups of queries are as large as they were."""
    X, _ = on_disk
    options = {"classes": None, "kept_in": tmp_path / "kept"}
    monkeypatch.setattr("fastent.search.cells.plan._VISITORS", 256)
    memory = 9 << 20
    PartitionedIndex(X, memory=memory, cells=4, **options).search({"all": 3})
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("visit-*.npz")}
    assert len(before) > 2
    the_same(PartitionedIndex(X, memory=int(0.85 * memory), **options).search({"all": 3}), ExactIndex(X[:]).search({"all": 3}))
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("visit-*.npz")}


def test_indices_are_kept_as_far_as_there_is_room(on_disk, monkeypatch):
    """Few are built and few rows read where all are kept."""
    X, _ = on_disk
    sizes, keep, built = [], CellSearch._keep, []
    monkeypatch.setattr(CellSearch, "_keep", lambda self, *args: (keep(self, *args), sizes.append(len(self._kept)))[0])
    make = cell_module.ExactIndex
    monkeypatch.setattr(cell_module, "ExactIndex", lambda *args, **options: (built.append(1), make(*args, **options))[1])
    for kept, most in ((0, 1), (1, 2), (3, 4)):
        plan = index_module.plan_cells
        monkeypatch.setattr(
            index_module, "plan_cells", lambda *args, p=plan, k=kept, **options: p(*args, **options)._replace(kept=k)
        )
        searched = PartitionedIndex(X, memory=1 << 28, cells=4)
        the_same(searched.search({"all": 3}), ExactIndex(X[:]).search({"all": 3}))
        assert max(sizes) == most
        assert len(built) <= (8, 7, 4)[(0, 1, 3).index(kept)]
        sizes.clear()
        built.clear()
        monkeypatch.setattr(index_module, "plan_cells", plan)


def test_what_a_search_begun_otherwise_left_is_not_taken(on_disk, tmp_path):
    """A worker may write what it found of cells cut otherwise when these have been cut anew."""
    X, _ = on_disk
    place, expected = tmp_path / "kept", ExactIndex(X[:]).search({"all": 3})
    PartitionedIndex(X, memory=1 << 28, cells=3, kept_in=place).search({"all": 3})
    (before,) = place.iterdir()
    late = {path.name: path.read_bytes() for path in before.glob("own-*.npz")}
    (before / "plan.npz").unlink()  # killed while it was removed
    PartitionedIndex(X, memory=1 << 28, cells=5, seed=1, kept_in=place).search({"all": 3})
    assert not before.exists()
    before.mkdir()
    for name, content in late.items():
        (before / name).write_bytes(content)
    the_same(PartitionedIndex(X, memory=1 << 28, cells=5, seed=1, kept_in=place).search({"all": 3}), expected)


def test_time_left_of_a_resumed_search_is_that_of_what_is_left(on_disk, tmp_path, monkeypatch):
    X, _ = on_disk
    added = []
    monkeypatch.setattr(TimeLeft, "add", lambda self, stage, amount, done_before=False: added.append((stage, done_before)))
    options = {"memory": 1 << 28, "cells": 4}
    with pytest.raises(KeyboardInterrupt):  # blocks of rows, and two cells
        PartitionedIndex(X, kept_in=tmp_path / "kept", **options).search({"all": 3}, progress=interrupting(7))
    before = list(added)
    added.clear()
    PartitionedIndex(X, kept_in=tmp_path / "kept", **options).search({"all": 3})
    assert [done for _, done in added[: len(before)]] == [True] * len(before)
    assert not any(done for _, done in added[len(before) :])


def test_a_file_is_no_place_for_scratch(on_disk, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(fe.FastentError, match=r"scratch='.*file' is no folder that can be written to"):
        PartitionedIndex(on_disk[0], memory=1 << 28, cells=3, scratch=str(tmp_path / "file")).search({"all": 3})


@pytest.mark.parametrize("lists_on_disk", [False, True])
@pytest.mark.parametrize("where", ["memory://scratch", "folder", "file://"])
def test_scratch_lies_where_it_is_asked_for(on_disk, tmp_path, where, lists_on_disk, monkeypatch):
    """In a folder, or in an object store; nothing is left there."""
    monkeypatch.setattr("fastent.search.cells.plan._LISTS", 1 if not lists_on_disk else 1 << 40)
    monkeypatch.setattr("fastent.search.cells.rows._TOGETHER", 1 << 12)
    X, y = on_disk
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    scratch = where if where.startswith("memory") else where.replace("folder", "") + str(tmp_path / "some" / "folder")
    store, seen = fsspec.filesystem("memory"), set()

    def look(done, total, message):
        there = store.find("/scratch") if where.startswith("memory") else (tmp_path / "some" / "folder").rglob("*")
        seen.update(str(path).rpartition("/")[2] for path in there)

    wanted = {"all": 5, "own class": 1, "other classes": 1}
    index = PartitionedIndex(X, classes=y, memory=1 << 28, cells=5, scratch=scratch)
    the_same(index.search(wanted, progress=look), ExactIndex(X[:], classes=y).search(wanted))
    assert {"rows-000000000000.bin", "rows-000000000000.npz"} <= seen
    assert not list((tmp_path / "temporary").iterdir())
    assert not store.find("/scratch")
    assert where.startswith("memory") or not list((tmp_path / "some" / "folder").iterdir())


def test_what_was_found_is_kept_beside_scratch_elsewhere(on_disk, tmp_path):
    X, y = on_disk
    wanted, kept_in = {"all": 3, "other classes": 1}, tmp_path / "kept"
    options = {"classes": y, "memory": 1 << 28, "cells": 4, "scratch": "memory://elsewhere"}
    expected, steps = ExactIndex(X[:], classes=y).search(wanted), []
    PartitionedIndex(X, **options).search(wanted, progress=lambda done, total, message: steps.append(done))
    for after in range(1, len(steps), 4):
        with pytest.raises(KeyboardInterrupt):
            PartitionedIndex(X, kept_in=kept_in, **options).search(wanted, progress=interrupting(after))
        assert not fsspec.filesystem("memory").find("/elsewhere")
    before = {path.name: path.stat().st_mtime_ns for path in kept_in.rglob("*.npz")}
    assert not [name for name in before if name.startswith("rows")]
    the_same(PartitionedIndex(X, kept_in=kept_in, **options).search(wanted), expected)
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in kept_in.rglob("*.npz")}.items()


def test_scratch_of_a_killed_process_is_removed_from_a_store(on_disk):
    X, _ = on_disk
    store, ended = fsspec.filesystem("memory"), signature().rpartition("-")[0] + "-999999999"
    store.pipe_file(f"/left/fastent-scratch-{ended}-0/in-use", b"")
    store.pipe_file("/left/fastent-scratch-another-1-0/in-use", b"")
    PartitionedIndex(X, memory=1 << 28, cells=3, scratch="memory://left").search({"all": 3})
    assert store.find("/left") == ["/left/fastent-scratch-another-1-0/in-use"]


@pytest.mark.parametrize(
    ("scratch", "message"),
    [
        (3, "scratch=3: a folder, or an address such as"),
        ("", "scratch='': a folder, or an address such as"),
        ("nowhere://bucket", r"scratch='nowhere://bucket' cannot be used \(ValueError: Protocol not known: nowhere"),
        ("gdrive://folder", "scratch='gdrive://folder' needs a package: "),
        ("memory://", "scratch='memory://': an address is text, PROTOCOL://FOLDER"),
        ("memory:/folder", "scratch='memory:/folder': an address is text"),
        (Path("s3://bucket/folder"), r"scratch=PosixPath\('s3:/bucket/folder'\): an address is text"),
        ("memory://a[b]", r"none of the characters \*\?\[\]"),
        ("dir://x::file:///tmp", "with one protocol"),
        ("file://localhost/tmp", "is /FOLDER, or file:///FOLDER"),
        ("simplecache::s3://bucket/folder", "with one protocol"),
        ("s3:bucket/folder", "an address is text"),
        (" s3://bucket/folder", "an address is text"),
    ],
)
def test_scratch_that_is_none_is_refused(on_disk, scratch, message):
    X, _ = on_disk
    with pytest.raises(fe.FastentError, match=message):
        fe.neighbors(X, 3, memory_budget="2500KiB", scratch=scratch)


@pytest.mark.parametrize("broken", ["put_file", "cat_ranges", "exists"])
def test_a_store_that_fails_midway_says_so(on_disk, broken, monkeypatch, tmp_path):
    X, _ = on_disk
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    store = fsspec.filesystem("memory")

    def fail(done, total, message):
        monkeypatch.setattr(type(store), broken, lambda *args, **options: 1 / 0)

    index = PartitionedIndex(X, memory=1 << 28, cells=3, scratch="memory://fails")
    with pytest.raises(fe.FastentError, match=r"scratch='memory://fails/.*' cannot be used \(ZeroDivisionError: division by"):
        index.search({"all": 3}, progress=fail)
    assert [path.name for path in tmp_path.iterdir()] == ["X.npy"]


def test_what_a_killed_worker_left_nearby_is_removed(on_disk, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with RemoteFolder("memory://any")._nearby() as near:
        name = near.path.name
    host = signature().rpartition("-")[0]
    assert name.startswith(f"fastent-scratch-{signature()}-")
    (tmp_path / name.replace(signature(), f"{host}-999999999")).mkdir()
    (tmp_path / name.replace(signature(), f"{host}-99999999999999999999")).mkdir()
    PartitionedIndex(on_disk[0], memory=1 << 28, cells=3).search({"all": 3})
    assert [path.name for path in tmp_path.iterdir()] == ["X.npy"]


def test_a_file_too_large_for_the_disk_is_refused(tmp_path):
    def too_much():
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        yield

    with pytest.raises(
        fe.FastentError, match=r"'rows' cannot be written to .* \(File too large\): make room, or name a folder"
    ):
        LocalFolder(tmp_path).write("rows", too_much())


def test_damaged_pieces_from_a_store_are_refused(on_disk):
    X, _ = on_disk
    store = fsspec.filesystem("memory")

    def damage(done, total, message):
        if message.startswith("rows"):
            for path in [path for path in store.find("/damaged") if path.endswith(".bin")]:
                content = store.cat_file(path)
                store.pipe_file(path, content[:-1] + bytes([content[-1] ^ 1]))

    index = PartitionedIndex(X, memory=1 << 28, cells=1, scratch="memory://damaged")
    with pytest.raises(fe.FastentError, match=r"'rows-0+.bin' in 'memory://damaged/.*' is damaged"):
        index.search({"all": 3}, progress=damage)
    assert not store.find("/damaged")


@given(seed=st.integers(0, 30), groups=st.integers(1, 6), cells=st.integers(1, 12))
def test_who_reaches_what(seed, groups, cells):
    rng = np.random.default_rng(seed)
    wanted = {"all": 3, "own class": 1}
    sizes = rng.integers(1, 30, groups)
    begins = np.append(0, np.cumsum(sizes))
    reach = {among: rng.random((begins[-1], cells)) < 0.2 for among in wanted}
    for kept in (Reached(wanted, cells, None), Reached(wanted, cells, Path(tempfile.gettempdir()))):
        with closing(kept):
            for group in rng.permutation(groups):  # groups are known in any order
                some = slice(*begins[group : group + 2])
                any_list = reach["all"][some] | reach["own class"][some]
                visited = np.flatnonzero(any_list.any(0))
                bits = {f"reached/{a}": np.packbits(r[some][:, visited], axis=0, bitorder="little").T for a, r in reach.items()}
                kept.enter(begins[group], sizes[group], bits | {"visited": visited, "visits": any_list[:, visited].sum(0)})
            for cell in range(cells):
                positions, lists = kept.queries(cell)
                np.testing.assert_array_equal(positions, np.flatnonzero(reach["all"][:, cell] | reach["own class"][:, cell]))
                for among in wanted:
                    np.testing.assert_array_equal(lists[among], reach[among][positions, cell])
                assert kept.visits[cell] == len(positions)
