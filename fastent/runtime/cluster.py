"""Work that is shared by the workers of a Dask cluster, or done here: the same calls on the same parts, so the same bits."""

import inspect
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from fastent.errors import FastentError
from fastent.processors import processors
from fastent.runtime.allocator import freed_memory_kept
from fastent.runtime.optional import needed
from fastent.runtime.threads import mapped_in_parallel, single_blas_thread

__all__ = ["Shared", "connected", "map_on_cluster", "memory_of_thread", "n_threads", "shared_by_workers", "threads_of_worker"]

# Tasks for each thread: the running one and those that wait.
_AHEAD = 4

Item = TypeVar("Item")
Found = TypeVar("Found")


def map_on_cluster(
    client: Any,
    work: "Callable[[Item], Found] | Shared",
    items: Iterable[Item],
    *,
    in_threads: bool = False,
    preferred: Callable[[Item], str | None] = lambda item: None,
) -> Iterator[Found]:
    """Yield work(item) for each item, in their order.

    The workers of a distributed.Client share the items, one thread for each, and some wait for each thread: no more items are
    made before these are needed. Those of a lost worker are done again by another. `preferred` names a worker that an item had
    better go to, unless it has more to do than others.
    Without a client they are done here, one after the other, with all threads; or with `in_threads` several at once, in one
    thread each, for work that releases the GIL and starts no threads.
    """
    if client is None:
        assert not isinstance(work, Shared)
        yield from (mapped_in_parallel if in_threads else map)(work, items)
        return
    with ExitStack() as opened:
        shared = work if isinstance(work, Shared) else opened.enter_context(shared_by_workers(client, work))
        left, futures = iter(items), deque[Any]()
        opened.callback(lambda: client.cancel(list(futures)))
        while True:
            for item in islice(left, max(0, _AHEAD * n_threads(client) - len(futures))):
                at = preferred(item)
                there = {} if at is None else {"workers": [at], "allow_other_workers": True}
                futures.append(client.submit(_alone, item, work=shared.future, pure=False, **there))
            if not futures:
                return
            yield futures.popleft().result()


class Shared(NamedTuple):
    """The work of all tasks; each worker holds one copy as long as it is shared."""

    future: Any


@contextmanager
def shared_by_workers(client: Any, work: Callable[[Any], Any]) -> Iterator[Shared]:
    """Workers pass it on to each other; if all that have it are lost, the scheduler still has it as it was."""
    import dask

    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):  # it is sent once
        future = client.submit(_itself, work, pure=False)
    try:
        yield Shared(future)
    finally:
        client.cancel([future])


def _itself(work: Any) -> Any:
    return work


def n_threads(client: Any) -> int:
    """How many threads all workers have together."""
    return max(1, sum(map(int, client.nthreads().values())))


def threads_of_worker(client: Any) -> int:
    """The fewest threads that a worker has."""
    return min(map(int, client.nthreads().values()), default=1)


def memory_of_thread(client: Any) -> float:
    """The least bytes that a worker has for each of its threads before it is told to pause; infinity without limits."""
    told = inspect.signature(client.scheduler_info).parameters  # lately of five workers only, unless it is asked for all
    workers = client.scheduler_info(**({"n_workers": -1} if "n_workers" in told else {}))["workers"].values()
    limits = (each["memory_limit"] / each["nthreads"] for each in workers if each.get("memory_limit"))
    return float(min(limits, default=math.inf))


def _alone(item: Any, work: Callable[[Any], Any]) -> Any:
    """Runs on a worker, whose other threads work on other items."""
    from fastent.kernels.sharing import working

    with working(1), single_blas_thread(), freed_memory_kept():
        return work(item)


@contextmanager
def connected(scheduler: str | None, workers: int | None) -> Iterator[Any]:
    """A client of the scheduler at an address, or of that many processes on this machine; None for neither."""
    if scheduler is None and workers is None:
        yield None
        return
    if scheduler is not None and workers is not None:
        raise FastentError(
            f"--scheduler {scheduler} and --workers {workers}: a cluster has workers of its own; give one of the two"
        )
    distributed = needed("distributed", extra="dask")
    if scheduler is not None:
        try:
            client = distributed.Client(scheduler, timeout="10s", set_as_default=False)
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
        distributed.LocalCluster(n_workers=workers, threads_per_worker=threads, dashboard_address=None) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client
