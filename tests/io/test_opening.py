"""Every format is asked whether it can open a path; nothing else knows what a path means."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastent as fe
from fastent.io import opening
from fastent.io.opening import READERS, read_features, reader_of
from fastent.io.sources import ArraySource, Reader

X = np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("X.npy", ".npy"), ("X.npy:a", ".npy"), ("t.parquet", ".parquet"), ("t.parquet:a.b", ".parquet"), ("w.safetensors:h", ".safetensors"),
        ("a.zarr", ".zarr"), ("a.zarr:X", ".zarr"), ("X.npz", None), ("X.csv", ".csv"), ("X.tsv.gz:a", ".csv"), ("X.feather", ".arrow"), ("X.txt", None), ("digits", None), ("", None),
    ],
)  # fmt: skip
def test_formats_are_told_by_their_names_where_nothing_is(tmp_path, monkeypatch, place, name):
    monkeypatch.chdir(tmp_path)
    found = reader_of(place)
    if place == "":  # the current folder, to the system
        assert found is not None
        assert found.name == "folder"
        return
    assert (None if found is None else found.name) == name


def test_what_is_there_counts_more_than_a_name(tmp_path):
    (tmp_path / "X.npy").mkdir()
    np.save(tmp_path / "X.npy" / "0.npy", X)
    np.save(tmp_path / "X.npy" / "1.npy", -X)
    assert reader_of(tmp_path / "X.npy").name == "folder"
    np.testing.assert_array_equal(fe.open(tmp_path / "X.npy")[:], np.concatenate([X, -X]))
    np.save(tmp_path / "a:b.npy", X)
    np.testing.assert_array_equal(fe.open(tmp_path / "a:b.npy")[:], X)


def test_a_format_that_is_added_is_opened_everywhere(tmp_path, monkeypatch):
    raw = Reader.of_suffix(".raw", lambda path, name: ArraySource(np.fromfile(path).reshape(-1, 3), str(path)))
    monkeypatch.setattr(opening, "READERS", (*READERS, raw))
    for name, rows in (("0.raw", X), ("1.raw", -X)):
        rows.tofile(tmp_path / name)
    np.testing.assert_array_equal(fe.open(tmp_path / "0.raw")[:], X)
    np.testing.assert_array_equal(fe.open(tmp_path)[:], np.concatenate([X, -X]))
    np.testing.assert_array_equal(read_features(f"{tmp_path}/1.raw")[:], -X)
    with pytest.raises(fe.FastentError, match=r"\.zarr, \.raw or a folder of such files is needed"):
        fe.open(_made(tmp_path / "X.other"))


def test_features_of_any_rank(tmp_path):
    pictures = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.save(tmp_path / "X.npy", pictures)
    np.testing.assert_array_equal(read_features(str(tmp_path / "X.npy"), any_rank=True), pictures)
    flat = read_features(str(tmp_path / "X.npy"))
    assert flat.point_shape == (3, 4)
    for rows in (slice(None), slice(1, 2), [1, 0, 1], []):
        np.testing.assert_array_equal(flat[rows], pictures.reshape(2, 12)[rows])


def _made(path: Path) -> Path:
    path.write_text("1")
    return path


@pytest.mark.parametrize("names", [("X", "y"), ("x", "labels"), ("x_train", "y_train")])
def test_points_and_labels_of_an_archive_by_their_usual_names(tmp_path, names):
    np.savez(tmp_path / "d.npz", **dict(zip(names, (X, [0, 1, 1, 0]))), other=X)
    assert fe.geometry(tmp_path / "d.npz", tmp_path / "d.npz").counts.tolist() == [2, 2]
    assert fe.measure(tmp_path / "d.npz", metrics=["geometry"]).shape == X.shape


@pytest.mark.parametrize("suffix", [".NPY", ".Parquet", ".PARQUET", ".CSV", ".ARROW", ".SAFETENSORS", ".ZARR", ".NPZ"])
def test_names_in_capitals(tmp_path, suffix):
    place = str(tmp_path / f"X{suffix}")
    reader = reader_of(place)
    assert (".npz" if reader is None else reader.name) == suffix.lower()
    if suffix == ".NPZ":
        with open(place, "wb") as stream:
            np.savez(stream, X=X)
        for each in (place, f"{place}:X"):
            np.testing.assert_array_equal(read_features(each), X)
    if suffix == ".PARQUET":
        pq.write_table(pa.table({"a": X[:, 0], "b": X[:, 1]}), place)
        for each in (place, tmp_path):
            np.testing.assert_array_equal(fe.open(each)[:], X[:, :2])
