"""What must not be collected, and kernels that are compiled before any test runs."""

import hashlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

collect_ignore = ["fastent/integrations"]  # tests/integrations import each of them, if its library is there

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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run tests marked long too: some take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes minutes: pass --long"))


def pytest_sessionstart(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):  # one of several processes that were started when this was done
        return
    root = Path(__file__).parent
    digest = hashlib.sha256(version("numba").encode() + _COMPILE.encode())
    for source in sorted((root / "kernels").glob("*.py")):
        digest.update(source.read_bytes())
    done = root / "kernels" / "__pycache__" / f"compiled-{digest.hexdigest()[:12]}"
    if not done.exists():
        subprocess.run([sys.executable, "-c", _COMPILE], check=True, cwd=root)
        done.parent.mkdir(exist_ok=True)
        done.touch()
