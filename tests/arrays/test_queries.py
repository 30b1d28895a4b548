"""Queries as people have them: numbers of rows, points, and where they lie."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastent as fe

X = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
Y = np.arange(60) % 3
Q = X[:7] + np.float32(0.25)


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", X)
    np.save("Q.npy", Q)
    np.save("rows.npy", np.array([5, 3]))
    np.savez("d.npz", Q=Q, rows=np.array([5, 3]))
    pq.write_table(pa.table({f"f{i}": Q[:, i] for i in range(6)}), "Q.parquet")


@pytest.mark.parametrize("method", ["exact", "flat", "ivf", "hnsw", "torch"])
@pytest.mark.parametrize("where", ["Q.npy", "d.npz:Q", "Q.parquet", "source", "table"])
def test_points_from_where_they_lie(tmp_path, where, method):
    queries = {"source": fe.ArraySource(Q), "table": pa.table({f"f{i}": Q[:, i] for i in range(6)})}.get(where, where)
    found, expected = fe.neighbors("X.npy", 4, queries=queries, method=method), fe.neighbors(X, 4, queries=Q, method=method)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)


@pytest.mark.parametrize("where", ["rows.npy", "d.npz:rows"])
def test_rows_by_number_from_where_they_lie(tmp_path, where):
    np.testing.assert_array_equal(fe.neighbors(X, 4, queries=where).indices, fe.neighbors(X, 4, queries=[5, 3]).indices)
    assert fe.margins(X, Y, queries=where).queries.tolist() == [5, 3]
    assert fe.measure(X, Y, queries=where, metrics=["margins"]).queries.tolist() == [5, 3]


@pytest.mark.parametrize("where", ["rows.csv", "rows.parquet", "listed.csv:index", "table"])
def test_rows_by_number_in_tables(where):
    with open("rows.csv", "w") as file:
        file.write("index\n5\n3\n")
    with open("listed.csv", "w") as file:
        file.write("index,label,share\n5,2,0.5\n3,0,0.25\n")
    table = pa.table({"index": [5, 3]})
    pq.write_table(table, "rows.parquet")
    queries = table if where == "table" else where
    np.testing.assert_array_equal(fe.neighbors(X, 4, queries=queries).indices, fe.neighbors(X, 4, queries=[5, 3]).indices)
    assert fe.margins(X, Y, queries=queries).queries.tolist() == [5, 3]


def test_a_column_of_labels_among_the_queries_is_named():
    columns = {f"f{i}": Q[:, i] for i in range(6)}
    table, labelled = pa.table(columns), pa.table(columns | {"kind": Y[:7]})
    for search in (lambda X: fe.neighbors(X, 4, queries=labelled), lambda X: fe.near_duplicates(X, 0.1, queries=labelled)):
        with pytest.raises(fe.FastentError, match=r"queries has 'kind' beside the columns of X \(f0, .*\): leave it out"):
            search(table)
        with pytest.raises(fe.FastentError, match=r"queries have 7 features, X has 6: .* labels .* columns f0, .*, kind$"):
            search(X)
    with pytest.raises(fe.FastentError, match="queries have 1 feature, X has 6"):
        fe.neighbors(X, queries=[[1.0]])


def test_pictures_as_queries_are_flattened():
    with pytest.warns(UserWarning, match="queries has points of shape"):
        found = fe.neighbors(X, 4, queries=Q.reshape(7, 2, 3))
    np.testing.assert_array_equal(found.indices, fe.neighbors(X, 4, queries=Q).indices)


def test_what_holds_no_queries(tmp_path):
    with pytest.raises(fe.FastentError, match=r"nothing at 'missing.npy'"):
        fe.neighbors(X, queries="missing.npy")
    with pytest.raises(fe.FastentError, match="queries of margins are rows of X, by number"):
        fe.margins(X, Y, queries="Q.npy")
    pq.write_table(pa.table({"a": [1.0, 2.0], "b": [3.0, 4.0]}), "narrow.parquet")
    with pytest.raises(fe.FastentError, match="queries have 2 features, X has 6"):
        fe.neighbors(X, queries="narrow.parquet")


def test_training_sets_and_logits_as_paths():
    np.save("y.npy", Y)
    np.save("y7.npy", Y[:7])
    pq.write_table(pa.table({**{f"z{i}": X[:, i] for i in range(3)}, "label": Y}), "logits.parquet")
    for paths, arrays in (
        (("X.npy", "y.npy"), (X, Y)),
        ({"X": "X.npy", "y": "y.npy"}, (X, Y)),
        (("X.npy", "y.npy", Q, "y7.npy"), (X, Y, Q, Y[:7])),
        (("X.npy", "y.npy", "Q.parquet", "y7.npy"), (X, Y, Q, Y[:7])),
    ):
        assert fe.load_data(paths).fingerprint == fe.load_data(arrays).fingerprint
    np.testing.assert_array_equal(fe.logit_margin("logits.parquet", "label"), fe.logit_margin(X[:, :3], Y))
    np.testing.assert_array_equal(fe.logit_margin(X[:, :3], "y.npy"), fe.logit_margin(X[:, :3], Y))
