"""Points as the networks take them: one column each, those of a class side by side."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastent.kernels.head import STRIP
from fastent.training.inputs import SparseInputs

__all__ = ["Points"]


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
            weights=torch.from_numpy(weights).to(inputs),
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
            weights=self.weights[:, places],
            strips=self.strips[:0],
            sparse=None,
        )

    def batch(self, rows: NDArray[np.int64]) -> "Points":
        """Some of the points (positions as here), weighted anew."""
        places = torch.from_numpy(rows).to(self.inputs.device)
        n_classes = len(self.bounds) - 1
        return Points.sort(self.inputs[:, places], self.codes[places].cpu().numpy(), n_classes, self.kept[:, rows])
