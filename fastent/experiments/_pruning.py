"""Is there still an inversion without the stragglers?"""

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.experiments.critical import (
    LONG_ENOUGH,
    compared_classes,
    compared_text,
    critical_errors,
    mean_of_found,
    reasons_text,
    still_open,
)
from fastent.experiments.result import Result, Table, Verdict
from fastent.experiments.setting import Setting
from fastent.io.result_cache import Arrays
from fastent.options import number, whole_number
from fastent.plots.style import COLORS
from fastent.runtime.formatting import NOTHING, estimate_text, percent
from fastent.runtime.progress import Progress
from fastent.statistics.intervals import Estimate, student_mean, wilson
from fastent.training.run import Run
from fastent.training.snapshot import Snapshot
from fastent.training.tables import epoch_text, may_turn_later

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

__all__ = ["Arm", "Pruning", "first_of_each_class", "pruning", "same_mix"]

# Stragglers are misclassified at the inversion in this share of the seeds, unless another is asked for.
_SHARE = 0.5
# An inversion is gone where fewer radii than this share have one, and their dip is shallower than what counts as one.
_GONE = 0.05
_SHALLOW = 0.05


class Arm(NamedTuple):
    """Networks trained on a choice of the points.

    All figures are of the last hidden layer and of the classes that turn in at least half of the networks with all points.
    share: of the radii (seed, class; and draw) that have an inversion. share_interval: 95 %, Wilson's,
    as if a network had one radius. critical_error: eps*, mean over networks. depth: the smaller of a radius's fall before and
    its rise after the inversion, as a share of its range, 0 without one; mean over radii, interval over networks. epoch: (E,).
    radius: (E,) mean over networks and classes. unfinished: share of the radii that still fall, or rise by less than counts, at
    the last record, after less than 20 times the epoch at which radii turn with all points, and so may turn later. turn_epoch:
    median epoch of the inversion, NaN without any.
    """

    name: str
    points: int
    share: float
    share_interval: tuple[float, float]
    critical_error: Estimate
    depth: Estimate
    reasons: str
    epoch: NDArray[Any]
    radius: NDArray[np.float64]
    unfinished: float = 0.0
    turn_epoch: float = math.nan


