"""Data sets on which a search that is only nearly exact goes wrong: each from a seed, rows and other points to ask for."""

import numpy as np


def _normal(rng, n, d):
    return rng.standard_normal((n, d))


def _cone(rng, n, d):
    """Hidden states of a transformer: all rows in nearly the same direction."""
    return rng.uniform(1, 100) * rng.choice([-1, 1], d) + 10.0 ** rng.uniform(-4, -1) * rng.standard_normal((n, d))


def _offset(rng, n, d):
    return 10.0 ** rng.uniform(3, 12) * rng.standard_normal(d) + rng.standard_normal((n, d))


def _outlier(rng, n, d):
    """One to three damaged rows, from 1e8 to 1e30 times as far away as the others."""
    X = rng.standard_normal((n, d))
    X[rng.integers(0, n, rng.integers(1, 4))] = 10.0 ** rng.uniform(8, 30) * rng.choice([-1, 1], d)
    return X


def _outlying_column(rng, n, d):
    X = rng.standard_normal((n, d))
    X[rng.integers(0, n), rng.integers(0, d)] = -(10.0 ** rng.uniform(8, 30))
    return X


def _columns(rng, n, d):
    """Features of quite different scale: the large ones decide, the small ones where those are equal."""
    X = rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-18, 18, d)
    X[:, 0] = rng.integers(0, 3, n)
    return X


def _tiny_beside_large(rng, n, d):
    """Differences of 1e-12 to 1e-40 beside a few rows of size 1."""
    X = 10.0 ** rng.uniform(-40, -12) * rng.standard_normal((n, d))
    X[rng.integers(0, n, 3)] = rng.standard_normal((3, d))
    return X


def _two_worlds(rng, n, d):
    """Half of the rows far closer together than the other half."""
    X = rng.standard_normal((n, d))
    X[: n // 2] *= 10.0 ** rng.uniform(-25, -3)
    return X[rng.permutation(n)]


def _subnormal(rng, n, d):
    """Around the least numbers that float32 holds in full."""
    return 2.0**-126 * rng.uniform(0.1, 40, (n, d)) * rng.choice([-1, 1], (n, d))


def _near_overflow(rng, n, d):
    return rng.uniform(-1, 1, (n, d)) * float(np.finfo(np.float32).max) / (2.1 * np.sqrt(d))


def _heavy_tails(rng, n, d):
    return np.exp(8 * rng.standard_normal((n, 1))) * rng.standard_normal((n, d))


def _lattice(rng, n, d):
    return rng.integers(-2, 3, (n, d)).astype(float)


def _near_duplicates(rng, n, d):
    """Groups of rows that differ in the last bit of float32, or not at all."""
    X = rng.standard_normal((max(2, n // 8), d)).astype(np.float32)[rng.integers(0, max(2, n // 8), n)]
    moved = rng.random((n, d)) < 0.3
    return np.where(moved, np.nextafter(X, np.float32(9)), X)


def _mirrored(rng, n, d):
    """Rows and their negatives about a common point, at equal distances from it."""
    X = 1e-9 * rng.standard_normal((n, d))
    X[1::2] = -X[: 2 * (n // 2) : 2]
    X[0] = 0
    return X


def _quantised(rng, n, d):
    return np.round(16 * rng.standard_normal((n, d))) / 16


KINDS = {
    each.__name__.strip("_"): each
    for each in (
        _normal, _cone, _offset, _outlier, _outlying_column, _columns, _tiny_beside_large, _two_worlds, _subnormal, _near_overflow,
        _heavy_tails, _lattice, _near_duplicates, _mirrored, _quantised,
    )
}  # fmt: skip
# Values of these are lost to float32, and some to float16.
_DOUBLE = {"offset"}
_ROWS, _FEATURES = (40, 300, 1500, 4500), (1, 3, 8, 17, 40, 130)


def data_set(kind, seed, *, largest=_ROWS[-1]):
    """Rows (n, d) and some other points (q, d), in a mixture of precisions."""
    rng = np.random.default_rng([seed, sorted(KINDS).index(kind)])
    n = int(rng.choice([size for size in _ROWS if size <= largest]))
    d = int(rng.choice(_FEATURES))
    X = KINDS[kind](rng, n, d)
    points = X[rng.integers(0, n, 20)] * (1 + 1e-3 * rng.standard_normal((20, 1)) * (rng.random((20, 1)) < 0.7))
    dtypes = [np.float64] if kind in _DOUBLE else [np.float32, np.float32, np.float64]
    X = X.astype(rng.choice(dtypes))
    if kind == "subnormal":
        X[0] = 2.0**-120  # all in all it must be in range
    return X, points.astype(rng.choice([np.float32, np.float64]) if kind not in _DOUBLE else np.float64)
