"""How many classes a linear readout could tell apart for each feature it reads, and the shapes that decide it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.labelled import as_labelled
from fastent.arrays.validation import Labels, check_finite
from fastent.options import flag, whole_number
from fastent.runtime.memory import check_fits
from fastent.runtime.progress import Progress, reporting
from fastent.statistics.capacity_draws import Shape, clouds_of, drawn_rows, filled_by_dichotomies, shape_of_class
from fastent.statistics.intervals import Estimate, student_mean
from fastent.statistics.notes import Note, of_classes, one_point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ManifoldCapacity", "capacity_of", "capacity_seconds", "manifold_capacity"]

Array = NDArray[np.float64]

# How many points of each class, and how many random directions, unless others are asked for.
POINTS, DRAWS = 50, 200
# Of a class with more points they are drawn so often, if that leaves each draw so many pairs of directions.
_DRAWS_OF_POINTS, _PAIRS = 10, 5
# Seconds for a class, and for each of its features, on one core.
_CLASS, _FEATURE = 0.5, 1e-3
# From this share of all directions on the cones of dichotomies are taken to fill space.
_FULL = 0.98


@dataclass(frozen=True, eq=False)
class ManifoldCapacity:
    """Capacity of C classes for a linear readout, and size and dimension of each class as the readout meets it.

    Attributes
    ----------
    classes : (C,)
        The sorted classes.
    counts : (C,) int64
        How many points of each were used at a time.
    capacity : float
        Classes over the features that a linear readout needs to tell them apart in two random groups: in that many random
        projections of the points about half of all dichotomies of the classes are separable. 2 for single points at right
        angles; never below C over the rank of the points (a note says where it is no more). Correlations between classes count.
    mean_field : float
        The same for classes of these shapes whose centres and axes were independent (mean-field theory): the harmonic mean of
        `class_capacity`. Correlations are what makes `capacity` differ from it.
    class_capacity : (C,) float64
        Mean-field capacity for classes that were all like this one: 2 for a single point, less for others, but for the error of
        the draws.
    radius : (C,) float64
        Size of a class seen by the readout, in units of its centre's distance from the origin: root mean square distance of its
        anchor points from their mean. Infinite for a class whose centre is the origin.
    dimension : (C,) float64
        Number of directions in which its anchor points vary.
    intervals : dict of Estimate
        For "capacity" and "mean_field": 95 % intervals over the random directions and dichotomies, and where a class has more
        points than are used at a time, over which of them are drawn. They do not say what other data would give.
    class_intervals : dict of (C, 2) float64
        The same for "class_capacity", "radius" and "dimension": low and high.
    notes : tuple of str
        Classes whose centre is the origin, or that have a single point; too few features for a `capacity`.
    """

    classes: NDArray[Any]
    counts: NDArray[np.int64]
    capacity: float
    mean_field: float
    class_capacity: Array
    radius: Array
    dimension: Array
    intervals: dict[str, Estimate]
    class_intervals: dict[str, Array]
    notes: tuple[Note, ...] = ()

    def plot(self, *, ax: "Axes | None" = None) -> "tuple[Figure, Axes]":
        """Draw the mean-field capacity of each class with matplotlib, on `ax` or in a new figure."""
        from fastent.plots.by_name import draw_class_marks
        from fastent.plots.figure import axes_of

        figure, axes = axes_of(ax)
        draw_class_marks(axes, self.classes, {"mean field (line: all classes)": (self.class_capacity, self.mean_field)})
        axes.set(ylabel="capacity", title=f"manifold capacity {self.capacity:.3f} with correlations")
        return figure, axes

    def __repr__(self) -> str:
        return (
            f"ManifoldCapacity({len(self.classes)} classes, capacity {self.capacity:.4f}, mean field {self.mean_field:.4f}, "
            f"mean radius {self.radius.mean():.3f}, mean dimension {self.dimension.mean():.2f})"
        )


def manifold_capacity(
    X: Any,
    labels: Any,
    *,
    points: int | None = POINTS,
    draws: int = DRAWS,
    center: bool = True,
    seed: int = 0,
    progress: Progress = None,
) -> ManifoldCapacity:
    """Measure how many classes a linear readout could tell apart for each feature, and what about them limits it.

    Parameters
    ----------
    X : array-like (n, d)
        Any real dtype and memory order, or a `fe.open` source, of which only the points that are used stay in memory.
    labels : array-like (n,)
        Two classes or more. Random dichotomies of only a few classes say little: use ten or more, or `class_capacity`.
    points : int or None
        How many points of each class to use at a time, drawn at random with `seed`, or all if it has fewer; default 50. None:
        all points. More points make larger classes, so compare values for the same number of them. Where a class has more, all
        values are means over up to ten draws, among which the directions are divided.
    draws : int
        How many random directions to average over, in pairs of opposite ones; from 4, default 200. Each takes the nearest
        point of a cone of `points` rows for every class, and of one of all rows.
    center : bool
        Whether to subtract the mean of the class means first, so that the readout may have a threshold; default True.
    seed : int
    progress : bool or callable
        True for a bar on stderr; or a function of (done, total, message).

    Returns
    -------
    ManifoldCapacity

    Raises
    ------
    FastentError
        Bad input; one class only; all rows equal, or in one direction; too little memory.

    References
    ----------
    Chung, Lee, Sompolinsky, "Classification and geometry of general perceptual manifolds", PRX 2018 (mean field, radius,
    dimension). Chou et al., "Geometry linked to untangling efficiency reveals structure and computation in neural populations",
    2024 (capacity with correlations). Amelunxen et al., "Living on the edge", 2014 (why it is where random projections stop
    being separable).

    Examples
    --------
    >>> import fastent as fe, numpy as np
    >>> found = fe.manifold_capacity(np.eye(8), np.arange(8), center=False)
    >>> found.mean_field, float(found.radius.max())  # single points
    (2.0, 0.0)
    """
    features, coded = as_labelled(X, labels)
    most = len(features) if points is None else whole_number("points", points, minimum=1)
    draws = whole_number("draws", draws, minimum=4)
    center, seed = flag("center", center), whole_number("seed", seed, minimum=0)
    check_finite(features)
    return capacity_of(features, coded, most, draws, center=center, seed=seed, progress=progress)


def capacity_seconds(n_classes: int, d: int) -> float:
    """About how long `fe.manifold_capacity` takes with its defaults: more for classes that overlap (CIFAR-10's pixels twice as
    long), less for classes that lie apart (Gaussian clouds a tenth to a quarter)."""
    return n_classes * (_CLASS + _FEATURE * d)


def capacity_of(
    X: Any,
    labels: Labels,
    most: int = POINTS,
    draws: int = DRAWS,
    *,
    center: bool = True,
    seed: int = 0,
    progress: Progress = None,
) -> ManifoldCapacity:
    """Of rows and labels that were checked; `most` : points of each class."""
    codes, classes = labels.codes, labels.classes
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(codes == c) for c in range(len(classes))]
    counts = np.minimum(list(map(len, members)), most)
    size = int(counts.sum())
    check_fits(32 * size * X.shape[1], f"{size} points of {X.shape[1]} features", "lower points=")
    pairs = -(-draws // 2)
    parts = _parts(pairs, drawn=max(map(len, members)) > most)
    found: list[Shape] = []
    all_filled, ranks, done = [], [], 0
    with reporting(progress, "manifold capacity", len(classes) + pairs) as report:
        for part in parts:
            clouds = clouds_of(X, [drawn_rows(each, most, rng) for each in members], center)
            shapes_here = []
            for cloud in clouds:
                shapes_here.append(shape_of_class(cloud, part, rng))
                finished, rest = divmod(len(found) * len(classes) + len(shapes_here), len(parts))
                if not rest:
                    report(done + finished, "classes one by one")
            found.append(Shape(*map(np.array, zip(*shapes_here, strict=True))))
            before = done + len(found) * len(classes) // len(parts)
            filled, rank = filled_by_dichotomies(clouds, part, rng, partial(_report_further, report, before))
            all_filled.append(filled * rank)
            ranks.append((filled.mean(), rank))
            done += part
    shapes = Shape(*(_repetitions(list(each)) for each in zip(*found, strict=True)))
    dichotomies = _repetitions(all_filled)
    per_class = {
        "class_capacity": [_inverse(student_mean(values, least=0)) for values in shapes.distance],
        "radius": [_root(values, of_draws=len(parts) > 1) for values in shapes.squared_radius],
        "dimension": [student_mean(values, least=0) for values in shapes.dimension],
    }
    intervals = {
        "capacity": _inverse(student_mean(dichotomies / len(classes), least=0)),
        "mean_field": _inverse(student_mean(shapes.distance.mean(0), least=0)),
    }
    around: NDArray[np.bool_] = np.isinf(shapes.squared_radius.max(axis=1))
    share, rank = np.mean(ranks, 0)
    return ManifoldCapacity(
        classes=classes,
        counts=counts,
        capacity=intervals["capacity"].value,
        mean_field=intervals["mean_field"].value,
        **{name: np.array([each.value for each in estimates]) for name, estimates in per_class.items()},
        intervals=intervals,
        class_intervals={
            name: np.array([(each.low, each.high) for each in estimates]) for name, estimates in per_class.items()
        },
        notes=tuple(_notes(classes, counts, around, round(rank) if share > _FULL else None)),
    )


def _inverse(mean: Estimate) -> Estimate:
    if not mean.value > 0:
        return Estimate(np.inf if mean.value == 0 else np.nan, np.nan, np.nan, np.nan)
    high = 1 / mean.low if mean.low > 0 else np.inf
    return Estimate(1 / mean.value, mean.standard_error / mean.value**2, 1 / mean.high, high)


def _parts(pairs: int, *, drawn: bool) -> list[int]:
    """How many pairs of directions each draw of points has, of which there is one where there is nothing to draw."""
    draws = min(max(pairs // _PAIRS, 2), _DRAWS_OF_POINTS) if drawn else 1
    return [(pairs + i) // draws for i in range(draws)]


def _report_further(report: Callable[[int, str], None], before: int, done: int) -> None:
    report(before + done, "all classes")


def _repetitions(of_draws: list[Array]) -> Array:
    """(..., r) what varies independently: draws of points, by their means; of the only one its pairs of directions."""
    return of_draws[0] if len(of_draws) == 1 else np.stack([each.mean(-1) for each in of_draws], -1)


def _root(squares: Array, *, of_draws: bool) -> Estimate:
    """The root of the mean of squares, or the mean of their roots over draws; infinite ones are all infinite."""
    if np.isinf(squares).any():
        return Estimate(np.inf, np.nan, np.inf, np.inf)
    if of_draws:
        return student_mean(np.sqrt(squares), least=0)
    mean = student_mean(squares, least=0)
    value, low, high = np.sqrt([mean.value, mean.low, mean.high]).tolist()
    return Estimate(value, mean.standard_error / (2 * value) if value else 0.0, low, high)


def _notes(classes: NDArray[Any], counts: NDArray[np.int64], around: NDArray[np.bool_], rank: int | None) -> Iterator[Note]:
    """around : (C,) whether a class's centre is the origin. rank : of the points, where dichotomies fill every direction."""
    if around.any():
        yield Note(
            of_classes(classes, around, "has its centre at the origin", "have their centres at the origin"),
            "the radius is infinite there, in units of the centre's distance",
        )
    yield from one_point(classes, np.where(around, 2, counts), "the radius is 0 and the class_capacity 2 there")
    if rank is not None:
        yield Note(
            f"hardly any dichotomy can be told apart in the {rank} directions that the points span",
            f"capacity is then {len(classes)} classes over {rank} directions, whatever the shapes: see class_capacity",
        )
