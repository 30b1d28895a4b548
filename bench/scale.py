"""How large the jobs are: as they stand, or a share of that, so that `fastent bench --minutes 2` has time for all of them."""

import os
import time

import pytest

SHARE = float(os.environ.get("FASTENT_BENCH_SHARE", 1))
MINUTES = float(os.environ.get("FASTENT_BENCH_MINUTES", "inf"))
# So many queries of the peers that are extrapolated must be there.
_LEAST = 4000
_started: list[float] = []


def scaled(n: int, least: int = _LEAST) -> int:
    """So many points instead of n, a multiple of 100."""
    return n if SHARE >= 1 else min(n, max(least, round(n * SHARE / 100) * 100))


def skip_if_late() -> None:
    """Leave out what is still to come once the time asked for is over; it counts from the first job."""
    _started.append(time.monotonic())
    if time.monotonic() - _started[0] > 60 * MINUTES:
        pytest.skip(f"{MINUTES:g} minutes were over")
