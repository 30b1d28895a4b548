"""What measure() is asked for, who meets whom, and what that takes: settled from sizes alone, before anything is computed."""

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.cluster import as_shared_source
from fastent.arrays.queries import query_rows
from fastent.arrays.validation import (
    Labels,
    UnitRows,
    as_features,
    as_labels,
    in_memory,
    row_blocks,
    stays_on_disk,
)
from fastent.errors import FastentError
from fastent.io.result_cache import Arrays, PartialResult, ResultCache
from fastent.io.sources import part_bytes
from fastent.measurement.result import Stage
from fastent.options import flag, short_repr, whole_number
from fastent.printable import printable
from fastent.runtime.memory import budget_bytes, check_fits
from fastent.runtime.progress import Progress
from fastent.runtime.threads import working_threads
from fastent.search.exact_index import index_bytes
from fastent.search.index import Among, Wanted
from fastent.search.planner import IndexKind, IndexPlan, plan_index
from fastent.search.sweep import LabelledPoints, sweep_bytes
from fastent.statistics.complexity import INTERPOLATED
from fastent.statistics.soft_nearest_neighbor import Temperature, checked_temperature

__all__ = ["CHECKPOINT", "METRICS", "OF_K", "Metric", "Plan", "Task", "prepared"]

Array = NDArray[Any]
Metric = Literal["geometry", "mixing", "lisi", "dimension", "margins", "silhouette", "soft_nearest_neighbor", "complexity"]
METRICS: tuple[Metric, ...] = (
    "geometry", "mixing", "lisi", "dimension", "margins", "silhouette", "soft_nearest_neighbor", "complexity",
)  # fmt: skip
T = TypeVar("T")

# The folder, within the one that users name, in which parts of a measurement are kept.
CHECKPOINT = "measure-parts"
# Metrics that take k neighbours, and those that take all pairs.
OF_K, PAIRWISE = frozenset({"mixing", "dimension"}), frozenset({"silhouette", "soft_nearest_neighbor", "complexity"})
# Up to so many points all pairs are met; beyond, so many queries meet all points.
_ALL_PAIRS, _SAMPLE = 100_000, 20_000
_LISI_NEIGHBOURS, _TREE_NEIGHBOURS = 90, 8
# Bytes that labels, counts and results take for a row, and more where its distances to the means are kept.
_KEPT, _KEPT_OF_GEOMETRY = 48, 152
# Nanoseconds for a pair on one core of Zen 4, and for each of its features: for what is said beforehand.
_PAIR, _FEATURE = 1.5, 0.022
# What takes longer is announced, in seconds.
_SLOW = 60


class Plan(NamedTuple):
    """Whose neighbours are found, and which rows meet all rows (None for all rows); what neighbours are found with."""

    rows: NDArray[np.int64] | None
    sampled: NDArray[np.int64] | None
    index_plan: IndexPlan
    notes: tuple[str, ...]

    @property
    def way(self) -> IndexKind:
        return self.index_plan.kind


