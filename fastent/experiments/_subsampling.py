"""Does the training error at the inversion settle to a constant as the number of training points grows?"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.experiments._blocks import has_every_class
from fastent.experiments.critical import (
    TURNING,
    compared_classes,
    compared_text,
    critical_errors,
    critical_test_errors,
    mean_of_found,
    mean_over,
    mean_share,
    own_class_errors,
    reasons_text,
)
from fastent.experiments.result import Result, Table, Verdict, below
from fastent.experiments.setting import Setting
from fastent.options import ascending, whole_number
from fastent.plots.style import COLORS
from fastent.runtime.formatting import estimate_text, percent
from fastent.runtime.progress import Progress
from fastent.statistics.finite_size import FiniteSize, finite_size
from fastent.statistics.intervals import Estimate, student_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastent.training.run import Run

__all__ = ["Subsampling", "subsampling"]

# Settled: eps* would change by less than this, in proportion, if the number of points doubled once more.
_SETTLED = 0.1
_FRACTIONS = 2.0 ** np.arange(-3, 0.5, 0.5)


@dataclass(frozen=True, eq=False, repr=False)
class Subsampling(Result):
    """eps* of networks trained on random subsets of the points, and the finite-size curve ``eps*(P) = e (1 - c / P)``.

    Of the first hidden layer, and of the classes that turn in at least half of the networks of the largest size.

    Attributes
    ----------
    sizes : (P,) int64
        Numbers of points.
    critical_errors : list of (draws, S) float64
        eps* of each network for each size, NaN without an inversion. All points are drawn once only.
    test_errors, own_class_errors : list of (draws, S) float64
        The test error at the inversion, and the share of each class's own points that are misclassified at its inversion: means
        over classes, as eps* is.
    shares : (P,) float64
        Share of the networks of which every compared class has an inversion.
    estimates, test_estimates, own_class_estimates : list of Estimate
        Means for each size, over draws, each the mean of its networks; where there is one draw, over networks. In [0, 1].
    curve : FiniteSize
        The fitted curve: `limit` e, `correction` c in points, `misfit` and `next_doubling`, how much eps* would change, in
        proportion, from the largest size to twice as many points. Of the sizes at which nine of ten networks have an inversion.
    change, test_change : Estimate
        How much eps* and the test error at the inversion change when the number of points doubles, as shares of their means,
        on average over the sizes: least squares over the draws' means, with Student's interval. These and the curve are of the
        sizes at which nine of ten networks have an inversion.
    reasons : list of str
    compared : str
        Which classes are compared, if these are not all.
    """

    sizes: NDArray[np.int64]
    critical_errors: list[NDArray[np.float64]]
    test_errors: list[NDArray[np.float64]]
    own_class_errors: list[NDArray[np.float64]]
    shares: NDArray[np.float64]
    estimates: list[Estimate]
    test_estimates: list[Estimate]
    own_class_estimates: list[Estimate]
    curve: FiniteSize
    change: Estimate
    test_change: Estimate
    reasons: list[str]
    compared: str

    name = "subsampling"
    title = "The inversion and the number of points"
    claim = "The training error at the inversion settles to a constant as the number of training points grows."

    @property
    def verdict(self) -> Verdict:
        used = self.sizes[self.shares >= TURNING]
        if np.isnan(self.curve.limit.value):
            if not any(self.reasons):
                return Verdict("undecided", "The inversions are at a training error of 0, which has no relative change.")
            why = "; ".join(f"{size} points: {reason}" for size, reason in zip(self.sizes, self.reasons, strict=True) if reason)
            return Verdict("undecided", f"Too few sizes at which {percent(TURNING, 0)} of the networks turn: {why}.")
        limit, correction, misfit, change = self.curve
        said = (
            f"From {used[0]:,} to {used[-1]:,} points eps*(P) = e (1 - c/P) with e = {estimate_text(limit, percent=True)} and "
            f"c = {estimate_text(correction, digits=0)} points"
        )
        said += ", a curve that does not fit well" if misfit < 0.05 else ""
        said += (
            f". eps* changes by {estimate_text(self.change, percent=True, digits=1, signed=True)} per doubling on average, the "
            f"test error at the inversion by {estimate_text(self.test_change, percent=True, digits=1, signed=True)}"
        )
        if np.isnan(change.low):
            return Verdict("undecided", f"{said}. Whether it settles takes three sizes.")
        said += (
            f". Doubling {used[-1]:,} points once more would change eps* by "
            f"{estimate_text(change, percent=True, digits=1, signed=True)}, even if it grows with log P; settled means by less "
            f"than {percent(_SETTLED, 0)}"
        )
        said += f". {self.compared.removesuffix('.')}" if self.compared else ""
        return Verdict(below(_size(change), _SETTLED), f"{said}.")

    def table(self) -> Table:
        columns = (self.sizes, self.critical_errors, self.shares, self.estimates, self.test_estimates, self.own_class_estimates)
        rows = [
            (
                f"{size:,}",
                f"{len(errors)} x {errors.shape[1]}",
                percent(share, 0),
                *(estimate_text(each, percent=True) for each in estimates),
                reason,
            )
            for size, errors, share, *estimates, reason in zip(*columns, self.reasons, strict=True)
        ]
        headings = (
            "points",
            "draws x seeds",
            "with inversion",
            "eps* (95 % interval)",
            "test error there",
            "own-class error",
            "reasons for no inversion",
        )
        note = (
            "A network has an inversion if every compared class has one, in the first hidden layer. Own-class error: the share "
            "of a class's points that are misclassified at its inversion. Inputs are standardised as in the whole set."
        )
        return Table(headings, rows, note)

    def numbers(self) -> dict[str, Any]:
        return {
            "sizes": self.sizes,
            "seeds_with_inversion": self.shares,
            "critical_error": self.estimates,
            "test_error": self.test_estimates,
            "own_class_error": self.own_class_estimates,
            "curve": self.curve,
            "change_per_doubling": self.change,
            "test_change_per_doubling": self.test_change,
            "reasons": self.reasons,
            "compared": self.compared,
        }

    def draw(self, axes: "Axes") -> None:
        for size, errors in zip(self.sizes, self.critical_errors, strict=True):
            axes.plot(np.full(errors.size, size), 100 * errors.ravel(), "o", color=COLORS[0], markersize=3, alpha=0.35)
        values = 100 * np.array([[e.value, e.low, e.high] for e in self.estimates])
        axes.plot(self.sizes, values[:, 0], "o-", color=COLORS[1], label="mean, 95 % interval")
        axes.vlines(self.sizes, values[:, 1], values[:, 2], color=COLORS[1])
        axes.plot([], [], "o", color=COLORS[0], markersize=3, label="one network")
        axes.plot(
            self.sizes, [100 * e.value for e in self.test_estimates], "s--", color=COLORS[2], markersize=4, label="test error"
        )
        if not np.isnan(self.curve.limit.value):
            size = np.geomspace(self.sizes[self.shares >= TURNING][0], 2 * self.sizes[-1], 200)
            fitted = self.curve.limit.value * (1 - self.curve.correction.value / size)
            axes.plot(size, 100 * fitted, color=COLORS[6], linewidth=1, label="e (1 - c / P)")
        axes.set(xscale="log", xlabel="training points", ylabel="error at the inversion, %", title=self.titled())
        axes.set_xticks(self.sizes, [f"{size:,}" for size in self.sizes])
        axes.set_xticks([], minor=True)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)


def subsampling(
    data: Any = "digits", *, sizes: Sequence[int] | None = None, draws: int = 3,
    seeds: int = 10, seed: int = 0, preset: str | None = None, out: str | os.PathLike[str] | None = None,
    progress: Progress = None, **options: Any,
) -> Subsampling:  # fmt: skip
    """Train on random subsets of the points, and fit a curve to the training errors at the inversion.

    Parameters
    ----------
    data
        As for `dynamics`.
    sizes : sequence of int, optional
        Numbers of points, ascending. The default is seven from an eighth to all of them, each the root of 2 times the last,
        without those of which a subset lacks a class.
    draws : int, default 3
        Number of random subsets of each size.
    seeds, seed, preset, out, progress, **options
        As for `dynamics`.

    Returns
    -------
    Subsampling

    Raises
    ------
    FastentError
        Bad data or options.

    References
    ----------
    Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.
    """
    whole_number("draws", draws, minimum=1)
    setting = Setting.make(data, seeds=seeds, seed=seed, preset=preset, out=out, progress=progress, options=options,
                           defaults={"test_every": 2})  # fmt: skip
    n = len(setting.data.y_train)
    wanted = sorted({max(int(n * fraction), 2) for fraction in _FRACTIONS}) if sizes is None else sizes
    check = partial(whole_number, minimum=2, maximum=n)
    wanted = ascending("sizes", wanted, check, what="numbers of points", example="500,1000,2000")

    subsets = {size: _subsets(setting, size, draws) for size in wanted}
    lacking = [size for size in wanted if not all(has_every_class(setting.data, rows) for rows in subsets[size])]
    if lacking and sizes is not None:
        raise FastentError(f"sizes={lacking[0]}: a random subset lacks a class; choose larger sizes")
    wanted = [size for size in wanted if size not in lacking]

    runs_of: list[list[Run]] = []
    for size in wanted:
        parts = [setting.changed(data=setting.data.take(rows)) for rows in subsets[size]]
        runs_of.append([part.train(f"points-{size}") for part in parts])
    classes = compared_classes(runs_of[-1], 0)
    errors, test_errors, own_class = (
        [np.stack([errors_of(run, 0, classes=classes) for run in runs]) for runs in runs_of]
        for errors_of in (critical_errors, critical_test_errors, _own_errors)
    )
    reasons = [reasons_text(runs, 0) for runs in runs_of]
    numbers, shares = np.array(wanted), np.array([float((~np.isnan(each)).mean()) for each in errors])
    return Subsampling(
        config={**setting.config, "sizes": wanted, "draws": draws},
        sizes=numbers,
        critical_errors=errors,
        test_errors=test_errors,
        own_class_errors=own_class,
        shares=shares,
        estimates=[_mean(each) for each in errors],
        test_estimates=[_mean(each) for each in test_errors],
        own_class_estimates=[_mean(each) for each in own_class],
        **compared(numbers, shares, errors, test_errors, n),
        reasons=reasons,
        compared=compared_text(runs_of[-1][0].class_names, classes),
    )


def _subsets(setting: Setting, size: int, draws: int) -> list[NDArray[np.int64]]:
    """Rows of each subset, in the order of the data."""
    n = len(setting.data.y_train)
    if size == n:
        return [np.arange(n)]
    rng = np.random.default_rng((setting.seed, size))
    return [np.sort(rng.choice(n, size, replace=False)) for _ in range(draws)]


def _mean(errors: NDArray[np.float64]) -> Estimate:
    """Of (draws, S). Networks of one draw share their points, so that draws are what repeats independently."""
    return mean_share(mean_of_found(errors) if len(errors) > 1 else errors[0])


def _own_errors(run: "Run", layer: int, *, classes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(S,) the mean over the compared classes of the share of a class's points that are misclassified at its inversion."""
    return mean_over(classes, own_class_errors(run, layer))


