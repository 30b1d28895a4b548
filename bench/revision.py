"""Which code a result is of."""

import subprocess

__all__ = ["revision"]


def revision() -> str:
    """The commit, with a plus where files differ from it."""
    return _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()
