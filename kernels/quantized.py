"""Points in whole numbers: how they are rotated and rounded, and how far that moves them.

A point of a tile is seen from the tile's centre and rounded to multiples of the tile's step: codes of 8 bits, or of 16. Inner
products of codes are exact, and processors take four times as many of 8 bits at a time as of single precision, twice as many
of 16. What rounding has cut off is known by its norm e, so that from codes a^, b^

    |a - b|  >=  |a^ - b^| - e_a - e_b

A word of 32 bits holds the codes of one point for four features, or for two.
"""

from typing import Any, NamedTuple

import numpy as np

from .arrays import read_only
from .jit import FUSED, SUMS, driver, kernel, step
from .products import VNNI
from .sharing import parallel_for
from .tree import TILE

__all__ = ["BITS", "LARGEST", "Codes", "coded_coordinates", "encode", "no_codes"]

# No inner product of codes, and nothing that is added to it, is larger.
LARGEST = 2**28
# The norm of a point's codes, whose square that is.
_LARGEST_NORM = 2.0**14
# 8-bit codes are used only where the processor multiplies them in one instruction.
BITS = (8, 16) if VNNI else (16,)
# Coordinates that are rotated together: the largest group that pads the coordinates by at most 15 %, else the smallest.
_TURNED, _PADDED = (64, 32, 16), 1.15
# Points that are transposed at a time: a line of a column.
_LINE = 16
# What rounding may do to a point on its way to a code, beside what is measured: as a share of its norm.
_ROUNDING = 2.0**-20
# Tiles whose coordinates are smaller than that have codes of 0.
_NOTHING = 2.0**-100


class Codes(NamedTuple):
    """Codes of points in tiles.

    packed : (tiles, words * TILE) int32
        Word w of point t at w * TILE + t.
    raised : (tiles * TILE, words) int32
        The same point by point; codes of 8 bits are raised by 128.
    raise_of : (tiles * TILE,) int32
        What raising another's codes adds to the products with this point's; 0 where codes have 16 bits.
    norms : (tiles * TILE,) float64
        Squared norms of what the codes stand for, about the tile's centre.
    errors : (tiles * TILE,) float32
        Upper bound on the distance between that and the exact point.
    largest_error : (tiles,) float32
        Of each tile.
    steps : (tiles,) float64
        What 1 stands for.
    centre : (tiles, m) float32
    """

    packed: Any
    raised: Any
    raise_of: Any
    norms: Any
    errors: Any
    largest_error: Any
    steps: Any
    centre: Any


class _Room(NamedTuple):
    """Where one thread encodes a tile.

    columns : (m * TILE,) float32
        Coordinate j of point t at j * TILE + t.
    squares, lost, about : (TILE,) float64
    totals, code_squares : (TILE,) int32
    """

    columns: Any
    squares: Any
    lost: Any
    about: Any
    totals: Any
    code_squares: Any


@step()
def _turn(columns: Any, together: int) -> None:
    """Hadamard's rotation of every so many coordinates: what a few of them hold is spread over all of these."""
    span, root = TILE, np.float32(together**-0.5)
    while span < together * TILE:
        for first in range(0, columns.shape[0], 2 * span):
            low, high = columns[first : first + span], columns[first + span : first + 2 * span]
            for t in range(span):
                a, b = low[t], high[t]
                low[t], high[t] = a + b, a - b
        span *= 2
    for t in range(columns.shape[0]):
        columns[t] *= root


@step(fastmath=FUSED)
def _add_squares(column: Any, squares: Any) -> None:
    for t in range(TILE):
        squares[t] += np.float64(column[t]) * np.float64(column[t])


@step(fastmath=SUMS)
def _mean(column: Any, width: int) -> float:
    total = np.float32(0)
    for t in range(width):
        total += column[t]
    return total / np.float32(width)


@step(fastmath=SUMS)
def _largest(columns: Any) -> float:
    largest = np.float32(0)
    for t in range(columns.shape[0]):
        size = abs(columns[t])
        largest = size if size > largest else largest
    return largest


