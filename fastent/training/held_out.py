"""Test errors during training: a point is passed again only when it may have changed sides since."""

import numpy as np
import torch
from numpy.typing import NDArray

from fastent.kernels.head import TANH
from fastent.training.ensemble import Ensemble
from fastent.training.inputs import SparseInputs, aligned
from fastent.training.modules import ModuleEnsemble
from fastent.training.points import Points

__all__ = ["HeldOut"]


class HeldOut:
    """Errors of S networks on points that they do not learn from.

    Networks of one hidden layer on sparse inputs are followed: how far a point's margin can have moved is bounded by how far
    the parameters have, as Hamerly bounds the moves of centres in k-means. A point whose margin is larger than that, and than
    rounding, is as it was. Of MNIST's 10,000 test images a third is passed in an epoch of the first 60, a seventh later. The
    errors are those of passing all points.
    """

    def __init__(self, networks: Ensemble | ModuleEnsemble, points: Points) -> None:
        self._networks, self._points = networks, points
        self._followed = _Followed.where_possible(networks, points)

    def errors(self) -> NDArray[np.float64]:
        """The misclassified share of the points, (S,)."""
        if self._followed is not None:
            wrong = self._followed.wrong()
        else:
            wrong = self._networks.observe(self._points, learn=False).wrong
        errors: NDArray[np.float64] = np.count_nonzero(wrong, axis=1) / wrong.shape[1]
        return errors


class _Followed:
    """What is known of each point's margin.

    Bounds are lines over a point's span, the norm of its entries: (S, 2), constant and slope, for the margins of S networks.
    """

    def __init__(self, networks: Ensemble, inputs: SparseInputs, codes: NDArray[np.int64]) -> None:
        self._networks, self._inputs, self._codes = networks, inputs, codes
        n_networks, n_entries, n = len(networks.parameters[0]), np.diff(inputs.starts), len(codes)
        squares = inputs.values.astype(np.float64) ** 2
        self._spans = np.sqrt(np.bincount(np.repeat(np.arange(n), n_entries), squares, n))
        self._most_entries = n_entries.max()
        self._levels, self._wrong = np.full((n_networks, n), -np.inf), np.zeros((n_networks, n), bool)
        self._moved = np.zeros((n_networks, 2))
        self._before: list[NDArray[np.float32]] | None = None

    @classmethod
    def where_possible(cls, networks: Ensemble | ModuleEnsemble, points: Points) -> "_Followed | None":
        """For networks of one hidden layer in single precision, on sparse inputs; None for all others."""
        if not isinstance(networks, Ensemble) or points.sparse is None:
            return None
        if len(networks.parameters) != 4 or networks.parameters[0].dtype != torch.float32:
            return None
        return cls(networks, points.sparse, points.codes.numpy())

    def wrong(self) -> NDArray[np.bool_]:
        """(S, n), sorted by class."""
        from fastent.kernels.held_out import VECTOR, judge

        weight, bias, head, head_bias = (parameter.numpy() for parameter in self._networks.parameters)
        base = bias + weight @ self._inputs.common
        now = [weight, base, head, head_bias]
        if self._before is not None:
            self._moved += self._movement(self._before, now)
        self._before = [values.copy() for values in now]
        n_networks, n_units, n_features = weight.shape
        width = -(-n_units // VECTOR) * VECTOR
        table, starts = aligned((n_networks, n_features, width), np.float32), np.zeros((n_networks, width), np.float32)
        table[:, :, :n_units], starts[:, :n_units] = weight.swapaxes(1, 2), base
        judge(
            table.reshape(n_networks, -1),
            starts,
            head,
            head_bias,
            self._inputs.starts,
            self._inputs.features,
            self._inputs.values,
            self._codes,
            self._spans,
            self._moved,
            self._rounding(now),
            self._networks.activation,
            self._levels,
            self._wrong,
        )
        return self._wrong

    def _movement(self, before: list[NDArray[np.float32]], now: list[NDArray[np.float32]]) -> NDArray[np.float64]:
        """The most that margins have moved: by the units under the weights before, by the weights on the units now."""
        weight, base, head, head_bias = (new - old for new, old in zip(now, before, strict=True))
        constant, slope = self._largest_activation(now)
        apart, parting = np.ptp(before[2], axis=1), np.ptp(head, axis=1)
        return np.stack(
            [
                (apart * np.abs(base) + parting * constant).sum(1) + np.ptp(head_bias, axis=1),
                (apart * _norms(weight) + parting * slope).sum(1),
            ],
            axis=1,
        )

    def _rounding(self, now: list[NDArray[np.float32]]) -> NDArray[np.float64]:
        """The most by which a margin computed in single precision is off."""
        weight, base, head, head_bias = now
        constant, slope = self._largest_activation(now)
        largest = np.abs(head).max(1)
        steps = self._most_entries + weight.shape[1] + 16
        line = [
            (largest * (np.abs(base) + constant)).sum(1) + np.abs(head_bias).max(1),
            (largest * (_norms(weight) + slope)).sum(1),
        ]
        bound: NDArray[np.float64] = 2 * steps * np.finfo(np.float32).eps * np.stack(line, axis=1)
        return bound

    def _largest_activation(self, now: list[NDArray[np.float32]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bounds of each unit's activation, (S, h) constants and slopes."""
        weight, base = now[:2]
        if self._networks.activation == TANH:
            return np.ones(base.shape), np.zeros(base.shape)
        return np.abs(base).astype(np.float64), _norms(weight)


def _norms(weight: NDArray[np.float32]) -> NDArray[np.float64]:
    """Norms over the inputs, no less than they are for all that single precision rounds."""
    squares = np.einsum("shd,shd->sh", weight, weight).astype(np.float64)
    norms: NDArray[np.float64] = np.sqrt(squares * (1 + weight.shape[2] * np.finfo(np.float32).eps))
    return norms
