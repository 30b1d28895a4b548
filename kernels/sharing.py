"""Kernels are compiled for one thread each, and run in a pool of threads of our own.

numba's own layers are left alone: of these "omp" does not survive a fork, "workqueue" must not be entered by two threads at
once, and "tbb" is often missing. Here a forked child starts a pool of its own, and several threads may call at once.
"""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any

import numba
from llvmlite.binding import ffi
from numba.core.compiler_lock import global_compiler_lock
from numba.np.ufunc import parallel

from fastent.errors import FastentError
from fastent.processors import default_threads

__all__ = ["parallel_for", "working", "working_threads"]

# How long a fork waits for what another thread compiles.
_FORK_SECONDS = 60


class _Asked(threading.local):
    """What `working` allows the kernels of a thread; each has its own."""

    threads: int | None = None


_asked = _Asked()


def working_threads() -> int:
    """Threads for work that this thread starts: as many as numba was told; if it was not, at most `default_threads`."""
    if _asked.threads is not None:
        return _asked.threads
    threads = int(numba.config.NUMBA_NUM_THREADS)
    if getattr(parallel, "_is_initialized", True):  # else nobody has set it; asking starts threads, and sets OpenMP's number
        with suppress(ValueError):  # a layer was chosen that is not there, which matters to numba's own threads only
            threads = int(numba.get_num_threads())
    chosen = "NUMBA_NUM_THREADS" in os.environ or threads != numba.config.NUMBA_DEFAULT_NUM_THREADS
    return threads if chosen else min(threads, default_threads())


@contextmanager
def working(threads: int) -> Iterator[None]:
    """Let this thread's kernels, and numba's, run in so many threads."""
    asked, before = _asked.threads, None
    with suppress(ValueError):
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
    _asked.threads = threads
    try:
        yield
    finally:
        _asked.threads = asked
        if before is not None:
            numba.set_num_threads(before)


class _Pool:
    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew: of the threads of a process its forked child has one."""
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None

    def submit(self, work: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(numba.config.NUMBA_NUM_THREADS, thread_name_prefix="fastent-kernel")
            return self._threads.submit(work, *arguments)


_pool = _Pool()


def parallel_for(kernel: Callable[..., None], n: int, *arguments: Any) -> None:
    """Call kernel(begin, end, *arguments) for ranges that together are 0..n, in `working_threads()` threads.

    The kernel leaves the GIL, and different numbers of 0..n write to different places. What the pool has not begun when this
    thread is through is done here too: calls of several threads cannot wait for each other.
    """
    threads = min(working_threads(), n) if n > 1 else 1
    bounds = [n * t // threads for t in range(threads + 1)]
    others: list[tuple[Future[None] | None, tuple[int, int]]] = []
    try:
        for piece in list(pairwise(bounds))[1:]:
            try:
                others.append((_pool.submit(kernel, *piece, *arguments), piece))
            except RuntimeError:  # the interpreter is about to end, or the system has no thread left
                others.append((None, piece))
        kernel(0, bounds[1], *arguments)
        for future, piece in reversed(others):
            if future is None or future.cancel():
                kernel(*piece, *arguments)
    finally:  # when the caller has the arrays again, nothing writes to them any more
        begun = [future for future, _ in others if future is not None and not future.cancel()]
        _wait_for(begun)
    for future in begun:
        future.result()


def _wait_for(futures: "list[Future[Any]]") -> None:
    """To the end, whatever arrives meanwhile."""
    arrived: KeyboardInterrupt | None = None
    for future in futures:
        while not future.done():
            try:
                future.exception()
            except KeyboardInterrupt as interrupt:
                arrived = interrupt
    if arrived is not None:
        raise arrived


class _Lost:
    """Stands for numba's lock where the thread that held it was lost in a fork: without it nothing can be compiled."""

    def acquire(self, *arguments: Any, **options: Any) -> bool:
        raise FastentError(
            "this process was forked while another thread of its parent compiled kernels: start processes by the method "
            "'spawn' or 'forkserver', as multiprocessing.get_context('spawn')"
        )

    def release(self) -> None:
        pass


class _Fork:
    """Lets no fork take place while numba compiles, whose lock a child would wait for for ever."""

    def before(self) -> None:
        self.locks = [global_compiler_lock._lock, ffi.lib._lock._lock]
        self.held = [lock.acquire(timeout=_FORK_SECONDS) for lock in self.locks]

    def in_parent(self) -> None:
        for lock, held in zip(self.locks, self.held, strict=True):
            if held:
                lock.release()

    def in_child(self) -> None:
        self.in_parent()
        if not all(self.held):
            global_compiler_lock._lock = _Lost()
        _pool.forget()


if hasattr(os, "register_at_fork"):
    _fork = _Fork()
    os.register_at_fork(before=_fork.before, after_in_parent=_fork.in_parent, after_in_child=_fork.in_child)
