"""The readings of a probe as they come, and the arrays that they make."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.activations.probe_pass import Reading
from fastent.activations.records import OF_LAYERS, ProbeRecords
from fastent.errors import FastentError

__all__ = ["RECORDED", "ProbeRecorder", "checked_scalars"]

_READ = ("error", "loss", "radius", "distance", "wrong", *OF_LAYERS)
# The arrays of records that have a value for each step.
RECORDED = ("step", *_READ)
_TAKEN = ("step", "layer", "class", "error", "loss", "radius", *OF_LAYERS)


class ProbeRecorder:
    """Steps, what was read at each, and the numbers that the caller gave with it (NaN where it gave none)."""

    def __init__(self, layers: tuple[str, ...]) -> None:
        self._layers = layers
        self.steps: list[int] = []
        self._values: dict[str, list[Any]] = {name: [] for name in _READ}
        self._scalars: dict[str, list[float]] = {}

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

    def restore(self, arrays: dict[str, NDArray[Any]], scalars: dict[str, list[float]]) -> None:
        """Take up records of another probe, by the names in `RECORDED`."""
        self.steps = arrays["step"].tolist()
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
