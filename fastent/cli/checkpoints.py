"""The checkpoints that a command is given: files by name or pattern, in natural order, and short names for them."""

import glob
from collections.abc import Sequence
from pathlib import Path

from fastent.errors import FastentError
from fastent.printable import natural_key

__all__ = ["checkpoint_files", "checkpoint_names"]


def checkpoint_files(patterns: Sequence[str]) -> list[Path]:
    """Files named or matched, each once, in natural order."""
    found: set[str] = set()
    for pattern in patterns:
        matched = [pattern] if Path(pattern).is_file() else [each for each in glob.glob(pattern) if Path(each).is_file()]
        if not matched:
            raise FastentError(
                f"--checkpoint {pattern!r} matches no file: name files, or a pattern in quotes such as 'ckpt/*.pt'"
            )
        found.update(matched)
    return [Path(each) for each in sorted(found, key=natural_key)]


def checkpoint_names(files: Sequence[Path]) -> list[str]:
    """A folder name for each: the last parts of its path that tell it apart, without the ending."""
    parts = [file.resolve().with_suffix("").parts for file in files]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["-".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    raise FastentError(f"--checkpoint {str(files[0])!r} has the name of another but for its ending: keep one of them")
