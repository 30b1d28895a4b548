"""Is there still an inversion without the stragglers?"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.experiments.result import Result, Table, Verdict, critical_errors, mean_of_found, reasons_text
from fastent.experiments.setting import Setting
from fastent.io.result_cache import Arrays
from fastent.options import number, whole_number
from fastent.plots.style import COLORS
from fastent.runtime.formatting import estimate_text, percent
from fastent.runtime.progress import Progress
from fastent.statistics.intervals import Estimate, student_mean, wilson
from fastent.training.run import Run
from fastent.training.snapshot import Snapshot
from fastent.training.tables import may_turn_later

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Arm", "Pruning", "pruning", "same_mix"]

# An inversion is gone where fewer radii than this share have one, and their dip is shallower than what counts as one.
_GONE = 0.05
_SHALLOW = 0.05


class Arm(NamedTuple):
    """Networks trained on a choice of the points.

    share: of the radii (seed, class; and draw) in the last hidden layer that have an inversion. share_interval: 95 %, Wilson's,
    as if a network had one radius. critical_error: eps*, mean over networks. depth: the smaller of a radius's fall before and
    its rise after the inversion, as a share of its range, 0 without one; mean over radii, interval over networks. radius: (E,)
    mean over networks and classes. unfinished: share of the radii that still fall, or rise by less than counts, at the last
    record, and so may turn later.
    """

    name: str
    points: int
    share: float
    share_interval: tuple[float, float]
    critical_error: Estimate
    depth: Estimate
    reasons: str
    radius: NDArray[np.float64]
    unfinished: float = 0.0


@dataclass(frozen=True, eq=False, repr=False)
class Pruning(Result):
    """Inversions with and without stragglers, random points, and points of the highest loss.

    Attributes
    ----------
    arms : list of Arm
        "all points", "without stragglers", "without random points", "without highest loss"; the first alone where no point is a
        straggler.
    stragglers : (m,) int64
        Row numbers, as stored, of the stragglers left out.
    epoch : (E,) int64, or float64 where records lie within epochs
    """

    arms: list[Arm]
    stragglers: NDArray[np.int64]
    epoch: NDArray[np.int64]

    name = "pruning"
    title = "Training without the stragglers"
    claim = "The inversion is produced by the stragglers: without them it is gone, without as many random points it stays."

    @property
    def verdict(self) -> Verdict:
        if len(self.arms) == 1:
            return Verdict("undecided", f"There are no stragglers to leave out; inversion: {self.arms[0].reasons or 'found'}.")
        everything, without, random, loss = self.arms
        said = (
            f"{percent(everything.share, 0)} of the radii have an inversion; without the {len(self.stragglers)} "
            f"stragglers {percent(without.share, 0)}, without as many random points {percent(random.share, 0)}, "
            f"without as many of the highest loss {percent(loss.share, 0)}. Depth of the inversion, 0 without one: "
            + ", ".join(estimate_text(arm.depth) for arm in self.arms)
            + f"; an inversion has at least {_SHALLOW:g} of the range."
        )
        gone = without.share < _GONE and without.depth.high < _SHALLOW
        kept = random.share > everything.share - _GONE and random.depth.low > _SHALLOW
        if gone and kept and without.unfinished > _GONE:
            falling = percent(without.unfinished, 0)
            later = (
                f"Without the stragglers {falling} of the radii were still falling, or had risen too little, at the last epoch"
            )
            return Verdict("undecided", f"{said} {later}: train longer to see whether they turn.")
        if gone and kept:
            return Verdict("yes", said)
        # Without an interval, of a single network, nothing is larger or smaller.
        refuted = everything.depth.low > _SHALLOW and (without.depth.low > _SHALLOW or random.depth.high < _SHALLOW)
        return Verdict("no" if refuted else "undecided", said)

    def table(self) -> Table:
        rows = [
            (
                arm.name,
                f"{arm.points:,}",
                f"{percent(arm.share, 0)} ({100 * arm.share_interval[0]:.0f} to {100 * arm.share_interval[1]:.0f})",
                estimate_text(arm.critical_error, percent=True),
                estimate_text(arm.depth),
                arm.reasons,
            )
            for arm in self.arms
        ]
        note = "Depth of the inversion: share of the radius's range, 0 without one. Means over networks with 95 % intervals."
        return Table(("trained on", "points", "with inversion", "eps*", "depth", "reasons for no inversion"), rows, note)

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
        arms = {
            arm.name: {key: value for key, value in arm._asdict().items() if key not in ("name", "radius")} for arm in self.arms
        }
        return {"arms": arms, "stragglers": len(self.stragglers)}

    def draw(self, axes: "Axes") -> None:
        for arm, color in zip(self.arms, COLORS, strict=False):
            dashes = "--" if arm.name == "without random points" else "-"  # it lies on that of all points
            axes.plot(self.epoch[1:], arm.radius[1:], dashes, color=color, label=arm.name)
        axes.set(xlabel="epoch", ylabel="gyration radius, mean", xscale="log", title=self.titled(", last hidden layer"))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)


def pruning(
    data: Any = "digits", *, share: float = 0.5, draws: int = 3,
    seeds: int = 10, seed: int = 0, preset: str | None = None, out: str | os.PathLike[str] | None = None,
    progress: Progress = None, **options: Any,
) -> Pruning:  # fmt: skip
    """Train again, from the same initialisations, without stragglers, random points or points of the highest loss.

    All three leave out the same number of points of each class, and standardise inputs alike.

    Parameters
    ----------
    data
        As for `dynamics`.
    share : float, default 0.5
        A point is left out if it is a straggler in at least this share of the seeds, in (0, 1].
    draws : int, default 3
        How often random points are drawn.
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
    number("share", share, above=0, maximum=1)
    whole_number("draws", draws, minimum=1)
    defaults = {"epochs": 300} if preset == "paper" else {}
    setting = Setting.make(
        data, seeds=seeds, seed=seed, preset=preset, out=out, progress=progress, options=options, defaults=defaults
    )
    codes = setting.data.y_train
    base = setting.train("all-points")
    stragglers = base.straggler_share >= share
    arms = [_arm("all points", len(codes), [base])]
    if stragglers.any():
        counts = np.bincount(codes[stragglers], minlength=len(setting.data.classes))
        if (counts >= np.bincount(codes)).any():
            raise FastentError(f"share={share}: all points of a class are stragglers; raise it")
        rng = np.random.default_rng((setting.seed, 1))
        loss = setting.keep("loss", lambda: _final_loss(setting))["loss"]
        random = [_without(setting, same_mix(codes, counts, rng), f"random-{draw}") for draw in range(draws)]
        left = len(codes) - int(stragglers.sum())
        arms += [
            _arm("without stragglers", left, [_without(setting, stragglers, "stragglers")]),
            _arm("without random points", left, random),
            _arm("without highest loss", left, [_without(setting, _highest(codes, counts, loss), "highest-loss")]),
        ]
    config = {**setting.config, "share": share, "draws": draws}
    return Pruning(config, arms, setting.data.index[stragglers], base.epoch)


