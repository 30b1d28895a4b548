"""Checks of options: each returns the value as its plain Python type, or refuses it by name and value."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, TypeVar

from fastent.errors import FastentError

__all__ = ["ascending", "choice", "flag", "number", "short_repr", "whole_number"]

Number = TypeVar("Number", int, float)

# Longer values are cut.
_ROOM = 80


def whole_number(name: str, value: Any, *, minimum: int, maximum: int | None = None) -> int:
    """Return an int within [minimum, maximum]; numpy's integers are accepted, booleans and floats are not."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < minimum or (maximum is not None and value > maximum):
        bounds = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise FastentError(f"{name}={short_repr(value)}: a whole number {bounds} is needed")
    return int(value)


def number(
    name: str,
    value: Any,
    *,
    above: float = -math.inf,
    minimum: float = -math.inf,
    below: float = math.inf,
    maximum: float = math.inf,
) -> float:
    """Return a finite float with above < value < below and minimum <= value <= maximum."""
    usable = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not usable or not above < value < below or not minimum <= value <= maximum:
        limits = (("above", above), ("of at least", minimum), ("below", below), ("of at most", maximum))
        bounds = " and ".join(f"{words} {limit:g}" for words, limit in limits if math.isfinite(limit))
        raise FastentError(f"{name}={short_repr(value)}: a number{bounds and ' '}{bounds} is needed")
    return float(value)


def ascending(
    name: str,
    values: Any,
    check: Callable[[str, Any], Number],
    *,
    what: str,
    example: str,
    least: int = 1,
    start: float | None = None,
) -> list[Number]:
    """Return a list of at least so many values, each larger than the one before, as `check` (name, value) returns each.

    `what` they are and an `example` are for the error; the first is `start` unless that is None.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise FastentError(f"{name}={short_repr(values)}: a sequence of {what} is needed, for instance {example}")
    found = [check(name, value) for value in values]
    ordered = all(before < after for before, after in pairwise(found)) and (start is None or found[:1] == [start])
    if len(found) < least or not ordered:
        number_of = f"at least {least} " if least > 1 else ""
        beginning = "" if start is None else f" from {start} on"
        raise FastentError(
            f"{name}={short_repr(values)}: {number_of}ascending {what}{beginning} are needed, for instance {example}"
        )
    return found


def flag(name: str, value: Any) -> bool:
    """Return a bool; numpy's booleans, 0 and 1 are accepted, anything else is refused as ambiguous."""
    plain = isinstance(value, (bool, Integral)) or type(value).__name__ in ("bool", "bool_")
    if not plain or value not in (0, 1):
        raise FastentError(f"{name}={short_repr(value)}: True or False is needed")
    return bool(value)


def short_repr(value: Any) -> str:
    """A value in one short line."""
    if hasattr(value, "shape") and hasattr(value, "dtype") and value.ndim:
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= _ROOM else f"{text[: _ROOM - 3]}..."


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Return the value if it is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise FastentError(f"{name}={short_repr(value)}: choose one of {', '.join(map(repr, choices))}")
    return value