@dataclass(frozen=True, eq=False, repr=False)
class Pruning(Result):
    """Inversions with and without stragglers, random points, and points of the highest loss.

    Attributes
    ----------
    arms : list of Arm
        "all points", "without stragglers", "without random points", "without highest loss", "without half the stragglers"; the
        first alone where no point is a straggler, or all points of a class are.
    stragglers : (m,) int64
        Row numbers, as stored, of the stragglers.
    compared : str
        Which classes are compared, if these are not all.
    """

    arms: list[Arm]
    stragglers: NDArray[np.int64]
    compared: str = ""

    name = "pruning"
    title = "Training without the stragglers"
    claim = (
        "The inversion is produced by the stragglers: without them it is gone for at least 20 times as many epochs, without as "
        "many random points it stays."
    )

    @property
    def verdict(self) -> Verdict:
        if len(self.arms) == 1 and len(self.stragglers):
            return Verdict("undecided", "All points of a class are stragglers: without them there is nothing to compare.")
        if len(self.arms) == 1:
            return Verdict("undecided", f"There are no stragglers to leave out; inversion: {self.arms[0].reasons or 'found'}.")
        everything, without, random, loss, half = self.arms
        said = (
            f"{percent(everything.share, 0)} of the radii have an inversion; without the {len(self.stragglers)} "
            f"stragglers {percent(without.share, 0)}, without as many random points {percent(random.share, 0)}, "
            f"without as many of the highest loss {percent(loss.share, 0)}. Depth of the inversion, 0 without one: "
            + ", ".join(estimate_text(arm.depth) for arm in self.arms)
            + f"; an inversion has at least {_SHALLOW:g} of the range. {_length(everything, without)} {self._half(half)}"
        )
        said += self.compared and f" {self.compared}"
        gone = without.share < _GONE and without.depth.high < _SHALLOW
        kept = random.share > everything.share - _GONE and random.depth.low > _SHALLOW
        if gone and kept and without.unfinished > _GONE:
            falling = percent(without.unfinished, 0)
            later = (
                f"Without the stragglers {falling} of the radii were still falling, or had risen too little, at the last epoch"
            )
            return Verdict(
                "undecided",
                f"{said} {later}, before {LONG_ENOUGH} times the usual epoch: train longer to see whether they turn.",
            )
        if gone and kept and not everything.share_interval[0] > 0.5:
            return Verdict("undecided", f"{said} With all points it is open whether more than half of the radii turn.")
        if gone and kept:
            return Verdict("yes", said)
        # Without an interval, of a single network, nothing is larger or smaller.
        refuted = everything.depth.low > _SHALLOW and (without.depth.low > _SHALLOW or random.depth.high < _SHALLOW)
        return Verdict("no" if refuted else "undecided", said)

    def _half(self, half: Arm) -> str:
        """What half of the dose does. Leaving out points that are wrong at the inversion lowers the training error there even
        if nothing else changes, to (eps* - left out) / (1 - left out)."""
        everything = self.arms[0]
        left_out = 1 - half.points / everything.points
        whole = everything.critical_error
        expected = (whole.value - left_out) / (1 - left_out)
        epoch = NOTHING if math.isnan(half.turn_epoch) else epoch_text(half.turn_epoch)
        return (
            f"Without half of the stragglers {percent(half.share, 0)} of the radii turn, at a training error of "
            f"{estimate_text(half.critical_error, percent=True)} instead of {estimate_text(whole, percent=True)} (what is left "
            f"out would alone make it {percent(expected)}) and a median epoch of {epoch}."
        )

    def table(self) -> Table:
        rows = [
            (
                arm.name,
                f"{arm.points:,}",
                f"{percent(arm.share, 0)} ({100 * arm.share_interval[0]:.0f} to {100 * arm.share_interval[1]:.0f})",
                estimate_text(arm.critical_error, percent=True),
                estimate_text(arm.depth),
                epoch_text(arm.epoch[-1]),
                arm.reasons,
            )
            for arm in self.arms
        ]
        note = (
            "Depth of the inversion: share of the radius's range, 0 without one; it grows with the epochs trained. Means over "
            "networks with 95 % intervals."
        )
        return Table(
            ("trained on", "points", "with inversion", "eps*", "depth", "epochs", "reasons for no inversion"), rows, note
        )

    @property
    def drawings(self) -> "tuple[Callable[[Axes], None], ...]":
        return (self.draw, self._draw_detail)

    def _draw_detail(self, axes: "Axes") -> None:
        """Draw the depth of the inversion in each arm."""
        for place, (arm, color) in enumerate(zip(self.arms, COLORS, strict=False)):
            axes.plot(arm.depth.value, place, "o", color=color)
            axes.hlines(place, arm.depth.low, arm.depth.high, color=color)
        axes.set_yticks(range(len(self.arms)), [arm.name for arm in self.arms])
        axes.set(
            ylim=(len(self.arms) - 0.5, -0.5), xlabel="depth of the dip in the radius,\nshare of its range (95 % interval)"
        )
        axes.axvline(0, color="0.3", linewidth=0.8, linestyle="--")
        axes.grid(axis="x", alpha=0.25)

    def numbers(self) -> dict[str, Any]:
        curves = ("name", "epoch", "radius")
        arms = {arm.name: {key: value for key, value in arm._asdict().items() if key not in curves} for arm in self.arms}
        return {"arms": arms, "stragglers": len(self.stragglers)}

    def draw(self, axes: "Axes") -> None:
        for arm, color in zip(self.arms, COLORS, strict=False):
            dashes = "--" if arm.name == "without random points" else "-"  # it lies on that of all points
            axes.plot(arm.epoch[1:], arm.radius[1:], dashes, color=color, label=arm.name)
        axes.set(xlabel="epoch", ylabel="gyration radius, mean", xscale="log", title=self.titled(", last hidden layer"))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)


