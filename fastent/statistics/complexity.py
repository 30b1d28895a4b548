"""How complex the border between classes is: the neighbourhood measures of Lorena et al., for any number of classes."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.labelled import as_labelled
from fastent.arrays.validation import Labels, kernel_dtype
from fastent.options import whole_number
from fastent.runtime.memory import budget_bytes
from fastent.runtime.progress import Progress
from fastent.runtime.threads import in_parallel
from fastent.search.index import ExternalQueries, Index, Wanted
from fastent.search.index_costs import index_bytes
from fastent.search.planner import plan_index, points_to_pair
from fastent.search.spanning_tree import SpanningTree, minimum_spanning_tree
from fastent.search.sweep import BLOCK_ROWS, DistanceWorkspace, LabelledPoints, sweep, sweep_bytes
from fastent.search.top_k import NearerCounts
from fastent.statistics.class_geometry import ClassMeans, centred_means
from fastent.statistics.class_moments import moments_of
from fastent.statistics.geometry import AboutMeans, about_means
from fastent.statistics.intervals import Estimate, Population, sample_mean, sample_share
from fastent.statistics.margins import Margins, margins_from
from fastent.statistics.notes import Note, merged, one_point

__all__ = [
    "INTERPOLATED",
    "Complexity",
    "Spheres",
    "complexity",
    "complexity_from",
    "errors_between",
    "fisher_complexity",
    "interpolated_points",
    "spheres",
]

Array = NDArray[Any]

# At most so many points are interpolated for N4.
INTERPOLATED = 10_000
# Neighbours from which the spanning tree starts.
_NEAR = 8
# So many spheres are compared with all smaller ones at first, for these may hold most of the class; then twice as many.
_FEWEST = 64


@dataclass(frozen=True, eq=False)
class Complexity:
    """Seven measures of how hard the classes are to tell apart, each in [0, 1], 0 where that is easiest.

    Measures that need all rows are NaN, and their arrays None, if only some rows were queries.

    Attributes
    ----------
    n1 : float
        Share of points on an edge of the minimum spanning tree that joins two classes.
    n2 : float
        r / (1 + r), r = sum of hits / sum of misses.
    n3 : float
        Leave-one-out error of the nearest neighbour.
    n4 : float
        Error of the nearest neighbour on points interpolated between random pairs of a class.
    t1 : float
        Spheres that cover all points / points. Each point has one, as large as the other classes let it be; from the largest
        down, those whose centre lies in one that is kept are not needed.
    lsc : float
        1 - mean share of points that are nearer than the nearest other class, the point itself among them.
    f1 : float
        1 / (1 + the largest ratio over features of between-class to within-class scatter).
    border : (n,) bool or None
        Which points N1 counts.
    radius : (n,) float64 or None
        Radius of each point's sphere.
    absorbed : (n,) bool or None
        Whether a larger sphere holds its centre.
    local_set : (q,) int64
        How many points are nearer than the nearest of another class, the point itself among them unless that is at 0.
    intervals : dict of Estimate
        For "n2", "n3" and "lsc" over all rows, for "n4" over all pairs that might have been drawn.
    notes : tuple of str
        Classes with one point, why N2 is NaN, whether its interval may be too narrow.

    References
    ----------
    Lorena et al., "How complex is your classification problem? A survey on measuring classification complexity", 2019.
    Ho and Basu, "Complexity measures of supervised classification problems", 2002 (N1, N2, N3, T1, F1).
    Leyva, Gonzalez, Perez, "A set of complexity measures designed for applying meta-learning to instance selection",
    2015 (LSC).
    """

    n1: float
    n2: float
    n3: float
    n4: float
    t1: float
    lsc: float
    f1: float
    border: NDArray[np.bool_] | None
    radius: NDArray[np.float64] | None
    absorbed: NDArray[np.bool_] | None
    local_set: NDArray[np.int64]
    intervals: dict[str, Estimate]
    notes: tuple[Note, ...] = ()

    def __repr__(self) -> str:
        values = ", ".join(f"{name} {getattr(self, name):.4f}" for name in ("n1", "n2", "n3", "n4", "t1", "lsc", "f1"))
        return f"Complexity({values})"


class Spheres(NamedTuple):
    """radius : (n,) float64. absorbed : (n,) bool, whether the centre lies in a larger sphere of the class that is not."""

    radius: NDArray[np.float64]
    absorbed: NDArray[np.bool_]


def complexity(
    X: Any, labels: Any, *, memory_budget: int | str | None = None, seed: int = 0, progress: Progress = None
) -> Complexity:
    """Measure how complex the border between the classes is, exactly, from all rows.

    Parameters
    ----------
    X : array-like (n, d)
        Any real dtype and memory order; Euclidean distances. Scale features first if their units differ.
    labels : array-like (n,)
        Two classes or more.
    memory_budget : int or str, optional
        Bytes, or a string such as "4GiB"; default the memory that is available.
    seed : int
        Seed of the pairs between which N4 interpolates points: as many pairs as rows, at most 10,000.
    progress : bool or callable

    Returns
    -------
    Complexity

    Raises
    ------
    FastentError
        Bad input; only one class; too little memory.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.complexity([[0.0], [1.0], [3.0], [7.0]], ["a", "a", "b", "b"]).n1
    0.5
    """
    seed = whole_number("seed", seed, minimum=0)
    features, coded = as_labelled(X, labels)
    n, d = features.shape
    codes = coded.codes
    wanted: Wanted = {"own class": 1, "other classes": 1, "all": min(_NEAR, n - 1)}
    points = points_to_pair(
        features,
        coded,
        index_bytes(features, n, sum(wanted.values())) + sweep_bytes(features, n),
        f"the complexity of {n} x {d} points",
        "measure a subset of the rows",
        memory_budget,
    )
    plan = plan_index(points.X, n, wanted, memory=budget_bytes(memory_budget))
    index = plan.build(points.X, classes=codes, seed=seed)
    lists = index.search(wanted, progress=progress)
    misses = lists["other classes"]
    found = margins_from(np.arange(n), lists["own class"], misses, coded, unit=False)
    tree = minimum_spanning_tree(index, lists["all"], progress)
    wrong = errors_between(index, points, seed)
    local_sets = NearerCounts(misses.squared[:, 0])
    sweep(points, None, [local_sets], within_classes=True, progress=progress, description="local sets")
    means = moments_of(points.X, codes, points.n_classes, normalize=False).class_means()
    f1 = fisher_complexity(means, about_means(points.X, codes, means))
    return complexity_from(points, coded, found, local_sets, wrong, f1, tree, spheres(points, found))


def complexity_from(
    points: LabelledPoints,
    labels: Labels,
    found: Margins,
    local_sets: NearerCounts,
    wrong: Array,
    f1: float,
    tree: SpanningTree | None,
    covering: Spheres | None,
    population: Population | None = None,
) -> Complexity:
    """From what was found of the rows. population : what those of the local sets are a sample of; all rows alike if None."""
    n = len(points.X)
    border = None
    if tree is not None:
        border = np.zeros(n, bool)
        border[tree.edges[np.ptp(points.codes[tree.edges], axis=1) > 0]] = True
    counts = np.bincount(labels.codes, minlength=len(labels.classes))
    # A local set is within its class.
    local_set = local_sets.by_query("count")
    empty = sample_mean(1 - local_set / n, n if population is None else population, least=1 - counts.max() / n, most=1)
    intervals = {
        "n2": found.intervals["n2"],
        "n3": found.intervals["n3"],
        "n4": sample_share(wrong, math.inf),
        "lsc": empty,
    }
    return Complexity(
        n1=math.nan if border is None else float(border.mean()),
        n2=found.n2,
        n3=found.n3,
        n4=intervals["n4"].value,
        t1=math.nan if covering is None else float(1 - covering.absorbed.mean()),
        lsc=empty.value,
        f1=f1,
        border=border,
        radius=None if covering is None else covering.radius,
        absorbed=None if covering is None else covering.absorbed,
        local_set=local_set,
        intervals=intervals,
        notes=merged([*found.notes, *one_point(labels.classes, counts, "n4 has nothing to interpolate there")]),
    )


def interpolated_points(X: Array, codes: NDArray[np.int64], seed: int) -> ExternalQueries:
    """Points between random pairs of a class, as many as there are rows up to `INTERPOLATED`, and their codes."""
    generator = np.random.default_rng(seed)
    count = min(len(X), INTERPOLATED)
    first = np.sort(generator.choice(len(X), count, replace=False))
    order = np.argsort(codes, kind="stable")
    start, size = np.searchsorted(codes[order], codes[first]), np.bincount(codes)[codes[first]]
    second = order[start + generator.integers(0, size)]
    share = generator.random((count, 1))
    made_up = (1 - share) * np.asarray(X[first], np.float64) + share * np.asarray(X[second], np.float64)
    return ExternalQueries(made_up.astype(kernel_dtype(X)), np.full(count, -1, np.int64), codes[first])


def errors_between(index: Index, points: LabelledPoints, seed: int, progress: Progress = None) -> NDArray[np.bool_]:
    """Which of the `interpolated_points` have a row of another class for their nearest."""
    between = interpolated_points(points.X, points.codes, seed)
    wrong: NDArray[np.bool_] = points.codes[index.nearest(1, between, progress=progress).indices[:, 0]] != between.classes
    return wrong


def fisher_complexity(means: ClassMeans, about: AboutMeans) -> float:
    """F1, from the scatter of each feature between and within classes."""
    between = means.counts @ centred_means(means.apart, means.counts) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(between > 0, between / about.features, 0.0)
    return float(1 / (1 + ratio.max()))


def spheres(points: LabelledPoints, found: Margins) -> Spheres:
    """The spheres of all points, from all their margins.

    From the largest down, of equal ones by row number, each is kept unless its centre lies in one that is kept: all points are
    covered by those. A class of m points of which few are kept costs about m distances for each of these.
    """
    radius = _radii(found.miss, found.miss_index)
    absorbed = np.zeros(len(radius), np.bool_)
    by_class = np.split(np.argsort(points.codes, kind="stable"), np.cumsum(np.bincount(points.codes))[:-1])

    def cover(c: int) -> None:
        rows = by_class[c][np.argsort(-radius[by_class[c]], kind="stable")]
        absorbed[rows] = _covered(points.take(rows), radius[rows], points.scale)

    in_parallel(cover, range(len(by_class)))
    return Spheres(radius, absorbed)


def _radii(miss: Array, enemy: Array) -> NDArray[np.float64]:
    """Half the distance of two points that are each other's nearest; otherwise what the nearest one's sphere leaves."""
    radius = [0.0] * len(miss)
    distances, enemies = miss.tolist(), enemy.tolist()
    # The nearest of another class is itself no farther from its own nearest: it comes first, or is as far.
    for i in np.argsort(miss, kind="stable").tolist():
        j, distance = enemies[i], distances[i]
        radius[i] = distance / 2 if distances[j] == distance else distance - radius[j]
    return np.array(radius)


def _covered(rows: Array, radius: NDArray[np.float64], scale: float) -> NDArray[np.bool_]:
    """Of points (m, d) of one class in the order of their radii, largest first."""
    from fastent.kernels.pairs import cover

    workspace = DistanceWorkspace(rows.shape[1], scale)

    def mark(some: Array, others: Array, flags: Array, same: bool) -> None:
        found, radii = workspace.measure(rows[some], rows[others]), radius[some]
        cover(found, radii, found.scaled(radii**2), flags, same)

    covered = np.zeros(len(rows), np.bool_)
    left, size = np.arange(len(rows)), _FEWEST
    while len(left):
        some, left = left[:size], left[size:]
        flags = np.zeros(len(some), np.bool_)
        mark(some, some, flags, True)
        covered[some] = flags
        kept = some[~flags]
        for begin in range(0, len(left), BLOCK_ROWS):
            others = left[begin : begin + BLOCK_ROWS]
            flags = np.zeros(len(others), np.bool_)
            mark(kept, others, flags, False)
            covered[others] = flags
        left = left[~covered[left]]
        size = min(2 * size, BLOCK_ROWS)
    return covered
