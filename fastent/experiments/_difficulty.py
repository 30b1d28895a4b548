"""Do stragglers agree with other scores of difficulty, and which score finds wrong labels?"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.data.training_set import Data
from fastent.errors import FastentError
from fastent.experiments.result import Result, Table, Verdict
from fastent.experiments.setting import Setting
from fastent.io.result_cache import Arrays
from fastent.options import number, whole_number
from fastent.plots.style import COLORS
from fastent.runtime.formatting import estimate_text, percent
from fastent.runtime.progress import Progress
from fastent.statistics.intervals import Estimate, student_mean
from fastent.training.run import Run
from fastent.training.snapshot import Snapshot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SCORES", "Difficulty", "difficulty", "flip_labels", "forgetting"]

# Larger means more suspicious, in every one.
SCORES = {
    "straggler share": "share of the networks at whose inversion it is misclassified",
    "EL2N": "distance of softmax and one-hot label at an early epoch",
    "forgetting": "transitions from right to wrong",
    "AUM": "minus the mean over epochs of its logit less the largest other",
    "confidence": "1 - mean over epochs of its label's probability",
    "variability": "standard deviation over epochs of its label's probability",
    "incorrectness": "share of the epochs at which it is misclassified",
    "final loss": "cross-entropy after the last epoch",
}
_RESAMPLES = 500


@dataclass(frozen=True, eq=False, repr=False)
class Difficulty(Result):
    """Scores of every training point, from the same networks, with the labels as they are and with some of them flipped.

    Attributes
    ----------
    scores : dict of (n,) float64
        Means over networks; larger is more suspicious. See `SCORES`.
    never_learned : (n,) float64 in [0, 1]
        Share of the networks that never have the point right; forgetting does not count these.
    correlation : dict of Estimate
        Spearman's, of the straggler share with every other score, over points.
    gradient_share : (S, E) float64 in [0, 1]
        The stragglers' part of the sum of |softmax - one-hot| over all points.
    flipped : (n,) bool
        Points whose label was flipped in the second training.
    noisy_scores : dict of (n,) float64
        The scores with these labels.
    precision : dict of Estimate
        Average precision of each score at finding the flipped points, in [0, 1].
    inversions : int, str
        How many radii have an inversion with labels as they are, of all, and why the others have none.
    """

    scores: dict[str, NDArray[np.float64]]
    never_learned: NDArray[np.float64]
    correlation: dict[str, Estimate]
    gradient_share: NDArray[np.float64]
    flipped: NDArray[np.bool_]
    noisy_scores: dict[str, NDArray[np.float64]]
    precision: dict[str, Estimate]
    inversions: str

    name = "difficulty"
    title = "Stragglers and other scores of difficulty"
    claim = "Stragglers are points that other scores call difficult, and among them are the mislabelled ones."

    @property
    def verdict(self) -> Verdict:
        ranked = sorted(self.precision, key=lambda name: -self.precision[name].value)
        chance = self.flipped.mean()
        found = ", ".join(f"{name} {estimate_text(self.precision[name])}" for name in ranked)
        said = f"Average precision at finding flipped labels (chance {chance:.2f}): {found}."
        if not self.correlation:
            return Verdict("undecided", f"There are no stragglers: {self.inversions}. {said}")
        strong = [name for name, estimate in self.correlation.items() if estimate.low > 0]
        said = (
            f"The straggler share correlates positively with {len(strong)} of {len(self.correlation)} other scores, most with "
            f"{max(self.correlation, key=lambda name: self.correlation[name].value)}. {said}"
        )
        own = self.precision.get("straggler share")
        if own is None:
            return Verdict("undecided", f"{said} With flipped labels there are no stragglers.")
        against = [name for name, estimate in self.correlation.items() if estimate.high < 0]
        most = len(self.correlation) / 2
        if len(strong) > most and own.low > chance:
            return Verdict("yes", said)
        return Verdict("no" if len(against) > most or own.high < chance else "undecided", said)

    def table(self) -> Table:
        nothing = student_mean([])
        rows = [
            (
                name,
                estimate_text(self.correlation.get(name, nothing)),
                estimate_text(self.precision.get(name, nothing)),
                SCORES[name],
            )
            for name in SCORES
        ]
        most = float(np.nanmax(self.gradient_share.mean(0)))
        note = (
            f"Correlation: Spearman's, with the straggler share, over {len(self.flipped):,} points. Precision: average, at "
            f"finding {int(self.flipped.sum())} flipped labels. 95 % intervals over points. Stragglers make up to "
            f"{percent(most, 0)} of the gradient."
        )
        return Table(("score", "correlation", "average precision", "definition"), rows, note)

    def numbers(self) -> dict[str, Any]:
        return {
            "correlation": self.correlation,
            "average_precision": self.precision,
            "flipped": int(self.flipped.sum()),
            "gradient_share": self.gradient_share.mean(0),
            "never_learned": int((self.never_learned == 1).sum()),
            "inversions": self.inversions,
        }

    def draw(self, axes: "Axes") -> None:
        from sklearn.metrics import precision_recall_curve

        ranked = sorted(self.precision, key=lambda name: -self.precision[name].value)
        for i, name in enumerate(ranked):
            precision, recall, _ = precision_recall_curve(self.flipped, self.noisy_scores[name])
            own = name == "straggler share"
            style: dict[str, Any] = {"color": COLORS[i % 7], "linewidth": 1.2, "linestyle": "-" if i < 7 else "--"}
            style |= {"color": "black", "linewidth": 2.2} if own else {}
            axes.plot(recall, precision, label=f"{name}, {self.precision[name].value:.2f}", **style)
        axes.axhline(self.flipped.mean(), color=COLORS[-1], linewidth=0.8, linestyle=":", label="chance")
        axes.set(
            xlabel="recall of flipped labels", ylabel="precision", ylim=(0, 1.02), xlim=(0, 1),
            title=self.titled(f": {int(self.flipped.sum())} flipped labels; average precision"),
        )  # fmt: skip
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def difficulty(
    data: Any = "digits", *, el2n_epoch: int = 20, noise: float = 0.05,
    seeds: int = 10, seed: int = 0, preset: str | None = None, out: str | os.PathLike[str] | None = None,
    progress: Progress = None, **options: Any,
) -> Difficulty:  # fmt: skip
    """Score every training point by how hard it is to learn, and look for planted wrong labels with each score.

    Parameters
    ----------
    data
        As for `dynamics`.
    el2n_epoch : int, default 20
        Epoch at which EL2N is taken.
    noise : float, default 0.05
        Share of the labels that are flipped to another class for the second training, in (0, 0.5].
    seeds, seed, preset, out, progress, **options
        As for `dynamics`.

    Returns
    -------
    Difficulty

    Raises
    ------
    FastentError
        Bad data or options.

    References
    ----------
    Toneva et al., "An empirical study of example forgetting during deep neural network learning", 2019. Paul et al., "Deep
    learning on a data diet", 2021. Pleiss et al., "Identifying mislabeled data using the area under the margin ranking", 2020.
    Swayamdipta et al., "Dataset cartography", 2020.
    Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.
    """
    number("noise", noise, above=0, maximum=0.5)
    setting = Setting.make(data, seeds=seeds, seed=seed, preset=preset, out=out, progress=progress, options=options)
    whole_number("el2n_epoch", el2n_epoch, minimum=0, maximum=setting.options["epochs"])
    noisy_data, flipped = flip_labels(setting.data, noise, setting.seed)
    if not flipped.any():
        raise FastentError(f"noise={noise} of {len(flipped)} points is none: raise it")

    run, arrays = _scored(setting, "clean", el2n_epoch)
    _, noisy = _scored(setting.changed(data=noisy_data), "flipped", el2n_epoch)
    scores, noisy_scores = ({name: a[name] for name in SCORES if name in a} for a in (arrays, noisy))
    stragglers = scores.get("straggler share")
    correlation = {}
    if stragglers is not None and np.ptp(stragglers) > 0:
        others = [name for name in scores if name != "straggler share" and np.ptp(scores[name]) > 0]
        correlation = {name: _spearman(stragglers, scores[name], setting.seed) for name in others}
    found = run.turned[:, -1]
    reasons = ", ".join(sorted({i.reason for i in run.inversion[:, -1].flat if not i}))
    return Difficulty(
        config={**setting.config, "el2n_epoch": el2n_epoch, "noise": noise},
        scores=scores,
        never_learned=arrays["never learned"],
        correlation=correlation,
        gradient_share=arrays["gradient share"],
        flipped=flipped,
        noisy_scores=noisy_scores,
        precision={name: _average_precision(flipped, values, setting.seed) for name, values in noisy_scores.items()},
        inversions=f"{found.sum()} of {found.size} radii have an inversion" + (f", {reasons}" if reasons else ""),
    )


def flip_labels(data: Data, share: float, seed: int) -> tuple[Data, NDArray[np.bool_]]:
    """Move a random share of the training points to another class.

    Parameters
    ----------
    data : Data
    share : float
        Of the training points, in [0, 1].
    seed : int

    Returns
    -------
    Data
    (n,) bool
        Which points were moved.
    """
    n, n_classes = len(data.y_train), len(data.classes)
    rng = np.random.default_rng((seed, 4))
    rows = rng.choice(n, round(share * n), replace=False)
    codes = data.y_train.copy()
    codes[rows] = (codes[rows] + rng.integers(1, n_classes, len(rows))) % n_classes
    flipped = np.zeros(n, bool)
    flipped[rows] = True
    return data.relabel(codes), flipped


def forgetting(wrong: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Transitions from right to wrong, and which points are never right, from (..., E, n) misclassified; both (..., n)."""
    return (~wrong[..., :-1, :] & wrong[..., 1:, :]).sum(-2), np.asarray(wrong.all(-2))


