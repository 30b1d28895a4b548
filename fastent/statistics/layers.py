"""Several representations of the same points, by name or in a list."""

from collections.abc import Iterable, Mapping
from typing import Any

from fastent.errors import FastentError
from fastent.options import short_repr

__all__ = ["named_layers"]


def named_layers(layers: Any, what: str, *, at_least: int) -> tuple[tuple[str, ...], list[Any]]:
    """Names, which are numbers for a list, and what they stand for.

    what : what each of them should be, for the message.
    """
    if isinstance(layers, Mapping):
        names, found = tuple(map(str, layers)), list(layers.values())
    elif isinstance(layers, Iterable) and not isinstance(layers, str | bytes) and getattr(layers, "ndim", 1) != 0:
        found = list(layers)
        names = tuple(str(i) for i in range(len(found)))
    else:
        raise FastentError(f"layers={short_repr(layers)}: pass {what} for each layer, in a list or by name in a dict")
    if len(found) < at_least:
        raise FastentError(f"layers has {len(found)}: at least {at_least} are needed, each {what}")
    return names, found
