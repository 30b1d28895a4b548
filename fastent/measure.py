"""All statistics at once: neighbours found once, moments gathered once, all pairs met once.

    X -- class moments -- second pass: distances to means ----------------------- geometry, silhouettes
      -- index of all rows: neighbours, hits, misses, spanning tree ------------- mixing, LISI, dimension, margins, complexity
      -- sweep over all pairs: sums of distances and similarities, local sets --- silhouettes, soft neighbours, complexity

Of many points, only a sample meets all the others. Where an index does not fit, or only some rows are asked, the sweep finds
the neighbours as well, and X is read block by block from wherever it lies.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from fastent.arrays import Labels, UnitRows, as_features, as_labels
from fastent.complexity import (
    INTERPOLATED,
    LocalSets,
    Spheres,
    complexity_from,
    fisher_complexity,
    interpolated_points,
)
from fastent.covariance import participation_ratio_of
from fastent.dimension import IntrinsicDimension, Method, intrinsic_dimension
from fastent.errors import FastentError
from fastent.exact import ExactIndex, index_bytes
from fastent.geometry import AboutMeans, ClassGeometry, ClassMoments, geometry_of
from fastent.intervals import sample_mean
from fastent.margins import Found, Margins, margins_from
from fastent.measurement import Lisi, Measurement, Stage
from fastent.memory import as_bytes, available_bytes, check_fits
from fastent.mixing import Mixing, lisi, mixing
from fastent.nearest import Among, NearestLists
from fastent.neighbors import Neighbors
from fastent.options import whole_number
from fastent.pairs import Points, sweep, sweep_bytes
from fastent.progress import Progress
from fastent.queries import query_rows
from fastent.silhouettes import DistanceSums, Silhouettes, silhouettes_from_means
from fastent.sketch import common_scale
from fastent.softnn import SimilaritySums, Temperature, settled, temperature_nodes
from fastent.spanning import SpanningTree, minimum_spanning_tree

__all__ = ["METRICS", "measure"]

Array = NDArray[Any]
Metric = Literal["geometry", "mixing", "lisi", "dimension", "margins", "silhouette", "soft_nearest_neighbor", "complexity"]
METRICS: tuple[Metric, ...] = (
    "geometry", "mixing", "lisi", "dimension", "margins", "silhouette", "soft_nearest_neighbor", "complexity",
)  # fmt: skip
T = TypeVar("T")

# Metrics that take k neighbours.
_OF_K = frozenset({"mixing", "dimension"})
# More classes than this get no mixing matrix.
_MATRIX = 4096
# Up to so many points all pairs are met; beyond, so many queries meet all points.
_ALL_PAIRS, _SAMPLE = 100_000, 20_000
_LISI_NEIGHBOURS, _TREE_NEIGHBOURS = 90, 8
# How far long lists reach is learnt from so many rows, so that so many of all find their neighbours there, and from the
# distance to so many neighbours of each.
_REACH_ROWS, _REACHED, _FIRST = 512, 0.98, 4
# Nanoseconds for a pair on one core of Zen 4, and for each of its features: for what is said beforehand.
_PAIR, _FEATURE = 1.5, 0.022
# What takes longer is announced, in seconds.
_SLOW = 60


class _Plan(NamedTuple):
    """Whose neighbours are found, and who meets all rows (None for all rows); whether the sweep does both."""

    rows: NDArray[np.int64] | None
    sampled: NDArray[np.int64] | None
    streamed: bool
    notes: tuple[str, ...]


class _Task(NamedTuple):
    """What is to be measured, checked."""

    X: Array
    points: Points
    classes: NDArray[Any]
    wanted: frozenset[str]
    named: bool
    k: int
    k_largest: int
    normalize: bool
    temperature: Temperature
    memory: float
    seed: int
    progress: Progress
    notes: list[str]
    stages: list[Stage]

    @property
    def searched(self) -> bool:
        return bool(self.k_largest) or "margins" in self.wanted

    @contextmanager
    def stage(self, name: str, passes: int = 0) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.stages.append(Stage(name, time.perf_counter() - began, passes))

    def attempt(self, what: str, call: Callable[[], T]) -> T | None:
        """What cannot be measured of these points is left out of everything, but refused to those who named it."""
        try:
            return call()
        except FastentError as error:
            if self.named:
                raise
            self.notes.append(f"no {what}: {error}")
            return None


class _Means(NamedTuple):
    moments: ClassMoments
    geometry: ClassGeometry
    about: AboutMeans
    participation_ratio: float | None


class _Near(NamedTuple):
    """The queries' nearest rows: squared distances and row numbers (q, k); margins, and squared distances to the misses."""

    all: Found | None
    margins: Margins | None
    squared_misses: NDArray[np.float64]


