"""Does the training error at the inversion depend on the number of training points?"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.experiments.result import Result, Table, Verdict, below, critical_errors, mean_of_found, reasons_text
from fastent.experiments.setting import Setting
from fastent.options import whole_number
from fastent.plots.style import COLORS
from fastent.runtime.formatting import NOTHING, estimate_text, percent
from fastent.runtime.progress import Progress
from fastent.statistics.intervals import Estimate, student_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Subsampling", "subsampling"]

# Stable: eps* changes by less than this, in proportion, when the number of points doubles.
_STABLE = 0.1
_FRACTIONS = (8, 4, 2, 1)


@dataclass(frozen=True, eq=False, repr=False)
class Subsampling(Result):
    """eps* of networks trained on random subsets of the points.

    Attributes
    ----------
    sizes : (P,) int64
        Numbers of points.
    critical_errors : list of (draws, S) float64
        eps* of each network for each size, NaN without an inversion. All points are drawn once only.
    shares : (P,) float64
        Share of the networks of which every class has an inversion.
    estimates : list of Estimate
        Mean eps* for each size, over draws, each the mean of its networks; where there is one draw, over networks.
    change : Estimate
        How much eps* changes when the number of points doubles, as a share of its mean: least squares over the draws' means,
        with Student's interval.
    reasons : list of str
    """

    sizes: NDArray[np.int64]
    critical_errors: list[NDArray[np.float64]]
    shares: NDArray[np.float64]
    estimates: list[Estimate]
    change: Estimate
    reasons: list[str]

    name = "subsampling"
    title = "The inversion and the number of points"
    claim = "The training error at the inversion is stable under subsampling."

    @property
    def verdict(self) -> Verdict:
        if np.isnan(self.change.value):
            if not any(self.reasons):
                return Verdict("undecided", "The inversions are at a training error of 0, which has no relative change.")
            why = "; ".join(f"{size} points: {reason}" for size, reason in zip(self.sizes, self.reasons, strict=True) if reason)
            return Verdict("undecided", f"Too few inversions to compare: {why}.")
        change, used = self.change, self.sizes[self.shares > 0]
        said = (
            f"eps* changes by {estimate_text(change, percent=True, digits=1, signed=True)} when the number of points doubles, "
            f"from {used[0]:,} to {used[-1]:,}; "
            f"stable means by less than {percent(_STABLE, 0)}"
        )
        if np.isnan(change.low):
            return Verdict("undecided", f"{said}. So few subsets give no interval.")
        sizes = sorted((abs(change.low), abs(change.high)))
        least = 0.0 if change.low < 0 < change.high else sizes[0]
        return Verdict(below(change._replace(low=least, high=sizes[1]), _STABLE), f"{said}.")

    def table(self) -> Table:
        full = self.estimates[-1].value
        rows = [
            (
                f"{size:,}",
                f"{len(errors)} x {errors.shape[1]}",
                percent(share, 0),
                estimate_text(estimate, percent=True),
                NOTHING if np.isnan(estimate.value / full) else f"{estimate.value / full:.2f}",
                reason,
            )
            for size, errors, share, estimate, reason in zip(
                self.sizes, self.critical_errors, self.shares, self.estimates, self.reasons, strict=True
            )
        ]
        headings = (
            "points",
            "draws x seeds",
            "with inversion",
            "eps* (95 % interval)",
            "relative to the largest",
            "reasons for no inversion",
        )
        return Table(
            headings, rows, "A network has an inversion if every class has one. Inputs are standardised as in the whole set."
        )

    def numbers(self) -> dict[str, Any]:
        return {
            "sizes": self.sizes,
            "seeds_with_inversion": self.shares,
            "critical_error": self.estimates,
            "change_per_doubling": self.change,
            "reasons": self.reasons,
        }

    def draw(self, axes: "Axes") -> None:
        for size, errors in zip(self.sizes, self.critical_errors, strict=True):
            axes.plot(np.full(errors.size, size), 100 * errors.ravel(), "o", color=COLORS[0], markersize=3, alpha=0.35)
        values = 100 * np.array([[e.value, e.low, e.high] for e in self.estimates])
        axes.plot(self.sizes, values[:, 0], "o-", color=COLORS[1], label="mean, 95 % interval")
        axes.vlines(self.sizes, values[:, 1], values[:, 2], color=COLORS[1])
        axes.plot([], [], "o", color=COLORS[0], markersize=3, label="one network")
        axes.set(xscale="log", xlabel="training points", ylabel="training error at the inversion, %", title=self.titled())
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
    """Train on random subsets of the points, and compare the training errors at the inversion.

    Parameters
    ----------
    data
        As for `dynamics`.
    sizes : sequence of int, optional
        Numbers of points, ascending. The default is an eighth, a quarter, a half and all of them.
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
    setting = Setting.make(data, seeds=seeds, seed=seed, preset=preset, out=out, progress=progress, options=options)
    n = len(setting.data.y_train)
    wanted = [n // fraction for fraction in _FRACTIONS] if sizes is None else list(sizes)
    wanted = [whole_number("sizes", size, minimum=2, maximum=n) for size in wanted]
    if sorted(set(wanted)) != wanted:
        raise FastentError(f"sizes={wanted}: ascending numbers of points are needed, for instance 500,1000,2000")

    errors, shares, reasons = [], [], []
    for size in wanted:
        subsets = [setting.changed(data=setting.data.take(rows)) for rows in _subsets(setting, size, draws)]
        runs = [subset.train(f"points-{size}") for subset in subsets]
        errors.append(np.stack([critical_errors(run) for run in runs]))
        shares.append(float((~np.isnan(errors[-1])).mean()))
        reasons.append(reasons_text(runs))
    return Subsampling(
        config={**setting.config, "sizes": wanted, "draws": draws},
        sizes=np.array(wanted),
        critical_errors=errors,
        shares=np.array(shares),
        estimates=[_mean(each) for each in errors],
        change=_change(np.array(wanted), errors),
        reasons=reasons,
    )


def _subsets(setting: Setting, size: int, draws: int) -> list[NDArray[np.int64]]:
    """Rows of each subset, in the order of the data; with every class in it."""
    codes = setting.data.y_train
    n, n_classes = len(codes), len(setting.data.classes)
    if size == n:
        return [np.arange(n)]
    subsets = []
    rng = np.random.default_rng((setting.seed, size))
    for _ in range(draws):
        rows = np.sort(rng.choice(n, size, replace=False))
        if len(np.unique(codes[rows])) < n_classes:
            raise FastentError(f"sizes={size}: a random subset lacks a class; choose larger sizes")
        subsets.append(rows)
    return subsets


def _mean(errors: NDArray[np.float64]) -> Estimate:
    """Of (draws, S). Networks of one draw share their points, so that draws are what repeats independently."""
    return student_mean(mean_of_found(errors) if len(errors) > 1 else errors[0], least=0)


def _change(sizes: NDArray[np.int64], errors: list[NDArray[np.float64]]) -> Estimate:
    """Slope of eps* against log2 of the number of points, as a share of the mean eps*."""
    from scipy.stats import linregress, t

    y = np.concatenate([mean_of_found(each) for each in errors])
    x = np.repeat(np.log2(sizes), [len(each) for each in errors])[~np.isnan(y)]
    y = y[~np.isnan(y)]
    if len(np.unique(x)) < 2 or not y.any():
        return student_mean([])
    fit, level = linregress(x, y), float(y.mean())
    slope, error = fit.slope / level, fit.stderr / level
    if len(x) < 3:
        return Estimate(slope, np.nan, np.nan, np.nan)
    half = float(t.ppf(0.975, len(x) - 2)) * error
    return Estimate(slope, error, slope - half, slope + half)
