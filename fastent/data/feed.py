"""Batches of a data set that stays on disk, in an order that suits the disk and depends on the seed.

blocks of neighbouring rows, shuffled -> a pool of 16 of them, its rows shuffled -> batches
                                         the next pool is read meanwhile
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.io.sources import blocks_ahead

__all__ = ["Batch", "Feed"]

Array = NDArray[Any]

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
