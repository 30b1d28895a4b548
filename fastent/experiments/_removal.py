"""What do easy and hard training points do for easy and hard test points?"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.data.fingerprint import mask_fingerprint
from fastent.errors import FastentError
from fastent.experiments._pruning import first_of_each_class, same_mix
from fastent.experiments.critical import TURNING, reasons_text
from fastent.experiments.result import NEGLIGIBLE, Holds, Result, Table, Verdict, exceeds, joined, points_text
from fastent.experiments.scores import EL2N_EPOCH, OF_INVERSION, SCORES, ScoreRecorder, combined, snapshot_epochs
from fastent.experiments.setting import Setting
from fastent.io.result_cache import Arrays
from fastent.options import ascending, choice, number, whole_number
from fastent.plots.style import COLORS
from fastent.runtime.formatting import percent
from fastent.runtime.progress import Progress
from fastent.statistics.intervals import Estimate, student_mean
from fastent.statistics.simultaneous import simultaneous_means
from fastent.training.run import Run
from fastent.training.snapshot import Snapshot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Removal", "easiest_first", "removal"]

_SHARES = (0.05, 0.1, 0.2, 0.4)
_MOST = 0.9
_HARD = 0.5
_ARMS = ("easiest", "hardest", "random")
_KINDS = ("easy", "hard", "all")
_QUESTIONS = (
    "Do hard training points matter more than random ones for hard test points?",
    "Do easy training points matter less than random ones for the test error?",
)
# Intervals hold together for both questions.
_CONFIDENCE = 1 - 0.05 / len(_QUESTIONS)


@dataclass(frozen=True, eq=False, repr=False)
class Removal(Result):
    """Test errors of networks trained without the easiest, the hardest, or random training points.

    The null is that the points left out may be exchanged for as many random ones.

    Attributes
    ----------
    shares : (T,) float64
        Shares of each class's training points that are left out; none where no training point can be scored.
    removed : (T,) int64
        How many points these are.
    errors : dict of dict of (T, S) float64
        ``errors[arm][kind]``, in [0, 1]: error of each network after the last epoch, trained without the "easiest", "hardest"
        or "random" points (mean over the draws), on "easy", "hard" and "all" test points; NaN where there are none.
    everything : dict of (S,) float64
        The same, by kind, of networks trained on all points.
    test_points : dict of int
        How many test points are of each kind.
    stragglers : int
        How many training points are stragglers of at least half of the judges.
    turned : float
        Share of the judges' radii that have an inversion.
    reasons : str
        Why the others have none.
    """

    shares: NDArray[np.float64]
    removed: NDArray[np.int64]
    errors: dict[str, dict[str, NDArray[np.float64]]]
    everything: dict[str, NDArray[np.float64]]
    test_points: dict[str, int]
    stragglers: int
    turned: float
    reasons: str

    name = "removal"
    of_paper = False
    title = "Training without easy or hard points"
    claim = (
        "Hard training points matter more than random ones for hard test points, and easy training points can be left out at a "
        "lower cost than random ones."
    )

    def differences(self, arm: str, kind: str) -> list[Estimate]:
        """(T,) test error without these points less that without random ones, in [-1, 1], paired by network. The 95 % intervals
        hold together over the shares, and over both questions."""
        apart = self.errors[arm][kind] - self.errors["random"][kind]
        return simultaneous_means(apart.T, confidence=_CONFIDENCE, least=-1, most=1)

    @property
    def answers(self) -> dict[str, Verdict]:
        hard, easy = self.differences("hardest", "hard"), self.differences("easiest", "all")
        cheaper = [Estimate(-value, error, -high, -low) for value, error, low, high in easy]
        found = (self._answer("hard", hard, hard), self._answer("all", easy, cheaper))
        return dict(zip(_QUESTIONS, found, strict=True))

    @property
    def verdict(self) -> Verdict:
        return joined(self.answers)

    def _answer(self, kind: str, shown: list[Estimate], effects: list[Estimate]) -> Verdict:
        """Whether the effects are positive; `shown` are the differences themselves."""
        if not len(self.shares) or not self.test_points[kind]:
            lacking = f"{kind} test points" if len(self.shares) else "scores by which to leave training points out"
            return Verdict(
                "undecided", f"There are no {lacking}: {self.reasons or 'nothing is misclassified at the inversion'}."
            )
        small = NEGLIGIBLE * float(self.everything[kind].mean())
        arm = "hardest" if kind == "hard" else "easiest"
        said = (
            f"Error on {kind} test points without the {arm} training points, compared with the random control, in percentage "
            "points: "
            + "; ".join(f"{percent(s, 0)} left out {points_text(each)}" for s, each in zip(self.shares, shown, strict=True))
            + f" (a difference below {100 * small:.2f} is negligible)."
        )
        # A score that does not depend on the inversion ranks training points whether or not radii turn.
        if self.turned < TURNING and (kind == "hard" or self.config["score"] in OF_INVERSION):
            turn = f"Only {percent(self.turned, 0)} of the radii turn ({self.reasons}), so that what is hard is a selection."
            return Verdict("undecided", f"{turn} {said}")
        return Verdict(_some_exceeds(effects, small), said)

    def table(self) -> Table:
        rows = [("nothing", "0", *(percent(student_mean(self.everything[kind]).value) for kind in _KINDS), *[""] * 3)]
        found = {arm: {kind: self.differences(arm, kind) for kind in _KINDS} for arm in _ARMS[:2]}
        for t, share in enumerate(self.shares):
            for arm in _ARMS:
                errors = (percent(student_mean(self.errors[arm][kind][t]).value) for kind in _KINDS)
                apart = (points_text(found[arm][kind][t]) if arm in found else "" for kind in _KINDS)
                rows.append((f"{percent(share, 0)} {arm}", f"{self.removed[t]:,}", *errors, *apart))
        counts = ", ".join(f"{self.test_points[kind]:,} {kind}" for kind in _KINDS)
        note = (
            f"Test errors, means over networks; {counts} test points. Differences: from the random control, in percentage "
            "points, paired by network, with 95 % intervals; those of the two questions hold together over the shares. Other "
            f"networks, the judges, say which points are easy or hard: {self.stragglers:,} training points are stragglers in "
            "at least half of these."
        )
        headings = (
            "left out", "points", "easy", "hard", "all", "difference, easy", "difference, hard", "difference, all"
        )  # fmt: skip
        return Table(headings, rows, note)

    def numbers(self) -> dict[str, Any]:
        def means(errors: NDArray[np.float64]) -> list[Estimate]:
            return [student_mean(row, least=0, most=1) for row in np.atleast_2d(errors)]

        return {
            "shares": self.shares,
            "removed": self.removed,
            "everything": {kind: means(self.everything[kind])[0] for kind in _KINDS},
            "errors": {arm: {kind: means(values) for kind, values in of.items()} for arm, of in self.errors.items()},
            "difference": {arm: {kind: self.differences(arm, kind) for kind in _KINDS} for arm in _ARMS[:2]},
            "test_points": self.test_points,
            "stragglers": self.stragglers,
            "turned": self.turned,
            "reasons": self.reasons,
        }

    def draw(self, axes: "Axes") -> None:
        places = 100 * self.shares
        for kind, line in (("hard", "o-"), ("easy", "s--")):
            for arm, color in zip(_ARMS, (COLORS[0], COLORS[1], COLORS[-1]), strict=True):
                change = [student_mean(100 * row) for row in self.errors[arm][kind] - self.everything[kind]]
                value, _, low, high = np.array(change).reshape(-1, 4).T
                label = f"{kind} test points,\nwithout {'random ones' if arm == 'random' else f'the {arm}'}"
                axes.plot(places, value, line, color=color, markersize=4, label=label)
                axes.fill_between(places, low, high, color=color, alpha=0.15, linewidth=0)
        axes.axhline(0, color="0.3", linewidth=0.8)
        axes.set(
            xlabel="training points left out, %", ylabel="change of the test error,\npercentage points", title=self.titled()
        )
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def removal(
    data: Any = "digits", *, shares: Sequence[float] | None = None, score: str = "straggler share", draws: int = 3,
    seeds: int = 10, seed: int = 0, preset: str | None = None, out: str | os.PathLike[str] | None = None,
    progress: Progress = None, **options: Any,
) -> Removal:  # fmt: skip
    """Train without the easiest, the hardest or random training points, and compare errors on easy and hard test points.

    Two disjoint halves of the seeds have different tasks. The judges, trained on all points, decide which points are easy or
    hard; as many other networks are tested. Training points are ranked by the judges' mean score, ties by their mean loss at
    the inversion (or by their confidence, where a class turns in no judge). A test point is hard if at least half of the judges
    misclassify it with the weights of its class's inversion in the last hidden layer, and easy if fewer do; test points of a
    class that turns in no judge are neither. Where batches are recorded within a pass, the weights are those after the nearest
    whole pass. The tested networks are trained without the same share of each class, rounded
    down, so that classes stay balanced, and standardise inputs as if nothing were left out.

    The first question is about hard test points, the second about all. An answer is yes if the difference from the random
    control has the sign in question at some share, and the opposite sign at none; it is no if only the opposite sign is found,
    or if at every share the difference is smaller than a tenth of the error after training on all points. Intervals are
    corrected for all shares and both questions. They are over networks, which share the points and their ranking: another
    sample of points may give another answer. If fewer than nine of ten radii of the judges turn, the first question stays
    undecided, and the second too if the score is one of the inversion.

    Parameters
    ----------
    data
        As for `dynamics`.
    shares : sequence of float, optional
        Shares of the training points to leave out, ascending, above 0 and at most 0.9. The default is (0.05, 0.1, 0.2, 0.4),
        without shares that are less than one point of every class.
    score : str, default "straggler share"
        By which training points are ranked: any score of `difficulty`. EL2N is taken at epoch 20, or the last if that is
        earlier.
    draws : int, default 3
        How often random points are drawn, for each network anew.
    seeds, seed, preset, out, progress, **options
        As for `dynamics`. As many judges have the seeds from `seed + seeds` on.

    Returns
    -------
    Removal

    Raises
    ------
    FastentError
        Bad data or options, or a share of the points that is none.

    References
    ----------
    Pukowski & Lu, "Investigating the impact of hard samples on accuracy reveals in-class data imbalance", 2024,
    arXiv 2409.14401.
    Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.
    """
    check = partial(number, above=0, maximum=_MOST)
    wanted = ascending("shares", _SHARES if shares is None else shares, check, what="shares", example="(0.1, 0.3)")
    choice("score", score, tuple(SCORES))
    whole_number("draws", draws, minimum=1)
    setting = Setting.make(data, seeds=seeds, seed=seed, preset=preset, out=out, progress=progress, options=options)
    codes = setting.data.y_train
    sizes = np.bincount(codes, minlength=len(setting.data.classes))
    counts = [np.floor(share * sizes + 1e-9).astype(np.int64) for share in wanted]
    none = sum(not each.any() for each in counts)
    if none and (shares is not None or none == len(counts)):
        raise FastentError(f"shares={wanted[none - 1]:g} of {len(codes)} points is none: raise it")
    wanted, counts = wanted[none:], counts[none:]

    judges = setting.changed(seed=setting.seed + setting.seeds)
    run = judges.train("judges")
    arrays = judges.keep("judges-scores", lambda: _judged(judges, run))
    scores = combined(arrays, np.arange(judges.seeds))
    of_kind = _kinds(arrays["wrong"])
    if score in scores:
        order = easiest_first(scores, score)
        masks = {"easiest": order, "hardest": order[::-1]}
    else:
        counts, masks = [], {}

    def errors(mask: NDArray[np.bool_], name: str) -> dict[str, NDArray[np.float64]]:
        wrong = _wrong(setting, mask, name)
        return {kind: wrong[:, of].mean(1) if of.any() else np.full(len(wrong), np.nan) for kind, of in of_kind.items()}

    everything = errors(np.zeros((setting.seeds, len(codes)), bool), "everything")
    found: dict[str, dict[str, list[Any]]] = {arm: {kind: [] for kind in _KINDS} for arm in _ARMS}
    for each in counts:
        rng = np.random.default_rng((setting.seed, 10, int(each.sum())))
        drawn = [np.stack([same_mix(codes, each, rng) for _ in range(setting.seeds)]) for _ in range(draws)]
        for arm in _ARMS:
            left_out = [np.tile(first_of_each_class(codes, masks[arm], each), (setting.seeds, 1))] if arm in masks else drawn
            several = [errors(mask, arm) for mask in left_out]
            for kind in _KINDS:
                found[arm][kind].append(np.mean([one[kind] for one in several], axis=0))
    shape = (len(counts), setting.seeds)
    return Removal(
        config={**setting.config, "shares": wanted, "score": score, "draws": draws},
        shares=np.array(wanted[: len(counts)], float),
        removed=np.array([each.sum() for each in counts], np.int64),
        errors={arm: {kind: np.reshape(rows, shape) for kind, rows in of.items()} for arm, of in found.items()},
        everything=everything,
        test_points={kind: int(of.sum()) for kind, of in of_kind.items()},
        stragglers=len(run.consensus_stragglers(_HARD)),
        turned=float(run.turned[:, -1].mean()),
        reasons=reasons_text([run]),
    )


def easiest_first(scores: dict[str, NDArray[np.float64]], name: str) -> NDArray[np.int64]:
    """(n,) positions of the points by a score, ties by the loss at the inversion or, without one, by the confidence."""
    ties = scores.get("loss at the inversion", scores["confidence"])
    return np.lexsort((ties, scores[name]))


def _some_exceeds(effects: list[Estimate], negligible: float) -> Holds:
    """Whether some effect is positive and none negative, as far as intervals that hold together tell."""
    found = {exceeds(each, negligible) for each in effects}
    negative = any(each.high < 0 for each in effects)
    if "yes" in found:
        return "undecided" if negative else "yes"
    return "no" if negative or found == {"no"} else "undecided"


def _judged(judges: Setting, run: Run) -> Arrays:
    """Scores of each judge, (S, n), and which test points it misclassifies at the inversion of their class, (S, m), NaN without
    one, from a second training."""
    data, epochs = judges.data, judges.options["epochs"]
    recorder = ScoreRecorder(run, data.y_train, epochs=epochs, el2n_epoch=min(EL2N_EPOCH, epochs))
    wrong = np.full((judges.seeds, len(data.y_test)), np.nan)
    turns = snapshot_epochs(run)

    def observe(snapshot: Snapshot) -> None:
        recorder.observe(snapshot)
        now = turns == snapshot.epoch
        if now.any():
            found = snapshot.predict(data.x_test).argmax(2) != data.y_test
            wrong[now[:, data.y_test]] = found[now[:, data.y_test]]

    judges.train_afresh("judges-scores", observe=observe)
    return recorder.per_network() | {"wrong": wrong}


def _kinds(wrong: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Which test points are easy, hard, or any, (m,) each, from those misclassified by each judge, (S, m), NaN for unknown."""
    known = np.isfinite(wrong)
    often = np.where(known, wrong, 0).sum(0) >= _HARD * np.maximum(known.sum(0), 1)
    return {"easy": known.any(0) & ~often, "hard": often, "all": np.ones(wrong.shape[1], bool)}


def _wrong(setting: Setting, mask: NDArray[np.bool_], name: str) -> NDArray[np.bool_]:
    """(S, m) the test points misclassified after the last epoch of a training without the masked points."""
    data, last = setting.data, setting.options["epochs"]

    def make() -> Arrays:
        found: Arrays = {}

        def observe(snapshot: Snapshot) -> None:
            if snapshot.epoch == last:
                found["wrong"] = np.packbits(snapshot.predict(data.x_test).argmax(2) != data.y_test, axis=1)

        setting.train_afresh(name, exclude_per_seed=mask, observe=observe)
        return found

    bits = setting.keep(name, make, mask=mask_fingerprint(mask))["wrong"]
    return np.unpackbits(bits, axis=1, count=len(data.y_test)).astype(bool)