@step(fastmath=FUSED)
def _round_column(column: Any, unit: float, per_unit: float, shift: int, mask: int, words: Any, room: Any) -> None:
    """Add a coordinate's codes to the words of a tile, and to what is known of its points."""
    lost, totals, squares = room.lost, room.totals, room.code_squares
    for t in range(TILE):
        code = np.rint(column[t] * per_unit)
        rest = np.float64(column[t]) - np.float64(code) * unit
        lost[t] += rest * rest
        whole = np.int32(code)
        totals[t] += whole
        squares[t] += whole * whole
        words[t] |= np.int32((whole & mask) << shift)


@step()
def _fill_columns(points: Any, first: int, width: int, source: Any, signs: Any, origin: Any, columns: Any) -> None:
    """Points of a tile, transposed; where there is none, and beyond their coordinates, zeros."""
    d, values = points.shape[1], points.reshape(-1)
    for begin in range(0, TILE, _LINE):
        here, last = (first + begin) * d, width - begin if width - begin < _LINE else _LINE
        for p in range(source.shape[0]):
            column, j = columns[p * TILE + begin : p * TILE + begin + _LINE], source[p]
            if j < 0 or last <= 0:
                for t in range(_LINE):
                    column[t] = np.float32(0)
                continue
            middle, sign = origin[j], signs[p]
            if last == _LINE:
                for t in range(_LINE):
                    column[t] = (values[here + t * d + j] - middle) * sign
            else:
                for t in range(_LINE):
                    column[t] = (values[here + t * d + j] - middle) * sign if t < last else np.float32(0)


@step()
def _centre_columns(columns: Any, width: int, centre: Any) -> None:
    for p in range(centre.shape[0]):
        column = columns[p * TILE : (p + 1) * TILE]
        middle = _mean(column, width)
        centre[p] = middle
        for t in range(width):
            column[t] -= middle


@step()
def _step_of(columns: Any, most: float, squares: Any) -> float:
    """What 1 stands for: no code is larger than `most`, no norm of codes than 2^14."""
    largest, farthest = np.float64(_largest(columns)), 0.0
    for t in range(TILE):
        farthest = squares[t] if squares[t] > farthest else farthest
    # Rounding adds up to half a step to each coordinate.
    unit, by_norm = largest / most, np.sqrt(farthest) / (_LARGEST_NORM - np.sqrt(columns.shape[0] / TILE))
    return (by_norm if by_norm > unit else unit) * (1 + 2.0**-20) if largest > _NOTHING else 1.0


@kernel()
def _encode(
    begin: int, end: int, points: Any, start: Any, source: Any, signs: Any, together: int, origin: Any, centred: bool,
    bits: int, share: float, codes: Any, room: Any,
) -> None:  # fmt: skip
    each, columns = 32 // bits, room.columns
    most, mask, flip = np.float64((1 << (bits - 1)) - 1), np.int32((1 << bits) - 1), 0x80808080 if bits == 8 else 0
    for tile in range(begin, end):
        first, width = start[tile], start[tile + 1] - start[tile]
        words = codes.packed[tile]
        _fill_columns(points, first, width, source, signs, origin, columns)
        _turn(columns, together)
        for t in range(TILE):
            room.about[t] = room.squares[t] = room.lost[t] = 0.0
            room.totals[t] = room.code_squares[t] = np.int32(0)
        for p in range(source.shape[0]):
            _add_squares(columns[p * TILE : (p + 1) * TILE], room.about)
        if centred:
            _centre_columns(columns, width, codes.centre[tile])
        for p in range(source.shape[0]):
            _add_squares(columns[p * TILE : (p + 1) * TILE], room.squares)
        unit = _step_of(columns, most, room.squares)
        codes.steps[tile] = unit
        for p in range(source.shape[0]):
            w, shift = p // each, np.int32(bits * (p % each))
            column, its_words = columns[p * TILE : (p + 1) * TILE], words[w * TILE : (w + 1) * TILE]
            _round_column(column, unit, np.float32(1 / unit), shift, mask, its_words, room)
        largest = np.float32(0)
        for t in range(width):
            place = tile * TILE + t
            its_words = codes.raised[place]
            for w in range(its_words.shape[0]):
                its_words[w] = np.int32(np.uint32(np.int64(words[w * TILE + t]) ^ flip))
            codes.raise_of[place] = 128 * room.totals[t] if bits == 8 else 0
            codes.norms[place] = room.code_squares[t] * unit * unit
            moved = np.sqrt(room.about[t]) * (share + _ROUNDING) + np.sqrt(room.squares[t]) * _ROUNDING
            error = np.sqrt(room.lost[t]) + moved
            codes.errors[place] = np.float32(error * (1 + 2.0**-20))
            largest = codes.errors[place] if codes.errors[place] > largest else largest
        codes.largest_error[tile] = largest


