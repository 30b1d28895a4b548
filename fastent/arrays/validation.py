"""Points and labels as they leave the front door: arrays, sources, `Labels`, and blocks of rows for kernels."""

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.frames import frame_table
from fastent.arrays.labels import label_remarks, plain_labels, remedy_for_shape, sorted_classes
from fastent.errors import FastentError, warn
from fastent.io.opening import read_features, read_labels
from fastent.io.reading import name_list
from fastent.io.sources import ArraySource, Source, blocks_ahead, flat_shape
from fastent.io.tables import TableRows

__all__ = [
    "BLOCK_BYTES", "DerivedRows", "Labels", "UnitRows", "as_array", "as_features", "as_labels", "bytes_in_memory",
    "check_directions", "check_finite", "check_lengths", "check_same_columns", "in_memory", "joined", "kernel_dtype",
    "label_array", "lies_ready", "row_blocks", "rows_of", "stays_on_disk", "unit_rows", "which_rows", "zero_rows",
]  # fmt: skip

# A block is large enough for the overhead of a call to vanish, and small enough to be negligible in any memory budget.
BLOCK_BYTES = 32 << 20

Array = NDArray[Any]


class Labels(NamedTuple):
    """Class codes of the points (n,) int64, and the sorted classes (C,) that they stand for."""

    codes: NDArray[np.int64]
    classes: Array


def as_features(X: Any, *, name: str = "X", notes: list[str] | None = None, flatten: bool = True) -> Array:
    """Return `X` as a 2-D numpy array of real numbers, without a copy where none is needed.

    Points of more than one axis, such as pictures (n, h, w), become rows of all their values; a sentence that says so is added
    to `notes`, or is a warning.

    Parameters
    ----------
    X : array-like (n, d) or (n, ...), or path
        numpy array or memory map of any float, integer or boolean dtype and memory order; torch tensor on any device
        (bfloat16 becomes float32); a list of rows; anything with ``__array__``; a `Source`; a path that `fe.open` opens, or
        FILE.npz:NAME.
    name : str
        What the error messages call it.
    flatten : bool
        Without it, points of more than one axis are refused.

    Returns
    -------
    ndarray or Source (n, d)
        With n, d >= 1. A source is returned as it is. Values are not checked: see `check_finite`.

    Raises
    ------
    FastentError
        Nothing at a path, wrong rank, no rows or no columns, ragged lists, objects, strings, complex numbers, sparse matrices.
    """
    array = rows_of(X, name)
    if array.ndim == 0 and array.dtype.kind == "O":
        raise FastentError(f"{name} is a {type(X).__name__}: a 2-D array (points, features) is needed")
    if array.ndim < 2 or (array.ndim > 2 and not flatten):
        one = f"use {name}[:, None] for one feature" if array.ndim == 1 else "pass a row for each point"
        remedy = one if array.ndim < 2 else f"use {name}.reshape(len({name}), -1)"
        raise FastentError(f"{name} has shape {array.shape}: a 2-D array (points, features) is needed; {remedy}")
    point_shape = array.point_shape if isinstance(array, Source) else array.shape[1:] if array.ndim > 2 else None
    if array.ndim > 2:
        on_disk = isinstance(array, np.memmap) and array.size > 0
        array = ArraySource(array, name) if on_disk else array.reshape(flat_shape(array.shape))
    if 0 in array.shape:
        raise FastentError(f"{name} is empty, shape {array.shape}: at least one point and one feature are needed")
    if array.dtype.kind not in "fiub":
        raise FastentError(f"{name} has dtype {array.dtype}: real numbers are needed; {_remedy_for_dtype(array, name)}")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        raise FastentError(f"{name} has dtype {array.dtype}: convert with {name}.astype('float64')")
    remarks = list(array.remarks) if isinstance(array, Source) else []
    if notes is not None and isinstance(array, Source) and array.columns is not None:
        remarks.append(f"the features of {name} are the columns {name_list(array.columns)}")
    if point_shape is not None:
        remarks.append(f"{name} has points of shape {point_shape}, which are flattened to rows of {array.shape[1]} features")
    for remark in remarks:
        (warn if notes is None else notes.append)(remark)
    return array.array if isinstance(array, TableRows) else array  # type: ignore[no-any-return]


