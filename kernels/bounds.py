"""The innermost loop of the search: four queries meet all points of a tile.

A product of two small matrices, written in LLVM's vectors so that its sums stay in registers: for each coordinate a few loads
of points and four of queries feed four times as many multiply-adds. What comes out is compared while it is still there.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .jit import intrinsic
from .target import has_feature
from .tree import TILE

__all__ = ["QUERIES", "WORDS", "bounds_of_four", "first_bit"]

QUERIES = 4
# 64-bit words that say of each point of a tile whether it is within a limit.
WORDS = TILE // 64

# Points at a time: as many as leave room in the registers for what else is needed.
_LANES = 64 if has_feature("avx512f") else 16


def _bounds_of_four(tile: Any, norms: Any, twice: Any, limits: Any, bounds: Any, masks: Any) -> None:
    queries = twice.reshape(QUERIES, -1)
    found = norms + queries @ tile.reshape(-1, TILE)
    bounds[:] = found.ravel()
    masks[:] = np.packbits(found <= limits[:, None], axis=1, bitorder="little").view(np.uint64).ravel()


@intrinsic(_bounds_of_four)
def bounds_of_four(typing_context, tile, norms, twice, limits, bounds, masks):  # type: ignore[no-untyped-def]
    """Add the inner products of four queries with the points of a tile to the points' norms, and compare.

    Parameters
    ----------
    tile : (m * TILE,) float32
        Coordinate j of point t at j * TILE + t.
    norms : (TILE,) float32
    twice : (4 * m,) float32
        One query after another.
    limits : (4,) float32
    bounds : (4 * TILE,) float32
        Written: norms + the inner products.
    masks : (4 * WORDS,) uint64
        Written: a bit for each point, set where its bound is at most the query's limit. NaN never is.
    """
    single, word = ir.FloatType(), ir.IntType(64)
    vector, bits = ir.VectorType(single, _LANES), ir.IntType(_LANES)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        arrays = [
            context.make_array(kind)(context, builder, value) for kind, value in zip(signature.args, arguments, strict=True)
        ]
        points, squares, queries, limit, out, mask = (array.data for array in arrays)
        m = builder.udiv(cgutils.unpack_tuple(builder, arrays[2].shape)[0], word(QUERIES))
        sums = [cgutils.alloca_once(builder, vector) for _ in range(QUERIES)]

        def at(pointer, index, kind):  # type: ignore[no-untyped-def]
            return builder.bitcast(builder.gep(pointer, [index]), kind.as_pointer())

        def spread(value):  # type: ignore[no-untyped-def]
            lane = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
            return builder.shuffle_vector(lane, lane, ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES))

        for begin in range(0, TILE, _LANES):
            start = builder.load(at(squares, word(begin), vector), align=4)
            for total in sums:
                builder.store(start, total)
            with cgutils.for_range(builder, m) as loop:
                here = builder.add(builder.mul(loop.index, word(TILE)), word(begin))
                some = builder.load(at(points, here, vector), align=4)
                for i, total in enumerate(sums):
                    query = builder.load(builder.gep(queries, [builder.add(builder.mul(m, word(i)), loop.index)]))
                    product = builder.fmul(spread(query), some, flags=["contract"])
                    builder.store(builder.fadd(builder.load(total), product, flags=["contract"]), total)
            for i, total in enumerate(sums):
                bound = builder.load(total)
                builder.store(bound, at(out, word(i * TILE + begin), vector), align=4)
                near = builder.fcmp_ordered("<=", bound, spread(builder.load(builder.gep(limit, [word(i)]))))
                place = builder.gep(builder.bitcast(mask, bits.as_pointer()), [word((i * TILE + begin) // _LANES)])
                builder.store(builder.bitcast(near, bits), place)
        return context.get_dummy_value()

    return types.void(tile, norms, twice, limits, bounds, masks), generate


@intrinsic(lambda word: (int(word) & -int(word)).bit_length() - 1)
def first_bit(typing_context, word):  # type: ignore[no-untyped-def]
    """The number of the lowest bit that is set in a uint64 that is not 0."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.int64(types.uint64), generate
