"""Runs, or measurements, side by side on one page."""

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastent.errors import FastentError
from fastent.files import first_line
from fastent.intervals import Estimate
from fastent.training.run import RECORDS_FILE, Run, load_run

__all__ = ["Stored", "distinct_names", "load_all", "write_comparison"]

_SUMMARY = "summary.json"


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


def write_comparison(
    folders: Sequence[str | os.PathLike[str]], path: str | os.PathLike[str], *, command: str | None = None
) -> None:
    """Write what `fastent run`, or `fastent measure`, left in several folders as one HTML page that needs nothing else.

    Parameters
    ----------
    folders : sequence of path
        Two or more, in the order in which they are to be shown: layers, epochs, networks.
    path : path
        The file to write, whole or not at all; its folder must exist.
    command : str, optional
        The command line that makes the page again.

    Raises
    ------
    FastentError
        Fewer than two folders, the same one twice, runs among measurements, a folder without either.
    """
    if len(folders) < 2:
        raise FastentError(f"{len(folders)} folder to compare: name two or more")
    names, loaded = distinct_names(folders), load_all(folders)
    runs = [each for each in loaded if isinstance(each, Run)]
    measurements = [each for each in loaded if isinstance(each, Stored)]
    if runs and measurements:
        run, measurement = (
            next(n for n, x in zip(names, loaded, strict=True) if isinstance(x, kind)) for kind in (Run, Stored)
        )
        raise FastentError(f"{run!r} is a run and {measurement!r} a measurement: compare runs with runs, or measurements")
    if runs:
        from fastent.report.compared_runs import write_compared_runs

        write_compared_runs(runs, names, path, command=command)
    else:
        from fastent.report.compared_measurements import write_compared_measurements

        write_compared_measurements(measurements, names, path, command=command)


def load_all(folders: Sequence[str | os.PathLike[str]]) -> list[Run | Stored]:
    """What is in the folders, runs or measurements."""
    return [
        load_run(folder) if (Path(folder) / RECORDS_FILE).is_file() else _load_measurement(Path(folder)) for folder in folders
    ]


def distinct_names(folders: Sequence[str | os.PathLike[str]]) -> list[str]:
    """The last parts of the paths, as few as tell them apart."""
    parts = [Path(folder).resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    twice = next(str(folder) for folder, each in zip(folders, parts, strict=True) if parts.count(each) > 1)
    raise FastentError(f"the folder {twice!r} is named twice: name different ones")


def _load_measurement(folder: Path) -> Stored:
    path = folder / _SUMMARY
    if not path.is_file():
        raise FastentError(f"no run and no measurement in {str(folder)!r}: name folders that fastent run or measure wrote")
    try:
        how = json.loads(path.read_text(encoding="utf-8"))
        statistics = dict(_estimates(how.pop("statistics")))
        for name in ("points", "features", "queries", "k"):
            how[name] = int(how[name])
        how["classes"] = [str(name) for name in how["classes"]]
        how["asked"] = dict(how.get("asked") or {})
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise FastentError(
            f"{str(path)!r} is damaged, or no summary of fastent measure ({first_line(error)}): measure it again"
        ) from error
    return Stored(statistics, how)


def _estimates(stored: dict[str, dict[str, float | None]]) -> Iterator[tuple[str, Estimate]]:
    for name, numbers in stored.items():
        value, error, low, high = (
            math.nan if numbers.get(key) is None else float(numbers[key] or 0.0)
            for key in ("value", "standard_error", "low", "high")
        )
        yield name, Estimate(value, error, low, high)
