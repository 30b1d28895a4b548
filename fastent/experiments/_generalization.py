"""What do the points still misclassified at an epoch mean for the test error?"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.data.fingerprint import mask_fingerprint
from fastent.experiments._pruning import same_mix
from fastent.experiments.critical import critical_errors, reasons_text
from fastent.experiments.peak import Peak, find_peak, peak_verdict, times_around
from fastent.experiments.result import NEAR, NEGLIGIBLE, Result, Table, Verdict, exceeds, joined, mark_inversion, points_text
from fastent.experiments.setting import Setting, spaced_epochs
from fastent.io.result_cache import Arrays
from fastent.options import number, whole_number
from fastent.plots.style import COLORS, error_axis
from fastent.runtime.formatting import NOTHING, estimate_text, percent
from fastent.runtime.progress import Progress
from fastent.statistics.intervals import Estimate, student_mean
from fastent.statistics.simultaneous import simultaneous_means
from fastent.training.run import Run
from fastent.training.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

__all__ = ["Generalization", "generalization"]

_FIRST = 5
# Of the epochs trained: later, few points are still misclassified.
_LAST = 0.6
# How often noise is drawn for the test inputs.
_NOISES = 5
_KINDS = ("clean", "noisy")
# The epochs t go from this many times the training error of the inversion to as small a part of it.
_FARTHEST = 3.0
_QUESTIONS = (
    "Is the test error larger without the points misclassified at the inversion than without as many random ones?",
    "Is the inversion special: is that effect per removed point largest there?",
)


@dataclass(frozen=True, eq=False, repr=False)
class Generalization(Result):
    """Test errors of networks trained without the points that each got wrong at T epochs, and without as many random ones.

    Attributes
    ----------
    times : (T,) int64
        Epochs t.
    train_error : (T, S) float64
        Of each network at t when trained on all points, in [0, 1]: the share of points then left out.
    without : dict of (T, S) float64
        "clean" and "noisy" test error, in [0, 1], after training again without S(t).
    control : dict of (T, S) float64
        The same without as many random points of each class.
    unpruned : dict of (S,) float64
        The same after training on all points.
    peaks : dict of Peak
        "per point": the t that may have the largest effect per removed point on the clean test error; "clean" and "noisy": the
        t whose pruning may leave the smallest test error.
    critical_error : Estimate
        eps* of the networks trained on all points, over the classes that turn in at least half of them.
    reasons : str
    """

    times: NDArray[np.int64]
    train_error: NDArray[np.float64]
    without: dict[str, NDArray[np.float64]]
    control: dict[str, NDArray[np.float64]]
    unpruned: dict[str, NDArray[np.float64]]
    peaks: dict[str, Peak]
    critical_error: Estimate
    reasons: str

    name = "generalization"
    title = "Test error after training without S(t)"
    claim = (
        "The points misclassified at the inversion matter more for generalisation than as many random points, and than those "
        "of other times."
    )

    def effects(self, kind: str) -> list[Estimate]:
        """(T,) test error without S(t) less that of the random control, in [-1, 1], paired over seeds: positive where S(t) is
        missed more. The 95 % intervals hold together over all t."""
        return simultaneous_means((self.without[kind] - self.control[kind]).T, least=-1, most=1)

    def per_point(self) -> list[Estimate]:
        """(T,) the effect on the clean test error divided by the share of points removed, with intervals that hold together."""
        return simultaneous_means(per_removed_point(self.without, self.control, self.train_error).T)

    @property
    def at_inversion(self) -> int | None:
        """Position of the t whose training error is nearest to eps*, in proportion; None without such a t or eps*."""
        if not self.critical_error.value > 0 or not len(self.times):
            return None
        errors = np.maximum(self.train_error.mean(1), 1e-12)
        return int(np.abs(np.log(errors / self.critical_error.value)).argmin())

    @property
    def answers(self) -> dict[str, Verdict]:
        special = peak_verdict(
            "The effect per removed point", self.peaks["per point"], self.critical_error,
            repetitions=self.train_error.shape[1], reasons=self.reasons, open_at_edge=False,
        )  # fmt: skip
        return dict(zip(_QUESTIONS, (self._more_than_random, special), strict=True))

    @property
    def verdict(self) -> Verdict:
        return joined(self.answers)

    @property
    def _more_than_random(self) -> Verdict:
        """Whether clean test error misses the points of the inversion more than random ones; less is no, not yes."""
        if not len(self.times):
            return Verdict(
                "undecided", "At no epoch does every network get some points of each class right and some points wrong."
            )
        if np.isnan(self.critical_error.value):
            return Verdict("undecided", f"There is no inversion to compare with: {self.reasons}.")
        at = self.at_inversion
        if at is None:
            return Verdict("undecided", "The inversion is at a training error of 0: no point is misclassified there.")
        effects = {kind: self.effects(kind) for kind in _KINDS}
        error = float(self.train_error[at].mean())
        near = 1 / NEAR < error / self.critical_error.value < NEAR
        small = NEGLIGIBLE * float(self.unpruned["clean"].mean())
        times = sum(effect.low > 0 for effect in effects["clean"])
        said = (
            f"Without the points misclassified at epoch {self.times[at]}, training error {percent(error)}, "
            f"{'near' if near else 'far from'} the inversion's {percent(self.critical_error.value)}: "
            + ", ".join(f"{kind} test error {points_text(effects[kind][at])}" for kind in _KINDS)
            + f" percentage points compared with the random control (a difference below {_points_of(small)} is negligible). "
            f"Clean test error is larger at {times} of {len(self.times)} t."
        )
        found = effects["clean"][at]
        if np.isnan(found.low):
            return Verdict("undecided", f"{said} One network gives no interval.")
        if not near:
            return Verdict("undecided", f"{said} Near means within a factor of {NEAR:g}: ask for more points.")
        return Verdict(exceeds(found, small), said)

    def table(self) -> Table:
        rows = [("none", NOTHING, "0", *(percent(self.unpruned[kind].mean()) for kind in _KINDS), *[""] * 5)]
        n = self.config["training_points"]
        effects, per_point = {kind: self.effects(kind) for kind in _KINDS}, self.per_point()
        for i, t in enumerate(self.times):
            share = self.train_error[i].mean()
            errors = [percent(arm[kind][i].mean()) for arm in (self.without, self.control) for kind in _KINDS]
            differences = [points_text(effects[kind][i]) for kind in _KINDS]
            rows.append((str(t), percent(share), f"{n * share:.0f}", *errors, *differences, estimate_text(per_point[i])))
        best = "; ".join(
            f"{kind} test error is smallest without S(t) at a training error of "
            f"{estimate_text(self.peaks[kind].train_error, percent=True)} at t"
            for kind in _KINDS
            if not np.isnan(self.peaks[kind].train_error.value)
        )
        headings = (
            "without S(t), t =", "training error at t", "points left out", "clean", "noisy", "control, clean", "control, noisy",
            "difference, clean", "difference, noisy", "per point",
        )  # fmt: skip
        note = (
            f"Test errors, means over seeds. Noise of standard deviation {self.config['noise']:g} on standardised inputs. "
            "Differences: from the control, in percentage points, paired over seeds, with 95 % intervals that hold together "
            "over t. Per point: the clean difference divided by the share of points left out."
            + (f" {best[0].upper()}{best[1:]}." if best else "")
        )
        return Table(headings, rows, note)

    @property
    def drawings(self) -> "tuple[Callable[[Axes], None], ...]":
        return (self.draw, self._draw_detail)

    def _draw_detail(self, axes: "Axes") -> None:
        """Draw how the test error without S(t) differs from the control's."""
        errors = self.train_error.mean(1)
        for kind, color in zip(self.without, COLORS, strict=False):
            effects = 100 * np.array(self.effects(kind)).reshape(-1, 4)
            axes.plot(errors, effects[:, 0], "o-", color=color, markersize=4, label=kind)
            axes.fill_between(errors, effects[:, 2], effects[:, 3], color=color, alpha=0.2, linewidth=0)
        axes.axhline(0, color="0.3", linewidth=0.8, linestyle="--")
        mark_inversion(axes, self.critical_error, COLORS[-1])
        axes.set(ylabel="difference, percentage points", title="Without S(t), less without random points")
        error_axis(axes, self.config["training_points"])
        axes.set_xlabel("training error at t")
        axes.legend(frameon=False, fontsize="small")

    def numbers(self) -> dict[str, Any]:
        return {
            "times": self.times,
            "train_error": self.train_error.mean(1),
            "without": {kind: values.mean(1) for kind, values in self.without.items()},
            "control": {kind: values.mean(1) for kind, values in self.control.items()},
            "unpruned": {kind: float(values.mean()) for kind, values in self.unpruned.items()},
            "difference": {kind: self.effects(kind) for kind in _KINDS},
            "difference_per_point": self.per_point(),
            "peaks": self.peaks,
            "critical_error": self.critical_error,
            "reasons": self.reasons,
        }

    def draw(self, axes: "Axes") -> None:
        errors = self.train_error.mean(1)
        for kind, color in zip(_KINDS, COLORS, strict=False):
            axes.plot(errors, self.without[kind].mean(1), "o-", color=color, markersize=4, label=f"{kind}, without S(t)")
            axes.plot(
                errors, self.control[kind].mean(1), "s--", color=color, markersize=3, label=f"{kind}, without random points"
            )
            axes.axhline(self.unpruned[kind].mean(), color=color, linewidth=0.8, linestyle=":", label=f"{kind}, all points")
        mark_inversion(axes, self.critical_error, COLORS[-1])
        axes.set(ylabel="test error", title=self.titled(", trained without S(t)"))
        error_axis(axes, self.config["training_points"])
        axes.set_xlabel("training error at t")
        axes.legend(frameon=False, fontsize="small")


