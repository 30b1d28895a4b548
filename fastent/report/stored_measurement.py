"""A measurement as it was stored: its statistics, without its points."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastent.errors import FastentError
from fastent.io.reading import is_there, read_json, reading
from fastent.statistics.intervals import Estimate

__all__ = ["Stored", "load_measurement"]

_SUMMARY = "summary.json"
_KIND = "no summary of fastent measure"


@dataclass(frozen=True, eq=False)
class Stored:
    """What `fastent measure` kept of a measurement: its statistics, and how it was measured.

    Attributes
    ----------
    statistics : dict of Estimate
        By names such as "mixing/overlap". NaN where it could not be measured; a standard error of NaN where none is known.
    how : dict
        points, features, classes, queries, sampled, k, normalize, and under "asked" the options.
    """

    statistics: dict[str, Estimate]
    how: dict[str, Any]


def load_measurement(folder: Path) -> Stored:
    """From the summary that `fastent measure` wrote into a folder."""
    path = folder / _SUMMARY
    if not is_there(path):
        raise FastentError(f"no run and no measurement in {str(folder)!r}: name folders that fastent run or measure wrote")
    how = read_json(path, "measure it again", _KIND)
    with reading(path, "measure it again", _KIND):
        statistics = dict(_estimates(how.pop("statistics")))
        for name in ("points", "features", "queries", "k"):
            how[name] = int(how[name])
        how["classes"] = [str(name) for name in how["classes"]]
        how["asked"] = dict(how.get("asked") or {})
    return Stored(statistics, how)


def _estimates(stored: dict[str, dict[str, float | None]]) -> Iterator[tuple[str, Estimate]]:
    for name, numbers in stored.items():
        value, error, low, high = (
            math.nan if numbers.get(key) is None else float(numbers[key] or 0.0)
            for key in ("value", "standard_error", "low", "high")
        )
        yield name, Estimate(value, error, low, high)
