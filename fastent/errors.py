"""The errors that fastent raises on purpose, and its warnings."""

import os
import sys
import warnings

from fastent.printable import printable, shortened

__all__ = ["DivergedError", "FastentError", "warn"]


# A longer message quotes a very long label or list.
_LONGEST = 2000


class FastentError(ValueError):
    """Bad input: the message names what was wrong, the value and the remedy.

    It is one line: invisible characters in the names that it quotes are written as escapes, and very long ones are shortened.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.geometry([[1.0, 2.0]], [0, 1])
    Traceback (most recent call last):
    ...
    fastent.errors.FastentError: X has 1 row but labels has 2: pass one label for each row
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(shortened(printable(message), _LONGEST))


class DivergedError(FastentError):
    """Training whose numbers are no longer finite."""


def warn(message: str) -> None:
    """Warn at the line of the caller's code: frames of fastent, and of torch and numba between them, are skipped."""
    between = [sys.modules[name] for name in ("torch", "numba", "fastent.kernels") if name in sys.modules]
    inside = [os.path.dirname(str(file)) + os.sep for file in (__file__, *(module.__file__ for module in between))]
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(tuple(inside)):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
