"""What `fe.measure` can find: one declaration for each metric, from which everything that lists metrics is made.

    METRICS --> the plan: neighbours, all pairs, memory and other metrics that a metric needs
            --> the measurement: `prepare` before rows are compared, `find` afterwards
            --> `Measurement.summary` and `per_point`, tables, reports, the help of `fastent measure --metrics`

A new metric takes a declaration here and a field of `Measurement` with its name. The command line imports this file for its
help, so the functions that compute statistics import them when they are called.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fastent.errors import FastentError

if TYPE_CHECKING:
    from fastent.measurement.strategies import Border, Near
    from fastent.measurement.task import Plan, Task
    from fastent.search.found_neighbors import Neighbors
    from fastent.statistics.class_geometry import ClassGeometry, ClassMeans
    from fastent.statistics.complexity import Complexity
    from fastent.statistics.covariance import Spread
    from fastent.statistics.dimension_estimators import Method
    from fastent.statistics.geometry import AboutMeans
    from fastent.statistics.intervals import Estimate, Population
    from fastent.statistics.intrinsic_dimension import IntrinsicDimension
    from fastent.statistics.manifold_capacity import ManifoldCapacity
    from fastent.statistics.mixing import Lisi, Mixing
    from fastent.statistics.silhouette import DistanceSums, Silhouettes
    from fastent.statistics.similarity_sums import SimilaritySums
    from fastent.statistics.soft_nearest_neighbor import SoftNearestNeighbor

__all__ = ["MEANINGS", "METRICS", "Column", "Inputs", "MeansPasses", "Metric", "MetricName"]

MetricName = Literal[
    "mixing", "lisi", "margins", "silhouette", "soft_nearest_neighbor", "geometry", "dimension", "complexity", "capacity"
]  # fmt: skip

# More classes than this get no mixing matrix.
_MATRIX = 4096
# The default of `lisi`, which takes three times as many neighbours.
_PERPLEXITY = 30.0


class Inputs(NamedTuple):
    """What metrics are computed from: neighbours of the queries and of the sampled rows, the border between classes, what each
    metric prepared, and what the queries and the sampled rows are samples of."""

    near: "Near"
    border: "Border | None"
    neighbors: "Neighbors | None"
    of_sample: "Neighbors | None"
    prepared: dict[str, Any]
    of_queries: "Population"
    of_sampled: "Population"


class Column(NamedTuple):
    """A column of `Measurement.per_point`, an attribute of the result: values of the queries, of all rows, or of the rows that
    were compared with all others."""

    name: str
    over: Literal["queries", "rows", "sampled"] = "queries"
    attribute: str = ""


class Metric(NamedTuple):
    """A metric: its title in reports, what each of its statistics says, and how it is found.

    find : makes the result, or None if the points allow none, which a note of the task then says.
    prepare : makes what is needed before rows are compared; if that is a reduction, the sweep over all pairs fills it.
    needs : metrics that must be measured too.
    neighbors : how many neighbours of each query it takes. fewer_neighbors : whether fewer will do if there are no more rows.
    of_sample : whether it takes the neighbours of the sampled rows only, where there are too many rows to take all.
    pairwise : whether it compares all pairs of rows, or the sampled rows with all others.
    sampled : what of it is of the sampled rows only.
    by_name_only : whether "all" leaves it out. seconds : about how long it takes, if that may be long.
    row_bytes : memory for each row. workspace : memory besides, for a number of rows that meet all others.
    numbers : takes a measurement and returns the statistics that are neither an interval nor an attribute of the result.
    """

    title: str
    statistics: dict[str, str]
    find: Callable[["Task", Inputs], Any]
    prepare: "Callable[[Task, Plan], Any] | None" = None
    needs: tuple[MetricName, ...] = ()
    neighbors: int | Literal["k"] = 0
    fewer_neighbors: bool = False
    of_sample: bool = False
    pairwise: bool = False
    sampled: str = ""
    by_name_only: bool = False
    seconds: "Callable[[Task], float] | None" = None
    row_bytes: int = 0
    workspace: "Callable[[Task, int], int] | None" = None
    numbers: "Callable[[Any], Mapping[str, Estimate | float | None]] | None" = None
    columns: tuple[Column, ...] = ()

    def neighbors_for(self, k: int) -> int:
        return k if self.neighbors == "k" else self.neighbors


def _mixing(task: "Task", inputs: Inputs) -> "Mixing":
    from fastent.statistics.mixing import mixing_of

    assert inputs.neighbors is not None
    n_classes = len(task.labels.classes)
    if n_classes > _MATRIX:
        task.notes.append(f"no mixing matrix: it has {n_classes:,} x {n_classes:,} entries")
    with task.stage("mixing"):
        return mixing_of(
            inputs.neighbors.subset(task.k), task.labels, matrix=n_classes <= _MATRIX, population=inputs.of_queries
        )  # fmt: skip


def _lisi(task: "Task", inputs: Inputs) -> "Lisi":
    from fastent.statistics.intervals import sample_mean
    from fastent.statistics.mixing import Lisi, lisi

    assert inputs.of_sample is not None
    with task.stage("inverse Simpson index"):
        per_point = lisi(inputs.of_sample, task.labels, _PERPLEXITY)
    # Weights as even as those of 30 neighbours have an inverse Simpson index of 30 at most, but for ties.
    most = min(len(task.labels.classes), max(_PERPLEXITY, float(per_point.max())))
    return Lisi(per_point, sample_mean(per_point, inputs.of_sampled, least=1, most=most))


def _distance_sums(task: "Task", plan: "Plan") -> "DistanceSums":
    from fastent.statistics.silhouette import DistanceSums

    return DistanceSums(task.points.codes, task.points.n_classes, plan.sampled)


def _silhouette(task: "Task", inputs: Inputs) -> "Silhouettes":
    from fastent.statistics.intervals import sample_mean
    from fastent.statistics.notes import one_point
    from fastent.statistics.silhouette import Silhouettes, silhouettes_about_means

    means, about = inputs.prepared["geometry"][:2]
    exact = inputs.prepared["silhouette"].silhouettes()
    simplified = silhouettes_about_means("simplified", means, about)
    squared = silhouettes_about_means("squared", means, about)
    intervals = {
        name: sample_mean(values, population, least=-1, most=1)
        for name, values, population in (
            ("exact", exact, inputs.of_sampled), ("simplified", simplified, len(task.X)), ("squared", squared, len(task.X)),
        )
    }  # fmt: skip
    notes = tuple(one_point(task.labels.classes, means.counts, "the silhouette is 0"))
    return Silhouettes(exact, simplified, squared, intervals, notes)


def _similarity_sums(task: "Task", plan: "Plan") -> "SimilaritySums | None":
    from fastent.statistics.similarity_sums import SimilaritySums
    from fastent.statistics.soft_nearest_neighbor import temperature_nodes

    def prepare() -> "SimilaritySums":
        nodes = temperature_nodes(task.points, task.temperature, task.seed)
        return SimilaritySums(task.points, plan.sampled, nodes, memory=0 if plan.index_plan.kind == "sweep" else task.memory)

    return task.attempt("soft nearest neighbour loss", prepare)


def _soft_nearest_neighbor(task: "Task", inputs: Inputs) -> "SoftNearestNeighbor | None":
    from fastent.statistics.soft_nearest_neighbor import settled

    sums = inputs.prepared["soft_nearest_neighbor"]
    if sums is None:
        return None
    with task.stage("soft nearest neighbours"):
        return task.attempt(
            "soft nearest neighbour loss", lambda: settled(sums, task.labels.classes, task.progress, inputs.of_sampled)
        )


class MeansPasses(NamedTuple):
    """Results of the passes over all rows for class moments, distances to the class means, and the covariance, if it fits."""

    means: "ClassMeans"
    about: "AboutMeans"
    geometry: "ClassGeometry"
    spread: "Spread | None"


def _means_passes(task: "Task", plan: "Plan") -> MeansPasses:
    from fastent.statistics.class_geometry import centred_means
    from fastent.statistics.class_moments import moments_of
    from fastent.statistics.covariance import one_feature, spread_of
    from fastent.statistics.geometry import geometry_of

    points = task.points
    with task.stage("class moments", passes=1):
        moments = moments_of(task.X, points.codes, points.n_classes, normalize=task.normalize, client=task.client)
        means = moments.class_means()
    with task.stage("distances to means", passes=1):
        geometry, about = geometry_of(task.X, task.labels, means, client=task.client)
    mean = means.means[0] - centred_means(means.means, means.counts)[0]
    with task.stage("covariance", passes=1):
        spread = task.attempt("participation ratio", lambda: spread_of(points.X, mean, task.client))
    if spread is not None:
        task.notes.extend(one_feature(spread.shares, task.features, standardized=task.standardize))
    return MeansPasses(means, about, geometry, spread)


def _geometry_workspace(task: "Task", q: int) -> int:
    from fastent.io.sources import part_bytes
    from fastent.runtime.threads import working_threads

    d: int = task.X.shape[1]
    return working_threads() * (16 * d * d + 3 * part_bytes(task.X)) + 128 * len(task.labels.classes) * d


def _geometry_numbers(measured: Any) -> "Mapping[str, Estimate | float | None]":
    import numpy as np

    geometry = measured.geometry
    pairs = ~np.eye(len(geometry.classes), dtype=bool)
    return {
        "radius": float(geometry.radius.mean()),
        "distance": float(geometry.distance[pairs].mean()),
        "cdnv": float(geometry.cdnv[pairs].mean()),
        **{f"nc2_{name}": value for name, value in geometry.nc2._asdict().items()},
        "participation_ratio": measured.participation_ratio,
    }


def _dimension(task: "Task", inputs: Inputs) -> "dict[str, IntrinsicDimension] | None":
    from fastent.statistics.intrinsic_dimension import dimension_of
    from fastent.statistics.strata import Strata

    assert inputs.neighbors is not None
    nearest, queries = inputs.neighbors.subset(task.k), inputs.of_queries
    representative = queries.proportional(task.seed) if isinstance(queries, Strata) else None
    methods: tuple[Method, ...] = ("twonn", "twonn-ml", "mle", "gride")
    dimensions: dict[str, IntrinsicDimension] = {}
    refused: dict[str, list[str]] = {}
    with task.stage("dimension"):
        for method in methods:
            try:
                dimensions[method] = dimension_of(nearest, method, task.labels, representative=representative)
            except FastentError as error:
                if task.named:
                    raise
                refused.setdefault(str(error), []).append(method)
    task.notes.extend(f"no dimension by {', '.join(methods)}: {reason}" for reason, methods in refused.items())
    return dimensions or None


def _dimension_numbers(measured: Any) -> "Mapping[str, Estimate]":
    from fastent.statistics.intervals import Estimate, Z

    found = {}
    for method, each in measured.dimension.items():
        half = Z * each.standard_error
        found[method] = Estimate(each.value, each.standard_error, max(each.value - half, 0.0), each.value + half)
    return found


def _complexity(task: "Task", inputs: Inputs) -> "Complexity | None":
    from fastent.statistics.complexity import complexity_from, fisher_complexity

    border, margins, passes = inputs.border, inputs.near.margins, inputs.prepared["geometry"]
    if border is None or margins is None:
        return None
    f1 = fisher_complexity(passes.means, passes.about)
    return complexity_from(
        task.points, task.labels, margins, border.local_sets, border.wrong, f1, border.tree, border.covering, inputs.of_sampled
    )


def _capacity(task: "Task", inputs: Inputs) -> "ManifoldCapacity | None":
    from fastent.statistics.manifold_capacity import POINTS, capacity_of

    with task.stage("manifold capacity"):
        found = task.attempt(
            "capacity", lambda: capacity_of(task.points.X, task.labels, seed=task.seed, progress=task.progress)
        )
    if found is not None:
        task.notes.append(
            f"capacity is of up to {POINTS} points of each class at a time; its intervals are over random directions and draws "
            "of points, not over other data"
        )
    return found


def _capacity_seconds(task: "Task") -> float:
    from fastent.statistics.manifold_capacity import capacity_seconds

    return capacity_seconds(len(task.labels.classes), task.X.shape[1])


def _capacity_numbers(measured: Any) -> "Mapping[str, Estimate | float | None]":
    found = measured.capacity
    means = {name: float(getattr(found, name).mean()) for name in ("radius", "dimension")}
    return found.intervals | means  # type: ignore[no-any-return]


# In the order in which their statistics are shown.
METRICS: dict[str, Metric] = {
    "mixing": Metric(
        "Mixing among the nearest neighbours",
        {
            "overlap": "neighbours with the same label",
            "balanced_overlap": "the same, classes weighing equally",
            "chance": "overlap if labels were random",
            "balanced_chance": "balanced overlap if they were",
            "entropy": "of the neighbours' labels, nats",
            "error": "of the neighbours' majority vote",
            "hubness": "skewness of neighbour counts",
        },
        _mixing,
        neighbors="k",
        columns=(
            Column("purity"), Column("entropy"), Column("vote"), Column("occurrence", "rows"), Column("bad_occurrence", "rows"),
        ),
    ),
    "lisi": Metric(
        "Local inverse Simpson index",
        {"mean": "effective classes around a point"},
        _lisi,
        neighbors=round(3 * _PERPLEXITY),
        of_sample=True,
        sampled="LISI",
        numbers=lambda measured: {"mean": measured.lisi.interval},
        columns=(Column("lisi", "sampled", "per_point"),),
    ),
    "margins": Metric(
        "Margins",
        {
            "margin": "(miss - hit) / 2, in units of X",
            "relative": "(miss - hit) / (miss + hit), -1 to 1",
            "n2": "0 = apart, 0.5 = tangled",
            "n3": "nearest neighbour's error",
        },
        lambda task, inputs: inputs.near.margins,
        columns=tuple(map(Column, ("hit", "miss", "hit_index", "miss_index", "margin", "relative"))),
    ),
    "silhouette": Metric(
        "Silhouettes",
        {
            "exact": "1 = separate, -1 = in another class",
            "simplified": "the same, to class means",
            "squared": "the same, squared distances",
        },
        _silhouette,
        prepare=_distance_sums,
        needs=("geometry",),
        pairwise=True,
        sampled="silhouettes",
        workspace=lambda task, q: 32 * q * len(task.labels.classes),
        columns=(
            Column("silhouette_simplified", "rows", "simplified"), Column("silhouette_squared", "rows", "squared"),
            Column("silhouette", "sampled", "exact"),
        ),
    ),
    "soft_nearest_neighbor": Metric(
        "Soft nearest neighbour loss",
        {"loss": "-log own class's share, at this T", "temperature": "in squared units of X"},
        _soft_nearest_neighbor,
        prepare=_similarity_sums,
        pairwise=True,
        sampled="soft nearest neighbours",
        numbers=lambda measured: {"loss": measured.soft_nearest_neighbor.interval},
        columns=(Column("soft_nearest_neighbor", "sampled", "per_point"),),
    ),
    "geometry": Metric(
        "Geometry of the classes",
        {
            "radius": "mean gyration radius of classes",
            "distance": "mean distance of class means",
            "fisher": "between over within scatter",
            "calinski_harabasz": "the same per degree of freedom",
            "davies_bouldin": "0 = separate",
            "cdnv": "0 = collapsed; mean over pairs",
            "nc1": "0 = collapsed",
            "nc2_norm_spread": "0 = simplex: norms of means",
            "nc2_angle_deviation": "0 = simplex: angles of means",
            "participation_ratio": "directions that points vary in",
        },
        lambda task, inputs: inputs.prepared["geometry"].geometry,
        prepare=_means_passes,
        row_bytes=152,
        workspace=_geometry_workspace,
        numbers=_geometry_numbers,
    ),
    "dimension": Metric(
        "Intrinsic dimension",
        {
            "twonn": "from two neighbours, a fit",
            "twonn-ml": "from two, maximum likelihood",
            "mle": "from k neighbours",
            "gride": "from neighbours k / 2 and k",
        },
        _dimension,
        neighbors="k",
        numbers=_dimension_numbers,
    ),
    "complexity": Metric(
        "Complexity of the border",
        {
            "n1": "points on the border",
            "n2": "0 = apart, 0.5 = tangled",
            "n3": "nearest neighbour's error",
            "n4": "the same, between pairs of a class",
            "t1": "spheres that cover the classes / n",
            "lsc": "1 - mean share in a local set",
            "f1": "0 = one feature separates the classes",
        },
        _complexity,
        needs=("margins", "geometry"),
        neighbors=8,
        fewer_neighbors=True,
        pairwise=True,
        sampled="local sets",
        columns=(Column("border", "rows"), Column("sphere_radius", "rows", "radius"), Column("local_set", "sampled")),
    ),
    "capacity": Metric(
        "Manifold capacity",
        {
            "capacity": "classes told apart for each feature",
            "mean_field": "the same, if classes lay independently",
            "radius": "mean of classes, in lengths of centres",
            "dimension": "mean of classes, as a readout meets them",
        },
        _capacity,
        by_name_only=True,
        seconds=_capacity_seconds,
        numbers=_capacity_numbers,
    ),
}  # fmt: skip
MEANINGS = {f"{name}/{statistic}": says for name, metric in METRICS.items() for statistic, says in metric.statistics.items()}
