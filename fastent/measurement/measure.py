"""All statistics at once: neighbours found once, class moments gathered once, all pairs met once.

    X -- class moments -- second pass: distances to means ----------------------- geometry, silhouettes
      -- index of all rows: neighbours, hits, misses, spanning tree ------------- mixing, LISI, dimension, margins, complexity
      -- sweep over all pairs: sums of distances and similarities, local sets --- silhouettes, soft neighbours, complexity

With many rows, only a sample is compared with all others. If an index does not fit, or only some rows are queries, the sweep
finds the neighbours as well, and X is read block by block from where it lies.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.class_names import class_names_of
from fastent.arrays.cluster import as_shared_source, map_rows_on_cluster
from fastent.arrays.labelled import paired
from fastent.arrays.queries import query_rows
from fastent.arrays.ranges import check_range, resolution_of
from fastent.arrays.validation import UnitRows, as_features, as_labels, in_memory, rows_of, stays_on_disk, zero_rows
from fastent.data.standardization import standardized_rows
from fastent.io.reading import as_path
from fastent.io.result_cache import ResultCache
from fastent.io.scratch import check_scratch
from fastent.io.sources import Source
from fastent.io.sources import parts as chunk_parts
from fastent.measurement.metrics import Inputs, Metric, MetricName
from fastent.measurement.plan import CHECKPOINT, KEPT_BYTES, leave_out, lists_for, planned, wanted_metrics
from fastent.measurement.result import Measurement
from fastent.measurement.strategies import STRATEGIES, Near
from fastent.measurement.task import Plan, Task
from fastent.options import flag, whole_number
from fastent.printable import printable
from fastent.runtime.memory import budget_bytes
from fastent.runtime.progress import Progress
from fastent.search.found_neighbors import Neighbors, exact_neighbors
from fastent.search.sketch import typical_scale
from fastent.search.sweep import LabelledPoints
from fastent.statistics.class_geometry import rows_of_zeros
from fastent.statistics.covariance import one_feature, shares_of_variance
from fastent.statistics.intrinsic_dimension import dimension_notes
from fastent.statistics.notes import merged, unexplained
from fastent.statistics.point_map import MapMethod, PointMap, map_methods, point_maps
from fastent.statistics.soft_nearest_neighbor import Temperature, checked_temperature

__all__ = ["measure"]


def measure(
    X: Any,
    labels: Any = None,
    *,
    k: int = 10,
    queries: Any = None,
    metrics: MetricName | Literal["all"] | Sequence[MetricName | Literal["all"]] = "all",
    normalize: bool = False,
    standardize: bool = False,
    temperature: Temperature = "median",
    class_names: Any = None,
    map: MapMethod | Literal["auto", "none"] = "auto",
    memory_budget: int | str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    client: Any = None,
    scratch: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Progress = None,
) -> Measurement:
    """Measure how tangled the classes are, in every accepted view, with one pass each over neighbours, moments and pairs.

    Parameters
    ----------
    X : array-like (n, d), Source, data frame or path
        Any real dtype and memory order, torch on any device. A memory map, or what `fe.open` opens, stays on disk and is read
        block by block if `queries` are given or it does not fit in memory. Pictures (n, h, w) and other points of several axes
        are flattened. Of pandas and polars frames and other tables, the features are the columns but for labels and row
        numbers; a note says which.
    labels : array-like (n,) or str, optional
        The name of the label column of a data frame or table X; a path, such as "y.npy", "t.csv:species" or a captured folder;
        or integers, strings or booleans. By default those that lie with X: of a captured folder, of a folder of pictures (the
        names of the class folders), the y of an .npz; or of what holds both: (X, y), a mapping, scikit-learn's Bunch, a
        Dataset or DataLoader of torch. At least two classes are needed. A missing label (NaN, None) is
        refused. Values that often mark unlabelled rows (-1, torch's ignore_index -100, "nan") are classes of their own, and so
        are labels that look alike ("cat", "cat "); a note names them. Drop such rows from X and labels if they are not classes.
    k : int, optional, default 10
        Number of neighbours for mixing and dimension, from 2 to n - 1.
    queries : int or (q,) int, optional
        How many rows to draw at random with `seed`, or row numbers. Only these rows are compared with all others, and every
        mean comes with an interval. Default all rows; beyond 100,000 rows, LISI, silhouettes, soft nearest neighbours and local
        sets use 20,000 random rows, and T1 is skipped. These are drawn class by class, in proportion to the classes, but at
        least ten rows of each (all rows of smaller classes; fewer of each of more than 1,000 classes; of more than 10,000, from
        all rows alike), and means weigh classes by their shares of all rows.
    metrics : "all", str or sequence of str, optional, default "all"
        Names of parts of `Measurement`, such as "mixing" or "geometry"; parts that these need are measured too. "all" leaves
        out, with a note, what the points do not allow; and "capacity", which takes seconds to minutes and says least of few
        classes: name it, alone or in ["all", "capacity"].
    normalize : bool, optional, default False
        Scale each row to unit L2 norm first, for every metric; a row of zeros stays zero. Neighbours, margins, silhouettes and
        dimensions are usually those of the rows as given. `fe.geometry`, `fe.Probe` and the radii of `fe.train` scale rows by
        default, as in the source paper: use normalize=True to compare the geometry with theirs.
    standardize : bool, optional, default False
        Shift and scale each feature to mean 0 and standard deviation 1 over all rows first (before `normalize`), for every
        metric; a feature that never varies becomes 0. For tables whose columns have different units. If X is in memory, this
        takes a copy of it. The sum of squares is divided by n - 1, as in the source paper's training; scikit-learn's
        StandardScaler divides it by n, which scales all features alike.
    temperature : float or str, optional, default "median"
        As for `fe.soft_nearest_neighbor_loss`.
    class_names : sequence of str, mapping or path, optional
        What people call the classes: a mapping from labels to names; a list, by label for labels that are places in it, and
        otherwise in the order of the classes, text in its natural order (class2 before class10); or a file with a name in each
        line, or of JSON. Tables, plots and the report show them; labels keep their values.
    map : str, optional, default "auto"
        Lay the queries, or a sample of 5,000, out in two dimensions: `Measurement.maps`. "pca"; "umap" or "tsne" besides that;
        or "none". "auto" is "pca" where all metrics are asked for. See `fe.map_points`.
    memory_budget : int or str, optional
        Bytes, or a string such as "4GiB"; default the memory that is available. If the full index does not fit, neighbours are
        found in one cell of space after the other, and metrics that need all pairs use 20,000 random rows, drawn class by class
        as above.
    checkpoint : path, optional
        Folder in which intermediate results are kept, at most half a minute or one cell old, so that the same call resumes
        after a kill with a bit-identical result. Its subfolder `measure-parts` stays until you remove it, since the measurement
        may still have to be saved.
    client : distributed.Client, optional
        Dask cluster whose workers share the work on a `fe.open` source that they can all read; the result is bit-identical.
        `memory_budget` is then that of each worker thread. N1 and T1, which need an index of all rows, are skipped.
    scratch : path or str, optional
        Folder, or address of an object store that fsspec knows ("s3://bucket/folder"), for copies of rows that do not fit in
        memory, and for what workers are given and find. A subfolder, which is removed at the end. Default the folder
        `checkpoint`, or `TMPDIR`. Lists that do not fit lie in the folder, or in `TMPDIR` if there is a store.
    seed : int, optional, default 0
        Seed of everything that is drawn at random.
    progress : bool or callable, optional
        True for progress bars on stderr, or a function of (done, total, message).

    Returns
    -------
    Measurement

    Raises
    ------
    FastentError
        Bad input; a named metric that these points do not allow; too little memory.

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
    wanted, named = wanted_metrics(metrics)
    normalize, standardize = flag("normalize", normalize), flag("standardize", standardize)
    methods = map_methods("map", ("none" if named else "pca") if map == "auto" else map)
    temperature, seed = checked_temperature(temperature), whole_number("seed", seed, minimum=0)
    notes: list[str] = []
    given, labels = paired(X, labels)
    given = rows_of(given)
    points = as_features(given, notes=notes)
    coded = as_labels(labels, n=len(points), minimum_classes=2, notes=notes)
    features = as_shared_source(points, client)
    if standardize:
        features = standardized_rows(features)
    n, d = features.shape
    asked = query_rows(queries, n, d, seed=seed, what="measure")
    k = whole_number("k", k, minimum=2 if any(metric.neighbors == "k" for metric in wanted.values()) else 1)
    notes.extend(leave_out(wanted, n, k, named))
    place = None if checkpoint is None else as_path(checkpoint, "a folder")
    task = Task(
        X=features,
        features=given.columns if isinstance(given, Source) else None,
        points=LabelledPoints(_measured_rows(features, normalize), coded.codes, 1.0, len(coded.classes)),
        labels=coded,
        wanted=frozenset(wanted),
        named=named,
        k=k,
        lists=lists_for(wanted, n, k),
        lists_of_all=lists_for({name: metric for name, metric in wanted.items() if not metric.of_sample}, n, k),
        pairwise=any(metric.pairwise for metric in wanted.values()),
        bytes_kept=(KEPT_BYTES + sum(metric.row_bytes for metric in wanted.values())) * n,
        normalize=normalize,
        standardize=standardize,
        temperature=temperature,
        memory=budget_bytes(memory_budget),
        memory_budget=memory_budget,
        seed=seed,
        progress=progress,
        notes=notes,
        stages=[],
        parts=ResultCache(place, name=CHECKPOINT, compress=False),
        depends_on={},
        client=client,
        scratch=check_scratch(scratch),
    )
    names = class_names_of(class_names, coded.classes, notes)
    plan = planned(task, asked)
    notes.extend(plan.notes)
    if plan.index_plan.kind == "index" and (plan.lists or plan.of_sample or task.pairwise):
        rows = in_memory(features)
        task = task._replace(X=rows, points=task.points._replace(X=_measured_rows(rows, normalize)))
    if progress is True:
        for note in plan.notes:
            print(printable(f"fastent: {note}"), file=sys.stderr)
    with task.stage("check", passes=1 + task.parts.keeps):  # a digest of all rows where parts are kept
        check_range(task.points.X, client=client)
        task = task._replace(points=task.points._replace(scale=typical_scale(task.points.X))).identified(plan)
    return replace(_measured(task, plan, wanted, methods), given_names=names)


def _measured_rows(X: NDArray[Any], normalize: bool) -> NDArray[Any]:
    return cast(NDArray[Any], UnitRows(X)) if normalize else X


def _measured(task: Task, plan: Plan, wanted: dict[str, Metric], maps: Sequence[str]) -> Measurement:
    n = len(task.X)
    rows, sampled = (np.arange(n) if some is None else some for some in (plan.rows, plan.sampled))
    prepared = {name: metric.prepare(task, plan) for name, metric in wanted.items() if metric.prepare is not None}
    near, border = STRATEGIES[plan.index_plan.kind](task, plan, [each for each in prepared.values() if hasattr(each, "reduce")])
    neighbors = _neighbors(task, plan, near, rows)
    of_sample = neighbors if near.of_sample is None else exact_neighbors(near.of_sample, sampled, n)
    inputs = Inputs(near, border, neighbors, of_sample, prepared, plan.of_queries(n), plan.of_sampled(n))
    parts = {name: metric.find(task, inputs) for name, metric in wanted.items()}
    notes = [note for part in parts.values() for note in getattr(part, "notes", ())]
    if task.normalize and "geometry" not in wanted:
        notes.extend(rows_of_zeros(_zeros(task)))
    if "geometry" not in wanted and not stays_on_disk(task.X):
        with task.stage("variance of the features", passes=3):
            shares = shares_of_variance(task.points.X)
        task.notes.extend(one_feature(shares, task.features, standardized=task.standardize))
    task.notes.extend([*merged(notes), *dimension_notes(parts.get("dimension") or {})])
    of_k = any(metric.neighbors == "k" for metric in wanted.values())
    spread = prepared["geometry"].spread if "geometry" in wanted else None
    measured = Measurement(
        classes=task.labels.classes,
        labels=task.labels.classes[task.labels.codes],
        shape=task.X.shape,
        queries=rows,
        sampled=sampled,
        k=task.k,
        normalize=task.normalize,
        standardize=task.standardize,
        temperature=task.temperature,
        seed=task.seed,
        neighbors=neighbors.subset(task.k) if neighbors is not None and of_k else None,
        participation_ratio=spread.participation_ratio if spread is not None else None,
        maps=_maps(task, plan, maps, neighbors) if maps else None,
        notes=tuple(task.notes),
        stages=tuple(task.stages),
        fingerprint=task.depends_on.get("data", ""),
        of_queries=inputs.of_queries,
        of_sampled=inputs.of_sampled,
        apart=np.sqrt(prepared["geometry"].about.own) if "geometry" in wanted else None,
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


def _maps(task: Task, plan: Plan, methods: Sequence[str], near: Neighbors | None) -> dict[str, PointMap]:
    with task.stage("map"):
        return point_maps(
            task.points.X, task.points.codes, methods,
            k=task.k, among=plan.rows, near=near, memory=task.memory, seed=task.seed,
        )  # fmt: skip


def _zeros(task: Task) -> NDArray[np.int64]:
    """Rows of zeros among all."""
    with task.stage("rows of zeros", passes=1):
        pieces = [(start, stop, None) for start, stop in chunk_parts(task.X)]
        found = map_rows_on_cluster(task.client, task.X, _zeros_of_part, pieces)
        return np.concatenate([start + places for places, (start, *_) in zip(found, pieces, strict=True)])


def _zeros_of_part(rows: NDArray[Any], _: None) -> NDArray[np.int64]:
    return zero_rows(rows)
