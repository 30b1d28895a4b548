"""Checks of options: each returns the value as its plain Python type, or refuses it by name and value."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from fastent.errors import FastentError

__all__ = ["choice", "number", "whole_number"]


def whole_number(name: str, value: Any, *, minimum: int, maximum: int | None = None) -> int:
    """Return an int within [minimum, maximum]; numpy's integers are taken, booleans and floats are not."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < minimum or (maximum is not None and value > maximum):
        bounds = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise FastentError(f"{name}={value!r}: a whole number {bounds} is needed")
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
        raise FastentError(f"{name}={value!r}: a number{bounds and ' '}{bounds} is needed")
    return float(value)


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Return the value if it is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise FastentError(f"{name}={value!r}: choose one of {', '.join(map(repr, choices))}")
    return value