def rows_of(X: Any, name: str = "X") -> Any:
    """Points of any accepted kind as an array or a source, which knows the names of its features; not checked yet."""
    if isinstance(X, str | os.PathLike):
        X = read_features(os.fspath(X))
    if isinstance(X, Source):
        return X
    frame = frame_table(X, name)
    return as_array(X, name) if frame is None else frame.rows()


def check_same_columns(X: Any, others: Any, *, name: str = "X", others_name: str = "queries") -> None:
    """Refuse rows of tables, as `rows_of` returns them, whose features have other names or the same in another order."""
    names, theirs = (rows.columns if isinstance(rows, Source) else None for rows in (X, others))
    if names is not None and theirs is not None and names != theirs:
        more = [each for each in theirs if each not in names]
        if more and [each for each in theirs if each in names] == list(names):
            raise FastentError(
                f"{others_name} has {name_list(map(repr, more))} beside the columns of {name} ({name_list(names)}): leave "
                f"{'it' if len(more) == 1 else 'these'} out, features are paired by place"
            )
        how = "the same columns in another order" if sorted(names) == sorted(theirs) else f"columns {name_list(theirs)}"
        raise FastentError(
            f"{name} has the columns {name_list(names)}, and {others_name} has {how}: features are paired by place, so pass "
            "the same columns, or arrays if the places are right"
        )


def _remedy_for_dtype(array: Array, name: str) -> str:
    """A conversion that loses nothing."""
    if array.dtype.kind == "c":
        return f"take both parts as features, numpy.hstack([{name}.real, {name}.imag])"
    if array.dtype.kind in "OUST":
        return f"convert with {name}.astype('float64')"
    return "leave out the columns that hold others"


def stays_on_disk(X: Any) -> bool:
    """Whether rows are read when they are requested, so that X may be larger than memory."""
    return isinstance(X, np.memmap | Source)


def in_memory(X: Array) -> Array:
    """All of a source as an array, for what needs every row many times; anything else as it is."""
    if isinstance(X, UnitRows):
        return cast(Array, UnitRows(in_memory(X.given)))
    return X[:] if isinstance(X, Source) else X


def bytes_in_memory(X: Array) -> int:
    """The bytes that `in_memory` allocates."""
    if isinstance(X, UnitRows):
        return bytes_in_memory(X.given)
    return int(X.shape[0] * X.shape[1] * X.dtype.itemsize * isinstance(X, Source))


def as_labels(
    labels: Any, *, n: int | None = None, name: str = "labels", minimum_classes: int = 1, notes: list[str] | None = None
) -> Labels:
    """Return class codes and the sorted unique classes.

    Labels that may mean "no label" (-1, -100, "nan"), or that look alike, are classes; a sentence about them is added to
    `notes`, or is a warning.

    Parameters
    ----------
    labels : array-like (n,) or path
        Integers, strings or booleans; floats are taken if they are whole numbers. Or `Labels`, which were checked before. Or
        where labels lie: an .npy, FILE.npz:NAME, FILE.parquet:COLUMN, a captured folder.
    n : int, optional
        How many points the labels must be for.
    minimum_classes : int
        Refuse fewer classes than this.

    Raises
    ------
    FastentError
        Wrong rank or length, no labels, NaN or fractional labels, objects of mixed type, too few classes.
    """
    if isinstance(labels, Labels):
        if n is not None:
            check_lengths(n, len(labels.codes), labels_name=name)
        return labels
    array = label_array(labels, name)
    if array.ndim != 1:
        remedy = remedy_for_shape(array, name)
        raise FastentError(f"{name} has shape {array.shape}: one label for each point, a 1-D array, is needed; {remedy}")
    if n is not None:
        check_lengths(n, len(array), labels_name=name)
    if len(array) == 0:
        raise FastentError(f"{name} is empty: at least one label is needed")
    classes, codes = sorted_classes(plain_labels(array, name))
    if len(classes) < minimum_classes:
        raise FastentError(
            f"{name} holds one class only ({classes[0]!s}): at least {minimum_classes} classes are needed to compare them"
        )
    found = Labels(codes.astype(np.int64, copy=False), classes)
    for remark in label_remarks(classes, found.codes):
        (warn if notes is None else notes.append)(f"{name}: {remark}")
    return found


