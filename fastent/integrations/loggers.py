"""Numbers of a probe, a run, a measurement or any flat dict, in the logger that a training loop already has."""

import math
import os
import re
import weakref
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from fastent.activations.probe import Probe
from fastent.activations.records import ProbeRecords
from fastent.errors import FastentError
from fastent.measurement.result import Measurement
from fastent.options import whole_number
from fastent.printable import printable, shortened
from fastent.runtime.optional import needed
from fastent.training.run import Run
from fastent.training.run_records import test_error_of_records

__all__ = ["PREFIX", "log_to", "prefixed"]

PREFIX = "fastent/"
# What MLflow accepts in a name, and how long it may be.
_NOT_OF_MLFLOW = re.compile(r"[^\w./ -]")
_LONGEST_OF_MLFLOW = 250
# The step of Weights & Biases into whose row the last numbers of a run went.
_open_rows: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


def log_to(logger: Any, found: Any, step: int | None = None, *, prefix: str = PREFIX) -> None:
    """Send numbers to Weights & Biases, MLflow, TensorBoard, or any other logger of a training loop.

    Parameters
    ----------
    logger : object
        A run of Weights & Biases or the module `wandb`; the module `mlflow`; a SummaryWriter, or the folder of a new one; a
        logger of Lightning, or its Fabric; an Accelerator; or any function of a dict of numbers and a step.
    found : dict, Probe, ProbeRecords, Run, Measurement or None
        A flat dict of numbers, such as a probe returns, and None where it had nothing to record; a measurement's summary; all
        records of a probe, each at its own step; or all records of a run, means over its seeds, each at its number of
        parameter updates (the epoch, unless the run has a `batch_size`).
    step : int, optional
        The step of these numbers, such as the epoch. Records have steps of their own.
    prefix : str, default "fastent/"
        Added before each name: "fastent/LAYER/radius/CLASS", "fastent/error". NaNs are left out.

    Raises
    ------
    FastentError
        A dict without a step, records with one; a logger or numbers of another kind; `wandb.init` was not called; names that
        MLflow, which accepts few characters, could not tell apart; tensorboard is not installed.

    Notes
    -----
    Weights & Biases refuses steps that are less than its own. The numbers therefore join the row that the loop writes next or
    has written last, and "fastent/step" is their horizontal axis.

    Examples
    --------
    >>> import fastent as fe
    >>> logged = []
    >>> fe.log_to(lambda numbers, step: logged.append((step, numbers)), {"error": 0.25}, step=3)
    >>> logged
    [(3, {'fastent/error': 0.25})]
    """
    rows = list(_rows(found, step))
    if isinstance(logger, (str, os.PathLike)):
        with needed("torch.utils.tensorboard", "SummaryWriter", extra="tensorboard")(os.fspath(logger)) as writer:
            _send(writer, rows, prefix)
    else:
        _send(logger, rows, prefix)


def prefixed(numbers: Mapping[str, float], prefix: str) -> dict[str, float]:
    """The numbers by their names in a logger, without NaNs. The name of a whole model, as a layer, is empty."""
    return {prefix + name.lstrip("/"): float(value) for name, value in numbers.items() if not math.isnan(value)}


def _rows(found: Any, step: int | None) -> Iterator[tuple[int, Mapping[str, float]]]:
    if found is None:  # from a probe that had nothing to record at this step
        return
    records = found.records if isinstance(found, Probe) else found
    if isinstance(records, ProbeRecords | Run) and step is not None:
        raise FastentError(f"step={step}: records have steps of their own, leave it out")
    if isinstance(records, Run):
        yield from _rows_of_run(records)
        return
    if isinstance(records, ProbeRecords):
        yield from ((int(records.step[at]), records.flat(at)) for at in range(len(records)))
        return
    numbers = found.summary() if isinstance(found, Measurement) else found
    if not isinstance(numbers, Mapping):
        raise FastentError(
            f"found is {type(found).__name__}: a flat dict of numbers, a measurement, a run, a probe or its records is needed"
        )
    if step is None:
        raise FastentError("step is missing: say which step these numbers are of")
    yield whole_number("step", step, minimum=0), {str(name): _number(name, value) for name, value in numbers.items()}


def _rows_of_run(run: Run) -> Iterator[tuple[int, Mapping[str, float]]]:
    """Means over the seeds; what was not measured at a record is NaN, and left out."""
    curves = {"epoch": run.epoch, "train_error": run.train_error.mean(0), "test_error": test_error_of_records(run).mean(0)}
    for layer in range(run.n_layers):
        for name in ("mixing", "neighbor_error"):
            curves[f"{layer}/{name}"] = getattr(run, name)[:, :, layer].mean(0)
        for c, name in enumerate(run.class_names):
            curves[f"{layer}/radius/{name}"] = run.radius[:, :, layer, c].mean(0)
    for at, step in enumerate(run.update.tolist()):
        yield step, {name: float(curve[at]) for name, curve in curves.items()}


def _number(name: Any, value: Any) -> float:
    try:
        if not isinstance(value, (str, bytes)):
            return float(value)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of several elements
        pass
    raise FastentError(f"found[{name!r}] is {shortened(printable(repr(value)), 80)}: one number for each name is needed")


def _send(logger: Any, rows: list[tuple[int, Mapping[str, float]]], prefix: str) -> None:
    """The kinds of logger are told apart by what they have, so that none of their packages is imported."""
    module = getattr(logger, "__name__", "") or type(logger).__module__
    for step, numbers in rows:
        named = prefixed(numbers, prefix)
        if module.partition(".")[0] == "wandb":
            _to_wandb(logger, named, step, prefix)
        elif hasattr(logger, "add_scalar"):  # SummaryWriter
            for name, value in named.items():
                logger.add_scalar(name, value, step)
        elif hasattr(logger, "log_metrics"):  # mlflow; loggers of Lightning, Comet
            logger.log_metrics(_of_mlflow(named) if "mlflow" in module else named, step=step)
        elif hasattr(logger, "log_dict"):  # Fabric
            logger.log_dict(named, step=step)
        elif hasattr(logger, "log"):  # Accelerator
            logger.log(named, step=step)
        elif callable(logger):
            logger(named, step)
        else:
            raise FastentError(
                f"logger is {type(logger).__name__}: a wandb run, mlflow, a SummaryWriter, or a function of (numbers, step) is "
                "needed"
            )


def _to_wandb(logger: Any, named: dict[str, float], step: int, prefix: str) -> None:
    """Add to the open row, unless it has numbers of another step already: the steps of rows may be the loop's own."""
    run = logger.run if isinstance(logger, ModuleType) else logger
    if run is None:
        raise FastentError("wandb has no run yet: call wandb.init first")
    axis = f"{prefix}step"
    if prefix:
        run.define_metric(f"{prefix}*", step_metric=axis)
    if _open_rows.get(run) == run.step:
        run.log({}, commit=True)
    run.log(named | {axis: step}, commit=False)
    _open_rows[run] = run.step


def _of_mlflow(named: dict[str, float]) -> dict[str, float]:
    """With names that MLflow accepts: few characters, and each a path that is in its shortest form."""
    accepted: dict[str, float] = {}
    for name, value in named.items():
        parts = [part if part.strip(".") else "_" * len(part) for part in _NOT_OF_MLFLOW.sub("_", name).split("/") if part]
        short = shortened("/".join(parts), _LONGEST_OF_MLFLOW).replace("…", "_")
        if short in accepted:
            raise FastentError(f"MLflow would call two numbers {short!r}: give the probe classes= of other names")
        accepted[short] = value
    return accepted