def same_mix(codes: NDArray[np.int64], counts: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Random points, so many of each class, as a mask (n,)."""
    mask = np.zeros(len(codes), bool)
    for c, wanted in enumerate(counts):
        mask[rng.choice(np.flatnonzero(codes == c), wanted, replace=False)] = True
    return mask


def _highest(codes: NDArray[np.int64], counts: NDArray[np.int64], loss: NDArray[np.float64]) -> NDArray[np.bool_]:
    mask = np.zeros(len(codes), bool)
    for c, wanted in enumerate(counts):
        own = np.flatnonzero(codes == c)
        mask[own[np.argsort(-loss[own], kind="stable")[:wanted]]] = True
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


def _without(setting: Setting, mask: NDArray[np.bool_], name: str) -> Run:
    return setting.train(f"without-{name}", exclude_per_seed=np.tile(mask, (setting.seeds, 1)))


def _arm(name: str, points: int, runs: list[Run]) -> Arm:
    """Of one run, or one for each draw: networks of one seed are one repetition, whatever is left out."""
    found = np.array([run.turned[:, -1] for run in runs])
    unfinished = [may_turn_later(i.reason) for run in runs for i in run.inversion[:, -1].flat]
    share = wilson(float(found.mean()), found.shape[1])
    errors = np.stack([critical_errors(run) for run in runs])
    return Arm(
        name,
        points,
        share.value,
        (share.low, share.high),
        student_mean(mean_of_found(errors.T), least=0),
        student_mean(np.mean([_depth(run) for run in runs], axis=0), least=0),
        reasons_text(runs),
        np.mean([run.radius[:, :, -1].mean((0, 2)) for run in runs], axis=0),
        float(np.mean(unfinished)),
    )


def _depth(run: Run) -> NDArray[np.float64]:
    """(S,) mean over classes of the inversion's prominence as a share of the radius's range; 0 for a class without one."""
    ranges = np.ptp(run.radius[:, :, -1], axis=1)
    prominences = np.array([[i.prominence or 0.0 for i in row] for row in run.inversion[:, -1]])
    depth: NDArray[np.float64] = (prominences / np.maximum(ranges, np.finfo(float).tiny)).mean(1)
    return depth
