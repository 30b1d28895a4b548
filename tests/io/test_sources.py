import pickle
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastent as fe
from fastent.arrays.validation import row_blocks
from fastent.io.sources import ArraySource, Shards, Source, blocks_ahead

N, D = 137, 5


def rows(dtype=np.float32, n=N):
    return (np.random.default_rng(0).normal(size=(n, D)) * 40).astype(dtype)


def as_parquet(X, path, column="X", group=20, **more):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), X.shape[1])
    pq.write_table(pa.table({"id": np.arange(len(X)), column: lists, **more}), path, row_group_size=group)


def npy(X, folder):
    np.save(folder / "X.npy", X)
    return fe.open(folder / "X.npy")


def fortran(X, folder):
    np.save(folder / "X.npy", np.asfortranarray(X))
    return fe.open(folder / "X.npy")


def shards(X, folder):
    for i, start in enumerate(range(0, len(X), 30)):
        np.save(folder / f"{i:03d}.npy", X[start : start + 30])
    return fe.open(folder)


def fortran_shards(X, folder):
    np.save(folder / "0.npy", np.asfortranarray(X[:40]))
    np.save(folder / "1.npy", X[40:40])
    np.save(folder / "2.npy", X[40:])
    return fe.open(folder)


def parquet(X, folder):
    as_parquet(X, folder / "X.parquet")
    return fe.open(folder / "X.parquet")


def parquet_by_name(X, folder):
    second = pa.FixedSizeListArray.from_arrays(pa.array(-X.ravel()), D)
    as_parquet(X, folder / "X.parquet", second=second)
    return fe.open(f"{folder}/X.parquet:X")


def parquet_folder(X, folder):
    as_parquet(X[:50], folder / "a.parquet")
    as_parquet(X[50:], folder / "b.parquet")
    return fe.open(folder)


def safetensors(X, folder):
    pytest.importorskip("safetensors.numpy").save_file({"X": X, "other": X[:3]}, folder / "X.safetensors")
    return fe.open(folder / "X.safetensors", "X")


def safetensors_folder(X, folder):
    save = pytest.importorskip("safetensors.numpy").save_file
    save({"X": X[:99]}, folder / "a.safetensors")
    save({"X": X[99:]}, folder / "b.safetensors")
    return fe.open(folder)


def zarr(X, folder):
    zarr = pytest.importorskip("zarr")
    stored = zarr.create_array(str(folder / "X.zarr"), shape=X.shape, chunks=(20, 3), dtype=X.dtype)
    stored[:] = X
    return fe.open(folder / "X.zarr")


def zarr_group(X, folder):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(folder / "all.zarr"), mode="w")
    for name, array in (("X", X), ("other", -X)):
        group.create_array(name, shape=X.shape, chunks=(50, D), dtype=X.dtype)[:] = array
    return fe.open(f"{folder}/all.zarr:X")


KINDS = [
    npy, fortran, shards, fortran_shards, parquet, parquet_by_name, parquet_folder, safetensors, safetensors_folder, zarr,
    zarr_group,
]  # fmt: skip
DTYPES = ["float32", "float64", "float16", "int64", "uint8"]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


# Every kind is the array


@kinds
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_source_is_the_array(tmp_path, kind, dtype):
    X = rows(dtype)
    source = kind(X, tmp_path)
    assert isinstance(source, Source)
    assert source.shape == X.shape
    assert source.dtype == X.dtype
    assert (len(source), source.ndim) == (N, 2)
    for start, stop in ((0, N), (0, 0), (N, N), (1, 2), (29, 31), (30, 60), (19, 101), (N - 1, N)):
        found = source.read(start, stop)
        np.testing.assert_array_equal(found, X[start:stop])
        assert found.dtype == X.dtype


@kinds
def test_rows_in_any_order_and_form(tmp_path, kind):
    X = rows()
    source = kind(X, tmp_path)
    generator = np.random.default_rng(1)
    wanted = [
        np.array([5, 3, 3, 136, 0]), generator.permutation(N), np.array([], np.int64), np.array([-1, -N]), [2, 1],
        np.array([7], np.uint8), generator.random(N) < 0.3, slice(None), slice(None, None, 7), slice(50, 10, -3), slice(-5, None),
        slice(60, 40), slice(100, 1000),
    ]  # fmt: skip
    for which in wanted:
        np.testing.assert_array_equal(source[which], X[which])
    for row in (0, -1, 60, np.int64(136), [[3, -1], [0, 3]]):
        np.testing.assert_array_equal(source[row], X[row])


