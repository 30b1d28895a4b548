"""Data sets on disk or in memory: their rows, classes and the shape of their pictures; rows read in chunks and in batches."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.frames import frame_table
from fastent.arrays.labelled import paired
from fastent.arrays.labels import without_objects
from fastent.arrays.validation import as_array, as_features, as_labels, check_lengths, check_same_columns, label_array
from fastent.data.fingerprint import CLASSES, POINTS, DataFingerprint
from fastent.errors import FastentError
from fastent.io.npy import read_npy
from fastent.io.opening import NPY, open_source, reader_of
from fastent.io.sources import Source, blocks_ahead

__all__ = ["KEPT_BYTES", "Feed", "LabelledRows", "Rows", "TrainingRows", "class_codes", "open_training", "stored_pictures"]

Array = NDArray[Any]

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
        shape = data.point_shape
        return Rows(as_features(data, name=name), shape if shape is not None and len(shape) in (2, 3) else None)
    frame = frame_table(data, name)
    array = as_array(data, name) if frame is None else as_features(frame, name=name)
    picture = None
    if array.ndim in (3, 4):
        if not array.flags.c_contiguous:
            raise FastentError(f"{name} of shape {array.shape} is not in C order: store it with numpy.ascontiguousarray")
        picture, array = array.shape[1:], array.reshape(len(array), -1)
    return Rows(as_features(array, name=name), picture)


def open_training(data: Any, labels: Any, test: Any, test_labels: Any, classes: str) -> TrainingRows:
    if (test is None) != (test_labels is None):
        raise FastentError("test and test_labels go together: give both or neither")
    where = data
    data, labels = paired(data, labels)
    train = open_rows(data)
    stored = _labels(labels, "labels")
    check_lengths(len(train.X), len(stored), features_name="data")
    if test is not None:
        test, test_labels = paired(test, test_labels)
    held_out = None if test is None else open_rows(test, "test")
    test_stored = stored[:1] if held_out is None else _labels(test_labels, "test_labels")
    if held_out is not None:
        check_lengths(len(held_out.X), len(test_stored), features_name="test", labels_name="test_labels")
        if held_out.X.shape[1] != train.X.shape[1]:
            raise FastentError(f"test has {held_out.X.shape[1]} features, data {train.X.shape[1]}: as many are needed")
        check_same_columns(train.X, held_out.X, name="data", others_name="test")
    codes, test_codes, names = class_codes(stored, test_stored, classes)
    return TrainingRows(
        name=Path(where).name if isinstance(where, (str, os.PathLike)) else "arrays",
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
    found = label_array(labels, name)
    if found.ndim != 1:
        raise FastentError(f"{name} has shape {found.shape}: one label for each row, a 1-D array, is needed")
    return without_objects(found, name)


def class_codes(y_train: Array, y_test: Array, classes: str) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Class codes of training and test labels, and the classes: "parity" of the labels, or "all"."""
    if len(y_train) == 0:
        raise FastentError("no training points are left: exclude fewer")
    if classes == "parity":
        y_train, y_test = _parity(y_train), _parity(y_test)
    codes, names = as_labels(y_train, name="y_train", minimum_classes=2)
    test_codes, test_names = as_labels(y_test, name="y_test")
    strange = test_names[~np.isin(test_names, names)]
    if len(strange):
        raise FastentError(f"the test set has labels that no training point has: {', '.join(map(str, strange[:5]))}")
    return codes, np.searchsorted(names, test_names)[test_codes], names


def _parity(labels: Array) -> NDArray[np.int64]:
    codes, names = as_labels(labels, name="labels")
    if names.dtype.kind not in "iub":
        raise FastentError(f"classes='parity' needs integer labels, these are like {names[0]!s}: use classes='all'")
    return (names.astype(np.int64) % 2)[codes]


_BLOCK_ROWS = 4096
_POOL_BLOCKS = 16
_POOL_BYTES = 64 << 20
# Rows that pass through a network at once where an update takes all rows.
_PIECE_ROWS = 1024


