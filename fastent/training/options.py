"""The specification of a training run: every option with its default, its check and its description, each in one place.

    TrainingOptions               networks, optimisation, what counts as an inversion
    |-- InMemoryOptions           and those that only `fe.train` has
    `-- StreamedOptions           and those that only `fe.train_streamed` has

The functions, the experiments and the command line take their defaults from here, and the command line its help. The defaults
are the source paper's; data sets known by name have a few of their own (`fastent.data.presets`).
"""

import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from typing import Any, Literal

from fastent.errors import FastentError
from fastent.options import choice, number, whole_number
from fastent.statistics.inversion_rule import BURN_IN, MIN_RISE

__all__ = ["DEFAULTS", "STREAMED_DEFAULTS", "InMemoryOptions", "StreamedOptions", "environment", "sensible_threads"]

# More have no room for their records.
_MOST_EPOCHS = 10_000_000
_METRICS = ("geometry", "mixing")

Check = Callable[[str, Any], Any]


def _about(help: str, check: Check | None = None, *, values: Sequence[str] = (), unset: str = "") -> dict[str, Any]:
    """The metadata of a field: `help`, `check`, `values` to choose from, and `unset`, the meaning of None as the default.

    The check takes the option's name and a value and returns the value as it is kept, or raises FastentError.
    """
    return {"help": help, "check": check or partial(choice, choices=values), "values": values, "unset": unset}


_count = partial(whole_number, minimum=1)


