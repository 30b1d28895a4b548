"""The networks as they are at one epoch, for functions that observe training."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fastent.training.ensemble import Ensemble
from fastent.training.module_ensemble import ModuleEnsemble
from fastent.training.points import Points

__all__ = ["Snapshot"]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """S networks after `epoch` epochs; valid only until training continues."""

    epoch: float  # an int after whole epochs
    _networks: Ensemble | ModuleEnsemble
    _points: Points
    _rows: NDArray[np.float32]
    _logits: Tensor

    @cached_property
    def logits(self) -> NDArray[Any]:
        """(S, n, C), of the training points in the order of the data."""
        found = np.empty((len(self._logits), self._logits.shape[2], self._logits.shape[1]), self._logits.cpu().numpy().dtype)
        found[:, self._points.original] = self._logits.cpu().numpy().transpose(0, 2, 1)
        return found

    @cached_property
    def probability(self) -> NDArray[np.float64]:
        """(S, n, C) softmax of the logits."""
        from scipy.special import softmax

        return np.asarray(softmax(self.logits.astype(np.float64), axis=2))

    def hidden(self, layer: int = -1, points: "NDArray[np.int64] | None" = None) -> NDArray[Any]:
        """(S, n, units), of the training points in the order of the data; or of some, by their positions."""
        rows = self._rows if points is None else self._rows[points]
        return self._networks.hidden(self._tensor(rows))[layer].cpu().numpy().transpose(0, 2, 1)

    def predict(self, rows: ArrayLike) -> NDArray[Any]:
        """(S, m, C) logits of other points (m, d), standardised as the training points are."""
        return self._networks.predict(self._tensor(np.asarray(rows))).cpu().numpy().transpose(0, 2, 1)

    def _tensor(self, rows: NDArray[Any]) -> Tensor:
        return torch.as_tensor(rows).to(self._networks.parameters[0])