class _Border(NamedTuple):
    """What tells how complex the border between classes is; the last two take all rows."""

    local_sets: LocalSets
    wrong: NDArray[np.bool_]
    spheres: Spheres | None = None
    tree: SpanningTree | None = None

    @property
    def reductions(self) -> list[Any]:
        return [each for each in (self.local_sets, self.spheres) if each is not None]


def measure(
    X: Any,
    labels: Any,
    *,
    k: int = 10,
    queries: Any = None,
    metrics: Metric | Literal["all"] | Sequence[Metric] = "all",
    normalize: bool = False,
    temperature: Temperature = "median",
    memory_budget: int | str | None = None,
    seed: int = 0,
    progress: Progress = None,
) -> Measurement:
    """Measure how tangled the classes are, in every accepted view: neighbours, moments and pairs each gone through once.

    Parameters
    ----------
    X : array-like (n, d)
        Any real dtype and memory order, torch on any device. A memory map stays on disk: it is read block by block where
        `queries` are given.
    labels : array-like (n,)
        Two classes or more: integers, strings or booleans.
    k : int
        Neighbours for mixing and dimension, from 2 to n - 1.
    queries : int or (q,) int, optional
        A number: that many rows, drawn at random with `seed`, meet all rows, and every mean comes with an interval. Or row
        numbers. All rows unless said; but beyond 100,000 rows only 20,000, drawn at random, take part in what needs all pairs
        (silhouettes, soft nearest neighbours, local sets), and T1 is not measured.
    metrics : "all", str or sequence of str
        Of "geometry", "mixing", "lisi", "dimension", "margins", "silhouette", "soft_nearest_neighbor" and "complexity". What is
        needed for them comes with them. "all" leaves out, with a note, what these points do not allow.
    normalize : bool
        Scale each row to unit L2 norm first, for everything; a row of zeros stays zero.
    temperature : float or str
        As for `fe.soft_nearest_neighbor_loss`.
    memory_budget : int or str, optional
        Bytes, or like "4GiB"; what is available unless said. Where an index of all rows does not fit, 20,000 rows are sampled.
    progress : bool or callable
        True for bars on stderr; or a function of (done, total, message).

    Returns
    -------
    Measurement

    Raises
    ------
    FastentError
        Bad input; a metric by name that these points do not allow; memory that will not do.

    Examples
    --------
    >>> import fastent as fe
    >>> from sklearn.datasets import load_digits
    >>> found = fe.measure(*load_digits(return_X_y=True), metrics=["mixing", "margins"])
    >>> found
    Measurement(1,797 x 64, 10 classes: overlap 0.9651, n3 0.0117)
    >>> round(found.summary()["margins/n2"], 4)
    0.3583
    """
    wanted, named = _wanted(metrics)
    features = as_features(X)
    n, d = features.shape
    coded = as_labels(labels, n=n, minimum_classes=2)
    asked = query_rows(queries, n, d, seed=seed, what="measure")
    if asked is not None and len(np.unique(asked)) < len(asked):
        raise FastentError(f"queries name {len(asked)} rows, {len(np.unique(asked))} of them different: name each once")
    near = bool(wanted & _OF_K)
    k = whole_number("k", k, minimum=2 if near else 1, maximum=n - 1 if near else None)
    memory = available_bytes() if memory_budget is None else as_bytes(memory_budget)
    notes: list[str] = []
    stages: list[Stage] = []
    if "lisi" in wanted and n <= _LISI_NEIGHBOURS:
        if named:
            raise FastentError(f"lisi takes {_LISI_NEIGHBOURS} neighbours, and X has {n} rows: pass more rows")
        notes.append(f"no lisi: it takes {_LISI_NEIGHBOURS} neighbours, and X has {n} rows")
        wanted -= {"lisi"}
    k_largest = max(k * near, _LISI_NEIGHBOURS * ("lisi" in wanted), min(_TREE_NEIGHBOURS, n - 1) * ("complexity" in wanted))
    measured = cast(Array, UnitRows(features)) if normalize else features
    points = Points(measured, coded.codes, 1.0, len(coded.classes))
    task = _Task(
        features, points, coded.classes, wanted, named, k, k_largest, normalize, temperature, memory, seed, progress, notes,
        stages,
    )  # fmt: skip
    plan = _planned(task, asked)
    notes.extend(plan.notes)
    if progress is True:
        import sys

        for note in plan.notes:
            print(f"fastent: {note}", file=sys.stderr)
    with task.stage("check", passes=1):
        task = task._replace(points=points._replace(scale=common_scale(measured)))
    return _measured(task, plan)


