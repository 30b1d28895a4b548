"""Points and labels in one table: data frames, and files whose label column is named."""

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import fastent as fe
from fastent.arrays.labelled import as_labelled
from fastent.cli.main import app

X = np.random.default_rng(0).normal(size=(30, 3))
Y = np.array(["a", "b", "ü"])[np.arange(30) % 3]
COLUMNS = {"u": X[:, 0], "v": X[:, 1], "w": X[:, 2], "kind": Y}


def frames():
    yield pa.table(COLUMNS)
    yield pa.table(COLUMNS).to_batches()[0]
    for package in ("pandas", "polars"):
        try:
            yield __import__(package).DataFrame(COLUMNS)
        except ImportError:
            continue


@pytest.mark.parametrize("frame", list(frames()), ids=lambda frame: type(frame).__module__.split(".")[0] + type(frame).__name__)
def test_a_frame_and_the_name_of_its_label_column(frame):
    notes = []
    features, coded = as_labelled(frame, "kind", notes=notes)
    np.testing.assert_array_equal(features, X)
    assert coded.classes.tolist() == ["a", "b", "ü"]
    np.testing.assert_array_equal(coded.classes[coded.codes], Y)
    assert notes == ["the features of X are the columns u, v, w"]
    assert fe.measure(frame, "kind", metrics=["mixing"]).summary() == fe.measure(X, Y, metrics=["mixing"]).summary()
    for function in (fe.geometry, fe.margins, fe.silhouette, fe.soft_nearest_neighbor_loss, fe.complexity):
        assert repr(function(frame, "kind")) == repr(function(X, Y))
    with pytest.raises(
        fe.FastentError, match=r"X has columns that are no numbers, 'kind' \(text\): if 'kind' is the label, pass "
    ):
        fe.neighbors(frame)
    with pytest.raises(fe.FastentError, match="labels='knd' is no column of X, which has 'u', 'v', 'w', 'kind', and no file"):
        fe.geometry(frame, "knd")
    run = fe.train(frame, "kind", seeds=1, epochs=1)
    assert run.config["fingerprint"] == fe.train(X, Y, seeds=1, epochs=1).config["fingerprint"]


def test_frames_of_pandas_as_they_are():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, index=range(100, 130))
    frame[3] = pd.Series(np.arange(30) % 2 == 0, index=frame.index, dtype="boolean")
    frame["kind"] = pd.Categorical(Y)
    features, coded = as_labelled(frame, "kind")
    np.testing.assert_array_equal(features, np.column_stack([X, np.arange(30) % 2 == 0]))
    assert coded.classes.tolist() == ["a", "b", "ü"]
    np.testing.assert_array_equal(as_labelled(frame.drop(columns="kind"), frame.kind)[0], features)
    with pytest.warns(UserWarning, match="'id' of X is taken for labels or row numbers, and left out: .* other 4 columns"):
        assert fe.geometry(frame.assign(id=np.arange(30)), "kind").means.shape[1] == 4
    frame.loc[107, 3] = pd.NA
    with pytest.raises(fe.FastentError, match="X has no value in row 7, column '3'"):
        fe.geometry(frame, "kind")
    with pytest.raises(fe.FastentError, match="X cannot be read as a table"):
        fe.geometry(pd.concat([frame, frame], axis=1), "kind")
    mixed = pd.DataFrame({"a": [1, "x", 2.0]})
    with pytest.raises(fe.FastentError, match="X cannot be read as a table"):
        fe.neighbors(mixed)


def test_a_lazy_frame_is_to_be_collected():
    pl = pytest.importorskip("polars")
    with pytest.raises(fe.FastentError, match=r"X is a LazyFrame: call X.collect\(\)"):
        fe.geometry(pl.DataFrame(COLUMNS).lazy(), "kind")


def test_labels_of_a_file_by_column_and_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pa.csv.write_csv(pa.table(COLUMNS), "t.csv")
    np.save("y.npy", Y)
    expected = fe.geometry(X, Y).nc1
    for labels in ("kind", "t.csv:kind"):
        for place in ("t.csv", tmp_path / "t.csv", "t.csv:?"):
            assert fe.geometry(place, labels if place != tmp_path / "t.csv" else "kind").nc1 == expected
    assert fe.geometry("t.csv:u,v,w", "y.npy").nc1 == expected
    np.save("X.npy", X)
    assert fe.mixing(fe.neighbors("X.npy", 3), "t.csv:kind").overlap == fe.mixing(fe.neighbors(X, 3), Y).overlap


@pytest.mark.parametrize("frame", list(frames()), ids=lambda frame: type(frame).__module__.split(".")[0] + type(frame).__name__)
def test_other_functions_take_the_name_of_a_column_too(frame):
    assert fe.manifold_capacity(frame, "kind", draws=4).mean_field == fe.manifold_capacity(X, Y, draws=4).mean_field
    np.testing.assert_array_equal(fe.map_points(frame, "kind").coordinates, fe.map_points(X, Y).coordinates)
    found, expected = fe.near_duplicates(frame, 0.9, labels="kind"), fe.near_duplicates(X, 0.9, labels=Y)
    np.testing.assert_array_equal(found.pair_labels, expected.pair_labels)
    assert len(found.pairs)
    across = fe.near_duplicates(frame, 0.9, queries=frame, labels="kind", query_labels="kind")
    np.testing.assert_array_equal(across.pairs, fe.near_duplicates(X, 0.9, queries=X).pairs)


