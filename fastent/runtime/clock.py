"""The clock by which work is timed: it stands still while kernels are compiled, which happens once on a machine."""

import sys
import time

__all__ = ["working_seconds"]


def working_seconds() -> float:
    """Seconds since some moment in the past; only differences mean anything."""
    compiling = sys.modules.get("fastent.kernels.compiling")
    return time.perf_counter() - (compiling.compile_seconds() if compiling else 0.0)
