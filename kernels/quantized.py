"""Points in whole numbers: how they are rounded, and the products of four of them with half a tile of others.

A point of a tile is seen from the tile's centre and rounded to multiples of the tile's step: codes of 8 bits, or of 16. Inner
products of codes are exact, and processors take four times as many of 8 bits at a time as of single precision, twice as many
of 16. What rounding has cut off is known by its norm e, so that from codes a^, b^

    |a - b|  >=  |a^ - b^| - e_a - e_b

A word holds the codes of one point for four features, or for two. Where codes have 8 bits, the instruction takes one factor
without a sign: the queries' codes are raised by 128, and what that adds to a product is known beforehand.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .arrays import read_only
from .jit import FUSED, SUMS, driver, intrinsic, kernel, step
from .sharing import parallel_for
from .target import has_feature
from .tree import TILE

__all__ = [
    "BITS",
    "HALF",
    "LARGEST",
    "Codes",
    "coded_coordinates",
    "encode",
    "first_bit",
    "multiply_four",
    "no_codes",
    "wanted_of_four",
]

# Points of a tile that are multiplied at a time: what they take of a block of features stays in the first cache.
HALF = 64
# No inner product of codes, and nothing that is added to it, is larger.
LARGEST = 2**28
# The norm of a point's codes, whose square that is.
_LARGEST_NORM = 2.0**14
# 8-bit codes are used only where the processor multiplies them in one instruction.
_DOTS_OF_BYTES = has_feature("avx512vnni") and has_feature("avx512bw")
BITS = (8, 16) if _DOTS_OF_BYTES else (16,)
# 32-bit numbers in a vector, and vectors of points at a time, as registers allow.
_LANES, _VECTORS = (16, 4) if has_feature("avx512bw") else (8, 2)
# Coordinates that are rotated together: the largest group that pads the coordinates by at most 15 %, else the smallest.
_TURNED, _PADDED = (64, 32, 16), 1.15
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
    for i in range(columns.shape[0]):
        columns[i] = np.float32(0)
    for t in range(width):
        row = points[first + t]
        for p in range(source.shape[0]):
            j = source[p]
            if j >= 0:
                columns[p * TILE + t] = (row[j] - origin[j]) * signs[p]


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


_INT, _WORD = ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_INT, _LANES)


def _multiply_four(
    points: Any, first: Any, queries: Any, at: Any, stride: Any, count: Any, begin: Any, where: Any, apart: Any, sums: Any,
    place: Any, *, of_bytes: bool,
) -> None:  # fmt: skip
    kind = np.int8 if of_bytes else np.int16
    theirs = np.stack([points[first + TILE * w : first + TILE * w + HALF] for w in range(count)]).view(kind)
    theirs = theirs.reshape(count, HALF, -1).astype(np.int64)
    for i in range(4):
        mine = queries[at + i * stride : at + i * stride + count].view(np.uint8 if of_bytes else kind).astype(np.int64)
        products = np.einsum("wj,wtj->t", mine.reshape(count, -1), theirs)
        before = begin[where + i * apart : where + i * apart + HALF]
        sums[place + i * HALF : place + (i + 1) * HALF] = before + products.astype(np.int32)


def _spread(builder: Any, value: Any) -> Any:
    lane = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, _INT(0))
    return builder.shuffle_vector(lane, lane, ir.Constant(_VECTOR, [0] * _LANES))


def _at(builder: Any, pointer: Any, index: Any) -> Any:
    return builder.bitcast(builder.gep(pointer, [index]), _VECTOR.as_pointer())


def _data(context: Any, builder: Any, signature: Any, arguments: Any, *places: int) -> list[Any]:
    return [context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in places]


def _call(builder: Any, name: str, kind: Any, *arguments: Any) -> Any:
    """One of LLVM's intrinsics, of vectors of a kind."""
    function = ir.FunctionType(_VECTOR, [kind] * len(arguments))
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), list(arguments))


def _add_products(builder: Any, total: Any, query: Any, points: Any, of_bytes: bool) -> Any:
    """total + the products of the codes in two words, lane by lane."""
    if of_bytes:
        return _call(builder, "llvm.x86.avx512.vpdpbusd.512", _VECTOR, total, query, points)
    if has_feature("avx512vnni") and has_feature("avx512bw"):
        return _call(builder, "llvm.x86.avx512.vpdpwssd.512", _VECTOR, total, query, points)
    halves = ir.VectorType(ir.IntType(16), 2 * _LANES)
    a, b = builder.bitcast(query, halves), builder.bitcast(points, halves)
    if has_feature("avx2"):
        name = "llvm.x86.avx512.pmaddw.d.512" if _LANES == 16 else "llvm.x86.avx2.pmadd.wd"
        return builder.add(total, _call(builder, name, halves, a, b))
    wide = ir.VectorType(_INT, 2 * _LANES)
    products = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
    for parity in (0, 1):
        places = ir.Constant(_VECTOR, list(range(parity, 2 * _LANES, 2)))
        total = builder.add(total, builder.shuffle_vector(products, ir.Constant(wide, ir.Undefined), places))
    return total