def no_codes(n_tiles: int, p: int, bits: int) -> Codes:
    """Room for the codes of so many tiles of points of p coordinates."""
    m = coded_coordinates(p)
    words = m * bits // 32
    return Codes(
        packed=np.zeros((n_tiles, words * TILE), np.int32),
        raised=np.zeros((n_tiles * TILE, words), np.int32),
        raise_of=np.zeros(n_tiles * TILE, np.int32),
        norms=np.zeros(n_tiles * TILE),
        errors=np.zeros(n_tiles * TILE, np.float32),
        largest_error=np.zeros(n_tiles, np.float32),
        steps=np.zeros(n_tiles),
        centre=np.zeros((n_tiles, m), np.float32),
    )


@driver(_encode)
def encode(
    points: Any, start: Any, origin: Any, codes: Codes, *, first_tile: int, bits: int, share: float, centred: bool
) -> None:
    """Round points to whole numbers, tile by tile.

    Parameters
    ----------
    points : (n, p) float32
        In tile order.
    start : (tiles + 1,) int64
        Where each of their tiles begins.
    origin : (p,) float32
        Taken off the points.
    codes : Codes
        From `no_codes`; those of these tiles are written, once.
    first_tile : int
        Which of its tiles is the first of these.
    bits : int
        8 or 16.
    share : float
        How far a point may be from where exact arithmetic puts it, as a share of its norm.
    centred : bool
        Whether each tile's points are seen from their mean, or all from the origin.
    """
    n_tiles, (source, together) = len(start) - 1, _groups(points.shape[1])
    signs = np.where(np.random.default_rng(0).random(len(source)) < 0.5, -1, 1).astype(np.float32)
    tiles, places = slice(first_tile, first_tile + n_tiles), slice(first_tile * TILE, (first_tile + n_tiles) * TILE)
    of_tile = {"packed", "largest_error", "steps", "centre"}
    codes = Codes(**{name: array[tiles if name in of_tile else places] for name, array in codes._asdict().items()})
    points = read_only(points)

    def some(begin: int, end: int) -> None:
        room = _Room(np.empty(len(source) * TILE, np.float32), *np.empty((3, TILE)), *np.empty((2, TILE), np.int32))
        _encode(begin, end, points, start, source, signs, together, origin, centred, bits, share, codes, room)

    parallel_for(some, n_tiles)


def coded_coordinates(p: int) -> int:
    """How many coordinates are coded of p: so many that they can be rotated in groups."""
    return len(_groups(p)[0])


def _groups(p: int) -> tuple[Any, int]:
    """Which of p coordinates lies where before the rotation, -1 for none, and how many are rotated together.

    Each group has large and small ones of them.
    """
    padded = {together: -(-p // together) * together for together in _TURNED}
    together = next((each for each in _TURNED if padded[each] <= _PADDED * p), _TURNED[-1])
    groups = padded[together] // together
    source = np.arange(padded[together]).reshape(together, groups).T.ravel()
    return np.where(source < p, source, -1), together
