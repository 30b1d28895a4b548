"""Least-squares fits that only rise or only fall, piece by piece, by pooling adjacent violators.

One block of equal fitted values is (mean, weight, error): a new value joins the blocks before it for as long as their means are
out of order, and what pooling two blocks costs is known from their means and weights. The errors of all pieces that begin at
one value therefore come out of one pass. `blocks` (3, n) and `size` (n,) have room for means, weights, errors, and lengths.
"""

from typing import Any

import numpy as np

from .jit import driver, kernel, step

__all__ = ["best_turn", "prefix_errors", "second_differences"]


@step()
def _pool(y: Any, w: Any, sign: float, blocks: Any, out: Any) -> None:
    mean, weight, error = blocks[0], blocks[1], blocks[2]
    top, total = -1, 0.0
    for j in range(y.shape[0]):
        m, g, e = sign * y[j], w[j], 0.0
        while top >= 0 and mean[top] >= m:
            above = mean[top] - m
            pooled = weight[top] + g
            total -= error[top]
            e += error[top] + above * above * weight[top] * g / pooled
            m = (mean[top] * weight[top] + m * g) / pooled
            g = pooled
            top -= 1
        top += 1
        mean[top], weight[top], error[top] = m, g, e
        total += e
        out[j] = total


@kernel()
def _prefix_errors(y: Any, w: Any, sign: float, blocks: Any, out: Any) -> None:
    _pool(y, w, sign, blocks, out)


@driver(_prefix_errors)
def prefix_errors(y: Any, w: Any, sign: float, out: Any) -> None:
    """Squared errors of the best fit to y[0..j] that rises (sign 1) or falls (sign -1), for each j.

    Parameters
    ----------
    y, w : (n,) float64
        Values and their weights, > 0.
    out : (n,) float64
        Overwritten.
    """
    _prefix_errors(y, w, sign, np.empty((3, len(y))), out)


@step()
def _piece_errors(y: Any, w: Any, sign: float, blocks: Any, out: Any) -> None:
    """out[i, j], i <= j, (n, n) float64: squared errors of the best rising or falling fit to y[i..j]; the rest stays."""
    for i in range(y.shape[0]):
        _pool(y[i:], w[i:], sign, blocks, out[i, i:])


@step()
def _fit_piece(y: Any, w: Any, first: int, last: int, sign: float, blocks: Any, size: Any, fit: Any) -> None:
    """The fitted values themselves, of y[first..last - 1]."""
    mean, weight = blocks[0], blocks[1]
    top = -1
    for j in range(first, last):
        m, g, s = sign * y[j], w[j], np.int64(1)
        while top >= 0 and mean[top] >= m:
            m = (mean[top] * weight[top] + m * g) / (weight[top] + g)
            g += weight[top]
            s += size[top]
            top -= 1
        top += 1
        mean[top], weight[top], size[top] = m, g, s
    j = first
    for block in range(top + 1):
        for _ in range(size[block]):
            fit[j] = sign * mean[block]
            j += 1


@kernel()
def _best_turn(
    y: Any, w: Any, blocks: Any, size: Any, rising: Any, falling: Any, before: Any, peak_before: Any, cuts: Any, fit: Any
) -> Any:
    n = y.shape[0]
    _piece_errors(y, w, 1.0, blocks, rising)
    _piece_errors(y, w, -1.0, blocks, falling)
    # The best "rises, falls" of what stands before i.
    for i in range(1, n + 1):
        before[i] = falling[0, i - 1]
        for p in range(1, i):
            error = rising[0, p - 1] + falling[p, i - 1]
            if error < before[i]:
                before[i], peak_before[i] = error, p
    without = before[n]
    best = without
    cuts[0], cuts[1], cuts[2] = peak_before[n], n, n
    for i in range(n - 1, 0, -1):
        after, peak = rising[i, n - 1], n
        for p in range(i + 1, n):
            error = rising[i, p - 1] + falling[p, n - 1]
            if error < after:
                after, peak = error, p
        if before[i] + after < best:
            best = before[i] + after
            cuts[0], cuts[1], cuts[2] = peak_before[i], i, peak
    _fit_piece(y, w, np.int64(0), cuts[0], 1.0, blocks, size, fit)
    _fit_piece(y, w, cuts[0], cuts[1], -1.0, blocks, size, fit)
    _fit_piece(y, w, cuts[1], cuts[2], 1.0, blocks, size, fit)
    _fit_piece(y, w, cuts[2], n, -1.0, blocks, size, fit)
    return without, best


@driver(_best_turn)
def best_turn(y: Any, w: Any, cuts: Any, fit: Any) -> Any:
    """Best fit that rises, falls, rises and falls, compared with the best that rises and falls; outer pieces may be empty.

    Parameters
    ----------
    y, w : (n,) float64
        Values and weights.
    cuts : (3,) int64
        Overwritten: where the fall, the rise after it, and the last fall begin; n, n, n where no turn reduces the error.
    fit : (n,) float64
        Overwritten: the fitted values of the four pieces.

    Returns
    -------
    (float64, float64)
        Squared errors of "rises, falls" and of the four pieces.
    """
    n = len(y)
    rising, falling = np.empty((2, n, n))
    before, peak_before, size = np.empty(n + 1), np.zeros(n + 1, np.int64), np.empty(n, np.int64)
    return _best_turn(y, w, np.empty((3, n)), size, rising, falling, before, peak_before, cuts, fit)


@kernel()
def second_differences(y: Any, h: int) -> float:
    """Mean square of a - 2 b + c over all neighbouring means a, b, c of h values each; at least 3 h values are needed."""
    n = y.shape[0]
    a, b, c = 0.0, 0.0, 0.0
    for i in range(h):
        a += y[i]
        b += y[h + i]
        c += y[2 * h + i]
    total = (a - 2 * b + c) ** 2
    for i in range(n - 3 * h):
        a += y[h + i] - y[i]
        b += y[2 * h + i] - y[h + i]
        c += y[3 * h + i] - y[2 * h + i]
        total += (a - 2 * b + c) ** 2
    return total / ((n - 3 * h + 1) * h * h)
