"""Records of networks that train on data from disk, each in one pass: no layer's activations exist as a whole.

rows -> network -> each layer's activations -> class moments
                                            -> the nearest so far of some queries
                -> logits -> which are wrong
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from fastent.activations.evaluation import evaluating
from fastent.activations.hooks import hooked
from fastent.data.standardization import Standardizer
from fastent.data.stored_rows import KEPT_BYTES, LabelledRows
from fastent.errors import FastentError
from fastent.search.found_neighbors import exact_neighbors
from fastent.search.index import ExternalQueries
from fastent.search.index_costs import index_bytes
from fastent.search.out_of_core import NearestSoFar
from fastent.statistics.class_moments import ClassMoments
from fastent.statistics.mixing import mixing

__all__ = ["Diverged", "StreamedRecorder", "recording_bytes", "sample_rows", "wrong_of"]

Array = NDArray[Any]

# Activations of one chunk, all layers together, and the points that pass through a network at once.
_CHUNK_BYTES = 80 << 20
_AT_ONCE = 1024
_TEST_ROWS = 8192
_NEIGHBORS = 10


class Diverged(ArithmeticError):
    """A network's outputs are no longer finite."""


def sample_rows(config: dict[str, Any], codes: NDArray[np.int64], classes: Array) -> tuple[Array | None, Array | None]:
    """Rows that are recorded, and which of these (positions) are queries; all and none as None."""
    m, q = config["record_points"], config["queries"]
    generator = np.random.default_rng((config["seed"], 0x5A))
    recorded = None if m is None else np.sort(generator.choice(len(codes), m, replace=False))
    sampled = codes if recorded is None else codes[recorded]
    absent = np.flatnonzero(np.bincount(sampled, minlength=len(classes)) == 0)
    if len(absent):
        raise FastentError(
            f"record_points={m}: no point of class {classes[absent[0]]!s} is among them; record more of the {len(codes)}"
        )
    return recorded, None if q is None else np.sort(generator.choice(len(sampled), q, replace=False))


class StreamedRecorder:
    """Records of networks on `points`, of each layer by its name and width, and their errors on `test_points`.

    `queries` are positions among the points whose nearest neighbours are searched for mixing; None for no mixing.
    """

    def __init__(
        self,
        points: LabelledRows,
        test_points: LabelledRows | None,
        standardizer: Standardizer,
        layers: Sequence[str],
        widths: Sequence[int],
        n_classes: int,
        queries: NDArray[np.int64] | None,
    ) -> None:
        self._points, self._test_points, self._standardizer = points, test_points, standardizer
        self._layers, self._widths, self._n_classes, self._queries = layers, widths, n_classes, queries

    def record(self, networks: Sequence[nn.Module]) -> dict[str, Array]:
        """The values of one record, (networks, ...) of each quantity."""
        found = [self._observe(network) for network in networks]
        return {name: np.stack([each[name] for each in found]) for name in found[0]} | {
            "test_error": np.array([self._test_error(network) for network in networks])
        }

    def _observe(self, network: nn.Module) -> dict[str, Any]:
        """Pass all points through the network once, and the queries once before."""
        points, wrong = self._points, np.empty(len(self._points), bool)
        moments = [ClassMoments(self._n_classes, width) for width in self._widths]
        near: list[NearestSoFar] = []
        with hooked(network, self._layers, "flatten") as run_model:
            if self._queries is not None:
                own, k = points.codes[self._queries], min(_NEIGHBORS, len(points) - 1)
                layers = self._pass(run_model, points.take(self._queries))[1]
                near = [NearestSoFar(ExternalQueries(rows, self._queries, own), {"all": k}) for rows in layers]
            for start, stored in points.chunks(_chunk_rows(self._widths)):
                decided, layers = self._pass(run_model, stored)
                codes = points.codes[start : start + len(stored)]
                wrong[start : start + len(stored)] = decided != codes
                for layer, rows in enumerate(layers):
                    moments[layer].update(rows, codes)
                    if near:
                        near[layer].update(rows, start)
        mixed = [self._mixing(each) for each in near] or [(np.nan, np.nan)] * len(self._layers)
        return {
            "train_error": wrong.mean(),
            "wrong": np.packbits(wrong),
            "radius": np.array([np.sqrt(each.variances) for each in moments]),
            "distance": np.array([cdist(each.means, each.means) for each in moments]),
            "mixing": np.array([overlap for overlap, _ in mixed]),
            "neighbor_error": np.array([error for _, error in mixed]),
        }

    def _pass(self, run_model: Any, stored: Array) -> tuple[Array, list[Array]]:
        """Decisions (m,) and each layer's activations (m, d) of rows as stored."""
        decided = np.empty(len(stored), np.int64)
        found: list[Array] = []
        for at in range(0, len(stored), _AT_ONCE):
            here = slice(at, at + _AT_ONCE)
            logits, hidden = run_model(self._standardizer(stored[here]))
            if not torch.isfinite(logits.sum()):
                raise Diverged
            decided[here] = logits.argmax(1).cpu().numpy()
            for layer, name in enumerate(self._layers):
                rows = _plain(hidden[name])
                if at == 0:
                    found.append(np.empty((len(stored), rows.shape[1]), rows.dtype))
                found[layer][here] = rows
        return decided, found

    def _mixing(self, near: NearestSoFar) -> tuple[float, float]:
        n = len(self._points)
        assert self._queries is not None
        mixed = mixing(exact_neighbors(near.found()["all"], self._queries, n), self._points.codes, matrix=False)
        return mixed.overlap, mixed.error

    def _test_error(self, network: nn.Module) -> float:
        if self._test_points is None:
            return np.nan
        wrong = 0
        with evaluating(network):
            for start, stored in self._test_points.chunks(_TEST_ROWS):
                codes = self._test_points.codes[start : start + len(stored)]
                wrong += int(wrong_of(network, self._standardizer(stored), codes).sum())
        return wrong / len(self._test_points)


def _chunk_rows(widths: Sequence[int]) -> int:
    return max(_AT_ONCE, _CHUNK_BYTES // (4 * sum(widths)))


def recording_bytes(X: Any, m: int, widths: Sequence[int], n_classes: int, q: int) -> int:
    """Approximate memory for recording m rows of X, with q queries (0 for none).

    Rows that are kept; of one chunk the rows as stored, with the next ones, and every layer's activations, with those before;
    every layer's moments; every layer's queries, as they are and as the search takes them, with their lists; an index of one
    layer's chunk.
    """
    row, size = X.shape[1] * X.dtype.itemsize, min(m, _chunk_rows(widths))
    chunk = size * (3 * row + 2 * 4 * sum(widths))
    moments = 4 * 8 * n_classes * sum(widths)
    needed = min(m * row, KEPT_BYTES) + chunk + moments
    if q:
        k = min(_NEIGHBORS, m - 1)
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


def _plain(activations: Tensor) -> Array:
    kept = activations if activations.dtype in (torch.float32, torch.float64) else activations.float()
    return kept.cpu().numpy()
