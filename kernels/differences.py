"""The innermost loop of a scan for few queries: rows as they lie in memory meet queries.

Squared distances from differences, in LLVM's vectors: a few rows and queries at a time keep their sums in registers, so that a
row is loaded once for all of these queries. The sums are added across and compared while they are still there.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .jit import intrinsic
from .target import has_feature
from .vectors import ask_for_line, spread, vector_at

__all__ = ["HALVES", "ROWS", "SEVERAL", "near_four", "near_one"]

# Rows that are met together: the reduction of their sums is made for four.
ROWS = 4
# Queries that are met together, where there are several.
SEVERAL = 4
# Vectors of a row that are summed apart for one query, whose rows are read one after another.
UNROLLED = 8
# Whether rows may be words of half precision.
HALVES = has_feature("f16c")
# Bytes of a vector.
_BYTES = 64 if has_feature("avx512f") else 32 if has_feature("avx") else 16


def _near(rows: Any, first: int, queries: Any, query: int, limits: Any, doubt: float, ahead: int, together: int) -> int:
    rows = rows.view(np.float16).astype(np.float32) if rows.dtype == np.uint16 else rows
    differences = rows[first : first + ROWS, None] - queries[None, query : query + together, : rows.shape[1]]
    with np.errstate(over="ignore", invalid="ignore"):
        sums = (differences * differences).sum(2, dtype=rows.dtype).ravel()
    flags = np.concatenate([sums <= limits[: len(sums)], ~(sums <= doubt)])
    return sum(1 << int(bit) for bit in np.flatnonzero(flags))


def _near_one(rows: Any, first: int, queries: Any, query: int, limits: Any, doubt: float, ahead: int) -> int:
    return _near(rows, first, queries, query, limits, doubt, ahead, 1)


def _near_four(rows: Any, first: int, queries: Any, query: int, limits: Any, doubt: float, ahead: int) -> int:
    return _near(rows, first, queries, query, limits, doubt, ahead, SEVERAL)


@intrinsic(_near_one)
def near_one(typing_context, rows, first, queries, query, limits, doubt, ahead):  # type: ignore[no-untyped-def]
    """`near_four` for one query: four bits, and four."""
    return types.int64(rows, first, queries, query, limits, doubt, ahead), _generate(1)


@intrinsic(_near_four)
def near_four(typing_context, rows, first, queries, query, limits, doubt, ahead):  # type: ignore[no-untyped-def]
    """Which of four rows may lie within the limits of four queries.

    Parameters
    ----------
    rows : (n, d), queries : (q, d or more)
        float32 or float64, both the same, C-contiguous. Squared distances are taken in that precision, in any order. Where
        queries are float32, rows may be uint16, words of half precision, if `HALVES`.
    first, query : int
        The first of the rows, and of the queries.
    limits : (16,) of the queries' type
        Of each pair, row by row, what its sum may be.
    doubt : float
        Sums beyond that are marked.
    ahead : int
        So many bytes from these rows lie those that are fetched meanwhile, in the order of memory; a multiple of four rows.

    Returns
    -------
    int
        16 bits, set where a sum is at most its limit, and 16 set where it is beyond `doubt`, or NaN.
    """
    return types.int64(rows, first, queries, query, limits, doubt, ahead), _generate(SEVERAL)


def _generate(together: int) -> Any:
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kinds = signature.args
        element = ir.FloatType() if kinds[2].dtype == types.float32 else ir.DoubleType()
        size = 4 if kinds[2].dtype == types.float32 else 8
        halves = kinds[0].dtype == types.uint16
        row_size = 2 if halves else size
        lanes, word = max(ROWS, _BYTES // size), ir.IntType(64)
        vector, pairs = ir.VectorType(element, lanes), ROWS * together
        rows, queries, limits = (context.make_array(kinds[i])(context, builder, arguments[i]) for i in (0, 2, 4))
        d = cgutils.unpack_tuple(builder, rows.shape)[1]
        starts = []
        for array, at, how_many in ((rows, 1, ROWS), (queries, 3, together)):
            width = cgutils.unpack_tuple(builder, array.shape)[1]
            starts.append(
                [builder.gep(array.data, [builder.mul(builder.add(arguments[at], word(i)), width)]) for i in range(how_many)]
            )
        zeros = ir.Constant(vector, [0.0] * lanes)
        whole, rest = builder.udiv(d, word(lanes)), builder.urem(d, word(lanes))
        begin = builder.mul(whole, word(lanes))
        numbers = ir.Constant(ir.VectorType(ir.IntType(32), lanes), list(range(lanes)))
        mask = builder.icmp_unsigned("<", numbers, spread(builder, builder.trunc(rest, ir.IntType(32)), lanes))

        words = ir.VectorType(ir.IntType(16), lanes)

        def widened(loaded):  # type: ignore[no-untyped-def]
            return builder.fpext(builder.bitcast(loaded, ir.VectorType(ir.HalfType(), lanes)), vector)

        def load(start, at):  # type: ignore[no-untyped-def]
            return builder.load(vector_at(builder, vector, start, at), align=size)

        def load_rest(start, at):  # type: ignore[no-untyped-def]
            return _load_some(builder, builder.gep(start, [at]), vector, mask, size)

        def load_row(start, at):  # type: ignore[no-untyped-def]
            if not halves:
                return load(start, at)
            return widened(builder.load(builder.bitcast(builder.gep(start, [at]), words.as_pointer()), align=2))

        def load_rest_of_row(start, at):  # type: ignore[no-untyped-def]
            if not halves:
                return load_rest(start, at)
            return widened(_load_some(builder, builder.gep(start, [at]), words, mask, 2))

        def add(total, point, query):  # type: ignore[no-untyped-def]
            difference = builder.fsub(point, query)
            square = builder.fmul(difference, difference, flags=["contract"])
            builder.store(builder.fadd(builder.load(total), square, flags=["contract"]), total)

        def sum_of(how_many):  # type: ignore[no-untyped-def]
            sums = [cgutils.alloca_once(builder, vector) for _ in range(how_many)]
            for total in sums:
                builder.store(zeros, total)
            return sums

        if together == 1:
            loaded = []
            for start in starts[0]:
                sums = sum_of(UNROLLED)
                several = builder.udiv(whole, word(UNROLLED))
                with cgutils.for_range(builder, several) as loop:
                    for u, total in enumerate(sums):
                        at = builder.add(builder.mul(loop.index, word(UNROLLED * lanes)), word(u * lanes))
                        add(total, load_row(start, at), load(starts[1][0], at))
                done = builder.mul(several, word(UNROLLED))
                with cgutils.for_range(builder, builder.sub(whole, done)) as loop:
                    at = builder.mul(builder.add(done, loop.index), word(lanes))
                    add(sums[0], load_row(start, at), load(starts[1][0], at))
                with builder.if_then(builder.icmp_unsigned("!=", rest, word(0))):
                    add(sums[1], load_rest_of_row(start, begin), load_rest(starts[1][0], begin))
                total = [builder.load(each) for each in sums]
                while len(total) > 1:
                    total = [builder.fadd(*total[i : i + 2]) for i in range(0, len(total), 2)]
                loaded += total
        else:
            sums = sum_of(pairs)

            def add_all(load_row, load, at):  # type: ignore[no-untyped-def]
                points = [load_row(start, at) for start in starts[0]]
                for j, start in enumerate(starts[1]):
                    query = load(start, at)
                    for i, point in enumerate(points):
                        add(sums[i * together + j], point, query)

            next_rows = builder.gep(builder.bitcast(starts[0][0], ir.IntType(8).as_pointer()), [arguments[6]])
            with cgutils.for_range(builder, whole) as loop:
                add_all(load_row, load, builder.mul(loop.index, word(lanes)))
                for line in range(0, ROWS * lanes * row_size, 64):
                    offset = builder.add(builder.mul(loop.index, word(ROWS * lanes * row_size)), word(line))
                    ask_for_line(builder, builder.gep(next_rows, [offset]), 2)  # nearer, they would displace the others
            with builder.if_then(builder.icmp_unsigned("!=", rest, word(0))):
                add_all(load_rest_of_row, load_rest, begin)
            loaded = [builder.load(total) for total in sums]
        fours = [_across(builder, loaded[i : i + 4], lanes) for i in range(0, pairs, 4)]
        while len(fours) > 1:
            fours = [_joined(builder, *fours[i : i + 2]) for i in range(0, len(fours), 2)]
        found = fours[0]
        limit = builder.load(builder.bitcast(limits.data, found.type.as_pointer()), align=size)
        doubt = builder.fptrunc(arguments[5], element) if size == 4 else arguments[5]
        near = builder.fcmp_ordered("<=", found, limit)
        strange = builder.fcmp_unordered(">", found, spread(builder, doubt, pairs))
        bits = [builder.zext(builder.bitcast(flags, ir.IntType(pairs)), word) for flags in (near, strange)]
        return builder.or_(bits[0], builder.shl(bits[1], word(pairs)))

    return generate


def _shuffled(builder, a, b, order):  # type: ignore[no-untyped-def]
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order))


def _joined(builder, a, b):  # type: ignore[no-untyped-def]
    return _shuffled(builder, a, b, list(range(2 * a.type.count)))


def _load_some(builder, pointer, vector, mask, size):  # type: ignore[no-untyped-def]
    """The lanes of a vector that a mask names, zeros for the others."""
    where = builder.bitcast(pointer, vector.as_pointer())
    whole = isinstance(vector.element, ir.IntType)
    zeros = ir.Constant(vector, [0 if whole else 0.0] * vector.count)
    kind = ir.FunctionType(vector, [where.type, ir.IntType(32), mask.type, vector])
    name = f"llvm.masked.load.v{vector.count}{'i' if whole else 'f'}{8 * size}.p0"
    load = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(load, [where, ir.IntType(32)(size), mask, zeros])


def _across(builder, sums, lanes):  # type: ignore[no-untyped-def]
    """The sums over the lanes of four vectors, as a vector of four."""

    def paired(a, b, each):  # type: ignore[no-untyped-def]
        """Lanes come in groups of `each` sums; groups of both in turn, the first half of them added to the second."""
        halves = []
        for begin in (0, lanes // 2):
            order = []
            for group in range(begin, begin + lanes // 2, each):
                order += [*range(group, group + each), *range(lanes + group, lanes + group + each)]
            halves.append(_shuffled(builder, a, b, order))
        return builder.fadd(*halves)

    total = paired(paired(sums[0], sums[1], 1), paired(sums[2], sums[3], 1), 2)
    while (count := total.type.count) > 4:
        halves = [_shuffled(builder, total, total, list(range(begin, begin + count // 2))) for begin in (0, count // 2)]
        total = builder.fadd(*halves)
    return total
