"""The control groups (cgroups) that this process is in: a container's limits, and those of batch systems."""

from contextlib import suppress
from pathlib import Path

__all__ = ["own_groups", "read_number"]


def own_groups(root: Path, controller: str) -> list[Path]:
    """Folders of the process's group for a controller and of all enclosing groups, of versions 2 and 1.

    Groups that this process cannot see are left out; in a container, its own group often appears as the top one.

    Parameters
    ----------
    root : path
        Where /proc and /sys lie.
    controller : str
        "memory" or "cpu".
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
