"""How much memory there is, and checks, before work starts, that the work fits into it."""

import os
import re
import resource
from pathlib import Path

from fastent.errors import FastentError
from fastent.options import short_repr, whole_number
from fastent.processors import own_groups, read_number

__all__ = ["as_bytes", "available_bytes", "budget_bytes", "check_fits", "readable_bytes"]

_ROOT = Path("/")
# The reserve: addresses for threads and compiled kernels.
_BEGINNING = 192 << 20
# Files of a memory group: limits, usage, and the line of memory.stat for cached files that were not read recently, which
# the system drops first. For version 2 (beyond memory.high a process is slowed down to a halt) and version 1.
_FILES = (
    (("memory.max", "memory.high"), "memory.current", "inactive_file"),
    (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
)


def available_bytes(root: Path = _ROOT) -> int:
    """Memory available without swapping, within the limits of the machine, of control groups and of the process (`ulimit`).

    Never less than a page, so that a process that has used up its limit gets an error with both figures. `root` is the folder
    that holds /proc and /sys.
    """
    return max(os.sysconf("SC_PAGE_SIZE"), min([_of_machine(root), *_of_groups(root), *_of_process(root)]))


def _of_machine(root: Path) -> int:
    """Memory that the machine has available; all of its memory if the system does not say."""
    kibibytes = _named(root / "proc/meminfo", "MemAvailable:")
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if kibibytes is None else 1024 * kibibytes


def _of_groups(root: Path) -> list[int]:
    """What each of the process's groups has left; file caches that the system would drop first count as free."""
    left = []
    for folder in own_groups(root, "memory"):
        for limits, usage, cache in _FILES:
            bounds = [bound for bound in (read_number(folder / name) for name in limits) if bound is not None]
            used = read_number(folder / usage)
            if bounds and used is not None:
                left.append(min(bounds) - max(0, used - (_named(folder / "memory.stat", cache) or 0)))
    return left


def _named(file: Path, name: str) -> int | None:
    """The number behind a name in a file of lines; None if there is none."""
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
        return next(int(line[1]) for line in lines if line[:1] == [name])
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _of_process(root: Path) -> list[int]:
    """Half of what RLIMIT_AS (`ulimit -v`) and RLIMIT_DATA (`ulimit -d`) leave after a fixed reserve.

    They count addresses, and threads, compiled kernels and libraries that are not loaded yet reserve many that they never use.
    """
    left = []
    for limit, counted in ((resource.RLIMIT_AS, "VmSize:"), (resource.RLIMIT_DATA, "VmData:")):
        soft, _ = resource.getrlimit(limit)
        if soft == resource.RLIM_INFINITY:
            continue
        used = 1024 * (_named(root / "proc/self/status", counted) or 0)
        left.append((soft - used - _BEGINNING) // 2)
    return left


def check_fits(needed: float, what: str, remedy: str, budget: int | str | None = None) -> None:
    """Raise, with both figures, if `needed` bytes are more than the budget (default: what is available)."""
    available = budget_bytes(budget)
    if needed > available:
        limit = "are available" if budget is None else f"are the budget (memory_budget={budget!r})"
        raise FastentError(
            f"{what} needs about {readable_bytes(needed)} of memory and {readable_bytes(available)} {limit}: {remedy}"
        )


def budget_bytes(budget: int | str | None) -> int:
    """The bytes that may be used; by default all that is available."""
    return available_bytes() if budget is None else as_bytes(budget)


def as_bytes(size: int | str) -> int:
    """A number of bytes, or text like "512MiB", "4 GiB" or "2GB"."""
    if isinstance(size, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", size, re.IGNORECASE)
        if not found:
            raise FastentError(f"memory_budget={short_repr(size)}: a number of bytes, or text like '4GiB', is needed")
        number, prefix, binary = found.groups()
        size_in_bytes = float(number) * (1024 if binary else 1000) ** " KMGT".index(prefix.upper() or " ")
        if not 1 <= size_in_bytes < 2**63:
            raise FastentError(
                f"memory_budget={size[:80]!r}: from one byte to what a computer can have is needed, such as '4GiB'"
            )
        return int(size_in_bytes)
    return whole_number("memory_budget", size, minimum=1)


def readable_bytes(size: float) -> str:
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 2**power:
            return f"{size / 2**power:.{int(power == 30)}f} {unit}"
    return f"{size:.0f} bytes"
