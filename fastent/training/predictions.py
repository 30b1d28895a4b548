"""What the networks of a run say of their training points, with the weights of the inversions and with the last ones.

The weights at an inversion are not kept, since which record it is shows only later. Training is repeated up to the last
inversion instead, which gives the same bits on the same machine; that it did is checked by the points that are misclassified.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.data.training_set import Data
from fastent.errors import FastentError
from fastent.runtime.progress import Progress
from fastent.runtime.threads import limit_threads
from fastent.training.remade import session_of
from fastent.training.run import Run
from fastent.training.snapshot import Snapshot

__all__ = ["Predictions", "predictions_at_end", "predictions_at_inversions"]


class Predictions(NamedTuple):
    """Predictions of several networks for m points.

    votes: (m, C) share of the networks that predict each class. probability: (m, C) mean of their softmax outputs. Both are NaN
    for a point that was asked of no network.
    """

    votes: NDArray[np.float64]
    probability: NDArray[np.float64]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(m,) the class that most networks predict, ties by the mean probability; -1 for a point asked of none."""
        place = np.lexsort((self.probability, self.votes), axis=1)[:, -1]
        return np.where(np.isnan(self.votes[:, 0]), -1, place)

    def of(self, classes: NDArray[np.int64]) -> NDArray[np.float64]:
        """(m,) mean probability of one class for each point; NaN where the class is -1."""
        found = np.take_along_axis(self.probability, np.maximum(classes, 0)[:, None], axis=1)[:, 0]
        return np.where(classes < 0, np.nan, found)


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
    _check_known(run)
    snapshot, sums = session_of(run, data).at_end_of(run), _Sums(points, len(run.classes))
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
    _check_known(run)
    codes, turns = run.codes[points], run.straggler_epoch
    sums = _Sums(points, len(run.classes))
    if np.isnan(turns).all():
        return sums.means()

    def observe(snapshot: Snapshot) -> None:
        for network, c in zip(*np.nonzero(turns == snapshot.epoch), strict=True):
            sums.add(network, snapshot, np.flatnonzero(codes == c))

    with limit_threads(run.config.get("threads")):
        session = session_of(run, data, epochs=int(np.ceil(np.nanmax(turns))))
        again = session.train(None, observe, progress, observe_within=True, what="predictions at the inversions")
    if not np.array_equal(again.wrong, run.wrong[:, run.positions(again.epoch)]):
        raise FastentError(
            "training took another course when it was repeated to see what the networks predicted at the inversions, as it may "
            "on another machine or with other versions: train the run again here"
        )
    return sums.means()


def _check_known(run: Run) -> None:
    if run.config.get("streamed"):
        raise FastentError("the run was streamed from disk: what its networks predicted is not known")
    if run.config.get("exclude_per_seed") is not None:
        raise FastentError("the networks were trained without points of their own (exclude_per_seed), which are not kept")
