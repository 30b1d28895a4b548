"""The point of a cone that is nearest to another point, for cones spanned by many rows."""

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError

__all__ = ["nearest_in_cone"]

Array = NDArray[np.float64]

# Of a row of unit length with the residual of a unit vector: below this the row makes nothing better.
_GAIN = 1e-10
# What is left of the conditions for the nearest point where rounding allows no better.
_TOLERANCE = 1e-7
# Rows that come in at once, at most so many times the dimension: each round solves a problem of all that are in.
_ROWS_FOR_A_DIMENSION = 0.5
_ROUNDS = 1000


def nearest_in_cone(generators: Array, target: Array) -> Array:
    """Weights (m,) >= 0 of the rows whose sum is the nearest to the target that sums of the rows with such weights can be.

    The nonnegative least squares problem is solved on the few rows that matter: those with the largest products with what is
    left of the target come in until no row has a positive one, which is the condition for the nearest point (Moreau).

    Parameters
    ----------
    generators : (m, r) float64
        Rows of unit length.
    target : (r,) float64
        Of unit length.
    """
    weights, residual, before = np.zeros(len(generators)), target, np.inf
    at_once = 4 + int(_ROWS_FOR_A_DIMENSION * len(target))
    for _ in range(_ROUNDS):
        gains = generators @ residual
        outside = np.where(weights > 0, 0, gains)  # of the others it is rounding
        better = np.flatnonzero(outside > _GAIN)
        left = float(np.linalg.norm(residual))
        if not len(better) or left < _GAIN:
            return weights
        if left >= before and outside.max() < _TOLERANCE:  # as near as rounding allows
            return weights
        before = left
        if len(better) > at_once:
            better = better[np.argpartition(gains[better], -at_once)[-at_once:]]
        used = np.concatenate([np.flatnonzero(weights), better])
        weights[used] = _nonnegative_least_squares(generators[used].T, target)
        residual = target - weights[used] @ generators[used]
    raise FastentError(f"no nearest point of a cone of {len(generators)} rows was found in {_ROUNDS} rounds: pass fewer points")


def _nonnegative_least_squares(columns: Array, target: Array) -> Array:
    """The fit of the first solver whose residual is at a right angle to it.

    The first is faster, and before SciPy 1.15 wrong for columns that nearly depend on each other.
    """
    from scipy.optimize import lsq_linear, nnls

    weights: Array
    for bounded in (False, True):
        try:
            if bounded:
                weights = np.maximum(lsq_linear(columns, target, (0, np.inf), method="bvls", tol=1e-14).x, 0)
            else:
                weights = nnls(columns, target, maxiter=30 * columns.shape[1] + 100)[0]
        except (RuntimeError, np.linalg.LinAlgError):
            continue
        near = columns @ weights
        if abs(near @ (target - near)) < _TOLERANCE:
            return weights
    raise FastentError(
        f"{columns.shape[1]} rows are too nearly in one direction for a nearest point: center them, or rescale X"
    )
