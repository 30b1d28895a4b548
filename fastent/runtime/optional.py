"""Packages that are not installed with fastent: used where they are there, named where they are missing."""

from importlib import import_module
from typing import Any

from fastent.errors import FastentError

__all__ = ["needed"]


def needed(package: str, name: str) -> Any:
    """A name of a package that is not installed with this one; without it an error says how to get it."""
    try:
        return getattr(import_module(package), name)
    except ImportError:
        raise FastentError(f"{package} is not installed: pip install '.[{package}]' in the clone") from None
