"""Products of many weights with points most of whose features have a common value, as pictures' background pixels have.

Points are X = b + D, b the common value of each feature and D what differs from it: few entries. A product with b is the same
for all points. Of D a point's entries pass one after the other, each adding a row of weights, networks' units side by side, to
sums that stay in registers. Rows are read by panels so narrow that what is read again is in the first cache: then two loads for
each line of a row are the bound. Both products give the same bits for any number of threads: a sum belongs to one thread.
"""

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .arrays import copy_row
from .jit import driver, intrinsic, kernel, step, unowned
from .sharing import parallel_for
from .vectors import spread, vector_at

__all__ = [
    "BLOCK", "LINE", "VECTOR", "add_one_vector", "add_three_vectors",
    "compress", "count_entries", "gradient", "times", "transposed",
]  # fmt: skip

# Points that share a panel of weights before the next comes; of 16, 32, 64 and 128 the fastest, with 128.
TILE = 64
# Points whose gradients stay close while features pass by; of 32, 64, 128 and 256 the fastest.
BLOCK = 128
# Points that a thread compresses at a time.
_PART = 512
# Bytes of a cache line, and of a vector that is half one.
LINE, VECTOR = 64, 32
# Vectors of a row that are added at once to a feature's gradient: of 1 to 8 the fastest.
_WIDE = 5


@kernel()
def _count_entries(begin: int, end: int, inputs: Any, common: Any, counts: Any) -> None:
    n = inputs.shape[1]
    rows, found = unowned(inputs), unowned(counts)
    for part in range(begin, end):
        first, last = part * _PART, (part + 1) * _PART
        last = last if last < n else n
        for j in range(inputs.shape[0]):
            _count_row(rows[j][first:last], common[j], found[first:last])


