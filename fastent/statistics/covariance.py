"""How many directions a representation uses, and how alike two representations of the same points are."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import as_features, check_finite, row_blocks
from fastent.errors import FastentError
from fastent.io.sources import parts
from fastent.options import flag
from fastent.printable import printable
from fastent.runtime.cluster import map_on_cluster
from fastent.runtime.memory import check_fits
from fastent.statistics.notes import Note

__all__ = ["Spread", "cka", "one_feature", "participation_ratio", "shares_of_variance", "spread_of"]

Array = NDArray[np.float64]

_BLOCK_BYTES = 4 << 20
# With more than this share of the variance a feature decides nearly alone who is near whom.
_NEARLY_ALL = 0.9
# 1 over anything below this overflows.
_TINY = 1e-308
# What is left of a sum of squares after all of it was subtracted is below this share of it.
_ROUNDING = 1e-12


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
    mean, scale = _mean_and_scale(features, "X")
    return spread_of(features, mean, scale=scale).participation_ratio


class Spread(NamedTuple):
    """The participation ratio, and the share of the total variance that each feature has, (d,); NaN where all are equal."""

    participation_ratio: float
    shares: Array


def spread_of(X: NDArray[Any], mean: Array, client: Any = None, *, scale: float = 1.0) -> Spread:
    """How rows spread whose mean (d,) is known; deviations times `scale` have squares that neither overflow nor vanish."""
    n, d = X.shape
    check_fits(8 * (d * d if d <= n else n * n + n * d), f"the covariance of {n} x {d} points", "measure fewer rows")
    if d <= n:
        products = np.zeros((d, d))
        for part in map_on_cluster(client, partial(_products_of_part, X, mean, scale), parts(X), in_threads=True):
            products += part
        by_feature = np.diagonal(products)
    else:
        deviations = (np.asarray(X[:], np.float64) - mean) * scale
        products = deviations @ deviations.T
        by_feature = np.einsum("ij,ij->j", deviations, deviations)
    total = by_feature.sum()
    shares = by_feature / total if total > 0 else np.full(d, np.nan)
    # The trace is the sum of the eigenvalues, the sum of squares that of their squares.
    products = _scaled(products)
    squares = float((products**2).sum())
    return Spread(float(np.trace(products) ** 2 / squares) if squares > 0 else np.nan, shares)


def shares_of_variance(X: NDArray[Any]) -> Array:
    """As in `Spread`, without the covariance; finite rows are read three times."""
    mean, scale = _mean_and_scale(X, "X")
    by_feature = np.zeros(X.shape[1])
    for _, block in row_blocks(X, block_bytes=_BLOCK_BYTES):
        for rows in _pieces(block):
            by_feature += (((rows - mean) * scale) ** 2).sum(0)
    total = by_feature.sum()
    return by_feature / total if total > 0 else np.full(len(by_feature), np.nan)


def one_feature(shares: Array, names: Sequence[str] | None, *, standardized: bool) -> Iterator[Note]:
    """What follows from a feature that has nearly all of the variance; shares (d,) as in `Spread`, names of the features.

    standardized : whether features have one variance already, if they vary at all.
    """
    largest = int(np.argmax(shares))
    if len(shares) > 1 and shares[largest] > _NEARLY_ALL:
        name = f"{largest} (of {len(shares):,})" if names is None else printable(names[largest])
        why = "distances say little of the others"
        if not np.delete(shares, largest).any():
            why = "the others never vary"
        elif not standardized:
            why += " (standardize=True, --standardize, gives all features the same weight)"
        yield Note(f"feature {name} has {100 * shares[largest]:.1f} % of the variance", why)


def _mean_and_scale(X: NDArray[Any], name: str) -> tuple[Array, float]:
    """The mean (d,), and a factor by which deviations from it have squares that neither overflow nor vanish."""
    check_finite(X, name=name)
    first, total = np.asarray(X[0], np.float64), np.zeros(X.shape[1])
    largest = 0.0
    for _, block in row_blocks(X, block_bytes=_BLOCK_BYTES):
        for rows in _pieces(block):
            offsets = _differences(rows, first, name)
            total += offsets.sum(0)  # of equal rows exactly 0, whatever they are
            largest = max(largest, float(np.abs(offsets).max()))
    return first + total / len(X), 1 / max(largest, _TINY)


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


def cka(X: Any, Y: Any, *, debiased: bool = False) -> float:
    """Linear centred kernel alignment of two representations of the same points: |Y'X|^2 / (|X'X| |Y'Y|), columns centred.

    Parameters
    ----------
    X : array-like (n, d)
        Activations of one layer, network or epoch.
    Y : array-like (n, e)
        Those of another, the same points in the same order. Both are read once, block by block, in double precision; with
        `debiased` three times.
    debiased : bool
        Whether to take the unbiased estimators of the three norms (Song et al.), which leave out each point's product with
        itself; default False. For at least four points.

    Returns
    -------
    float
        In [0, 1]; 1 for representations that differ by a rotation, a shift and a factor. With few points compared with the
        number of features it is high for any two. Debiased it is in [-1, 1], and near 0 for independent representations
        however few the points.

    Raises
    ------
    FastentError
        Bad input; other numbers of rows; all rows equal or, debiased, all at right angles; too little memory.

    References
    ----------
    Kornblith et al., "Similarity of neural network representations revisited", 2019. Song et al., "Feature selection via
    dependence maximization", 2012. Nguyen et al., "Do wide and deep networks learn the same things?", 2021.

    Examples
    --------
    >>> import fastent as fe, numpy as np
    >>> X = np.random.default_rng(0).standard_normal((100, 3))
    >>> round(fe.cka(X, 5 - 2 * X[:, ::-1]), 6)
    1.0
    """
    debiased = flag("debiased", debiased)
    pair = as_features(X), as_features(Y, name="Y")
    (n, d), (n_others, e) = pair[0].shape, pair[1].shape
    if n != n_others:
        raise FastentError(f"X has {n} rows and Y has {n_others}: pass activations of the same points, in the same order")
    if debiased and n < 4:
        raise FastentError(f"X has {n} row{'s' * (n > 1)}: debiased=True takes at least 4")
    small = n < max(d, e)
    needed = 8 * (2 * n * n + n * (d + e) if small else 2 * (d + e) ** 2)
    check_fits(needed, f"the alignment of {n} x {d} and {n} x {e} activations", "measure fewer rows")
    if small:
        inner = [_gram(rows, name) for rows, name in zip(pair, "XY", strict=True)]
        norms = _Norms(*(float((a * b).sum()) for a, b in ((inner[0],) * 2, (inner[1],) * 2, inner)))
        if debiased:
            return _debiased(norms, np.diagonal(inner[0]), np.diagonal(inner[1]))
    elif debiased:
        return _debiased(*_products_and_lengths(*pair))
    else:
        norms = _Norms(*_products(*pair))
    for squares, name in ((norms.own, "X"), (norms.other, "Y")):
        if squares == 0:
            raise FastentError(f"all rows of {name} are equal: there is nothing to align")
    return float(min(norms.across / np.sqrt(norms.own) / np.sqrt(norms.other), 1.0))


class _Norms(NamedTuple):
    """Squared norms of X'X, Y'Y and Y'X, columns centred: sums over all pairs of points of products of their inner products."""

    own: float
    other: float
    across: float