def _wanted(metrics: Any) -> tuple[frozenset[str], bool]:
    if isinstance(metrics, str) and metrics == "all":
        return frozenset(METRICS), False
    names = [metrics] if isinstance(metrics, str) or not isinstance(metrics, Iterable) else list(metrics)
    strange = [name for name in names if name not in METRICS]
    if strange or not names:
        raise FastentError(f"metrics={metrics!r}: choose 'all' or some of {', '.join(map(repr, METRICS))}")
    wanted = set(names)
    if "complexity" in wanted:
        wanted |= {"margins", "geometry"}
    if "silhouette" in wanted:
        wanted |= {"geometry"}
    return frozenset(wanted), True


def _planned(task: _Task, asked: NDArray[np.int64] | None) -> _Plan:
    """Who meets whom, from sizes alone; what will be sampled or slow is said."""
    import numba

    (n, d), wanted = task.X.shape, task.wanted
    pairwise = bool(wanted & {"silhouette", "soft_nearest_neighbor", "complexity"})
    q = n if asked is None else len(asked)
    needs_index = index_bytes(task.points.X, q, task.k_largest + 2) * task.searched

    def kept(q: int) -> int:
        return int(200 * n + 32 * q * (len(task.classes) + task.k_largest))

    on_disk = isinstance(task.X, np.memmap)
    notes: list[str] = []
    streamed = asked is not None and (pairwise or (on_disk and task.searched))
    if task.searched and not streamed and needs_index + kept(q) > task.memory:
        streamed = True
        if asked is None and n > _SAMPLE:
            asked = query_rows(_SAMPLE, n, d, seed=task.seed, what="measure")
            notes.append(
                f"{_SAMPLE:,} of {n:,} rows are sampled: an index of all takes {needs_index / 2**30:.1f} GiB of memory"
            )
        elif asked is None:
            asked = np.arange(n)
    sampled = asked
    if asked is None and pairwise and n > _ALL_PAIRS:
        sampled = query_rows(_SAMPLE, n, d, seed=task.seed, what="measure")
        notes.append(f"{_SAMPLE:,} of {n:,} rows are sampled for silhouettes, soft nearest neighbours and local sets")
    if sampled is not None and "complexity" in wanted:
        notes.append("no T1: it takes all pairs" if asked is None else "no N1 and no T1: they take all rows")
    meeting = n if sampled is None else len(sampled)
    if pairwise or streamed:
        made_up = min(n, INTERPOLATED) * (streamed and "complexity" in wanted)
        pairs = n * (n / 2 if sampled is None else meeting + made_up)
        seconds = pairs * (_PAIR + _FEATURE * d) * 1e-9 / numba.get_num_threads()
        if seconds > _SLOW:
            notes.append(f"{pairs:.2g} pairs of {d} features will be met, which takes about {_duration(seconds)}")
    check_fits(
        kept(n if asked is None else len(asked))
        + sweep_bytes(task.points.X, meeting) * (pairwise or streamed)
        + needs_index * (not streamed),
        f"measuring {n} x {d} points",
        "use fewer queries, or fewer metrics",
        int(task.memory),
    )
    return _Plan(asked, sampled, streamed, tuple(notes))