def generalization(
    data: Any = "digits", *, points: int = 10, noise: float = 1.0,
    seeds: int = 10, seed: int = 0, preset: str | None = None, out: str | os.PathLike[str] | None = None,
    progress: Progress = None, **options: Any,
) -> Generalization:  # fmt: skip
    """Train each network again, from its own initialisation, without what it got wrong at epoch t; compare test errors.

    Parameters
    ----------
    data
        As for `dynamics`.
    points : int, default 10
        About how many epochs t, spaced evenly in the logarithm of the training error from 3 times that of the inversion to a
        third of it, or as far as the networks are trained; without an inversion, logarithmically in epochs.
    noise : float, default 1.0
        Standard deviation of the Gaussian noise on standardised test inputs, >= 0.
    seeds, seed, preset, out, progress, **options
        As for `dynamics`. The default of `lr` is 0.2, as in the source paper.

    Returns
    -------
    Generalization

    Raises
    ------
    FastentError
        Bad data or options.

    References
    ----------
    Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.
    """
    whole_number("points", points, minimum=1)
    number("noise", noise, minimum=0)
    setting = Setting.make(
        data, seeds=seeds, seed=seed, preset=preset, out=out, progress=progress, options=options, defaults={"lr": 0.2}
    )
    base = setting.train("all-points")
    critical_error = student_mean(critical_errors(base), least=0, most=1)
    times = _times(base, critical_error.value, points)
    times = times[[_usable(base.misclassified(t), setting.data.y_train) for t in times]]

    none = np.zeros((setting.seeds, len(setting.data.y_train)), bool)
    unpruned = _test_errors(setting, none, noise, "all")
    without: dict[str, list[Any]] = {kind: [] for kind in _KINDS}
    control: dict[str, list[Any]] = {kind: [] for kind in _KINDS}
    for t in times.tolist():
        wrong = base.misclassified(t)
        arms = ((without, wrong, f"without-S({t})"), (control, _random(setting, wrong, t), f"control({t})"))
        for arm, mask, name in arms:
            found = _test_errors(setting, mask, noise, name)
            for kind in _KINDS:
                arm[kind].append(found[kind])
    shape = (len(times), setting.seeds)
    train_error = base.train_error[:, base.positions(times)].T.reshape(shape)
    curves, controls = ({kind: np.reshape(values, shape) for kind, values in arm.items()} for arm in (without, control))
    return Generalization(
        config={**setting.config, "training_points": len(setting.data.y_train), "points": points, "noise": noise},
        times=times,
        train_error=train_error,
        without=curves,
        control=controls,
        unpruned=unpruned,
        peaks=_peaks(curves, controls, train_error, setting.seed),
        critical_error=critical_error,
        reasons=reasons_text([base]),
    )


