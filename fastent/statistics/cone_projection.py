"""The point of a cone that is nearest to another point, for cones spanned by many rows."""

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError

__all__ = ["nearest_in_cone"]

Array = NDArray[np.float64]

# Of a row of unit length with the residual of a unit vector: below this the row makes nothing better.
_GAIN = 1e-10
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
    from scipy.optimize import nnls

    weights, residual = np.zeros(len(generators)), target
    at_once = 4 + int(_ROWS_FOR_A_DIMENSION * len(target))
    for _ in range(_ROUNDS):
        gains = generators @ residual
        gains[weights > 0] = 0  # theirs are rounding
        better = np.flatnonzero(gains > _GAIN)
        if len(better) > at_once:
            better = better[np.argpartition(gains[better], -at_once)[-at_once:]]
        if not len(better):
            return weights
        used = np.concatenate([np.flatnonzero(weights), better])
        weights[used], left = nnls(generators[used].T, target, maxiter=30 * len(used) + 100)
        residual = target - weights[used] @ generators[used]
        if left < _GAIN:
            return weights
    raise FastentError(f"no nearest point of a cone of {len(generators)} rows was found in {_ROUNDS} rounds: pass fewer points")
