"""How numba compiles here: a kernel, with all that it calls, becomes one piece of machine code that owes nothing to others.

A *kernel* is called from Python, a *step* by kernels and other steps. numba by itself optimises and emits each function alone,
with wrappers for Python and C, and once more within each of its callers. In the process that does so, callers run the copies
that were emitted first; where they are loaded from a cache, their own, which may round otherwise. Here a step is translated
into LLVM's language and no further. A kernel takes in its steps under names that nothing else sees, and is optimised once, as
a whole: less work, and the same code in every process.
"""

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite.binding import Linkage
from numba.core import event
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.environment import lookup_environment
from numba.core.registry import CPUDispatcher

from .announcing import Announcer
from .cache import KernelCache
from .target import sources_changed

__all__ = ["Kernel", "Step", "compile_seconds"]


class _StepLibrary(JITCodeLibrary):
    """Code that waits to be taken into a kernel: linked with what it calls, not optimised, not emitted."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


class _KernelLibrary(JITCodeLibrary):
    """Code of a kernel and all its steps."""

    def _optimize_final_module(self) -> None:
        for function in self._final_module.functions:
            if function.name.startswith("_ZN") and function.linkage == Linkage.linkonce_odr and not function.is_declaration:
                function.linkage = "internal"
        super()._optimize_final_module()

    def _finalize_final_module(self) -> None:
        super()._finalize_final_module()
        # Numba sets this for each function that it emits; steps need it too, for the errors that they raise.
        for variable in self._final_module.global_variables:
            environment = lookup_environment(variable.name)
            if environment is not None:
                self._codegen.set_env(variable.name, environment)


class _KernelCompiler(Compiler):
    library: type[JITCodeLibrary] = _KernelLibrary

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        self.state.library = self.library(self.state.targetctx.codegen(), func.__qualname__)
        self.state.library.enable_object_caching()
        return super().compile_extra(func)


class _StepCompiler(_KernelCompiler):
    library = _StepLibrary

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        # Numba registers a step under its entry point; any object of its own will do.
        self.state.targetctx.get_executable = lambda library, description, environment: object()
        return super().compile_extra(func)


@cache
def _look_at_sources(module: str) -> None:
    """Once while a module is imported: its file may change back before a kernel is called."""
    sources_changed()


class _Compiled(CPUDispatcher):
    """What kernels and steps have in common."""

    compiler: type[Compiler]

    def __init__(self, py_func: Callable[..., Any], locals: Any = None, targetoptions: dict[str, Any] | None = None) -> None:
        _look_at_sources(py_func.__module__)
        options = {"nopython": True, "no_cfunc_wrapper": True} | (targetoptions or {})
        super().__init__(py_func, locals, options, pipeline_class=self.compiler)

    def __reduce__(self) -> tuple[Any, ...]:
        return _named, (self.py_func.__module__, self.py_func.__qualname__)


def _named(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


class Kernel(_Compiled):
    """A function that is compiled, or loaded, when it is first called with arguments of given types."""

    compiler = _KernelCompiler

    def __init__(self, py_func: Callable[..., Any], locals: Any = None, targetoptions: dict[str, Any] | None = None) -> None:
        super().__init__(py_func, locals, targetoptions)
        self._cache = KernelCache(py_func)


class Step(_Compiled):
    """A function that kernels call."""

    compiler = _StepCompiler

    def __init__(self, py_func: Callable[..., Any], locals: Any = None, targetoptions: dict[str, Any] | None = None) -> None:
        super().__init__(py_func, locals, {"no_cpython_wrapper": True} | (targetoptions or {}))

    def add_overload(self, compiled: Any) -> None:
        self.overloads[tuple(compiled.signature.args)] = compiled  # nothing that Python could call

    def _compile_for_args(self, *arguments: Any, **named: Any) -> None:
        raise TypeError(f"{self.py_func.__qualname__} is a step: only kernels can call it")


_announcer = Announcer(Kernel)
event.register("numba:compile", _announcer)
compile_seconds = _announcer.seconds