def _measured(task: _Task, plan: _Plan) -> Measurement:
    points, n = task.points, len(task.X)
    labels = task.classes[points.codes]
    rows, sampled = (np.arange(n) if some is None else some for some in (plan.rows, plan.sampled))
    means = _about_means(task) if "geometry" in task.wanted else None
    distances = DistanceSums(points.codes, points.n_classes, plan.sampled) if "silhouette" in task.wanted else None
    similarities = _similarities(task, plan) if "soft_nearest_neighbor" in task.wanted else None
    sums = [each for each in (distances, similarities) if each is not None]

    if plan.streamed:
        near, border = _streamed(task, plan, sums)
    else:
        near, border = _indexed(task, plan, sums)

    neighbors = mixed = inverse = dimension = None
    if near is not None and near.all is not None:
        neighbors = Neighbors(near.all[1], np.sqrt(near.all[0]), rows, n, "exact", 1.0)
        with task.stage("mixing and dimension"):
            mixed, inverse, dimension = _of_neighbours(task, neighbors, labels)
    complexity = None
    if border is not None and near is not None and near.margins is not None and means is not None:
        f1 = fisher_complexity(means.moments, means.about)
        complexity = complexity_from(points, near.margins, border.local_sets, border.wrong, f1, border.tree, border.spheres)
    soft = None
    if similarities is not None:
        with task.stage("soft nearest neighbours"):
            soft = task.attempt("soft nearest neighbour loss", lambda: settled(similarities, task.progress))
    return Measurement(
        classes=task.classes,
        labels=labels,
        shape=task.X.shape,
        queries=rows,
        sampled=sampled,
        k=task.k,
        normalize=task.normalize,
        neighbors=neighbors.subset(task.k) if neighbors is not None and task.wanted & _OF_K else None,
        mixing=mixed,
        lisi=inverse,
        margins=None if near is None else near.margins,
        geometry=None if means is None else means.geometry,
        participation_ratio=None if means is None else means.participation_ratio,
        silhouette=None if distances is None or means is None else _silhouettes(points, distances, means),
        soft_nearest_neighbor=soft,
        dimension=dimension,
        complexity=complexity,
        notes=tuple(task.notes),
        stages=tuple(task.stages),
    )


def _about_means(task: _Task) -> _Means:
    points = task.points
    moments = ClassMoments(points.n_classes, task.X.shape[1], normalize=task.normalize)
    with task.stage("class moments", passes=1):
        moments.update(task.X, points.codes)
    with task.stage("distances to means", passes=1):
        geometry, about = geometry_of(task.X, Labels(points.codes, task.classes), moments)
    mean = moments.counts @ moments.means / len(task.X)
    with task.stage("covariance", passes=1):
        ratio = task.attempt("participation ratio", lambda: participation_ratio_of(points.X, mean))
    return _Means(moments, geometry, about, ratio)


def _similarities(task: _Task, plan: _Plan) -> SimilaritySums | None:
    def prepare() -> SimilaritySums:
        nodes = temperature_nodes(task.points, task.temperature, task.seed)
        return SimilaritySums(task.points, plan.sampled, nodes, memory=0 if plan.streamed else task.memory)

    return task.attempt("soft nearest neighbour loss", prepare)


