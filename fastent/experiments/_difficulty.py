"""Do stragglers agree with other scores of difficulty, and which score finds wrong labels?"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.data.training_set import Data
from fastent.errors import FastentError
from fastent.experiments.critical import TURNING, compared_classes, compared_text, reasons_text
from fastent.experiments.result import Result, Table, Verdict
from fastent.experiments.score_stability import ScoreStability, score_stability
from fastent.experiments.scores import EL2N_EPOCH, OF_INVERSION, SCORES, ScoreRecorder, combined
from fastent.experiments.setting import Setting
from fastent.io.result_cache import Arrays
from fastent.options import number, whole_number
from fastent.plots.style import COLORS
from fastent.runtime.formatting import NOTHING, estimate_text, percent
from fastent.runtime.progress import Progress
from fastent.statistics.intervals import Estimate, pearson, student_mean
from fastent.training.run import Run
from fastent.training.snapshot import Snapshot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Difficulty", "difficulty", "flip_labels"]

_RESAMPLES = 500


@dataclass(frozen=True, eq=False, repr=False)
class Difficulty(Result):
    """Scores of every training point, from the same networks, with the labels as they are and with some of them flipped.

    Attributes
    ----------
    scores : dict of (n,) float64
        From all networks; larger is more suspicious. See `difficulty`. Those of the inversion are NaN for points of classes
        that turn in fewer than half of the networks.
    never_learned : (n,) float64 in [0, 1]
        Share of the networks that never have the point right; forgetting does not count these.
    correlation : dict of Estimate
        Spearman's, of the straggler share with every other score, over the points of the classes that turn in at least half of
        the networks.
    gradient_share : (S, E) float64 in [0, 1]
        The stragglers' part of the sum of |softmax - one-hot| over all points.
    flipped : (n,) bool
        Points whose label was flipped in the second training.
    noisy_scores : dict of (n,) float64
        The scores with these labels.
    precision : dict of Estimate
        Average precision of each score at finding the flipped points, in [0, 1], among the points compared.
    noisy_points : (n,) bool
        Which points are compared: those of classes that turn in at least half of the networks with these labels; all, by
        scores that do not depend on the inversion, if there are none or no label of theirs was flipped.
    stability : ScoreStability
        How alike the scores of disjoint halves of the networks are over the points of the classes that turn in at least half of
        all, and from how many networks on stragglers are settled.
    class_stragglers, class_recall : (C,) float64 in [0, 1]
        Mean straggler share of each class's training points, NaN for a class that turns in no network; and the share of its
        test points that are classified right after the last epoch, mean over networks, NaN for a class without test points.
    class_correlation : Estimate
        Pearson's, over classes, of the straggler share and the test error 1 - recall, with Fisher's interval; NaN for fewer
        than four classes.
    inversions : int, str
        How many radii have an inversion with labels as they are, of all, and why the others have none.
    last_stragglers : (C,) float64 in [0, 1]
        Where too few classes turn for `class_stragglers`: the share of each class's training points misclassified with the
        weights of the network's last inversion, whichever class it is of, as in the code of Pukowski & Lu (2024). Mean over
        the networks with an inversion; NaN unless these are more than half of the networks.
    last_correlation : Estimate
        Pearson's, over classes, of `last_stragglers` and the test error 1 - recall, with Fisher's interval. It is about the
        choice of classes: networks share the points.
    compared : str
        Which classes are compared, with labels as they are and with some flipped, if these are not all.
    """

    scores: dict[str, NDArray[np.float64]]
    never_learned: NDArray[np.float64]
    correlation: dict[str, Estimate]
    gradient_share: NDArray[np.float64]
    flipped: NDArray[np.bool_]
    noisy_scores: dict[str, NDArray[np.float64]]
    precision: dict[str, Estimate]
    noisy_points: NDArray[np.bool_]
    stability: ScoreStability
    class_stragglers: NDArray[np.float64]
    class_recall: NDArray[np.float64]
    class_correlation: Estimate
    inversions: str
    last_stragglers: NDArray[np.float64]
    last_correlation: Estimate
    compared: str

    name = "difficulty"
    title = "Stragglers and other scores of difficulty"
    claim = "Stragglers are points that other scores call difficult, and among them are the mislabelled ones."

    @property
    def verdict(self) -> Verdict:
        ranked = sorted(self.precision, key=lambda name: -self.precision[name].value)
        chance = self.flipped[self.noisy_points].mean()
        found = ", ".join(f"{name} {estimate_text(self.precision[name])}" for name in ranked)
        said = f"Average precision at finding flipped labels (chance {chance:.2f}): {found}."
        said = " ".join(filter(None, (said, self._settling, self._over_classes, self.compared)))
        if not self.correlation:
            return Verdict("undecided", f"There are no stragglers to compare: {self.inversions}. {said}")
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

    @property
    def _settling(self) -> str:
        settled, sizes = self.stability.settled, self.stability.networks
        if not len(sizes):
            return "One network has no halves to compare."
        if np.isnan(self.stability.overlap).all():
            return "There are no stragglers to settle." if self.correlation else ""
        if settled is None:
            return f"Stragglers are not settled: those of the two halves of the networks, {sizes[-1]} each, differ."
        return f"Stragglers are settled from {settled} network{'s' * (settled > 1)} on."

    @property
    def _over_classes(self) -> str:
        said = []
        if not np.isnan(self.class_correlation.value):
            correlation = estimate_text(self.class_correlation)
            said.append(f"Over classes the straggler share correlates with the test error by {correlation}.")
        if not np.isnan(self.last_correlation.value):
            correlation = estimate_text(self.last_correlation)
            said.append(
                f"{self.inversions}. With the weights of each network's last inversion for all classes, the share of a "
                f"class's points that are misclassified correlates with its test error by {correlation}."
            )
        return " ".join(said)

    def table(self) -> Table:
        nothing = student_mean([])
        halves = {name: f"{rows[-1, 0]:.2f}" for name, rows in self.stability.correlation.items()}
        rows = [
            (
                name,
                estimate_text(self.correlation.get(name, nothing)),
                estimate_text(self.precision.get(name, nothing)),
                halves.get(name, NOTHING),
                SCORES[name].definition,
                SCORES[name].source,
            )
            for name in SCORES
        ]
        most = float(np.nanmax(self.gradient_share.mean(0)))
        points, half = self.noisy_points, self.config["seeds"] // 2
        note = (
            "Correlation: Spearman's, with the straggler share, over the points of classes that turn in at least half of the "
            f"networks. Precision: average, at finding {self.flipped[points].sum()} flipped labels among {points.sum():,}. "
            f"95 % intervals over points. Halves: rank correlation of {half} networks and as many others. "
            f"Stragglers make up to {percent(most, 0)} of the gradient."
        )
        return Table(("score", "correlation", "average precision", "halves", "definition", "source"), rows, note)

    def numbers(self) -> dict[str, Any]:
        return {
            "correlation": self.correlation,
            "average_precision": self.precision,
            "flipped": int(self.flipped.sum()),
            "gradient_share": self.gradient_share.mean(0),
            "never_learned": int((self.never_learned == 1).sum()),
            "stability": self.stability,
            "class_stragglers": self.class_stragglers,
            "class_recall": self.class_recall,
            "class_correlation": self.class_correlation,
            "inversions": self.inversions,
            "last_stragglers": self.last_stragglers,
            "last_correlation": self.last_correlation,
            "compared": self.compared,
        }

    def draw(self, axes: "Axes") -> None:
        from sklearn.metrics import precision_recall_curve

        ranked = sorted(self.precision, key=lambda name: -self.precision[name].value)
        points, flipped = self.noisy_points, self.flipped[self.noisy_points]
        for i, name in enumerate(ranked):
            precision, recall, _ = precision_recall_curve(flipped, self.noisy_scores[name][points])
            own = name == "straggler share"
            style: dict[str, Any] = {"color": COLORS[i % 7], "linewidth": 1.2, "linestyle": "-" if i < 7 else "--"}
            style |= {"color": "black", "linewidth": 2.2} if own else {}
            axes.plot(recall, precision, label=f"{name}, {self.precision[name].value:.2f}", **style)
        axes.axhline(flipped.mean(), color=COLORS[-1], linewidth=0.8, linestyle=":", label="chance")
        axes.set(
            xlabel="recall of flipped labels", ylabel="precision", ylim=(0, 1.02), xlim=(0, 1),
            title=self.titled(f": {flipped.sum()} flipped labels; average precision"),
        )  # fmt: skip
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def difficulty(
    data: Any = "digits", *, el2n_epoch: int | None = None, noise: float = 0.05,
    seeds: int = 10, seed: int = 0, preset: str | None = None, out: str | os.PathLike[str] | None = None,
    progress: Progress = None, **options: Any,
) -> Difficulty:  # fmt: skip
    """Score every training point by how hard it is to learn, and look for planted wrong labels with each score.

    A score is that of each network, averaged over the networks; larger is more suspicious. With p the softmax of the logits z,
    y the point's label, e an epoch and E the last:

    - straggler share: whether it is misclassified at its class's own inversion in the last hidden layer (Ciceri et al. 2024);
    - loss at the inversion: -log p_y with the weights of that inversion, or after the nearest whole pass;
    - EL2N: |p - onehot(y)| at `el2n_epoch` (Paul et al. 2021);
    - forgetting: transitions from right to wrong (Toneva et al. 2019);
    - AUM: minus the mean over e of z_y - max_{j != y} z_j (Pleiss et al. 2020);
    - confidence, variability, incorrectness: 1 - mean over e of p_y, standard deviation of p_y over e, share of e at which
      the point is misclassified (data maps, Swayamdipta et al. 2020);
    - DUAL: mean over the windows of 10 epochs within the first 15 % of the training of (1 - mean p_y) times the standard
      deviation of p_y (ddof 1) in the window (Cho et al. 2025, who take the first 30 of 200 epochs);
    - maximum probability: 1 - max_j p_j at E (Hendrycks & Gimpel 2017), and energy: -log sum_j exp z_j at E (Liu et al. 2020);
      Pukowski & Lu (2024) compare stragglers with a confidence and an energy, for which these usual definitions are taken;
      neither depends on the label;
    - rank disagreement: standard deviation over networks (ddof 1) of the point's rank by confidence, from 0 to 1;
    - final loss: -log p_y at E.

    Stragglers are compared with other scores over the points of the classes that turn in at least half of the networks: points
    of other classes are neither stragglers nor none. Flipped labels are looked for among the points of such classes too, by all
    scores.

    With four classes or more, the straggler share of each class is compared with its test error. A class that turns in no
    network has no stragglers, and of ten classes few turn. Unless nine of ten radii turn, the points of all classes that are
    misclassified with the weights of each network's last inversion, of whichever class, are therefore compared too, as in the
    code of Pukowski & Lu. The interval is about the choice of classes; networks share the points.

    Parameters
    ----------
    data
        As for `dynamics`.
    el2n_epoch : int, optional
        Epoch at which EL2N is taken. The default is 20, or the last if that is earlier.
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
    Swayamdipta et al., "Dataset cartography", 2020. Cho et al., "Lightweight dataset pruning without full training via example
    difficulty and prediction uncertainty", 2025, arXiv 2502.06905. Hendrycks & Gimpel, "A baseline for detecting misclassified
    and out-of-distribution examples in neural networks", 2017. Liu et al., "Energy-based out-of-distribution detection", 2020.
    Pukowski & Lu, "Investigating the impact of hard samples on accuracy reveals in-class data imbalance", 2024,
    arXiv 2409.14401.
    Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.
    """
    number("noise", noise, above=0, maximum=0.5)
    setting = Setting.make(data, seeds=seeds, seed=seed, preset=preset, out=out, progress=progress, options=options)
    last = setting.options["epochs"]
    el2n_epoch = (
        min(EL2N_EPOCH, last) if el2n_epoch is None else whole_number("el2n_epoch", el2n_epoch, minimum=0, maximum=last)
    )
    noisy_data, flipped = flip_labels(setting.data, noise, setting.seed)
    if not flipped.any():
        raise FastentError(f"noise={noise} of {len(flipped)} points is none: raise it")

    run, arrays = _scored(setting, "clean", el2n_epoch)
    noisy_run, noisy = _scored(setting.changed(data=noisy_data), "flipped", el2n_epoch)
    classes, noisy_classes = compared_classes([run]), compared_classes([noisy_run])
    points, noisy_points = classes[run.codes], noisy_classes[noisy_run.codes]
    noisy_points &= flipped[noisy_points].any()
    scores, noisy_scores = _combined(arrays, points), _combined(noisy, noisy_points)
    compared = compared_text(run.class_names, classes)
    if (noisy_classes != classes).any():
        compared += f" With flipped labels: {compared_text(run.class_names, noisy_classes) or 'all or none.'}"
    noisy_points |= not noisy_points.any()
    correlation = {}
    if "straggler share" in scores and np.ptp(scores["straggler share"][points]) > 0:
        own = {name: values[points] for name, values in scores.items() if np.ptp(values[points]) > 0}
        stragglers = own.pop("straggler share")
        correlation = {name: _spearman(stragglers, values, setting.seed) for name, values in own.items()}
    found = run.turned[:, -1]
    of_class = _by_class(run.straggler_share, setting.data.y_train, len(setting.data.classes))
    of_class[~found.any(0)] = np.nan
    recall = arrays["recall"].mean(0)
    at_last = _wrong_at_last(run)
    reasons = reasons_text([run])
    return Difficulty(
        config={**setting.config, "el2n_epoch": el2n_epoch, "noise": noise},
        scores=scores,
        never_learned=arrays["never learned"].mean(0),
        correlation=correlation,
        gradient_share=arrays["gradient share"],
        flipped=flipped,
        noisy_scores=noisy_scores,
        precision={
            name: _average_precision(flipped[noisy_points], values[noisy_points], setting.seed)
            for name, values in noisy_scores.items()
        },
        noisy_points=noisy_points,
        stability=score_stability(_of_points(arrays, points), seed=setting.seed),
        class_stragglers=of_class,
        class_recall=recall,
        class_correlation=_over_classes(of_class, recall),
        inversions=(
            f"{found.sum()} of {found.size} radii, in {found.any(1).sum()} of {len(found)} networks, have an inversion"
            + (f" (the others: {reasons})" if reasons else "")
        ),
        last_stragglers=at_last,
        last_correlation=_over_classes(at_last, recall),
        compared=compared.strip(),
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


def _of_points(per_network: Arrays, points: NDArray[np.bool_]) -> Arrays:
    """The scores of these points, or if there are none, of all points those that do not depend on the inversion."""
    if points.any():
        return {name: per_network[name][:, points] for name in SCORES if name in per_network}
    return {name: per_network[name] for name in SCORES if name in per_network and name not in OF_INVERSION}


def _combined(per_network: Arrays, points: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
    """Every score (n,) from all networks; those of the inversion of these points only, NaN for others."""
    networks = np.arange(len(per_network["confidence"]))
    found = combined({name: values for name, values in per_network.items() if name not in OF_INVERSION}, networks)
    known = combined(_of_points(per_network, points), networks)
    for name in OF_INVERSION:
        if name in known:
            found[name] = np.full(len(points), np.nan)
            found[name][points] = known[name]
    return {name: found[name] for name in SCORES if name in found}


def _scored(setting: Setting, name: str, el2n_epoch: int) -> tuple[Run, Arrays]:
    run = setting.train(name)
    arrays = setting.keep(f"{name}-scores", lambda: _scores(setting, run, f"{name}-scores", el2n_epoch), el2n_epoch=el2n_epoch)
    return run, arrays


def _scores(setting: Setting, run: Run, name: str, el2n_epoch: int) -> Arrays:
    """Every score of each network, (S, n), from a second training in which the outputs of each epoch are observed."""
    data, last = setting.data, setting.options["epochs"]
    recorder = ScoreRecorder(run, data.y_train, epochs=last, el2n_epoch=el2n_epoch)
    recall = np.full((setting.seeds, len(data.classes)), np.nan)

    def observe(snapshot: Snapshot) -> None:
        recorder.observe(snapshot)
        if snapshot.epoch == last and len(data.x_test):
            right = snapshot.predict(data.x_test).argmax(2) == data.y_test
            for c in np.unique(data.y_test):
                recall[:, c] = right[:, data.y_test == c].mean(1)

    setting.train_afresh(name, observe=observe)
    return recorder.per_network() | {"gradient share": recorder.gradient_share(), "recall": recall}


def _wrong_at_last(run: Run) -> NDArray[np.float64]:
    """(C,) mean share of each class's points misclassified with the weights of each network's last inversion."""
    turned, n_classes = run.turned[:, -1], len(run.classes)
    some = np.flatnonzero(turned.any(1))
    if turned.mean() >= TURNING or 2 * len(some) <= run.n_seeds:
        return np.full(n_classes, np.nan)
    last = np.nanmax(run.straggler_epoch[some], axis=1)
    wrong = [run.misclassified(epoch)[s] for s, epoch in zip(some, last, strict=True)]
    return _by_class(np.mean(wrong, axis=0), run.codes, n_classes)


def _over_classes(share: NDArray[np.float64], recall: NDArray[np.float64]) -> Estimate:
    both = np.isfinite(share + recall)
    return pearson(share[both], 1 - recall[both])


def _by_class(score: NDArray[np.float64], codes: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    counts = np.bincount(codes, minlength=n_classes)
    mean: NDArray[np.float64] = np.bincount(codes, score, n_classes) / np.maximum(counts, 1)
    return mean


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64], seed: int) -> Estimate:
    from scipy.stats import rankdata, spearmanr

    ranks = np.stack([rankdata(a), rankdata(b)])

    def correlation(rows: NDArray[np.int64]) -> float | None:
        resample = ranks[:, rows]  # ranks of the whole stand in for ranks of each resample
        return np.corrcoef(resample)[0, 1] if (np.ptp(resample, axis=1) > 0).all() else None

    return _bootstrapped(spearmanr(a, b).statistic, len(a), (seed, 5), correlation)


def _average_precision(flipped: NDArray[np.bool_], score: NDArray[np.float64], seed: int) -> Estimate:
    n = len(score)
    order = np.argsort(-score, kind="stable")
    ranked, rank = flipped[order], np.argsort(order)
    last_of_equal = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))

    def precision(rows: NDArray[np.int64]) -> float | None:
        # Resamples differ in how often each point is drawn: sorting the whole once spares sorting each of them.
        drawn = np.bincount(rank[rows], minlength=n)
        found, taken = (np.cumsum(counts)[last_of_equal] for counts in (drawn * ranked, drawn))
        if not found[-1]:
            return None
        return float(np.diff(found, prepend=0) @ (found / np.maximum(taken, 1)) / found[-1])

    value = precision(np.arange(n))
    return _bootstrapped(np.nan if value is None else value, n, (seed, 6), precision)


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
