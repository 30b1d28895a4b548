"""Which code a result is of."""

import subprocess
from pathlib import Path

__all__ = ["revision"]


def revision() -> str:
    """The commit, with a plus where files other than results differ from it; to be asked before what takes long."""
    return _git("rev-parse", "--short", "HEAD") + (
        "+" if _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results") else ""
    )


def _git(*arguments: str) -> str:
    root = Path(__file__).parents[1]
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=root).stdout.strip()
