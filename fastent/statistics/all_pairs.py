"""Where statistics over pairs of rows start from: rows that fit in memory, with distances in range."""

from typing import Any

from numpy.typing import NDArray

from fastent.arrays.ranges import check_range
from fastent.arrays.validation import Labels, bytes_in_memory, in_memory
from fastent.runtime.memory import check_fits
from fastent.search.sketch import typical_scale
from fastent.search.sweep import LabelledPoints

__all__ = ["points_to_pair"]


def points_to_pair(
    X: NDArray[Any], labels: Labels, needed: int, what: str, remedy: str, memory_budget: int | str | None, *, whole: bool = True
) -> LabelledPoints:
    """Points that are in memory if the `whole` of them meet, and otherwise read block by block; `needed` bytes come on top."""
    check_fits(needed + whole * bytes_in_memory(X), what, remedy, memory_budget)
    rows = in_memory(X) if whole else X
    check_range(rows)
    return LabelledPoints(rows, labels.codes, typical_scale(rows), len(labels.classes))
