"""Memory is planned before work starts."""

import os
import re
from pathlib import Path

from fastent.errors import FastentError
from fastent.options import whole_number

__all__ = ["as_bytes", "available_bytes", "budget_bytes", "check_fits", "readable_bytes"]


def available_bytes() -> int:
    """Memory that can be had without swapping; all of it where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_fits(needed: float, what: str, remedy: str, budget: int | str | None = None) -> None:
    """Raise, with both figures, if `needed` bytes are more than the budget (what can be had unless said)."""
    available = budget_bytes(budget)
    if needed > available:
        limit = "are available" if budget is None else f"are the budget (memory_budget={budget!r})"
        raise FastentError(
            f"{what} needs about {readable_bytes(needed)} of memory and {readable_bytes(available)} {limit}: {remedy}"
        )


def budget_bytes(budget: int | str | None) -> int:
    """What may be used: what can be had unless said."""
    return available_bytes() if budget is None else as_bytes(budget)


def as_bytes(size: int | str) -> int:
    """A number of bytes, or text like "512MiB", "4 GiB" or "2GB"."""
    if isinstance(size, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", size, re.IGNORECASE)
        if not found:
            raise FastentError(f"memory_budget={size!r}: a number of bytes, or text like '4GiB', is needed")
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
