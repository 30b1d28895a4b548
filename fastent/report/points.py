"""What is known about single training points: how hard they were to learn, their neighbours, and their unusual features."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from fastent.arrays.validation import as_features, check_finite, check_lengths, row_blocks
from fastent.experiments._difficulty import forgetting
from fastent.search.neighbors import Neighbors, neighbors
from fastent.training.run import Run

__all__ = ["Oddity", "Scores", "oddities", "point_rows", "points_near", "scores"]

_NEIGHBORS = 8
_FEATURES = 6
# Most multiplications to spend on the search for neighbours: about ten seconds, on data that are then read from disk.
_WORK = 1e12
# Up to so many, comparing all pairs is faster than compiling the search that skips most of them.
_COMPARED = 2e9
# Memory for an index, or for pairs: what a report may use on top of the run itself.
_MEMORY = 512 << 20


@dataclass(frozen=True)
class Scores:
    """How hard p training points were to learn, each (p,) float64, larger is harder; NaN for points that were not recorded.

    Attributes
    ----------
    share : in [0, 1]
        Share of the seeds with an inversion of the point's class at which it is misclassified.
    wrong : in [0, 1]
        Share of the recorded epochs at which it is misclassified, mean over seeds; records within epochs do not count, unless
        all are equally far apart.
    forgotten : >= 0
        Transitions from right to wrong, mean over seeds.
    at_end : in [0, 1]
        Share of the seeds that misclassify it at the last epoch.
    """

    share: NDArray[np.float64]
    wrong: NDArray[np.float64]
    forgotten: NDArray[np.float64]
    at_end: NDArray[np.float64]


@dataclass(frozen=True)
class Oddity:
    """A feature in which a point lies far from its class: its value, the class's mean, standard deviations between them."""

    feature: int
    value: float
    mean: float
    away: float


def scores(run: Run, points: NDArray[np.int64]) -> Scores:
    """Scores of the points at these positions, from the points that each network misclassified at each epoch."""
    place = np.arange(len(run.index))
    if run.recorded is not None:
        place = np.full(len(run.index), -1)
        place[run.recorded] = np.arange(len(run.recorded))
    place = place[points]
    wrong, forgotten, at_end = np.zeros((3, len(points)))
    counted = np.append(run.evenly_spaced, -1)[:, None]
    for bits in run.wrong:
        # Bits as numpy.packbits orders them, of these points only: all of them would not fit for long runs.
        mine = (bits[counted, place >> 3] >> (7 - (place & 7)).astype(np.uint8) & 1).astype(bool)
        wrong += mine[:-1].mean(0)
        forgotten += forgetting(mine[:-1])[0]
        at_end += mine[-1]
    unknown = np.where(place < 0, np.nan, 1 / run.n_seeds)
    return Scores(run.straggler_share[points], wrong * unknown, forgotten * unknown, at_end * unknown)


def point_rows(points: Any, n: int) -> Any:
    """Points (n, ...) as checked rows (n, d), which stay where they are."""
    if getattr(points, "ndim", 2) > 2:
        points = points.reshape(len(points), -1)
    rows = as_features(points, name="points")
    check_lengths(n, len(rows), features_name="run", labels_name="points")
    check_finite(rows, name="points")
    return rows


def points_near(rows: Any, points: NDArray[np.int64]) -> Neighbors | None:
    """Exact nearest rows of those at these positions; None if there are no such rows, or too many to read."""
    n, d = rows.shape
    work = float(len(points)) * n * d
    if not len(points) or n < 2 or work > _WORK:
        return None
    k = min(_NEIGHBORS, n - 1)
    return _of_all_pairs(rows, points, k) if work <= _COMPARED else neighbors(rows, k, queries=points, memory_budget=_MEMORY)


def _of_all_pairs(rows: Any, points: NDArray[np.int64], k: int) -> Neighbors:
    """The same result as `neighbors`, ties by the lower row number too."""
    every = np.asarray(rows[:], np.float64)
    indices, distances = np.empty((len(points), k), np.int64), np.empty((len(points), k), np.float32)
    step = max(1, _MEMORY // (24 * len(every)))
    for start in range(0, len(points), step):
        some = points[start : start + step]
        apart = cdist(every[some], every)
        apart[np.arange(len(some)), some] = np.inf
        nearest = np.argsort(apart, axis=1, kind="stable")[:, :k]
        indices[start : start + step] = nearest
        distances[start : start + step] = np.take_along_axis(apart, nearest, 1)
    return Neighbors(indices, distances, points, len(every))


def oddities(rows: Any, codes: NDArray[np.int64], points: NDArray[np.int64]) -> list[list[Oddity]]:
    """For each point the features in which it lies farthest from its class, in standard deviations, farthest first."""
    found: list[list[Oddity]] = [[] for _ in points]
    for c in np.unique(codes[points]):
        mean, deviation = _mean_and_deviation(rows, codes == c)
        for place in np.flatnonzero(codes[points] == c):
            values = np.asarray(rows[points[place]], np.float64)
            away = np.abs(values - mean) / np.where(deviation > 0, deviation, np.inf)
            for feature in np.argsort(-away, kind="stable")[:_FEATURES]:
                if away[feature] > 0:
                    signed = float(np.copysign(away[feature], values[feature] - mean[feature]))
                    found[place].append(Oddity(int(feature), float(values[feature]), float(mean[feature]), signed))
    return found


def _mean_and_deviation(rows: Any, chosen: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each feature over the chosen rows, block by block."""
    mean, squares = np.zeros((2, rows.shape[1]))
    for start, block in row_blocks(rows):
        mean += block[chosen[start : start + len(block)]].sum(0, dtype=np.float64)
    mean /= chosen.sum()
    for start, block in row_blocks(rows):
        squares += ((block[chosen[start : start + len(block)]] - mean) ** 2).sum(0)
    return mean, np.sqrt(squares / chosen.sum())
