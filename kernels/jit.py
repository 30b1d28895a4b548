"""How every kernel is compiled: cached on disk where possible, free of the GIL, with no more fast-math than it names."""

import os
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir
from numba import config, njit, types
from numba.core import caching, cgutils
from numba.core.options import DefaultOptions
from numba.extending import intrinsic as compiled_intrinsic

# Sums may be reordered and fused, which is what lets them vectorise. NaN and infinities keep their meaning.
SUMS = frozenset({"reassoc", "contract", "nsz"})
# Products and sums may be fused, in the order in which they stand.
FUSED = frozenset({"contract"})


def kernel(*, fastmath: frozenset[str] = frozenset(), inline: bool = False, counted: bool = True) -> Callable[..., Any]:
    """A function that is compiled when it is first called.

    inline : bool, optional, default False
        Whether its code is put in the place of every call from another kernel, with no call left: for the steps of a long loop.
    counted : bool, optional, default True
        Whether references to arrays are counted wherever they are sliced or passed on. A kernel that does not count makes no
        arrays, and takes those that its caller holds.
    """

    def compile_lazily(function: Callable[..., Any]) -> Any:
        # A division that may raise keeps its loop from being vectorised; x / 0 is what it is in numpy.
        options: dict[str, Any] = {"nogil": True, "fastmath": set(fastmath), "error_model": "numpy"}
        if not counted and hasattr(DefaultOptions, "_nrt"):  # numba's own, and private: without it counting is only slower
            options["_nrt"] = False
        if inline:
            options["inline"] = "always"
        try:
            if _has_place(function):
                return njit(cache=True, **options)(function)
        except RuntimeError:  # neither the package's folder nor the user's cache can be written to
            pass
        _say_once()
        return njit(**options)(function)

    return compile_lazily


def step(*, fastmath: frozenset[str] = frozenset(), inline: bool = False, counted: bool = True) -> Callable[..., Any]:
    """A function that only kernels call, with the same options."""
    return kernel(fastmath=fastmath, inline=inline, counted=counted)


def _has_place(function: Any) -> bool:
    """Whether numba may look for a folder to cache the function in: without a home it would make one named "~" right here."""
    home = os.environ.get("HOME") != ""
    user_wide = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache") if home else "")
    if os.path.isabs(user_wide):
        return True
    file = function.__code__.co_filename
    others = (caching.UserProvidedCacheLocator, caching.InTreeCacheLocator)
    return any(locator.from_function(function, file) is not None for locator in others)


@cache
def _say_once() -> None:
    warnings.warn(
        "kernels are compiled anew in every process, because there is no folder to cache them in: neither "
        f"{os.path.dirname(os.path.abspath(__file__))} nor ~/.cache can be written to; set NUMBA_CACHE_DIR to one that can",
        stacklevel=2,
    )


def intrinsic(in_python: Callable[..., Any]) -> Callable[..., Any]:
    """An intrinsic of numba's, and the function that does the same where NUMBA_DISABLE_JIT leaves kernels in Python."""
    return lambda lowered: in_python if config.DISABLE_JIT else compiled_intrinsic(lowered)


def driver(kernel: Any) -> Callable[..., Any]:
    """Marks the Python function that makes room for what a kernel finds, and has it done with `sharing.parallel_for`.

    It tells where its kernel is cached, as a kernel does.
    """

    def decorate(function: Any) -> Any:
        function.stats = getattr(kernel, "stats", None)  # none where kernels are left in Python
        return function

    return decorate


@intrinsic(lambda value: value)
def unowned(typing_context, value):  # type: ignore[no-untyped-def]
    """The same array, or tuple of arrays, without its owner: slicing it counts no references for threads to fight over.

    Only for what the caller of the kernel holds: nothing keeps the memory alive here.
    """

    def disown(context, builder, kind, value):  # type: ignore[no-untyped-def]
        make = context.make_array(kind)
        owned, view = make(context, builder, value), make(context, builder)
        for name in ("nitems", "itemsize", "data", "shape", "strides"):
            setattr(view, name, getattr(owned, name))
        view.meminfo = cgutils.get_null_value(owned.meminfo.type)
        view.parent = cgutils.get_null_value(owned.parent.type)
        return view._getvalue()

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        if isinstance(value, types.Array):
            return disown(context, builder, value, arguments[0])
        parts = cgutils.unpack_tuple(builder, arguments[0])
        views = [disown(context, builder, kind, part) for kind, part in zip(value.types, parts, strict=True)]
        return context.make_tuple(builder, value, views)

    return value(value), generate


@intrinsic(lambda array, index: None)
def _prefetch_line(typing_context, array, index):  # type: ignore[no-untyped-def]
    """Ask for the cache line of array[index] in the outer caches; never faults."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte_pointer = ir.IntType(8).as_pointer()
        address = builder.bitcast(builder.gep(data, [arguments[1]]), byte_pointer)
        flag = ir.IntType(32)
        signature_type = ir.FunctionType(ir.VoidType(), [byte_pointer, flag, flag, flag])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", (byte_pointer,), signature_type)
        read, outer_caches, data_cache = flag(0), flag(1), flag(1)
        builder.call(prefetch, [address, read, outer_caches, data_cache])
        return context.get_dummy_value()

    return types.void(array, index), generate


@step()
def prefetch(row: Any) -> None:
    """Bring a contiguous row towards the caches while something else is computed."""
    for j in range(0, row.shape[0], 64 // row.itemsize):
        _prefetch_line(row, j)
