"""Points as the networks take them: one column each, those of a class side by side, and dense or by what is not common.

Products of the first layers with points most of whose features have a common value take only what differs from it.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastent.kernels.head import STRIP
from fastent.runtime.threads import working_threads

__all__ = ["Points", "SparseInputs", "aligned"]

# Of all values, at most so many may differ from their feature's common one: an entry costs twice what a value costs in a dense
# product, measured with 200 units on 669 features.
_DENSITY = 0.35
# How much nearer the origin than the common values a point may be: what single precision then loses is three bits.
_NEARER = 8
# Points from which a feature's common value is taken.
_SAMPLE = 512
# Bytes of gradients' sums that are met at once: they stay in the second cache.
_TABLE = 640 * 1024
# But no fewer units than these at once: a wide row of gradients twice.
_LEAST_VECTORS = 10


class SparseInputs:
    """Points (d, n) as a common value of each feature and what differs from it.

    Parameters
    ----------
    inputs : (d, n) float32 or float64 array
    common : (d,)

    Attributes
    ----------
    common : (d,)
    starts : (n + 1,) int64
        The entries of point i are starts[i]..starts[i + 1].
    features : (entries,) int32
    values : (entries,)
    """

    def __init__(self, inputs: NDArray[Any], common: NDArray[Any]) -> None:
        from fastent.kernels.sparse import compress, count_entries, transposed

        self.common, self._shape = common, inputs.shape
        self.starts = np.concatenate([[0], np.cumsum(count_entries(inputs, common))])
        self.features = np.empty(self.starts[-1], np.int32)
        self.values = np.empty(self.starts[-1], inputs.dtype)
        compress(inputs, common, self.starts, self.features, self.values)
        self._room: dict[str, NDArray[Any]] = {}
        self._by_feature = transposed(self.starts, self.features, self.values, len(inputs))

    @classmethod
    def where_it_pays(cls, inputs: Tensor) -> "SparseInputs | None":
        """For points (d, n) on a CPU that have few entries; None for all others."""
        if inputs.device.type != "cpu" or not len(inputs):
            return None
        rows = inputs.numpy()
        common = _common_values(rows[:, :: -(-rows.shape[1] // _SAMPLE)])
        # Most points are like the first ones: these are counted before all are.
        if (rows[:, :_SAMPLE] != common[:, None]).mean() > _DENSITY or (rows != common[:, None]).mean() > _DENSITY:
            return None
        # A point much nearer the origin than the common values are is a difference of large numbers.
        if np.sqrt(np.einsum("ji,ji->i", rows, rows).min()) < np.linalg.norm(common) / _NEARER:
            return None
        return cls(rows, common)

    def times(self, weight: Tensor, bias: Tensor) -> Tensor:
        """The products (S, h, n) with weights (S, h, d), biases (S, h) added."""
        from fastent.kernels.sparse import LINE, times

        flat, biases = weight.flatten(0, 1).numpy(), self.base(weight, bias).ravel()
        result = np.empty((len(flat), self._shape[1]), flat.dtype)
        line = LINE // flat.itemsize
        n_panels = -(-len(flat) // line)
        panels = self._space("weights", (n_panels, self._shape[0] * line), flat.dtype)
        base = np.zeros(n_panels * line, flat.dtype)
        for panel, start in zip(panels, range(0, len(flat), line), strict=True):
            panel.reshape(-1, line)[:, : len(flat) - start] = flat[start : start + line].T
        base[: len(flat)] = biases
        times(panels, base, self.starts, self.features, self.values, result)
        return torch.from_numpy(result).view(*weight.shape[:2], -1)

    def base(self, weight: Tensor, bias: Tensor) -> NDArray[Any]:
        """What a point without entries gets from weights (S, h, d) and biases (S, h): (S, h)."""
        if not self.common.any():
            return bias.numpy().copy()
        base: NDArray[Any] = bias.numpy() + (weight.numpy().astype(np.float64) @ self.common).astype(self.values.dtype)
        return base

    def gradient(self, gradient: Tensor, total: Tensor) -> Tensor:
        """The products (S, h, d) of gradients (S, h, n) with the points, given the gradients' sums over these, (S, h)."""
        from fastent.kernels.sparse import BLOCK
        from fastent.kernels.sparse import gradient as sums

        flat = gradient.flatten(0, 1).numpy()
        result = total.flatten().numpy()[:, None] * self.common
        starts, points, values = self._by_feature
        for units, width in self._pieces(len(flat), flat.itemsize):
            own = flat[units]
            turned = self._space("turned", (len(starts) * BLOCK, width), flat.dtype)
            found = self._space("found", (self._shape[0], width), flat.dtype)
            sums(own, starts, points, values, turned.ravel(), found, working_threads())
            result[units] += found[:, : len(own)].T
        return torch.from_numpy(result).view(*gradient.shape[:2], -1)

    def _pieces(self, n_units: int, itemsize: int) -> list[tuple[slice, int]]:
        """Units in pieces whose sums stay in the cache, and the width of a piece in whole vectors."""
        from fastent.kernels.sparse import VECTOR

        vector = VECTOR // itemsize
        most = max(_TABLE // (self._shape[0] * itemsize) // vector, _LEAST_VECTORS) * vector
        n_pieces = -(-n_units // most)
        size = -(-n_units // n_pieces)
        return [(slice(start, min(start + size, n_units)), -(-size // vector) * vector) for start in range(0, n_units, size)]

    def _space(self, name: str, shape: tuple[int, int], dtype: Any) -> NDArray[Any]:
        """Room that is kept from call to call: what it holds does not matter."""
        if name not in self._room or self._room[name].shape != shape or self._room[name].dtype != dtype:
            self._room[name] = aligned(shape, dtype)
        return self._room[name]


def aligned(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Zeros that begin with a cache line, so that in rows of whole vectors no vector straddles two lines."""
    from fastent.kernels.sparse import LINE

    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.zeros(size + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    zeros: NDArray[Any] = raw[start : start + size].view(dtype).reshape(shape)
    return zeros


def _common_values(rows: NDArray[Any]) -> NDArray[Any]:
    """The most frequent value of each row, of equally frequent ones the least."""
    ordered, places = np.sort(rows, axis=1), np.arange(rows.shape[1])
    same = np.zeros(rows.shape, bool)
    same[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    run_starts = np.maximum.accumulate(np.where(same, 0, places), axis=1)
    common: NDArray[Any] = ordered[np.arange(len(rows)), (places - run_starts).argmax(1)]
    return common


@dataclass(frozen=True, eq=False)
class Points:
    """n points of C classes for S networks, sorted by class.

    Attributes
    ----------
    inputs : (d, n)
    codes : (n,) int64, ascending
    bounds : (C + 1,) int64
        Class c is the points bounds[c]..bounds[c + 1].
    original : (n,) int64
        Where each point stands in the order from which it was taken.
    weights : (S, n)
        1 / (how many points the network learns from), or 0 for a point that it is trained without.
    strips : (T, 3) int64
        Class, start and stop of the strips in which a kernel goes over the points.
    sparse : SparseInputs, optional
        The inputs by what differs from each feature's common value, where products with these are cheaper.
    """

    inputs: Tensor
    codes: Tensor
    bounds: NDArray[np.int64]
    original: NDArray[np.int64]
    weights: Tensor
    strips: NDArray[np.int64]
    sparse: SparseInputs | None = None

    @classmethod
    def sort(cls, inputs: Tensor, codes: NDArray[np.int64], n_classes: int, kept: NDArray[np.bool_]) -> "Points":
        """From inputs (d, n), codes (n,) and which points each network learns from, (S, n), in any order."""
        order = np.argsort(codes, kind="stable")
        places = torch.from_numpy(order).to(inputs.device)
        bounds = np.searchsorted(codes[order], np.arange(n_classes + 1))
        weights = kept[:, order] / np.maximum(kept.sum(1, keepdims=True), 1)
        strips = [
            (c, start, min(start + STRIP, last))
            for c, (first, last) in enumerate(pairwise(bounds.tolist()))
            for start in range(first, last, STRIP)
        ]
        return cls(
            inputs=inputs[:, places].contiguous(),
            codes=torch.from_numpy(codes[order]).to(inputs.device),
            bounds=bounds,
            original=order,
            weights=torch.from_numpy(np.ascontiguousarray(weights)).to(inputs),
            strips=np.array(strips, np.int64).reshape(-1, 3),
        )

    def compressed(self) -> "Points":
        """The same with sparse inputs, if these pay: for points that pass many times."""
        return replace(self, sparse=SparseInputs.where_it_pays(self.inputs))

    @property
    def kept(self) -> NDArray[np.bool_]:
        """(S, n) bool, sorted by class: the points that each network learns from."""
        return self.weights.cpu().numpy() > 0

    def counts(self) -> NDArray[np.int64]:
        """(S, C): how many points of each class each network learns from."""
        kept = np.concatenate([np.zeros((len(self.weights), 1), np.int64), self.kept.cumsum(1)], axis=1)
        return np.diff(kept[:, self.bounds], axis=1)

    def piece(self, start: int, stop: int) -> "Points":
        """The points start..stop, with their weights."""
        places = slice(start, stop)
        return replace(
            self,
            inputs=self.inputs[:, places],
            codes=self.codes[places],
            bounds=np.clip(self.bounds, start, stop) - start,
            original=self.original[places],
            weights=self.weights[:, places].contiguous(),
            strips=self.strips[:0],
            sparse=None,
        )

    def batch(self, rows: NDArray[np.int64]) -> "Points":
        """Some of the points (positions as here), weighted anew."""
        places = torch.from_numpy(rows).to(self.inputs.device)
        n_classes = len(self.bounds) - 1
        return Points.sort(self.inputs[:, places], self.codes[places].cpu().numpy(), n_classes, self.kept[:, rows])
