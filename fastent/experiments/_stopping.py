"""Is the inversion a good epoch to stop training at?"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.experiments._difficulty import flip_labels
from fastent.experiments.critical import TURNING, compared_classes, reasons_text, usual_classes
from fastent.experiments.result import NEGLIGIBLE, Holds, Result, Table, Verdict, exceeds, joined, overall, points_text
from fastent.experiments.setting import Setting
from fastent.io.result_cache import Arrays
from fastent.options import ascending, number
from fastent.plots.style import COLORS
from fastent.runtime.formatting import NOTHING, percent
from fastent.runtime.progress import Progress
from fastent.statistics.intervals import Estimate, student_mean
from fastent.training.snapshot import Snapshot
from fastent.training.tables import epoch_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Level", "Stop", "Stopping", "stopped", "stopping"]

_NOISE = (0.0, 0.1, 0.2, 0.4)
_MOST_NOISE = 0.5
# Where a network may be stopped; the inversion is compared with each of the others.
_RULES = ("last epoch", "inversion", "usual epoch", "others' inversions", "random epoch", "held-out error", "best epoch")
_QUESTIONS = (
    "With wrong labels, is the test error lower at the inversion than after the last epoch?",
    "Does stopping at the inversion cost accuracy with the labels as they are?",
    "With wrong labels, is the test error lower at the network's own inversion than at the inversions of the others?",
)
_OPPOSITE: dict[Holds, Holds] = {"yes": "no", "no": "yes", "undecided": "undecided"}


class Stop(NamedTuple):
    """Where a rule stops each network, and the clean test error there; both (S,), NaN where it stops at no epoch.

    epoch: of a rule that averages over epochs, their mean. error: in [0, 1].
    """

    epoch: NDArray[np.float64]
    error: NDArray[np.float64]


class Level(NamedTuple):
    """Networks trained with a share of the labels flipped.

    noise: that share. epoch: (E,) whole epochs. curve: (E,) clean test error, mean over networks. stops: of each rule. reasons:
    why radii have no inversion, with counts. compared: names of the compared classes if these are not all.
    """

    noise: float
    epoch: NDArray[np.int64]
    curve: NDArray[np.float64]
    stops: dict[str, Stop]
    reasons: str
    compared: Sequence[str] = ()

    @property
    def said(self) -> str:
        """The share of wrong labels, and which classes are compared if these are not all."""
        classes = f"class{'es' * (len(self.compared) > 1)} {', '.join(self.compared)}"
        return percent(self.noise, 0) + (f" ({classes})" if self.compared else "")

    @property
    def turned(self) -> NDArray[np.bool_]:
        """(S,) the networks in which the radius of every compared class has an inversion; none if no class is compared."""
        return np.isfinite(self.stops["inversion"].error)

    @property
    def usable(self) -> bool:
        """Whether so many networks turn that those which do are no selection."""
        return bool(self.turned.mean() >= TURNING)

    @property
    def negligible(self) -> float:
        """The largest difference from the test error after the last epoch that is negligible."""
        return NEGLIGIBLE * float(self.stops["last epoch"].error.mean())

    def less(self, rule: str) -> NDArray[np.float64]:
        """(S,) test error at the inversion less that of another rule, in [-1, 1]; NaN for a network that does not turn."""
        difference: NDArray[np.float64] = self.stops["inversion"].error - self.stops[rule].error
        return difference


@dataclass(frozen=True, eq=False, repr=False)
class Stopping(Result):
    """Clean test errors of networks trained with wrong labels, stopped at the inversion and by other rules.

    The null of the first two questions is that inversion and last epoch may be exchanged in each network; that of the third,
    that the inversions may be exchanged among the networks.

    Attributes
    ----------
    levels : list of Level
        For each share of flipped labels, the stops of each network by each rule; see `stopping`.
    """

    levels: list[Level]

    name = "stopping"
    of_paper = False
    title = "Stopping at the inversion"
    claim = (
        "The inversion is a good epoch to stop training at: with wrong labels the test error is lower there than after the "
        "last epoch, and with the labels as they are it is not higher."
    )

    def differences(self, level: Level) -> dict[str, Estimate]:
        """Test error at the inversion less that of each other rule, paired by network; intervals hold together over levels."""
        confidence = 1 - 0.05 / len(self.levels)
        return {
            rule: student_mean(level.less(rule), confidence=confidence, least=-1, most=1)
            for rule in _RULES
            if rule != "inversion"
        }

    @property
    def answers(self) -> dict[str, Verdict]:
        noisy = [level for level in self.levels if level.noise]
        answers = (self._lower(noisy, "last epoch"), self._cost(self.levels[0]), self._lower(noisy, "others' inversions"))
        return dict(zip(_QUESTIONS, answers, strict=True))

    @property
    def verdict(self) -> Verdict:
        """On the claim, from the first two questions, with the answer to each of the three."""
        helps, costs, _ = (answer.holds for answer in self.answers.values())
        return Verdict(overall((helps, _OPPOSITE[costs])), joined(self.answers).sentence)

    def _lower(self, levels: list[Level], rule: str) -> Verdict:
        """Whether the test error at the inversion is lower than by another rule at all levels at which networks turn."""
        usable = [level for level in levels if level.usable]
        found = [_is_lower(self.differences(level)[rule], level.negligible) for level in usable]
        said = "; ".join(
            f"with {level.said} {points_text(self.differences(level)[rule]) if level.usable else _too_few(level)}"
            for level in levels
        )
        sentence = f"Test error at the inversion, compared with the {rule}, in percentage points, by wrong labels: {said}."
        split = [
            " and ".join(percent(level.noise, 0) for level, holds in zip(usable, found, strict=True) if holds == answer)
            for answer in ("yes", "no")
        ]
        if all(split):
            sentence = f"It is lower with {split[0]} wrong labels, but not with {split[1]}. {sentence}"
        return Verdict(overall(found) if found else "undecided", sentence)

    def _cost(self, level: Level) -> Verdict:
        if not level.usable:
            return Verdict("undecided", f"With the labels as they are {_too_few(level)}.")
        found = self.differences(level)["last epoch"]
        compared = f"with {level.said} wrong labels " if level.compared else ""
        return Verdict(
            exceeds(found, level.negligible),
            f"The difference {compared}is {points_text(found)} percentage points, of which {100 * level.negligible:.2f} are "
            "negligible.",
        )

    def table(self) -> Table:
        rows = []
        for level in self.levels:
            differences = self.differences(level)
            for rule, stop in level.stops.items():
                epochs = stop.epoch[np.isfinite(stop.epoch)]
                rows.append(
                    (
                        f"{percent(level.noise, 0)} wrong, {rule}",
                        f"{np.isfinite(stop.error).sum()} of {len(stop.error)}",
                        epoch_text(float(np.median(epochs))) if len(epochs) else NOTHING,
                        percent(student_mean(stop.error).value),
                        points_text(differences[rule]) if rule in differences else "",
                    )
                )
        note = (
            "Clean test error, mean over networks. Difference: error at the inversion less this one, in percentage points, "
            "paired over the networks that turn, with 95 % intervals that hold together over the shares of wrong labels. "
            "Compared are the classes that turn in at least half of the networks. Usual epoch: the median epoch of the other "
            "networks' inversions. Random epoch: the mean over all epochs. Held-out error: one half of the test points, whose "
            "labels are right, chooses the epoch for the other. Best epoch: an oracle, which chooses by the same test points."
        )
        return Table(("labels and epoch", "networks", "median epoch", "test error", "difference"), rows, note)

    def numbers(self) -> dict[str, Any]:
        return {
            f"{level.noise:g}": {
                "turned": int(level.turned.sum()),
                "networks": len(level.turned),
                "test_error": {rule: student_mean(stop.error, least=0, most=1) for rule, stop in level.stops.items()},
                "epoch": {rule: stop.epoch for rule, stop in level.stops.items()},
                "inversion_less": self.differences(level),
                "negligible": level.negligible,
                "reasons": level.reasons,
                "compared": level.compared,
            }
            for level in self.levels
        }

    def draw(self, axes: "Axes") -> None:
        marks = {"inversion": "o", "held-out error": "x", "best epoch": "*"}
        for level, color in zip(self.levels, COLORS * len(self.levels), strict=False):
            label = f"{percent(level.noise, 0)} wrong, {level.turned.sum()} of {len(level.turned)} turn"
            axes.plot(level.epoch[1:], 100 * level.curve[1:], color=color, label=label)
            for rule, mark in marks.items():
                stop = level.stops[rule]
                known = np.isfinite(stop.error)
                if level.usable or known.all():  # a selection of the networks does not lie on the curve of all
                    place = np.median(stop.epoch[known]), 100 * stop.error[known].mean()
                    edge: dict[str, Any] = {"markeredgewidth": 2} if mark == "x" else {"markeredgecolor": "black"}
                    axes.plot(*place, mark, color=color, markersize=8, **edge)
        for rule, mark in marks.items():
            edge = {"markeredgewidth": 2} if mark == "x" else {}
            axes.plot([], [], mark, color="0.4", label=f"stopped at the {rule}", **edge)
        axes.set(xlabel="epoch", ylabel="clean test error, %", xscale="log", title=self.titled())
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def stopping(
    data: Any = "digits", *, noise: Sequence[float] | None = None,
    seeds: int = 10, seed: int = 0, preset: str | None = None, out: str | os.PathLike[str] | None = None,
    progress: Progress = None, **options: Any,
) -> Stopping:  # fmt: skip
    """Train with shares of the labels flipped, and compare clean test errors at the inversion with those of other epochs.

    Each network may be stopped

    - at the last epoch;
    - at the inversion of its radii in the last hidden layer: as for eps*, the mean of the errors at the inversion of each class
      that turns in at least half of the networks; a network in which one of these classes has none does not stop there;
    - at the inversions of the other networks: the mean of its errors there, which exchanged inversions would give;
    - at the usual epoch, the median of the other networks' inversions of each class, so that nothing is known of the network
      itself;
    - at a random epoch from 1 to the last, whose expected error is the mean over these;
    - by held-out error: for each half of the test points at the first epoch at which the error on the other half is smallest;
    - at the best epoch: the smallest error on all test points, an oracle that bounds what any rule can reach.

    A difference is negligible below a tenth of the test error after the last epoch. The questions on wrong labels are answered
    by yes if the error at the inversion is lower at every share of wrong labels, and by no if at some share it is not lower by
    more than is negligible. Shares at which fewer than nine of ten networks turn are reported, but answer nothing: the networks
    that turn are then a selection. So do shares at which no class turns in half of the networks.

    Parameters
    ----------
    data
        As for `dynamics`.
    noise : sequence of float, optional
        Shares of the training labels that `flip_labels` flips, ascending from 0, at most 0.5, and two at least. The default is
        (0, 0.1, 0.2, 0.4).
    seeds, seed, preset, out, progress, **options
        As for `dynamics`.

    Returns
    -------
    Stopping

    Raises
    ------
    FastentError
        Bad data or options, or fewer than two test points.

    References
    ----------
    Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.
    Prechelt, "Early stopping - but when?", in "Neural networks: tricks of the trade", 1998.
    """
    shares = ascending(
        "noise", _NOISE if noise is None else noise, partial(number, minimum=0, maximum=_MOST_NOISE),
        what="shares", example="(0, 0.2)", least=2, start=0,
    )  # fmt: skip
    setting = Setting.make(data, seeds=seeds, seed=seed, preset=preset, out=out, progress=progress, options=options)
    n_test = len(setting.data.y_test)
    if n_test < 2:
        raise FastentError(f"{n_test} test points have no two halves, one to choose the epoch by: pass more")
    halves = np.arange(n_test) % 2 == 0
    halves = np.random.default_rng((setting.seed, 9)).permutation(halves)
    levels = []
    for share in shares:
        noisy = setting.changed(data=flip_labels(setting.data, share, setting.seed)[0]) if share else setting
        arrays = noisy.keep("stopping", partial(_curves, noisy, halves, len(shares)))
        errors, epoch, first = arrays["error"], arrays["epoch"], float(halves.mean())
        classes = usual_classes(np.isfinite(arrays["turn"]))
        stops = stopped(errors, epoch, arrays["turn"], first)
        compared = [] if classes.all() else arrays["names"][classes].tolist()
        levels.append(Level(share, epoch, _whole(errors, first).mean(0), stops, str(arrays["reasons"]), compared))
    return Stopping({**setting.config, "noise": shares}, levels)


def stopped(
    errors: NDArray[np.float64], epochs: NDArray[Any], turns: NDArray[np.float64], first: float = 0.5
) -> dict[str, Stop]:
    """Where each rule stops S networks, by test errors of two halves of the test points (2, S, E) after `epochs` (E,), and the
    epochs of the inversions (S, C), NaN where a class has none; `first` is the first half's share of the test points.

    Classes that turn in fewer than half of the networks do not count.
    """
    whole, epochs = _whole(errors, first), np.asarray(epochs, float)
    classes = usual_classes(np.isfinite(turns))
    turns = turns[:, classes] if classes.any() else np.full((len(whole), 1), np.nan)
    networks = np.arange(len(whole))
    others = [turns[networks != s] for s in networks]
    usual = np.array([[_median(column) for column in each.T] for each in others])
    chosen = errors[::-1].argmin(2)  # of each half, by the other
    held_out = np.take_along_axis(errors, chosen[:, :, None], axis=2)[:, :, 0]
    best = whole.argmin(1)
    return {
        "last epoch": Stop(np.full(len(whole), epochs[-1]), whole[:, -1]),
        "inversion": _at(turns, epochs, whole),
        "usual epoch": _at(usual, epochs, whole),
        "others' inversions": _mean_at(others, epochs, whole),
        "random epoch": Stop(np.full(len(whole), epochs[1:].mean()), whole[:, 1:].mean(1)),
        "held-out error": Stop(epochs[chosen].mean(0), _whole(held_out, first)),
        "best epoch": Stop(epochs[best], whole[networks, best]),
    }


def _at(turns: NDArray[np.float64], epochs: NDArray[np.float64], whole: NDArray[np.float64]) -> Stop:
    """Stopped at an epoch for each class (S, C): the mean over classes, NaN unless all have one."""
    found = [[np.interp(epoch, epochs, row) for epoch in each] for each, row in zip(turns, whole, strict=True)]
    return Stop(turns.mean(1), np.mean(found, axis=1))


def _mean_at(turns: list[NDArray[np.float64]], epochs: NDArray[np.float64], whole: NDArray[np.float64]) -> Stop:
    """Stopped at each of several networks' epochs (S - 1, C): means over those that turn, and over classes."""
    stops = [[column[np.isfinite(column)] for column in each.T] for each in turns]
    found = [[_mean(np.interp(t, epochs, row)) for t in columns] for columns, row in zip(stops, whole, strict=True)]
    return Stop(np.array([[_mean(t) for t in columns] for columns in stops]).mean(1), np.mean(found, axis=1))


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else np.nan


