"""What training records of a hidden layer: the sums of each class's unit vectors, read from the activations where they lie.

Activations come as the training step makes them, one contiguous row of points for each unit, with the points of a class side
by side. A strip of points is brought into cache once for its norms and used a second time for the sums.
"""

from typing import Any

import numpy as np

from .jit import SUMS, driver, kernel, step
from .sharing import parallel_for

_STRIP = 512


@step(fastmath=SUMS)
def add_squares(values: Any, squares: Any) -> None:
    for i in range(values.shape[0]):
        value = np.float64(values[i])
        squares[i] += value * value


@step(fastmath=SUMS)
def dot(values: Any, weights: Any) -> float:
    total = 0.0
    for i in range(values.shape[0]):
        total += np.float64(values[i]) * weights[i]
    return total


@step()
def invert_norms(squares: Any) -> int:
    """Replace squared norms by inverse norms, zeros by zero; return how many were not zero."""
    directed = 0
    for i in range(squares.shape[0]):
        if squares[i] > 0.0:
            squares[i] = 1.0 / np.sqrt(squares[i])
            directed += 1
    return directed


@step()
def _leave_out(point_weights: Any, squares: Any) -> None:
    for i in range(squares.shape[0]):
        if point_weights[i] == 0:
            squares[i] = 0.0


@kernel()
def _unit_class_sums(begin: int, end: int, activations: Any, bounds: Any, point_weights: Any, sums: Any, directed: Any) -> None:
    n_units, n_classes = activations.shape[1], bounds.shape[0] - 1
    for s in range(begin, end):
        inverse = np.empty(_STRIP)
        for c in range(n_classes):
            for start in range(bounds[c], bounds[c + 1], _STRIP):
                stop = start + _STRIP if start + _STRIP < bounds[c + 1] else bounds[c + 1]
                norms = inverse[: stop - start]
                norms[:] = 0.0
                for j in range(n_units):
                    add_squares(activations[s, j, start:stop], norms)
                _leave_out(point_weights[s, start:stop], norms)
                directed[s, c] += invert_norms(norms)
                for j in range(n_units):
                    sums[s, c, j] += dot(activations[s, j, start:stop], norms)


@driver(_unit_class_sums)
def unit_class_sums(activations: Any, bounds: Any, point_weights: Any) -> Any:
    """Sum the unit vectors of each class, in float64.

    Parameters
    ----------
    activations : (S, h, n) float32 or float64, C-contiguous
        h units of S networks on n points, points of a class side by side.
    bounds : (C + 1,) int64
        Class c is the points bounds[c]..bounds[c + 1].
    point_weights : (S, n)
        A point of weight 0 is left out.

    Returns
    -------
    sums (S, C, h) float64, directed (S, C) int64: how many points of the class are not the zero vector.
    """
    n_networks, n_units, _ = activations.shape
    n_classes = bounds.shape[0] - 1
    sums = np.zeros((n_networks, n_classes, n_units))
    directed = np.zeros((n_networks, n_classes), np.int64)
    parallel_for(_unit_class_sums, n_networks, activations, bounds, point_weights, sums, directed)
    return sums, directed
