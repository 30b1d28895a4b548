"""Memory is planned before work starts."""

import os
from pathlib import Path

from fastent.errors import FastentError

__all__ = ["available_bytes", "check_fits", "readable_bytes"]


def available_bytes() -> int:
    """Memory that can be had without swapping; all of it where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_fits(needed: float, what: str, remedy: str) -> None:
    """Raise, with both figures, if `needed` bytes are more than can be had."""
    available = available_bytes()
    if needed > available:
        raise FastentError(
            f"{what} needs about {readable_bytes(needed)} of memory and {readable_bytes(available)} are available: {remedy}"
        )


def readable_bytes(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
