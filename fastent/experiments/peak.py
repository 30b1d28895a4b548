"""Where along training a measure is largest, as far as its repetitions tell, and whether that is at the inversion."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.experiments.result import NEAR, Verdict, near
from fastent.runtime.formatting import estimate_text, percent
from fastent.statistics.intervals import Estimate, quotient
from fastent.statistics.simultaneous import may_be_largest
from fastent.training.run import Run

__all__ = ["Peak", "find_peak", "peak_verdict", "times_around"]


class Peak(NamedTuple):
    """When a measure is largest.

    Attributes
    ----------
    possible : (T,) bool
        The times whose mean may be the largest, a set that misses the largest in 1 of 20; none where nothing is known.
    train_error : Estimate
        At the largest mean, in [0, 1]. Its interval goes from half-way between the first possible time and the one before it,
        in the logarithm, to half-way between the last and the one after it.
    at_edge : bool
        Whether the first or the last time with a value is possible.
    """

    possible: NDArray[np.bool_]
    train_error: Estimate
    at_edge: bool


def find_peak(values: NDArray[np.float64], train_error: NDArray[np.float64], *, seed: int = 0) -> Peak:
    """The peak of the mean over repetitions, values (n, T), at T times of these training errors, from large to small.

    Times at which a repetition has no value do not count.
    """
    known = np.flatnonzero(np.isfinite(values).all(0))
    possible = may_be_largest(values, seed=seed)
    if not len(known):
        return Peak(possible, Estimate(*[np.nan] * 4), True)
    among = np.flatnonzero(possible[known])
    errors = train_error[known]
    before, after = max(among[0] - 1, 0), min(among[-1] + 1, len(known) - 1)
    value = float(errors[values[:, known].mean(0).argmax()])
    low, high = sorted((_half_way(errors[among[0]], errors[before]), _half_way(errors[among[-1]], errors[after])))
    at_edge = bool(possible[known[0]] or possible[known[-1]])
    return Peak(possible, Estimate(value, np.nan, min(low, value), max(high, value)), at_edge)


def _half_way(error: float, other: float) -> float:
    return float(np.sqrt(error * other))


def peak_verdict(
    name: str, peak: Peak, critical_error: Estimate, *, repetitions: int, reasons: str, open_at_edge: bool
) -> Verdict:
    """Whether a measure peaks at the inversion: yes if all times that may hold its peak are near, no if none is.

    With `open_at_edge` a peak that may lie at the first or last of the compared times is undecided: beyond them the measure may
    be larger, so that no peak was seen.
    """
    if np.isnan(peak.train_error.value):
        return Verdict("undecided", f"{name} is undefined at every epoch.")
    said = f"{name} is largest at a training error of {percent(peak.train_error.value)}"
    if np.isnan(critical_error.value):
        return Verdict("undecided", f"{said}; there is no inversion to compare with: {reasons}.")
    if repetitions < 2 or np.isnan(critical_error.low):
        return Verdict("undecided", f"{said}. One network that turns gives no interval.")
    times = int(peak.possible.sum())
    said += (
        f", and {times} of {len(peak.possible)} times may hold its peak, between {percent(peak.train_error.low)} and "
        f"{percent(peak.train_error.high)}"
    )
    ratio = quotient(peak.train_error, critical_error)
    if np.isnan(ratio.value):
        return Verdict("undecided", f"{said}. Nothing has a ratio to a training error of 0.")
    said += (
        f"; the inversion is at {estimate_text(critical_error, percent=True)}, so that the peak is at {estimate_text(ratio)} "
        f"times that (near: within a factor of {NEAR:g})"
    )
    holds = near(ratio)
    if peak.possible.all():
        return Verdict("undecided", f"{said}. All times are too much alike to tell.")
    if peak.at_edge and (open_at_edge or holds == "yes"):
        return Verdict("undecided", f"{said}. The peak may lie at an edge of the compared times or beyond: compare more times.")
    return Verdict(holds, f"{said}." if holds != "undecided" else f"{said}. Near and far times are too much alike to tell.")


def times_around(run: Run, critical_error: float, farthest: float, points: int, *, whole: bool = False) -> NDArray[np.int64]:
    """Positions of about so many records of a run, spaced evenly in the logarithm of the mean training error, from `farthest`
    times the training error of the inversion to a `farthest`-th of it or as far as the run goes; `whole` passes alone."""
    of_run = np.flatnonzero(run.epoch > 0)
    if whole:
        of_run = of_run[run.epoch[of_run] == np.floor(run.epoch[of_run])]
    falling = np.minimum.accumulate(run.train_error[:, of_run].mean(0))
    wanted = critical_error * np.geomspace(farthest, 1 / farthest, points)
    reached = np.searchsorted(-falling, -wanted)
    found: NDArray[np.int64] = of_run[np.unique(np.minimum(reached, len(of_run) - 1))]
    return found
