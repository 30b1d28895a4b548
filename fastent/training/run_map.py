"""Maps of the training points of a run: as a hidden layer of its first network has them at the end, and as it gets them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import as_features, check_lengths
from fastent.data.training_set import Data
from fastent.errors import FastentError
from fastent.statistics.point_map import MOST_SHOWN, PointMap, most_shown, point_maps
from fastent.training.run_records import RunRecords

__all__ = ["FinalLayers", "RunMaps", "final_layers", "run_maps"]


class FinalLayers(NamedTuple):
    """What the first network makes of the training points after the last epoch.

    hidden : one (n, units) for each hidden layer. predicted : (n,) codes of classes.
    """

    hidden: list[NDArray[Any]]
    predicted: NDArray[np.int64]


class RunMaps(NamedTuple):
    """Maps of the same training points, by method: of the last hidden layer if it is known, and of the inputs.

    kept : how many stragglers are shown in any case, because not all points are.
    """

    hidden: dict[str, PointMap]
    inputs: dict[str, PointMap]
    predicted: NDArray[np.int64] | None
    kept: int


def final_layers(run: RunRecords, data: Data) -> FinalLayers | None:
    """Layers of a fully connected run in memory; None for other networks, whose layers are not those of `hidden`.

    Raises
    ------
    FastentError
        The run was trained on other data.
    """
    if run.config.get("model") is not None or run.config.get("streamed"):
        return None
    if run.config["fingerprint"] != data.fingerprint:
        raise FastentError(
            f"data has fingerprint {data.fingerprint}, the run was trained on {run.config['fingerprint']}: pass the same data"
        )
    parameters = [run.state[str(i)][0] for i in range(2 * len(run.config["hidden"]) + 2)]
    used = np.logical_or(data.x_train.any(0), data.x_test.any(0))  # the inputs that a network in memory has
    first = np.zeros((len(parameters[0]), len(used)), parameters[0].dtype)
    first[:, used] = parameters[0]
    values, hidden = data.x_train, []
    for weight, bias in zip((first, *parameters[2:-2:2]), parameters[1:-2:2], strict=True):
        values = values @ weight.T + bias
        values = np.tanh(values) if run.config["activation"] == "tanh" else np.maximum(values, 0)
        hidden.append(values)
    return FinalLayers(hidden, (values @ parameters[-2].T + parameters[-1]).argmax(1))


def run_maps(run: RunRecords, points: Any, methods: Sequence[str], *, layer: int = -1) -> RunMaps:
    """Maps of the training points, `fe.Data` or (n, ...) as stored: those of a layer take `fe.Data`.

    Of many points a sample is shown, and the consensus stragglers.
    """
    final = final_layers(run, points) if isinstance(points, Data) else None
    inputs = points.x_train if isinstance(points, Data) else points
    inputs = as_features(inputs.reshape(len(inputs), -1) if inputs.ndim != 2 else inputs, name="points")
    check_lengths(len(run.index), len(inputs), features_name="run", labels_name="points")
    spaces = [inputs] if final is None else [inputs, final.hidden[layer]]
    most = min(MOST_SHOWN, *(most_shown(space.shape[1]) for space in spaces))
    share = run.straggler_share
    stragglers = np.flatnonzero(share >= 0.5)
    stragglers = stragglers[np.argsort(-share[stragglers], kind="stable")]
    found = [point_maps(space, run.codes, methods, k=10, most=most, keep=stragglers) for space in spaces]
    shown = next(iter(found[0].values())).rows if found[0] else np.arange(0)
    return RunMaps(
        hidden=found[1] if len(found) > 1 else {},
        inputs=found[0],
        predicted=None if final is None else final.predicted,
        kept=int(np.isin(stragglers, shown).sum()) if len(shown) < len(inputs) else 0,
    )
