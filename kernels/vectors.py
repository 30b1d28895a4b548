"""What intrinsics that are written in LLVM's language share: vectors, the bits of their masks, and lines of the cache."""

from typing import Any

from llvmlite import ir
from numba import types

from .jit import intrinsic, step

__all__ = ["ask_for_line", "first_bit", "prefetch", "spread", "vector_at"]


def spread(builder: Any, value: Any, lanes: int) -> Any:
    """A vector of one value in all lanes."""
    number = ir.IntType(32)
    lane = builder.insert_element(ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined), value, number(0))
    return builder.shuffle_vector(lane, lane, ir.Constant(ir.VectorType(number, lanes), [0] * lanes))


def vector_at(builder: Any, vector: Any, pointer: Any, index: Any) -> Any:
    """A pointer to the vector that begins with pointer[index]."""
    return builder.bitcast(builder.gep(pointer, [index]), vector.as_pointer())


def ask_for_line(builder: Any, pointer: Any, closeness: int) -> None:
    """Have the line of the cache that holds an address brought nearer, up to 3 for the innermost cache; never faults."""
    byte_pointer, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte_pointer, flag, flag, flag])
    prefetch = builder.module.declare_intrinsic("llvm.prefetch", (byte_pointer,), kind)
    read, data_cache = flag(0), flag(1)
    builder.call(prefetch, [builder.bitcast(pointer, byte_pointer), read, flag(closeness), data_cache])


@intrinsic(lambda array, index: None)
def _prefetch_line(typing_context, array, index):  # type: ignore[no-untyped-def]
    """Ask for the line of array[index] in the outer caches."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        ask_for_line(builder, builder.gep(data, [arguments[1]]), 1)
        return context.get_dummy_value()

    return types.void(array, index), generate


@step()
def prefetch(row: Any) -> None:
    """Bring a contiguous row towards the caches while something else is computed."""
    for j in range(0, row.shape[0], 64 // row.itemsize):
        _prefetch_line(row, j)


@intrinsic(lambda word: (int(word) & -int(word)).bit_length() - 1)
def first_bit(typing_context, word):  # type: ignore[no-untyped-def]
    """The number of the lowest bit that is set in a uint64 that is not 0."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.int64(types.uint64), generate
