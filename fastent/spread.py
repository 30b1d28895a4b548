"""Work that is spread over the workers of a Dask cluster, or done here: the same calls on the same parts, so the same bits."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from fastent.arrays import stays_on_disk
from fastent.chunks import ArraySource, Source
from fastent.errors import FastentError

__all__ = ["connected", "everywhere", "n_threads", "spread"]

Item = TypeVar("Item")
Found = TypeVar("Found")


def spread(client: Any, work: Callable[[Item], Found], items: Iterable[Item], *, in_threads: bool = False) -> Iterator[Found]:
    """Yield work(item) for each item, in their order.

    Parameters
    ----------
    client : distributed.Client or None
        Whose workers share the items, one thread for each; what a lost worker had is done again by another. None: done here,
        one after the other, with all threads.
    in_threads : bool
        Of work done here: several at once, in one thread each. For work that leaves the GIL, and starts no threads.
    """
    if client is None and in_threads:
        from fastent.threads import mapped_in_parallel

        yield from mapped_in_parallel(work, items)
        return
    if client is None:
        yield from map(work, items)
        return
    futures = client.map(_alone, list(items), work=work, pure=False)
    try:
        for i, future in enumerate(futures):
            found = future.result()
            futures[i] = None  # lets the cluster forget what is here now
            yield found
    finally:
        client.cancel([future for future in futures if future is not None])


def n_threads(client: Any) -> int:
    """Of all workers together."""
    return max(1, sum(map(int, client.nthreads().values())))


def _alone(item: Any, work: Callable[[Any], Any]) -> Any:
    """On a worker, whose own threads have other items to do."""
    from fastent.threads import limit_threads

    with limit_threads(1):
        return work(item)


def everywhere(X: Any, client: Any) -> Any:
    """X as every worker can open it."""
    if client is None:
        return X
    if not hasattr(client, "scheduler_info") or not hasattr(client, "map"):
        raise FastentError(f"client={client!r}: a distributed.Client is needed")
    if not stays_on_disk(X):
        raise FastentError(
            "client= is for rows that every worker can read: numpy.save X on a disk that all share, and pass fe.open(path)"
        )
    return X if isinstance(X, Source) else ArraySource(X)


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
        raise FastentError("distributed is not installed: pip install 'fastent[dask]'") from None
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
    import os

    assert workers is not None
    threads = max(1, (os.cpu_count() or 1) // workers)
    with (
        distributed.LocalCluster(n_workers=workers, threads_per_worker=threads, dashboard_address=None) as cluster,  # type: ignore[no-untyped-call]
        distributed.Client(cluster, set_as_default=False) as client,  # type: ignore[no-untyped-call]
    ):
        yield client
