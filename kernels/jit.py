"""How kernels and their steps are written: free of the GIL, with no more fast-math than they name."""

from collections.abc import Callable
from typing import Any

from numba import config
from numba.core import cgutils
from numba.core.options import DefaultOptions
from numba.extending import intrinsic as compiled_intrinsic

from .compiling import Kernel, Step

# Sums may be reordered and fused, which is what lets them vectorise. NaN and infinities keep their meaning.
SUMS = frozenset({"reassoc", "contract", "nsz"})
# Products and sums may be fused, in the order in which they stand.
FUSED = frozenset({"contract"})


def kernel(*, fastmath: frozenset[str] = frozenset(), counted: bool = True) -> Callable[..., Any]:
    """A function that Python calls, directly or through `sharing.parallel_for`: compiled, or loaded, when it is first called.

    counted : bool, optional, default True
        Whether references to arrays are counted wherever they are sliced or passed on. What does not count makes no arrays, and
        takes those that its caller holds.
    """
    return lambda function: function if config.DISABLE_JIT else Kernel(function, targetoptions=_options(fastmath, counted))


def step(*, fastmath: frozenset[str] = frozenset(), counted: bool = True) -> Callable[..., Any]:
    """A function that only kernels and other steps call, and that becomes a part of them."""
    return lambda function: function if config.DISABLE_JIT else Step(function, targetoptions=_options(fastmath, counted))


def _options(fastmath: frozenset[str], counted: bool) -> dict[str, Any]:
    # A division that may raise keeps its loop from being vectorised; x / 0 is what it is in numpy.
    options: dict[str, Any] = {"nogil": True, "fastmath": set(fastmath), "error_model": "numpy"}
    if not counted and hasattr(DefaultOptions, "_nrt"):  # numba's own, and private: without it counting is only slower
        options["_nrt"] = False
    return options


def intrinsic(in_python: Callable[..., Any]) -> Callable[..., Any]:
    """An intrinsic of numba's, and the function that does the same where NUMBA_DISABLE_JIT leaves kernels in Python."""
    return lambda lowered: in_python if config.DISABLE_JIT else compiled_intrinsic(lowered)


def driver(kernel: Any) -> Callable[..., Any]:
    """Marks the Python function that makes room for what a kernel finds, and calls it, in several threads where that helps.

    It tells where its kernel is cached, as a kernel does.
    """

    def decorate(function: Any) -> Any:
        function.stats = getattr(kernel, "stats", None)  # none where kernels are left in Python
        return function

    return decorate


@intrinsic(lambda value: value)
def unowned(typing_context, array):  # type: ignore[no-untyped-def]
    """The same array without its owner: slicing it counts no references for threads to fight over.

    Only for what the caller of the kernel holds: nothing keeps the memory alive here.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        make = context.make_array(array)
        owned, view = make(context, builder, arguments[0]), make(context, builder)
        for name in ("nitems", "itemsize", "data", "shape", "strides"):
            setattr(view, name, getattr(owned, name))
        view.meminfo = cgutils.get_null_value(owned.meminfo.type)
        view.parent = cgutils.get_null_value(owned.parent.type)
        return view._getvalue()

    return array(array), generate