class Batch(NamedTuple):
    """Row numbers (b,), the rows as stored (b, d), and their classes (b,)."""

    rows: NDArray[np.int64]
    data: Array
    codes: NDArray[np.int64]


class _Pool(NamedTuple):
    rows: NDArray[np.int64]
    data: Array
    order: NDArray[np.int64]


class Feed:
    """Every row once in an epoch; the last batch may be smaller.

    A row meets rows of its own block and of 15 others drawn at random. Data of one pool or less are shuffled as a whole.
    Without a batch size an update takes all rows: the batches are then pieces of it, in the order of the rows.
    Three pools are in memory at most.

    Attributes
    ----------
    updates_per_epoch, pieces_per_update : int
        One of them is 1.
    """

    def __init__(self, X: Any, codes: NDArray[np.int64], batch_size: int | None, seed: int) -> None:
        self._X, self._codes, self._seed, self._in_order = X, codes, seed, batch_size is None
        self._batch_size = batch_size = min(_PIECE_ROWS, len(X)) if batch_size is None else batch_size
        batches = -(-len(X) // batch_size)
        self.updates_per_epoch, self.pieces_per_update = (1, batches) if self._in_order else (batches, 1)
        pool = max(batch_size, min(_BLOCK_ROWS * _POOL_BLOCKS, _POOL_BYTES // (X.shape[1] * X.dtype.itemsize)))
        self._block = max(1, pool // _POOL_BLOCKS)
        self.pool_bytes = min(len(X), self._block * _POOL_BLOCKS) * X.shape[1] * X.dtype.itemsize

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches (or pieces) of an epoch, from number `first` on; they do not depend on earlier calls."""
        pools = self._pools(epoch)
        starts = np.cumsum([0, *(self._size(pool) for pool in pools)])
        skipped = first * self._batch_size
        begin = int(np.searchsorted(starts, skipped, side="right")) - 1
        left: tuple[Array, Array] | None = None
        bounds = [(at, at + 1) for at in range(begin, len(pools))]
        pool: Any = None
        for at, pool in blocks_ahead(lambda at, _: self._read(epoch, at, pools[at]), bounds):
            place = max(0, skipped - int(starts[at]))
            while place < len(pool.rows):
                missing = self._batch_size - (0 if left is None else len(left[0]))
                chosen = pool.order[place : place + missing]
                place += len(chosen)
                piece = pool.rows[chosen], pool.data[chosen]
                left = piece if left is None else (np.concatenate([left[0], piece[0]]), np.concatenate([left[1], piece[1]]))
                if len(left[0]) == self._batch_size:
                    yield Batch(*left, self._codes[left[0]])
                    left = None
            pool = None  # or it would stay while the next but one is read
        if left is not None:
            yield Batch(*left, self._codes[left[0]])

    def _pools(self, epoch: int) -> list[NDArray[np.int64]]:
        """Numbers of the blocks in each pool, ascending within it."""
        n_blocks = -(-len(self._X) // self._block)
        order = self._order(n_blocks, epoch)
        return [np.sort(order[at : at + _POOL_BLOCKS]) for at in range(0, n_blocks, _POOL_BLOCKS)]

    def _size(self, blocks: NDArray[np.int64]) -> int:
        n = len(self._X)
        return int((np.minimum((blocks + 1) * self._block, n) - blocks * self._block).sum())

    def _read(self, epoch: int, number: int, blocks: NDArray[np.int64]) -> Any:
        n, size = len(self._X), self._size(blocks)
        rows, data = np.empty(size, np.int64), np.empty((size, self._X.shape[1]), self._X.dtype)
        at = 0
        for block in blocks.tolist():
            start, stop = block * self._block, min((block + 1) * self._block, n)
            here = slice(at, at + stop - start)
            rows[here], data[here] = np.arange(start, stop), self._X[start:stop]
            at = here.stop
        return _Pool(rows, data, self._order(size, epoch, number))

    def _order(self, n: int, *place: int) -> NDArray[np.int64]:
        return np.arange(n) if self._in_order else np.random.default_rng((self._seed, *place)).permutation(n)
