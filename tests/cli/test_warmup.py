import subprocess
import sys

import numba
import pytest
from fastent.kernels import prebuilt

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


def test_what_stands_in_the_way_is_said_before_anything_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(warmup, "CALLS", None)
    (tmp_path / "file").touch()
    done = fastent("warmup", FASTENT_CACHE_DIR=str(tmp_path / "file"))
    assert done.exit_code == 2
    assert "cannot be written to" in done.output
    assert "FASTENT_CACHE_DIR" in done.output
    done = fastent("warmup", FASTENT_CACHE_DIR="", XDG_CACHE_HOME="", HOME="")
    assert done.exit_code == 2
    assert "no home folder is known" in done.output
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert "NUMBA_DISABLE_JIT" in fastent("warmup").output


def test_where_kernels_are_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(warmup, "CALLS", ())
    done = fastent("warmup", FASTENT_CACHE_DIR=str(tmp_path))
    assert done.exit_code == 0
    assert f"Kernels are in {tmp_path / 'kernels'}" in done.output
    monkeypatch.setattr(prebuilt, "best_set", lambda: tmp_path)
    assert "all kernels came with the wheel" in fastent("warmup", FASTENT_CACHE_DIR=str(tmp_path)).output