def test_a_table_of_text_is_read_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pa.csv.write_csv(pa.table(COLUMNS).drop_columns(["kind"]), "t.csv")
    np.save("y.npy", Y)
    reads = []
    read = pa.csv.read_csv
    monkeypatch.setattr(pa.csv, "read_csv", lambda *given, **options: reads.append(given) or read(*given, **options))
    assert fe.measure("t.csv", "y.npy", metrics=["geometry"]).geometry.nc1 == fe.geometry(X, Y, normalize=False).nc1
    assert len(reads) == 1
    for command in ("measure t.csv y.npy --metrics geometry", "measure t.csv y.npy --metrics geometry --out out"):
        reads.clear()
        done = CliRunner().invoke(app, command.split())
        assert done.exit_code == 0, done.output
        assert len(reads) == 1


def test_labels_in_another_order_of_the_index_are_refused():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    X, y = pandas.DataFrame(rng.standard_normal((30, 2))), pandas.Series(np.arange(30) % 2)
    shuffled = y.sample(frac=1, random_state=0)
    with pytest.raises(fe.FastentError, match=r"labels\.loc\[X\.index\]"):
        fe.measure(X, shuffled, metrics="mixing")
    expected = fe.measure(X, y, metrics="mixing").summary()
    assert fe.measure(X, shuffled.loc[X.index], metrics="mixing").summary() == expected
    assert fe.measure(X.iloc[:20], y.iloc[:20], metrics="mixing", k=3).shape == (20, 2)
    fe.measure(X, y.set_axis(np.arange(30) + 7), metrics="mixing")  # another index: paired by place
    fe.measure(X.set_axis([*"ab" * 15], axis=0), y.set_axis([*"ab" * 15]), metrics="mixing")  # an index with repeats


def test_the_index_is_compared_however_labels_are_given():
    pandas = pytest.importorskip("pandas")
    frame, series = pandas.DataFrame(X), pandas.Series(Y)
    shuffled = series.sample(frac=1, random_state=0)
    for pair in ((frame, shuffled), {"X": frame, "y": shuffled}):
        with pytest.raises(fe.FastentError, match="labels have the index of X in another order"):
            fe.measure(pair)
        with pytest.raises(fe.FastentError, match=r"pass y_train\.loc\[x_train\.index\], or y_train\.to_numpy\(\)"):
            fe.train(pair)
    with pytest.raises(fe.FastentError, match="y_test have the index of x_test in another order"):
        fe.load_data((frame, series, frame, shuffled))
    assert fe.load_data((frame, series)).fingerprint == fe.load_data((X, Y)).fingerprint


def test_labels_of_other_points_are_refused_by_their_index():
    pandas = pytest.importorskip("pandas")
    frame, series = pandas.DataFrame(X), pandas.Series(Y)
    with pytest.raises(
        fe.FastentError, match=r"labels have another index than X, 20 in row 0 where X has 10, and rows are pai"
    ):
        fe.geometry(frame[10:20], series[20:])
    names = [f"r{row}" for row in range(30)]
    with pytest.raises(fe.FastentError, match="'r29' in row 0 where X has 's0'"):
        fe.geometry(frame.set_axis(["s0", *names[1:]]), series.set_axis(names[::-1]))
    expected = fe.geometry(X[10:20], Y[10:20]).nc1
    for labels in (series[10:20], series[10:20].reset_index(drop=True), series[10:20].set_axis(list("abcdefghij"))):
        assert fe.geometry(frame[10:20], labels).nc1 == expected


def test_remedies_name_all_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({name: [1.0, 2.0] for name in "pqrst"} | {"word": ["u", "v"]})
    with pytest.raises(fe.FastentError, match=r"X\[\['p', 'q', 'r', 's', 't'\]\]"):
        fe.neighbors(frame, 1)


def test_columns_of_pandas_are_named_as_pandas_does():
    pandas = pytest.importorskip("pandas")
    expected = fe.geometry(X, Y).nc1
    frame = pandas.DataFrame(X).assign(**{"4": Y}).rename(columns={"4": 4})
    for labels in (4, np.int64(4), "4"):
        assert fe.geometry(frame, labels).nc1 == expected
    assert fe.load_data(frame, 4).fingerprint == fe.load_data((X, Y)).fingerprint
    with pytest.raises(fe.FastentError, match="labels='7' is no column of X"):
        fe.geometry(frame, 7)
    with pytest.raises(fe.FastentError, match=r"labels has shape \(\)"):
        fe.geometry(X, 4)
    with pytest.raises(
        fe.FastentError, match=r"'word' \(text\): leave them out, or pass those of the features, as X\[\[0, 1, 2"
    ):
        fe.geometry(frame.assign(word="u"), 4)
    levels = pandas.MultiIndex.from_tuples([("a", "u"), ("a", "v"), ("b", "u"), ("kind", "")])
    assert fe.geometry(pandas.DataFrame(dict(zip(levels, [*X.T, Y], strict=True))), ("kind", "")).nc1 == expected
    with pytest.raises(fe.FastentError, match=r"several columns are called 0\): give each its own name"):
        fe.geometry(pandas.concat([frame[[0, 4]], frame[[0]]], axis=1), 4)