def label_array(labels: Any, name: str) -> Array:
    """Labels as an array of any kind, given or where they lie; see `as_labels`."""
    return as_array(read_labels(os.fspath(labels)) if isinstance(labels, str | os.PathLike) else labels, name)


def check_lengths(n: int, n_labels: int, *, features_name: str = "X", labels_name: str = "labels") -> None:
    if n != n_labels:
        raise FastentError(
            f"{features_name} has {n} row{'s' * (n != 1)} but {labels_name} has {n_labels}: pass one label for each row"
        )


def check_finite(X: Array, *, name: str = "X") -> None:
    """Raise if the 2-D array `X` holds NaN or an infinity, with the count of bad rows and the first of them."""
    if X.dtype.kind != "f":
        return
    bad: list[NDArray[np.int64]] = []
    for start, block in row_blocks(X):
        # A finite sum has finite terms, so the mask is needed only for a block that is bad or that overflows.
        with np.errstate(over="ignore", invalid="ignore"):
            total = block.sum()
        if not np.isfinite(total):
            bad.append(start + np.flatnonzero(~np.isfinite(block).all(axis=1)))
    rows = np.concatenate(bad) if bad else np.empty(0, np.int64)
    if len(rows):
        row = np.asarray(X[rows[0]])
        column = int(np.flatnonzero(~np.isfinite(row))[0])
        raise FastentError(
            f"{name} has NaN or infinity in {len(rows)} of {len(X)} rows, first at row {rows[0]}, column {column} "
            f"({row[column]}): drop those rows or repair them"
        )


def check_directions(X: Array, *, name: str = "X") -> None:
    """Raise if a row of the 2-D array `X` is all zeros, which has no direction, with the count of such rows and the first."""
    rows = np.concatenate([start + zero_rows(block) for start, block in row_blocks(X)])
    if len(rows):
        raise FastentError(
            f"metric='cosine': {len(rows)} row{'s' * (len(rows) > 1)} of zeros in {name}, first row {rows[0]}, "
            f"{'have' if len(rows) > 1 else 'has'} no direction: leave them out, or use metric='euclidean'"
        )


def unit_rows(rows: Array) -> NDArray[np.float64]:
    """Rows scaled to unit L2 norm, in double precision; a row of zeros stays zero."""
    rows = np.asarray(rows, np.float64)
    largest = np.abs(rows).max(1, keepdims=True)
    largest[largest == 0] = 1
    with np.errstate(invalid="ignore"):  # infinities are refused elsewhere
        rows = rows / largest  # so that squares neither overflow nor vanish
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
    norms[norms == 0] = 1
    return rows / norms  # type: ignore[no-any-return]


def zero_rows(rows: Array) -> NDArray[np.int64]:
    """Indices of the rows of zeros, which have no direction; for most rows a few columns rule that out."""
    left: NDArray[np.int64] = np.flatnonzero(~rows[:, :16].any(1))
    for start, stop in ((16, 256), (256, None)):
        left = left[~rows[left, start:stop].any(1)]
    return left


def joined(blocks: list[Any]) -> Any:
    """Concatenate arrays; a single one is returned as it is."""
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def which_rows(normalize: bool, standardize: bool = False) -> str:
    """Which rows a statistic was computed from, for display: unit rows and the rows as given differ."""
    if standardize:
        return "unit rows of standardised features" if normalize else "features standardised"
    return "unit rows" if normalize else "rows as given"