@kinds
def test_rows_that_are_not_there(tmp_path, kind):
    source = kind(rows(), tmp_path)
    for row in (N, -N - 1, [0, N], [-N - 1], np.ones(N + 1, bool), np.ones(3, bool), 1.5, [0.0], ["a"]):
        with pytest.raises(IndexError):
            source[row]
    with pytest.raises(IndexError, match="rows only"):
        source[1, 2]


@kinds
def test_several_threads_at_once(tmp_path, kind):
    X = rows()
    source, wrong = kind(X, tmp_path), []

    def look(seed):
        generator = np.random.default_rng(seed)
        for _ in range(20):
            start, stop = np.sort(generator.integers(0, N, 2))
            some = generator.integers(0, N, 9)
            if not (np.array_equal(source.read(start, stop), X[start:stop]) and np.array_equal(source[some], X[some])):
                wrong.append(seed)

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@kinds
def test_a_source_goes_to_another_process_as_its_place(tmp_path, monkeypatch, kind):
    X = rows(n=10 * N)
    monkeypatch.chdir(tmp_path)
    sent = pickle.dumps(kind(X, Path()))
    assert len(sent) < 10_000 + 100 * (10 * N // 30)
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(pickle.loads(sent)[:], X)


@kinds
def test_statistics_of_a_source_are_those_of_the_array(tmp_path, kind):
    X, y = rows(), np.arange(N) % 3
    source = kind(X, tmp_path)
    np.testing.assert_array_equal(fe.geometry(source, y).radius, fe.geometry(X, y).radius)
    found, expected = fe.neighbors(source, k=4), fe.neighbors(X, k=4)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)


@given(
    sizes=st.lists(st.integers(0, 7), min_size=1, max_size=6),
    picks=st.lists(st.integers(-40, 40), max_size=12),
    bounds=st.tuples(st.integers(0, 45), st.integers(0, 45)),
)
def test_shards_are_their_concatenation(sizes, picks, bounds):
    parts = [np.random.default_rng(i).normal(size=(size, 3)) for i, size in enumerate(sizes)]
    X, source = np.concatenate(parts), Shards([ArraySource(part) for part in parts])
    n = len(X)
    start, stop = sorted(min(bound, n) for bound in bounds)
    np.testing.assert_array_equal(source.read(start, stop), X[start:stop])
    picks = np.array([pick for pick in picks if -n <= pick < n], np.int64)
    np.testing.assert_array_equal(source[picks], X[picks])


class Counted(Source):
    def __init__(self, X):
        self.X, self.shape, self.dtype, self.read_rows = X, X.shape, X.dtype, 0

    def read(self, start, stop):
        self.read_rows += stop - start
        return self.X[start:stop]


def test_rows_far_apart_are_not_read_with_what_lies_between():
    X = rows(n=100_000)
    source = Counted(X)
    some = np.array([99_999, 5, 7, 50_000])
    np.testing.assert_array_equal(source[some], X[some])
    assert source.read_rows < 100


def test_bfloat16_is_handed_out_as_float32(tmp_path):
    torch = pytest.importorskip("torch")
    X = torch.randn(20, 4).bfloat16()
    pytest.importorskip("safetensors.torch").save_file({"X": X}, tmp_path / "X.safetensors")
    source = fe.open(tmp_path / "X.safetensors")
    assert source.dtype == np.float32
    np.testing.assert_array_equal(source[:], X.float().numpy())
    np.testing.assert_array_equal(source[[3, 1]], X.float().numpy()[[3, 1]])


def test_shards_need_no_open_files(tmp_path):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for i in range(100):
        np.save(tmp_path / f"{i:03d}.npy", np.full((2, 3), i, np.float32))
    import os

    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, hard))
    try:
        source = fe.open(tmp_path)
        assert source[:][:, 0].tolist() == [i // 2 for i in range(200)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Blocks


@kinds
@pytest.mark.parametrize("block_bytes", [1, 500, 1 << 20])
def test_blocks_of_a_source(tmp_path, kind, block_bytes):
    X = rows()
    blocks = list(row_blocks(kind(X, tmp_path), block_bytes=block_bytes))
    starts = [start for start, _ in blocks]
    assert starts == np.cumsum([0] + [len(block) for _, block in blocks])[:-1].tolist()
    assert all(block.flags.c_contiguous and block.dtype == np.float32 for _, block in blocks)
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), X)


