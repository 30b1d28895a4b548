"""Three ways through the data: neighbours from an index of all rows, from chunks, or from the sweep in which rows meet all."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.io.result_cache import Arrays
from fastent.measurement.plan import Plan, Task, Way
from fastent.runtime.progress import Progress
from fastent.search.exact_index import ExactIndex
from fastent.search.out_of_core import nearest_by_chunks
from fastent.search.spanning_tree import SpanningTree, minimum_spanning_tree
from fastent.search.sweep import sweep
from fastent.search.top_k import Among, NearestLists
from fastent.statistics.complexity import LocalSets, interpolated_points
from fastent.statistics.hyperspheres import Spheres, spheres
from fastent.statistics.margins import Found, Margins, margins_from

__all__ = ["WAYS", "Border", "Near"]


class Near(NamedTuple):
    """What was found of the queries' nearest rows: squared distances and row numbers (q, k); margins; squared misses (q,)."""

    all: Found | None = None
    margins: Margins | None = None
    squared_misses: NDArray[np.float64] = np.empty(0)


class Border(NamedTuple):
    """What tells how complex the border between classes is; the last two take all rows."""

    local_sets: LocalSets
    wrong: NDArray[np.bool_]
    covering: Spheres | None = None
    tree: SpanningTree | None = None


def indexed(task: Task, plan: Plan, sums: list[Any]) -> tuple[Near, Border | None]:
    """Nearest rows from an index of all; what needs all pairs from one sweep, and lists of neighbours with it."""
    points = task.points

    def sweep_all(reductions: list[Any]) -> None:
        if reductions:
            with task.stage("all pairs", passes=1):
                sweep(
                    points, plan.sampled, reductions,
                    within_classes=not sums, order=order, progress=task.progress, unfinished=task.unfinished("pairs", order),
                )  # fmt: skip

    order = None
    if not task.searched:
        sweep_all(sums)
        return Near(), None
    with task.stage("index", passes=2):
        index = ExactIndex(points.X, codes=points.codes, seed=task.seed)
    order = index.order
    lists = None
    if sums and plan.sampled is None and task.k_largest:  # all pairs are met: near ones come out of that
        lists = NearestLists(len(task.X), task.k_largest, len(task.X))
    near = Near()
    k = 0 if lists is not None else task.k_largest
    if k or "margins" in task.wanted:
        with task.stage("neighbours"):
            near = _search(task, plan, index, k)
    border = _border(task, plan, index, near) if "complexity" in task.wanted else None
    reductions = sums + ([] if border is None else [border.local_sets])
    sweep_all(reductions if lists is None else [*reductions, lists])
    if lists is not None:
        near = near._replace(all=lists.found())
    if border is not None:
        with task.stage("spanning tree"):
            known = near.all
            tree = task.kept(
                "tree",
                lambda: minimum_spanning_tree(points.X, index=index, lists=known, progress=task.progress)._asdict(),
            )
        border = border._replace(tree=SpanningTree(**tree))
    return near, border


def chunked(task: Task, plan: Plan, sums: list[Any]) -> tuple[Near, Border | None]:
    """Neighbours from indices of chunks of rows, one after the other; nothing else is wanted that takes pairs."""
    n = len(task.X)
    rows = np.arange(n) if plan.rows is None else plan.rows
    codes = task.points.codes if "margins" in task.wanted else None
    with task.stage("neighbours", passes=1):
        found = nearest_by_chunks(
            task.points.X, rows, task.ks,
            codes=codes, memory=task.memory - task.bytes_kept,
            progress=task.progress, unfinished=task.unfinished("neighbours"), client=task.client,
        )  # fmt: skip
    near = Near(found.get("all"))
    if codes is not None:
        misses = found["other classes"]
        near = near._replace(
            margins=margins_from(rows, found["own class"], misses, task.labels, unit=False), squared_misses=misses[0][:, 0]
        )
    return near, None


def _border(task: Task, plan: Plan, index: ExactIndex, near: Near) -> Border:
    points = task.points
    assert near.margins is not None
    between = interpolated_points(points.X, points.codes, task.seed)
    with task.stage("interpolated points"):
        wrong = points.codes[index.nearest(1, between.X)[1][:, 0]] != between.codes
    squared = near.squared_misses if plan.sampled is None else near.squared_misses[plan.sampled]
    covering = None
    if plan.sampled is None:
        with task.stage("spheres", passes=1):
            covering = spheres(points, near.margins)
    return Border(LocalSets(points, squared), wrong, covering)


