"""A run goes on only as what it was."""

from collections.abc import Iterable, Mapping
from typing import Any

from fastent.errors import FastentError

__all__ = ["check_same"]


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Refuse to go on with a run whose configuration differs in one of these keys."""
    for key in keys:
        if before.get(key) != now.get(key):
            raise FastentError(
                f"the run to resume has {key}={before.get(key)!r}, not {now.get(key)!r}{_hint(key)}: use the same "
                "configuration, or start anew (another folder, without resume, or --overwrite)"
            )


def _hint(key: str) -> str:
    """Classes differ most often where none were named, then or now."""
    return " (unless named, 'parity' for the data sets known by name and 'all' for any other data)" if key == "classes" else ""
