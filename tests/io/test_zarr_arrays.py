"""zarr arrays: what is not stored is refused, whatever the version of the format, and wherever it is met."""

import shutil

import numpy as np
import pytest

import fastent as fe
from fastent.io.zarr_arrays import _fills

zarr = pytest.importorskip("zarr")
N, D = 240, 6
LAYOUTS = {
    "version 3": {"chunks": (40, D)},
    "chunks of columns": {"chunks": (40, 2)},
    "sharded": {"chunks": (10, D), "shards": (40, D)},
    "version 2": {"chunks": (40, D), "zarr_format": 2},
}
layouts = pytest.mark.parametrize("layout", LAYOUTS)


def rows(dtype="float32"):
    values = np.random.default_rng(0).normal(size=(N, D)) * 50
    return values > 0 if dtype == "bool" else np.abs(values).astype(dtype)


def write(path, layout, X, stop=N):
    stored = zarr.create_array(str(path), shape=X.shape, dtype=X.dtype, **LAYOUTS[layout])
    stored[:stop] = X[:stop]
    return path


def chunk_files(path):
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name[0] != "." and file.suffix != ".json")


@layouts
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int32", "uint64", "bool"])
def test_a_lost_file_is_refused(tmp_path, layout, dtype):
    X = rows(dtype)
    path = write(tmp_path / "X.zarr", layout, X)
    np.testing.assert_array_equal(fe.open(path)[:], X)
    chunk_files(path)[-1].unlink()
    source = fe.open(path)
    np.testing.assert_array_equal(source[:200], X[:200])
    for which in (slice(None), slice(230, None), [3, 239]):
        with pytest.raises(fe.FastentError, match=r"X.zarr' lacks chunks, from row 2\d\d.* on: they are lost"):
            source[which]


@layouts
def test_what_was_never_written_is_refused_in_the_middle_of_a_measurement(tmp_path, layout):
    X, y = rows(), np.arange(N) % 2
    source = fe.open(write(tmp_path / "X.zarr", layout, X, stop=200))
    for look in (
        lambda: fe.neighbors(source, 3),
        lambda: fe.geometry(source, y),
        lambda: fe.measure(source, y, metrics=["geometry"]),
    ):
        with pytest.raises(fe.FastentError, match="lacks chunks, from row 200 on"):
            look()


def test_the_fill_value_is_read_once_it_is_stored(tmp_path):
    with zarr.config.set({"array.write_empty_chunks": True}):
        write(tmp_path / "X.zarr", "version 3", np.zeros((N, D), np.float32))
    assert not fe.open(tmp_path / "X.zarr")[:].any()


def test_the_line_that_takes_what_is_not_stored_for_the_fill_value(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = rows()
    X[40:80] = 0
    write(tmp_path / "X.zarr", "version 3", X)
    with pytest.raises(fe.FastentError) as error:
        fe.open(tmp_path / "X.zarr")[:]
    exec(str(error.value).split("is meant, ")[1], {"numpy": np, "zarr": zarr})
    np.testing.assert_array_equal(fe.open("rows.npy")[:], X)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int32", "int64", "bool"])
def test_data_may_hold_the_values_that_stand_in_for_the_fill_value(tmp_path, dtype):
    first, second = _fills(np.dtype(dtype))
    X = np.array([[first, second], [second, first], [first, first]], dtype)
    zarr.create_array(str(tmp_path / "X.zarr"), data=X, chunks=(1, 2))
    assert fe.open(tmp_path / "X.zarr")[:].tobytes() == X.tobytes()


@layouts
@pytest.mark.parametrize("how", ["emptied", "cut", "nonsense"])
def test_a_damaged_chunk_is_one_error_with_the_path(tmp_path, layout, how):
    path = write(tmp_path / "X.zarr", layout, rows())
    file = chunk_files(path)[-1]
    content = file.read_bytes()
    file.write_bytes({"emptied": b"", "cut": content[: len(content) // 2], "nonsense": b"x" * len(content)}[how])
    source = fe.open(path)
    for look in (lambda: source[:], lambda: fe.geometry(source, np.arange(N) % 2)):
        with pytest.raises(fe.FastentError, match=r"X.zarr' (is damaged or no array that zarr .* reads|lacks chunks)"):
            look()


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace('"zarr_format": 3', '"zarr_format": 9'),
        lambda text: text.replace('"float32"', '"nonsense"'),
        lambda text: text.replace('"bytes"', '"unknown_codec"'),
        lambda text: text.replace('"regular"', '"irregular"'),
        lambda text: text.replace("240", "-240"),
        lambda text: "[" * 60_000,
        lambda text: text.replace("240", "9" * 5000),
    ],
)
def test_odd_metadata(tmp_path, edit):
    path = write(tmp_path / "X.zarr", "version 3", rows())
    (path / "zarr.json").write_text(edit((path / "zarr.json").read_text()))
    with pytest.raises(fe.FastentError, match=r"X\.zarr'") as error:
        fe.open(path)[:]
    assert str(error.value).isprintable()


def test_a_shape_that_lies_is_met_as_lost_chunks(tmp_path):
    path = write(tmp_path / "X.zarr", "version 3", rows())
    (path / "zarr.json").write_text((path / "zarr.json").read_text().replace("240", str(2**50)))
    source = fe.open(path)
    with pytest.raises(fe.FastentError, match="lacks chunks"):
        source[240:300]
    with pytest.raises(fe.FastentError, match="more memory than there is"):
        source[:]


def test_a_copy_of_the_place_goes_to_other_processes(tmp_path, monkeypatch):
    import pickle

    X = rows()
    group = zarr.open_group(str(tmp_path / "all.zarr"), mode="w")
    group.create_array("X", shape=X.shape, dtype=X.dtype)[:] = X
    group.create_array("four", shape=(N, 1, 2, 3), dtype=X.dtype)[:] = X.reshape(N, 1, 2, 3)
    monkeypatch.chdir(tmp_path)
    sent = pickle.dumps(fe.open("all.zarr:X"))
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(pickle.loads(sent)[:], X)
    monkeypatch.chdir(tmp_path)
    four = fe.open("all.zarr:four")
    assert (four.shape, four.point_shape) == (X.shape, (1, 2, 3))
    np.testing.assert_array_equal(four[:], X)
    np.testing.assert_array_equal(four[[3, 0]], X[[3, 0]])
    shutil.rmtree("all.zarr")
