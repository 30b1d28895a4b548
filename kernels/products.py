"""Inner products of codes, four queries with half a tile at a time, and which of them reach a limit.

Where codes have 8 bits, the instruction takes one factor without a sign: the queries' codes are raised by 128, and what that
adds to a product is known beforehand.
"""

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .jit import intrinsic, step
from .target import has_feature
from .tree import TILE
from .vectors import spread, vector_at

__all__ = ["HALF", "VNNI", "compare_four", "multiply_four"]

# Points of a tile that are multiplied at a time: what they take of a block of features stays in the first cache.
HALF = 64
# Whether the processor multiplies four pairs of 8-bit numbers, or two of 16 bits, and adds them up in one instruction.
VNNI = has_feature("avx512vnni") and has_feature("avx512bw")
# 32-bit numbers in a vector, and vectors of points at a time: sums of four queries with so many fill half of the registers.
_LANES, _VECTORS = (16, 4) if has_feature("avx512bw") else (8, 2)
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
    if VNNI:
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
                    builder.store(builder.load(vector_at(builder, _VECTOR, before, where), align=4), totals[i][v])
                with cgutils.for_range(builder, count) as loop:
                    here = builder.add(builder.add(first, builder.mul(loop.index, _WORD(TILE))), _WORD(part))
                    some = [
                        builder.load(vector_at(builder, _VECTOR, point, builder.add(here, _WORD(_LANES * v))), align=4)
                        for v in range(_VECTORS)
                    ]
                    for i in range(4):
                        place = builder.add(at, builder.add(builder.mul(stride, _WORD(i)), loop.index))
                        mine = spread(builder, builder.load(builder.gep(query, [place])), _LANES)
                        for v in range(_VECTORS):
                            added = _add_products(builder, builder.load(totals[i][v]), mine, some[v], of_bytes)
                            builder.store(added, totals[i][v])
                for i, v in np.ndindex(4, _VECTORS):
                    here = vector_at(builder, _VECTOR, total, _WORD(i * HALF + part + _LANES * v))
                    builder.store(builder.load(totals[i][v]), here, align=4)
            return context.get_dummy_value()

        return types.void(points, first, queries, at, stride, count, begin, where, apart, sums, place), generate

    return typed


_multiply_four_halves = intrinsic(partial(_multiply_four, of_bytes=False))(_lower_multiply_four(False))
_multiply_four_bytes = intrinsic(partial(_multiply_four, of_bytes=True))(_lower_multiply_four(VNNI))


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


def _compare_four(
    sums: Any, place: Any, limits: Any, shifts: Any, first: Any, other_limits: Any, at: Any, masks: Any
) -> None:  # fmt: skip
    totals, four = sums[place : place + 4 * HALF].reshape(4, HALF), slice(first, first + 4)
    reached = (totals >= limits[four, None]) | (totals >= shifts[four, None] + other_limits[at : at + HALF])
    masks[:] = np.packbits(reached, axis=1, bitorder="little").view(np.uint64).ravel()


@intrinsic(_compare_four)
def compare_four(typing_context, sums, place, limits, shifts, first, other_limits, at, masks):  # type: ignore[no-untyped-def]
    """Which sums of four queries reach a limit.

    Parameters
    ----------
    sums : int32
        4 * HALF from `place` on.
    limits, shifts : int32
        Of the queries: four from `first` on.
    other_limits : int32
        Of the points: HALF from `at` on.
    masks : (4,) uint64
        Written: a bit for each point, set where sum >= limit or sum >= shift + other limit.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        total, limit, shift, other, mask = _data(context, builder, signature, arguments, 0, 2, 3, 5, 7)
        _, place, _, _, first, _, at, _ = arguments
        total, other = builder.gep(total, [place]), builder.gep(other, [at])
        limit, shift = builder.gep(limit, [first]), builder.gep(shift, [first])
        bits = ir.IntType(_LANES)
        for i in range(4):
            its_limit = spread(builder, builder.load(builder.gep(limit, [_WORD(i)])), _LANES)
            its_shift = spread(builder, builder.load(builder.gep(shift, [_WORD(i)])), _LANES)
            out = builder.bitcast(builder.gep(mask, [_WORD(i)]), bits.as_pointer())
            for number, begin in enumerate(range(0, HALF, _LANES)):
                some = builder.load(vector_at(builder, _VECTOR, total, _WORD(i * HALF + begin)), align=4)
                theirs = builder.load(vector_at(builder, _VECTOR, other, _WORD(begin)), align=4)
                reached = builder.or_(
                    builder.icmp_signed(">=", some, its_limit),
                    builder.icmp_signed(">=", some, builder.add(its_shift, theirs)),
                )
                builder.store(builder.bitcast(reached, bits), builder.gep(out, [_WORD(number)]))
        return context.get_dummy_value()

    return types.void(sums, place, limits, shifts, first, other_limits, at, masks), generate