def streamed(task: Task, plan: Plan, sums: list[Any]) -> tuple[Near, Border | None]:
    """Neighbours from the sweep in which queries meet all rows; local sets, for which these must be known, from another."""
    points, n, rows = task.points, len(task.X), plan.rows
    assert rows is not None
    lists = NearestLists(len(rows), task.k_largest, n) if task.k_largest else None
    apart: list[NearestLists] = []
    if "margins" in task.wanted:
        apart = [NearestLists(len(rows), 1, n, among=among) for among in ("own class", "other classes")]
    with task.stage("all pairs", passes=1):
        reductions = [*sums, *([] if lists is None else [lists]), *apart]
        sweep(points, rows, reductions, progress=task.progress, unfinished=task.unfinished("pairs"), client=task.client)
    near = Near(None if lists is None else lists.found())
    if apart:
        hits, misses = (each.found() for each in apart)
        near = near._replace(margins=margins_from(rows, hits, misses, task.labels, unit=False), squared_misses=misses[0][:, 0])
    if "complexity" not in task.wanted:
        return near, None
    local_sets = LocalSets(points, near.squared_misses)
    with task.stage("local sets", passes=1):
        sweep(
            points, rows, [local_sets],
            within_classes=True, progress=task.progress, description="local sets",
            unfinished=task.unfinished("local-sets"), client=task.client,
        )  # fmt: skip
    between = interpolated_points(points.X, points.codes, task.seed)._replace(scale=points.scale)
    nearest = NearestLists(len(between.X), 1, n)
    with task.stage("interpolated points", passes=1):
        sweep(
            points, between, [nearest],
            progress=task.progress, description="interpolated points",
            unfinished=task.unfinished("interpolated"), client=task.client,
        )  # fmt: skip
    return near, Border(local_sets, points.codes[nearest.found()[1][:, 0]] != between.codes)


WAYS: dict[Way, Callable[[Task, Plan, list[Any]], tuple[Near, Border | None]]] = {
    "index": indexed,
    "chunks": chunked,
    "sweep": streamed,
}


def _search(task: Task, plan: Plan, index: ExactIndex, k: int) -> Near:
    points = task.points
    rows = np.arange(len(task.X)) if plan.rows is None else plan.rows

    def lists() -> Arrays:
        return dict(zip(("squared", "index"), index.nearest(k, plan.rows, progress=task.progress), strict=True))

    all_lists = task.kept("lists", lists) if k else None
    found = None if all_lists is None else (all_lists["squared"], all_lists["index"])
    if "margins" not in task.wanted:
        return Near(found)

    def nearest(among: Among) -> Found:
        kept = task.kept(
            among.replace(" ", "-"),
            lambda: dict(
                zip(("squared", "index"), _first(index, found, plan.rows, points.codes, among, task.progress), strict=True)
            ),
        )
        return kept["squared"], kept["index"]

    hits, misses = nearest("own class"), nearest("other classes")
    return Near(found, margins_from(rows, hits, misses, task.labels, unit=False), misses[0][:, 0])


def _first(
    index: ExactIndex,
    lists: Found | None,
    asked: NDArray[np.int64] | None,
    codes: NDArray[np.int64],
    among: Among,
    progress: Progress,
) -> Found:
    """The nearest of the own class, or of another, from lists of neighbours where these reach so far."""
    if lists is None:
        return index.nearest(1, asked, among=among, progress=progress)
    rows = np.arange(len(codes)) if asked is None else asked
    squared, neighbours = lists
    wanted = (codes[neighbours] == codes[rows, None]) == (among == "own class")
    place, known = wanted.argmax(1)[:, None], wanted.any(1)
    if known.mean() < 0.5:  # all in the order of their tiles take no longer than half of them
        return index.nearest(1, asked, among=among, progress=progress)
    nearest, row = np.take_along_axis(squared, place, 1), np.take_along_axis(neighbours, place, 1)
    if not known.all():
        nearest[~known], row[~known] = index.nearest(1, rows[~known], among=among, progress=progress)
    return nearest, row
