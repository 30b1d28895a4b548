"""`fastent warmup`: kernels compiled beforehand, so that no first call waits for them."""

import sys
from collections.abc import Callable
from functools import partial

from fastent.cli.output import say
from fastent.errors import FastentError
from fastent.processors import processors
from fastent.runtime.progress import reporting

__all__ = ["CALLS", "warmup"]


def warmup() -> None:
    """Compile all kernels for this machine now, about half a minute once, instead of on the first calls."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from numba import config

    from fastent.kernels.cache import own_folder
    from fastent.kernels.prebuilt import best_set

    if config.DISABLE_JIT:
        raise FastentError("NUMBA_DISABLE_JIT leaves kernels in Python, with nothing to compile: unset it")
    folder = own_folder()
    if folder is None:
        raise FastentError("no home folder is known in which kernels could be kept: set FASTENT_CACHE_DIR to a writable folder")
    try:
        folder.make()
    except OSError as error:
        raise FastentError(
            f"{str(folder.path)!r} cannot be written to ({error.strerror}): set FASTENT_CACHE_DIR to a writable folder"
        ) from error
    # Processes, as numba compiles with one thread.
    with (
        reporting(True, "compiling kernels", len(CALLS)) as report,
        ProcessPoolExecutor(processors(), get_context("spawn"), initializer=_be_quiet) as pool,
    ):
        for done, _ in enumerate(pool.map(_call, range(len(CALLS))), start=1):
            report(done, "")
    folder.set_complete()
    if best_set() is not None and not folder.entries():
        say("Nothing to compile: all kernels came with the wheel.")
    else:
        say(f"Kernels are in {folder.path}.")


def _be_quiet() -> None:
    sys.stderr = None  # each would announce what the command says


def _call(number: int) -> None:
    CALLS[number]()


def _measure(dtype: str) -> None:
    import numpy as np

    import fastent as fe
    from fastent.search.cells.index import PartitionedIndex

    X, y = np.random.default_rng(0).standard_normal((600, 12)).astype(dtype), np.arange(600) % 3
    for normalize in (False, True):
        fe.measure(X, y, normalize=normalize)
    fe.geometry(X, y, normalize=False, weights=np.ones((3, 12)))
    fe.margins(X, y)
    for metric in ("euclidean", "cosine"):
        near = fe.neighbors(X, metric=metric, queries=X[:50])
        fe.mixing(near, y, query_labels=y[:50])
    fe.neighbors(1e-15 * X, queries=5)  # so small that a scan takes them in double precision
    for few in (1, 5):
        fe.neighbors(X.astype("float16"), queries=few)
    fe.measure(fe.ArraySource(X), y, queries=100)
    PartitionedIndex(X, classes=y, memory=1 << 30, cells=2).search({"all": 10, "own class": 1, "other classes": 1})


def _train() -> None:
    """Rows that differ everywhere, and rows most of whose features have a common value, as pictures have."""
    import numpy as np

    import fastent as fe

    rng = np.random.default_rng(0)
    y = np.arange(600) % 3
    dense = rng.standard_normal((600, 24))
    for dtype in ("float32", "float64"):
        for X in (dense, np.where(dense > 1, dense, 0)):
            for activation in ("tanh", "relu"):
                fe.train((X, y), seeds=2, epochs=3, hidden=(8,), dtype=dtype, activation=activation)
        fe.train((dense, y), seeds=2, epochs=3, hidden=(8, 4), dtype=dtype, batch_size=300)
    fe.find_inversion(np.arange(60), np.abs(np.arange(60) - 30.0), np.zeros(60))


# Each in a process of its own; the longest first.
CALLS: tuple[Callable[[], None], ...] = (partial(_measure, "float32"), _train, partial(_measure, "float64"))
