"""Scores of how difficult each training point is: recorded of every network in one training, combined over any of them."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.io.result_cache import Arrays
from fastent.training.run import Run
from fastent.training.snapshot import Snapshot

__all__ = ["EL2N_EPOCH", "OF_INVERSION", "SCORES", "Score", "ScoreRecorder", "combined", "forgetting", "snapshot_epochs"]

# When EL2N is taken, unless training ends before.
EL2N_EPOCH = 20
# Of DUAL: the window, and which part of the training it takes, as its authors take 30 of 200 epochs.
_WINDOW, _EARLY = 10, 0.15


class Score(NamedTuple):
    """What a score measures of a point, and where it comes from. Larger means more suspicious, in every one."""

    definition: str
    source: str


SCORES = {
    "straggler share": Score("share of the networks at whose inversion it is misclassified", "Ciceri et al. 2024"),
    "loss at the inversion": Score("cross-entropy with the weights of its class's inversion", "fastent"),
    "EL2N": Score("distance of softmax and one-hot label at an early epoch", "Paul et al. 2021"),
    "forgetting": Score("transitions from right to wrong", "Toneva et al. 2019"),
    "AUM": Score("minus the mean over epochs of its logit less the largest other", "Pleiss et al. 2020"),
    "confidence": Score("1 - mean over epochs of its label's probability", "Swayamdipta et al. 2020"),
    "variability": Score("standard deviation over epochs of its label's probability", "Swayamdipta et al. 2020"),
    "incorrectness": Score("share of the epochs at which it is misclassified", "Swayamdipta et al. 2020"),
    "DUAL": Score(
        "mean over windows of 10 epochs, in the first 15 % of the training, of (1 - mean) times standard deviation of its "
        "label's probability",
        "Cho et al. 2025",
    ),
    "maximum probability": Score(
        "1 - largest softmax after the last epoch, whatever its label", "Hendrycks & Gimpel 2017, Pukowski & Lu 2024"
    ),
    "energy": Score(
        "-log sum exp of the logits after the last epoch, whatever its label", "Liu et al. 2020, Pukowski & Lu 2024"
    ),
    "rank disagreement": Score(
        "standard deviation (ddof 1) over networks of its rank by confidence, as a share of the points", "fastent"
    ),
    "final loss": Score("cross-entropy after the last epoch", "cross-entropy"),
}
# Of all networks together, not of each.
_OF_SEVERAL = "rank disagreement"
# Those that a point has only where its class turns.
OF_INVERSION = ("straggler share", "loss at the inversion")


class ScoreRecorder:
    """Observes a training that repeats a finished run, whose inversions say when to take which loss.

    `observe` is given to the training; `per_network` then has every score but the rank disagreement, (S, n), and
    `gradient_share`, (S, E), the stragglers' part of the sum of |softmax - one-hot| over all points.
    """

    def __init__(self, run: Run, codes: NDArray[np.int64], *, epochs: int, el2n_epoch: int) -> None:
        shape = run.n_seeds, len(codes)
        self._run, self._codes, self._last, self._el2n_epoch = run, codes, epochs, el2n_epoch
        self._points = np.arange(len(codes))
        self._sum, self._square, self._margin, self._dual = (np.zeros(shape) for _ in range(4))
        self._window: deque[NDArray[np.float64]] = deque(maxlen=min(_WINDOW, epochs))
        self._early = max(round(_EARLY * epochs), min(_WINDOW, epochs))
        self._windows = self._seen = 0
        self._at_inversion = np.full(shape, np.nan)
        self._turns = snapshot_epochs(run)
        self._found: Arrays = {}
        self._shares: list[NDArray[np.float64]] = []

    def observe(self, snapshot: Snapshot) -> None:
        probability, logits = snapshot.probability, snapshot.logits.astype(np.float64)
        own = probability[:, self._points, self._codes]
        self._seen += 1
        self._sum += own
        self._square += own * own
        self._margin += self._margins(logits)
        # |softmax - one-hot| summed over classes is twice what is missing at the point's own.
        missing = 1 - own
        self._shares.append((missing * self._run.stragglers).sum(1) / np.maximum(missing.sum(1), 1e-300))
        self._add_to_dual(int(snapshot.epoch), own)
        now = (self._turns == snapshot.epoch)[:, self._codes]
        loss = -np.log(np.maximum(own, np.finfo(float).tiny))
        self._at_inversion[now] = loss[now]
        if snapshot.epoch == self._el2n_epoch:
            apart = probability.copy()
            apart[:, self._points, self._codes] -= 1
            self._found["EL2N"] = np.linalg.norm(apart, axis=2)
        if snapshot.epoch == self._last:
            from scipy.special import logsumexp

            self._found |= {
                "final loss": loss,
                "maximum probability": 1 - probability.max(2),
                "energy": -logsumexp(logits, axis=2),
            }

    def per_network(self) -> Arrays:
        mean = self._sum / self._seen
        wrong = self._of_errors()
        turned = self._run.turned[:, -1][:, self._codes]
        found = self._found | {
            "straggler share": np.where(turned, self._run.stragglers, np.nan),
            "loss at the inversion": self._at_inversion,
            "AUM": -self._margin / self._seen,
            "confidence": 1 - mean,
            "variability": np.sqrt(np.maximum(self._square / self._seen - mean**2, 0)),
            **wrong,
        }
        return found | ({"DUAL": self._dual / self._windows} if self._windows else {})

    def gradient_share(self) -> NDArray[np.float64]:
        return np.stack(self._shares, axis=1)

    def _margins(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Own logit less the largest other."""
        others = logits.copy()
        others[:, self._points, self._codes] = -np.inf
        margins: NDArray[np.float64] = logits[:, self._points, self._codes] - others.max(2)
        return margins

    def _add_to_dual(self, epoch: int, own: NDArray[np.float64]) -> None:
        if not 1 <= epoch <= self._early:
            return
        self._window.append(own)
        if len(self._window) == self._window.maxlen and len(self._window) > 1:
            window = np.stack(self._window)
            self._dual += (1 - window.mean(0)) * window.std(0, ddof=1)
            self._windows += 1

    def _of_errors(self) -> Arrays:
        n, shape = len(self._codes), self._at_inversion.shape
        found = {name: np.zeros(shape) for name in ("forgetting", "never learned", "incorrectness")}
        for s, bits in enumerate(self._run.wrong):
            wrong = np.unpackbits(bits[self._run.evenly_spaced], axis=1, count=n).astype(bool)
            found["forgetting"][s], found["never learned"][s] = forgetting(wrong)
            found["incorrectness"][s] = wrong.mean(0)
        return found


