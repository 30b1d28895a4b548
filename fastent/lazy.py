"""Packages whose public names are imported when they are first used."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from fastent.errors import FastentError

__all__ = ["needed", "serve"]


class _Package(ModuleType):
    """Keeps `fastent.geometry` the function: importing the submodule of that name would put the module in its place."""

    _home: dict[str, str]

    def __getattr__(self, name: str) -> Any:
        if name not in self._home:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        submodule, colon, there = self._home[name].partition(":")
        module = import_module(f"{self.__name__}.{submodule}")
        value = module if colon and not there else getattr(module, there or name)
        super().__setattr__(name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in self._home and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __reduce__(self) -> Any:
        # By its name, as modules are: cloudpickle (joblib, dask, ray) sends functions with the modules that they use.
        return import_module, (self.__name__,)

    def __dir__(self) -> list[str]:
        return sorted(self.__all__)


def serve(package: str, home: dict[str, str]) -> None:
    """Serve the names of a package from its submodules.

    `home` says which name is in which: "submodule", "submodule:name", or "submodule:" for the submodule itself.
    """
    module = sys.modules[package]
    vars(module)["_home"] = home
    module.__class__ = _Package


def needed(package: str, name: str) -> Any:
    """A name of a package that is not installed with this one; without it an error says how to get it."""
    try:
        return getattr(import_module(package), name)
    except ImportError:
        raise FastentError(f"{package} is not installed: pip install '.[{package}]' in the clone") from None