def _indexed(task: _Task, plan: _Plan, sums: list[Any]) -> tuple[_Near | None, _Border | None]:
    """Neighbours from an index of all rows; what needs all pairs from one sweep, and long lists with it."""
    points, near, border, index = task.points, None, None, None
    longer = task.k_largest if sums and plan.sampled is None else 0
    if task.searched:
        with task.stage("index", passes=2):
            index = ExactIndex(points.X, codes=points.codes, scale=points.scale, seed=task.seed)
        k = min(task.k_largest, _FIRST if longer else task.k_largest)
        with task.stage("neighbours"):
            near = _search(task, plan, index, k)
        if "complexity" in task.wanted:
            border = _border(task, plan, index, near)
    reductions = sums + ([] if border is None else border.reductions)
    lists = None
    if index is not None and near is not None and near.all is not None and near.all[0].shape[1] < longer:
        with task.stage("reach of neighbours"):
            within = _reach(near.all[0], index, longer, task.seed)
        lists = NearestLists(len(within), longer, len(within), points.scale, within=within)
    if reductions:
        with task.stage("all pairs", passes=1):
            sweep(
                points,
                plan.sampled,
                [*reductions, *([] if lists is None else [lists])],
                within_classes=not sums,
                progress=task.progress,
            )
    if index is not None and near is not None and lists is not None:
        with task.stage("neighbours beyond reach"):
            near = near._replace(all=_completed(lists, index))
    if border is not None and index is not None and near is not None:
        with task.stage("spanning tree"):
            tree = minimum_spanning_tree(points.X, scale=points.scale, index=index, lists=near.all, progress=task.progress)
        border = border._replace(tree=tree)
    return near, border


def _border(task: _Task, plan: _Plan, index: ExactIndex, near: _Near) -> _Border:
    points = task.points
    assert near.margins is not None
    between = interpolated_points(points.X, points.codes, task.seed)
    with task.stage("interpolated points"):
        wrong = points.codes[index.nearest(1, between.X)[1][:, 0]] != between.codes
    squared = near.squared_misses if plan.sampled is None else near.squared_misses[plan.sampled]
    return _Border(LocalSets(points, squared), wrong, Spheres(points, near.margins) if plan.sampled is None else None)


def _reach(squared: NDArray[np.float64], index: ExactIndex, k: int, seed: int) -> NDArray[np.float64]:
    """Squared distances within which most rows have k neighbours: so much farther than the last known as a sample says."""
    some = np.random.default_rng(seed).choice(len(squared), min(_REACH_ROWS, len(squared)), replace=False)
    with np.errstate(invalid="ignore", divide="ignore"):
        growth = index.nearest(k, some)[0][:, -1] / squared[some, -1]
    growth = growth[np.isfinite(growth)]
    if not len(growth):  # the nearest are all at distance 0
        return np.full(len(squared), np.inf)
    reach: NDArray[np.float64] = squared[:, -1] * np.quantile(growth, _REACHED)
    return reach


def _completed(lists: NearestLists, index: ExactIndex) -> Found:
    squared, neighbours = lists.found()
    short = np.flatnonzero(neighbours[:, -1] == len(neighbours))
    if len(short):
        squared[short], neighbours[short] = index.nearest(neighbours.shape[1], short)
    return squared, neighbours


def _streamed(task: _Task, plan: _Plan, sums: list[Any]) -> tuple[_Near | None, _Border | None]:
    """Neighbours from the sweep in which queries meet all rows; local sets, for which these must be known, from another."""
    points, n, rows = task.points, len(task.X), plan.rows
    assert rows is not None
    lists = NearestLists(len(rows), task.k_largest, n, points.scale) if task.k_largest else None
    apart: list[NearestLists] = []
    if "margins" in task.wanted:
        apart = [NearestLists(len(rows), 1, n, points.scale, among=among) for among in ("own class", "other classes")]
    with task.stage("all pairs", passes=1):
        sweep(points, rows, [*sums, *([] if lists is None else [lists]), *apart], progress=task.progress)
    if not task.searched:
        return None, None
    found, margins, squared_misses = None if lists is None else lists.found(), None, np.empty(0)
    if apart:
        hits, misses = (each.found() for each in apart)
        margins, squared_misses = margins_from(rows, hits, misses, n, unit=False), misses[0][:, 0]
    near = _Near(found, margins, squared_misses)
    if "complexity" not in task.wanted:
        return near, None
    local_sets = LocalSets(points, squared_misses)
    with task.stage("local sets", passes=1):
        sweep(points, rows, [local_sets], within_classes=True, progress=task.progress, description="local sets")
    between = interpolated_points(points.X, points.codes, task.seed)._replace(scale=points.scale)
    nearest = NearestLists(len(between.X), 1, n, points.scale)
    with task.stage("interpolated points", passes=1):
        sweep(points, between, [nearest], progress=task.progress, description="interpolated points")
    return near, _Border(local_sets, points.codes[nearest.found()[1][:, 0]] != between.codes)