class Task(NamedTuple):
    """What is to be measured, checked."""

    X: Array
    points: LabelledPoints
    classes: NDArray[Any]
    wanted: frozenset[str]
    named: bool
    k: int
    k_largest: int
    normalize: bool
    temperature: Temperature
    memory: int
    memory_budget: int | str | None
    seed: int
    progress: Progress
    notes: list[str]
    stages: list[Stage]
    parts: ResultCache
    depends_on: dict[str, Any]
    client: Any

    @property
    def labels(self) -> Labels:
        return Labels(self.points.codes, self.classes)

    @property
    def searched(self) -> bool:
        return bool(self.k_largest) or "margins" in self.wanted

    @property
    def ks(self) -> Wanted:
        """How many neighbours are wanted among which rows."""
        wanted: dict[Among, int] = {"all": self.k_largest} if self.k_largest else {}
        return wanted | {"own class": 1, "other classes": 1} if "margins" in self.wanted else wanted

    @property
    def meets_rows_again(self) -> bool:
        """Whether more is done with rows than to go through them."""
        return self.searched or bool(self.wanted & PAIRWISE)

    def with_rows(self, X: Array) -> "Task":
        """The same of rows that lie elsewhere."""
        return self._replace(X=X, points=self.points._replace(X=_measured(X, self.normalize)))

    def identified(self, plan: Plan) -> "Task":
        """With all that the result depends on, to which kept parts belong; X is read once where any are kept."""
        if not self.parts.keeps:
            return self
        blocks = (block for _, block in row_blocks(self.X))
        digest = _digest(*blocks, self.points.codes, plan.rows, plan.sampled)
        names = ("k", "k_largest", "normalize", "temperature", "seed")
        return self._replace(
            depends_on={
                "data": digest,
                "wanted": sorted(self.wanted),
                "way": plan.way,
                "threads": "any",  # no number depends on how many there are
                **{name: getattr(self, name) for name in names},
            }
        )

    @property
    def bytes_kept(self) -> int:
        """What labels, counts and results take."""
        return (_KEPT + _KEPT_OF_GEOMETRY * ("geometry" in self.wanted)) * len(self.X)

    def kept(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        """A part of the result, made now unless an earlier call or process has made it."""
        return self.parts.keep(name, self.depends_on, make)

    def unfinished(self, name: str, order: NDArray[np.int64] | None = None) -> PartialResult:
        """Where a long part keeps what it has so far, which may depend on the order in which it goes through the rows."""
        way = {"spread": self.client is not None, "order": None if order is None else _digest(order)}
        return self.parts.unfinished(name, self.depends_on | way)

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


def prepared(
    X: Any,
    labels: Any,
    *,
    k: int,
    queries: Any,
    metrics: Any,
    normalize: bool,
    temperature: Temperature,
    memory_budget: int | str | None,
    checkpoint: str | os.PathLike[str] | None,
    client: Any,
    seed: int,
    progress: Progress,
) -> tuple[Task, Plan]:
    """Check what `measure` was given, all but X's values, and settle who meets whom; what will be slow or left out is said."""
    wanted, named = _wanted(metrics)
    normalize = flag("normalize", normalize)
    temperature, seed = checked_temperature(temperature), whole_number("seed", seed, minimum=0)
    features = as_shared_source(as_features(X), client)
    n, d = features.shape
    notes: list[str] = []
    coded = as_labels(labels, n=n, minimum_classes=2, notes=notes)
    asked = query_rows(queries, n, d, seed=seed, what="measure")
    k = whole_number("k", k, minimum=2 if wanted & OF_K else 1)
    for metric, needed in (("mixing", k), ("dimension", k), ("lisi", _LISI_NEIGHBOURS)):
        if metric in wanted and n <= needed:
            reason = f"takes {needed} neighbours, and each of {n} rows has {n - 1}"
            if named:
                raise FastentError(f"{metric} {reason}: pass more rows{', or lower k' * (needed == k)}")
            notes.append(f"no {metric}: it {reason}")
            wanted -= {metric}
    near = bool(wanted & OF_K)
    task = Task(
        X=features,
        points=LabelledPoints(_measured(features, normalize), coded.codes, 1.0, len(coded.classes)),
        classes=coded.classes,
        wanted=wanted,
        named=named,
        k=k,
        k_largest=max(k * near, _LISI_NEIGHBOURS * ("lisi" in wanted), min(_TREE_NEIGHBOURS, n - 1) * ("complexity" in wanted)),
        normalize=normalize,
        temperature=temperature,
        memory=budget_bytes(memory_budget),
        memory_budget=memory_budget,
        seed=seed,
        progress=progress,
        notes=notes,
        stages=[],
        parts=ResultCache(checkpoint, name=CHECKPOINT, compress=False),
        depends_on={},
        client=client,
    )
    plan = _planned(task, asked)
    notes.extend(plan.notes)
    if plan.way == "index" and task.meets_rows_again:
        task = task.with_rows(in_memory(features))
    if progress is True:
        for note in plan.notes:
            print(printable(f"fastent: {note}"), file=sys.stderr)
    return task, plan


def _digest(*arrays: Array | None) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(b"all" if array is None else np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()


def _measured(X: Array, normalize: bool) -> Array:
    return cast(Array, UnitRows(X)) if normalize else X


def _wanted(metrics: Any) -> tuple[frozenset[str], bool]:
    if isinstance(metrics, str) and metrics == "all":
        return frozenset(METRICS), False
    several = isinstance(metrics, Iterable) and not isinstance(metrics, str) and getattr(metrics, "shape", None) != ()
    names: list[Any] = list(metrics) if several else [metrics]
    strange = [name for name in names if not isinstance(name, str) or name not in METRICS]
    if strange or not names:
        raise FastentError(f"metrics={short_repr(metrics)}: choose 'all' or some of {', '.join(map(repr, METRICS))}")
    wanted = set(names)
    if "complexity" in wanted:
        wanted |= {"margins", "geometry"}
    if "silhouette" in wanted:
        wanted |= {"geometry"}
    return frozenset(wanted), True


def _planned(task: Task, asked: NDArray[np.int64] | None) -> Plan:
    """Who meets whom, from sizes alone; what will be sampled or slow is said."""

    (n, d), wanted = task.X.shape, task.wanted
    pairwise = bool(wanted & PAIRWISE)
    q = n if asked is None else len(asked)
    meeting = _SAMPLE if asked is None and pairwise and n > _ALL_PAIRS else q

    def planned(q: int, meeting: int) -> tuple[IndexPlan, int]:
        """How rows are searched, and the memory that everything takes."""
        # Lists, and for silhouettes sums of distances to every class.
        kept = task.bytes_kept + 32 * q * (task.k_largest + len(task.classes) * ("silhouette" in wanted))
        if "geometry" in wanted:
            kept += working_threads() * (16 * d * d + 3 * part_bytes(task.X)) + 128 * len(task.classes) * d
        if not task.meets_rows_again:
            return IndexPlan("index", 0, q, task.memory, task.client), int(kept)
        kept += sweep_bytes(task.points.X, meeting) * pairwise
        read_once = asked is not None and (pairwise or stays_on_disk(task.X))
        index = plan_index(
            task.points.X, q, task.ks,
            memory=int(task.memory - kept), client=task.client, pairs_met=pairwise, read_once=read_once,
        )  # fmt: skip
        return index, int(kept + index.bytes)

    notes: list[str] = []
    index = planned(q, meeting)[0]
    if index.kind == "sweep" and asked is None:
        if n > (_SAMPLE if task.client is None else _ALL_PAIRS):
            asked = query_rows(_SAMPLE, n, d, seed=task.seed, what="measure")
            notes.append(
                f"{_SAMPLE:,} of {n:,} rows are sampled: "
                + (
                    f"an index of all takes {index_bytes(task.points.X, q, sum(task.ks.values())) / 2**30:.1f} GiB of memory"
                    if task.client is None
                    else "to meet all rows"
                )
            )
        else:
            asked = np.arange(n)
    sampled = asked
    if asked is None and pairwise and n > _ALL_PAIRS:
        sampled = query_rows(_SAMPLE, n, d, seed=task.seed, what="measure")
        notes.append(f"{_SAMPLE:,} of {n:,} rows are sampled for silhouettes, soft nearest neighbours and local sets")
    if sampled is not None and "complexity" in wanted:
        all_asked = asked is not None and len(asked) == n
        rows = "an index of all rows" if all_asked else "all rows"
        notes.append("no T1: it takes all pairs" if asked is None else f"no N1 and no T1: they take {rows}")
    q, meeting = n if asked is None else len(asked), n if sampled is None else len(sampled)
    if pairwise:
        made_up = min(n, INTERPOLATED) * (index.kind == "sweep" and "complexity" in wanted)
        pairs = n * (n / 2 if sampled is None else meeting + made_up)
        seconds = pairs * (_PAIR + _FEATURE * d) * 1e-9 / working_threads()
        if seconds > _SLOW:
            notes.append(f"{pairs:.2g} pairs of {d} features will be met, which takes about {_duration(seconds)}")
    index, needed = planned(q, meeting)
    check_fits(
        needed,
        f"measuring {n} x {d} points",
        "use fewer queries, fewer metrics, or more memory",
        task.memory_budget,
    )
    return Plan(asked, sampled, index, tuple(notes))


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
