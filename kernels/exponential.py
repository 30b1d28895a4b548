"""exp of numbers below zero and tanh, in a form that loops vectorise: powers of two by their bits, the rest by polynomials."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from .jit import FUSED, driver, intrinsic, kernel, step
from .sharing import parallel_for

__all__ = ["exponential", "single_exponential", "single_tanh", "single_tanh_of_strip"]

_LOG2_E = 1.4426950408889634
# log 2 in two parts, the first of few bits, so that x - n log 2 loses none.
_LN2_HIGH, _LN2_LOW = 6.93145751953125e-1, 1.42860682030941723212e-6
_SINGLE_LOG2_E = np.float32(_LOG2_E)
_SINGLE_LN2_HIGH, _SINGLE_LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
# Below this tanh is an odd polynomial, beyond it a ratio of exponentials would lose what is left of 1.
_SMALL = np.float32(0.625)
# Values that a thread takes at a time.
_CHUNK = 4096
# exp of less is 0 for every purpose here; 2^n stays normal.
_LEAST, _SINGLE_LEAST = -700.0, np.float32(-87.0)


@intrinsic(lambda exponent: np.ldexp(np.float32(1) if exponent.dtype == np.int32 else np.float64(1), exponent))
def _power_of_two(typing_context, exponent):  # type: ignore[no-untyped-def]
    """2^n where that is a normal number: in double precision for an int64 n, in single precision for an int32."""
    width, (mantissa, bias, kind, result) = exponent.bitwidth, {
        32: (23, 127, ir.FloatType(), types.float32),
        64: (52, 1023, ir.DoubleType(), types.float64),
    }[exponent.bitwidth]  # fmt: skip

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        word = ir.IntType(width)
        bits = builder.shl(builder.add(arguments[0], word(bias)), word(mantissa))
        return builder.bitcast(bits, kind)

    return result(exponent), generate


@step(fastmath=FUSED)
def exponential(x: float) -> float:
    """exp(x) for x <= 0 in double precision, to 2 units in the last place; exp(-700) for anything below."""
    x = _LEAST if x < _LEAST else x
    n = np.floor(x * _LOG2_E + 0.5)
    f = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = 1 / 6227020800
    p = p * f + 1 / 479001600
    p = p * f + 1 / 39916800
    p = p * f + 1 / 3628800
    p = p * f + 1 / 362880
    p = p * f + 1 / 40320
    p = p * f + 1 / 5040
    p = p * f + 1 / 720
    p = p * f + 1 / 120
    p = p * f + 1 / 24
    p = p * f + 1 / 6
    p = p * f + 0.5
    p = p * f + 1.0
    p = p * f + 1.0
    return p * _power_of_two(np.int64(n))


@step(fastmath=FUSED)
def single_exponential(x: Any) -> Any:
    """The same in single precision; exp(-87), close to the least normal number, for anything below that."""
    x = _SINGLE_LEAST if x < _SINGLE_LEAST else x
    n = np.floor(x * _SINGLE_LOG2_E + np.float32(0.5))
    f = (x - n * _SINGLE_LN2_HIGH) - n * _SINGLE_LN2_LOW
    p = np.float32(1 / 720)
    p = p * f + np.float32(1 / 120)
    p = p * f + np.float32(1 / 24)
    p = p * f + np.float32(1 / 6)
    p = p * f + np.float32(0.5)
    p = p * f + np.float32(1)
    p = p * f + np.float32(1)
    return p * _power_of_two(np.int32(n))


@step(fastmath=FUSED)
def single_tanh_of_strip(values: Any) -> None:
    """Put tanh(x), to 2 units in the last place, in the place of x: (n,) float32, C-contiguous; by one thread."""
    for i in range(values.shape[0]):
        x = values[i]
        z = x * x
        p = np.float32(-5.70498872745e-3)
        p = p * z + np.float32(2.06390887954e-2)
        p = p * z + np.float32(-5.37397155531e-2)
        p = p * z + np.float32(1.33314422036e-1)
        p = p * z + np.float32(-3.33332819422e-1)
        small = p * z * x + x
        size = abs(x)
        e = single_exponential(np.float32(-2) * size)
        large = (np.float32(1) - e) / (np.float32(1) + e)
        large = -large if x < np.float32(0) else large
        values[i] = large if size >= _SMALL else small  # NaN is neither, and stays


@kernel()
def _single_tanh(begin: int, end: int, values: Any) -> None:
    n = values.shape[0]
    for part in range(begin, end):
        last = (part + 1) * _CHUNK
        single_tanh_of_strip(values[part * _CHUNK : last if last < n else n])


@driver(_single_tanh)
def single_tanh(values: Any) -> None:
    """Put tanh(x) in the place of x, as `single_tanh_of_strip` does, by all threads."""
    parallel_for(_single_tanh, (len(values) + _CHUNK - 1) // _CHUNK, values)