def snapshot_epochs(run: Run) -> NDArray[np.float64]:
    """(S, C) the whole epoch nearest to each class's inversion, NaN without one: snapshots come after whole epochs only.

    The stragglers of a run are those of the very record. An inversion within the first half of the first pass is taken at the
    end of that pass, not at the untrained network.
    """
    nearest: NDArray[np.float64] = np.maximum(np.rint(run.straggler_epoch), 1)
    return nearest


def combined(per_network: Arrays, networks: Sequence[int] | NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Each score (n,) from some of the networks: its mean over them, or over those that have one where some have not.

    A point without one in any network has a straggler share of 0; another score is then left out, and so is the straggler share
    where no point is a straggler. The rank disagreement takes two networks.
    """
    found = {}
    for name in SCORES:
        if name not in per_network:
            continue
        values = per_network[name][networks]
        known = np.isfinite(values)
        mean = np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)
        if mean.any() if name == "straggler share" else known.any(0).all():
            found[name] = mean
    if len(networks) > 1:
        ranks = per_network["confidence"][networks].argsort(1).argsort(1) / per_network["confidence"].shape[1]
        found[_OF_SEVERAL] = ranks.std(0, ddof=1)
    return {name: found[name] for name in SCORES if name in found}


def forgetting(wrong: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Transitions from right to wrong, and which points are never right, from (..., E, n) misclassified; both (..., n)."""
    return (~wrong[..., :-1, :] & wrong[..., 1:, :]).sum(-2), np.asarray(wrong.all(-2))
