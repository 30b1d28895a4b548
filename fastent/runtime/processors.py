"""How many processors this process may use: its affinity, and the quota of its control groups."""

import math
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

from fastent.runtime.control_groups import own_groups, read_number

__all__ = ["processors"]

_ROOT = Path("/")


@cache
def processors(root: Path = _ROOT) -> int:
    """Return a number of at least one; a quota of 1.5 processors counts as two.

    `root` is the folder that holds /proc and /sys.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        allowed = os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> list[float]:
    quotas = []
    for folder in own_groups(root, "cpu"):
        try:
            words = (folder / "cpu.max").read_text().split()  # version 2: "150000 100000", or "max 100000" without a quota
        except OSError:
            words = [str(read_number(folder / name)) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
        with suppress(ValueError, ZeroDivisionError):
            quota, period = map(int, words)
            quotas.append(quota / period)
    return [quota for quota in quotas if quota > 0]  # version 1 says -1 where there is none
