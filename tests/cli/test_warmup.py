import subprocess
import sys

import pytest

from fastent.cli import warmup
from tests.command import fastent

pytestmark = pytest.mark.spawn

# Beside what `warmup` itself calls: other sizes, orders of memory, kinds of labels.
CALLS = """
import numpy as np, fastent as fe
for dtype in ("float32", "float64"):
    X, y = np.random.default_rng(0).standard_normal((3000, 40)).astype(dtype), np.arange(3000) % 4
    kept = X.copy()
    kept.setflags(write=False)
    for rows in (X, kept, np.asfortranarray(X), X[:, ::2], X[::-1], X.tolist()[:300], X.astype(np.float16)):
        own = y[: len(rows)].astype(str)
        near = fe.neighbors(rows, 30)
        fe.neighbors(rows, metric="cosine", queries=np.asarray(rows)[:20])
        fe.margins(rows, own)
        fe.geometry(rows, own)
        fe.mixing(near, own)
        fe.lisi(near, own, perplexity=9)
    fe.measure(X[:500], y[:500])
    for activation in ("tanh", "relu"):
        fe.train((X, y), seeds=2, epochs=5, hidden=(4, 4), activation=activation, dtype=dtype).inversions()
    fe.train((X * (X > 1), y), seeds=2, epochs=5, hidden=(4,), batch_size=500, dtype=dtype)
fe.train("digits", seeds=2, epochs=60).inversion_summary()
from fastent.kernels.compiling import Kernel
import gc
left = [(kernel.__qualname__, sig) for kernel in gc.get_objects() if isinstance(kernel, Kernel) for sig in kernel.stats.cache_misses]
print(*left, sep="\\n")
"""


@pytest.mark.large
def test_nothing_is_left_to_compile():
    """Kernels are warmed up before tests begin."""
    done = subprocess.run([sys.executable, "-c", CALLS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_what_goes_wrong_is_said(monkeypatch):
    monkeypatch.setattr(warmup, "COMPILED", {"nothing of this name": None})
    done = fastent("warmup")
    assert done.exit_code == 2
    assert "kernels cannot be compiled" in done.stderr
    assert "nothing of this name" in done.stderr