def test_sparse_columns_are_named_with_what_makes_them_dense():
    pandas = pytest.importorskip("pandas")
    sparse = pandas.DataFrame({"a": pandas.arrays.SparseArray(X[:, 0]), "b": pandas.arrays.SparseArray(X[:, 1])})
    with pytest.raises(fe.FastentError, match=r"X has sparse columns, first 'a': pass X\.sparse\.to_dense\(\)"):
        fe.geometry(sparse, Y)
    mixed = sparse.assign(kind=Y)
    with pytest.raises(
        fe.FastentError, match=r"first 'a': pass pandas\.DataFrame\(\{name: numpy\.asarray\(X\[name\]\) for name in X"
    ):
        fe.geometry(mixed, "kind")
    dense = pandas.DataFrame({name: np.asarray(mixed[name]) for name in mixed})
    assert fe.geometry(dense, "kind").nc1 == fe.geometry(sparse.sparse.to_dense(), Y).nc1 == fe.geometry(X[:, :2], Y).nc1


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([decimal.Decimal(0), decimal.Decimal("2.00")], [0, 2]),
        ([datetime.date(2026, 1, 31), datetime.date(2026, 2, 1)], ["2026-01-31", "2026-02-01"]),
        ([False, True], [False, True]),
    ],
)
def test_labels_of_other_types(values, classes):
    codes = np.arange(len(X)) % 2
    column = pa.array([values[i] for i in codes])
    frame = pa.table({**{name: COLUMNS[name] for name in "uvw"}, "kind": column})
    found = fe.geometry(frame, "kind")
    assert found.classes.tolist() == classes
    assert found.nc1 == fe.geometry(X, codes).nc1
    assert fe.train(frame, "kind", seeds=1, epochs=1).class_names == [str(each) for each in classes]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([decimal.Decimal("0.5")] * len(Y)), "labels holds .* no whole numbers, first 0.5 at row 0"),
        (pa.array([datetime.datetime(2026, 1, 1)] * len(Y)), r"dtype datetime64\[us\].*convert the others to text"),
        (
            pa.DictionaryArray.from_arrays(np.zeros(len(Y), "i1"), pa.array([{"left": 0.0}])),
            "a list or structure: one label for",
        ),
    ],
)
def test_labels_that_are_no_classes(column, message):
    with pytest.raises(fe.FastentError, match=message):
        fe.geometry(pa.table({**{name: COLUMNS[name] for name in "uvw"}, "kind": column}), "kind")


def test_frames_of_packages_that_speak_arrow():
    duckdb = pytest.importorskip("duckdb")
    rows = pa.table(COLUMNS)  # noqa: F841 - (duckdb finds it by its name)
    assert fe.geometry(duckdb.sql("select * from rows"), "kind").nc1 == fe.geometry(X, Y).nc1


def test_missing_labels_name_the_columns_of_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pa.csv.write_csv(pa.table(COLUMNS), "t.csv")
    with pytest.raises(fe.FastentError, match=r"labels are missing: pass .* holds them; 't.csv' has 'u', 'v', 'w', 'kind'$"):
        fe.measure("t.csv")
    with open("empty.csv", "w"):
        pass
    with pytest.raises(fe.FastentError, match=r"'empty\.csv' is empty \(0 bytes\)"):
        fe.measure("empty.csv")


def test_tables_whose_columns_are_in_another_order_are_refused(tmp_path):
    columns = {name: X[:, at] for at, name in enumerate("abc")}
    frame, turned = pa.table(columns), pa.table(dict(reversed(columns.items())))
    pq.write_table(turned, tmp_path / "turned.parquet")
    order = "X has the columns a, b, c, and queries has the same columns in another order"
    for other in (turned, tmp_path / "turned.parquet"):
        for search in (
            lambda other: fe.neighbors(frame, k=1, queries=other),
            lambda other: fe.near_duplicates(frame, 0.9, queries=other),
        ):
            with pytest.raises(fe.FastentError, match=order):
                search(other)
    with pytest.raises(fe.FastentError, match="X has the columns a, b, c, and queries has columns x, b, c"):
        fe.neighbors(frame, k=1, queries=frame.rename_columns(["x", "b", "c"]))
    with pytest.raises(fe.FastentError, match="x_train has the columns a, b, c, and x_test has the same"):
        fe.train((frame, Y, turned, Y), epochs=1)
    for other in (frame, X):
        np.testing.assert_array_equal(fe.neighbors(frame, k=1, queries=other).distances, 0)
