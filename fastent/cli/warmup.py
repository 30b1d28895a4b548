"""`fastent warmup`: kernels compiled beforehand, so that no first call waits for them."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from fastent.cli.output import say
from fastent.errors import FastentError
from fastent.processors import processors
from fastent.runtime.progress import reporting

__all__ = ["COMPILED", "warmup"]


def warmup() -> None:
    """Compile all kernels for this machine now, about half a minute once, instead of on the first calls."""
    from fastent.kernels.cache import cache_folder

    with ThreadPoolExecutor(processors()) as pool, reporting(True, "compiling kernels", len(COMPILED)) as report:
        for done, _ in enumerate(pool.map(_compile_apart, COMPILED), start=1):
            report(done, "")
    say(f"Kernels are in {cache_folder()}.")


def _compile_apart(name: str) -> None:
    """In a process of its own: numba compiles with one thread."""
    code = f"from fastent.cli.warmup import COMPILED; COMPILED[{name!r}]()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise FastentError(f"kernels cannot be compiled: {done.stderr.strip()}")


def _measure(dtype: str) -> None:
    import numpy as np

    import fastent as fe

    X, y = np.random.default_rng(0).standard_normal((600, 12)).astype(dtype), np.arange(600) % 3
    for normalize in (False, True):
        fe.measure(X, y, normalize=normalize)
    fe.geometry(X, y, normalize=False, weights=np.ones((3, 12)))
    fe.margins(X, y)
    for metric in ("euclidean", "cosine"):
        near = fe.neighbors(X, metric=metric, queries=X[:50])
        fe.mixing(near, y, query_labels=y[:50])
    fe.measure(fe.ArraySource(X), y, queries=100)


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
        fe.train((dense, y), seeds=2, epochs=3, hidden=(8,), dtype=dtype, batch_size=300)
    fe.find_inversion(np.arange(60), np.abs(np.arange(60) - 30.0), np.zeros(60))


# By name, each in a process of its own; the longest first.
COMPILED: dict[str, Callable[[], None]] = {
    "measure, float32": lambda: _measure("float32"),
    "train": _train,
    "measure, float64": lambda: _measure("float64"),
}
