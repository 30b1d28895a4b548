"""The size of the tasks: their full size, or a share of it, so that `fastent bench --minutes 2` has time for all of them."""

import os
import time

import pytest

SHARE = float(os.environ.get("FASTENT_BENCH_SHARE", 1))
MINUTES = float(os.environ.get("FASTENT_BENCH_MINUTES", "inf"))
# Peers that are extrapolated need at least this many queries.
_LEAST = 4000
_started: list[float] = []


def scaled(n: int, least: int = _LEAST) -> int:
    """The scaled number of points, a multiple of 100."""
    return n if SHARE >= 1 else min(n, max(least, round(n * SHARE / 100) * 100))


def skip_if_late() -> None:
    """Skip the task if the requested time, counted from the first task, is over."""
    _started.append(time.monotonic())
    if time.monotonic() - _started[0] > 60 * MINUTES:
        pytest.skip(f"{MINUTES:g} minutes were over")