def _optional(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def _widths(name: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
        raise FastentError(f"{name}={value!r}: a sequence of whole numbers is needed, for instance (20,)")
    widths = tuple(whole_number(name, width, minimum=1) for width in value)
    if not widths:
        raise FastentError(f"{name}=(): at least one hidden layer is needed, for instance (20,)")
    return widths


def _model(name: str, value: Any) -> Any:
    if not (value is None or isinstance(value, str) or callable(value)):
        raise FastentError(
            f"{name} is a {type(value).__name__}: pass 'cnn', 'package.module:name', or a function that returns a module"
        )
    return None if value == "mlp" else value


def _layers(name: str, value: Any) -> list[str] | str | None:
    return value if value is None or isinstance(value, str) else list(value)


def _metrics(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise FastentError(f"{name}={value!r}: a sequence of {', '.join(map(repr, _METRICS))} is needed")
    chosen = [choice(name, metric, _METRICS) for metric in value]
    if "geometry" not in chosen:
        raise FastentError(f"{name}={tuple(chosen)!r}: 'geometry' is always recorded, name it too")
    return tuple(metric for metric in _METRICS if metric in chosen)


def _device(_: str, value: Any) -> str:
    """Whether torch has this device is checked where it is used."""
    return "cpu" if value is None else str(value)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Networks, optimisation, and what counts as an inversion; checked when it is made.

    `epochs` of None depends on the data; a `model` of None is a fully connected network of `hidden` layers, and a `batch_size`
    of None is gradient descent on all points.
    """

    hidden: tuple[int, ...] = field(default=(20,), metadata=_about("Units of each hidden layer, e.g. 512,128.", _widths))
    activation: Literal["tanh", "relu"] = field(
        default="tanh", metadata=_about("Activation function.", values=("tanh", "relu"))
    )
    model: Any = field(
        default=None,
        metadata=_about("mlp, cnn, or package.module:factory of a torch module.", _model, values=("mlp", "cnn"), unset="mlp"),
    )
    layers: Any = field(default=None, metadata=_about("Names of the model's layers to record, separated by commas.", _layers))
    seeds: int = field(default=10, metadata=_about("Number of networks to train together.", _count))
    seed: int = field(
        default=0, metadata=_about("Seed of the first network.", partial(whole_number, minimum=0, maximum=2**63 - 1))
    )
    epochs: int | None = field(
        default=None,
        metadata=_about("Passes over the data.", _optional(partial(whole_number, minimum=1, maximum=_MOST_EPOCHS))),
    )
    lr: float = field(default=0.1, metadata=_about("Learning rate.", partial(number, above=0)))
    optimizer: Any = field(default="sgd", metadata=_about("Optimiser.", values=("sgd", "adam")))
    momentum: float = field(default=0.0, metadata=_about("SGD momentum.", partial(number, minimum=0, below=1)))
    batch_size: int | None = field(
        default=None, metadata=_about("Points in each update.", _optional(_count), unset="all points")
    )
    burn_in: float = field(
        default=BURN_IN,
        metadata=_about("Parameter updates at the start in which no turn counts as an inversion.", partial(number, minimum=0)),
    )
    min_rise: float = field(
        default=MIN_RISE,
        metadata=_about(
            "Least fall before and rise after an inversion, as a share of the radius's range.",
            partial(number, above=0, maximum=1),
        ),
    )
    device: str | None = field(
        default=None, metadata=_about("cpu, cuda, cuda:1, ...", _device, values=("cpu", "cuda"), unset="cpu")
    )
    threads: int | None = field(
        default=None,
        metadata=_about(
            "Number of threads.", _optional(_count), unset="all processors, or OMP_NUM_THREADS; 1 for small problems"
        ),
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            object.__setattr__(self, each.name, each.metadata["check"](each.name, getattr(self, each.name)))
        if self.momentum and self.optimizer == "adam":
            raise FastentError(f"momentum={self.momentum}: only optimizer='sgd' has a momentum")

    def config(self, *names: str) -> dict[str, Any]:
        """Some of the options for the configuration of a run, JSON throughout."""
        values = {name: getattr(self, name) for name in names}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class InMemoryOptions(TrainingOptions):
    """The options of `fe.train`."""

    init_scale: float = field(
        default=1.0, metadata=_about("Factor by which the initial weights are multiplied.", partial(number, above=0))
    )
    test_every: int = field(default=10, metadata=_about("Epochs between test errors.", _count))
    dtype: Literal["float32", "float64"] = field(
        default="float32", metadata=_about("Precision of the networks.", values=("float32", "float64"))
    )


@dataclass(frozen=True, kw_only=True)
class StreamedOptions(TrainingOptions):
    """The options of `fe.train_streamed`; `optimizer` may also be the package.module:Class of any torch optimiser."""

    optimizer: str = field(
        default="sgd",
        metadata=_about(
            "sgd, adam, or package.module:Class of a torch optimiser.", lambda _, value: str(value), values=("sgd", "adam")
        ),
    )
    momentum: float = field(default=0.0, metadata=_about("SGD momentum.", partial(number, minimum=0)))
    record_every: float | None = field(
        default=None,
        metadata=_about(
            "Epochs between records; with a batch size also a fraction, e.g. 0.25.",
            _optional(partial(number, above=0)),
            unset="1, and more often within the first",
        ),
    )
    record_points: int | None = field(
        default=50_000,
        metadata=_about("Number of randomly drawn points to record.", _optional(partial(whole_number, minimum=2))),
    )
    queries: int = field(
        default=5_000, metadata=_about("How many of the recorded points to use as queries for neighbour mixing.", _count)
    )
    metrics: Sequence[str] = field(default=_METRICS, metadata=_about("Statistics to record.", _metrics, values=_METRICS))


DEFAULTS, STREAMED_DEFAULTS = InMemoryOptions(), StreamedOptions()


# Floating-point operations of an epoch (some 10 ms on one core) below which threads cost more than they bring, and very much
# more where something else runs on the machine: they wait for each other many times an epoch.
_WORTH_SHARING = 1e9


def sensible_threads(threads: int | None, shape: tuple[int, ...], config: dict[str, Any], n_classes: int) -> int | None:
    """One thread if no number is given and an epoch of the fully connected networks is too short to share; else `threads`."""
    widths: tuple[int, ...] = (shape[1], *config["hidden"], n_classes)
    weights = sum(before * after for before, after in pairwise(widths))
    # Forward, and twice that backward, two operations for each weight and point.
    operations = 6.0 * shape[0] * int(config["seeds"]) * weights
    return 1 if threads is None and operations < _WORTH_SHARING else threads


def environment() -> dict[str, Any]:
    """The environment of training for a configuration: versions, the machine, and threads."""
    import numpy as np
    import torch

    return {
        "fastent": version("fastent"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }
