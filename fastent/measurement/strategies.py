"""Ways through the data: neighbours from an index of all rows, of cells or chunks, from a scan, or from a sweep over pairs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.measurement.task import Plan, Task
from fastent.search.exact_index import ExactIndex
from fastent.search.index import Among, Index, NeighborLists, first_of_class
from fastent.search.planner import IndexKind
from fastent.search.spanning_tree import SpanningTree, minimum_spanning_tree
from fastent.search.sweep import Reduction, sweep
from fastent.search.top_k import NearerCounts, SweptIndex
from fastent.statistics.complexity import Spheres, errors_between, spheres
from fastent.statistics.margins import Margins, margins_from

__all__ = ["STRATEGIES", "Border", "Near"]


class Near(NamedTuple):
    """What was found of the queries' nearest rows: lists of neighbours, and longer ones of the sampled rows; margins; squared
    misses (q,)."""

    all: NeighborLists | None = None
    of_sample: NeighborLists | None = None
    margins: Margins | None = None
    squared_misses: NDArray[np.float64] = np.empty(0)


class Border(NamedTuple):
    """What tells how complex the border between classes is; the last two take all rows."""

    local_sets: NearerCounts
    wrong: NDArray[np.bool_]
    covering: Spheres | None = None
    tree: SpanningTree | None = None


def indexed(task: Task, plan: Plan, sums: Sequence[Reduction]) -> tuple[Near, Border | None]:
    """Nearest rows from an index of all; what needs all pairs from one sweep, and lists of neighbours with it."""
    points, near, border = task.points, Near(), None
    index = order = None
    # All pairs are met: near ones come out of that.
    from_sweep = plan.k if sums and plan.sampled is None else 0
    if plan.lists or plan.of_sample:
        with task.stage("index", passes=2):
            index = plan.index_plan.build(points.X, classes=points.codes, seed=task.seed)
        assert isinstance(index, ExactIndex)
        order = index.order
        k = 0 if from_sweep else plan.k
        if k or "margins" in task.wanted:
            with task.stage("neighbours"):
                near = _search(task, plan, index, k)
        if plan.of_sample:
            near = near._replace(of_sample=_of_sample(task, plan, index))
        border = _border(task, index, plan, near) if "complexity" in task.wanted else None
    reductions = [*sums, *([] if border is None else [border.local_sets])]
    if reductions:
        unfinished = task.unfinished("pairs", order)
        with task.stage("all pairs", passes=1):
            if from_sweep:
                swept = SweptIndex(points, alongside=reductions, order=order, unfinished=unfinished)
                near = near._replace(all=swept.nearest(from_sweep, progress=task.progress))
            else:
                sweep(
                    points, plan.sampled, reductions,
                    within_classes=not sums, order=order, progress=task.progress, unfinished=unfinished,
                )  # fmt: skip
    known = near.all
    if border is not None and index is not None and known is not None:
        with task.stage("spanning tree"):
            tree = task.kept("tree", lambda: minimum_spanning_tree(index, known, task.progress)._asdict())
        border = border._replace(tree=SpanningTree(**tree))
    return near, border


def chunked(task: Task, plan: Plan, sums: Sequence[Reduction]) -> tuple[Near, Border | None]:
    """Neighbours chunk by chunk or cell by cell, or from a scan; nothing else is wanted that takes pairs."""
    codes = task.points.codes if "margins" in task.wanted else None
    near = Near()
    if plan.lists:
        with task.stage("neighbours", passes=1):
            index = plan.index_plan.build(task.points.X, classes=codes, unfinished=task.unfinished("neighbours"))
            near = _near(task, plan, index.search(plan.lists, plan.rows, progress=task.progress))
    if plan.of_sample:
        index = plan.index_plan.build(task.points.X, unfinished=task.unfinished("neighbours-of-sample"))
        near = near._replace(of_sample=_of_sample(task, plan, index, passes=1))
    return near, None


def _border(task: Task, index: Index, plan: Plan, near: Near) -> Border:
    points = task.points
    assert near.margins is not None
    with task.stage("interpolated points"):
        wrong = errors_between(index, points, task.seed)
    squared = near.squared_misses if plan.sampled is None else near.squared_misses[plan.sampled]
    covering = None
    if plan.sampled is None:
        with task.stage("spheres", passes=1):
            covering = spheres(points, near.margins)
    return Border(NearerCounts(squared), wrong, covering)


def streamed(task: Task, plan: Plan, sums: Sequence[Reduction]) -> tuple[Near, Border | None]:
    """Neighbours from the sweep in which queries meet all rows; local sets, for which these must be known, from another."""
    points, rows = task.points, plan.rows
    assert rows is not None
    with task.stage("all pairs", passes=1):
        index = SweptIndex(points, alongside=sums, unfinished=task.unfinished("pairs"), client=task.client)
        near = _near(task, plan, index.search(plan.lists, rows, progress=task.progress))
    if "complexity" not in task.wanted:
        return near, None
    local_sets = NearerCounts(near.squared_misses)
    with task.stage("local sets", passes=1):
        sweep(
            points, rows, [local_sets],
            within_classes=True, progress=task.progress, description="local sets",
            unfinished=task.unfinished("local-sets"), client=task.client,
        )  # fmt: skip
    with task.stage("interpolated points", passes=1):
        index = SweptIndex(
            points, description="interpolated points", unfinished=task.unfinished("interpolated"), client=task.client
        )
        wrong = errors_between(index, points, task.seed, task.progress)
    return near, Border(local_sets, wrong)


STRATEGIES: dict[IndexKind, Callable[[Task, Plan, Sequence[Reduction]], tuple[Near, Border | None]]] = {
    "index": indexed,
    "scan": chunked,
    "chunks": chunked,
    "cells": chunked,
    "sweep": streamed,
}


def _near(task: Task, plan: Plan, lists: dict[Among, NeighborLists]) -> Near:
    near = Near(lists.get("all"))
    if "margins" not in task.wanted:
        return near
    rows = np.arange(len(task.X)) if plan.rows is None else plan.rows
    hits, misses = lists["own class"], lists["other classes"]
    margins = margins_from(rows, hits, misses, task.labels, unit=False, population=plan.of_queries(len(task.X)))
    return near._replace(margins=margins, squared_misses=misses.squared[:, 0])


def _search(task: Task, plan: Plan, index: Index, k: int) -> Near:
    """Lists from an index of all rows, each of them kept."""
    lists: dict[Among, NeighborLists] = {}
    if k:
        lists["all"] = _kept(task, "lists", lambda: index.nearest(k, plan.rows, progress=task.progress))
    known = lists.get("all")
    if "margins" in task.wanted:
        among: Among
        for among in ("own class", "other classes"):
            lists[among] = _kept(task, among.replace(" ", "-"), partial(_first, task, plan, index, known, among))
    return _near(task, plan, lists)


def _of_sample(task: Task, plan: Plan, index: Index, passes: int = 0) -> NeighborLists:
    """Lists of the sampled rows that are longer than those of all rows."""
    with task.stage("neighbours of the sample", passes):
        return _kept(task, "lists-of-sample", lambda: index.nearest(plan.of_sample, plan.sampled, progress=task.progress))


def _kept(task: Task, name: str, find: Callable[[], NeighborLists]) -> NeighborLists:
    kept = task.kept(name, lambda: dict(zip(("squared", "index"), find(), strict=True)))
    return NeighborLists(kept["squared"], kept["index"])


def _first(task: Task, plan: Plan, index: Index, lists: NeighborLists | None, among: Among) -> NeighborLists:
    """The nearest row of the own class, or of another, from lists of neighbours where there are any."""
    if lists is None:
        return index.nearest(1, plan.rows, among=among, progress=task.progress)
    return first_of_class(index, among, lists, task.points.codes, plan.rows, progress=task.progress)