def _search(task: _Task, plan: _Plan, index: ExactIndex, k: int) -> _Near:
    points, n = task.points, len(task.X)
    rows = np.arange(n) if plan.rows is None else plan.rows
    found = index.nearest(k, plan.rows, progress=task.progress) if k else None
    if "margins" not in task.wanted:
        return _Near(found, None, np.empty(0))
    among: tuple[Among, ...] = ("own class", "other classes")
    hits, misses = (_first(index, found, rows, points.codes, each, task.progress) for each in among)
    return _Near(found, margins_from(rows, hits, misses, n, unit=False), misses[0][:, 0])


def _first(
    index: ExactIndex, lists: Found | None, rows: NDArray[np.int64], codes: NDArray[np.int64], among: Among, progress: Progress
) -> Found:
    """The nearest of the own class, or of another, from lists of neighbours where these reach so far."""
    if lists is None:
        return index.nearest(1, rows, among=among, progress=progress)
    squared, neighbours = lists
    wanted = (codes[neighbours] == codes[rows, None]) == (among == "own class")
    place, known = wanted.argmax(1)[:, None], wanted.any(1)
    if known.mean() < 0.5:  # all in the order of their tiles take no longer than half of them
        return index.nearest(1, rows if len(rows) < len(codes) else None, among=among, progress=progress)
    nearest, row = np.take_along_axis(squared, place, 1), np.take_along_axis(neighbours, place, 1)
    if not known.all():
        nearest[~known], row[~known] = index.nearest(1, rows[~known], among=among, progress=progress)
    return nearest, row


def _of_neighbours(
    task: _Task, neighbors: Neighbors, labels: NDArray[Any]
) -> tuple[Mixing | None, Lisi | None, dict[str, IntrinsicDimension] | None]:
    mixed, inverse, dimension = None, None, None
    nearest = neighbors.subset(task.k) if task.wanted & _OF_K else neighbors
    if "mixing" in task.wanted:
        table = len(task.classes) <= _MATRIX
        if not table:
            task.notes.append(f"no mixing matrix: it has {len(task.classes):,} x {len(task.classes):,} entries")
        mixed = mixing(nearest, labels, matrix=table)
    if "lisi" in task.wanted:
        per_point = lisi(neighbors, task.points.codes)
        inverse = Lisi(per_point, sample_mean(per_point, len(task.X), least=1, most=len(task.classes)))
    if "dimension" in task.wanted:
        methods: tuple[Method, ...] = ("twonn", "twonn-ml", "mle", "gride")
        found: dict[str, IntrinsicDimension | None] = {
            method: task.attempt(f"dimension/{method}", partial(intrinsic_dimension, nearest, method, labels))
            for method in methods
        }
        dimension = {method: each for method, each in found.items() if each is not None} or None
    return mixed, inverse, dimension


def _silhouettes(points: Points, distances: DistanceSums, means: _Means) -> Silhouettes:
    n = len(points.X)
    exact = distances.silhouettes()
    simplified, squared = (
        silhouettes_from_means(points.codes, means.moments.counts, *means.about.silhouette_parts(method, means.moments))
        for method in ("simplified", "squared")
    )
    every = {"exact": exact, "simplified": simplified, "squared": squared}
    return Silhouettes(
        exact, simplified, squared, {name: sample_mean(values, n, least=-1, most=1) for name, values in every.items()}
    )


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
