"""All statistics at once: neighbours found once, moments gathered once, all pairs met once.

    X -- class moments -- second pass: distances to means ----------------------- geometry, silhouettes
      -- index of all rows: neighbours, hits, misses, spanning tree ------------- mixing, LISI, dimension, margins, complexity
      -- sweep over all pairs: sums of distances and similarities, local sets --- silhouettes, soft neighbours, complexity

Of many points, only a sample meets all the others. Where an index does not fit, or only some rows are asked, the sweep finds
the neighbours as well, and X is read block by block from wherever it lies.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.cluster import map_rows_on_cluster
from fastent.arrays.ranges import check_range
from fastent.arrays.resolution import resolution_of
from fastent.arrays.validation import Labels, zero_rows
from fastent.errors import FastentError
from fastent.io.reading import as_path
from fastent.io.sources import parts as chunk_parts
from fastent.measurement.plan import OF_K, Metric, Plan, Task, prepared
from fastent.measurement.result import Lisi, Measurement
from fastent.measurement.strategies import WAYS
from fastent.runtime.progress import Progress
from fastent.search.neighbors import Neighbors, exact_neighbors
from fastent.search.sketch import typical_scale
from fastent.statistics.class_geometry import ClassGeometry, ClassMeans, centred_means
from fastent.statistics.class_moments import moments_of
from fastent.statistics.complexity import complexity_from, fisher_complexity
from fastent.statistics.covariance import participation_ratio_of
from fastent.statistics.geometry import AboutMeans, geometry_of
from fastent.statistics.geometry_notes import rows_of_zeros
from fastent.statistics.intervals import sample_mean
from fastent.statistics.intrinsic_dimension import IntrinsicDimension, Method, dimension_notes, intrinsic_dimension
from fastent.statistics.mixing import Mixing, lisi, mixing
from fastent.statistics.notes import merged, one_point, unexplained
from fastent.statistics.silhouette import DistanceSums, Silhouettes, silhouettes_from_means
from fastent.statistics.soft_nearest_neighbor import SimilaritySums, Temperature, settled, temperature_nodes

__all__ = ["measure"]

# More classes than this get no mixing matrix.
_MATRIX = 4096
# What `lisi` takes unless said.
_PERPLEXITY = 30.0


class _Means(NamedTuple):
    means: ClassMeans
    geometry: ClassGeometry
    about: AboutMeans
    participation_ratio: float | None


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
    checkpoint: str | os.PathLike[str] | None = None,
    client: Any = None,
    seed: int = 0,
    progress: Progress = None,
) -> Measurement:
    """Measure how tangled the classes are, in every accepted view: neighbours, moments and pairs each gone through once.

    Parameters
    ----------
    X : array-like (n, d) or Source
        Any real dtype and memory order, torch on any device. A memory map or what `fe.open` opened stays on disk: it is read
        block by block where `queries` are given, or where it does not fit in memory.
    labels : array-like (n,)
        Two classes or more: integers, strings or booleans. A missing label (NaN, None) is refused. Labels that often stand
        for none (-1 for unlabelled rows, -100 for torch's ignore_index, "nan") are classes of their own, and so are labels
        that look alike ("cat", "cat "): a note names them. Drop such rows from X and labels where they are not meant.
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
        Scale each row to unit L2 norm first, for everything; a row of zeros stays zero. Off by default, because neighbours,
        margins, silhouettes and dimensions are usually those of the rows as they are. `fe.geometry`, `fe.Probe` and the radii
        of `fe.train` are those of unit rows by default, as in the source paper: with normalize=True the geometry here is too.
    temperature : float or str
        As for `fe.soft_nearest_neighbor_loss`.
    memory_budget : int or str, optional
        Bytes, or like "4GiB"; what is available unless said. Where an index of all rows does not fit, neighbours are found
        chunk by chunk, and for what needs all pairs 20,000 rows are sampled.
    checkpoint : path, optional
        A folder in which what is found is kept on the way, at most half a minute old: after a kill the same call goes on from
        there, to the same bits. Its `measure-parts` stays until you remove it: the measurement may still have to be saved.
    client : distributed.Client, optional
        A Dask cluster whose workers share the work on a `fe.open` source that all of them can read: the same bits as without.
        `memory_budget` is then that of each thread of a worker. N1 and T1, which take an index of all rows, are not measured.
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
    Measurement(1,797 x 64, 10 classes, rows as given: overlap 0.9651, n3 0.0117)
    >>> round(found.summary()["margins/n2"], 4)
    0.3583
    """
    task, plan = prepared(
        X,
        labels,
        k=k,
        queries=queries,
        metrics=metrics,
        normalize=normalize,
        temperature=temperature,
        memory_budget=memory_budget,
        checkpoint=None if checkpoint is None else as_path(checkpoint, "a folder"),
        client=client,
        seed=seed,
        progress=progress,
    )
    with task.stage("check", passes=1 + task.parts.keeps):  # a digest of all rows where parts are kept
        check_range(task.points.X, client=client)
        task = task._replace(points=task.points._replace(scale=typical_scale(task.points.X))).identified(plan)
    return _measured(task, plan)


def _measured(task: Task, plan: Plan) -> Measurement:
    points, n = task.points, len(task.X)
    labels = task.classes[points.codes]
    rows, sampled = (np.arange(n) if some is None else some for some in (plan.rows, plan.sampled))
    means = _about_means(task) if "geometry" in task.wanted else None
    distances = DistanceSums(points.codes, points.n_classes, plan.sampled) if "silhouette" in task.wanted else None
    similarities = _similarities(task, plan) if "soft_nearest_neighbor" in task.wanted else None
    sums = [each for each in (distances, similarities) if each is not None]

    near, border = WAYS[plan.way](task, plan, sums)
    neighbors = mixed = inverse = dimension = None
    if near.all is not None:
        resolution = None
        if "dimension" in task.wanted:
            with task.stage("resolution of the rows", passes=plan.rows is None):
                resolution = resolution_of(task.X, plan.rows, unit=task.normalize)
        neighbors = exact_neighbors(near.all, rows, n, resolution)
        with task.stage("mixing and dimension"):
            mixed, inverse, dimension = _of_neighbours(task, neighbors, Labels(points.codes, task.classes))
    complexity = None
    if border is not None and near.margins is not None and means is not None:
        f1 = fisher_complexity(means.means, means.about)
        complexity = complexity_from(
            points, task.labels, near.margins, border.local_sets, border.wrong, f1, border.tree, border.covering
        )
    soft = None
    if similarities is not None:
        with task.stage("soft nearest neighbours"):
            soft = task.attempt("soft nearest neighbour loss", lambda: settled(similarities, task.classes, task.progress))
    silhouettes = None if distances is None or means is None else _silhouettes(task, distances, means)
    geometry = None if means is None else means.geometry
    zeros = [] if geometry is not None or not task.normalize else list(rows_of_zeros(_zeros(task)))
    parts = (mixed, near.margins, geometry, silhouettes, soft, complexity)
    notes = [note for part in parts if part is not None for note in part.notes]
    task.notes.extend([*merged([*notes, *zeros]), *dimension_notes(dimension or {})])
    measured = Measurement(
        classes=task.classes,
        labels=labels,
        shape=task.X.shape,
        queries=rows,
        sampled=sampled,
        k=task.k,
        normalize=task.normalize,
        neighbors=neighbors.subset(task.k) if neighbors is not None and task.wanted & OF_K else None,
        mixing=mixed,
        lisi=inverse,
        margins=near.margins,
        geometry=geometry,
        participation_ratio=None if means is None else means.participation_ratio,
        silhouette=silhouettes,
        soft_nearest_neighbor=soft,
        dimension=dimension,
        complexity=complexity,
        notes=tuple(task.notes),
        stages=tuple(task.stages),
        fingerprint=task.depends_on.get("data", ""),
    )
    return replace(measured, notes=(*measured.notes, *unexplained(measured.summary(), measured.notes)))


def _zeros(task: Task) -> NDArray[np.int64]:
    """Rows of zeros among all."""
    with task.stage("rows of zeros", passes=1):
        pieces = [(start, stop, None) for start, stop in chunk_parts(task.X)]
        found = map_rows_on_cluster(task.client, task.X, _zeros_of_part, pieces)
        return np.concatenate([start + places for places, (start, *_) in zip(found, pieces, strict=True)])


def _zeros_of_part(rows: NDArray[Any], _: None) -> NDArray[np.int64]:
    return zero_rows(rows)


def _about_means(task: Task) -> _Means:
    points = task.points
    with task.stage("class moments", passes=1):
        moments = moments_of(task.X, points.codes, points.n_classes, normalize=task.normalize, client=task.client)
        means = moments.class_means()
    with task.stage("distances to means", passes=1):
        geometry, about = geometry_of(task.X, Labels(points.codes, task.classes), means, client=task.client)
    mean = means.means[0] - centred_means(means.means, means.counts)[0]
    with task.stage("covariance", passes=1):
        ratio = task.attempt("participation ratio", lambda: participation_ratio_of(points.X, mean, task.client))
    return _Means(means, geometry, about, ratio)


def _similarities(task: Task, plan: Plan) -> SimilaritySums | None:
    def prepare() -> SimilaritySums:
        nodes = temperature_nodes(task.points, task.temperature, task.seed)
        return SimilaritySums(task.points, plan.sampled, nodes, memory=0 if plan.way == "sweep" else task.memory)

    return task.attempt("soft nearest neighbour loss", prepare)


def _of_neighbours(
    task: Task, neighbors: Neighbors, labels: Labels
) -> tuple[Mixing | None, Lisi | None, dict[str, IntrinsicDimension] | None]:
    mixed, inverse, dimension = None, None, None
    nearest = neighbors.subset(task.k) if task.wanted & OF_K else neighbors
    if "mixing" in task.wanted:
        table = len(task.classes) <= _MATRIX
        if not table:
            task.notes.append(f"no mixing matrix: it has {len(task.classes):,} x {len(task.classes):,} entries")
        mixed = mixing(nearest, labels, matrix=table)
    if "lisi" in task.wanted:
        per_point = lisi(neighbors, task.points.codes, _PERPLEXITY)
        # Weights as even as those of 30 neighbours have an inverse Simpson index of 30 at most, but for ties.
        most = min(len(task.classes), max(_PERPLEXITY, float(per_point.max())))
        inverse = Lisi(per_point, sample_mean(per_point, len(task.X), least=1, most=most))
    if "dimension" in task.wanted:
        dimension = _dimension(task, nearest, labels)
    return mixed, inverse, dimension


def _dimension(task: Task, neighbors: Neighbors, labels: Labels) -> dict[str, IntrinsicDimension] | None:
    methods: tuple[Method, ...] = ("twonn", "twonn-ml", "mle", "gride")
    found: dict[str, IntrinsicDimension] = {}
    refused: dict[str, list[str]] = {}
    for method in methods:
        try:
            found[method] = intrinsic_dimension(neighbors, method, labels)
        except FastentError as error:
            if task.named:
                raise
            refused.setdefault(str(error), []).append(method)
    task.notes.extend(f"no dimension by {', '.join(methods)}: {reason}" for reason, methods in refused.items())
    return found or None


def _silhouettes(task: Task, distances: DistanceSums, means: _Means) -> Silhouettes:
    codes, counts, n = task.points.codes, means.means.counts, len(task.X)
    exact = distances.silhouettes()
    simplified, squared = (
        silhouettes_from_means(codes, counts, *means.about.silhouette_parts(method, means.means))
        for method in ("simplified", "squared")
    )
    every = {"exact": exact, "simplified": simplified, "squared": squared}
    return Silhouettes(
        exact,
        simplified,
        squared,
        {name: sample_mean(values, n, least=-1, most=1) for name, values in every.items()},
        tuple(one_point(task.classes, counts, "the silhouette is 0")),
    )
