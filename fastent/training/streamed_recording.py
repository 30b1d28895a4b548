"""What is recorded of a network while it trains, in one pass of points from disk: no layer's activations exist at once.

rows -> network -> each layer's activations -> class moments
                                            -> the nearest so far of some queries
                -> logits -> which are wrong
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from fastent.activations.hooks import hooked
from fastent.data.standardizer import Standard
from fastent.io.sources import blocks_ahead
from fastent.search.exact_index import index_bytes
from fastent.search.index import ExternalQueries
from fastent.search.neighbors import exact_neighbors
from fastent.search.out_of_core import NearestSoFar
from fastent.statistics.class_moments import ClassMoments
from fastent.statistics.mixing import mixing

__all__ = ["Diverged", "Points", "Record", "observe", "observing_bytes", "wrong_of"]

Array = NDArray[Any]

# Rows as stored that are kept rather than read again.
_KEPT_BYTES = 64 << 20
# Activations of one chunk, all layers together, and the points that pass through a network at once.
_CHUNK_BYTES = 80 << 20
_AT_ONCE = 1024


class Diverged(ArithmeticError):
    """A network's outputs are no longer finite."""


class Record(NamedTuple):
    """Of one network: wrong (m,), radius (L, C), distance (L, C, C), and where queries were given mixing and error (L,)."""

    wrong: NDArray[np.bool_]
    radius: NDArray[np.float64]
    distance: NDArray[np.float64]
    mixing: NDArray[np.float64]
    neighbor_error: NDArray[np.float64]


class Points:
    """Some rows of a data set, or all of it (rows None), with their classes; kept if they are few, else read when needed."""

    def __init__(self, X: Any, codes: NDArray[np.int64], rows: NDArray[np.int64] | None) -> None:
        self._X, self._rows = X, rows
        self.codes = codes if rows is None else codes[rows]
        if rows is not None and len(rows) * X.shape[1] * X.dtype.itemsize <= _KEPT_BYTES:
            self._X, self._rows = np.array(X[rows]), None

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, positions: NDArray[np.int64]) -> Array:
        rows = positions if self._rows is None else self._rows[positions]
        return np.asarray(self._X[rows])

    def chunks(self, size: int) -> Iterator[tuple[int, Array]]:
        """(start, rows as stored); the next chunk is read while one is used."""
        bounds = [(start, min(start + size, len(self))) for start in range(0, len(self), size)]
        return blocks_ahead(self._read, bounds)

    def _read(self, start: int, stop: int) -> Array:
        return np.array(self._X[start:stop] if self._rows is None else self._X[self._rows[start:stop]])


def observe(
    network: nn.Module,
    layers: Sequence[str],
    widths: Sequence[int],
    points: Points,
    standard: Standard,
    n_classes: int,
    queries: NDArray[np.int64] | None,
    k: int,
) -> Record:
    """Pass all points through the network once, and the queries (positions) once before."""
    wrong = np.empty(len(points), bool)
    moments = [ClassMoments(n_classes, width) for width in widths]
    near: list[NearestSoFar] = []
    size = _chunk_rows(widths)
    with hooked(network, layers, "flatten") as run_model:

        def forward(stored: Array) -> tuple[Array, list[Array]]:
            """Decisions (m,) and each layer's activations (m, d)."""
            decided = np.empty(len(stored), np.int64)
            found: list[Array] = []
            for at in range(0, len(stored), _AT_ONCE):
                here = slice(at, at + _AT_ONCE)
                logits, hidden = run_model(standard(stored[here]))
                if not torch.isfinite(logits.sum()):
                    raise Diverged
                decided[here] = logits.argmax(1).cpu().numpy()
                for layer, name in enumerate(layers):
                    rows = _plain(hidden[name])
                    if at == 0:
                        found.append(np.empty((len(stored), rows.shape[1]), rows.dtype))
                    found[layer][here] = rows
            return decided, found

        if queries is not None:
            codes = points.codes[queries]
            near = [
                NearestSoFar(ExternalQueries(rows, queries, codes), {"all": k}) for rows in forward(points.take(queries))[1]
            ]
        for start, stored in points.chunks(size):
            decided, found = forward(stored)
            codes = points.codes[start : start + len(stored)]
            wrong[start : start + len(stored)] = decided != codes
            for layer, rows in enumerate(found):
                moments[layer].update(rows, codes)
                if near:
                    near[layer].update(rows, start)
    mixed = [_mixing(each, points.codes, queries) for each in near] if queries is not None else [(np.nan, np.nan)] * len(layers)
    return Record(
        wrong,
        np.array([np.sqrt(each.variances) for each in moments]),
        np.array([cdist(each.means, each.means) for each in moments]),
        *np.array(mixed).T,
    )


def _chunk_rows(widths: Sequence[int]) -> int:
    return max(_AT_ONCE, _CHUNK_BYTES // (4 * sum(widths)))


def observing_bytes(X: Any, m: int, widths: Sequence[int], n_classes: int, q: int, k: int) -> int:
    """About the memory that `observe` takes to record m rows of X, with q queries (0 for none).

    Rows that are kept; of one chunk the rows as stored, with the next ones, and every layer's activations, with those before;
    every layer's moments; every layer's queries, as they are and ready to be asked, with their lists; an index of one layer's
    chunk.
    """
    row, size = X.shape[1] * X.dtype.itemsize, min(m, _chunk_rows(widths))
    chunk = size * (3 * row + 2 * 4 * sum(widths))
    moments = 4 * 8 * n_classes * sum(widths)
    needed = min(m * row, _KEPT_BYTES) + chunk + moments
    if q:
        ready = sum(index_bytes(_of_shape(0, width), q, k) for width in widths)
        needed += q * (row + 4 * sum(widths)) + ready + max(index_bytes(_of_shape(size, width), 0, k) for width in widths)
    return int(needed)


def _of_shape(rows: int, width: int) -> Array:
    """Activations for a formula: they take no memory."""
    return np.broadcast_to(np.float32(0), (rows, width))


def wrong_of(network: nn.Module, rows: Tensor, codes: Array) -> NDArray[np.bool_]:
    """Which of some standardised rows a network, in eval mode, misclassifies."""
    pieces = [network(piece).argmax(1).cpu().numpy() for piece in torch.split(rows, _AT_ONCE)]
    return np.asarray(np.concatenate(pieces) != codes)


def _mixing(near: NearestSoFar, codes: NDArray[np.int64], queries: NDArray[np.int64]) -> tuple[float, float]:
    mixed = mixing(exact_neighbors(near.found()["all"], queries, len(codes)), codes, matrix=False)
    return mixed.overlap, mixed.error


def _plain(activations: Tensor) -> Array:
    kept = activations if activations.dtype in (torch.float32, torch.float64) else activations.float()
    return kept.cpu().numpy()
