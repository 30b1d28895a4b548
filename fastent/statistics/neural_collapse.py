"""Neural collapse: how far class means and a linear layer on top of them are from the configuration they tend to.

Papyan, Han, Donoho, "Prevalence of neural collapse during the terminal phase of deep learning training", 2020.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import as_array, as_features, check_finite
from fastent.errors import FastentError

__all__ = ["NC2", "ROUNDING", "Between", "Head", "as_head", "centred_alike", "nc2", "nc3"]

Array = NDArray[np.float64]

# Singular values of the class means below the one share of the largest, or the other of the means themselves, which is what
# double precision leaves of them, are directions in which the means do not differ.
_RANK_TOLERANCE, ROUNDING = 1e-10, 16 * np.finfo(np.float64).eps


class NC2(NamedTuple):
    """How far the centred class means are from a simplex equiangular tight frame (0, 0).

    `norm_spread` is std / mean of their norms, `angle_deviation` the mean over pairs of |cos + 1 / (C - 1)|.
    """

    norm_spread: float
    angle_deviation: float


class Between(NamedTuple):
    """The directions (m, d) in which class means differ, orthonormal, and the singular values (m,) of the centred means."""

    directions: Array
    singular: Array

    @classmethod
    def of(cls, means: Array) -> "Between":
        _, singular, directions = np.linalg.svd(_centred(means), full_matrices=False)
        kept = singular > max(_RANK_TOLERANCE * singular[0], ROUNDING * np.abs(means).max())
        return cls(directions[kept], singular[kept])

    def nc1(self, along: Array, within: float) -> float:
        """tr(S_W S_B^+) / C with S_B = M^T M / C, M the centred means: only S_W along M's right singular vectors is needed."""
        if within == 0:
            return 0.0 if len(self.singular) else math.nan
        return float((along / self.singular**2).sum()) if len(self.singular) else math.inf


class Head(NamedTuple):
    """A linear layer: weights (C, d) and bias (C,), float64."""

    weights: Array
    bias: Array

    def decide(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        decided: NDArray[np.int64] = (rows @ self.weights.T + self.bias).argmax(1)
        return decided


def as_head(weights: Any, bias: Any, n_classes: int, d: int, normalize: bool) -> Head | None:
    """What people pass as `weights=` and `bias=`, checked."""
    if weights is None:
        if bias is not None:
            raise FastentError("bias without weights: pass both, or none")
        return None
    if normalize:
        raise FastentError("weights act on the activations as they are: pass normalize=False")
    rows = as_features(weights, name="weights", flatten=False)
    check_finite(rows, name="weights")
    offsets = np.zeros(n_classes) if bias is None else as_array(bias, "bias")
    if offsets.dtype.kind not in "fiub":
        raise FastentError(f"bias has dtype {offsets.dtype}: a number for each class is needed")
    offsets = offsets.astype(np.float64)
    if rows.shape != (n_classes, d) or offsets.shape != (n_classes,):
        raise FastentError(
            f"weights have shape {rows.shape}, bias {offsets.shape}: ({n_classes}, {d}) and ({n_classes},) are needed, "
            "a row for each class in sorted order"
        )
    if not np.isfinite(offsets).all():
        first = int(np.flatnonzero(~np.isfinite(offsets))[0])
        raise FastentError(f"bias has {offsets[first]} for class {first}: finite numbers are needed")
    return Head(rows.astype(np.float64), offsets)


def nc2(means: Array) -> NC2:
    n_classes = len(means)
    centred = _centred(means)
    norms = np.sqrt((centred**2).sum(1))
    central = centred_alike(means)
    if central.all():
        return NC2(math.nan, math.nan)
    unit = np.divide(centred, norms[:, None], out=np.zeros_like(centred), where=~central[:, None])
    cosines = (unit @ unit.T)[~np.eye(n_classes, dtype=bool)]
    return NC2(float(norms.std() / norms.mean()), float(np.abs(cosines + 1 / (n_classes - 1)).mean()))


def centred_alike(means: Array) -> NDArray[np.bool_]:
    """Which means lie at the centre of all, as far as double precision can tell: they have no direction from there, (C,)."""
    alike: NDArray[np.bool_] = np.linalg.norm(_centred(means), axis=1) <= ROUNDING * np.abs(means).max()
    return alike


def nc3(means: Array, weights: Array) -> float:
    """Squared Frobenius distance of the weights from the centred means, both scaled to norm 1."""
    centred = _centred(means)
    scales = np.linalg.norm(weights), np.linalg.norm(centred)
    if not all(scales):
        return math.nan
    return float(((weights / scales[0] - centred / scales[1]) ** 2).sum())


def _centred(means: Array) -> Array:
    """Less their mean; exactly 0 where all are the same."""
    apart = means - means[0]
    centred: Array = apart - apart.mean(0)
    return centred