def pruning(
    data: Any = "digits", *, share: float | None = None, draws: int = 3, longer: float = LONG_ENOUGH,
    seeds: int = 10, seed: int = 0, preset: str | None = None, out: str | os.PathLike[str] | None = None,
    progress: Progress = None, **options: Any,
) -> Pruning:  # fmt: skip
    """Train again, from the same initialisations, without stragglers, half of them, random points or points of highest loss.

    All but the half leave out the same number of points of each class, and all standardise inputs alike. Networks some of whose
    radii may still turn when training ends are trained on, for up to `longer` times the median epoch at which radii turn with
    all points. A radius that is still falling leaves the question open until it was trained for 20 times that epoch; then it
    counts as one that does not turn.

    Parameters
    ----------
    data
        As for `dynamics`.
    share : float, optional
        A point is left out if it is a straggler in at least this share of the seeds, in (0, 1]. The default is 0.5, which
        leaves the question open where no point of a class would be left; a share that was asked for is then refused.
    draws : int, default 3
        How often random points, and random halves of the stragglers, are drawn.
    longer : float, default 20
        Longest training, in multiples of the median epoch at which radii turn with all points; less than 20 may leave the
        question open. At least `epochs` are trained.
    seeds, seed, preset, out, progress, **options
        As for `dynamics`. With preset "paper", `epochs` is 300 by default.

    Returns
    -------
    Pruning

    Raises
    ------
    FastentError
        Bad data or options.

    References
    ----------
    Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.
    """
    asked, share = share, number("share", _SHARE if share is None else share, above=0, maximum=1)
    whole_number("draws", draws, minimum=1)
    number("longer", longer, minimum=0)
    defaults = {"epochs": 300} if preset == "paper" else {}
    setting = Setting.make(
        data, seeds=seeds, seed=seed, preset=preset, out=out, progress=progress, options=options, defaults=defaults
    )
    codes = setting.data.y_train
    base = setting.train("all-points")
    stragglers = base.straggler_share >= share
    classes = compared_classes([base])
    usual = _usual_epoch([base], classes)
    arms = [_arm("all points", len(codes), [base], usual, classes)]
    counts = np.bincount(codes[stragglers], minlength=len(setting.data.classes))
    emptied = bool((counts >= np.bincount(codes)).any())
    if emptied and asked is not None:
        raise FastentError(f"share={share}: all points of a class are stragglers; raise it")
    if stragglers.any() and not emptied:
        rng = np.random.default_rng((setting.seed, 1))
        loss = setting.keep("loss", lambda: _final_loss(setting))["loss"]
        left_out = {
            "without stragglers": [("stragglers", stragglers)],
            "without random points": [(f"random-{draw}", same_mix(codes, counts, rng)) for draw in range(draws)],
            "without highest loss": [("highest-loss", first_of_each_class(codes, np.argsort(-loss, kind="stable"), counts))],
            "without half the stragglers": [(f"half-{draw}", _half_of(stragglers, codes, rng)) for draw in range(draws)],
        }
        arms += [
            _arm(name, int((~masks[0][1]).sum()), _without(setting, masks, longer * usual, classes), usual, classes)
            for name, masks in left_out.items()
        ]
    config = {**setting.config, "share": share, "draws": draws, "longer": longer}
    return Pruning(config, arms, setting.data.index[stragglers], compared_text(base.class_names, classes))


