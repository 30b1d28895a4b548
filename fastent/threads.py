"""The one owner of thread pools: numba, torch and BLAS are set together for a block of work and restored afterwards."""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from fastent.errors import FastentError
from fastent.options import whole_number

__all__ = ["in_parallel", "limit_threads", "mapped_in_parallel", "single_blas_thread"]

Item = TypeVar("Item")
Found = TypeVar("Found")

_lock = threading.Lock()
_holders = 0
_limits: Any = None
_pools: tuple[int, Any] | None = None


@contextmanager
def limit_threads(threads: int | None) -> Iterator[None]:
    """Run the block with at most `threads` threads in every pool; None leaves all as they are.

    Raises
    ------
    FastentError
        `threads` is no whole number from 1 to what numba was started with.
    """
    if threads is None:
        yield
        return

    import numba
    from threadpoolctl import threadpool_limits

    most = numba.config.NUMBA_NUM_THREADS
    if whole_number("threads", threads, minimum=1) > most:
        raise FastentError(
            f"threads={threads}: from 1 to {most} are possible here ({os.cpu_count()} processors; "
            "NUMBA_NUM_THREADS, set before the start, raises the limit)"
        )
    numba_threads = numba.get_num_threads()
    torch = sys.modules.get("torch")
    torch_threads = torch.get_num_threads() if torch is not None else None
    try:
        with threadpool_limits(limits=threads):
            numba.set_num_threads(threads)
            if torch is not None:
                torch.set_num_threads(threads)
            yield
    finally:
        numba.set_num_threads(numba_threads)
        if torch is not None:
            torch.set_num_threads(torch_threads)


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """One thread in BLAS, which is a matter of the process: the first who asks for it sets it, the last restores it."""
    global _holders, _limits
    with _lock:
        if not _holders:
            _limits = _loaded_pools().limit(limits=1, user_api="blas")
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if not _holders:
                _limits.restore_original_limits()


def _loaded_pools() -> Any:
    """threadpoolctl's view of the libraries in this process; looking for them takes milliseconds, and only imports add some."""
    from threadpoolctl import ThreadpoolController

    global _pools
    if _pools is None or _pools[0] != len(sys.modules):
        _pools = (len(sys.modules), ThreadpoolController())
    return _pools[1]


def in_parallel(work: Callable[[int], None], items: Iterable[int]) -> None:
    """Do work that leaves the GIL (numpy, BLAS) for all items, in as many threads as numba has; BLAS in one each."""
    for _ in mapped_in_parallel(work, items):
        pass


def mapped_in_parallel(work: Callable[[Item], Found], items: Iterable[Item]) -> Iterator[Found]:
    """The same, with what it returns, in the order of the items; few more are begun than were taken."""
    import numba

    threads = numba.get_num_threads()
    waiting = iter(items)
    with single_blas_thread(), ThreadPoolExecutor(threads) as pool:
        begun = deque(pool.submit(work, item) for item in islice(waiting, 2 * threads))
        while begun:
            yield begun.popleft().result()
            begun.extend(pool.submit(work, item) for item in islice(waiting, 1))
