"""What the records around a turn say of it: the level of the curve, the training error, and their intervals."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.statistics.turning import Turn, log_updates

__all__ = ["TurnEstimates", "estimate_turn"]

Array = NDArray[np.float64]

# Records about a minimum from which its value and the training error there are taken, at least.
_ABOUT = 5


class TurnEstimates(NamedTuple):
    """The curve at the turn and half of its interval; the training error and its interval; fall and rise to that level."""

    level: float
    spread: float
    error: float
    error_interval: tuple[float, float]
    fall: float
    rise: float


def estimate_turn(turn: Turn, epochs: Array, falling: Array, errors: Array) -> TurnEstimates:
    """A parabola through the curve, over as many records about its minimum as it describes; a line through the error."""
    x = log_updates(epochs)
    x -= x[turn.lowest]
    about = np.arange(turn.low, turn.high + 1)
    while len(about) < _ABOUT and (about[0] > turn.start or about[-1] < turn.stop - 1):
        about = np.arange(max(about[0] - 1, turn.start), min(about[-1] + 2, turn.stop))
    level, spread = _level(x, falling, about, turn)
    line, error_spread = _polynomial(x[about], errors[about], 1, 0.0)
    ends = [float(np.polyval(line, x[at])) for at in (turn.low, turn.high)]
    low, error, high = np.clip([min(*ends, line[-1]) - error_spread, line[-1], max(*ends, line[-1]) + error_spread], 0, 1)
    fall, rise = max(turn.fall, turn.top - level), max(turn.rise, turn.peak - level)
    return TurnEstimates(level, spread, float(error), (float(low), float(high)), fall, rise)


def _level(x: Array, falling: Array, about: NDArray[np.int64], turn: Turn) -> tuple[float, float]:
    """The curve at its turn and half of its interval, from neighbouring records that lie on a parabola but for their noise."""
    while True:
        coefficients, spread = _polynomial(x[about], falling[about], 2, turn.variance)
        residual = falling[about] - np.polyval(coefficients, x[about])
        if len(about) <= _ABOUT or np.mean(residual**2) <= 1.5 * turn.variance:
            break
        half = max(_ABOUT // 2, int(0.35 * len(about)))
        kept = (about >= turn.lowest - half) & (about <= turn.lowest + half)
        if kept.all() or kept.sum() < 4:
            break
        about = about[kept]
    level = float(coefficients[-1])
    # Correlated noise moves all of these records together, as far as a walk of as many steps.
    wander = (turn.rise / turn.to_noise) ** 2 / (turn.stop - turn.lowest) * len(about) / 3
    spread = float(np.hypot(spread, 2 * np.sqrt(wander)))
    nearest = falling[max(turn.lowest - 1, 0) : turn.lowest + 2]
    return level, spread + abs(level - float(nearest.mean()))


def _polynomial(x: Array, y: Array, degree: int, variance: float) -> tuple[NDArray[Any], float]:
    """Coefficients of a least-squares polynomial, and two standard errors of its value at 0 for at least this variance."""
    powers = np.vander(x, degree + 1)
    coefficients = np.linalg.lstsq(powers, y, rcond=None)[0]
    scatter = float(np.sum((y - powers @ coefficients) ** 2)) / max(len(x) - degree - 1, 1)
    variance = max(variance, scatter)
    at_zero = np.linalg.pinv(powers)[-1]
    return coefficients, 2 * float(np.sqrt(variance * (at_zero @ at_zero)))