def test_the_next_block_is_read_while_this_one_is_used():
    began, read_by = threading.Event(), []

    def read(start, stop):
        read_by.append(threading.current_thread())
        if start == 1:
            began.set()
        return np.arange(start, stop)

    blocks = blocks_ahead(read, [(0, 1), (1, 3), (3, 4)])
    start, block = next(blocks)
    assert began.wait(10)  # before the second was asked for
    assert [(start, block.tolist()), *((s, b.tolist()) for s, b in blocks)] == [(0, [0]), (1, [1, 2]), (3, [3])]
    assert threading.current_thread() not in read_by


def test_no_blocks():
    assert list(blocks_ahead(None, [])) == []


def test_an_error_of_reading_arrives_where_the_block_is_used():
    def read(start, stop):
        if start == 2:
            raise ZeroDivisionError
        return start

    blocks = blocks_ahead(read, [(0, 1), (1, 2), (2, 3), (3, 4)])
    assert [next(blocks), next(blocks)] == [(0, 0), (1, 1)]
    with pytest.raises(ZeroDivisionError):
        next(blocks)


def test_blocks_that_are_not_wanted_any_more_leave_no_thread():
    blocks = blocks_ahead(lambda start, stop: start, [(i, i + 1) for i in range(5)])
    next(blocks)
    blocks.close()
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("fastent-read") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


# What is refused


@pytest.mark.parametrize("kind", [npy, shards, parquet, safetensors, zarr], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("how", ["truncated", "empty", "nonsense"])
def test_damaged_files(tmp_path, kind, how):
    kind(rows(), tmp_path)
    file = sorted(path for path in tmp_path.rglob("*") if path.is_file())[-1 if kind is not zarr else 0]
    if kind is zarr:
        file = next(path for path in tmp_path.rglob("zarr.json"))
    content = file.read_bytes()
    file.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "nonsense": b"x" * len(content)}[how])
    with pytest.raises(fe.FastentError, match="X.zarr" if kind is zarr else file.name):
        fe.open(tmp_path / "X.zarr" if kind is zarr else file if kind is not shards else tmp_path)


def test_python_objects_are_never_loaded(tmp_path):
    np.save(tmp_path / "X.npy", np.array([[{}]], object), allow_pickle=True)
    for place in (tmp_path / "X.npy", tmp_path):
        with pytest.raises(fe.FastentError, match="holds Python objects"):
            fe.open(place)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nothing.npy", "nothing at"),
        ("nothing.parquet:X", "nothing at"),
        ("empty", r"holds no \.npy, \.parquet, \.csv, \.arrow or \.safetensors"),
        ("mixed", r"holds \.npy and \.parquet files"),
        ("unequal", r"b\.npy' has 4 features of float64, '.*a\.npy' 3 of float64: shards of one kind"),
        ("retyped", r"b\.npy' has 3 features of float32, '.*a\.npy' 3 of float64"),
        ("line", r"a\.npy' has shape \(2,\)"),
        ("line.npy", r"shape \(4,\): a 2-D"),
        ("X.txt", "cannot be opened"),
        ("X.parquet:other", "has the columns 'id', 'X', and 'other' is not among them: name one of these"),
        ("two.parquet", "holds 'X', 'second', and no name was given: name one, as .*two.parquet:X"),
        ("words.parquet", "has columns that are no numbers, 'a' "),
    ],
)
def test_places_that_are_no_source(tmp_path, place, message):
    X = rows()
    (tmp_path / "X.txt").write_text("1 2")
    np.save(tmp_path / "line.npy", np.zeros(4))
    as_parquet(X, tmp_path / "X.parquet")
    as_parquet(X, tmp_path / "two.parquet", second=pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), D))
    pq.write_table(pa.table({"a": ["b"]}), tmp_path / "words.parquet")
    for folder, files in {
        "empty": {},
        "mixed": {"a": np.zeros((2, 3))},
        "unequal": {"a": np.zeros((2, 3)), "b": np.zeros((2, 4))},
        "retyped": {"a": np.zeros((2, 3)), "b": np.zeros((2, 3), np.float32)},
        "line": {"a": np.zeros(2)},
    }.items():
        (tmp_path / folder).mkdir()
        for name, array in files.items():
            np.save(tmp_path / folder / f"{name}.npy", array)
    as_parquet(X, tmp_path / "mixed" / "b.parquet")
    with pytest.raises(fe.FastentError, match=message):
        fe.open(tmp_path / place)


