"""The inversion: the moment at which training turns from segregating a class to entangling it again."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastent.arrays.validation import as_array
from fastent.errors import FastentError
from fastent.options import choice, number
from fastent.statistics.intervals import student_mean
from fastent.statistics.inversion_rule import BURN_IN, MIN_RISE, Rule
from fastent.statistics.turn_estimates import estimate_turn
from fastent.statistics.turning import LEAST_RECORDS, Turn, find_turns, monotone_fit, without_spikes

__all__ = ["Inversion", "InversionSummary", "find_inversion", "fitted_curve", "reasons_without", "summarize_inversions"]

Array = NDArray[np.float64]

# A curve that moves by less than this share of its own level has not moved: that is rounding.
_STILL = 1e-5
# Beyond this, squares overflow.
_LARGEST = 1e100


@dataclass(frozen=True)
class Inversion:
    """Where a radius (or distance) curve turns, or why it does not.

    True in a boolean context if there is an inversion. Without one every number is None and `reason` says why.

    Attributes
    ----------
    found : bool
    reason : str
        Empty if found, else one of "too few records (n of at least m)", "did not move", "rose before it fell", "still falling
        at the last record", "no rise after the fall", "the rise is below min_rise", "too few records after the minimum", "no
        larger than the noise explains" (for a maximum "rising" stands for "falling", "fell" for "rose", "fall" for "rise");
        "never stopped falling" by rule "first-increase"; "the network is trained on no point of the class" in runs.
    index : int
        Position of the record nearest to the minimum: the one whose weights define the stragglers.
    epoch : int or float
        Epoch of the record at the turn, in the units of the `epoch` argument.
    value : float
        The curve there, smoothed over neighbouring records.
    train_error : float
        eps*, the share of training points misclassified there, in [0, 1], smoothed likewise.
    prominence : float
        The smaller of the fall before and the rise after the minimum, in units of the curve.
    rebound : float
        Effect size: rise over fall, above 0; 1 where all of the fall is undone.
    rise_to_noise : float
        The rise in units of how far noise as rough as the curve's would wander in as many records.
    epoch_interval, value_interval, train_error_interval : (float, float)
        Intervals of these three, meant to hold 95 %; bench/results/inversion-power.md says how often they do.
    turns : tuple of float
        All epochs at which the curve turns in this direction, ascending; the first is `epoch`.

    Only `rule="shape"` gives `rebound` and what follows it.
    """

    found: bool
    reason: str = ""
    index: int | None = None
    epoch: float | None = None
    value: float | None = None
    train_error: float | None = None
    prominence: float | None = None
    rebound: float | None = None
    rise_to_noise: float | None = None
    epoch_interval: tuple[float, float] | None = None
    value_interval: tuple[float, float] | None = None
    train_error_interval: tuple[float, float] | None = None
    turns: tuple[float, ...] | None = None

    def __bool__(self) -> bool:
        return self.found


@dataclass(frozen=True)
class InversionSummary:
    """The inversions of one class (or pair) over independent seeds.

    `train_error` is the mean of eps* over the seeds that have an inversion, `std` its standard deviation over them (ddof 1),
    `interval` the 95 % interval of the mean (Student's, see `student_mean`); None where fewer than two seeds have an inversion,
        or two at the same training error.
    `epoch` is the median, `value` and `rebound` the means over the same seeds.
    `reasons` counts why the others have none.
    """

    seeds: int
    found: int
    train_error: float | None
    std: float | None
    interval: tuple[float, float] | None
    epoch: float | None
    value: float | None
    rebound: float | None
    reasons: dict[str, int]

    @property
    def usual(self) -> bool:
        """Whether at least half of the seeds have an inversion."""
        return self.found > 0 and 2 * self.found >= self.seeds


def find_inversion(
    epoch: ArrayLike,
    curve: ArrayLike,
    train_error: ArrayLike,
    *,
    kind: Literal["min", "max"] = "min",
    rule: Rule = "shape",
    burn_in: float = BURN_IN,
    min_rise: float = MIN_RISE,
) -> Inversion:
    """Find where a curve recorded during training turns.

    Parameters
    ----------
    epoch : (E,) increasing, >= 0
        Parameter updates, or passes over the data, made when each value was recorded.
    curve : (E,)
        A class radius (kind "min") or a distance between classes (kind "max").
    train_error : (E,)
        Share of misclassified training points, in [0, 1].
    kind : "min" or "max", optional, default "min"
        Which extremum is the inversion.
    rule : "shape", "interior" or "first-increase", optional, default "shape"
        "shape": the first turn from falling to rising, in a piecewise monotone fit to the whole curve over log updates, whose
        rise is larger than noise of the same size and correlation explains; `fastent.statistics.turning` says how. "interior":
        the interior extremum with the largest prominence, whatever the noise. "first-increase": the first update at which the
        curve did not go on falling (rising); with ``burn_in=20`` this is the rule of the source paper's notebook. The last
        two are misled by noise and exist for comparison.
    burn_in : float, optional, default 0
        Length of the start that is left out, in units of `epoch`, >= 0.
    min_rise : float, optional, default 0.05
        Least fall before and rise after the extremum, as a share of the range of the fitted curve, in (0, 1].

    Returns
    -------
    Inversion
        `found` is False, with a `reason`, if the curve does not turn.

    Raises
    ------
    FastentError
        Different lengths, NaN, epochs that are negative or out of order, an unknown rule or kind.

    References
    ----------
    Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.
    For the fit and its noise: Frisen, "Unimodal regression", 1986; Allan and Barnes, "A modified Allan variance with increased
    oscillator characterization ability", 1981.

    Examples
    --------
    >>> import numpy as np
    >>> epoch = np.arange(101)
    >>> found = find_inversion(epoch, (epoch - 60.0) ** 2, 1 / (1 + epoch))
    >>> found.epoch, round(found.train_error, 4), round(found.rebound, 2)
    (60, 0.0164, 0.44)
    >>> find_inversion(epoch, -1.0 * epoch, 1 / (1 + epoch)).reason
    'still falling at the last record'
    """
    epochs, values, errors = _check_curves(epoch, curve, train_error)
    choice("kind", kind, ("min", "max"))
    choice("rule", rule, ("shape", "interior", "first-increase"))
    number("min_rise", min_rise, above=0, maximum=1)
    number("burn_in", burn_in, minimum=0)
    start = int(np.searchsorted(epochs, burn_in))
    least = LEAST_RECORDS if rule == "shape" else 3
    if len(epochs) - start < least:
        past = f" past burn_in={burn_in:g}" if burn_in else ""
        return Inversion(False, f"too few records ({len(epochs) - start} of at least {least}{past})")
    falling = values[start:] if kind == "min" else -values[start:]
    if rule == "shape":
        falling = without_spikes(falling)
    if rule != "first-increase" and np.ptp(falling) <= _STILL * np.abs(falling).max():
        return Inversion(False, "did not move")
    if rule == "shape":
        turns, reason = find_turns(epochs[start:], falling, min_rise)
        if turns:
            return _inversion_at(turns, epochs[start:], falling, errors[start:], start, 1 if kind == "min" else -1)
        found: tuple[int, float] | str = reason
    else:
        found = _first_increase(falling) if rule == "first-increase" else _interior(falling, min_rise)
    if isinstance(found, str):
        return Inversion(False, found if kind == "min" else _mirrored(found))
    index = start + found[0]
    return Inversion(
        found=True,
        index=index,
        epoch=_plain(epochs[index]),
        value=float(values[index]),
        train_error=float(errors[index]),
        prominence=found[1],
    )


def fitted_curve(epoch: ArrayLike, curve: ArrayLike, *, kind: Literal["min", "max"] = "min") -> tuple[Any, Any]:
    """(K,) epochs and (K,) values of the piecewise monotone fit in which `find_inversion` searches for turns."""
    epochs, values, _ = _check_curves(epoch, curve, np.zeros(np.shape(curve)))
    if len(values) < LEAST_RECORDS:
        raise FastentError(f"a curve of {len(values)} records has no fit: record at least {LEAST_RECORDS}")
    at, fit = monotone_fit(epochs, without_spikes(values if kind == "min" else -values))
    return at, fit if kind == "min" else -fit


def reasons_without(inversions: Iterable[Inversion]) -> dict[str, int]:
    """Why curves have no inversion, the most frequent reason first, and how many curves each is of."""
    return dict(Counter(each.reason for each in inversions if not each).most_common())


def summarize_inversions(inversions: Sequence[Inversion]) -> InversionSummary:
    """Mean eps* over independent seeds with its spread and its 95 % interval."""
    found = [inversion for inversion in inversions if inversion]
    errors = np.array([inversion.train_error for inversion in found], float)
    mean = student_mean(errors, least=0)

    def over_seeds(name: str, average: Any) -> float | None:
        known = [getattr(inversion, name) for inversion in found if getattr(inversion, name) is not None]
        return float(average(known)) if known else None

    return InversionSummary(
        seeds=len(inversions),
        found=len(found),
        train_error=mean.value if found else None,
        std=float(errors.std(ddof=1)) if len(found) > 1 else None,
        # Of two equal numbers there is no saying how far others would be.
        interval=(mean.low, min(mean.high, 1.0)) if len(found) > 1 + (mean.low == mean.high) else None,
        epoch=over_seeds("epoch", np.median),
        value=over_seeds("value", np.mean),
        rebound=over_seeds("rebound", np.mean),
        reasons=reasons_without(inversions),
    )


def _inversion_at(turns: list[Turn], epochs: Array, falling: Array, errors: Array, start: int, sign: int) -> Inversion:
    """The first of the turns, in the records from `start` on; `sign` is -1 where the curve was turned upside down."""
    turn, found = turns[0], estimate_turn(turns[0], epochs, falling, errors)
    level = sign * found.level
    return Inversion(
        found=True,
        index=start + turn.lowest,
        epoch=_plain(epochs[turn.lowest]),
        value=level,
        train_error=found.error,
        prominence=min(found.fall, found.rise),
        rebound=found.rise / found.fall,
        rise_to_noise=turn.to_noise,
        epoch_interval=(_plain(epochs[turn.low]), _plain(epochs[turn.high])),
        value_interval=(level - found.spread, level + found.spread),
        train_error_interval=found.error_interval,
        turns=tuple(_plain(epochs[each.lowest]) for each in turns),
    )


def _plain(epoch: float) -> float:
    return int(epoch) if float(epoch).is_integer() else float(epoch)


def _interior(curve: Array, share: float) -> tuple[int, float] | str:
    """Position and prominence of the most prominent interior minimum, or why there is none."""
    from scipy.signal import find_peaks

    span = float(np.ptp(curve))
    minima, properties = find_peaks(-curve, prominence=0)
    prominences = properties["prominences"]
    if len(minima) and prominences.max() >= share * span:
        best = int(prominences.argmax())
        return int(minima[best]), float(prominences[best])
    lowest = int(curve.argmin())
    if lowest == len(curve) - 1:
        return "still falling at the last record"
    if lowest == 0 or np.ptp(curve[: lowest + 1]) < share * span:
        return "rose before it fell"
    return "the rise is below min_rise"


def _first_increase(curve: Array) -> tuple[int, float] | str:
    rises = np.flatnonzero(np.diff(curve) >= 0)
    if not len(rises):
        return "never stopped falling"
    index = int(rises[0]) + 1
    return index, float(min(curve[:index].max(), curve[index:].max()) - curve[index])


def _mirrored(reason: str) -> str:
    """The same reason for a maximum."""
    for low, high in (
        ("falling", "rising"),
        ("rose before it fell", "fell before it rose"),
        ("the rise is", "the fall is"),
        ("minimum", "maximum"),
    ):
        reason = reason.replace(low, high)
    return reason


def _as_numbers(values: ArrayLike, name: str) -> Array:
    given = as_array(values, name)
    if given.dtype.kind not in "fiub":
        raise FastentError(f"{name} has dtype {given.dtype}: numbers are needed")
    return given.astype(np.float64)


def _check_curves(*curves: ArrayLike) -> list[NDArray[Any]]:
    names = ("epoch", "curve", "train_error")
    arrays = [_as_numbers(curve, name) for curve, name in zip(curves, names, strict=True)]
    for name, array in zip(names, arrays, strict=True):
        if array.ndim != 1 or len(array) != len(arrays[0]):
            shapes = ", ".join(f"{n} {a.shape}" for n, a in zip(names, arrays, strict=True))
            raise FastentError(f"curves of one length are needed, not {shapes}: pass one seed, layer and class at a time")
        if not np.isfinite(array).all():
            first = int(np.flatnonzero(~np.isfinite(array))[0])
            raise FastentError(f"{name} has {array[first]} at position {first}: drop the epochs that were not recorded")
        if len(array) and np.abs(array).max() > _LARGEST:
            raise FastentError(f"{name} has values of up to {np.abs(array).max():g}: divide them by a power of ten")
    if (np.diff(arrays[0]) <= 0).any():
        first = 1 + int(np.flatnonzero(np.diff(arrays[0]) <= 0)[0])
        raise FastentError(f"epoch is not increasing: sort the records by epoch (position {first} has {arrays[0][first]:g})")
    wrong = np.flatnonzero((arrays[2] < 0) | (arrays[2] > 1))
    if len(wrong):
        raise FastentError(
            f"train_error has {arrays[2][wrong[0]]:g}: shares of misclassified points, from 0 to 1, are needed "
            f"(position {wrong[0]})"
        )
    if len(arrays[0]) and arrays[0][0] < 0:
        raise FastentError(f"epoch begins at {arrays[0][0]:g}: updates or passes made so far are needed, from 0")
    return arrays
