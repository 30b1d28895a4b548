"""A million points, growth with the number of points, and the cost of the first call."""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import faiss
import numpy as np
import pytest

import fastent as fe
from bench.activations import augmented, gaussian
from bench.conftest import Part
from bench.oracle import assert_exact
from bench.scale import SHARE, scaled

MILLION, PART = scaled(1_000_000), 4000
GROWTH = {
    "trained, last hidden layer": (10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000),
    "untrained, last hidden layer": (10_000, 20_000, 50_000, 100_000, 200_000),
    "isotropic Gaussian": (10_000, 20_000, 40_000, 80_000),
}
FIRST_CALL = """
import time
import numpy as np
import fastent as fe
rng = np.random.default_rng(0)
X, y = rng.standard_normal((6000, 64), dtype=np.float32), rng.integers(0, 10, 6000)
def everything():
    started = time.perf_counter()
    fe.mixing(fe.neighbors(X), y), fe.margins(X, y)
    return time.perf_counter() - started
first = everything()
print(first, first - everything())
"""


@pytest.fixture(scope="module")
def million():
    return augmented("trained", MILLION)


def test_a_million_points(side_by_side, million, tmp_path):
    X, y = million
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    script = [sys.executable, str(Path(__file__).with_name("million.py")), str(tmp_path / "X.npy"), str(tmp_path / "y.npy")]
    apart = json.loads(subprocess.run(script, check=True, capture_output=True, text=True).stdout)
    assert apart["neighbors_bytes"] <= apart["formula_bytes"]
    assert_exact(fe.neighbors(X), X)
    side_by_side(
        lambda: fe.neighbors(X),
        {f"faiss.knn, from {PART:,} queries": Part(lambda: faiss.knn(X[:PART], X, 11), MILLION / PART)},
        rounds=3,
        warmup=False,
        job=f"neighbors, k = 10: trained, last hidden layer, augmented, {MILLION:,} x {X.shape[1]}",
        apart=apart,
    )


@pytest.mark.skipif(SHARE < 1, reason="growth takes the numbers of points that it is measured over, and has no peers")
def test_growth(benchmark, million):
    def points(name, n):
        if name == "isotropic Gaussian":
            return gaussian(n)[0]
        return million[0][:n] if name.startswith("trained") else augmented("untrained", n)[0]

    seconds: dict[str, dict[int, float]] = {name: {} for name in GROWTH}

    def grow():
        for name, sizes in GROWTH.items():
            for n in sizes:
                X, times = points(name, n), []
                for _ in range(3 if n <= 100_000 else 1):
                    started = time.perf_counter()
                    fe.neighbors(X)
                    times.append(time.perf_counter() - started)
                seconds[name][n] = statistics.median(times)

    benchmark.pedantic(grow, rounds=1)
    exponents = {
        name: float(np.polyfit(np.log(list(line)), np.log(list(line.values())), 1)[0]) for name, line in seconds.items()
    }
    benchmark.extra_info.update(job="growth of neighbors, k = 10, 128 features", peers={}, growth=seconds, exponents=exponents)


@pytest.mark.skipif(SHARE < 1, reason="the first call takes as long with few points")
def test_first_call(benchmark, tmp_path):
    """In a process with an empty cache, and in the next one."""
    environment = os.environ | {"FASTENT_CACHE_DIR": str(tmp_path)}
    figures = []

    def call():
        printed = subprocess.run(
            [sys.executable, "-c", FIRST_CALL], env=environment, check=True, capture_output=True, text=True
        ).stdout
        figures.append([float(figure) for figure in printed.split()])

    benchmark.pedantic(call, rounds=4)
    (compiling, _), *later = figures
    benchmark.extra_info.update(
        job="first call of neighbors, mixing and margins in a process, 6,000 x 64, cache filled",
        peers={},
        compiling_s=compiling,
        overhead_s=statistics.median(overhead for _, overhead in later),
    )
