"""Rows that the workers of a cluster read for themselves."""

import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from fastent.arrays.validation import stays_on_disk
from fastent.errors import FastentError
from fastent.io.sources import ArraySource, Source, blocks_ahead
from fastent.options import short_repr
from fastent.printable import first_line
from fastent.runtime.cluster import map_on_cluster

__all__ = ["as_shared_source", "map_rows_on_cluster"]

Item = TypeVar("Item")
Found = TypeVar("Found")
Rows = Any
# A source that only says where its rows are takes no more than this when it is pickled.
_PLACE_BYTES = 1 << 20


def as_shared_source(X: Any, client: Any) -> Any:
    """Return X as a source that every worker can open."""
    if client is None:
        return X
    if not hasattr(client, "scheduler_info") or not hasattr(client, "map"):
        raise FastentError(f"client={short_repr(client)}: a distributed.Client is needed")
    if not stays_on_disk(X):
        raise FastentError(
            "client= is for rows that every worker can read: numpy.save X on a disk that all share, and pass fe.open(path)"
        )
    source = X if isinstance(X, Source) else ArraySource(X)
    try:
        size = len(pickle.dumps(source))
    except Exception as error:  # of whatever the source is made of
        raise FastentError(f"client= is for rows on a disk that workers read, not {source!r} ({first_line(error)})") from error
    if size > _PLACE_BYTES:
        raise FastentError(
            f"client= is for rows that workers read from disk: {source!r} would be sent to them, {size:,} bytes; "
            "save it with numpy.save and pass fe.open(path)"
        )
    return source


def map_rows_on_cluster(
    client: Any, X: Any, work: Callable[[Rows, Item], Found], pieces: Sequence[tuple[int, int, Item]]
) -> Iterator[Found]:
    """Yield work(X[start:stop], item) for each (start, stop, item); done here, the next rows are read meanwhile."""
    if client is not None:
        yield from map_on_cluster(client, partial(_of_rows, X, work), pieces)
        return
    bounds = [(start, stop) for start, stop, _ in pieces]
    read = blocks_ahead(lambda start, stop: X[start:stop], bounds)
    for (_, rows), (*_, item) in zip(read, pieces, strict=True):
        yield work(rows, item)


def _of_rows(X: Any, work: Callable[[Any, Any], Any], piece: tuple[int, int, Any]) -> Any:
    start, stop, item = piece
    return work(X[start:stop], item)
