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
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.cluster import map_rows_on_cluster
from fastent.arrays.ranges import check_range
from fastent.arrays.resolution import resolution_of
from fastent.arrays.validation import zero_rows
from fastent.io.reading import as_path
from fastent.io.sources import parts as chunk_parts
from fastent.measurement.metrics import METRICS, Found, MetricName
from fastent.measurement.plan import prepare
from fastent.measurement.result import Measurement
from fastent.measurement.strategies import STRATEGIES, Near
from fastent.measurement.task import Plan, Task
from fastent.runtime.progress import Progress
from fastent.search.neighbors import Neighbors, exact_neighbors
from fastent.search.sketch import typical_scale
from fastent.statistics.geometry_notes import rows_of_zeros
from fastent.statistics.intrinsic_dimension import dimension_notes
from fastent.statistics.notes import merged, unexplained
from fastent.statistics.soft_nearest_neighbor import Temperature

__all__ = ["measure"]


def measure(
    X: Any,
    labels: Any,
    *,
    k: int = 10,
    queries: Any = None,
    metrics: MetricName | Literal["all"] | Sequence[MetricName] = "all",
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
    seed : int
        Of everything that is drawn at random.
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
    task, plan = prepare(
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
    n = len(task.X)
    rows, sampled = (np.arange(n) if some is None else some for some in (plan.rows, plan.sampled))
    wanted = {name: metric for name, metric in METRICS.items() if name in task.wanted}
    prepared = {name: metric.prepare(task, plan) for name, metric in wanted.items() if metric.prepare is not None}
    near, border = STRATEGIES[plan.way](task, plan, [each for each in prepared.values() if hasattr(each, "reduce")])
    neighbors = _neighbors(task, plan, near, rows)
    found = Found(near, border, neighbors, prepared)
    parts = {name: metric.find(task, found) for name, metric in wanted.items()}
    notes = [note for part in parts.values() for note in getattr(part, "notes", ())]
    if task.normalize and "geometry" not in wanted:
        notes.extend(rows_of_zeros(_zeros(task)))
    task.notes.extend([*merged(notes), *dimension_notes(parts.get("dimension") or {})])
    of_k = any(metric.neighbors == "k" for metric in wanted.values())
    measured = Measurement(
        classes=task.classes,
        labels=task.classes[task.points.codes],
        shape=task.X.shape,
        queries=rows,
        sampled=sampled,
        k=task.k,
        normalize=task.normalize,
        neighbors=neighbors.subset(task.k) if neighbors is not None and of_k else None,
        participation_ratio=prepared["geometry"].participation_ratio if "geometry" in wanted else None,
        notes=tuple(task.notes),
        stages=tuple(task.stages),
        fingerprint=task.depends_on.get("data", ""),
        **parts,
    )
    return replace(measured, notes=(*measured.notes, *unexplained(measured.summary(), measured.notes)))


def _neighbors(task: Task, plan: Plan, near: Near, rows: NDArray[np.int64]) -> Neighbors | None:
    if near.all is None:
        return None
    resolution = None
    if "dimension" in task.wanted:
        with task.stage("resolution of the rows", passes=plan.rows is None):
            resolution = resolution_of(task.X, plan.rows, unit=task.normalize)
    return exact_neighbors(near.all, rows, len(task.X), resolution)


def _zeros(task: Task) -> NDArray[np.int64]:
    """Rows of zeros among all."""
    with task.stage("rows of zeros", passes=1):
        pieces = [(start, stop, None) for start, stop in chunk_parts(task.X)]
        found = map_rows_on_cluster(task.client, task.X, _zeros_of_part, pieces)
        return np.concatenate([start + places for places, (start, *_) in zip(found, pieces, strict=True)])


def _zeros_of_part(rows: NDArray[Any], _: None) -> NDArray[np.int64]:
    return zero_rows(rows)
