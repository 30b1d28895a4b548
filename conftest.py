"""What is collected, how many examples are tried, which tests may start processes, and kernels compiled beforehand."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import joblib
import numba
import numpy.testing  # noqa: F401
import pytest
from hypothesis import settings
from threadpoolctl import threadpool_info

collect_ignore = ["fastent/integrations"]  # tests/integrations import each of them, if its library is there

settings.register_profile("quick", deadline=None, max_examples=60)
settings.register_profile("long", deadline=None, max_examples=500)
settings.register_profile("uncompiled", deadline=None, max_examples=3, derandomize=True)
settings.load_profile("uncompiled" if numba.config.DISABLE_JIT else "quick")

# In the process that compiles them, kernels call the copies of each other that were compiled first and alone; what is loaded
# from the cache calls copies that were compiled with their callers. Both round as they are allowed to, but not alike in the
# last bit, and tests compare processes bit for bit.
_COMPILE = """
import numpy as np
import fastent as fe

fe.find_inversion(np.arange(60), np.abs(np.arange(60) - 30.0), np.zeros(60))
for dtype in ("float32", "float64"):
    X, y = np.random.default_rng(0).standard_normal((600, 12)).astype(dtype), np.arange(600) % 3
    fixed = X.copy()
    fixed.setflags(write=False)
    for rows in (X, fixed):
        for normalize in (False, True):
            fe.measure(rows, y, normalize=normalize)
            fe.geometry(rows, y, normalize=normalize, **({} if normalize else {"weights": np.ones((3, 12))}))
"""


def pytest_sessionstart(session: pytest.Session) -> None:
    # One of several processes that were started when this was done, or one in which nothing is compiled.
    if hasattr(session.config, "workerinput") or numba.config.DISABLE_JIT:
        return
    root = Path(__file__).parent
    digest = hashlib.sha256(version("numba").encode() + _COMPILE.encode())
    for source in sorted((root / "kernels").glob("*.py")):
        digest.update(source.read_bytes())
    done = Path(numba.config.CACHE_DIR or root / "kernels" / "__pycache__") / f"compiled-{digest.hexdigest()[:12]}"
    if not done.exists():
        subprocess.run([sys.executable, "-c", _COMPILE], check=True, cwd=root)
        done.parent.mkdir(exist_ok=True, parents=True)
        done.touch()


# Old versions start a process the first time: numpy.testing to ask for the processor's instructions, threadpoolctl to find the
# C library, and scikit-learn, through joblib, to count cores.
threadpool_info()
joblib.cpu_count(only_physical_cores=True)
_running: pytest.Item | None = None


def _only_where_marked(event: str, arguments: tuple[object, ...]) -> None:
    starts = event in ("subprocess.Popen", "os.fork", "os.posix_spawn")
    if starts and _running is not None and _running.get_closest_marker("spawn") is None:
        raise AssertionError(f"{_running.nodeid} starts a process: mark it spawn, or do without")


sys.addaudithook(_only_where_marked)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    global _running
    _running = item
    try:
        return (yield)
    finally:
        _running = None
