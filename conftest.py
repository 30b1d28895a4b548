"""What is collected, how many examples are tried, which tests may start processes, and kernels compiled beforehand."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import joblib
import numba
import numpy.testing  # noqa: F401
import pytest
from fastent.kernels.cache import own_folder
from hypothesis import settings
from threadpoolctl import threadpool_info

collect_ignore = ["fastent/integrations"]  # tests/integrations import each of them, if its library is there

settings.register_profile("quick", deadline=None, max_examples=60)
settings.register_profile("long", deadline=None, max_examples=500)
settings.register_profile("uncompiled", deadline=None, max_examples=3, derandomize=True)
settings.load_profile("uncompiled" if numba.config.DISABLE_JIT else "quick")


def pytest_sessionstart(session: pytest.Session) -> None:
    # Once, before workers start; with NUMBA_DISABLE_JIT there is nothing to compile.
    if hasattr(session.config, "workerinput") or numba.config.DISABLE_JIT:
        return
    folder = own_folder()
    if folder is not None and not folder.complete:
        subprocess.run([sys.executable, "-m", "fastent", "warmup"], check=True, cwd=Path(__file__).parent)


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
