"""The version of the code that a result belongs to."""

import subprocess
from pathlib import Path

__all__ = ["revision"]


def revision() -> str:
    """The commit, followed by a plus if files other than results differ from it. Call it before the benchmark runs."""
    return _git("rev-parse", "--short", "HEAD") + (
        "+" if _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results") else ""
    )


def _git(*arguments: str) -> str:
    root = Path(__file__).parents[1]
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=root).stdout.strip()
