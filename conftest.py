"""What must not be collected, and kernels that are compiled before any test runs."""

import subprocess
import sys
from pathlib import Path

collect_ignore = ["fastent/integrations"]  # tests/test_integrations.py imports each of them, if its library is there

# What a process has compiled itself may round sums otherwise, in the last bit, than what later processes load from the cache;
# tests compare processes bit for bit.
_COMPILE = """
import numpy as np
import fastent as fe

for dtype in ("float32", "float64"):
    X, y = np.random.default_rng(0).standard_normal((600, 12)).astype(dtype), np.arange(600) % 3
    fixed = X.copy()
    fixed.setflags(write=False)
    for rows in (X, fixed):
        for normalize in (False, True):
            fe.measure(rows, y, normalize=normalize)
            fe.geometry(rows, y, normalize=normalize, **({} if normalize else {"weights": np.ones((3, 12))}))
"""


def pytest_sessionstart() -> None:
    subprocess.run([sys.executable, "-c", _COMPILE], check=True, cwd=Path(__file__).parent)