@driver(_count_entries)
def count_entries(inputs: Any, common: Any) -> Any:
    """How many features of each point differ from the common value; inputs (d, n), common (d,)."""
    n = inputs.shape[1]
    counts = np.zeros(n, np.int64)
    parallel_for(_count_entries, (n + _PART - 1) // _PART, inputs, common, counts)
    return counts


@step()
def _count_row(row: Any, common: Any, counts: Any) -> None:
    for i in range(row.shape[0]):
        counts[i] += row[i] != common


@kernel()
def _compress(begin: int, end: int, inputs: Any, common: Any, starts: Any, features: Any, values: Any) -> None:
    n = inputs.shape[1]
    rows, ends = unowned(inputs), np.empty(_PART, np.int64)
    for part in range(begin, end):
        first, last = part * _PART, (part + 1) * _PART
        last = last if last < n else n
        copy_row(starts[first:last], ends[: last - first])
        for j in range(inputs.shape[0]):
            row, background = rows[j], common[j]
            for i in range(first, last):
                if row[i] != background:
                    place = ends[i - first]
                    features[place] = j
                    values[place] = row[i] - background
                    ends[i - first] = place + 1


@driver(_compress)
def compress(inputs: Any, common: Any, starts: Any, features: Any, values: Any) -> None:
    """Write the entries of each point, by ascending feature: those of point i at starts[i]..starts[i + 1]."""
    parallel_for(_compress, (inputs.shape[1] + _PART - 1) // _PART, inputs, common, starts, features, values)


@kernel()
def _transposed(
    begin: int, end: int, starts: Any, features: Any, values: Any, block_starts: Any, points: Any, ordered: Any
) -> None:
    n, n_features = starts.shape[0] - 1, block_starts.shape[1] - 1
    ends = np.empty(n_features + 1, np.int64)
    for block in range(begin, end):
        first, last = block * BLOCK, (block + 1) * BLOCK
        last = last if last < n else n
        own = block_starts[block]
        for e in range(starts[first], starts[last]):
            own[features[e] + 1] += 1
        own[0] = starts[first]
        for j in range(n_features):
            own[j + 1] += own[j]
        copy_row(own, ends)
        for i in range(first, last):
            for e in range(starts[i], starts[i + 1]):
                place = ends[features[e]]
                points[place] = i - first
                ordered[place] = values[e]
                ends[features[e]] += 1


@driver(_transposed)
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
    parallel_for(_transposed, n_blocks, starts, features, values, block_starts, points, ordered)
    return block_starts, points, ordered


def _adder(n_vectors: int, n_sums: int, size: int) -> Any:
    """An intrinsic that adds table rows `n_vectors` of `size` bytes wide, in `n_sums` sums which take turns.

    A unit's sum has the same bits whatever the width, as long as the number of sums is the same.
    """

    def in_python(total: Any, flat: Any, width: int, column: int, rows: Any, values: Any, start: int, stop: int) -> None:
        lanes = n_vectors * size // total.itemsize
        own = total[column : column + lanes]
        sums = [own.copy(), *(np.zeros_like(own) for _ in range(1, n_sums))]
        last = stop - (stop - start) % n_sums
        for e in range(start, stop):
            begin = rows[e] * width + column
            sums[(e - start) % n_sums if e < last else 0] += values[e] * flat[begin : begin + lanes]
        own[:] = sum(sums[1:], sums[0])

    @intrinsic(in_python)
    def add_rows(typing_context, total, flat, width, column, rows, values, start, stop):  # type: ignore[no-untyped-def]
        """Add to total[column:] the rows rows[e] (int32) of a flat table of this width times values[e], e in start..stop."""
        number, word = total.dtype, ir.IntType(64)
        kind = ir.FloatType() if number.bitwidth == 32 else ir.DoubleType()
        lanes = size * 8 // number.bitwidth
        vector = ir.VectorType(kind, lanes)

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            places = {0: "total", 1: "flat", 4: "rows", 5: "values"}
            data = {
                name: context.make_array(signature.args[i])(context, builder, arguments[i]).data for i, name in places.items()
            }
            width, column, first, end = (arguments[i] for i in (2, 3, 6, 7))

            at = partial(vector_at, builder, vector)

            def load(pointer):  # type: ignore[no-untyped-def]
                return builder.load(pointer, align=number.bitwidth // 8)

            def add(e, held):  # type: ignore[no-untyped-def]
                row = builder.zext(builder.load(builder.gep(data["rows"], [e])), word)
                row = builder.add(builder.mul(row, width), column)
                factors = spread(builder, builder.load(builder.gep(data["values"], [e])), lanes)
                for i, total in enumerate(held):
                    values = load(at(data["flat"], builder.add(row, word(i * lanes))))
                    product = builder.fmul(factors, values, flags=["contract"])
                    builder.store(builder.fadd(builder.load(total), product, flags=["contract"]), total)

            sums = [[cgutils.alloca_once(builder, vector) for _ in range(n_vectors)] for _ in range(n_sums)]
            own = [at(data["total"], builder.add(column, word(i * lanes))) for i in range(n_vectors)]
            for number_of_sum, held in enumerate(sums):
                for total, place in zip(held, own, strict=True):
                    builder.store(ir.Constant(vector, [0.0] * lanes) if number_of_sum else load(place), total)
            rounds = builder.sdiv(builder.sub(end, first), word(n_sums))
            last = builder.add(first, builder.mul(rounds, word(n_sums)))
            with cgutils.for_range_slice(builder, first, last, word(n_sums)) as (e, _):
                for i, held in enumerate(sums):
                    add(builder.add(e, word(i)), held)
            if n_sums > 1:
                with cgutils.for_range_slice(builder, last, end, word(1)) as (e, _):
                    add(e, sums[0])
            for i, place in enumerate(own):
                total = builder.load(sums[0][i])
                for held in sums[1:]:
                    total = builder.fadd(total, builder.load(held[i]))
                builder.store(total, place, align=number.bitwidth // 8)
            return context.get_dummy_value()

        return types.void(total, flat, width, column, rows, values, start, stop), generate

    return add_rows


# Of points: four sums of each unit, in `times` as in `held_out`, which so find the same bits.
_add_line, add_one_vector, add_three_vectors = _adder(1, 4, LINE), _adder(1, 4, VECTOR), _adder(3, 4, VECTOR)
# Of features: as many sums as keep the additions of a narrow row under way, and one for each vector of a wide row.
_add_vector_of_gradient, _add_wide = _adder(1, 8, VECTOR), _adder(_WIDE, 1, VECTOR)


@kernel()
def _times(begin: int, end: int, weights: Any, base: Any, starts: Any, features: Any, values: Any, result: Any) -> None:
    width, n = result.shape
    n_panels, line = weights.shape[0], base.shape[0] // weights.shape[0]
    panels, own, entries = unowned(weights), unowned(features), unowned(values)
    sums = np.empty((TILE, line), weights.dtype)
    for tile in range(begin, end):
        first, last = tile * TILE, (tile + 1) * TILE
        last = last if last < n else n
        for panel in range(n_panels):
            column = panel * line
            for i in range(first, last):
                row = sums[i - first]
                copy_row(base[column : column + line], row)
                _add_line(row, panels[panel], line, 0, own, entries, starts[i], starts[i + 1])
            for k in range(line if line < width - column else width - column):
                unit = result[column + k]
                for i in range(first, last):
                    unit[i] = sums[i - first, k]


@driver(_times)
def times(weights: Any, base: Any, starts: Any, features: Any, values: Any, result: Any) -> None:
    """Write base + D weights for all points, transposed.

    Parameters
    ----------
    weights : (panels, d * line) float32 or float64
        A line is what a cache line holds; of each feature so many units, those of panel p from p * line on.
    base : (panels * line,)
        What a point without entries gets.
    starts : (n + 1,) int64
        The entries of point i are starts[i]..starts[i + 1].
    features : (entries,) int32
    values : (entries,)
    result : (w, n), C-contiguous, w <= panels * line
        Written here.
    """
    parallel_for(_times, (result.shape[1] + TILE - 1) // TILE, weights, base, starts, features, values, result)


@kernel()
def _turn(begin: int, end: int, gradients: Any, padded: int, turned: Any) -> None:
    width, n = gradients.shape
    for block in range(begin, end):
        first, last = block * BLOCK, (block + 1) * BLOCK
        last = last if last < n else n
        for k in range(width):
            line = gradients[k]
            for i in range(first, last):
                turned[i * padded + k] = line[i]


@kernel()
def _gradient(begin: int, end: int, starts: Any, points: Any, values: Any, turned: Any, result: Any, n_parts: int) -> None:
    n_blocks, n_features, padded = starts.shape[0], starts.shape[1] - 1, result.shape[1]
    size = VECTOR // result.itemsize
    wide = padded // (_WIDE * size) * _WIDE * size
    for part in range(begin, end):
        low, high = part * n_features // n_parts, (part + 1) * n_features // n_parts
        which, entries, totals, flats = unowned(points), unowned(values), unowned(result), unowned(turned)
        result[low:high] = 0
        for block in range(n_blocks):
            flat = flats[block * BLOCK * padded : (block + 1) * BLOCK * padded]
            own = unowned(starts[block])
            for column in range(0, wide, _WIDE * size):
                for j in range(low, high):
                    if own[j] < own[j + 1]:
                        _add_wide(totals[j], flat, padded, column, which, entries, own[j], own[j + 1])
            for column in range(wide, padded, size):
                for j in range(low, high):
                    if own[j] < own[j + 1]:
                        _add_vector_of_gradient(totals[j], flat, padded, column, which, entries, own[j], own[j + 1])


@driver(_gradient)
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
        Room for the transposed gradients, beginning with a cache line.
    result : (d, W)
        Written here; W is a multiple of what a vector holds.
    n_parts : int
        Into how many ranges the features are cut, each for one thread.
    """
    parallel_for(_turn, len(starts), gradients, result.shape[1], turned)
    parallel_for(_gradient, n_parts, starts, points, values, turned, result, n_parts)
