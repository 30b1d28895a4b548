"""Work that is spread over the workers of a Dask cluster, or done here: the same calls on the same parts, so the same bits."""

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from fastent.arrays.validation import stays_on_disk
from fastent.errors import FastentError
from fastent.io.files import first_line
from fastent.io.sources import ArraySource, Source, blocks_ahead
from fastent.options import shown
from fastent.runtime.processors import processors
from fastent.runtime.threads import mapped_in_parallel, single_blas_thread

__all__ = ["connected", "everywhere", "n_threads", "spread", "spread_rows"]

Item = TypeVar("Item")
Found = TypeVar("Found")
Rows = Any
# What says where rows lie takes no more.
_PLACE_BYTES = 1 << 20


def spread(
    client: Any,
    work: Callable[[Item], Found],
    items: Iterable[Item],
    *,
    in_threads: bool = False,
) -> Iterator[Found]:
    """Yield work(item) for each item, in their order.

    Parameters
    ----------
    client : distributed.Client or None
        Whose workers share the items, one thread for each; what a lost worker had is done again by another. None: done here,
        one after the other, with all threads.
    in_threads : bool
        Of work done here: several at once, in one thread each. For work that leaves the GIL, and starts no threads.
    """
    if client is None:
        yield from (mapped_in_parallel if in_threads else map)(work, items)
        return
    futures = client.map(_alone, list(items), work=client.scatter(work, broadcast=True, hash=False), pure=False)
    try:
        for i, future in enumerate(futures):
            found = future.result()
            futures[i] = None  # lets the cluster forget what is here now
            yield found
    finally:
        client.cancel([future for future in futures if future is not None])


def spread_rows(
    client: Any, X: Any, work: Callable[[Rows, Item], Found], pieces: Sequence[tuple[int, int, Item]]
) -> Iterator[Found]:
    """Yield work(X[start:stop], item) for each (start, stop, item); done here, the next rows are read meanwhile."""
    if client is not None:
        yield from spread(client, partial(_of_rows, X, work), pieces)
        return
    bounds = [(start, stop) for start, stop, _ in pieces]
    read = blocks_ahead(lambda start, stop: X[start:stop], bounds)
    for (_, rows), (*_, item) in zip(read, pieces, strict=True):
        yield work(rows, item)


def _of_rows(X: Any, work: Callable[[Any, Any], Any], piece: tuple[int, int, Any]) -> Any:
    start, stop, item = piece
    return work(X[start:stop], item)


def n_threads(client: Any) -> int:
    """Of all workers together."""
    return max(1, sum(map(int, client.nthreads().values())))


def _alone(item: Any, work: Callable[[Any], Any]) -> Any:
    """On a worker, whose other threads have other items to do."""
    from fastent.kernels.sharing import working

    with working(1), single_blas_thread():
        return work(item)


def everywhere(X: Any, client: Any) -> Any:
    """X as every worker can open it."""
    if client is None:
        return X
    if not hasattr(client, "scheduler_info") or not hasattr(client, "map"):
        raise FastentError(f"client={shown(client)}: a distributed.Client is needed")
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


@contextmanager
def connected(scheduler: str | None, workers: int | None) -> Iterator[Any]:
    """A client of the scheduler at an address, or of so many processes of this machine; None for neither."""
    if scheduler is None and workers is None:
        yield None
        return
    if scheduler is not None and workers is not None:
        raise FastentError(
            f"--scheduler {scheduler} and --workers {workers}: a cluster has workers of its own; give one of the two"
        )
    try:
        import distributed
    except ImportError:
        raise FastentError("distributed is not installed: pip install '.[dask]' in the clone") from None
    if scheduler is not None:
        try:
            client = distributed.Client(scheduler, timeout="10s", set_as_default=False)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise FastentError(
                f"no scheduler answers at {scheduler!r} ({error}): check the address, as tcp://HOST:8786"
            ) from None
        with client:
            yield client
        return
    assert workers is not None
    threads = max(1, processors() // workers)
    with (
        distributed.LocalCluster(n_workers=workers, threads_per_worker=threads, dashboard_address=None) as cluster,  # type: ignore[no-untyped-call]
        distributed.Client(cluster, set_as_default=False) as client,  # type: ignore[no-untyped-call]
    ):
        yield client
