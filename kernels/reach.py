"""Which boxes may hold what a point wants: all that lie within its radius."""

from typing import Any

import numpy as np

from .arrays import read_only
from .jit import FUSED, driver, kernel
from .lists import WIDENED
from .sharing import parallel_for

__all__ = ["boxes_within"]


@kernel(fastmath=FUSED)
def _boxes_within(begin: int, end: int, sketch: Any, radii: Any, lower: Any, upper: Any, reached: Any) -> None:
    m, n_boxes = sketch.shape[0] // radii.shape[0], reached.shape[0] // radii.shape[0]
    squared, zero = np.empty(n_boxes, np.float32), np.float32(0)
    kept = np.float32(1 - (m + 8) * 2.0**-23)  # what is certain of a sum of m squares in single precision
    for i in range(begin, end):
        squared[:] = zero
        for j in range(m):
            value = sketch[i * m + j]
            low, high = lower[j * n_boxes : (j + 1) * n_boxes], upper[j * n_boxes : (j + 1) * n_boxes]
            for c in range(n_boxes):
                below, above = low[c] - value, value - high[c]
                gap = below if below > above else above
                gap = gap if gap > zero else zero
                squared[c] += gap * gap
        limit, here = radii[i] * radii[i] * WIDENED, reached[i * n_boxes : (i + 1) * n_boxes]
        for c in range(n_boxes):
            here[c] = squared[c] * kept <= limit


@driver(_boxes_within)
def boxes_within(sketch: Any, radii: Any, lower: Any, upper: Any) -> Any:
    """Whether a point can lie so near to what is in a box.

    Parameters
    ----------
    sketch : (n, m) float32
    radii : (n,) float32
        Of each point, what its sketch may be off included; infinity reaches all boxes.
    lower, upper : (boxes, m) float32
        Widened by what a sketch in them may be off.

    Returns
    -------
    (n, boxes) bool
        False only where everything in the box is farther.
    """
    n, n_boxes = len(sketch), len(lower)
    reached = np.empty(n * n_boxes, np.bool_)
    flat, low, high = (np.ascontiguousarray(each).reshape(-1) for each in (sketch, lower.T, upper.T))
    parallel_for(_boxes_within, n, *(read_only(each) for each in (flat, radii, low, high)), reached)
    return reached.reshape(n, n_boxes)