def compared(
    sizes: NDArray[np.int64],
    shares: NDArray[np.float64],
    errors: list[NDArray[np.float64]],
    test_errors: list[NDArray[np.float64]],
    points: int,
) -> dict[str, Any]:
    """The curve and the changes per doubling, from the draws' means at the sizes at which classes turn."""
    used = np.flatnonzero(shares >= TURNING)
    repeated = np.repeat(sizes[used], [len(errors[i]) for i in used])
    means, test_means = (
        np.concatenate([mean_of_found(each[i]) for i in used]) if len(used) else np.empty(0) for each in (errors, test_errors)
    )
    # Of a draw's mean, for its points: the variance over its networks, pooled.
    rows = [row[~np.isnan(row)] for i in used for row in errors[i]]
    noise = [row.var(ddof=1) / len(row) for row in rows if len(row) > 1]
    return {
        "curve": finite_size(repeated, means, points, noise=float(np.mean(noise)) if noise else 0.0),
        "change": change_per_doubling(repeated, means),
        "test_change": change_per_doubling(repeated, test_means),
    }


def _size(change: Estimate) -> Estimate:
    """Of a change, whatever its sign."""
    ends = sorted((abs(change.low), abs(change.high)))
    least = 0.0 if change.low < 0 < change.high else ends[0]
    return Estimate(abs(change.value), change.standard_error, least, ends[1])


def change_per_doubling(sizes: NDArray[np.int64], errors: NDArray[np.float64]) -> Estimate:
    """Slope of errors (N,) against log2 of the number of points, as a share of the mean error."""
    from scipy.stats import linregress, t

    x, y = np.log2(sizes[~np.isnan(errors)]), errors[~np.isnan(errors)]
    if len(np.unique(x)) < 2 or not y.any():
        return student_mean([])
    fit, level = linregress(x, y), float(y.mean())
    slope, error = fit.slope / level, fit.stderr / level
    if len(x) < 3:
        return Estimate(slope, np.nan, np.nan, np.nan)
    half = float(t.ppf(0.975, len(x) - 2)) * error
    return Estimate(slope, error, slope - half, slope + half)
