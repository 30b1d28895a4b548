"""From a data set on disk or in memory to rows, classes and the shape of its pictures."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import as_array, as_features, check_lengths
from fastent.data.classes import class_codes
from fastent.data.fingerprint import CLASSES, POINTS, DataFingerprint
from fastent.errors import FastentError
from fastent.io.npy import read_array, read_npy
from fastent.io.opening import NPY, open_source, reader_of
from fastent.io.sources import Source, blocks_ahead

__all__ = ["KEPT_BYTES", "LabelledRows", "Rows", "TrainingRows", "open_rows", "open_training", "stored_pictures"]

# Rows as stored that are kept rather than read again.
KEPT_BYTES = 64 << 20


class Rows(NamedTuple):
    """Rows (n, d) where they are, and the shape of one as a picture if they were stored as such."""

    X: Any
    picture: tuple[int, ...] | None


class TrainingRows(NamedTuple):
    """Training rows with labels as stored, class codes and classes; test rows and their codes, or None."""

    name: str
    train: Rows
    labels: NDArray[Any]
    codes: NDArray[np.int64]
    classes: NDArray[Any]
    test: Rows | None
    test_codes: NDArray[np.int64] | None


class LabelledRows:
    """Some rows of a data set, or all of it (rows None), with their classes; kept if they are few, else read when needed."""

    def __init__(self, X: Any, codes: NDArray[np.int64], rows: NDArray[np.int64] | None = None) -> None:
        self._X, self._rows = X, rows
        self.codes = codes if rows is None else codes[rows]
        if rows is not None and len(rows) * X.shape[1] * X.dtype.itemsize <= KEPT_BYTES:
            self._X, self._rows = np.array(X[rows]), None

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        rows = positions if self._rows is None else self._rows[positions]
        return np.asarray(self._X[rows])

    def chunks(self, size: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """(start, rows as stored); the next chunk is read while one is used."""
        bounds = [(start, min(start + size, len(self))) for start in range(0, len(self), size)]
        return blocks_ahead(self._read, bounds)

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        return np.array(self._X[start:stop] if self._rows is None else self._X[self._rows[start:stop]])


def open_rows(data: Any, name: str = "data") -> Rows:
    """Anything that `fe.open` opens, an .npy of pictures (n, h, w) or (n, h, w, colours), a source, or an array."""
    if isinstance(data, (str, os.PathLike)):
        path = Path(data)
        data = read_npy(path) if reader_of(path) is NPY else open_source(path)
    if isinstance(data, Source):
        return Rows(as_features(data, name=name), None)
    array = as_array(data, name)
    picture = None
    if array.ndim in (3, 4):
        if not array.flags.c_contiguous:
            raise FastentError(f"{name} of shape {array.shape} is not in C order: store it with numpy.ascontiguousarray")
        picture, array = array.shape[1:], array.reshape(len(array), -1)
    return Rows(as_features(array, name=name), picture)


def open_training(data: Any, labels: Any, test: Any, test_labels: Any, classes: str) -> TrainingRows:
    if (test is None) != (test_labels is None):
        raise FastentError("test and test_labels go together: give both or neither")
    train = open_rows(data)
    stored = _labels(labels, "labels")
    check_lengths(len(train.X), len(stored), features_name="data")
    held_out = None if test is None else open_rows(test, "test")
    test_stored = stored[:1] if held_out is None else _labels(test_labels, "test_labels")
    if held_out is not None:
        check_lengths(len(held_out.X), len(test_stored), features_name="test", labels_name="test_labels")
        if held_out.X.shape[1] != train.X.shape[1]:
            raise FastentError(f"test has {held_out.X.shape[1]} features, data {train.X.shape[1]}: as many are needed")
    codes, test_codes, names = class_codes(stored, test_stored, classes)
    return TrainingRows(
        name=Path(data).name if isinstance(data, (str, os.PathLike)) else "arrays",
        train=train,
        labels=np.asarray(stored),
        codes=codes,
        classes=names,
        test=held_out,
        test_codes=None if held_out is None else test_codes,
    )


def stored_pictures(config: dict[str, Any], codes: NDArray[np.int64], *, checked: bool = False) -> NDArray[np.uint8] | None:
    """The training pictures of a run over data on disk, mapped; None where they are no 8-bit pictures in one .npy.

    All of them are read to see that they are those of the run, unless that was `checked` just now.

    Raises
    ------
    FastentError
        The data are gone, or are no longer those that the run was trained on, with these class codes.
    """
    if config["source"] is None or reader_of(str(config["source"])) is not NPY:
        return None
    X, picture = open_rows(config["source"])
    side = int(np.sqrt(X.shape[1]))
    if picture is None and side * side == X.shape[1] and config["model"] == "cnn":
        picture = (side, side)
    if picture is None or X.dtype != np.uint8 or (len(picture) == 3 and picture[2] != 3):
        return None
    if not checked:
        _check_same_rows(config, X, codes)
    return np.asarray(X).reshape(len(X), *picture)


def _check_same_rows(config: dict[str, Any], X: Any, codes: NDArray[np.int64]) -> None:
    if not config.get("digests"):
        raise FastentError("the run is of an earlier version of fastent, which did not tell data apart by all rows")
    found = DataFingerprint()
    found.add_rows(POINTS, X)
    found.add(CLASSES, codes)
    trained, there = config["digests"].get(CLASSES), found.after[CLASSES]
    if there != trained:
        raise FastentError(f"{config['source']} has fingerprint {there}, the run was trained on {trained}")


def _labels(labels: Any, name: str) -> NDArray[Any]:
    found = read_array(os.fspath(labels), "y") if isinstance(labels, (str, os.PathLike)) else as_array(labels, name)
    if found.ndim != 1:
        raise FastentError(f"{name} has shape {found.shape}: one label for each row, a 1-D array, is needed")
    return found
