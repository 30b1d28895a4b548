"""What the networks of a run say of their training points, with the weights of the inversions and with the last ones.

The weights at an inversion are not kept, since which record it is shows only later. Training is repeated up to the last
inversion instead, which gives the same bits on the same machine; that it did is checked by the points that are misclassified.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.activations.evaluation import torch_device
from fastent.data.training_set import Data
from fastent.errors import FastentError
from fastent.runtime.progress import Progress
from fastent.runtime.threads import limit_threads
from fastent.training.in_memory_networks import network_factory
from fastent.training.in_memory_session import InMemorySession
from fastent.training.remade import check_data_of
from fastent.training.run import Run
from fastent.training.snapshot import Snapshot
from fastent.training.straggler_list import Predictions

__all__ = ["predictions_at_end", "predictions_at_inversions"]

_NO_TEST = 10**9


class _Sums:
    """Votes and probabilities of m points, added up over networks."""

    def __init__(self, points: NDArray[np.int64], n_classes: int) -> None:
        self.points = points
        self._votes, self._probability = np.zeros((2, len(points), n_classes))
        self._asked = np.zeros(len(points))

    def add(self, network: int, snapshot: Snapshot, some: NDArray[np.int64]) -> None:
        """Add what one network says of some of the points (positions among them)."""
        from scipy.special import softmax

        logits = snapshot.logits[network, self.points[some]].astype(np.float64)
        self._votes[some, logits.argmax(1)] += 1
        self._probability[some] += softmax(logits, axis=1)
        self._asked[some] += 1

    def means(self) -> Predictions:
        asked = np.where(self._asked > 0, self._asked, np.nan)[:, None]
        return Predictions(self._votes / asked, self._probability / asked)


def predictions_at_end(run: Run, data: Data, points: NDArray[np.int64]) -> Predictions:
    """What all networks say of points (positions) with their last weights.

    Raises
    ------
    FastentError
        Other data; networks that were trained without points of their own, or that cannot be made again.
    """
    snapshot, sums = _session(run, data).at_end_of(run), _Sums(points, len(run.classes))
    for network in range(run.n_seeds):
        sums.add(network, snapshot, np.arange(len(points)))
    return sums.means()


def predictions_at_inversions(run: Run, data: Data, points: NDArray[np.int64], *, progress: Progress = None) -> Predictions:
    """What the networks that have an inversion of a point's class say of it with their weights at that inversion.

    Raises
    ------
    FastentError
        As for `predictions_at_end`; training that takes another course when it is repeated, as on another machine.
    """
    codes, turns = run.codes[points], run.straggler_epoch
    sums = _Sums(points, len(run.classes))
    if np.isnan(turns).all():
        return sums.means()

    def observe(snapshot: Snapshot) -> None:
        for network, c in zip(*np.nonzero(turns == snapshot.epoch), strict=True):
            sums.add(network, snapshot, np.flatnonzero(codes == c))

    with limit_threads(run.config.get("threads")):
        session = _session(run, data, epochs=int(np.ceil(np.nanmax(turns))))
        again = session.train(None, observe, progress, observe_within=True, what="predictions at the inversions")
    if not np.array_equal(again.wrong, run.wrong[:, run.positions(again.epoch)]):
        raise FastentError(
            "training took another course when it was repeated to see what the networks predicted at the inversions, as it may "
            "on another machine or with other versions: train the run again here"
        )
    return sums.means()


def _session(run: Run, data: Data, **changes: Any) -> InMemorySession:
    """The training of a run from the beginning, with some of its configuration changed and without tests."""
    if run.config.get("streamed"):
        raise FastentError("the run was streamed from disk: what its networks predicted is not known")
    if run.config.get("exclude_per_seed") is not None:
        raise FastentError("the networks were trained without points of their own (exclude_per_seed), which are not kept")
    check_data_of(run, data)
    config: dict[str, Any] = {**run.config, "test_every": _NO_TEST, **changes}
    config |= {"fingerprint": data.fingerprint, "digests": data.digests, "device": str(torch_device(config["device"]))}
    return InMemorySession(data, config, network_factory(config.get("model"), config["activation"], data), None)