def _scored(setting: Setting, name: str, el2n_epoch: int) -> tuple[Run, Arrays]:
    run = setting.train(name)
    arrays = setting.keep(f"{name}-scores", lambda: _scores(setting, run, f"{name}-scores", el2n_epoch), el2n_epoch=el2n_epoch)
    return run, arrays


def _scores(setting: Setting, run: Run, name: str, el2n_epoch: int) -> Arrays:
    """Every score, from a second training in which the outputs of each epoch are observed."""
    codes, n = setting.data.y_train, len(setting.data.y_train)
    points, last = np.arange(n), setting.options["epochs"]
    stragglers = run.stragglers
    sums = {key: np.zeros((setting.seeds, n)) for key in ("probability", "square", "margin")}
    found: Arrays = {}
    shares = []

    def observe(snapshot: Snapshot) -> None:
        probability = snapshot.probability
        own = probability[:, points, codes]
        others = snapshot.logits.astype(np.float64)
        logit = others[:, points, codes]
        others[:, points, codes] = -np.inf
        sums["probability"] += own
        sums["square"] += own * own
        sums["margin"] += logit - others.max(2)
        # |softmax - one-hot| summed over classes is twice what is missing at the point's own.
        shares.append(((1 - own) * stragglers).sum(1) / np.maximum((1 - own).sum(1), 1e-300))
        if snapshot.epoch == el2n_epoch:
            probability[:, points, codes] -= 1
            found["EL2N"] = np.linalg.norm(probability, axis=2).mean(0)
        if snapshot.epoch == last:
            found["final loss"] = -np.log(np.maximum(own, np.finfo(float).tiny)).mean(0)

    setting.train_afresh(name, observe=observe)
    n_epochs = len(shares)
    mean = sums["probability"] / n_epochs
    events, incorrect, never = np.zeros(n), np.zeros(n), np.zeros(n)
    for bits in run.wrong:
        wrong = np.unpackbits(bits[run.evenly_spaced], axis=1, count=n).astype(bool)
        forgotten, never_right = forgetting(wrong)
        events += forgotten
        never += never_right
        incorrect += wrong.mean(0)
    found |= {
        "AUM": -(sums["margin"] / n_epochs).mean(0),
        "confidence": 1 - mean.mean(0),
        "variability": np.sqrt(np.maximum(sums["square"] / n_epochs - mean**2, 0)).mean(0),
        "forgetting": events / setting.seeds,
        "incorrectness": incorrect / setting.seeds,
        "never learned": never / setting.seeds,
        "gradient share": np.stack(shares, axis=1),
    }
    return found | ({"straggler share": run.straggler_share} if stragglers.any() else {})


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64], seed: int) -> Estimate:
    from scipy.stats import rankdata, spearmanr

    ranks = np.stack([rankdata(a), rankdata(b)])

    def correlation(rows: NDArray[np.int64]) -> float | None:
        resample = ranks[:, rows]  # ranks of the whole stand in for ranks of each resample
        return np.corrcoef(resample)[0, 1] if (np.ptp(resample, axis=1) > 0).all() else None

    return _bootstrapped(spearmanr(a, b).statistic, len(a), (seed, 5), correlation)


def _average_precision(flipped: NDArray[np.bool_], score: NDArray[np.float64], seed: int) -> Estimate:
    from sklearn.metrics import average_precision_score

    def precision(rows: NDArray[np.int64]) -> float | None:
        return average_precision_score(flipped[rows], score[rows]) if flipped[rows].any() else None

    return _bootstrapped(average_precision_score(flipped, score), len(score), (seed, 6), precision)


def _bootstrapped(
    value: float, n: int, seed: tuple[int, int], statistic: Callable[[NDArray[np.int64]], float | None]
) -> Estimate:
    """A statistic of n points with its percentile interval; resamples in which it is undefined (None) are drawn again."""
    rng = np.random.default_rng(seed)
    drawn: list[float] = []
    while len(drawn) < _RESAMPLES:
        found = statistic(rng.integers(0, n, n))
        if found is not None:
            drawn.append(found)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(float(value), float(np.std(drawn, ddof=1)), float(low), float(high))
