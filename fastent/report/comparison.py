"""Runs, or measurements, compared on one page."""

import os
from collections.abc import Sequence
from pathlib import Path

from fastent.errors import FastentError
from fastent.report.compared_measurements import Stored, load_measurement, write_compared_measurements
from fastent.report.compared_runs import write_compared_runs
from fastent.training.run import RECORDS_FILE, Run, load_run

__all__ = ["distinct_names", "load_all", "write_comparison"]


def write_comparison(
    folders: Sequence[str | os.PathLike[str]], path: str | os.PathLike[str], *, command: str | None = None
) -> None:
    """Write what `fastent run`, or `fastent measure`, left in two or more folders as one HTML page, in their order.

    Refused are the same folder twice, runs among measurements, and a folder without either.
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
        write_compared_runs(runs, names, path, command=command)
    else:
        write_compared_measurements(measurements, names, path, command=command)


def load_all(folders: Sequence[str | os.PathLike[str]]) -> list[Run | Stored]:
    """What is in the folders, runs or measurements."""
    return [
        load_run(folder) if (Path(folder) / RECORDS_FILE).is_file() else load_measurement(Path(folder)) for folder in folders
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
