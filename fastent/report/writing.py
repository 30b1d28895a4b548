"""One function that writes the report of any result."""

import os
from inspect import signature
from typing import Any

from fastent.activations.records import ProbeRecords
from fastent.activations.trajectory import Trajectory
from fastent.errors import FastentError
from fastent.measurement.comparison import Comparison
from fastent.measurement.result import Measurement
from fastent.options import short_repr
from fastent.training.run import Run

__all__ = ["write_report"]


def write_report(result: Any, path: str | os.PathLike[str], **options: Any) -> None:
    """Write the report of a result as one HTML page, which needs no network and no other file.

    Parameters
    ----------
    result : Run, Measurement, Comparison, ProbeRecords or Trajectory
    path : path
        The file to write, whole or not at all.
    **options
        `command`, a text that the page shows as what reproduces it. Of a run also `points`, its training points as stored, for
        the pictures of stragglers and the map; `stragglers`, the result of `fe.stragglers`, for what the networks predicted of
        them; and `maps`, the methods of the map, such as ("umap", "pca"), or () for none. Of a measurement `name`, what was
        measured, and `images` (n, h, w) or (n, h, w, 3), pictures of its points.

    Raises
    ------
    FastentError
        Another kind of result; options that its report does not have; a probe that has recorded nothing.

    Examples
    --------
    >>> import fastent as fe, tempfile
    >>> from sklearn.datasets import load_digits
    >>> found = fe.measure(*load_digits(return_X_y=True), metrics=["geometry"])
    >>> fe.write_report(found, tempfile.mkdtemp() + "/digits.html", name="digits")
    """
    from fastent.report.compared_measurements import write_comparison_report
    from fastent.report.measurement import write_measurement_report
    from fastent.report.probe import write_probe_report
    from fastent.report.run import write_run_report
    from fastent.report.trajectory import write_trajectory_report

    writers: dict[type, Any] = {
        Run: write_run_report, Measurement: write_measurement_report, ProbeRecords: write_probe_report,
        Comparison: write_comparison_report, Trajectory: write_trajectory_report,
    }  # fmt: skip
    write = next((writer for kind, writer in writers.items() if isinstance(result, kind)), None)
    if write is None:
        raise FastentError(
            f"result is a {type(result).__name__}: pass a Run, Measurement, Comparison, Trajectory or the records of a probe"
        )
    known = [name for name, each in signature(write).parameters.items() if each.kind is each.KEYWORD_ONLY]
    strange = [name for name in options if name not in known]
    if strange:
        raise FastentError(
            f"{strange[0]}={short_repr(options[strange[0]])}: the options of the report of a {type(result).__name__} are "
            f"{', '.join(known)}"
        )
    write(result, path, **options)
