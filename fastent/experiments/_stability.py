"""When do independent networks agree most on which points they get wrong?"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.experiments.critical import critical_errors, reasons_text
from fastent.experiments.peak import Peak, find_peak, peak_verdict, times_around
from fastent.experiments.result import Result, Table, Verdict, joined, mark_inversion
from fastent.experiments.setting import Setting
from fastent.io.result_cache import Arrays
from fastent.options import ascending, whole_number
from fastent.plots.style import COLORS, error_axis
from fastent.runtime.formatting import estimate_text, percent
from fastent.runtime.progress import Progress
from fastent.statistics.intervals import Estimate, bootstrap, student_mean
from fastent.statistics.simultaneous import jackknife, simultaneous_means
from fastent.training.run import Run
from fastent.training.tables import epoch_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

__all__ = ["Stability", "stability"]

# Networks trained together; a part is one such batch.
_TOGETHER = 20
_TIMES = 17
# The compared times reach from this many times the training error of the inversion to as small a part of it.
_FARTHEST = 2.2
# Without an inversion they begin here.
_FIRST = 5
_QUESTIONS = {
    "kappa": "Is the agreement beyond chance, kappa, largest at the inversion?",
    "z": "Is z, the source paper's measure, largest there?",
}


@dataclass(frozen=True, eq=False, repr=False)
class Stability(Result):
    """Agreement of pairs of independent networks on their misclassified points, corrected for chance, at T epochs.

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
    kappa : (m, T) float64
        Cohen's kappa of each pair's two divisions of the points into right and wrong, (p_o - p_e) / (1 - p_e), in [-1, 1]: 1
        where both networks get the same points wrong, 0 where they agree by chance. NaN where neither gets any wrong.
    kappa_mean : list of Estimate
        Its means over pairs, with intervals that hold together.
    z : (T,) of Estimate
        (mean common - mean expected) / the standard deviation of `common` over pairs (ddof 1): the source paper's. NaN where
        that is 0, as it is when no two networks share a wrong point.
    z_null : (T,) of Estimate
        The same over the standard deviation by chance, sqrt(mean null_variance). NaN where that is 0.
    size_spread : (T,) float64
        Standard deviation of |S| over networks (ddof 1), in points. `common` varies with it, so that the denominator of z is
        small, and z large, where |S| varies least, whether or not networks agree more there.
    peaks : dict of Peak
        "kappa" and "z": the times that may hold the largest value.
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
    kappa: NDArray[np.float64]
    kappa_mean: list[Estimate]
    z: Any
    z_null: Any
    size_spread: NDArray[np.float64]
    peaks: dict[str, Peak]
    critical_error: Estimate
    reasons: str

    name = "stability"
    title = "Agreement of independent networks on what they get wrong"
    claim = "Independent networks agree most on the points they misclassify at the inversion."

    @property
    def answers(self) -> dict[str, Verdict]:
        return {
            question: peak_verdict(
                name, self.peaks[name], self.critical_error,
                repetitions=len(self.common), reasons=self.reasons, open_at_edge=True,
            )
            for name, question in _QUESTIONS.items()
        }  # fmt: skip

    @property
    def verdict(self) -> Verdict:
        return joined(self.answers)

    def table(self) -> Table:
        rows = [
            (
                epoch_text(t),
                percent(self.train_error[i]),
                estimate_text(self.kappa_mean[i], digits=3),
                f"{self.common[:, i].mean():.1f}",
                f"{self.expected[:, i].mean():.1f}",
                f"{self.size_spread[i]:.1f}",
                estimate_text(self.z[i], digits=1) if not np.isnan(self.z[i].value) else "undefined",
                estimate_text(self.z_null[i], digits=1) if not np.isnan(self.z_null[i].value) else "undefined",
            )
            for i, t in enumerate(self.times)
        ]
        note = (
            f"{len(self.common)} pairs. kappa: Cohen's, with 95 % intervals that hold together. z: (common - by chance) / "
            "standard deviation, that of the pairs or that of chance, with 95 % intervals over pairs; the former is large "
            "where |S| varies little."
        )
        headings = (
            "epoch", "training error", "kappa", "common", "by chance", "s.d. of |S|", "z, observed s.d.", "z, chance s.d.",
        )  # fmt: skip
        return Table(headings, rows, note)

    @property
    def drawings(self) -> "tuple[Callable[[Axes], None], ...]":
        return (self.draw, self._draw_detail)

    def _draw_detail(self, axes: "Axes") -> None:
        """Draw z, and how far |S| varies, on which its denominator depends."""
        values = np.array([[z.value, z.low, z.high] for z in self.z])
        axes.fill_between(self.train_error, values[:, 1], values[:, 2], color=COLORS[0], alpha=0.2, linewidth=0)
        axes.plot(self.train_error, values[:, 0], "o-", color=COLORS[0], markersize=4, label="z, s.d. over pairs")
        axes.plot(self.train_error, self.size_spread, "s--", color=COLORS[-1], markersize=3, label="s.d. of |S|, points")
        mark_inversion(axes, self.critical_error, COLORS[1], interval=True)
        axes.set(ylabel="z; points", title="z is large where |S| varies little")
        error_axis(axes, self.config["training_points"])
        axes.legend(frameon=False, fontsize="small")

    def numbers(self) -> dict[str, Any]:
        return {
            "pairs": len(self.common),
            "times": self.times,
            "train_error": self.train_error,
            "common": self.common.mean(0),
            "expected": self.expected.mean(0),
            "kappa": self.kappa_mean,
            "z": list(self.z),
            "z_null": list(self.z_null),
            "size_spread": self.size_spread,
            "peaks": self.peaks,
            "critical_error": self.critical_error,
            "reasons": self.reasons,
        }

    def draw(self, axes: "Axes") -> None:
        values = np.array([[kappa.value, kappa.low, kappa.high] for kappa in self.kappa_mean])
        axes.fill_between(self.train_error, values[:, 1], values[:, 2], color=COLORS[0], alpha=0.2, linewidth=0)
        axes.plot(self.train_error, values[:, 0], "o-", color=COLORS[0], markersize=4, label="kappa")
        possible = self.peaks["kappa"].possible
        axes.plot(self.train_error[possible], values[possible, 0], "o", color="black", markersize=6, label="may be its peak")
        mark_inversion(axes, self.critical_error, COLORS[1], interval=True)
        axes.set(ylabel="Cohen's kappa", title=self.titled(f": {len(self.common)} pairs of networks"))
        error_axis(axes, self.config["training_points"])
        axes.legend(frameon=False)


