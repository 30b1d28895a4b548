"""Where a result was measured: the processor, its load, threads and versions."""

import os
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import llvmlite.binding as llvm
import numba

__all__ = ["load", "machine", "versions"]


def machine() -> dict[str, Any]:
    return {
        "processor": llvm.get_host_cpu_name(),
        "threads": numba.get_num_threads(),
        "python": sys.version.split()[0],
    }


def load() -> float:
    """The number of processes that wanted to run during the last minute, this one included."""
    return round(os.getloadavg()[0], 2)


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