def _lower_multiply_four(of_bytes: bool) -> Any:
    def typed(  # type: ignore[no-untyped-def]
        typing_context, points, first, queries, at, stride, count, begin, where, apart, sums, place
    ):
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            point, query, before, total = _data(context, builder, signature, arguments, 0, 2, 6, 9)
            _, first, _, at, stride, count, _, where, apart, _, place = arguments
            before, total = builder.gep(before, [where]), builder.gep(total, [place])
            for part in range(0, HALF, _LANES * _VECTORS):
                totals = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(_VECTORS)] for _ in range(4)]
                for i, v in np.ndindex(4, _VECTORS):
                    where = builder.add(builder.mul(apart, _WORD(i)), _WORD(part + _LANES * v))
                    builder.store(builder.load(_at(builder, before, where), align=4), totals[i][v])
                with cgutils.for_range(builder, count) as loop:
                    here = builder.add(builder.add(first, builder.mul(loop.index, _WORD(TILE))), _WORD(part))
                    some = [
                        builder.load(_at(builder, point, builder.add(here, _WORD(_LANES * v))), align=4)
                        for v in range(_VECTORS)
                    ]
                    for i in range(4):
                        place = builder.add(at, builder.add(builder.mul(stride, _WORD(i)), loop.index))
                        mine = _spread(builder, builder.load(builder.gep(query, [place])))
                        for v in range(_VECTORS):
                            added = _add_products(builder, builder.load(totals[i][v]), mine, some[v], of_bytes)
                            builder.store(added, totals[i][v])
                for i, v in np.ndindex(4, _VECTORS):
                    here = _at(builder, total, _WORD(i * HALF + part + _LANES * v))
                    builder.store(builder.load(totals[i][v]), here, align=4)
            return context.get_dummy_value()

        return types.void(points, first, queries, at, stride, count, begin, where, apart, sums, place), generate

    return typed


_multiply_four_halves = intrinsic(partial(_multiply_four, of_bytes=False))(_lower_multiply_four(False))
_multiply_four_bytes = intrinsic(partial(_multiply_four, of_bytes=True))(_lower_multiply_four(_DOTS_OF_BYTES))


@step(counted=False)
def multiply_four(
    bits: int, points: Any, first: int, queries: Any, at: int, stride: int, count: int, begin: Any, where: int, apart: int,
    sums: Any, place: int,
) -> None:  # fmt: skip
    """Inner products of the codes of four queries with those of half a tile, on top of what there is.

    Parameters
    ----------
    bits : int
        8 or 16.
    points : (words * TILE,) int32
        From `Codes.packed`; the words that count begin at `first`, for a block of features and half of the points.
    queries : int32
        From `Codes.raised`, flat: the words of query i begin at at + i * stride.
    count : int
        Words of each.
    begin : int32
        What products are added to: for query i HALF numbers from where + i * apart on.
    sums : int32
        Written: 4 * HALF from `place` on.
    """
    if bits == 8:
        _multiply_four_bytes(points, first, queries, at, stride, count, begin, where, apart, sums, place)
    else:
        _multiply_four_halves(points, first, queries, at, stride, count, begin, where, apart, sums, place)


def _wanted_of_four(sums: Any, place: Any, limits: Any, shifts: Any, first: Any, others: Any, at: Any, masks: Any) -> None:
    totals, four = sums[place : place + 4 * HALF].reshape(4, HALF), slice(first, first + 4)
    wanted = (totals >= limits[four, None]) | (totals >= shifts[four, None] + others[at : at + HALF])
    masks[:] = np.packbits(wanted, axis=1, bitorder="little").view(np.uint64).ravel()


@intrinsic(_wanted_of_four)
def wanted_of_four(typing_context, sums, place, limits, shifts, first, others, at, masks):  # type: ignore[no-untyped-def]
    """Compare the sums of four queries.

    Parameters
    ----------
    sums : int32
        4 * HALF from `place` on.
    limits, shifts : int32
        Of the queries: four from `first` on.
    others : int32
        Of the points: HALF from `at` on.
    masks : (4,) uint64
        Written: a bit for each point, set where sum >= limit or sum >= shift + other.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        total, limit, shift, other, mask = _data(context, builder, signature, arguments, 0, 2, 3, 5, 7)
        _, place, _, _, first, _, at, _ = arguments
        total, other = builder.gep(total, [place]), builder.gep(other, [at])
        limit, shift = builder.gep(limit, [first]), builder.gep(shift, [first])
        bits = ir.IntType(_LANES)
        for i in range(4):
            its_limit = _spread(builder, builder.load(builder.gep(limit, [_WORD(i)])))
            its_shift = _spread(builder, builder.load(builder.gep(shift, [_WORD(i)])))
            out = builder.bitcast(builder.gep(mask, [_WORD(i)]), bits.as_pointer())
            for number, begin in enumerate(range(0, HALF, _LANES)):
                some = builder.load(_at(builder, total, _WORD(i * HALF + begin)), align=4)
                theirs = builder.load(_at(builder, other, _WORD(begin)), align=4)
                wanted = builder.or_(
                    builder.icmp_signed(">=", some, its_limit),
                    builder.icmp_signed(">=", some, builder.add(its_shift, theirs)),
                )
                builder.store(builder.bitcast(wanted, bits), builder.gep(out, [_WORD(number)]))
        return context.get_dummy_value()

    return types.void(sums, place, limits, shifts, first, others, at, masks), generate


@intrinsic(lambda word: (int(word) & -int(word)).bit_length() - 1)
def first_bit(typing_context, word):  # type: ignore[no-untyped-def]
    """The number of the lowest bit that is set in a uint64 that is not 0."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.int64(types.uint64), generate
