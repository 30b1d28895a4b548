"""How many directions a representation uses, and how alike two representations of the same points are."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import as_features, check_finite, row_blocks
from fastent.errors import FastentError
from fastent.io.sources import parts
from fastent.runtime.cluster import map_on_cluster
from fastent.runtime.memory import check_fits

__all__ = ["cka", "participation_ratio", "participation_ratio_of"]

Array = NDArray[np.float64]

_BLOCK_BYTES = 4 << 20
# 1 over anything below this overflows.
_TINY = 1e-308


def participation_ratio(X: Any) -> float:
    """Effective number of directions in which the points vary: (sum l)^2 / sum l^2 over the covariance's eigenvalues l.

    Parameters
    ----------
    X : array-like (n, d)
        Any real dtype and memory order; a memory map is read block by block, three times. Takes n d^2 operations and d^2
        numbers of memory, or n^2 d and n d where there are fewer points than features.

    Returns
    -------
    float
        From 1 to min(n - 1, d); NaN where all points are equal.

    Raises
    ------
    FastentError
        Bad input; too little memory.

    References
    ----------
    Gao et al., "A theory of multineuronal dimensionality, dynamics and measurement", 2017.

    Examples
    --------
    >>> import fastent as fe
    >>> round(fe.participation_ratio([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), 6)
    2.0
    """
    features = as_features(X)
    check_finite(features)
    first, total = np.asarray(features[0], np.float64), np.zeros(features.shape[1])
    largest = 0.0
    for _, block in row_blocks(features, block_bytes=_BLOCK_BYTES):
        for rows in _pieces(block):
            offsets = _differences(rows, first, "X")
            total += offsets.sum(0)  # of equal rows exactly 0, whatever they are
            largest = max(largest, float(np.abs(offsets).max()))
    return participation_ratio_of(features, first + total / len(features), scale=1 / max(largest, _TINY))


def participation_ratio_of(X: NDArray[Any], mean: Array, client: Any = None, *, scale: float = 1.0) -> float:
    """The same where the mean (d,) is known; deviations times `scale` have squares that neither overflow nor vanish."""
    n, d = X.shape
    check_fits(8 * (d * d if d <= n else n * n + n * d), f"the covariance of {n} x {d} points", "measure fewer rows")
    if d <= n:
        products = np.zeros((d, d))
        for part in map_on_cluster(client, partial(_products_of_part, X, mean, scale), parts(X), in_threads=True):
            products += part
    else:
        deviations = (np.asarray(X[:], np.float64) - mean) * scale
        products = deviations @ deviations.T
    # The trace is the sum of the eigenvalues, the sum of squares that of their squares.
    products = _scaled(products)
    squares = float((products**2).sum())
    return float(np.trace(products) ** 2 / squares) if squares > 0 else np.nan


def _differences(rows: NDArray[Any], origin: Array, name: str) -> Array:
    with np.errstate(over="ignore"):
        differences: Array = rows - origin
    if not np.isfinite(differences).all():
        raise FastentError(f"{name} has values whose differences overflow float64: rescale {name}")
    return differences


def _products_of_part(X: NDArray[Any], mean: Array, scale: float, piece: tuple[int, int]) -> Array:
    """(d, d) sums of products of deviations."""
    products = np.zeros((X.shape[1],) * 2)
    size = max(1, _BLOCK_BYTES // (8 * X.shape[1]))
    for start in range(*piece, size):
        rows = np.asarray(X[start : min(start + size, piece[1])])
        deviations = (rows.astype(np.float64) - mean) * scale
        products += deviations.T @ deviations
    return products


def cka(X: Any, Y: Any) -> float:
    """Linear centred kernel alignment of two representations of the same points: |Y'X|^2 / (|X'X| |Y'Y|), columns centred.

    Parameters
    ----------
    X : array-like (n, d)
        Activations of one layer, network or epoch.
    Y : array-like (n, e)
        Those of another, the same points in the same order. Both are read once, block by block, in double precision.

    Returns
    -------
    float
        In [0, 1]; 1 for representations that differ by a rotation, a shift and a factor. With few points compared with the
        number of features it is high for any two.

    Raises
    ------
    FastentError
        Bad input; other numbers of rows; all rows equal; too little memory.

    References
    ----------
    Kornblith et al., "Similarity of neural network representations revisited", 2019.

    Examples
    --------
    >>> import fastent as fe, numpy as np
    >>> X = np.random.default_rng(0).standard_normal((100, 3))
    >>> round(fe.cka(X, 5 - 2 * X[:, ::-1]), 6)
    1.0
    """
    pair = as_features(X), as_features(Y, name="Y")
    (n, d), (n_others, e) = pair[0].shape, pair[1].shape
    if n != n_others:
        raise FastentError(f"X has {n} rows and Y has {n_others}: pass activations of the same points, in the same order")
    small = n < max(d, e)
    needed = 8 * (2 * n * n + n * (d + e) if small else 2 * (d + e) ** 2)
    check_fits(needed, f"the alignment of {n} x {d} and {n} x {e} activations", "measure fewer rows")
    if small:
        inner = [_gram(rows, name) for rows, name in zip(pair, "XY", strict=True)]
        own, other, across = (float((a * b).sum()) for a, b in ((inner[0],) * 2, (inner[1],) * 2, inner))
    else:
        own, other, across = _products(*pair)
    for squares, name in ((own, "X"), (other, "Y")):
        if squares == 0:
            raise FastentError(f"all rows of {name} are equal: there is nothing to align")
    return float(min(across / np.sqrt(own) / np.sqrt(other), 1.0))


def _gram(rows: NDArray[Any], name: str) -> Array:
    check_finite(rows, name=name)
    centred = np.asarray(rows[:], np.float64)
    centred = _differences(centred, centred[0], name)  # equal rows are 0 then, and their mean too
    centred = _scaled(centred - centred.mean(0))
    products: Array = centred @ centred.T
    return products


def _products(X: NDArray[Any], Y: NDArray[Any]) -> tuple[float, float, float]:
    """Squared norms of X'X, Y'Y and Y'X, centred, in one pass over both, about means of the first rows."""
    d = X.shape[1]
    size = max(1, _BLOCK_BYTES // (8 * (d + Y.shape[1])))
    origin, scale = None, np.zeros(2)
    sides = np.repeat([0, 1], [d, Y.shape[1]])
    products, sums = np.zeros((len(sides),) * 2), np.zeros(len(sides))
    for start in range(0, len(X), size):
        here = slice(start, start + size)
        rows = np.concatenate([np.asarray(X[here], np.float64), np.asarray(Y[here], np.float64)], 1)
        if not np.isfinite(rows).all():
            check_finite(X)
            check_finite(Y, name="Y")
        if origin is None:
            origin = rows[0] + _differences(rows, rows[0], "X or Y").mean(0)
        rows = _differences(rows, origin, "X or Y")
        # Scales are of no consequence to the ratio, but squares of squares stay within range.
        spread = np.abs(rows)
        largest = np.maximum(scale, [_power_below(spread[:, :d].max()), _power_below(spread[:, d:].max())])
        if (largest > scale).any():
            shrink = np.where(scale > 0, scale / np.where(largest > 0, largest, 1), 1)[sides]
            products *= np.outer(shrink, shrink)
            sums *= shrink
            scale = largest
        rows /= np.where(scale > 0, scale, 1)[sides]
        products += rows.T @ rows
        sums += rows.sum(0)
    products -= np.outer(sums, sums) / len(X)
    blocks = products[:d, :d], products[d:, d:], products[d:, :d]
    own, other, across = (float((block**2).sum()) for block in blocks)
    return own, other, across


def _power_below(value: float) -> float:
    """The power of two that is at most the value; 0 for 0."""
    return float(np.ldexp(1.0, np.frexp(value)[1] - 1)) if value > 0 else 0.0


def _scaled(rows: Array) -> Array:
    largest = np.abs(rows).max()
    return rows / largest if largest > 0 else rows


def _pieces(block: NDArray[Any]) -> Iterator[NDArray[Any]]:
    rows = max(1, _BLOCK_BYTES // (8 * block.shape[1]))
    for start in range(0, len(block), rows):
        yield block[start : start + rows]