def stability(
    data: Any = "digits", *, pairs: int = 100, times: Sequence[int] | None = None,
    seeds: int = 10, seed: int = 0, preset: str | None = None, out: str | os.PathLike[str] | None = None,
    progress: Progress = None, **options: Any,
) -> Stability:  # fmt: skip
    """Compare which points independent networks get wrong, epoch by epoch.

    Every network is trained once. Pair i consists of the networks with seeds `seed` + 2 i and `seed` + 2 i + 1. Both measures
    are undecided where their peak may lie at the first or last of the compared times, and where near and far times are too much
    alike, as on a plateau.

    Parameters
    ----------
    data
        As for `dynamics`.
    pairs : int, default 100
        Pairs of networks, at least 3.
    times : sequence of int, optional
        Epochs at which to compare. The default is 17 records whose training errors go from 2.2 times that of the inversion to
        1 / 2.2 of it, or as far as the networks are trained. The source paper's notebook compares epochs 5, 10, ..., 65.
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
    Cohen, "A coefficient of agreement for nominal scales", 1960; for the mean over pairs Light, "Measures of response agreement
    for qualitative data", 1971.
    """
    whole_number("pairs", pairs, minimum=3)
    check = partial(whole_number, minimum=1)
    wanted = None if times is None else ascending("times", times, check, what="epochs", example="5, 10, 20")
    setting = Setting.make(
        data, seeds=seeds, seed=seed, preset=preset, out=out, progress=progress, options=options, defaults={"lr": 0.2}
    )
    run = setting.train("inversion")
    critical_error = student_mean(critical_errors(run), least=0, most=1)
    epochs = _times(wanted, run, critical_error.value)
    wrong, errors = _misclassified(setting, 2 * pairs, epochs)
    config = {**setting.config, "pairs": pairs, "times": list(epochs), "training_points": wrong.shape[2]}
    found = _agreement(wrong[::2], wrong[1::2], errors.mean(0), setting.seed)
    return Stability(config=config, times=np.array(epochs), **found, critical_error=critical_error, reasons=reasons_text([run]))


def _agreement(
    first: NDArray[np.bool_], second: NDArray[np.bool_], train_error: NDArray[np.float64], seed: int
) -> dict[str, Any]:
    """What a Stability says of the points that the two networks of each pair get wrong, (m, T, n) each."""
    n = first.shape[2]
    common = (first & second).sum(2)
    sizes, others = first.sum(2).astype(float), second.sum(2).astype(float)
    expected = sizes * others / n
    null_variance = sizes * (others / n) * (1 - others / n) * (n - sizes) / max(n - 1, 1)
    kappa = cohens_kappa(common, sizes, others, n)
    z, z_null = np.empty(common.shape[1], object), np.empty(common.shape[1], object)
    for i in range(common.shape[1]):
        columns = np.stack([common[:, i], expected[:, i], null_variance[:, i]], axis=1)
        z[i], z_null[i] = bootstrap(columns, _z_observed, seed=seed), bootstrap(columns, _z_null, seed=seed)
    z_values = jackknife(_z_observed, np.stack([common, expected], axis=2))
    return {
        "train_error": train_error,
        "common": common,
        "expected": expected,
        "null_variance": null_variance,
        "kappa": kappa,
        "kappa_mean": simultaneous_means(kappa, seed=seed, least=-1, most=1),
        "z": z,
        "z_null": z_null,
        "size_spread": np.concatenate([sizes, others]).std(0, ddof=1),
        "peaks": {name: find_peak(v, train_error, seed=seed) for name, v in (("kappa", kappa), ("z", z_values))},
    }


def cohens_kappa(common: NDArray[Any], sizes: NDArray[np.float64], others: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Of two divisions of n points, from how many are in the first part of both, of one and of the other; NaN for 0 / 0."""
    by_chance = sizes * others / n
    # Both (p_o - p_e) and (1 - p_e), times n / 2.
    above, below = common - by_chance, (sizes + others) / 2 - by_chance
    kappa: NDArray[np.float64] = np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)
    return kappa


def _times(times: list[int] | None, run: Run, critical_error: float) -> list[int] | list[float]:
    """Epochs that are recorded: those asked for, or some to well beyond the inversion in both directions."""
    if times is not None:
        return times
    if critical_error > 0:
        return list(run.epoch[times_around(run, critical_error, _FARTHEST, _TIMES)].tolist())
    later = run.epoch[run.epoch >= min(_FIRST, run.epoch[-1])]
    return list(later[np.unique(np.linspace(0, len(later) - 1, _TIMES).round().astype(int))].tolist())


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
