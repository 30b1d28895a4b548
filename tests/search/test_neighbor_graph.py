import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import kneighbors_graph, sort_graph_by_row_values
from sklearn.neighbors._base import _is_sorted_by_data

import fastent as fe
from tests.search.test_neighbors import awkward_points

PAIR = fe.Neighbors([[1], [0], [1]], [[1.0], [1.0], [2.0]])


def edges(near, *, include_self, symmetric):
    """(row, column) to distance, one entry after the other."""
    found = {}
    for row, query in enumerate(near.queries):
        if include_self:
            found[row, query] = 0.0
        for column, distance in zip(near.indices[row], near.distances[row]):
            for edge in [(row, column), (column, row)] if symmetric else [(row, column)]:
                found[edge] = min(distance, found.get(edge, np.inf))
    return found


def stored(graph):
    rows = np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))
    return dict(zip(zip(rows, graph.indices), graph.data))


@given(awkward_points(largest=60), st.integers(1, 8), st.booleans(), st.booleans())
def test_graphs_hold_every_edge_once_and_sorted(X, k, include_self, symmetric):
    near = fe.neighbors(X, min(k, len(X) - 1))
    graph = near.graph(include_self=include_self, symmetric=symmetric)
    assert graph.shape == (len(X), len(X))
    expected = edges(near, include_self=include_self, symmetric=symmetric)
    assert graph.nnz == len(expected)
    assert graph.dtype == np.float64
    assert stored(graph) == expected
    assert _is_sorted_by_data(graph)
    assert sort_graph_by_row_values(graph) is graph
    connected = near.graph("connectivity", include_self=include_self, symmetric=symmetric)
    np.testing.assert_array_equal(connected.indices, graph.indices)
    np.testing.assert_array_equal(connected.indptr, graph.indptr)
    assert (connected.data == 1).all()
    if include_self:
        np.testing.assert_array_equal(graph.indices[graph.indptr[:-1]], np.arange(len(X)))
    for row, (start, stop) in enumerate(zip(graph.indptr[:-1], graph.indptr[1:])):  # equal distances by the lower row number
        others = [(d, c) for d, c in zip(graph.data[start:stop], graph.indices[start:stop]) if c != row]
        if symmetric:
            assert others == sorted(others)


@pytest.mark.parametrize("mode", ["distance", "connectivity"])
def test_the_graph_is_that_of_scikit_learn(mode):
    X = np.random.default_rng(0).standard_normal((200, 6))
    expected = kneighbors_graph(X, 7, mode=mode)
    found = fe.neighbors(X, 7).graph(mode)
    assert type(found) is type(expected)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.data, expected.data, rtol=1e-6)
    with_self = kneighbors_graph(X, 8, mode=mode, include_self=True)
    np.testing.assert_array_equal(fe.neighbors(X, 7).graph(mode, include_self=True).indices, with_self.indices)


def test_rows_are_queries_in_their_order_or_all_rows_in_order():
    X = np.random.default_rng(0).standard_normal((50, 3))
    everything = fe.neighbors(X, 4)
    some = fe.neighbors(X, 4, queries=[7, 3])
    np.testing.assert_array_equal(some.graph().toarray(), everything.graph().toarray()[[7, 3]])
    assert some.graph(include_self=True).indices[[0, 5]].tolist() == [7, 3]
    shuffled = fe.neighbors(X, 4, queries=np.random.default_rng(1).permutation(50))
    for found, expected in zip(shuffled.arrays(include_self=True), everything.arrays(include_self=True)):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(shuffled.graph(symmetric=True).toarray(), everything.graph(symmetric=True).toarray())
    outside = fe.neighbors(X, 4, queries=X[:5] + 0.1)
    assert outside.graph().shape == (5, 50)


def test_tools_may_write_to_what_they_are_given():
    near = fe.neighbors(np.random.default_rng(0).standard_normal((30, 3)), 4)
    indices, distances = near.indices.copy(), near.distances.copy()
    for given_away in (*near.arrays(), *near.arrays(include_self=True), near.graph().data, near.graph().indices):
        assert given_away.flags.writeable
        given_away[:] = 0
    np.testing.assert_array_equal(near.indices, indices)
    np.testing.assert_array_equal(near.distances, distances)


def test_of_two_distances_of_an_edge_the_shorter_is_kept():
    graph = fe.Neighbors([[1], [0]], [[2.0], [3.0]]).graph(symmetric=True)
    assert graph.toarray().tolist() == [[0, 2], [2, 0]]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: PAIR.graph("weights"), "kind='weights': choose one of 'distance', 'connectivity'"),
        (lambda: PAIR.graph(symmetric="yes"), "symmetric='yes': True or False"),
        (lambda: PAIR.arrays(include_self=None), "include_self=None: True or False"),
        (lambda: fe.neighbors([[0.0], [1.0]], 1, queries=[[0.5]]).graph(include_self=True), "the queries are no rows"),
        (lambda: fe.neighbors([[0.0], [1.0]], 1, queries=[[0.5]]).graph(symmetric=True), "1 query among 2 rows"),
        (lambda: fe.neighbors([[0.0], [1.0], [2.0]], 1, queries=[1, 0]).graph(symmetric=True), "2 queries among 3 rows"),
        (lambda: fe.neighbors([[0.0], [1.0]], 1, queries=[1, 1]).graph(), "queries name 1 row more than once"),
    ],
)
def test_what_is_refused(call, says):
    with pytest.raises(fe.FastentError, match=says):
        call()


def test_memory_is_asked_for_first(monkeypatch):
    monkeypatch.setattr("fastent.runtime.memory.available_bytes", lambda: 100)
    with pytest.raises(fe.FastentError, match=r"3 lists of 1 neighbours.*use near.subset"):
        PAIR.graph(symmetric=True)
