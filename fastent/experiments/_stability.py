"""When do independent networks agree most on which points they get wrong?"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.experiments.result import NEAR, Result, Table, Verdict, mark_inversion, near, reasons_text, usual_critical_errors
from fastent.experiments.setting import Setting
from fastent.io.result_cache import Arrays
from fastent.options import whole_number
from fastent.plots.style import COLORS, error_axis
from fastent.runtime.formatting import estimate_text, percent
from fastent.runtime.progress import Progress
from fastent.statistics.intervals import Estimate, bootstrap, quotient, student_mean
from fastent.training.run import Run
from fastent.training.schedule import updates_to_record
from fastent.training.tables import epoch_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Stability", "stability"]

# Networks trained together; a part is one such batch.
_TOGETHER = 20
_TIMES = 13
# How far the times go beyond the inversion, as the source paper's do.
_BEYOND = 2.6
_PAPER = tuple(range(5, 70, 5))


@dataclass(frozen=True, eq=False, repr=False)
class Stability(Result):
    """Agreement of pairs of independent networks on their misclassified points, against chance, at T epochs.

    Attributes
    ----------
    times : (T,) int64, or float64 where some lie within epochs
        Epochs.
    train_error : (T,) float64
        Mean over all 2 m networks, in [0, 1].
    common : (m, T) int64
        Points that both networks of a pair get wrong.
    expected : (m, T) float64
        As many as two random sets of these sizes share: |S1| |S2| / P.
    null_variance : (m, T) float64
        Of that number, hypergeometric.
    z : (T,) of Estimate
        (mean common - mean expected) / the standard deviation of `common` over pairs (ddof 1): the source paper's. NaN where
        that is 0, as it is when no two networks share a wrong point.
    z_null : (T,) of Estimate
        The same over the standard deviation by chance, sqrt(mean null_variance). NaN where that is 0.
    peak_error : Estimate
        Training error where z is largest.
    critical_error : Estimate
        eps* of networks trained with the same options: mean over seeds, each the mean over the classes that have an inversion
        in at least half of the networks.
    reasons : str
        Why classes of these have no inversion, with counts.
    """

    times: NDArray[np.int64]
    train_error: NDArray[np.float64]
    common: NDArray[np.int64]
    expected: NDArray[np.float64]
    null_variance: NDArray[np.float64]
    z: Any
    z_null: Any
    peak_error: Estimate
    critical_error: Estimate
    reasons: str

    name = "stability"
    title = "Agreement of independent networks on what they get wrong"
    claim = "Independent networks agree most on the points they misclassify at the inversion."

    @property
    def peak(self) -> int | None:
        """Position among `times` of the largest z; None if it is defined nowhere."""
        values = np.array([z.value for z in self.z])
        return None if np.isnan(values).all() else int(np.nanargmax(values))

    @property
    def verdict(self) -> Verdict:
        peak = self.peak
        if peak is None:
            return Verdict(
                "undecided",
                "z is undefined at every epoch: the number of points that both networks of a pair get wrong never varies.",
            )
        said = (
            f"z is largest, {estimate_text(self.z[peak], digits=1)}, at epoch {epoch_text(self.times[peak])}, "
            f"training error {estimate_text(self.peak_error, percent=True)}"
        )
        if np.isnan(self.critical_error.value):
            return Verdict("undecided", f"{said}; there is no inversion to compare it with: {self.reasons}.")
        said += f"; the inversion is at {estimate_text(self.critical_error, percent=True)}"
        if peak in (0, len(self.times) - 1):
            return Verdict("no", f"{said}. That is the {'first' if peak == 0 else 'last'} of the epochs compared.")
        ratio = quotient(self.peak_error, self.critical_error)
        if np.isnan(ratio.value):
            return Verdict("undecided", f"{said}. Nothing has a ratio to a training error of 0.")
        if np.isnan(ratio.low):
            return Verdict("undecided", f"{said}. One network gives no interval.")
        said += f", so that the peak is at {estimate_text(ratio)} times that; near means within a factor of {NEAR:g}."
        return Verdict(near(ratio), said)

    def table(self) -> Table:
        rows = [
            (
                epoch_text(t),
                percent(self.train_error[i]),
                f"{self.common[:, i].mean():.1f}",
                f"{self.expected[:, i].mean():.1f}",
                estimate_text(self.z[i], digits=1) if not np.isnan(self.z[i].value) else "undefined",
                estimate_text(self.z_null[i], digits=1) if not np.isnan(self.z_null[i].value) else "undefined",
            )
            for i, t in enumerate(self.times)
        ]
        note = (
            f"{len(self.common)} pairs. z: (common - by chance) / standard deviation, that of the pairs or that of chance, "
            "with 95 % intervals over pairs."
        )
        return Table(("epoch", "training error", "common", "by chance", "z, observed s.d.", "z, chance s.d."), rows, note)

    def _draw_detail(self, axes: "Axes") -> None:
        """Draw how many points two networks get wrong in common."""
        axes.plot(self.train_error, self.common.mean(0), "o-", color=COLORS[0], markersize=4, label="two networks")
        low, high = np.quantile(self.common, (0.05, 0.95), axis=0)
        axes.fill_between(self.train_error, low, high, color=COLORS[0], alpha=0.2, linewidth=0)
        axes.plot(self.train_error, self.expected.mean(0), "s--", color=COLORS[-1], markersize=3, label="by chance")
        mark_inversion(axes, self.critical_error, COLORS[1])
        axes.set(ylabel="points misclassified by both", title="Mean over pairs; band: 5 to 95 % of them")
        error_axis(axes, self.config["training_points"])
        axes.legend(frameon=False, fontsize="small")

    def numbers(self) -> dict[str, Any]:
        return {
            "pairs": len(self.common),
            "times": self.times,
            "train_error": self.train_error,
            "common": self.common.mean(0),
            "expected": self.expected.mean(0),
            "z": list(self.z),
            "z_null": list(self.z_null),
            "peak_error": self.peak_error,
            "critical_error": self.critical_error,
            "reasons": self.reasons,
        }

    def draw(self, axes: "Axes") -> None:
        values = np.array([[z.value, z.low, z.high] for z in self.z])
        axes.fill_between(self.train_error, values[:, 1], values[:, 2], color=COLORS[0], alpha=0.2, linewidth=0)
        axes.plot(self.train_error, values[:, 0], "o-", color=COLORS[0], markersize=4, label="z, s.d. over pairs")
        mark_inversion(axes, self.critical_error, COLORS[1], interval=True)
        axes.set(ylabel="z", title=self.titled(f": {len(self.common)} pairs of networks"))
        error_axis(axes, self.config["training_points"])
        axes.legend(frameon=False)


def stability(
    data: Any = "digits", *, pairs: int = 100, times: Sequence[int] | None = None,
    seeds: int = 10, seed: int = 0, preset: str | None = None, out: str | os.PathLike[str] | None = None,
    progress: Progress = None, **options: Any,
) -> Stability:  # fmt: skip
    """Compare which points independent networks get wrong, epoch by epoch.

    Every network is trained once. Pair i consists of the networks with seeds `seed` + 2 i and `seed` + 2 i + 1.

    Parameters
    ----------
    data
        As for `dynamics`.
    pairs : int, default 100
        Pairs of networks, at least 2.
    times : sequence of int, optional
        Epochs at which to compare. The default is 13 epochs, from 5 to 2.6 times the epoch of the inversion, or 5, 10, ..., 65
        with preset "paper".
    seeds : int, default 10
        How many networks to find eps* from.
    seed, preset, out, progress, **options
        As for `dynamics`. The default of `lr` is 0.2, as in the source paper.

    Returns
    -------
    Stability

    Raises
    ------
    FastentError
        Bad data or options.

    References
    ----------
    Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.
    """
    whole_number("pairs", pairs, minimum=2)
    setting = Setting.make(
        data, seeds=seeds, seed=seed, preset=preset, out=out, progress=progress, options=options, defaults={"lr": 0.2}
    )
    run = setting.train("inversion")
    epochs = _times(times if times is not None or preset != "paper" else _PAPER, run)
    wrong, errors = _misclassified(setting, 2 * pairs, epochs)

    first, second = wrong[::2], wrong[1::2]
    n = len(setting.data.y_train)
    common = (first & second).sum(2)
    sizes, others = first.sum(2).astype(float), second.sum(2).astype(float)
    expected = sizes * others / n
    null_variance = sizes * (others / n) * (1 - others / n) * (n - sizes) / max(n - 1, 1)
    z, z_null = np.empty(len(epochs), object), np.empty(len(epochs), object)
    for i in range(len(epochs)):
        columns = np.stack([common[:, i], expected[:, i], null_variance[:, i]], axis=1)
        z[i], z_null[i] = bootstrap(columns, _z_observed, seed=setting.seed), bootstrap(columns, _z_null, seed=setting.seed)
    mean_error = errors.mean(0)
    excess = np.stack([common, expected], axis=2)

    def error_at_peak(values: NDArray[np.float64], axis: int) -> Any:
        curve = np.nan_to_num(_z_observed(np.moveaxis(values, axis, 0), 0), nan=-np.inf)
        return mean_error[curve.argmax(-1)]

    return Stability(
        config={**setting.config, "pairs": pairs, "times": list(epochs), "training_points": n},
        times=np.array(epochs),
        train_error=mean_error,
        common=common,
        expected=expected,
        null_variance=null_variance,
        z=z,
        z_null=z_null,
        peak_error=bootstrap(excess, error_at_peak, seed=setting.seed),
        critical_error=student_mean(usual_critical_errors(run), least=0),
        reasons=reasons_text([run]),
    )


def _times(times: Sequence[int] | None, run: Run) -> list[int] | list[float]:
    """Epochs that are recorded: those asked for, or some spaced evenly, counted in updates, to well after the inversion."""
    if times is not None:
        found = [whole_number("times", t, minimum=1) for t in times]
        if not found or sorted(set(found)) != found:
            raise FastentError(f"times={list(times)}: ascending epochs are needed, for instance 5, 10, 20")
        return found
    turns = [run.update[inversion.index] for inversion in run.inversion[:, -1].flat if inversion]
    last = int(_BEYOND * np.median(turns)) if turns else int(run.update[-1])
    wanted = np.linspace(min(5, last), last, _TIMES).round()
    recorded = updates_to_record(-(-last // run.updates_per_epoch), run.updates_per_epoch)
    nearest = np.unique(recorded[np.abs(recorded[:, None] - wanted).argmin(0)])
    return list((nearest if run.updates_per_epoch == 1 else nearest / run.updates_per_epoch).tolist())


def _misclassified(setting: Setting, n_networks: int, times: Sequence[float]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which points each network gets wrong at each time, (networks, T, n), and its training error, (networks, T)."""
    starts = range(0, n_networks, _TOGETHER)
    wrong, errors, last = [], [], ceil(times[-1])
    for start in starts:
        together = min(_TOGETHER, n_networks - start)
        batch = setting.changed(seeds=together, seed=setting.seed + start, epochs=last, test_every=last)

        def make(batch: Setting = batch) -> Arrays:
            run = batch.train_afresh("pairs", total=len(starts))
            positions = run.positions(times)
            return {"wrong": run.wrong[:, positions], "train_error": run.train_error[:, positions]}

        arrays = batch.keep("pairs", make, times=times)
        wrong.append(np.unpackbits(arrays["wrong"], axis=2, count=len(setting.data.y_train)).astype(bool))
        errors.append(arrays["train_error"])
    return np.concatenate(wrong), np.concatenate(errors)


def _z_observed(columns: NDArray[np.float64], axis: int) -> Any:
    """Of common (..., 0) and expected numbers (..., 1)."""
    deviation = columns[..., 0].std(axis, ddof=1)
    excess = (columns[..., 0] - columns[..., 1]).mean(axis)
    return np.divide(excess, deviation, out=np.full_like(np.asarray(deviation), np.nan), where=deviation > 0)


def _z_null(columns: NDArray[np.float64], axis: int) -> Any:
    deviation = np.sqrt(columns[..., 2].mean(axis))
    excess = (columns[..., 0] - columns[..., 1]).mean(axis)
    return np.divide(excess, deviation, out=np.full_like(np.asarray(deviation), np.nan), where=deviation > 0)