def per_removed_point(
    without: dict[str, NDArray[np.float64]], control: dict[str, NDArray[np.float64]], train_error: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(T, S) clean test error without S(t) less that of the control, divided by the share of points removed."""
    effect: NDArray[np.float64] = (without["clean"] - control["clean"]) / train_error
    return effect


def _peaks(
    without: dict[str, NDArray[np.float64]],
    control: dict[str, NDArray[np.float64]],
    train_error: NDArray[np.float64],
    seed: int,
) -> dict[str, Peak]:
    """At which t the effect per removed point may be largest, and the test errors smallest."""
    measures = {"per point": per_removed_point(without, control, train_error)} | {kind: -without[kind] for kind in _KINDS}
    return {name: find_peak(values.T, train_error.mean(1), seed=seed) for name, values in measures.items()}


def _times(run: Run, critical_error: float, points: int) -> NDArray[np.int64]:
    """Epochs t about the inversion, evenly in the logarithm of the training error; without one, in that of the epoch."""
    if critical_error > 0:
        return run.epoch[times_around(run, critical_error, _FARTHEST, points, whole=True)].astype(np.int64)
    last = max(int(_LAST * run.epoch[-1]), min(_FIRST, int(run.epoch[-1])))
    return spaced_epochs(min(_FIRST, last), last, points)


def _usable(wrong: NDArray[np.bool_], codes: NDArray[np.int64]) -> bool:
    """Whether every network has some points wrong, and something of each class left without them."""
    return all(mask.any() and len(np.unique(codes[~mask])) == len(np.unique(codes)) for mask in wrong)


def _random(setting: Setting, wrong: NDArray[np.bool_], t: int) -> NDArray[np.bool_]:
    """As many points of each class for each network, at random."""
    codes, rng = setting.data.y_train, np.random.default_rng((setting.seed, t))
    return np.stack([same_mix(codes, np.bincount(codes[mask], minlength=len(setting.data.classes)), rng) for mask in wrong])


def _test_errors(setting: Setting, mask: NDArray[np.bool_], noise: float, name: str) -> Arrays:
    """Clean and noisy test error of each network after training without the masked points, (S,) each."""
    data, last = setting.data, setting.options["epochs"]

    def make() -> Arrays:
        found: Arrays = {}

        def observe(snapshot: Snapshot) -> None:
            if snapshot.epoch == last:
                rng = np.random.default_rng((setting.seed, 2))
                found["clean"] = _error(snapshot, data.x_test, data.y_test)
                drawn = (data.x_test + noise * rng.standard_normal(data.x_test.shape, np.float32) for _ in range(_NOISES))
                found["noisy"] = np.mean([_error(snapshot, rows, data.y_test) for rows in drawn], axis=0)

        setting.train_afresh(name, exclude_per_seed=mask, observe=observe)
        return found

    return setting.keep(name, make, noise=noise, mask=mask_fingerprint(mask))


def _error(snapshot: Snapshot, rows: NDArray[np.float32], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    wrong: NDArray[np.float64] = (snapshot.predict(rows).argmax(2) != codes).mean(1)
    return wrong


def _points_of(share: float) -> str:
    return f"{100 * share:.2f}"