def _whole(halves: NDArray[np.float64], first: float) -> NDArray[np.float64]:
    """Errors on all test points from those on two halves, (2, ...)."""
    whole: NDArray[np.float64] = first * halves[0] + (1 - first) * halves[1]
    return whole


def _median(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else np.nan


def _is_lower(difference: Estimate, negligible: float) -> Holds:
    """Whether an error is lower by this difference, as far as its interval tells; by no more than is negligible is no."""
    value, error, low, high = difference
    return exceeds(Estimate(-value, error, -high, -low), negligible)


def _too_few(level: Level) -> str:
    return f"too few networks turn to compare them, {level.turned.sum()} of {len(level.turned)} ({level.reasons})"


def _curves(setting: Setting, halves: NDArray[np.bool_], total: int) -> Arrays:
    """Clean test errors of both halves after each whole epoch, (2, S, E), and the epochs of the inversions, (S, C).

    Reasons are those of the compared classes, or of all where none is.
    """
    data = setting.data
    epochs: list[int] = []
    errors: list[list[NDArray[np.float64]]] = []

    def observe(snapshot: Snapshot) -> None:
        wrong = snapshot.predict(data.x_test).argmax(2) != data.y_test
        epochs.append(int(snapshot.epoch))
        errors.append([wrong[:, half].mean(1) for half in (halves, ~halves)])

    run = setting.train_afresh("stopping", total=total, observe=observe)
    turns, classes = [[i.epoch if i else np.nan for i in row] for row in run.inversion[:, -1]], compared_classes([run])
    return {
        # In the order in which it is read again: sums of what is kept have the same bits.
        "error": np.ascontiguousarray(np.moveaxis(np.array(errors), 0, 2)),
        "epoch": np.array(epochs),
        "turn": np.array(turns, float),
        "reasons": np.array(reasons_text([run], classes=classes if classes.any() else None)),
        "names": np.array(run.class_names),
    }
