"""Rows that are equal in every feature: found by their hashes and compared, so that a search meets each only once."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import BLOCK_BYTES, kernel_dtype, row_blocks
from fastent.io.sources import Source

__all__ = ["EqualRows", "Pairs", "RowsByNumber", "equal_rows"]

Array = NDArray[Any]

# Bytes of rows that are hashed at a time, so that they stay in a cache.
_HASHED = 1 << 18


class Pairs(NamedTuple):
    """Rows and others (m,) int64 that make a pair, and their squared distances (m,) float64."""

    rows: NDArray[np.int64]
    others: NDArray[np.int64]
    squared: NDArray[np.float64]

    @classmethod
    def none(cls) -> "Pairs":
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))

    @classmethod
    def joined(cls, parts: "list[Pairs]") -> "Pairs":
        return cls(*(np.concatenate(each) for each in zip(*parts, strict=True))) if len(parts) != 1 else parts[0]


class EqualRows(NamedTuple):
    """Which rows are copies of others.

    first : (n,) int64
        The lowest number of a row that equals each.
    complete : bool
        Whether rows that differ in this differ in a feature. Two rows with the same hash that are not equal leave it open.
    """

    first: NDArray[np.int64]
    complete: bool

    @property
    def distinct(self) -> NDArray[np.int64]:
        """Numbers of the rows that are no copies, ascending."""
        return np.flatnonzero(self.first == np.arange(len(self.first)))

    @property
    def copies(self) -> Pairs:
        """Each copy, with the first of its equals."""
        others = np.flatnonzero(self.first != np.arange(len(self.first)))
        return Pairs(self.first[others], others, np.zeros(len(others)))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How often there is each distinct row."""
        return np.bincount(self.first, minlength=len(self.first))[self.distinct]

    @property
    def n_pairs(self) -> int:
        """Pairs of equal rows."""
        return int((self.sizes * (self.sizes - 1) // 2).sum())

    def pairs(self) -> Pairs:
        """All pairs of equal rows, the lower number first."""
        members, start, sizes = np.argsort(self.first, kind="stable"), self._start, self.sizes
        parts = [Pairs.none()]
        for size in np.unique(sizes[sizes > 1]).tolist():
            begin = start[:-1][sizes == size][:, None]
            rows, others = (members[begin + each].ravel() for each in np.triu_indices(size, 1))
            parts.append(Pairs(rows, others, np.zeros(len(rows))))
        return Pairs.joined(parts)

    def n_between(self, pairs: Pairs, *, one_side: bool) -> int:
        """How many pairs of rows some pairs of distinct rows, by their places among these, stand for."""
        sizes = self.sizes
        return int((sizes[pairs.others] * (1 if one_side else sizes[pairs.rows])).sum())

    def between(self, pairs: Pairs, *, one_side: bool) -> Pairs:
        """Those, the lower number first; with `one_side` only the others are rows of these, each with whatever it is paired."""
        members, start, sizes = np.argsort(self.first, kind="stable"), self._start, self.sizes
        theirs = sizes[pairs.others]
        times = theirs if one_side else theirs * sizes[pairs.rows]
        which = np.repeat(np.arange(len(times)), times)
        at = np.arange(len(which)) - np.repeat(np.cumsum(times) - times, times)
        others = members[start[pairs.others][which] + at % theirs[which]]
        if one_side:
            return Pairs(pairs.rows[which], others, pairs.squared[which])
        rows = members[start[pairs.rows][which] + at // theirs[which]]
        return Pairs(np.minimum(rows, others), np.maximum(rows, others), pairs.squared[which])

    @property
    def _start(self) -> NDArray[np.int64]:
        """Where the members of each distinct row begin, if all are sorted by that."""
        return np.concatenate([[0], np.cumsum(self.sizes)])


class RowsByNumber(Source):
    """Some of the rows of X, in the order of their numbers (m,) int64."""

    def __init__(self, X: Array, numbers: NDArray[np.int64]) -> None:
        self._X, self._numbers = X, numbers
        self.shape, self.dtype = (len(numbers), X.shape[1]), X.dtype

    def read(self, start: int, stop: int) -> Array:
        return np.asarray(self._X[self._numbers[start:stop]])

    def take(self, rows: NDArray[np.int64]) -> Array:
        return np.asarray(self._X[self._numbers[rows]])


def equal_rows(X: Array) -> EqualRows:
    """Which rows (n, d) equal an earlier one; 0 and -0 are equal."""
    hashes = np.concatenate([_hashes(block) for _, block in row_blocks(X)])
    order = np.argsort(hashes, kind="stable")
    begins = np.ones(len(order), bool)
    begins[1:] = hashes[order[1:]] != hashes[order[:-1]]
    head = order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))]
    first, complete = np.arange(len(order)), True
    alike, size = np.sort(order[~begins]), max(1, BLOCK_BYTES // (X.shape[1] * kernel_dtype(X).itemsize))
    head_of = np.empty_like(order)
    head_of[order] = head
    for begin in range(0, len(alike), size):
        rows = alike[begin : begin + size]
        same = (np.asarray(X[rows]) == np.asarray(X[head_of[rows]])).all(1)
        first[rows[same]] = head_of[rows[same]]
        complete = complete and bool(same.all())
    return EqualRows(first, complete)


def _hashes(block: Array) -> NDArray[np.int64]:
    """Of rows (m, d), (m,); equal rows have the same."""
    width = block.shape[1] * block.itemsize
    found, size = [], max(1, _HASHED // width)
    for begin in range(0, len(block), size):
        data = (block[begin : begin + size] + block.dtype.type(0)).tobytes()  # -0 becomes 0
        starts = range(0, len(data), width)
        found.append(np.fromiter((hash(data[at : at + width]) for at in starts), np.int64, len(starts)))
    return np.concatenate(found)
