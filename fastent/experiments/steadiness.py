"""Is eps* steadier than the training error at a fixed epoch? The null of every claim that eps* is stable."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.experiments.result import NEAR, Holds, Verdict
from fastent.runtime.formatting import estimate_text
from fastent.statistics.intervals import Estimate
from fastent.statistics.spread_ratio import log_share, relative_spread, spread_ratio
from fastent.statistics.turning import log_updates

if TYPE_CHECKING:
    from fastent.training.run import Run

__all__ = ["QUESTION", "Steadiness", "Turns", "errors_at_fixed_epoch", "steadiness", "turns_of"]

QUESTION = "Is eps* steadier than the training error at a fixed epoch?"

Array = NDArray[np.float64]

# Records from which the error at an epoch is taken, at least.
_ABOUT = 5


class Turns(NamedTuple):
    """Inversions of one layer and the training errors around them, of S networks of C classes recorded E times.

    epoch (S, C), interval (S, C, 2), both in passes over the data, NaN without an inversion; records (E,), epochs; updates
    (E,); train_error (S, E).
    """

    epoch: Array
    interval: Array
    records: Array
    updates: Array
    train_error: Array


class Steadiness(NamedTuple):
    """How much eps* varies compared with the training error at the median epoch of the inversion.

    epoch, the fixed epoch of each class; at_inversion, at_epoch, the standard deviations of the logarithms of both errors (for
    small ones this is the coefficient of variation), in [0, inf); ratio, the first over the second, in [0, inf); number, how
    many are compared.
    """

    epoch: list[float]
    at_inversion: Estimate
    at_epoch: Estimate
    ratio: Estimate
    number: int

    @property
    def holds(self) -> Holds:
        """Yes if eps* varies less; no if it varies as much, or hardly less (by less than a factor of 1.33)."""
        return "yes" if self.ratio.high < 1 else "no" if self.ratio.low > 1 / NEAR else "undecided"

    def verdict(self, over: str) -> Verdict:
        if np.isnan(self.ratio.high):
            return Verdict("undecided", f"Too few {over} have an inversion to compare spreads.")
        epochs = " to ".join(dict.fromkeys(f"{end(self.epoch):,.4g}" for end in (min, max)))
        return Verdict(
            self.holds,
            f"Over {self.number} {over} the standard deviation of log eps* is {self.at_inversion.value:.3f}, that of the "
            f"logarithm of the training error at the median epoch of the inversion, {epochs}, is {self.at_epoch.value:.3f}: a "
            f"ratio of {estimate_text(self.ratio)}. "
            f"Below 1 it is steadier; \u201cno\u201d means shown to be above {1 / NEAR:.2f}.",
        )


def turns_of(run: "Run", layer: int) -> Turns:
    """The inversions of one hidden layer of a run."""
    nothing = (np.nan, np.nan)
    return Turns(
        np.array([[i.epoch if i else np.nan for i in row] for row in run.inversion[:, layer]], float),
        np.array([[i.epoch_interval if i else nothing for i in row] for row in run.inversion[:, layer]], float),
        run.epoch.astype(float),
        run.update.astype(float),
        run.train_error,
    )


def errors_at_fixed_epoch(turns: Turns, classes: NDArray[np.bool_]) -> tuple[list[float], Array]:
    """The median epoch of each compared class's inversion, and (S,) the mean of each network's training errors there.

    The error comes from a line over as many records as the inversion's interval has, as eps* itself does, so that noise of
    single records does not count against the fixed epoch.
    """
    if not classes.any() or np.isnan(turns.epoch[:, classes]).all(0).any():
        return [], np.full(len(turns.epoch), np.nan)
    epochs, ends = np.nanmedian(turns.epoch[:, classes], axis=0), np.nanmedian(turns.interval[:, classes], axis=0)
    x = log_updates(turns.updates)
    errors = []
    for epoch, (low, high) in zip(epochs, ends, strict=True):
        place = int(np.searchsorted(turns.records, epoch))
        first, last = np.searchsorted(turns.records, low), np.searchsorted(turns.records, high, side="right")
        start, stop = max(min(int(first), place - _ABOUT // 2), 0), max(int(last), place + _ABOUT // 2 + 1)
        about = slice(start, stop)
        line = np.polyfit(x[about] - np.interp(epoch, turns.records, x), turns.train_error[:, about].T, 1)
        errors.append(np.clip(line[1], 0, 1))
    mean: Array = np.mean(errors, axis=0)
    return epochs.tolist(), mean


def steadiness(critical: Array, fixed: Array, epoch: list[float], points: int) -> Steadiness:
    """Compare eps* of networks or cells with their errors at a fixed epoch, both (n,) shares of so many points."""
    both = np.isfinite(critical) & np.isfinite(fixed)
    of_critical, of_fixed = (log_share(errors[both], points) for errors in (critical, fixed))
    ratio = spread_ratio(of_critical, of_fixed)
    return Steadiness(epoch, relative_spread([of_critical]), relative_spread([of_fixed]), ratio, int(both.sum()))
