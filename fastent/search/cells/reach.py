"""Which cells queries reach: bits of the queries that search their own cell together, for the cells that any of them reach."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.scratch import NO_ROOM
from fastent.search.index import Among, Wanted

__all__ = ["Reached"]

Array = NDArray[Any]


class Reached:
    """Queries, by their positions, that reach each cell for some of their lists; most groups reach few cells.

    Parameters
    ----------
    wanted : dict
        The lists.
    cells : int
    folder : Path, optional
        Where bits lie in a file without a name; default in memory.

    Attributes
    ----------
    visits : (cells,) int64
        How many queries reach each.
    """

    def __init__(self, wanted: Wanted, cells: int, folder: Path | None) -> None:
        self._wanted = tuple(wanted)
        self.visits = np.zeros(cells, np.int64)
        # Of each cell: the first query of a group, how many there are, and where their bits are.
        self._groups: list[list[tuple[int, int, int]]] = [[] for _ in range(cells)]
        self._bits = _BitsInMemory() if folder is None else _BitsOnDisk(folder)
        # Of the last two cells: one that is asked, and one of which an answer has come.
        self._last: dict[int, tuple[NDArray[np.int64], dict[Among, NDArray[np.bool_]]]] = {}

    def close(self) -> None:
        self._bits.close()

    def enter(self, begin: int, q: int, found: dict[str, Array]) -> None:
        """What q queries from a position on reach: `visited`, `visits` and `reached/LIST`, as `cells.cell` says."""
        self.visits[found["visited"]] += found["visits"]
        bits = np.stack([found[f"reached/{among}"] for among in self._wanted], axis=1)
        for cell, of_cell in zip(found["visited"].tolist(), bits, strict=True):
            self._groups[cell].append((begin, q, self._bits.put(of_cell)))

    def enter_all(self, begin: int, q: int, cells: NDArray[np.int64]) -> None:
        """They reach all of some cells."""
        bits = np.full((len(cells), -(-q // 8)), 255, np.uint8)
        of_lists = {f"reached/{among}": bits for among in self._wanted}
        self.enter(begin, q, {"visited": cells, "visits": np.full(len(cells), q)} | of_lists)

    def queries(self, cell: int) -> tuple[NDArray[np.int64], dict[Among, NDArray[np.bool_]]]:
        """Ascending positions (m,) of those that reach a cell, and for which list; those of the last two cells are kept."""
        if cell not in self._last:
            for other in list(self._last)[:-1]:
                del self._last[other]
            m, end = int(self.visits[cell]), 0
            positions, wanting = np.empty(m, np.int64), np.empty((len(self._wanted), m), bool)
            for begin, q, at in sorted(self._groups[cell]):
                bits = self._bits.get(at, (len(self._wanted), -(-q // 8)))
                lists = np.unpackbits(bits, axis=1, count=q, bitorder="little")
                some = np.flatnonzero(lists.any(0))
                positions[end : end + len(some)] = begin + some
                wanting[:, end : end + len(some)] = lists[:, some]
                end += len(some)
            self._last[cell] = positions, dict(zip(self._wanted, wanting, strict=True))
        return self._last[cell]


class _BitsInMemory:
    def __init__(self) -> None:
        self._kept: list[Array] = []

    def put(self, bits: Array) -> int:
        self._kept.append(bits.copy())
        return len(self._kept) - 1

    def get(self, at: int, shape: tuple[int, int]) -> Array:
        return self._kept[at].reshape(shape)

    def close(self) -> None:
        self._kept.clear()


class _BitsOnDisk:
    def __init__(self, folder: Path) -> None:
        self._folder, self._end = folder, 0
        self._stream = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def put(self, bits: Array) -> int:
        at, content = self._end, bits.tobytes()
        try:
            while content:
                written = os.pwrite(self._stream.fileno(), content, self._end)
                content, self._end = content[written:], self._end + written
        except OSError as error:
            raise FastentError(
                f"which cells queries reach cannot be kept in {str(self._folder)!r} ({error.strerror}): {NO_ROOM}"
            ) from error
        return at

    def get(self, at: int, shape: tuple[int, int]) -> Array:
        content = os.pread(self._stream.fileno(), shape[0] * shape[1], at)
        return np.frombuffer(content, np.uint8).reshape(shape)

    def close(self) -> None:
        self._stream.close()
