"""The clock by which work is timed: it stands still while kernels are compiled, which happens once on a machine.

It does so for all threads, also for one that does not wait for the kernel that another compiles.
"""

import sys
import time

__all__ = ["working_seconds"]


def working_seconds() -> float:
    """Seconds since some moment in the past; only differences mean anything."""
    # Not there yet, or about to be imported by another thread: nothing has been compiled.
    compile_seconds = getattr(sys.modules.get("fastent.kernels.compiling"), "compile_seconds", lambda: 0.0)
    now: float = time.perf_counter() - compile_seconds()
    return now
