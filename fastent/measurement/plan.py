"""What measure() is asked for, who meets whom, and what that takes: settled from sizes alone, before anything is computed."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.queries import query_rows
from fastent.arrays.validation import stays_on_disk
from fastent.errors import FastentError
from fastent.measurement.metrics import METRICS, Metric
from fastent.measurement.task import Plan, Task
from fastent.options import short_repr
from fastent.runtime.memory import check_fits
from fastent.runtime.threads import working_threads
from fastent.search.exact_index import index_bytes
from fastent.search.planner import IndexPlan, plan_index
from fastent.search.sweep import sweep_bytes
from fastent.statistics.complexity import INTERPOLATED

__all__ = ["CHECKPOINT", "KEPT_BYTES", "leave_out", "planned", "wanted_metrics"]

# The folder, within the one that users name, in which parts of a measurement are kept.
CHECKPOINT = "measure-parts"
# Up to so many points all pairs are met; beyond, so many queries meet all points.
_ALL_PAIRS, _SAMPLE = 100_000, 20_000
# Bytes that labels, counts and results take for a row.
KEPT_BYTES = 48
# Nanoseconds for a pair on one core of Zen 4, and for each of its features: for what is said beforehand.
_PAIR, _FEATURE = 1.5, 0.022
# What takes longer is announced, in seconds.
_SLOW = 60


def wanted_metrics(metrics: Any) -> tuple[dict[str, Metric], bool]:
    """The metrics asked for, with those that they need, and whether they were named."""
    if isinstance(metrics, str) and metrics == "all":
        return dict(METRICS), False
    several = isinstance(metrics, Iterable) and not isinstance(metrics, str) and getattr(metrics, "shape", None) != ()
    names: list[Any] = list(metrics) if several else [metrics]
    strange = [name for name in names if not isinstance(name, str) or name not in METRICS]
    if strange or not names:
        raise FastentError(f"metrics={short_repr(metrics)}: choose 'all' or some of {', '.join(map(repr, METRICS))}")
    needed = {need for name in names for need in METRICS[name].needs}
    return {name: metric for name, metric in METRICS.items() if name in names or name in needed}, True


def leave_out(wanted: dict[str, Metric], n: int, k: int, named: bool) -> Iterator[str]:
    """Drop the metrics that take more neighbours than n rows have, or refuse them to those who named them."""
    for name, metric in list(wanted.items()):
        needed = metric.neighbors_for(k)
        if n <= needed and not metric.fewer_neighbors:
            reason = f"takes {needed} neighbours, and each of {n} rows has {n - 1}"
            if named:
                raise FastentError(f"{name} {reason}: pass more rows{', or lower k' * (needed == k)}")
            yield f"no {name}: it {reason}"
            del wanted[name]


def planned(task: Task, asked: NDArray[np.int64] | None) -> Plan:
    """Who meets whom, from sizes alone; what will be sampled or slow is said."""
    (n, d), pairwise = task.X.shape, task.pairwise
    q = n if asked is None else len(asked)
    meeting = _SAMPLE if asked is None and pairwise and n > _ALL_PAIRS else q

    def searched(q: int, meeting: int) -> tuple[IndexPlan, int]:
        """How rows are searched, and the memory that everything takes."""
        workspaces = (metric.workspace for name, metric in METRICS.items() if name in task.wanted)
        kept = task.bytes_kept + 32 * q * task.k_largest + sum(bytes_for(task, q) for bytes_for in workspaces if bytes_for)
        if not (task.lists or pairwise):
            return IndexPlan("index", 0, q, task.memory, task.client), int(kept)
        kept += sweep_bytes(task.points.X, meeting) * pairwise
        read_once = asked is not None and (pairwise or stays_on_disk(task.X))
        index = plan_index(
            task.points.X, q, task.lists,
            memory=int(task.memory - kept), client=task.client, pairs_met=pairwise, read_once=read_once,
        )  # fmt: skip
        return index, int(kept + index.bytes)

    notes: list[str] = []
    index = searched(q, meeting)[0]
    if index.kind == "sweep" and asked is None:
        if n > (_SAMPLE if task.client is None else _ALL_PAIRS):
            asked = query_rows(_SAMPLE, n, d, seed=task.seed, what="measure")
            notes.append(
                f"{_SAMPLE:,} of {n:,} rows are sampled: "
                + (
                    f"an index of all takes {index_bytes(task.points.X, q, sum(task.lists.values())) / 2**30:.1f} GiB of memory"
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
    if sampled is not None and "complexity" in task.wanted:
        all_asked = asked is not None and len(asked) == n
        rows = "an index of all rows" if all_asked else "all rows"
        notes.append("no T1: it takes all pairs" if asked is None else f"no N1 and no T1: they take {rows}")
    q, meeting = n if asked is None else len(asked), n if sampled is None else len(sampled)
    if pairwise:
        made_up = min(n, INTERPOLATED) * (index.kind == "sweep" and "complexity" in task.wanted)
        pairs = n * (n / 2 if sampled is None else meeting + made_up)
        seconds = pairs * (_PAIR + _FEATURE * d) * 1e-9 / working_threads()
        if seconds > _SLOW:
            notes.append(f"{pairs:.2g} pairs of {d} features will be met, which takes about {_duration(seconds)}")
    index, needed = searched(q, meeting)
    check_fits(
        needed,
        f"measuring {n} x {d} points",
        "use fewer queries, fewer metrics, or more memory",
        task.memory_budget,
    )
    return Plan(asked, sampled, index, tuple(notes))


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
