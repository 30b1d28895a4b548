"""The one owner of thread pools: the kernels' own, torch's and BLAS's are set together for a block of work and restored."""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import count, islice
from typing import Any, TypeVar

from fastent.errors import FastentError
from fastent.options import whole_number
from fastent.processors import processors

__all__ = [
    "DisjointPairs", "heed_fork", "in_parallel", "limit_threads", "mapped_in_parallel", "shared_out", "single_blas_thread",
    "working_threads",
]  # fmt: skip

Item = TypeVar("Item")
Found = TypeVar("Found")


# How often threads that share out work are looked after.
_LOOK_SECONDS = 0.2
# Packages that compute with OpenMP.
_OPENMP = {"torch", "faiss", "sklearn"}


def working_threads() -> int:
    """How many threads kernels use; imports numba."""
    from fastent.kernels import sharing

    threads: int = sharing.working_threads()
    return threads


class _Shared:
    """A number of threads for the whole process: the lowest one requested applies, and the last block to end restores it.

    `apply(threads)` sets it, None restores what was found at first. Calls of several threads may end in any order.
    """

    def __init__(self, apply: Callable[[int | None], None]) -> None:
        self._apply = apply
        self.forget()

    def forget(self) -> None:
        self._lock = threading.RLock()
        self._asked: dict[int, int] = {}
        self._numbers = count()

    @contextmanager
    def at_most(self, threads: int) -> Iterator[None]:
        with self._lock:
            asked, mine = self._asked, next(self._numbers)
            asked[mine] = threads
            self._apply(min(asked.values()))
        try:
            yield
        finally:
            with self._lock:
                # Not after a fork: then this is a child's copy of its parent's block.
                if asked is self._asked:
                    del asked[mine]
                    self._apply(min(asked.values(), default=None))


class _Blas:
    """Threads of the BLAS libraries in this process, by the file of each; a library may be loaded while others are limited."""

    def __init__(self) -> None:
        self._found: dict[str, int] = {}

    def __call__(self, threads: int | None) -> None:
        for library in _loaded_pools().select(user_api="blas").lib_controllers:
            if threads is None:
                if library.filepath in self._found:
                    _set_from_any_thread(library, self._found[library.filepath])
            else:
                found = self._found.setdefault(library.filepath, library.num_threads)
                _set_from_any_thread(library, min(threads, found))
        if threads is None:
            self._found = {}


def _set_from_any_thread(library: Any, threads: int) -> None:
    """Set a library's threads. threadpoolctl lets only one thread set OpenBLAS's number; here `_Shared` keeps order instead."""
    anyone = getattr(library, "clear_controlling_thread", lambda **_: None)
    anyone(force=True)
    library.set_num_threads(threads)
    anyone(force=True)


_blas = _Shared(_Blas())
_pools: tuple[tuple[int, str], Any] | None = None
_own = threading.local()  # .heeds: whether `heed_fork` was called in this thread
_torch_lock = threading.Lock()
# Whether this is a forked child whose parent used OpenMP: the threads are gone, and GNU's OpenMP would wait for them forever.
_orphaned = False


@contextmanager
def limit_threads(threads: int | None) -> Iterator[None]:
    """Run the block with at most `threads` threads in every pool; None leaves all as they are.

    Each calling thread has its own number, except for BLAS, where the lowest applies until all blocks have ended. In whatever
    order they end, everything is restored.

    Raises
    ------
    FastentError
        `threads` is no whole number from 1 to what numba was started with.
    """
    heed_fork()
    if threads is None:
        yield
        return

    import numba

    from fastent.kernels.sharing import working

    most = numba.config.NUMBA_NUM_THREADS
    if whole_number("threads", threads, minimum=1) > most:
        raise FastentError(
            f"threads={threads}: from 1 to {most} are possible here ({processors()} processors; "
            "NUMBA_NUM_THREADS, set before the start, raises the limit)"
        )
    of_openmp = 1 if _orphaned else threads
    # Twice, as numba sets OpenMP's number when it starts its threads: the outer one knows what it was before.
    with _blas.at_most(threads), _openmp_with(of_openmp), working(threads), _openmp_with(of_openmp):
        yield


@contextmanager
def _openmp_with(threads: int) -> Iterator[None]:
    """OpenMP has a number for each thread. So has torch, but new threads take the number that was set last."""
    torch = sys.modules.get("torch")
    libraries = _loaded_pools().select(user_api="openmp").lib_controllers
    before = [library.num_threads for library in libraries]
    of_torch = _set_torch(torch, threads)
    try:
        for library in libraries:
            library.set_num_threads(threads)
        yield
    finally:
        _set_torch(torch, of_torch)
        for library, number in zip(libraries, before, strict=True):
            library.set_num_threads(number)


