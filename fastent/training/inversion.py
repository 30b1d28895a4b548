"""The inversion: the moment at which training turns from segregating a class to entangling it again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastent.errors import FastentError
from fastent.intervals import student_mean
from fastent.options import choice, number

__all__ = ["Inversion", "InversionSummary", "find_inversion", "open_positions", "summarize_inversions"]

# A curve that moves by less than this share of its own level has not moved.
_STILL = 1e-3


@dataclass(frozen=True)
class Inversion:
    """Where a radius (or distance) curve turns, or why it does not.

    True in a boolean context if there is an inversion. Without one every number is None and `reason` says why.

    Attributes
    ----------
    found : bool
    reason : str
        Empty if found, else one of "still falling at the last epoch", "rose before it fell", "below the prominence asked for",
        "did not move", "never stopped falling" ("rising", "fell" and "rose" change places for a maximum).
    index : int
        Position in the recorded epochs.
    epoch : int, or float where epochs were recorded in parts
        What was given as `epoch` for that position.
    value : float
        The curve there.
    train_error : float
        eps*, the share of training points misclassified there, in [0, 1].
    prominence : float
        How far the curve leaves the extremum on its shallower side, in units of the curve.
    """

    found: bool
    reason: str = ""
    index: int | None = None
    epoch: float | None = None
    value: float | None = None
    train_error: float | None = None
    prominence: float | None = None

    def __bool__(self) -> bool:
        return self.found


@dataclass(frozen=True)
class InversionSummary:
    """The inversions of one class (or pair) over independent seeds.

    `train_error` is the mean of eps* over the seeds that have an inversion, `std` its standard deviation over them (ddof 1),
    `interval` the 95 % interval of the mean (Student's, see `student_mean`); None where fewer than two seeds have an inversion,
        or two at the same training error.
    `reasons` counts why the others have none.
    """

    seeds: int
    found: int
    train_error: float | None
    std: float | None
    interval: tuple[float, float] | None
    epoch: float | None
    value: float | None
    reasons: dict[str, int]


def find_inversion(
    epoch: ArrayLike,
    curve: ArrayLike,
    train_error: ArrayLike,
    *,
    kind: Literal["min", "max"] = "min",
    rule: Literal["interior", "first-increase"] = "interior",
    burn_in: float = 20,
    prominence: float = 0.05,
) -> Inversion:
    """Find where a curve recorded during training turns.

    Parameters
    ----------
    epoch : (E,) increasing
        Parameter updates, or passes over the data, made when each value was recorded.
    curve : (E,)
        A class radius (kind "min") or a distance between classes (kind "max").
    train_error : (E,)
        Share of misclassified training points, in [0, 1].
    kind : "min" or "max"
        Which extremum is the inversion.
    rule : "interior" or "first-increase"
        "interior": the interior extremum with the largest prominence, on condition that the curve leaves it on both sides by
        `prominence`. "first-increase": the first update at which the curve did not go on falling (rising), as in the source
        paper's notebook; it is fooled by noise.
    burn_in : float
        What to leave out at the start, in units of `epoch`, >= 0.
    prominence : float
        Smallest movement away from the extremum on both sides, as a share of the curve's range after `burn_in`, in (0, 1].

    Returns
    -------
    Inversion
        `found` is False, with a `reason`, if the curve does not turn.

    Raises
    ------
    FastentError
        Lengths that differ, fewer than three epochs after `burn_in`, NaN, epochs out of order, an unknown rule or kind.

    References
    ----------
    Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.

    Examples
    --------
    >>> import numpy as np
    >>> epoch = np.arange(101)
    >>> found = find_inversion(epoch, (epoch - 60.0) ** 2, 1 / (1 + epoch))
    >>> found.epoch, round(found.train_error, 4)
    (60, 0.0164)
    >>> find_inversion(epoch, -1.0 * epoch, 1 / (1 + epoch)).reason
    'still falling at the last epoch'
    """
    epochs, values, errors = _check_curves(epoch, curve, train_error)
    choice("kind", kind, ("min", "max"))
    choice("rule", rule, ("interior", "first-increase"))
    number("prominence", prominence, above=0, maximum=1)
    number("burn_in", burn_in, minimum=0)
    start = int(np.searchsorted(epochs, burn_in))
    if len(epochs) - start < 3:
        raise FastentError(
            f"{len(epochs) - start} of {len(epochs)} recorded epochs are past burn_in={burn_in:g}: at least 3 are needed; "
            "record longer or lower burn_in"
        )
    falling = values[start:] if kind == "min" else -values[start:]
    found = _first_increase(falling) if rule == "first-increase" else _interior(falling, prominence)
    if isinstance(found, str):
        return Inversion(False, found if kind == "min" else _mirrored(found))
    index = start + found[0]
    return Inversion(
        found=True,
        index=index,
        epoch=int(epochs[index]) if epochs[index].is_integer() else float(epochs[index]),
        value=float(values[index]),
        train_error=float(errors[index]),
        prominence=found[1],
    )


def summarize_inversions(inversions: Sequence[Inversion]) -> InversionSummary:
    """Mean eps* over independent seeds with its spread and its 95 % interval."""
    found = [inversion for inversion in inversions if inversion]
    reasons: dict[str, int] = {}
    for inversion in inversions:
        if not inversion:
            reasons[inversion.reason] = reasons.get(inversion.reason, 0) + 1
    errors = np.array([inversion.train_error for inversion in found], float)
    mean = student_mean(errors, least=0)
    return InversionSummary(
        seeds=len(inversions),
        found=len(found),
        train_error=mean.value if found else None,
        std=float(errors.std(ddof=1)) if len(found) > 1 else None,
        # Of two equal numbers there is no saying how far others would be.
        interval=(mean.low, mean.high) if len(found) > 1 + (mean.low == mean.high) else None,
        epoch=float(np.median([inversion.epoch for inversion in found if inversion.epoch is not None])) if found else None,
        value=float(np.mean([inversion.value for inversion in found if inversion.value is not None])) if found else None,
        reasons=reasons,
    )


def _interior(curve: NDArray[np.float64], share: float) -> tuple[int, float] | str:
    """Position and prominence of the most prominent interior minimum, or why there is none."""
    from scipy.signal import find_peaks

    span = float(np.ptp(curve))
    if span <= _STILL * np.abs(curve).max():
        return "did not move"
    minima, properties = find_peaks(-curve, prominence=0)
    prominences = properties["prominences"]
    if len(minima) and prominences.max() >= share * span:
        best = int(prominences.argmax())
        return int(minima[best]), float(prominences[best])
    lowest = int(curve.argmin())
    if lowest == len(curve) - 1:
        return "still falling at the last epoch"
    if lowest == 0 or np.ptp(curve[: lowest + 1]) < share * span:
        return "rose before it fell"
    return "below the prominence asked for"


def open_positions(curve: ArrayLike, *, start: int = 0, prominence: float = 0.05) -> list[int]:
    """Positions of a radius curve that `find_inversion` may name, now or when the curve goes on, with its rule "interior".

    A minimum can gain prominence only until the curve falls below it, and never more than the curve rises on its left; a
    position that could not even so beat a minimum as it is, or the least prominence asked for, is out for good.
    """
    values = np.asarray(curve, float)[start:]
    if len(values) < 2:
        return []
    least = prominence * float(np.ptp(values)) * (1 - 1e-9)
    steps = np.sign(np.diff(values))
    possible: list[tuple[int, float]] = []
    beaten = 0.0
    # Where the curve came from above: left edges of what is or may become a minimum, a flat one having several members.
    for left in (np.flatnonzero(steps < 0) + 1).tolist():
        right = left
        while right + 1 < len(values) and steps[right] == 0:
            right += 1
        at_end = right == len(values) - 1
        if not at_end and steps[right] < 0:
            continue
        lower = np.flatnonzero(values[:left] < values[left])
        most = float(values[lower[-1] + 1 if len(lower) else 0 : left].max() - values[left])
        below = np.flatnonzero(values[right + 1 :] < values[left])
        end = right + 1 + int(below[0]) if len(below) else len(values)
        now = min(most, float(values[right:end].max() - values[left]))
        beaten = max(beaten, now)
        bound = now if len(below) else most
        possible += [(position, bound) for position in range(left, right + 1)]
    return [start + position for position, bound in possible if bound >= max(beaten * (1 - 1e-9), least)]


def _first_increase(curve: NDArray[np.float64]) -> tuple[int, float] | str:
    rises = np.flatnonzero(np.diff(curve) >= 0)
    if not len(rises):
        return "never stopped falling"
    index = int(rises[0]) + 1
    return index, float(min(curve[:index].max(), curve[index:].max()) - curve[index])


def _mirrored(reason: str) -> str:
    """The same reason for a maximum."""
    for low, high in (("falling", "rising"), ("rose before it fell", "fell before it rose")):
        reason = reason.replace(low, high)
    return reason


def _check_curves(*curves: ArrayLike) -> list[NDArray[Any]]:
    names = ("epoch", "curve", "train_error")
    arrays = [np.asarray(curve, float) for curve in curves]
    for name, array in zip(names, arrays, strict=True):
        if array.ndim != 1 or len(array) != len(arrays[0]):
            shapes = ", ".join(f"{n} {a.shape}" for n, a in zip(names, arrays, strict=True))
            raise FastentError(f"curves of one length are needed, not {shapes}: pass one seed, layer and class at a time")
        if not np.isfinite(array).all():
            first = int(np.flatnonzero(~np.isfinite(array))[0])
            raise FastentError(f"{name} has {array[first]} at position {first}: drop the epochs that were not recorded")
    if (np.diff(arrays[0]) <= 0).any():
        raise FastentError("epoch is not increasing: sort the records by epoch")
    return arrays
