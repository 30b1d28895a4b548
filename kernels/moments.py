"""One pass over labelled rows: counts, sums and squared deviations of each class, in float64.

What a row must cost, in bytes: 4 d read from memory, once. The arithmetic is kept below that: rows are added four at a time
to the sums of their class, so that sums and shifts (which live in L2) are touched once for four rows, and conversion to
float64, not memory, would otherwise be the limit. Rows far ahead are prefetched because four rows of four classes are more
streams than the hardware follows by itself.

Everything is accumulated relative to a shift, one point for each class: a class far from the origin loses no digits, and a
class of identical rows has deviations of exactly zero.
"""

from typing import Any, NamedTuple

import numpy as np

from .arrays import copy_row, read_only
from .distance import inner
from .jit import SUMS, driver, kernel, step, unowned
from .sharing import parallel_for
from .vectors import prefetch

# Squared norms below that may have lost digits.
_SMALL = 1e-280
_AHEAD_BYTES = 128 << 10
_BATCH = 4


@kernel()
def _first_rows(codes: Any, first: Any) -> int:
    for i in range(codes.shape[0]):
        c = codes[i]
        if c < 0 or c >= first.shape[0]:
            return i
        if first[c] < 0:
            first[c] = i
    return -1


@driver(_first_rows)
def first_rows(codes: Any, n_classes: int) -> Any:
    """Return the first row of each class (-1 where there is none), and the first row whose code is no class (-1 if none).

    Rows after that one have not been looked at.
    """
    first = np.full(n_classes, -1, np.int64)
    return first, _first_rows(read_only(codes), first)


@step()
def _row_scale(row: Any, normalize: bool) -> float:
    """What makes a row of unit norm; 0 for a row of zeros, NaN for one that is not finite or nothing can make so long."""
    if not normalize:
        return 1.0
    squared = inner(row, row)
    if _SMALL < squared < np.inf:
        return 1.0 / np.sqrt(squared)
    largest = 0.0
    for j in range(row.shape[0]):
        size = abs(np.float64(row[j]))
        largest = size if size > largest else largest
    if largest == 0.0 and squared == 0.0:
        return 0.0
    squared = 0.0  # again, of a size whose squares neither overflow nor vanish
    for j in range(row.shape[0]):
        value = np.float64(row[j]) / largest
        squared += value * value
    scale = 1.0 / largest / np.sqrt(squared)
    return scale if scale < np.inf else np.nan


@step(fastmath=SUMS)
def _add_row(row: Any, scale: float, shift: Any, sums: Any) -> float:
    squares = 0.0
    for j in range(sums.shape[0]):
        deviation = np.float64(row[j]) * scale - shift[j]
        sums[j] += deviation
        squares += deviation * deviation
    return squares


@step(fastmath=SUMS)
def _add_four_rows(
    a: Any,
    b: Any,
    c: Any,
    d: Any,
    scale_a: float,
    scale_b: float,
    scale_c: float,
    scale_d: float,
    shift: Any,
    sums: Any,
) -> float:
    squares = 0.0
    for j in range(sums.shape[0]):
        origin = shift[j]
        from_a = np.float64(a[j]) * scale_a - origin
        from_b = np.float64(b[j]) * scale_b - origin
        from_c = np.float64(c[j]) * scale_c - origin
        from_d = np.float64(d[j]) * scale_d - origin
        sums[j] += (from_a + from_b) + (from_c + from_d)
        squares += (from_a * from_a + from_b * from_b) + (from_c * from_c + from_d * from_d)
    return squares


@step()
def _accumulate(
    X: Any, codes: Any, shift: Any, normalize: bool, start: int, stop: int, counts: Any, sums: Any, squares: Any
) -> None:
    """Add rows start..stop to the accumulators of one thread."""
    n_classes = shift.shape[0]
    waiting = np.empty((n_classes, _BATCH), np.int64)
    n_waiting = np.zeros(n_classes, np.int64)
    scales = np.empty((n_classes, _BATCH))
    ahead = _AHEAD_BYTES // (X.shape[1] * X.itemsize)
    for i in range(start, stop):
        if i + ahead < stop:
            prefetch(X[i + ahead])
        c = codes[i]
        k = n_waiting[c]
        counts[c] += 1
        waiting[c, k] = i
        scales[c, k] = _row_scale(X[i], normalize)
        if k == _BATCH - 1:
            rows, scale = waiting[c], scales[c]
            squares[c] += _add_four_rows(
                X[rows[0]], X[rows[1]], X[rows[2]], X[i], scale[0], scale[1], scale[2], scale[3], shift[c], sums[c]
            )
            n_waiting[c] = 0
        else:
            n_waiting[c] = k + 1
    for c in range(n_classes):
        for k in range(n_waiting[c]):
            squares[c] += _add_row(X[waiting[c, k]], scales[c, k], shift[c], sums[c])


