"""Test errors during training: a point is passed again only when it may have changed sides since."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fastent.kernels.head import TANH
from fastent.training.ensemble import Ensemble
from fastent.training.module_ensemble import ModuleEnsemble
from fastent.training.points import Points, SparseInputs, aligned

__all__ = ["HeldOut"]

# Weights, what a point without entries gets from them, the head's weights and biases: all float32.
Parameters = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


class Units(NamedTuple):
    """Of each hidden unit, (S, h) float64: its weights' norm, and bounds of its activation as a line over a point's span."""

    norms: NDArray[np.float64]
    most: NDArray[np.float64]
    most_by_span: NDArray[np.float64]


class HeldOut:
    """Errors of S networks on points that they do not learn from.

    Networks of one hidden layer on sparse inputs are followed: how far a point's margin can have moved is bounded by how far
    the parameters have, as Hamerly bounds the moves of centres in k-means. A point whose margin is larger than that, and than
    rounding, is as it was. The errors are those of passing all points.
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
    """What is known of each point's margin, its own logit less the largest other.

    Bounds are lines over a point's span, the norm of its entries (what differs from the inputs' common values): (S, 2),
    constant and slope, for the margins of S networks. `_moved` is how far margins may have moved since training began, and
    `_levels` (S, n) how far that may go until a point must be passed.
    """

    def __init__(self, networks: Ensemble, inputs: SparseInputs, codes: NDArray[np.int64]) -> None:
        self._networks, self._inputs, self._codes = networks, inputs, codes
        n_networks, n_units, n_features = networks.parameters[0].shape
        n_entries, n = np.diff(inputs.starts), len(codes)
        squares = inputs.values.astype(np.float64) ** 2
        self._spans = np.sqrt(np.bincount(np.repeat(np.arange(n), n_entries), squares, n))
        self._most_entries = n_entries.max()
        self._levels, self._wrong = np.full((n_networks, n), -np.inf), np.zeros((n_networks, n), bool)
        self._moved = np.zeros((n_networks, 2))
        self._before: Parameters | None = None
        from fastent.kernels.held_out import LANES

        width = -(-n_units // LANES) * LANES
        self._table = aligned((n_networks, n_features, width), np.float32)
        self._padded_base = np.zeros((n_networks, width), np.float32)

    @classmethod
    def where_possible(cls, networks: Ensemble | ModuleEnsemble, points: Points) -> "_Followed | None":
        """For networks of one hidden layer in single precision, on sparse inputs; None for all others."""
        if not isinstance(networks, Ensemble) or points.sparse is None:
            return None
        if len(networks.parameters) != 4 or networks.parameters[0].dtype != torch.float32:
            return None
        return cls(networks, points.sparse, points.codes.numpy())

    def wrong(self) -> NDArray[np.bool_]:
        """Which points are misclassified, (S, n), sorted by class; overwritten by the next call."""
        from fastent.kernels.held_out import judge

        weight, bias, head, head_bias = self._networks.parameters
        now = weight.numpy(), self._inputs.base(weight, bias), head.numpy(), head_bias.numpy()
        with np.errstate(over="ignore", invalid="ignore"):  # of networks that diverge
            units = self._units(now)
            if self._before is not None:
                self._moved += _movement(self._before, now, units)
            rounding = self._rounding(now, units)
        if not np.isfinite(self._moved).all():
            self._moved[:], self._levels[:] = 0, -np.inf
        self._before = now[0].copy(), now[1], now[2].copy(), now[3].copy()
        n_networks, n_units, _ = now[0].shape
        self._table[:, :, :n_units], self._padded_base[:, :n_units] = now[0].swapaxes(1, 2), now[1]
        judge(
            (self._table.reshape(n_networks, -1), self._padded_base, now[2], now[3]),
            (self._inputs.starts, self._inputs.features, self._inputs.values, self._codes, self._spans),
            self._moved,
            rounding,
            self._networks.activation,
            self._levels,
            self._wrong,
        )
        return self._wrong

    def _units(self, now: Parameters) -> Units:
        weight, base, _, _ = now
        norms = _norms(weight)
        if self._networks.activation == TANH:
            return Units(norms, np.ones_like(norms), np.zeros_like(norms))
        return Units(norms, np.abs(base).astype(np.float64), norms)

    def _rounding(self, now: Parameters, units: Units) -> NDArray[np.float64]:
        """The most by which a margin computed in single precision is off."""
        weight, base, head, head_bias = now
        largest = np.abs(head).max(1).astype(np.float64)
        line = [
            (largest * (np.abs(base) + units.most)).sum(1) + np.abs(head_bias).max(1),
            (largest * (units.norms + units.most_by_span)).sum(1),
        ]
        # Additions one after the other, and some for the activation and for joining partial sums; two logits make a margin.
        additions = self._most_entries + weight.shape[1] + 16
        bound: NDArray[np.float64] = 2 * additions * np.finfo(np.float32).eps * np.stack(line, axis=1)
        return bound


def _movement(before: Parameters, now: Parameters, units: Units) -> NDArray[np.float64]:
    """The most that margins have moved: v'a' - va = v (a' - a) + (v' - v) a', v the head's weights, a the activations."""
    weight, base, head, head_bias = (new.astype(np.float64) - old for new, old in zip(now, before, strict=True))
    head_range, head_range_moved = np.ptp(before[2].astype(np.float64), axis=1), np.ptp(head, axis=1)
    line = [
        (head_range * np.abs(base) + head_range_moved * units.most).sum(1) + np.ptp(head_bias, axis=1),
        (head_range * _norms(weight) + head_range_moved * units.most_by_span).sum(1),
    ]
    return np.stack(line, axis=1)


def _norms(weight: NDArray[Any]) -> NDArray[np.float64]:
    weight = weight.astype(np.float64, copy=False)
    norms: NDArray[np.float64] = np.sqrt(np.einsum("shd,shd->sh", weight, weight))
    return norms
