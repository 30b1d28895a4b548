"""Maps of the training points of a run: as a hidden layer of its first network has them at the end, and as it gets them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import as_features, check_lengths
from fastent.data.training_set import Data
from fastent.errors import FastentError
from fastent.statistics.point_map import MOST_SHOWN, PointMap, most_shown, point_maps
from fastent.training.run_records import RunRecords

if TYPE_CHECKING:
    from fastent.training.snapshot import Snapshot

__all__ = ["RunMaps", "run_maps"]


class RunMaps(NamedTuple):
    """Maps of the same training points, by method: of the last hidden layer if it is known, and of the inputs.

    kept : how many stragglers are shown in any case, because not all points are. without_hidden : why there is no map of the
    hidden layer, or "".
    """

    hidden: dict[str, PointMap]
    inputs: dict[str, PointMap]
    predicted: NDArray[np.int64] | None
    kept: int
    without_hidden: str


@dataclass(frozen=True)
class _Hidden:
    """A hidden layer of the first network, whose rows are computed when they are asked for: all may be too many to hold."""

    network: "Snapshot"
    layer: int
    shape: tuple[int, int]

    def __getitem__(self, points: NDArray[np.int64]) -> NDArray[Any]:
        hidden: NDArray[Any] = self.network.hidden(self.layer, points)[0]
        return hidden


def run_maps(run: RunRecords, points: Any, methods: Sequence[str], *, layer: int = -1) -> RunMaps:
    """Maps of the training points, `fe.Data` or (n, ...) as stored: those of a layer take `fe.Data`.

    Of many points a sample is shown, and the consensus stragglers.

    Raises
    ------
    FastentError
        The run was trained on other data.
    """
    network, why = _first_network(run, points)
    inputs = points.x_train if isinstance(points, Data) else points
    inputs = as_features(inputs.reshape(len(inputs), -1) if inputs.ndim != 2 else inputs, name="points")
    check_lengths(len(run.index), len(inputs), features_name="run", labels_name="points")
    spaces = [inputs] if network is None else [inputs, _hidden(network, layer, len(inputs))]
    most = min(MOST_SHOWN, *(most_shown(space.shape[1]) for space in spaces))
    share = run.straggler_share
    stragglers = np.flatnonzero(share >= 0.5)
    stragglers = stragglers[np.argsort(-share[stragglers], kind="stable")]
    found = [point_maps(space, run.codes, methods, k=10, most=most, keep=stragglers) for space in spaces]
    shown = next(iter(found[0].values())).rows if found[0] else np.arange(0)
    return RunMaps(
        hidden=found[1] if len(found) > 1 else {},
        inputs=found[0],
        predicted=None if network is None else network.logits[0].argmax(1),
        kept=int(np.isin(stragglers, shown).sum()) if len(shown) < len(inputs) else 0,
        without_hidden=why,
    )


def _first_network(run: RunRecords, points: Any) -> "tuple[Snapshot | None, str]":
    """The first network as it was at the end; or why it is not known."""
    from fastent.training.remade import check_data_of, first_network_at_end

    if run.config.get("streamed"):
        return None, "the run was streamed from disk, and its layers are not computed again"
    if not isinstance(points, Data):
        return None, "only the points themselves were given, not fe.Data"
    check_data_of(run, points)
    try:
        return first_network_at_end(run, points), ""
    except FastentError as error:
        return None, str(error)


def _hidden(network: "Snapshot", layer: int, n: int) -> _Hidden:
    return _Hidden(network, layer, (n, network.hidden(layer, np.arange(1)).shape[2]))