@kernel()
def _class_moments(
    begin: int, end: int, X: Any, codes: Any, shift: Any, normalize: bool, parts: int, counts: Any, sums: Any, squares: Any
) -> None:
    n, d = X.shape
    n_classes = shift.shape[0]
    for part in range(begin, end):
        start, stop = part * n // parts, (part + 1) * n // parts
        # Own accumulators, and shifts without an owner: rows are sliced from them by the million, and the count of references
        # to an array that threads share would be fought over.
        own_sums = np.zeros((n_classes, d))
        _accumulate(X, codes, unowned(shift), normalize, start, stop, counts[part], own_sums, squares[part])
        for c in range(n_classes):
            copy_row(own_sums[c], sums[part, c])


@driver(_class_moments)
def class_moments(X: Any, codes: Any, shift: Any, normalize: bool, parts: int) -> Any:
    """Accumulate `parts` runs of consecutive rows, one for each thread, to be added up in order.

    Parameters
    ----------
    X : (n, d) float32 or float64, C-contiguous
    codes : (n,) int64 in [0, C)
    shift : (C, d) float64
        Where each class is measured from.
    normalize : bool
        Scale each row to unit L2 norm first; a row of zeros stays zero.
    parts : int
        How many accumulators; results depend on it in the last bits.

    Returns
    -------
    counts (parts, C) int64, sums (parts, C, d) of x - shift, squares (parts, C) of |x - shift|^2
    """
    n_classes, d = shift.shape
    counts = np.zeros((parts, n_classes), np.int64)
    sums = np.zeros((parts, n_classes, d))
    squares = np.zeros((parts, n_classes))
    X, codes = read_only(X), read_only(codes)
    parallel_for(_class_moments, parts, X, codes, shift, normalize, parts, counts, sums, squares)
    return counts, sums, squares


@step(fastmath=SUMS)
def _deviate(row: Any, scale: float, origin: Any, mean: Any, deviation: Any) -> None:
    for j in range(deviation.shape[0]):
        deviation[j] = (np.float64(row[j]) * scale - origin[j]) - mean[j]


@step(fastmath=SUMS)
def _dot_four(a: Any, b: Any, c: Any, d: Any, direction: Any) -> float:
    """Sum of the squared projections of four rows: a direction is loaded once for all of them."""
    on_a = on_b = on_c = on_d = 0.0
    for j in range(direction.shape[0]):
        along = direction[j]
        on_a += a[j] * along
        on_b += b[j] * along
        on_c += c[j] * along
        on_d += d[j] * along
    return (on_a * on_a + on_b * on_b) + (on_c * on_c + on_d * on_d)


@step()
def _project(
    X: Any, codes: Any, origin: Any, means: Any, directions: Any, normalize: bool, start: int, stop: int, squares: Any
) -> None:
    deviations = np.zeros((_BATCH, X.shape[1]))
    for first in range(start, stop, _BATCH):
        for k in range(_BATCH):
            i = first + k
            if i < stop:
                _deviate(X[i], _row_scale(X[i], normalize), origin, means[codes[i]], deviations[k])
            else:
                deviations[k] = 0.0
        for m in range(directions.shape[0]):
            squares[m] += _dot_four(deviations[0], deviations[1], deviations[2], deviations[3], directions[m])


@kernel()
def _squared_projections(
    begin: int,
    end: int,
    X: Any,
    codes: Any,
    origin: Any,
    means: Any,
    directions: Any,
    normalize: bool,
    parts: int,
    squares: Any,
) -> None:
    n = X.shape[0]
    for part in range(begin, end):
        own_means, own_directions = unowned(means), unowned(directions)
        start, stop = part * n // parts, (part + 1) * n // parts
        _project(X, codes, origin, own_means, own_directions, normalize, start, stop, squares[part])


