"""A probe's records, or any flat dict of numbers, as TensorBoard's scalars."""

import os
from collections.abc import Mapping
from typing import Any

from fastent.activations.probe import Probe
from fastent.activations.records import ProbeRecords
from fastent.errors import FastentError
from fastent.options import whole_number
from fastent.runtime.optional import needed

__all__ = ["log_to_tensorboard"]


def log_to_tensorboard(writer: Any, found: Any, step: int | None = None, *, prefix: str = "") -> None:
    """Write numbers as scalars.

    Parameters
    ----------
    writer : SummaryWriter or path
        An open writer, or the folder to write to.
    found : mapping, ProbeRecords or Probe
        A flat dict, such as `probe.last`, `measurement.summary()` or what a probe returns; or all records, each at its step.
    step : int, optional
        The step of a dict; records have their own.
    prefix : str, default ""
        Added before each name.

    Raises
    ------
    FastentError
        A dict without a step, records with one; neither of both; tensorboard is not installed.

    Examples
    --------
    log_to_tensorboard(writer, probe(epoch), epoch)  # nothing is written when the probe did not record
    log_to_tensorboard("logs", probe.records)
    """
    if found is None:  # from a probe that had nothing to record at this step
        return
    records = found.records if isinstance(found, Probe) else found
    if isinstance(records, ProbeRecords):
        if step is not None:
            raise FastentError(f"step={step}: records have steps of their own, leave it out")
        rows = [(int(records.step[at]), records.flat(at)) for at in range(len(records))]
    elif isinstance(records, Mapping):
        if step is None:
            raise FastentError("step is missing: say which step these numbers are of")
        rows = [(whole_number("step", step, minimum=0), dict(records))]
    else:
        raise FastentError(f"found is {type(found).__name__}: a dict of numbers, or the records of a probe, is needed")
    if isinstance(writer, (str, os.PathLike)):
        with needed("torch.utils.tensorboard", "SummaryWriter")(os.fspath(writer)) as opened:
            _write(opened, rows, prefix)
    else:
        _write(writer, rows, prefix)


def _write(writer: Any, rows: list[tuple[int, dict[str, Any]]], prefix: str) -> None:
    for step, numbers in rows:
        for name, value in numbers.items():
            writer.add_scalar(prefix + name, float(value), step)