def test_an_npy_has_no_parts(tmp_path):
    npy(rows(), tmp_path)
    with pytest.raises(fe.FastentError, match="it has no part 'a'"):
        fe.open(tmp_path / "X.npy", "a")


def test_rows_without_values(tmp_path):
    column = pa.array([[1.0, 2.0], None], pa.list_(pa.float64(), 2))
    pq.write_table(pa.table({"X": column}), tmp_path / "X.parquet")
    readable = int(pa.__version__.split(".")[0]) >= 26  # pyarrow before 26 cannot read such a column
    with pytest.raises(fe.FastentError, match="has a null in row 1, column 'X'" if readable else "Expected all lists"):
        fe.open(tmp_path / "X.parquet")[:]


def test_names_that_safetensors_and_zarr_do_not_have(tmp_path):
    safetensors(rows(), tmp_path)
    with pytest.raises(fe.FastentError, match=r"and no name was given: name one, as .*X\.safetensors:"):
        fe.open(tmp_path / "X.safetensors")
    with pytest.raises(fe.FastentError, match="'Z' is not among them"):
        fe.open(f"{tmp_path}/X.safetensors:Z")
    zarr_group(rows(), tmp_path)
    with pytest.raises(fe.FastentError, match=r"holds 'X', 'other', and no name was given: name one, as .*all.zarr:X"):
        fe.open(tmp_path / "all.zarr")


@pytest.mark.parametrize("name", ["X.zarr", "X.safetensors"])
def test_a_missing_package_says_what_to_install(tmp_path, monkeypatch, name):
    package = name[2:]
    pytest.importorskip(package)
    (zarr if package == "zarr" else safetensors)(rows(), tmp_path)
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(fe.FastentError, match=rf"{package} is not installed: pip install '\.\[{package}\]' in the clone"):
        fe.open(tmp_path / name)


def test_repr(tmp_path):
    assert repr(shards(rows(), tmp_path)) == "Shards(137 x 5, float32)"


def test_rows_all_over_are_not_read_as_one_piece(monkeypatch):
    monkeypatch.setattr("fastent.io.sources._PART_BYTES", 8 * 3 * 100)
    X = np.random.default_rng(0).standard_normal((1000, 3))
    asked = []

    class Watched(fe.Source):
        shape, dtype = X.shape, X.dtype

        def read(self, start, stop):
            asked.append(stop - start)
            return X[start:stop]

    rows = np.random.default_rng(1).integers(0, 1000, 700)
    np.testing.assert_array_equal(Watched()[rows], X[rows])
    assert max(asked) <= 100


def test_what_a_killed_writer_left_is_no_shard(tmp_path):
    np.save(tmp_path / "0.npy", np.eye(3))
    (tmp_path / ".1.npy.host-12-abc.npy").write_bytes((tmp_path / "0.npy").read_bytes())
    assert fe.open(tmp_path).shape == (3, 3)


def test_nulls_among_values_are_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = pa.array([1, 2, None, 4], pa.int32())
    pq.write_table(pa.table({"X": pa.FixedSizeListArray.from_arrays(values, 2)}), tmp_path / "X.parquet")
    with pytest.raises(fe.FastentError, match="has a null in row 1, column 'X'"):
        fe.open(tmp_path / "X.parquet")[:]


@pytest.mark.parametrize("path", ["", None, np.eye(3), 3])
def test_what_is_no_path(path):
    with pytest.raises(fe.FastentError, match="is no path"):
        fe.open(path)


def test_an_npz_is_not_read_in_parts(tmp_path):
    np.savez(tmp_path / "X.npz", X=np.eye(3))
    with pytest.raises(fe.FastentError, match="cannot be read in parts"):
        fe.open(f"{tmp_path}/X.npz:X")