@driver(_squared_projections)
def squared_projections(X: Any, codes: Any, origin: Any, means: Any, directions: Any, normalize: bool, parts: int) -> Any:
    """Sum, over all rows, the squared projections of x - mean of its class on each of some directions.

    Parameters
    ----------
    X, codes, normalize, parts
        As for `class_moments`.
    origin : (d,) float64
    means : (C, d) float64
        Less the origin.
    directions : (m, d) float64

    Returns
    -------
    (parts, m) float64
    """
    squares = np.zeros((parts, directions.shape[0]))
    X, codes = read_only(X), read_only(codes)
    parallel_for(_squared_projections, parts, X, codes, origin, means, directions, normalize, parts, squares)
    return squares


@step(fastmath=SUMS)
def _distance(deviation: Any, mean: Any, other: Any) -> float:
    """Squared distance to another mean, of a point that lies `deviation` from its own."""
    total = 0.0
    for j in range(deviation.shape[0]):
        difference = deviation[j] + (mean[j] - other[j])
        total += difference * difference
    return total


@step(fastmath=SUMS)
def _square_and_add(values: Any, sums: Any) -> float:
    total = 0.0
    for j in range(values.shape[0]):
        square = values[j] * values[j]
        sums[j] += square
        total += square
    return total


class MeanDistances(NamedTuple):
    """Squared distances of rows to the class means, and what is left of each feature within classes.

    own (n,), other (n,) float64
        To the own mean, and to the nearest other.
    wide (n,) float64
        The least over other classes of distance + variance: the mean squared distance to that class's points.
    nearest (n,) int64
        The class whose mean is nearest, ties to the lower.
    features (parts, d) float64
        Sums of squared deviations from the own mean.
    """

    own: Any
    other: Any
    wide: Any
    nearest: Any
    features: Any


@step()
def _meet_means(
    X: Any, codes: Any, origin: Any, means: Any, variances: Any, normalize: bool, start: int, stop: int, found: Any, sums: Any
) -> None:
    own, other, wide, nearest = found.own, found.other, found.wide, found.nearest
    deviation = np.empty(X.shape[1])
    for i in range(start, stop):
        c = codes[i]
        _deviate(X[i], _row_scale(X[i], normalize), origin, means[c], deviation)
        own[i] = _square_and_add(deviation, sums)
        other[i] = wide[i] = np.inf
        for b in range(means.shape[0]):
            if b != c:
                squared = _distance(deviation, means[c], means[b])
                if squared < other[i]:
                    other[i], nearest[i] = squared, b
                to_points = squared + variances[b]
                wide[i] = to_points if to_points < wide[i] else wide[i]
        if own[i] < other[i] or (own[i] == other[i] and c < nearest[i]):
            nearest[i] = c


@kernel()
def _distances_to_means(
    begin: int, end: int, X: Any, codes: Any, origin: Any, means: Any, variances: Any, normalize: bool, parts: int, found: Any
) -> None:
    n = X.shape[0]
    for part in range(begin, end):
        sums = np.zeros(X.shape[1])
        start, stop = part * n // parts, (part + 1) * n // parts
        _meet_means(X, codes, origin, unowned(means), variances, normalize, start, stop, found, sums)
        copy_row(sums, found.features[part])


@driver(_distances_to_means)
def distances_to_means(
    X: Any, codes: Any, origin: Any, means: Any, variances: Any, normalize: bool, parts: int
) -> MeanDistances:
    """Compare all rows with the means of all classes.

    Parameters
    ----------
    X, codes, normalize, parts
        As for `class_moments`.
    origin : (d,) float64
    means : (C, d) float64
        Less the origin.
    variances : (C,) float64
        Mean squared distance of each class from its mean.
    """
    n, d = X.shape
    found = MeanDistances(np.empty(n), np.empty(n), np.empty(n), np.zeros(n, np.int64), np.zeros((parts, d)))
    X, codes = read_only(X), read_only(codes)
    parallel_for(_distances_to_means, parts, X, codes, origin, means, variances, normalize, parts, found)
    return found