class DerivedRows(Source):
    """Rows of X, each passed through a function of rows as it is read, which returns them in `dtype`."""

    def __init__(self, X: Array, derive: Callable[[Array], Array], dtype: np.dtype[Any] | type = np.float64) -> None:
        self.given, self.derive = X, derive
        self.shape, self.dtype = (X.shape[0], X.shape[1]), np.dtype(dtype)

    def read(self, start: int, stop: int) -> Array:
        return self.derive(self.given[start:stop])

    def take(self, rows: NDArray[np.int64]) -> Array:
        return self.derive(self.given[rows])


class UnitRows(DerivedRows):
    """Rows of X, scaled to unit L2 norm as they are read; rows of zeros stay zero.

    In double precision: single precision would not tell apart the directions of rows in a narrow cone.
    """

    def __init__(self, X: Array) -> None:
        super().__init__(X, unit_rows)


def kernel_dtype(X: Array) -> np.dtype[Any]:
    """float64 for that and for integers too wide for a float32's 24 bits, float32 for everything else."""
    return np.dtype(np.float64 if X.dtype.itemsize > (4 if X.dtype.kind == "f" else 2) else np.float32)


def lies_ready(rows: Array, dtype: np.dtype[Any] | type) -> bool:
    """Whether kernels that take a dtype can read an array where it lies."""
    return rows.dtype == dtype and rows.flags.c_contiguous and rows.flags.aligned


def row_blocks(X: Array, *, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, Array]]:
    """Yield `(start, block)` over the rows of a 2-D array, blocks C-contiguous and of `kernel_dtype`.

    An array that is already what kernels take is yielded whole, as it is. For rows on disk, the next block is read on a
    thread of its own while the last one is used.
    """
    dtype = kernel_dtype(X)
    if type(X) is np.ndarray and lies_ready(X, dtype):
        yield 0, X
        return
    rows = max(1, block_bytes // (X.shape[1] * dtype.itemsize))
    bounds = [(start, min(start + rows, len(X))) for start in range(0, len(X), rows)]

    def read(start: int, stop: int) -> Array:
        return np.ascontiguousarray(X[start:stop], dtype=dtype)

    if stays_on_disk(X):
        yield from blocks_ahead(read, bounds)
    else:
        yield from ((start, read(start, stop)) for start, stop in bounds)


def as_array(value: Any, name: str) -> Array:
    """Return an array-like of any rank and kind as a numpy array, a view where possible; memory maps stay such."""
    torch = sys.modules.get("torch")  # a caller who has a tensor has imported torch; nobody else pays for it
    if torch is not None and isinstance(value, torch.Tensor):
        tensor = value.detach()
        if tensor.layout != torch.strided:
            raise FastentError(f"{name} is a {tensor.layout} tensor: convert with {name}.to_dense()")
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        try:
            array: Array = tensor.cpu().numpy()
        except TypeError:  # 8-bit floats, quantised numbers
            how = "dequantize()" if tensor.is_quantized else "float()"
            raise FastentError(
                f"{name} has dtype {tensor.dtype}, which numpy does not have: convert with {name}.{how}"
            ) from None
        return array
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise FastentError(f"{name} is a sparse matrix: convert with {name}.toarray()")
    if isinstance(value, np.ma.MaskedArray):
        gaps = np.ma.getmaskarray(value)
        if gaps.any():
            rows = np.flatnonzero(gaps.reshape(len(gaps), -1).any(1)) if gaps.ndim else [0]
            raise FastentError(f"{name} is a masked array with gaps in {len(rows)} rows, first row {rows[0]}: drop those rows")
        value = value.data
    try:
        array = value if isinstance(value, np.memmap) else np.asarray(value)
    except (ValueError, TypeError) as error:
        raise FastentError(f"{name} cannot be made into an array ({error}): pass rows of equal length") from error
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
