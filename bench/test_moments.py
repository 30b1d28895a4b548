"""Class moments of 1,000,000 x 512 float32, compared with a NumPy loop over classes and with the memory read bandwidth."""

import numba
import numpy as np
import pytest
from numba import njit, prange

import fastent as fe
from bench.scale import scaled

N, D, C = scaled(1_000_000), 512, 10


@njit(fastmath={"reassoc", "nsz"})
def _sum(values):
    total = np.float32(0)
    for i in range(values.shape[0]):
        total += values[i]
    return total


@njit(parallel=True)
def read_everything(values, parts):
    """The lower limit for one pass: every byte is read once, with one addition per value."""
    totals = np.zeros(parts)
    for part in prange(parts):
        totals[part] = _sum(values[part * values.shape[0] // parts : (part + 1) * values.shape[0] // parts])
    return totals.sum()


def numpy_loop(X, y, normalize):
    """The usual code: for each class, select its rows, take their mean and the mean squared distance to it."""
    result = []
    for c in range(C):
        rows = X[y == c]
        if normalize:
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        mean = rows.mean(0, dtype=np.float64)
        result.append((mean, np.sqrt(((rows - mean.astype(np.float32)) ** 2).sum(1).mean())))
    return result


@pytest.fixture(scope="module")
def activations():
    rng = np.random.default_rng(0)
    X = np.empty((N, D), np.float32)
    for start in range(0, N, N // 10):
        X[start : start + N // 10] = rng.standard_normal((N // 10, D), dtype=np.float32)
    return X, rng.integers(0, C, N)


@pytest.mark.parametrize("normalize", [True, False])
def test_class_moments(side_by_side, activations, normalize):
    X, y = activations
    flat, threads = X.reshape(-1), numba.get_num_threads()

    def ours():
        moments = fe.ClassMoments(C, D, normalize=normalize)
        moments.update(X, y)
        return moments.compute()

    peers = {
        "read bandwidth": lambda: read_everything(flat, threads),
        "numpy loop": lambda: numpy_loop(X, y, normalize),
    }
    side_by_side(ours, peers, job=f"class moments, {N:,} x {D} float32, normalize={normalize}", gigabytes=X.nbytes / 1e9)


def test_geometry(side_by_side, activations):
    X, y = activations
    side_by_side(
        lambda: fe.geometry(X, y),
        {"numpy loop, without nc1": lambda: numpy_loop(X, y, True)},
        job=f"geometry with nc1 (two passes), {N:,} x {D} float32",
    )
