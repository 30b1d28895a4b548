"""Every index answers the same: in memory, by chunks, by a sweep."""

import numpy as np
import pytest

from fastent.arrays.validation import UnitRows
from fastent.io.result_cache import PartialResult
from fastent.search.cells.index import PartitionedIndex
from fastent.search.exact_index import ExactIndex
from fastent.search.index import AMONG, ExternalQueries
from fastent.search.out_of_core import ChunkedIndex
from fastent.search.planner import plan_index
from fastent.search.spanning_tree import minimum_spanning_tree
from fastent.search.sweep import LabelledPoints, sweep
from fastent.search.top_k import SweptIndex
from fastent.statistics.silhouette import DistanceSums

N, K = 5000, 4


@pytest.fixture(scope="module")
def data():
    """Many duplicates and ties."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((N, 12)).round(1).astype(np.float32), rng.integers(0, 4, N), rng.permutation(N)[:300]


def indices_of(X, y):
    points = LabelledPoints(X, y, 1.0, int(y.max()) + 1)
    exact = ExactIndex(X, classes=y), ExactIndex(X, classes=y, by_class=True)
    cells = PartitionedIndex(X, classes=y, memory=8 << 20, cells=4)
    return *exact, ChunkedIndex(X, classes=y, memory=8 << 20), cells, SweptIndex(points)


def assert_all_equal(results):
    first, *others = results
    for other in others:
        for one, another in zip(first, other, strict=True):
            np.testing.assert_array_equal(one, another)


@pytest.mark.parametrize("kind", ["all rows", "rows", "points", "external"])
def test_all_find_the_same(data, kind):
    X, y, rows = data
    queries = {
        "all rows": None,
        "rows": rows,
        "points": X[:200] + 1,
        "external": ExternalQueries(X[rows], rows, (y[rows] + 1) % 4),
    }[kind]
    wanted = dict.fromkeys(("all",) if kind == "points" else AMONG, K)
    indices = indices_of(X, y)
    found = [index.search(wanted, queries) for index in indices]
    for among in wanted:
        assert_all_equal([each[among] for each in found])
    limits = found[0]["all"].squared[:, 2].copy()
    limits[0] = 0
    within = [index.nearest(K, queries, within=limits) for index in indices]
    assert_all_equal(within)
    squared, neighbours = within[0]
    assert (np.isinf(squared) == (neighbours == N)).all()
    assert (squared[np.isfinite(squared)] <= np.broadcast_to(limits[:, None], squared.shape)[np.isfinite(squared)]).all()


def test_a_second_search_has_queries_of_its_own(data, tmp_path):
    """What the first one kept, and what was summed alongside it, is not taken for what the second one finds."""
    X, y, rows = data
    points = LabelledPoints(X, y, 1.0, 4)
    places = [PartialResult(tmp_path / f"{i}.npz") for i in range(3)]
    alongside = DistanceSums(y, 4, rows[:150])
    indices = (
        ChunkedIndex(X, classes=y, memory=8 << 20, unfinished=places[0]),
        SweptIndex(points, alongside=[alongside], unfinished=places[1]),
        PartitionedIndex(X, classes=y, memory=8 << 20, cells=3, kept_in=places[2].folder),
    )
    exact = ExactIndex(X, classes=y)
    for some in (rows[:150], rows[150:]):
        for index in indices:
            np.testing.assert_array_equal(index.nearest(K, some).indices, exact.nearest(K, some).indices)
    expected = DistanceSums(y, 4, rows[:150])
    sweep(points, rows[:150], [expected])
    np.testing.assert_array_equal(alongside.silhouettes(), expected.silhouettes())


def test_all_take_other_classes_of_the_same_rows(data):
    X, y, rows = data
    other = (y + np.arange(N)) % 3
    expected = ExactIndex(X, classes=other)
    for index in indices_of(X, y):
        relabelled = index.relabelled(other)
        assert_all_equal([each.nearest(2, rows, among="other classes") for each in (expected, relabelled)])
    order = expected.order
    assert sorted(order) == list(range(N))
    assert np.count_nonzero(np.diff(other[order])) == 2


def test_a_spanning_tree_grows_from_any_index(data):
    X, y, _ = data
    assert_all_equal([minimum_spanning_tree(index, index.nearest(8)) for index in indices_of(X[:1500], y[:1500])])


def test_the_planner_chooses_by_memory_and_by_what_is_done_anyway(data):
    X, y, rows = data
    wanted = {"all": K}
    roomy, tight = plan_index(X, N, wanted, memory=1 << 30), plan_index(X, N, wanted, memory=roomy_but_for_a_byte(X, wanted))
    assert (roomy.kind, tight.kind) == ("index", "cells")
    assert plan_index(X, N, wanted, memory=1 << 30, read_once=True).kind == "cells"
    assert plan_index(X, N // 10, wanted, memory=1 << 30, read_once=True).kind == "chunks"
    assert plan_index(X, N, wanted, memory=0, pairs_met=True).kind == "sweep"
    assert plan_index(X, N, wanted, memory=1 << 30, pairs_met=True).kind == "index"
    # Unit rows lie where the rows lie that they are made of.
    assert plan_index(UnitRows(X), N, wanted, memory=1 << 30).bytes < roomy.bytes + 8 * X.size + 4 * X.size
    chunks = plan_index(X, len(rows), wanted, memory=1 << 23)
    assert_all_equal([plan.build(X, classes=y).nearest(K, rows) for plan in (roomy, chunks)])


def test_large_classes_are_kept_apart_where_lists_are_of_classes():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((9000, 4)).astype(np.float32), rng.integers(0, 4, 9000)
    of_classes = {"own class": 1, "other classes": 1}
    small = np.arange(9000) % 9
    for wanted, classes, apart in ((of_classes, y, True), (of_classes, small, False), (of_classes | {"all": 1}, y, False)):
        index = plan_index(X, 9000, wanted, memory=1 << 30).build(X, classes=classes)
        assert (index._points.boxes.classes >= 0).all() == apart


def roomy_but_for_a_byte(X, wanted):
    return plan_index(X, N, wanted, memory=1 << 30).bytes - 1


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("by_class", [False, True])
def test_sketches_of_rows_that_are_queries_are_those_of_the_index(unit, by_class):
    X = np.random.default_rng(1).standard_normal((3000, 40)).astype(np.float32)
    index, rows = ExactIndex(X, classes=np.arange(3000) % 7, unit=unit, by_class=by_class), np.arange(0, 3000, 7)
    found = index._known_sketches(index._position[rows])
    np.testing.assert_allclose(found, index._boxed(X[rows]), rtol=1e-5, atol=1e-5)
    assert_all_equal([index.nearest(3, rows), index.nearest(3, ExternalQueries(X[rows], rows, np.zeros(len(rows), np.int64)))])
