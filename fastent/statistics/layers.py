"""Several representations of the same points, by name or in a list."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fastent.errors import FastentError
from fastent.options import short_repr, whole_number
from fastent.printable import in_queries
from fastent.search.found_neighbors import Neighbors, check_neighbors

__all__ = ["as_layers", "common_k"]


def as_layers(layers: Any, what: str, *, at_least: int) -> tuple[tuple[str, ...], list[Any]]:
    """Names, which are numbers for a list, and what they stand for.

    what : what each of them should be, for the message.
    """
    if isinstance(layers, Mapping):
        names, found = tuple(map(str, layers)), list(layers.values())
    elif isinstance(layers, Iterable) and not isinstance(layers, str | bytes) and getattr(layers, "ndim", 3) > 2:
        found = list(layers)
        names = tuple(str(i) for i in range(len(found)))
    else:
        raise FastentError(f"layers={short_repr(layers)}: pass {what} for each layer, in a list or by name in a dict")
    if len(found) < at_least:
        raise FastentError(f"layers has {len(found)}: at least {at_least} are needed, each {what}")
    return names, found


def common_k(names: Sequence[str], lists: Sequence[Neighbors], k: int | None) -> int:
    """How many neighbours lists of the same queries can be compared by: k, or as many as all have.

    Raises
    ------
    FastentError
        Lists of other queries, or among other numbers of rows; fewer neighbours than k.
    """
    for each in lists:
        check_neighbors(each)
    first = lists[0]
    for name, each in zip(names[1:], lists[1:], strict=True):
        if first.n != each.n:
            raise FastentError(f"{names[0]} has {first.n} rows and {name} has {each.n}: pass neighbours of the same points")
        of_rows = [one.queries is not None for one in (first, each)]
        if of_rows[0] != of_rows[1] or len(first.indices) != len(each.indices):
            what = [f"{in_queries(len(one.indices))}{', no rows' * (one.queries is None)}" for one in (first, each)]
            raise FastentError(f"{names[0]} has {what[0]} and {name} has {what[1]}: pass neighbours of the same queries")
        if of_rows[0] and not np.array_equal(first.queries, each.queries):  # type: ignore[arg-type]
            raise FastentError(f"queries of {names[0]} and {name} differ: search with the same queries=, in the same order")
    most = min(each.k for each in lists)
    return most if k is None else whole_number("k", k, minimum=1, maximum=most)
