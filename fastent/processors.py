"""How many processors and threads this process may use, and the control groups (cgroups) that limit them, and memory.

Those are a container's limits, and those of batch systems.
"""

import math
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = ["default_threads", "own_groups", "processors", "read_number"]

_ROOT = Path("/")
# As it was when fastent was imported: a cluster of Dask sets it to 1 for its workers, also in the process that starts it.
_OMP_NUM_THREADS = os.environ.get("OMP_NUM_THREADS", "")


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


def default_threads() -> int:
    """As many threads as `processors`, or as OMP_NUM_THREADS, by which batch systems say what a job has, if that is lower."""
    asked = _OMP_NUM_THREADS.split(",")[0].strip()  # "4,2" is four, with two in each of them
    most = processors()
    return min(most, int(asked)) if asked.isdecimal() and int(asked) else most


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


def own_groups(root: Path, controller: str) -> list[Path]:
    """Folders of the process's group for a controller and of all enclosing groups, of versions 2 and 1.

    Groups that this process cannot see are left out; in a container, its own group often appears as the top one.
    The controller is "memory" or "cpu".
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    tree = root / "sys/fs/cgroup"
    found = _with_outer(tree, "") + [path for top in _version_1(tree, controller) for path in _with_outer(top, "")]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            found += _with_outer(tree, path) + _with_outer(tree / "unified", path)
        elif controller in controllers.split(","):
            found += [folder for top in _version_1(tree, controller) for folder in _with_outer(top, path)]
    return list(dict.fromkeys(found))


def _version_1(tree: Path, controller: str) -> list[Path]:
    with suppress(OSError):
        return [
            tree / controller,
            *sorted(path for path in tree.iterdir() if "," in path.name and controller in path.name.split(",")),
        ]
    return []


def _with_outer(top: Path, path: str) -> list[Path]:
    parts = [part for part in path.split("/") if part not in ("", "..")]  # ".." is a group outside the namespace
    folders = [top.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]
    return [folder for folder in folders if folder.is_dir()]


def read_number(file: Path) -> int | None:
    """The number in a file; None for "max", or if the file cannot be read."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
