"""The errors that fastent raises on purpose."""

__all__ = ["DivergedError", "FastentError"]


class FastentError(ValueError):
    """Bad input: the message names what was wrong, the value and the remedy.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.geometry([[1.0, 2.0]], [0, 1])
    Traceback (most recent call last):
    ...
    fastent.errors.FastentError: X has 1 row but labels has 2: pass one label for each row
    """


class DivergedError(FastentError):
    """Training whose numbers are no longer finite."""
