"""The distance that decides: of two rows as they were given, in double precision."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numba import types

from .arrays import read_only
from .jit import SUMS, driver, intrinsic, kernel, step
from .sharing import parallel_for

__all__ = ["grid_bits", "inner", "squared_angle", "squared_distance", "squared_length", "squared_lengths"]

# Sines whose squares are below that are taken with more care. Of parallel rows the quotient alone, which is off by a few times
# 2^-53, leaves 2^-108 and more; of thousands of features their sums leave more, at most 2^-82 for 4,096.
_SMALL = 2.0**-80
# Directions whose sine is less than 2^-100 are one.
_SAME = 2.0**-200


@step(fastmath=SUMS)
def squared_distance(a: Any, b: Any) -> float:
    """From differences, each of which is rounded once."""
    total = 0.0
    for j in range(a.shape[0]):
        difference = np.float64(a[j]) - np.float64(b[j])
        total += difference * difference
    return total


@intrinsic(lambda a, b, c: float(Fraction(a) - Fraction(b) * Fraction(c)))
def _less_product(typing_context, a, b, c):  # type: ignore[no-untyped-def]
    """a - b * c, rounded once."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.fma(builder.fneg(arguments[1]), arguments[2], arguments[0])

    return types.float64(types.float64, types.float64, types.float64), generate


@step(fastmath=SUMS)
def inner(a: Any, b: Any) -> float:
    """The inner product of two rows, in double precision."""
    total = 0.0
    for j in range(a.shape[0]):
        total += np.float64(a[j]) * np.float64(b[j])
    return total


@step(fastmath=SUMS)
def _rest(a: Any, b: Any, share: float) -> Any:
    """Of b without a share of a: the squared norm, and the inner product with a."""
    squared = along = 0.0
    for j in range(a.shape[0]):
        value = np.float64(a[j])
        rest = _less_product(np.float64(b[j]), share, value)
        squared += rest * rest
        along += rest * value
    return squared, along


@step(fastmath=SUMS)
def _rest_of_two(a: Any, b: Any, share: float, more: float) -> Any:
    """Of b without two shares of a."""
    squared = along = 0.0
    for j in range(a.shape[0]):
        value = np.float64(a[j])
        rest = _less_product(_less_product(np.float64(b[j]), share, value), more, value)
        squared += rest * rest
        along += rest * value
    return squared, along


@step()
def squared_angle(a: Any, b: Any, length: float, other_length: float) -> float:
    """|a/|a| - b/|b||^2 = 2 (1 - cos), from their `squared_lengths`.

    1 - cos = sin^2 / (1 + cos) where cos > 0, and the sine is what of b does not lie along a: rows in a narrow cone lose no
    digits, as they do where they are first scaled to unit length. What rounding leaves of b along a is taken off too.
    """
    product = inner(a, b)
    if length < 0 and other_length < 0:  # all of this is exact but for a quotient and a root: equal cosines are equal numbers
        both = length * other_length
        square = product * product / both
        if product <= 0:
            return 2 * (1 + np.sqrt(square))
        return 2 * ((both - product * product) / both) / (1 + np.sqrt(square))
    length, other_length = abs(length), abs(other_length)
    cosine = product / np.sqrt(length) / np.sqrt(other_length)
    if cosine <= 0.5:
        return 2 * (1 - (-1.0 if cosine < -1.0 else cosine))
    share = product / length
    squared, along = _rest(a, b, share)
    if squared < _SMALL * other_length:
        squared, along = _rest_of_two(a, b, share, along / length)
    squared = (squared - along * (along / length)) / other_length  # sin^2
    return 2 * squared / (1 + (1.0 if cosine > 1.0 else cosine)) if squared > _SAME else 0.0


@step()
def _on_grid(row: Any, bits: int) -> bool:
    """Whether the values are whole numbers of `bits` bits, times a power of two."""
    largest = 0.0
    for j in range(row.shape[0]):
        size = abs(np.float64(row[j]))
        largest = size if size > largest else largest
    if not 2.0**-500 < largest < 2.0**500:
        return False
    scale = 2.0 ** (bits - math.frexp(largest)[1])
    for j in range(row.shape[0]):
        value = np.float64(row[j]) * scale
        if value != np.rint(value):
            return False
    return True


@step()
def squared_length(row: Any, bits: int) -> float:
    """One of `squared_lengths`, with `grid_bits` of its features."""
    squared = inner(row, row)
    return -squared if bits > 0 and _on_grid(row, bits) else squared


@kernel()
def _squared_lengths(begin: int, end: int, rows: Any, bits: int, lengths: Any) -> None:
    for i in range(begin, end):
        lengths[i] = squared_length(rows[i], bits)


def grid_bits(d: int) -> int:
    """So many bits leave the product of two squared norms, and the square of an inner product, within the 53 of a float64."""
    return int((26 - np.log2(d)) / 2)


@driver(_squared_lengths)
def squared_lengths(rows: Any) -> Any:
    """Squared norms (n,) float64 of rows (n, d); negative for rows on a coarse grid, as of counts: their products are exact."""
    lengths = np.empty(len(rows))
    parallel_for(_squared_lengths, len(rows), read_only(rows), grid_bits(rows.shape[1]), lengths)
    return lengths
