"""Optional packages: imported when they are needed, or an error that says how to install them."""

from importlib import import_module
from typing import Any

from fastent.errors import FastentError

__all__ = ["needed"]


def needed(module: str, name: str | None = None, *, extra: str | None = None, instead: str = "") -> Any:
    """Return a module of a package that is not installed with this one, or a `name` in it.

    Without the package an error says how to install it, by the `extra` of its name, and what to do `instead`.
    """
    package = module.rpartition(".")[2]
    try:
        found = import_module(module)
    except ImportError:
        raise FastentError(f"{package} is not installed: pip install '.[{extra or package}]' in the clone{instead}") from None
    return found if name is None else getattr(found, name)
