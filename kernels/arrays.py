"""Arrays on their way to kernels and within them.

For each form of its arrays a kernel is compiled anew: of float32 or float64, contiguous or not, to be written to or not.
"""

from typing import Any

import numpy as np

from .jit import step

__all__ = ["copy_row", "read_only"]


def read_only(array: Any) -> Any:
    """A view that cannot be written to.

    For what callers bring and kernels only read, some of which can be written to and some, as of memory maps, cannot.
    """
    view = array.view(np.ndarray)
    view.flags.writeable = False
    return view


@step()
def copy_row(row: Any, to: Any) -> None:
    """Copies a row. Numba's own `to[:] = row` also compiles an error message about shapes, which takes over a second."""
    for j in range(to.shape[0]):
        to[j] = row[j]