def _half_of(stragglers: NDArray[np.bool_], codes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A random half of the stragglers of each class, rounded up."""
    mask = np.zeros(len(codes), bool)
    for c in np.unique(codes[stragglers]):
        own = np.flatnonzero(stragglers & (codes == c))
        mask[rng.choice(own, (len(own) + 1) // 2, replace=False)] = True
    return mask


def same_mix(codes: NDArray[np.int64], counts: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Random points, so many of each class, as a mask (n,)."""
    mask = np.zeros(len(codes), bool)
    for c, wanted in enumerate(counts):
        mask[rng.choice(np.flatnonzero(codes == c), wanted, replace=False)] = True
    return mask


def first_of_each_class(codes: NDArray[np.int64], order: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The first so many points of each class in this order, as a mask (n,)."""
    mask = np.zeros(len(codes), bool)
    for c, wanted in enumerate(counts):
        mask[order[codes[order] == c][:wanted]] = True
    return mask


def _final_loss(setting: Setting) -> Arrays:
    """Cross-entropy of each point after the last epoch, mean over networks."""
    found: Arrays = {}

    def observe(snapshot: Snapshot) -> None:
        if snapshot.epoch == setting.options["epochs"]:
            own = snapshot.probability[:, np.arange(len(setting.data.y_train)), setting.data.y_train]
            found["loss"] = -np.log(np.maximum(own, np.finfo(float).tiny)).mean(0)

    setting.train_afresh("loss", observe=observe)
    return found


def _without(
    setting: Setting, masks: list[tuple[str, NDArray[np.bool_]]], longest: float, classes: NDArray[np.bool_]
) -> list[Run]:
    """A run without the points of each mask; all are trained on, to so many epochs, if a radius of one may still turn."""
    tiled = {f"without-{name}": np.tile(mask, (setting.seeds, 1)) for name, mask in masks}
    runs = [setting.train(name, exclude_per_seed=mask) for name, mask in tiled.items()]
    open_ones = [i for run in runs for i in run.inversion[:, -1, classes].flat if may_turn_later(i.reason)]
    if not longest > setting.options["epochs"] or not open_ones:  # NaN where no radius turns
        return runs
    epochs = math.ceil(longest)
    longer = setting.changed(epochs=epochs)
    return [
        longer.train(f"{name}-longer", exclude_per_seed=mask, start=run)
        for (name, mask), run in zip(tiled.items(), runs, strict=True)
    ]


def _usual_epoch(runs: list[Run], classes: NDArray[np.bool_]) -> float:
    """Median epoch of the inversions of these classes in the last hidden layer; NaN without any."""
    turns = [run.epoch[i.index] for run in runs for i in run.inversion[:, -1, classes].flat if i]
    return float(np.median(turns)) if turns else math.nan


def _length(everything: Arm, without: Arm) -> str:
    """How long the networks without stragglers were trained, in multiples of the usual epoch."""
    if math.isnan(everything.turn_epoch):
        return ""
    times = without.epoch[-1] / max(everything.turn_epoch, 1e-9)
    return f"Training without them lasted {times:.0f} times the median epoch of the inversion with all points."


def _arm(name: str, points: int, runs: list[Run], usual: float, classes: NDArray[np.bool_]) -> Arm:
    """Of one run, or one for each draw: networks of one seed are one repetition, whatever is left out.

    Where no class is compared, all are described.
    """
    of = classes if classes.any() else ~classes
    found = np.array([run.turned[:, -1, of] for run in runs])
    unfinished = [still_open(run, -1, usual, of) for run in runs]
    share = wilson(float(found.mean()), found.shape[1])
    errors = np.stack([critical_errors(run, classes=classes) for run in runs])
    return Arm(
        name,
        points,
        share.value,
        (share.low, share.high),
        student_mean(mean_of_found(errors.T), least=0, most=1),
        student_mean(np.mean([_depth(run, of) for run in runs], axis=0), least=0, most=1),
        reasons_text(runs, classes=of),
        runs[0].epoch,
        np.mean([run.radius[:, :, -1, of].mean((0, 2)) for run in runs], axis=0),
        float(np.mean(unfinished)),
        _usual_epoch(runs, of),
    )


def _depth(run: Run, classes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(S,) the inversion's prominence as a share of the radius's range, 0 without one: mean over these classes."""
    ranges = np.ptp(run.radius[:, :, -1, classes], axis=1)
    prominences = np.array([[i.prominence or 0.0 for i in row] for row in run.inversion[:, -1, classes]])
    depth: NDArray[np.float64] = (prominences / np.maximum(ranges, np.finfo(float).tiny)).mean(1)
    return depth
