"""What measure() is asked for, who meets whom, and what that takes: settled from sizes and labels, before all computing."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import stays_on_disk
from fastent.errors import FastentError
from fastent.measurement.metrics import METRICS, Metric
from fastent.measurement.task import Plan, Task
from fastent.options import short_repr
from fastent.runtime.formatting import duration
from fastent.runtime.memory import check_fits
from fastent.runtime.threads import working_threads
from fastent.search.cells.plan import lists_go_to_disk
from fastent.search.index import Among, Wanted
from fastent.search.index_costs import index_bytes
from fastent.search.planner import IndexPlan, plan_index
from fastent.search.sweep import sweep_bytes
from fastent.statistics.complexity import INTERPOLATED
from fastent.statistics.notes import sentence_list
from fastent.statistics.strata import Strata, fewest_rows, stratified_rows

__all__ = ["CHECKPOINT", "KEPT_BYTES", "leave_out", "lists_for", "metric_names", "planned", "wanted_metrics"]

# The folder, within the one that users name, in which parts of a measurement are kept.
CHECKPOINT = "measure-parts"
# Up to so many points all pairs are met, and all have the longest lists of neighbours; beyond, so many queries do.
_ALL_PAIRS, _SAMPLE = 100_000, 20_000
# Bytes that labels, counts and results take for a row.
KEPT_BYTES = 48
# Bytes of labels and class codes for a row.
_CODE_BYTES = 16
# Nanoseconds for a pair on one core of Zen 4, and for each of its features: for what is said beforehand.
_PAIR, _FEATURE = 1.5, 0.022
# What takes longer is announced, in seconds.
_SLOW = 60


def metric_names(metrics: Any) -> list[Any]:
    """What was asked for, one name or several, "all" among them or not; nothing is checked."""
    several = isinstance(metrics, Iterable) and not isinstance(metrics, str) and getattr(metrics, "shape", None) != ()
    return list(metrics) if several else [metrics]


def wanted_metrics(metrics: Any) -> tuple[dict[str, Metric], bool]:
    """The metrics asked for, with those that they need, and whether they were named: all that are not by name only were not."""
    names = metric_names(metrics)
    strange = [name for name in names if not isinstance(name, str) or name not in (*METRICS, "all")]
    if strange or not names:
        raise FastentError(f"metrics={short_repr(metrics)}: choose 'all' or some of {', '.join(map(repr, METRICS))}")
    named = "all" not in names
    if not named:
        names += [name for name, metric in METRICS.items() if not metric.by_name_only]
    needed = {need for name in names if name != "all" for need in METRICS[name].needs}
    return {name: metric for name, metric in METRICS.items() if name in names or name in needed}, named


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


def lists_for(wanted: dict[str, Metric], n: int, k: int) -> Wanted:
    """How many neighbours the metrics take together, among which rows."""
    k_largest = max((min(metric.neighbors_for(k), n - 1) for metric in wanted.values()), default=0)
    lists: dict[Among, int] = {"all": k_largest} if k_largest else {}
    return lists | {"own class": 1, "other classes": 1} if "margins" in wanted else lists


class _Searches(NamedTuple):
    """Whose neighbours are sought, as in `Plan`."""

    rows: NDArray[np.int64] | None
    sampled: NDArray[np.int64] | None
    strata: Strata | None
    lists: Wanted
    of_sample: int = 0

    def sizes(self, n: int) -> tuple[int, int]:
        """How many queries there are, and how many of them meet all rows."""
        return n if self.rows is None else len(self.rows), n if self.sampled is None else len(self.sampled)


def planned(task: Task, asked: NDArray[np.int64] | None) -> Plan:
    """Who meets whom, from sizes and labels; what will be sampled or slow is said."""
    n, d = task.X.shape
    of_sample = [metric.sampled for name, metric in METRICS.items() if name in task.wanted and metric.sampled]
    searches = _Searches(asked, asked, None, task.lists)
    if asked is None and of_sample and n > _ALL_PAIRS:
        searches = _with_sample(task)
    notes: list[str] = []
    index = _searched(task, searches)[0]
    if index.kind == "sweep" and asked is None:
        if n > (_SAMPLE if task.client is None else _ALL_PAIRS):
            asked, strata = _sample(task)
            needed = index_bytes(task.points.X, n, sum(searches.lists.values()))
            no_index = f"an index of all takes {needed / 2**30:.1f} GiB of memory"
            notes.append(f"{_drawn(task, strata)}: {no_index if task.client is None else 'to meet all rows'}")
        else:
            asked, strata = np.arange(n), None
        searches = _Searches(asked, asked, strata, task.lists)
    sampled = searches.sampled
    if sampled is not None and asked is None:
        comma = "" if searches.strata is None else ","
        notes.append(f"{_drawn(task, searches.strata)}{comma} for {sentence_list(of_sample)}")
    if sampled is not None and "complexity" in task.wanted:
        all_asked = asked is not None and len(asked) == n
        rows = "an index of all rows" if all_asked else "all rows"
        notes.append("no T1: it takes all pairs" if asked is None else f"no N1 and no T1: they take {rows}")
    if task.pairwise:
        made_up = min(n, INTERPOLATED) * (index.kind == "sweep" and "complexity" in task.wanted)
        pairs = n * (n / 2 if sampled is None else len(sampled) + made_up)
        seconds = pairs * (_PAIR + _FEATURE * d) * 1e-9 / working_threads()
        if seconds > _SLOW:
            notes.append(f"{pairs:.2g} pairs of {d} features will be met, which takes about {duration(seconds)}")
    for metric in (METRICS[name] for name in METRICS if name in task.wanted):
        seconds = 0 if metric.seconds is None else metric.seconds(task)
        if seconds > _SLOW:
            notes.append(f"{metric.title[0].lower()}{metric.title[1:]} takes about {duration(seconds)}")
    index, needed = _searched(task, searches)
    check_fits(
        needed,
        f"measuring {n} x {d} points",
        "use fewer queries, fewer metrics, or more memory",
        task.memory_budget,
    )
    return Plan(*searches, index, tuple(notes))


def _sample(task: Task) -> tuple[NDArray[np.int64], Strata | None]:
    return stratified_rows(task.points.codes, task.points.n_classes, _SAMPLE, task.seed)


def _drawn(task: Task, strata: Strata | None) -> str:
    sampled = f"{_SAMPLE:,} of {len(task.X):,} rows are sampled"
    if strata is None:  # too many classes
        return sampled
    return f"{sampled}, each class in proportion and no fewer than {fewest_rows(task.points.n_classes, _SAMPLE)}"


def _with_sample(task: Task) -> _Searches:
    """All rows, with lists as long as the metrics of all rows need; longer ones only of a sample."""
    longest = task.lists.get("all", 0)
    return _Searches(None, *_sample(task), task.lists_of_all, longest * (longest > task.lists_of_all.get("all", 0)))


def _searched(task: Task, searches: _Searches) -> tuple[IndexPlan, int]:
    """How rows are searched, and the memory that everything takes."""
    X, pairwise, lists = task.points.X, task.pairwise, searches.lists
    q, meeting = searches.sizes(len(task.X))
    wanted: Wanted = lists or {"all": searches.of_sample} if searches.of_sample else lists
    workspaces = (metric.workspace for name, metric in METRICS.items() if name in task.wanted)
    kept = task.bytes_kept + sum(bytes_for(task, meeting) for bytes_for in workspaces if bytes_for)
    kept += 32 * meeting * searches.of_sample
    if searches.of_sample and lists:  # the sampled queries as an index has them
        kept += index_bytes(X, meeting, searches.of_sample) - index_bytes(X, 0, 0)
    elif searches.of_sample:
        q = meeting
    of_lists = 32 * q * lists.get("all", 0)
    if not (wanted or pairwise):
        return IndexPlan("index", 0, 1, False, False, task.memory, task.client), int(kept + of_lists)
    kept += sweep_bytes(X, meeting) * pairwise

    def choose(memory: float, *, in_cells: bool = False) -> IndexPlan:
        return plan_index(
            X, q, wanted, memory=int(memory), client=task.client, scratch=task.scratch, pairs_met=pairwise, in_cells=in_cells,
            read_once=searches.rows is not None and (pairwise or stays_on_disk(task.X)), searched_once=not pairwise,
        )  # fmt: skip

    index = choose(task.memory - kept - of_lists)
    if index.kind != "cells":
        return index, int(kept + of_lists + index.bytes)
    # What cells take is free again when statistics are taken of the lists.
    labels = _CODE_BYTES * len(task.X)
    index = choose(task.memory - labels, in_cells=True)
    statistics = kept + of_lists * (not lists_go_to_disk(q, wanted, task.memory - labels))
    return index, int(max(labels + index.bytes, statistics))
