"""What a probe finds: errors and loss on labelled rows, the reading of one pass, and the records that readings make."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.activations.records import OF_LAYERS, ProbeRecords
from fastent.errors import FastentError, warn

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RECORDED", "Predictions", "ProbeRecorder", "checked_scalars", "logits_by_token"]


class Predictions:
    """Which rows the model gets wrong, and its cross-entropy, where it returns logits of these classes."""

    def __init__(self, classes: NDArray[Any]) -> None:
        self._classes = classes
        self._wrong: list[NDArray[np.bool_]] | None = [] if classes.dtype.kind in "iub" and classes.min() >= 0 else None
        self._warned = False
        self.loss = 0.0

    def add(self, output: Any, codes: NDArray[np.int64]) -> None:
        import torch

        logits = _logits(output)
        if self._wrong is not None and logits is not None and len(self._classes) == logits.shape[1] <= self._classes.max():
            warn(
                f"labels go up to {self._classes.max()} and the model has outputs for 0..{logits.shape[1] - 1}: "
                "no error, loss or stragglers are recorded"
            )
        if not self._warned and logits is not None and self._classes.dtype.kind in "iu" and self._classes.min() < 0:
            self._warned = True
            warn(
                f"labels go down to {self._classes.min()}, which no output of the model is for: no error, loss or stragglers "
                "are recorded; leave rows without a label out of the probe set"
            )
        if self._wrong is None or logits is None or len(logits) != len(codes) or logits.shape[1] <= self._classes.max():
            self._wrong = None
            return
        targets = torch.from_numpy(self._classes[codes].astype(np.int64)).to(logits.device)
        losses = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        self.loss += float(losses.cpu().double().sum())
        self._wrong.append((logits.argmax(1) != targets).cpu().numpy())

    def wrong(self) -> NDArray[np.bool_] | None:
        return np.concatenate(self._wrong) if self._wrong else None


def logits_by_token(output: Any, keep: "Tensor | None", labelled: NDArray[np.bool_] | None) -> Any:
    """Logits for each token that has a row: its own, or those of its input."""
    import torch

    logits = _first_logits(output)
    if labelled is None or keep is None or not isinstance(logits, torch.Tensor):
        return output
    if logits.ndim == 2 and len(logits) == len(keep):
        logits = logits.repeat_interleave(keep.sum(1), 0)
    elif logits.ndim == 3 and logits.shape[:2] == keep.shape:
        logits = logits[keep]
    else:
        return None
    if len(logits) != len(labelled):
        return None
    return logits[torch.from_numpy(labelled).to(logits.device)]


def _first_logits(output: Any) -> Any:
    if isinstance(output, Mapping):
        return output.get("logits")
    return output[0] if isinstance(output, (tuple, list)) and output else output


def _logits(output: Any) -> "Tensor | None":
    """(b, C) logits among what a model returns: itself, an item called logits, or the first of a tuple."""
    import torch

    output = _first_logits(output)
    usable = isinstance(output, torch.Tensor) and output.ndim == 2 and output.shape[1] > 1 and output.is_floating_point()
    return output if usable else None


_READ = ("error", "loss", "radius", "distance", "wrong", *OF_LAYERS)
# The arrays of records that have a value for each step.
RECORDED = ("step", *_READ)
_TAKEN = ("step", "layer", "class", "error", "loss", "radius", *OF_LAYERS)


@dataclass(frozen=True, eq=False)
class Reading:
    """What one pass found: error and loss (NaN without logits), radii (L, C), distances (L, C, C), other statistics (L,);
    the queries' rows (q, d) in the last layer if a map is wanted."""

    error: float
    loss: float
    wrong: NDArray[np.bool_]
    radius: NDArray[Any]
    distance: NDArray[Any]
    of_layers: dict[str, NDArray[Any]]
    queries: NDArray[np.int64] | None = None
    points: NDArray[np.float32] | None = None


class ProbeRecorder:
    """Steps, what was read at each, and the numbers that the caller gave with it (NaN where it gave none)."""

    def __init__(self, layers: tuple[str, ...]) -> None:
        self._layers = layers
        self.steps: list[int] = []
        self._values: dict[str, list[Any]] = {name: [] for name in _READ}
        self._scalars: dict[str, list[float]] = {}
        self.queries: NDArray[np.int64] | None = None
        self.points: NDArray[np.float32] | None = None

    def add(self, step: int, reading: Reading, scalars: dict[str, float], *, keep_distances: bool) -> None:
        values: dict[str, Any] = {"error": reading.error, "loss": reading.loss, "radius": reading.radius}
        values["wrong"] = np.packbits(reading.wrong)
        values |= {name: reading.of_layers.get(name, np.full(len(self._layers), np.nan)) for name in OF_LAYERS}
        if keep_distances:
            values["distance"] = reading.distance
        for name, value in values.items():
            self._values[name].append(value)
        for name in scalars.keys() - self._scalars.keys():
            self._scalars[name] = [np.nan] * len(self.steps)
        for name, given in self._scalars.items():
            given.append(scalars.get(name, np.nan))
        self.steps.append(step)
        self.queries, self.points = reading.queries, reading.points

    def restore(self, arrays: dict[str, NDArray[Any]], scalars: dict[str, list[float]]) -> None:
        """Take up records of another probe, by the names in `RECORDED`; statistics of layers that it lacks are NaN."""
        self.steps = arrays["step"].tolist()
        unknown = np.full((len(self.steps), len(self._layers)), np.nan)
        arrays = dict.fromkeys(OF_LAYERS, unknown) | arrays
        self._values = {name: list(arrays.get(name, np.empty(0)).copy()) for name in _READ}
        self._scalars = scalars

    def records(
        self, config: dict[str, Any], codes: NDArray[np.int64], labels: NDArray[Any], names: NDArray[Any] | None
    ) -> ProbeRecords:
        """Everything so far, of rows with these class codes; classes are called by `names`, or by their labels."""
        n_records, n_layers, n_classes = len(self.steps), len(self._layers), len(labels)
        shapes: dict[str, tuple[int, ...]] = {
            **dict.fromkeys(OF_LAYERS, (n_layers,)),
            "error": (),
            "loss": (),
            "radius": (n_layers, n_classes),
            "distance": (n_layers, n_classes, n_classes),
            "wrong": (-(-len(codes) // 8),),
        }
        arrays: dict[str, Any] = {
            name: np.array(values, np.uint8 if name == "wrong" else np.float64).reshape(n_records, *shapes[name])
            for name, values in self._values.items()
            if name != "distance" or len(values) == n_records
        }
        arrays.setdefault("distance", None)
        return ProbeRecords(
            config=config,
            layers=self._layers,
            classes=labels if names is None else names,
            codes=codes.copy(),
            step=np.array(self.steps, np.int64),
            scalars={name: np.array(values) for name, values in self._scalars.items()},
            queries=self.queries,
            points=self.points,
            **arrays,
        )


def checked_scalars(scalars: dict[str, Any]) -> dict[str, float]:
    """The caller's numbers, under names that the records do not have themselves."""
    checked = {}
    for name, value in scalars.items():
        if name in _TAKEN:
            raise FastentError(f"{name}={value!r}: the records have a {name} of their own; call it train_{name} or the like")
        try:
            checked[name] = float(value)
        except (TypeError, ValueError):
            raise FastentError(f"{name}={value!r}: a number is needed") from None
    return checked
