"""Where a curve stops falling and rises by more than its noise explains: a question about the shape of the whole curve.

    records -> means over bins of log updates -> piecewise monotone fit -> a candidate: top, trough, peak
            -> noise of the records about the rise, at every time scale -> is the rise larger?
            -> the records between top and peak -> where the trough lies, and which records it cannot be told from

The fit "rises, falls, rises, falls", in which pieces may be empty, is the best in the least-squares sense and assumes nothing
but the order of its pieces (isotonic regression; Frisen 1986 for one turn). It is compared with the best curve without a turn,
"rises, falls". In pure noise it always finds a candidate, so three comparisons with the noise decide:

- The rise, with the distance that a random walk covers in the same number of records if its steps are as large as the curve's.
  The step comes from second differences of means of h records (the modified Allan variance, Allan and Barnes 1981), at the h
  where it is least. For a random walk all h agree; noise that is independent, or forgets, or alternates from step to step
  averages out within the means and leaves less as h grows. What is smoother than a random walk, such as slow waves, is taken
  for part of the curve's shape.
- The fall, likewise, which tells training from a mere random walk.
- The squared error that the turn saves, with the scatter of a record, which excludes fits to a few noisy records.

The thresholds were chosen on one half of the shapes in bench/inversion_power.py and judged on the other, and raised a little by
both when the bins were made finer; its table says how often noise is called a turn and how often turns are found.

References
----------
Frisen, "Unimodal regression", The Statistician 35, 1986. Allan and Barnes, "A modified Allan variance with increased oscillator
characterization ability", 35th Annual Frequency Control Symposium, 1981.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.kernels.monotone import best_turn, prefix_errors, second_differences

__all__ = ["LEAST_RECORDS", "Turn", "Turns", "find_turns", "log_updates", "monotone_fit", "without_spikes"]

Array = NDArray[np.float64]

# Fewer records than this cannot show a fall, a rise and their noise.
LEAST_RECORDS = 10
# Bins of log updates, at most; neighbours are joined until they hold some records, but not beyond a factor of e ** _WIDEST.
_BINS = 48
_WIDEST = 0.35
# The share of all records that a bin may hold.
_LARGEST = 1 / 24
# Records over which noise is averaged before it is differenced; only those that fit this often into a piece are used.
_SCALES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_BLOCKS = 4.5
# Each further search, of what stands before a rise that was none, is the stricter by this factor.
_AGAIN = 1.2
# Where a rise has fewer records than this, its noise is that of so many records before its end.
_LEAST_PIECE = 7
# A fall of fewer records than this has no noise of its own: that of the rise stands in.
_OWN_NOISE = 20
# Least ratio of the fall to the distance a random walk covers, and of the error that a turn saves to the scatter of a record.
_FALL_TO_NOISE = 3.5
_SAVED_TO_NOISE = 25.0
# Where the error of a turn elsewhere exceeds the least by less than this many variances of the noise, it may lie there: 95 %.
_UNDECIDED = 8.0
# Before the trough is located, records are cut to the median of so many plus or minus so many standard deviations (Hampel).
_NEIGHBOURS, _OUTLYING = 5, 3.0
# Running medians are taken of so many windows at once, to save memory.
_ROWS = 65_536
_ROUNDING = 1e-15


class Turn(NamedTuple):
    """One turn from falling to rising, as positions in the records and in units of the curve.

    `lowest`, and the records from `low` to `high` that it cannot be told from; `start`, where the fall begins, and `stop`, one
    past the record at which the rise ends; `fall` and `rise` of the fit, above 0; `top` and `peak`, the smoothed curve at both
    ends; `to_noise`, the rise in units of how far noise as large and as correlated as the curve's would wander; `variance` of
    the noise, per record.
    """

    lowest: int
    low: int
    high: int
    start: int
    stop: int
    fall: float
    rise: float
    top: float
    peak: float
    to_noise: float
    variance: float


class Turns(NamedTuple):
    """All turns of a curve in order, or why there is none."""

    turns: list[Turn]
    reason: str = ""


def find_turns(updates: Array, curve: Array, min_rise: float) -> Turns:
    """Find the turns of a curve from falling to rising.

    Parameters
    ----------
    updates : (n,) float64, ascending, >= 0
    curve : (n,) float64, n >= LEAST_RECORDS, not constant
    min_rise : float
        What a fall and a rise must be at least, as a share of the range of the fitted curve.
    """
    least, span = float(curve.min()), float(np.ptp(curve))
    search = _Search(updates, (curve - least) / span, min_rise)
    turns = [
        turn._replace(
            fall=turn.fall * span,
            rise=turn.rise * span,
            top=least + turn.top * span,
            peak=least + turn.peak * span,
            variance=turn.variance * span**2,
        )
        for turn in search.turns(0, len(search.means))
    ]
    return Turns(turns, "" if turns else search.reason)


def monotone_fit(updates: Array, curve: Array) -> tuple[Array, Array]:
    """The piecewise monotone fit in which turns are searched for: geometric mean updates and fitted values of its bins."""
    search = _Search(updates, curve, 0.0)
    fit = np.empty(len(search.means))
    best_turn(search.means, search.counts, np.empty(3, np.int64), fit)
    return np.exp(search.x), fit


def without_spikes(curve: Array) -> Array:
    """The curve with single records that stand out far from all around them put back among their neighbours.

    Far is ten times the usual distance of the records there from their running median, and four times the steps on both sides
    and across: neither a corner is a spike, nor what goes up and down all the time.
    """
    # The first record may stand apart, as untrained networks do; the last may not.
    around = np.pad(np.pad(curve, (0, 2), mode="reflect"), (2, 0), mode="edge")
    median = _running_median(around, _NEIGHBOURS)
    away = np.abs(curve - median)
    usual = 1.4826 * _running_median(np.pad(away, 2 * _NEIGHBOURS, mode="reflect"), 4 * _NEIGHBOURS + 1)
    steps = np.abs([around[:-4] - around[1:-3], around[1:-3] - around[3:-1], around[3:-1] - around[4:]]).max(0)
    return np.where((away > 10 * usual) & (away > 4 * steps), median, curve)


def _running_median(values: Array, size: int) -> Array:
    """The median of each `size` consecutive values, an odd number; `scipy.ndimage` would take 0.2 s to import for it."""
    windows = np.lib.stride_tricks.sliding_window_view(values, size)
    found = [np.partition(windows[i : i + _ROWS], size // 2, axis=1)[:, size // 2] for i in range(0, len(windows), _ROWS)]
    return np.concatenate(found)


class _Search:
    """A curve in bins, and the turns in stretches of it."""

    def __init__(self, updates: Array, curve: Array, min_rise: float) -> None:
        self.curve, self.min_rise = curve, min_rise
        x = log_updates(updates)
        self.first = _bins(x)
        self.counts = np.diff(self.first).astype(np.float64)
        self.x = np.add.reduceat(x, self.first[:-1]) / self.counts
        self.means = np.add.reduceat(curve, self.first[:-1]) / self.counts
        # The more records a bin has, the more of their wandering averages out, and the fewer rises there are to choose from.
        self.rise_to_noise = min(2.65, max(1.2, 3.05 - 0.31 * math.log(len(curve) / len(self.means))))
        # More scales to choose from, of which one may show a random walk as too smooth.
        self.fall_to_noise = _FALL_TO_NOISE + 0.25 * max(0.0, math.log(len(curve) / 100))
        self.range: float | None = None
        self.reason = ""

    def turns(self, begin: int, end: int, strictness: float = 1.0) -> list[Turn]:
        """Those in the bins from `begin` to `end`, in order; `strictness` multiplies the least ratio of a rise to its noise."""
        if end - begin < 3:
            return []
        means, counts = self.means[begin:end], self.counts[begin:end]
        fit, cuts = np.empty(len(means)), np.empty(3, np.int64)
        without, best = best_turn(means, counts, cuts, fit)
        if self.range is None:
            self.range = float(np.ptp(fit))
        top, trough, peak = (int(cut) for cut in cuts)
        turn = self._judged(fit, without - best, begin, top, trough, peak, strictness)
        if turn is None:
            if trough == len(fit):
                return []
            # Later noise must not hide an earlier turn; the reason is that of the longer stretch.
            reason, earlier = self.reason, self.turns(begin, begin + trough, strictness * _AGAIN)
            self.reason = reason
            return earlier
        before, after = self.turns(begin, begin + trough, strictness), self.turns(begin + peak - 1, end, strictness)
        return [*before, turn, *after]

    def _judged(self, fit: Array, saved: float, begin: int, top: int, trough: int, peak: int, strictness: float) -> Turn | None:
        """The candidate as a turn, if it is one; else `reason` says what it lacks."""
        assert self.range is not None
        least = self.min_rise * self.range
        self.reason = _reason(self.x[begin : begin + len(fit)], fit, least)
        if trough == len(fit):
            return None
        fall, rise = float(fit[top] - fit[trough - 1]), float(fit[peak - 1] - fit[trough - 1])
        if min(fall, rise) < least:
            return None
        start, bottom, rising, stop = (int(self.first[begin + i]) for i in (top, trough - 1, trough, peak))
        walk, variance = _noise(self.curve[max(start, min(bottom, stop - _LEAST_PIECE)) : stop])
        if math.isinf(walk):
            self.reason = "too few records after the minimum"
            return None
        own, _ = _noise(self.curve[start:rising]) if rising - start >= _OWN_NOISE else (math.inf, 0.0)
        to_noise = rise / math.sqrt(walk * (stop - bottom))
        fall_to_noise = fall / math.sqrt((walk if math.isinf(own) else own) * (rising - start))
        scatter = max(float(np.var(np.diff(self.curve[bottom:stop]))) / 2, _ROUNDING**2)
        if (
            to_noise <= strictness * self.rise_to_noise
            or fall_to_noise <= self.fall_to_noise
            or saved <= _SAVED_TO_NOISE * scatter
        ):
            return None
        lowest, low, high = self._located(start, stop, variance)
        ends = self._edge(start, begin + top, float(fit[top])), self._edge(stop - 1, begin + peak - 1, float(fit[peak - 1]))
        return Turn(lowest, low, high, start, stop, fall, rise, *ends, to_noise, variance)

    def _edge(self, record: int, bin_: int, fitted: float) -> float:
        """The curve at a record at the edge of a bin: on the line through the bin, or its mean where that lies farther out."""
        at = np.arange(self.first[bin_], self.first[bin_ + 1])
        if len(at) < 3:
            return fitted
        _, level = np.polyfit(at - record, self.curve[at], 1)
        return max(float(level), fitted)

    def _located(self, start: int, stop: int, variance: float) -> tuple[int, int, int]:
        """The record at which falling turns into rising with the least error, and the range in which it may lie."""
        piece = _without_outliers(self.curve[start:stop])
        weights, left, right = np.ones(len(piece)), np.empty(len(piece)), np.empty(len(piece))
        prefix_errors(piece, weights, -1.0, left)
        prefix_errors(np.ascontiguousarray(piece[::-1]), weights, -1.0, right)
        errors = left[:-1] + right[::-1][1:]  # falling up to record i, rising from i + 1
        ties = np.flatnonzero(errors <= errors.min() + _ROUNDING * len(errors))
        best = int(ties[len(ties) // 2])  # the middle of a floor
        lowest = best if piece[best] <= piece[best + 1] else best + 1
        near = np.flatnonzero(errors <= errors[best] + _UNDECIDED * variance)
        return start + lowest, start + int(near[0]), start + int(near[-1]) + 1


def _reason(x: Array, fit: Array, least: float) -> str:
    """Why a curve has no turn, by its fit at the logarithms x of the updates."""
    lowest, slight = int(fit.argmin()), least / 5
    halfway = min(int(np.searchsorted(x, x[-1] - math.log(2))), len(fit) - 2)
    falling = fit[halfway] - fit[-1] >= slight  # since half of the updates
    if fit[: lowest + 1].max() - fit[lowest] < least:  # the lowest is the beginning
        return "still falling at the last record" if falling else "rose before it fell"
    rise = fit[lowest:].max() - fit[lowest]
    if rise >= least:
        return "no larger than the noise explains"
    if falling:
        return "still falling at the last record"
    return "the rise is below min_rise" if rise >= slight else "no rise after the fall"


def log_updates(updates: Array) -> Array:
    """The logarithm of the updates; the initial state stands as far before the second record as half of its updates."""
    positive = updates[updates > 0]
    return np.log(np.where(updates > 0, updates, positive[0] / 2))


def _bins(x: Array) -> NDArray[np.int64]:
    """First record of each bin, and the number of records.

    Cells of a grid, joined where they hold few records, halved where they hold many: late turns are seen where records are
    equally spaced, early ones where they are few.
    """
    n = len(x)
    cells = np.searchsorted(np.linspace(x[0], x[-1], _BINS + 1)[1:-1], x, side="right")
    firsts = np.append(np.flatnonzero(np.diff(cells, prepend=-1)), n).tolist()
    enough, most = max(1, int(math.sqrt(n) / 2.2)), max(2, math.ceil(n * _LARGEST))
    bins, i = [0], 1
    while i < len(firsts):
        while i + 1 < len(firsts) and firsts[i] - bins[-1] < enough and x[firsts[i + 1] - 1] - x[bins[-1]] <= _WIDEST:
            i += 1
        begin, pieces = bins[-1], -(-(firsts[i] - bins[-1]) // most)
        bins += [begin + (firsts[i] - begin) * piece // pieces for piece in range(1, pieces + 1)]
        i += 1
    return np.array(bins, np.int64)


def _without_outliers(piece: Array) -> Array:
    median = _running_median(np.pad(piece, _NEIGHBOURS // 2, mode="edge"), _NEIGHBOURS)
    deviation = 1.4826 * float(np.median(np.abs(piece - median)))
    return np.clip(piece, median - _OUTLYING * deviation, median + _OUTLYING * deviation) if deviation > 0 else piece


def _noise(piece: Array) -> tuple[float, float]:
    """Variance of the step of a random walk that is as rough as the piece, and that of a record's part in a long mean.

    (inf, 0) for a piece too short to tell.
    """
    scales = [h for h in _SCALES if len(piece) >= max(_BLOCKS * h, 3 * h + 1)]
    if not scales:
        return math.inf, 0.0
    squares = np.array([second_differences(piece, h) for h in scales])
    h = np.array(scales, float)
    # For a random walk of unit steps the expected square is (h^2 + 1) / h; for independent noise of unit variance, 6 / h.
    steps = np.maximum(squares * h / (h * h + 1), _ROUNDING**2)
    least = int(steps.argmin())
    # What alternates leaves nothing in the means, but moves the records.
    return float(steps[least]), float(max(squares[least] * h[least], squares[0]) / 6)