def _debiased(norms: _Norms, p: Array, q: Array) -> float:
    """The alignment by unbiased estimators; p, q (n,): squared lengths of the centred rows.

    About the mean a point's products with all others add up to minus its squared length, so that the sums over other points,
    which the estimator of Song et al. is made of, follow from the norms and the lengths.
    """
    n = len(p)

    def unbiased(all_pairs: float, a: Array, b: Array) -> float:
        return float(all_pairs - n / (n - 2) * (a @ b) + a.sum() * b.sum() / ((n - 1) * (n - 2)))

    own, other, across = unbiased(norms.own, p, p), unbiased(norms.other, q, q), unbiased(norms.across, p, q)
    for squares, everything, name in ((own, norms.own, "X"), (other, norms.other, "Y")):
        if squares <= _ROUNDING * everything:
            raise FastentError(f"the rows of {name} are all equal, or all at right angles: there is nothing to align")
    return float(np.clip(across / np.sqrt(own) / np.sqrt(other), -1.0, 1.0))


def _products_and_lengths(X: NDArray[Any], Y: NDArray[Any]) -> tuple[_Norms, Array, Array]:
    """The norms, and squared lengths (n,) of the centred rows of both."""
    centre, scale = zip(*(_mean_and_scale(rows, name) for rows, name in ((X, "X"), (Y, "Y"))), strict=True)
    n, d, e = len(X), X.shape[1], Y.shape[1]
    own, other, across = np.zeros((d, d)), np.zeros((e, e)), np.zeros((e, d))
    lengths = np.empty(n), np.empty(n)
    size = max(1, _BLOCK_BYTES // (8 * (d + e)))
    for start in range(0, n, size):
        here = slice(start, start + size)
        x, y = ((np.asarray(rows[here], np.float64) - centre[i]) * scale[i] for i, rows in enumerate((X, Y)))
        own += x.T @ x
        other += y.T @ y
        across += y.T @ x
        for each, rows in zip(lengths, (x, y), strict=True):
            each[here] = (rows**2).sum(1)
    return _Norms(*(float((block**2).sum()) for block in (own, other, across))), *lengths


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