def _set_torch(torch: Any, threads: int) -> int:
    """Set torch's threads for this thread alone; return how many they were."""
    if torch is None:
        return threads
    with _torch_lock, ThreadPoolExecutor(1) as another:
        before, of_new_threads = torch.get_num_threads(), another.submit(torch.get_num_threads).result()
        torch.set_num_threads(threads)
        another.submit(torch.set_num_threads, of_new_threads).result()
    return int(before)


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """One thread in BLAS, for the whole process: the first block to enter sets it, the last one to leave restores it."""
    with _blas.at_most(1):
        yield


def _loaded_pools() -> Any:
    """threadpoolctl's view of the loaded libraries. Finding them takes milliseconds, so it is renewed only after imports."""
    from threadpoolctl import ThreadpoolController

    global _pools
    imported = len(sys.modules), next(reversed(sys.modules))  # as many again where one was removed
    if _pools is None or _pools[0] != imported:
        _pools = (imported, ThreadpoolController())
    return _pools[1]


def in_parallel(work: Callable[[int], None], items: Iterable[int], *, little: bool = False) -> None:
    """Do work that releases the GIL (numpy, BLAS) for all items, in as many threads as numba has, each with one BLAS thread.

    Of a little work, which takes less time than starting threads does, nothing goes to others than this one.
    """
    items = list(items)
    if little or len(items) == 1:
        with single_blas_thread():
            for item in items:
                work(item)
        return
    for _ in mapped_in_parallel(work, items):
        pass


def mapped_in_parallel(work: Callable[[Item], Found], items: Iterable[Item]) -> Iterator[Found]:
    """Yield work(item) in the order of the items, computed likewise; only a few items are started in advance."""
    threads = working_threads()
    waiting = iter(items)
    with single_blas_thread(), ThreadPoolExecutor(threads) as pool:
        begun = deque(pool.submit(work, item) for item in islice(waiting, 2 * threads))
        while begun:
            yield begun.popleft().result()
            begun.extend(pool.submit(work, item) for item in islice(waiting, 1))


def shared_out(
    work: Callable[[Item], Found], items: Iterable[Item], add: Callable[[Found], None], watch: Callable[[], None]
) -> None:
    """Do work that releases the GIL for all items, in as many threads as numba has: each takes the next one when it is free.

    Parameters
    ----------
    work : callable
    items : iterable
        Asked for the next one by one thread at a time, which may wait there for work on others to end: no lock that `work`
        takes is held meanwhile, but `add` has to wait too.
    add : callable
        Given what the work on an item returned, in any order, but one after the other.
    watch : callable
        Called in this thread five times a second and whenever a thread has run out of items. What it raises, or the work on an
        item, is raised here as soon as the work that was begun has ended. A thread that waits for an item then gets none,
        unless it waits within `items`.
    """
    waiting, lock, stop = iter(items), threading.Lock(), threading.Event()

    def take_turns() -> None:
        while not stop.is_set():
            with lock:
                taken = [] if stop.is_set() else list(islice(waiting, 1))
            if not taken:
                return
            found = work(taken[0])
            with lock:
                add(found)

    with ThreadPoolExecutor(threads := working_threads()) as pool:
        running = {pool.submit(take_turns) for _ in range(threads)}
        try:
            while running:
                ended, running = wait(running, timeout=_LOOK_SECONDS)
                for thread in ended:
                    thread.result()
                watch()
        finally:
            stop.set()


class DisjointPairs:
    """All pairs (i, j), i <= j, of n blocks, those that lie near each other first, for threads that must not share a block.

    The iterator waits while each pair that is left has a block that another thread is busy with: whoever was given a pair must
    `free` it, whatever happens. One thread at a time may ask for a pair.
    """

    def __init__(self, n: int) -> None:
        self._pending = [(i, i + offset) for offset in range(n) for i in range(n - offset)]
        self._total, self._busy, self._freed = len(self._pending), set[int](), threading.Condition()

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[tuple[int, int]]:
        while self._pending:
            with self._freed:
                while (pair := next(filter(self._busy.isdisjoint, self._pending), None)) is None:
                    self._freed.wait()
                self._pending.remove(pair)
                self._busy.update(pair)
            yield pair

    def free(self, pair: tuple[int, int]) -> None:
        with self._freed:
            self._busy.difference_update(pair)
            self._freed.notify()


def heed_fork() -> None:
    """In a forked child let torch, faiss and whatever else computes with OpenMP do so in this thread alone.

    To be called before such work; without a fork it does nothing.
    """
    if not _orphaned or getattr(_own, "heeds", False):
        return
    _own.heeds = True
    for library in _loaded_pools().select(user_api="openmp").lib_controllers:
        library.set_num_threads(1)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def _forked() -> None:
    global _orphaned, _pools, _torch_lock
    _orphaned, _pools, _torch_lock = not _OPENMP.isdisjoint(sys.modules), None, threading.Lock()
    _blas.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
