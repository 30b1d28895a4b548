"""Processor and wall time of tasks that take turns."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

__all__ = ["Times", "median_ratio", "median_times", "settle", "timed", "unsettled"]

# A pause in which a process that has come to rest uses less than `_IDLE_SECONDS`.
_PAUSE_SECONDS, _IDLE_SECONDS = 0.02, 0.002
_MOST_PAUSES = 50


class Times(NamedTuple):
    """Seconds; `processor` counts all threads of this process."""

    processor: float
    wall: float

    def __mul__(self, factor: float) -> "Times":  # type: ignore[override]
        return Times(self.processor * factor, self.wall * factor)

    def __add__(self, other: "Times") -> "Times":  # type: ignore[override]
        return Times(self.processor + other.processor, self.wall + other.wall)


def timed(work: Callable[[], Any], repeats: int = 1) -> Times:
    """The time of one call, from `repeats` calls, which start when the threads of earlier work have come to rest."""
    settle()
    return unsettled(work, repeats)


def unsettled(work: Callable[[], Any], repeats: int = 1) -> Times:
    """The same without waiting."""
    processor, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        work()
    return Times(time.process_time() - processor, time.perf_counter() - wall) * (1 / repeats)


def settle() -> None:
    """Wait for threads of BLAS and OpenMP that spin in case more work comes: their processor time is no one's."""
    for _ in range(_MOST_PAUSES):
        used = time.process_time()
        time.sleep(_PAUSE_SECONDS)
        if time.process_time() - used < _IDLE_SECONDS:
            return


def median_times(rounds: Sequence[Times]) -> Times:
    return Times(*map(statistics.median, zip(*rounds, strict=True)))


def median_ratio(peer: Sequence[Times], own: Sequence[Times]) -> Times:
    """Medians over the rounds of the peer's time divided by ours: above 1, ours is faster."""
    return median_times(
        [Times(theirs.processor / ours.processor, theirs.wall / ours.wall) for theirs, ours in zip(peer, own, strict=True)]
    )
