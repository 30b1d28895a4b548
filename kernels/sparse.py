"""Products of many weights with points most of whose features have a common value, as pictures' background pixels have.

Points are X = b + D, b the common value of each feature and D what differs from it: few entries. A product with b is the same
for all points. Of D a point's entries pass one after the other, each adding a row of weights, all networks' units side by side,
to sums that stay in registers. Both products give the same bits for any number of threads: a sum belongs to one thread.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import kernel, unowned

__all__ = ["BLOCK", "LINE", "compress", "count_entries", "gradient", "times", "transposed"]

# Points that are transposed together: a line of the cache in single precision.
TILE = 16
# Points whose gradients stay close while features pass by; of 16, 32, 64 and 128 the fastest.
BLOCK = 64
# Bytes of a cache line.
LINE = 64
# How many cache lines of a sum are held in registers at once: as many as there are, then what is left.
_LINES = (4, 1)


@kernel()
def count_entries(inputs: Any, common: Any) -> Any:
    """How many features of each point differ from the common value; inputs (d, n), common (d,)."""
    counts = np.zeros(inputs.shape[1], np.int64)
    for j in range(inputs.shape[0]):
        _count_row(inputs[j], common[j], counts)
    return counts


@kernel()
def _count_row(row: Any, common: Any, counts: Any) -> None:
    for i in range(row.shape[0]):
        counts[i] += row[i] != common


@kernel()
def compress(inputs: Any, common: Any, starts: Any, features: Any, values: Any) -> None:
    """Write the entries of each point, by ascending feature: those of point i at starts[i]..starts[i + 1]."""
    ends = starts.copy()
    for j in range(inputs.shape[0]):
        row, background = inputs[j], common[j]
        for i in range(row.shape[0]):
            if row[i] != background:
                features[ends[i]] = j
                values[ends[i]] = row[i] - background
                ends[i] += 1


@kernel(parallel=True)
def transposed(starts: Any, features: Any, values: Any, n_features: int) -> Any:
    """The same entries, by blocks of BLOCK points and in a block by feature.

    Returns
    -------
    starts (blocks, d + 1) int64, points (entries,) int32 counted within the block, values (entries,)
    """
    n = starts.shape[0] - 1
    n_blocks = (n + BLOCK - 1) // BLOCK
    block_starts = np.zeros((n_blocks, n_features + 1), np.int64)
    points, ordered = np.empty(len(values), np.int32), np.empty_like(values)
    for block in prange(n_blocks):
        first, last = block * BLOCK, min((block + 1) * BLOCK, n)
        own = block_starts[block]
        for e in range(starts[first], starts[last]):
            own[features[e] + 1] += 1
        own[0] = starts[first]
        for j in range(n_features):
            own[j + 1] += own[j]
        ends = own.copy()
        for i in range(first, last):
            for e in range(starts[i], starts[i + 1]):
                place = ends[features[e]]
                points[place] = i - first
                ordered[place] = values[e]
                ends[features[e]] += 1
    return block_starts, points, ordered


@intrinsic
def _add_rows(typing_context, total, flat, rows, values, start, stop):  # type: ignore[no-untyped-def]
    """Add to the total the rows rows[e] (int32) of a table as wide, flat, times values[e], for all entries start..stop.

    The width is a multiple of what a cache line holds. Written in LLVM's vectors, so that a part of the total stays in
    registers while all entries pass.
    """
    number, word = total.dtype, ir.IntType(64)
    kind = ir.FloatType() if number.bitwidth == 32 else ir.DoubleType()
    line = LINE * 8 // number.bitwidth

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        arrays = [
            context.make_array(of)(context, builder, value) for of, value in zip(signature.args[:4], arguments[:4], strict=True)
        ]
        sums, table, numbers, factors = (array.data for array in arrays)
        first, end = arguments[4], arguments[5]
        width = cgutils.unpack_tuple(builder, arrays[0].shape)[0]

        vector = ir.VectorType(kind, line)

        def at(pointer, index):  # type: ignore[no-untyped-def]
            return builder.bitcast(builder.gep(pointer, [index]), vector.as_pointer())

        def panel(n_lines, column):  # type: ignore[no-untyped-def]
            columns = [builder.add(column, word(i * line)) for i in range(n_lines)]
            held = [cgutils.alloca_once(builder, vector) for _ in columns]
            for total, place in zip(held, columns, strict=True):
                builder.store(builder.load(at(sums, place), align=number.bitwidth // 8), total)
            with cgutils.for_range_slice(builder, first, end, word(1)) as (e, _):
                row = builder.zext(builder.load(builder.gep(numbers, [e])), word)
                row = builder.add(builder.mul(row, width), column)
                factor = builder.load(builder.gep(factors, [e]))
                lane = builder.insert_element(ir.Constant(vector, ir.Undefined), factor, ir.IntType(32)(0))
                spread = builder.shuffle_vector(lane, lane, ir.Constant(ir.VectorType(ir.IntType(32), line), [0] * line))
                for i, total in enumerate(held):
                    some = builder.load(at(table, builder.add(row, word(i * line))), align=number.bitwidth // 8)
                    product = builder.fmul(spread, some, flags=["contract"])
                    builder.store(builder.fadd(builder.load(total), product, flags=["contract"]), total)
            for total, place in zip(held, columns, strict=True):
                builder.store(builder.load(total), at(sums, place), align=number.bitwidth // 8)

        done = word(0)
        for n_lines in _LINES:
            panels = builder.udiv(builder.sub(width, done), word(n_lines * line))
            with cgutils.for_range(builder, panels) as loop:
                panel(n_lines, builder.add(done, builder.mul(loop.index, word(n_lines * line))))
            done = builder.add(done, builder.mul(panels, word(n_lines * line)))
        return context.get_dummy_value()

    return types.void(total, flat, rows, values, start, stop), generate


@kernel(parallel=True)
def times(weights: Any, base: Any, starts: Any, features: Any, values: Any, result: Any) -> None:
    """Write base + D weights for all points, transposed.

    Parameters
    ----------
    weights : (d * W,) float32 or float64
        Row after row, W being what `base` has.
    base : (W,)
        What a point without entries gets; W is a multiple of what a cache line holds.
    starts : (n + 1,) int64
        The entries of point i are starts[i]..starts[i + 1].
    features : (entries,) int32
    values : (entries,)
    result : (w, n), C-contiguous, w <= W
        Written here.
    """
    width, n = result.shape
    for tile in prange((n + TILE - 1) // TILE):
        first, last = tile * TILE, min((tile + 1) * TILE, n)
        rows = np.empty((last - first, base.shape[0]), weights.dtype)
        flat, own, entries = unowned(weights), unowned(features), unowned(values)
        for i in range(first, last):
            row = rows[i - first]
            row[:] = base
            _add_rows(row, flat, own, entries, starts[i], starts[i + 1])
        for k in range(width):
            line = result[k]
            for i in range(first, last):
                line[i] = rows[i - first, k]


@kernel(parallel=True)
def gradient(gradients: Any, starts: Any, points: Any, values: Any, turned: Any, result: Any, n_parts: int) -> None:
    """Sum D times gradients over all points.

    Parameters
    ----------
    gradients : (w, n) float32 or float64, C-contiguous
    starts : (blocks, d + 1) int64
        The entries of feature j in a block are starts[block, j]..starts[block, j + 1].
    points : (entries,) int32
        Counted within the block.
    values : (entries,)
    turned : (blocks * BLOCK * W,)
        Room for the transposed gradients.
    result : (d, W)
        Written here; W is a multiple of what a cache line holds.
    n_parts : int
        Into how many ranges the features are cut, each for one thread.
    """
    width, n = gradients.shape
    n_blocks, n_features, padded = starts.shape[0], starts.shape[1] - 1, result.shape[1]
    for block in prange(n_blocks):
        first, last = block * BLOCK, min((block + 1) * BLOCK, n)
        for k in range(width):
            line = gradients[k]
            for i in range(first, last):
                turned[i * padded + k] = line[i]
    for part in prange(n_parts):
        low, high = part * n_features // n_parts, (part + 1) * n_features // n_parts
        which, entries, totals, flats = unowned(points), unowned(values), unowned(result), unowned(turned)
        result[low:high] = 0
        for block in range(n_blocks):
            flat = flats[block * BLOCK * padded : (block + 1) * BLOCK * padded]
            own = unowned(starts[block])
            for j in range(low, high):
                if own[j] < own[j + 1]:
                    _add_rows(totals[j], flat, which, entries, own[j], own[j + 1])
