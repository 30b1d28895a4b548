"""Tables as people bring them: text with and without headers, Arrow files, Hugging Face's folders; which columns are features."""

import gzip
import string

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastent as fe
from fastent.io.csv_files import read_csv
from fastent.io.opening import read_labels
from fastent.io.tables import ArrowTable

N, D = 50, 6
X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
Y = np.arange(N) % 3
F = [f"f{i}" for i in range(D)]


def text(rows, *, header=None, sign=","):
    lines = [sign.join(map(str, row)) for row in rows]
    return "\n".join(([sign.join(header)] if header else []) + lines)


LISTS = X.tolist()
FILES = {
    "plain.csv": text(LISTS),
    "header.csv": text(LISTS, header=F),
    "labels.csv": text(([3, *row] for row in LISTS), header=["label", *F]),
    "index.csv": text(([i, *row] for i, row in enumerate(LISTS)), header=["", *F]),
    "numbered.csv": text(([i, *row] for i, row in enumerate(LISTS)), header=["", *map(str, range(D))]),
    "counted.csv": text(([*row, i] for i, row in enumerate(LISTS)), header=[*map(str, range(D)), "id"]),
    "unnamed.csv": text(([i + 1, *row] for i, row in enumerate(LISTS)), header=["sample", *F]),
    "semicolons.csv": text(LISTS, sign=";"),
    "commas.csv": text(LISTS, header=F, sign=";").replace(".", ","),
    "tabs.tsv": text(LISTS, header=F, sign="\t"),
    "windows.csv": "\ufeff" + text(LISTS, header=F).replace("\n", "\r\n"),
    "quoted.csv": text(LISTS, header=[f'"{name}"' for name in F]),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("packed", [False, True])
def test_text(tmp_path, name, packed):
    content = FILES[name].encode()
    path = tmp_path / (name + ".gz" * packed)
    path.write_bytes(gzip.compress(content) if packed else content)
    source = fe.open(path)
    np.testing.assert_allclose(source[:], X, rtol=1e-6)
    assert len(source.columns) == D
    assert bool(source.remarks) == (name in ("labels.csv", "index.csv", "numbered.csv", "counted.csv", "unnamed.csv"))


@pytest.mark.parametrize("content", [b"\n\n", b"a,b,c\n", b"one,two\nx,y\n", bytes(range(256)) * 9, b"", b"a,b\n1,2\n3\n"])
def test_text_that_is_no_table(tmp_path, content):
    (tmp_path / "X.csv").write_bytes(content)
    with pytest.raises(fe.FastentError, match=r"X\.csv'"):
        fe.neighbors(tmp_path / "X.csv")


@pytest.mark.parametrize(
    ("written", "classes"),
    [
        (["1", "10", "2"], [1, 2, 10]),
        (["+1", "-1"], [-1, 1]),
        ([" 1", "2 ", "1"], [1, 2]),
        (["1.0", "2.0"], [1, 2]),
        (["true", "false"], [False, True]),
        (["007", "01", "7"], ["007", "01", "7"]),
        (['"007"', "01"], ["007", "01"]),
        (["1e5", "100000"], ["100000", "1e5"]),
        (["1.0", "1"], ["1", "1.0"]),
        (["true", "True", "FALSE"], ["FALSE", "True", "true"]),
        (["99999999999999999999", "99999999999999999998"], ["99999999999999999998", "99999999999999999999"]),
        (["NA", "EU"], ["EU", "NA"]),
        (["2020-01-02", "2020-01-01"], ["2020-01-01", "2020-01-02"]),
        (["2020-01-02 03:04:05", "2020-01-01 03:04:05"], ["2020-01-01 03:04:05", "2020-01-02 03:04:05"]),
        (["12:30:00", "12:31:00"], ["12:30:00", "12:31:00"]),
        (['"a\nb"', '"c, d"'], ["a\nb", "c, d"]),
        ([" cat", "dog"], [" cat", "dog"]),
    ],
)
@pytest.mark.filterwarnings("ignore:labels. [0-9]+ (labels look alike|rows have the label)")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_labels_of_text_files_keep_what_their_text_tells_apart(tmp_path, written, classes, encoding):
    lines = [f"{row[0]},{label},{row[1]}" for row, label in zip(LISTS, written * 3)]
    (tmp_path / "t.csv").write_text("\n".join(["a,label,b", *lines]), encoding=encoding)
    found = fe.geometry(tmp_path / "t.csv", "label")
    assert found.classes.tolist() == classes
    assert found.counts.tolist() == [3 * sum(_same(each, value) for each in written) for value in classes]


def _same(text, value):
    return text.strip('"') == value if isinstance(value, str) else float({"true": 1, "false": 0}.get(text, text)) == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b,label\n1,2,0.5\n3,4,1.5\n", "labels holds 2 values that are no whole numbers, first 0.5 at row 0"),
        ("a,b,label\n1,2,inf\n3,4,1.5\n", "labels holds 2 values that are no whole numbers, first inf at row 0"),
        ("a,b,label\n1,2,NA\n3,4,1\n", "'label' of '.*' is null in 1 of 2 rows, first row 0: drop those rows"),
        ("a,b,label\n", r"t\.csv' has a header \('a', 'b', 'label'\) and no rows: write rows below it"),
        ("", r"t\.csv' is empty \(0 bytes\)"),
        (
            "a,b,label\n1,2,x\n3,4,y,z\n",
            "has 4 cells in the row '3,4,y,z', and 3 in its first row: put cells that hold ',' in q",
        ),
        ("a,b,label\n1,2,x\n3,4\n", "has 2 cells in the row '3,4', and 3 in its first row"),
    ],
)
def test_text_that_has_no_labels(tmp_path, content, message):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(fe.FastentError, match=message):
        fe.geometry(tmp_path / "t.csv", "label")


def test_labels_in_another_encoding(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,label\n1,2,ä\n3,4,o\n", encoding="latin-1")
    with pytest.raises(
        fe.FastentError, match=r"has text in column 'label' that is not in UTF-8: convert the file, as with iconv"
    ):
        fe.geometry(tmp_path / "t.csv", "label")


def test_kinds_of_columns_that_show_late(tmp_path):
    """The first block of pyarrow holds whole numbers, or nothing at all."""
    n = 400_000
    path = tmp_path / "late.csv"
    path.write_text("a,b\n" + "\n".join(f"{i % 7},1" for i in range(n)) + "\n0.5,2\n")
    assert path.stat().st_size > 1 << 20
    found = fe.open(path)
    assert found.shape == (n + 1, 2)
    assert found[n].tolist() == [0.5, 2]


def test_what_does_not_fit_is_said_before(tmp_path, monkeypatch):
    (tmp_path / "X.csv").write_text(FILES["header.csv"])
    monkeypatch.setattr("fastent.runtime.memory.available_bytes", lambda: 1000)
    with pytest.raises(fe.FastentError, match=r"X\.csv', which is read whole, needs about .*: write it as Parquet"):
        fe.open(tmp_path / "X.csv")


@pytest.mark.parametrize("form", ["csv", "parquet", "arrow"])
def test_gaps_are_named_by_row_and_column(tmp_path, form):
    table = pa.table({"a": [1.0, None, 3.0], "b": [1, 2, None], "kind": ["x", "y", "x"]})
    path = tmp_path / f"gaps.{form}"
    if form == "csv":
        path.write_text("a,b,kind\n1.0,1,x\n,2,y\n3.0,,x\n")
    elif form == "arrow":
        pyarrow.feather.write_feather(table, path)
    else:
        pq.write_table(table, path)
    with pytest.raises(fe.FastentError, match=r"has no value in row 1, column 'a', and in 2 rows in all.*gaps: 'a', 'b'"):
        fe.geometry(path, "kind")
    with pytest.raises(fe.FastentError, match=r"has no value in row 2, column 'b': drop those rows, or fill them in$"):
        fe.geometry(f"{path}:b", f"{path}:kind")


def test_text_among_the_features_is_named_with_remedies(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,island,kind\n1,2,u,x\n3,4,v,y\n5,6,v,y\n")
    with pytest.raises(
        fe.FastentError, match=r"no numbers, 'island' \(text\), 'kind' \(text\): if 'island' is the label, pass "
    ):
        fe.neighbors(path)
    with pytest.raises(fe.FastentError, match=r"no numbers, 'island' \(text\): leave them out, or name .*t\.csv:a,b"):
        fe.geometry(path, "kind")
    assert fe.geometry(f"{path}:a,b", "kind").classes.tolist() == ["x", "y"]
    with pytest.raises(fe.FastentError, match=r"labels='knd' is no column of .*'a', 'b', 'island', 'kind', and no file"):
        fe.geometry(path, "knd")
    with pytest.raises(fe.FastentError, match=r"is a table: name the column of labels, as t\.csv:label"):
        read_labels(str(path))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("compression", ["uncompressed", "lz4"])
def test_arrow_files(tmp_path, stream, compression):
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(X.reshape(N, 2, 3))
    table = pa.table({"emb": tensors, "kind": pa.array([f"c{v}" for v in Y]).dictionary_encode()})
    path = tmp_path / ("X.arrow" if stream else "X.feather")
    if stream:
        options = pa.ipc.IpcWriteOptions(compression=None if compression == "uncompressed" else compression)
        with pa.ipc.new_stream(path, table.schema, options=options) as sink:
            sink.write_table(table, max_chunksize=20)
    else:
        pyarrow.feather.write_feather(table, path, compression=compression)
    source = fe.open(path)
    assert source.point_shape == (2, 3)
    np.testing.assert_array_equal(source[:], X)
    assert read_labels(f"{path}:kind").tolist() == [f"c{v}" for v in Y]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(fe.FastentError, match="is damaged or no file of Arrow"):
        fe.open(path)


def test_folders_of_hugging_face(tmp_path):
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict(
        {"emb": X.tolist(), "label": Y.tolist()},
        features=datasets.Features({"emb": datasets.Sequence(datasets.Value("float32")), "label": datasets.ClassLabel(3)}),
    )
    made.save_to_disk(tmp_path / "one", num_shards=3)
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "two")
    made.shuffle(seed=0).save_to_disk(tmp_path / "shuffled")
    np.testing.assert_array_equal(fe.open(tmp_path / "one")[:], X)
    np.testing.assert_array_equal(read_labels(f"{tmp_path}/two/train:label"), Y)
    order = [made["emb"].index(row) for row in made.shuffle(seed=0)["emb"]]
    np.testing.assert_array_equal(fe.open(f"{tmp_path}/shuffled:emb")[:], X[order])
    for given_X in (made, tmp_path / "one"):
        assert fe.geometry(given_X, "label").nc1 == fe.geometry(X, Y).nc1
    with pytest.raises(fe.FastentError, match=r"holds the data sets 'test', 'train': name one, as .*test"):
        fe.open(tmp_path / "two")


NAMES = st.lists(
    st.text(string.ascii_letters + "äß, :.*[é" + '"', min_size=2, max_size=8), min_size=1, max_size=5, unique_by=str.lower
)


@settings(max_examples=60, deadline=None)
@given(
    names=NAMES,
    rows=hnp.arrays(np.float64, st.tuples(st.integers(4, 9), st.just(5)), elements=st.floats(-1e6, 1e6)),
)
def test_rows_survive_a_table_whatever_its_columns_are_called(tmp_path_factory, names, rows):
    names = [f"_{name}" for name in names]  # none of them a label or a row number
    rows = rows[:, : len(names)] + 0.25
    table = pa.table(dict(zip(names, rows.T)))
    folder = tmp_path_factory.mktemp("tables")
    pq.write_table(table, folder / "t.parquet")
    pyarrow.feather.write_feather(table, folder / "t.feather")
    pyarrow.csv.write_csv(table, folder / "t.csv")
    for name in ("t.parquet", "t.feather", "t.csv"):
        found = fe.open(folder / name)
        assert found.columns == tuple(names)
        np.testing.assert_array_equal(found[:], rows)
        np.testing.assert_array_equal(fe.open(folder / name, names[-1])[:], rows[:, -1:])


@given(
    st.lists(
        st.sampled_from(["id", "ID", "index", "Unnamed: 0", "label", "y", "Target", "x", "f1", "size"]), min_size=1, unique=True
    )
)
def test_labels_and_row_numbers_are_never_features(names):
    table = ArrowTable(pa.table({name: [0.5, 1.5] for name in names}), "X")
    features = [name for name in names if name in ("x", "f1", "size") or (name == "y" and "x" in names)]
    if not features:
        with pytest.raises(fe.FastentError, match="has no columns of features"):
            table.rows()
        return
    found = table.rows()
    assert list(found.columns) == features
    assert bool(found.remarks) == (len(features) < len(names))


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("form", ["csv", "parquet", "arrow", "frame"])
def test_a_column_further_on_that_counts_the_rows_is_said(tmp_path, form, start):
    """It may be the time of a measurement: users know, so it stays."""
    count = np.arange(N) + start
    table = pa.table({"a": X[:, 0], "n": count, "b": count[::-1], "c": np.r_[count[:-1], 0], "kind": Y})
    place = tmp_path / f"t.{form}"
    if form == "csv":
        pyarrow.csv.write_csv(table, place)
    elif form == "parquet":
        pq.write_table(table, place, row_group_size=2)
    elif form == "arrow":
        pyarrow.feather.write_feather(table, place)
    else:
        place = table
    m = fe.measure(place, "kind", metrics=["geometry"])
    assert m.shape == (N, 4)
    of, how = ("X", "pass those of the features, as X[['a', 'b', 'c']]")
    if form != "frame":
        of, how = repr(str(place)), f"name those of the features, as {place}:a,b,c"
    assert m.notes[0] == f"'n' of {of} counts the rows, and is one of the features: if it should not be, {how}"
    assert not any("counts" in note for note in fe.measure(table.slice(0, 2), "kind", metrics=["geometry"]).notes)


def test_columns_that_were_named_are_not_questioned(tmp_path):
    pq.write_table(pa.table({"a": X[:, 0], "n": np.arange(N)}), tmp_path / "t.parquet")
    assert fe.open(f"{tmp_path}/t.parquet:a,n").remarks == ()


def test_whole_numbers_and_truth_values_keep_their_digits(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,c\n9007199254740993,true,1\n3,false,2\n1,true,5\n")
    found = read_csv(path).rows()
    assert found.dtype == np.int64
    assert found[:].tolist() == [[9007199254740993, 1, 1], [3, 0, 2], [1, 1, 5]]


def test_a_pattern_is_proposed_for_columns_that_begin_alike(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("emb_0,emb_1,emb_2,emb_3,text\n1,2,3,4,a\n5,6,7,8,b\n")
    with pytest.raises(fe.FastentError, match=r"or name those of the features, as .*t\.csv:emb_\*$"):
        fe.neighbors(path)
    assert fe.open(f"{path}:emb_*").shape == (2, 4)


@pytest.mark.parametrize("beside", [[], ["notes.json", "state.json"]])
def test_a_state_of_another_program_makes_no_data_set(tmp_path, beside):
    for i in range(2):
        pa.feather.write_feather(pa.table({f: X[:, j] for j, f in enumerate(F)}), tmp_path / f"{i}.arrow")
    for name in beside:
        (tmp_path / name).write_text('{"epoch": 3}')
    np.testing.assert_array_equal(fe.open(tmp_path)[:], np.concatenate([X, X]))


def test_names_of_columns_that_python_takes_for_numbers(tmp_path):
    path = tmp_path / "t.csv"
    rows = "\n".join(f"{i}.5,{-i},{i},2.5,{'ab'[i % 2]}" for i in range(9))
    path.write_text("0_0,0_1,1_0,1_1,label\n" + rows)
    assert fe.open(path).columns == ("0_0", "0_1", "1_0", "1_1")
    assert read_labels(f"{path}:label").tolist() == ["a", "b", "a", "b", "a", "b", "a", "b", "a"]
    path.write_text("1_000,٢\n1,2.5\n3,4.5")
    assert fe.open(path).columns == ("1_000", "٢")


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("a;b\n1;2\n1,5;2,5\n", [[1, 2], [1.5, 2.5]]),
        ("1,5;2,5\n1;2\n-3,5;+4,5e1\n", [[1.5, 2.5], [1, 2], [-3.5, 45]]),
        ("a;b;note\n1.5;2.5;3,4\n5;6;7,8\n", None),
    ],
    ids=["late", "no header", "points too"],
)
def test_decimal_commas(tmp_path, content, rows):
    path = tmp_path / "t.csv"
    path.write_text(content)
    if rows is None:
        np.testing.assert_array_equal(fe.open(f"{path}:a,b")[:], [[1.5, 2.5], [5, 6]])
    else:
        np.testing.assert_array_equal(fe.open(path)[:], rows)


@pytest.mark.parametrize("start", [0, 1, 2])
def test_row_numbers_are_left_out_of_every_table(tmp_path, start):
    table = pa.table({"n": np.arange(start, start + 9), "a": X[:9, 0], "b": X[:9, 1]})
    pa.csv.write_csv(table, tmp_path / "t.csv")
    pa.feather.write_feather(table, tmp_path / "t.feather")
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=4)
    expected = ("a", "b") if start < 2 else ("n", "a", "b")
    for name in ("t.csv", "t.feather", "t.parquet"):
        assert fe.open(tmp_path / name).columns == expected, name
    assert ArrowTable(table, "X").rows().columns == expected


@pytest.mark.parametrize("numbers", [[0, 1, 2, 3, 4, 5, 6, 7, 7], [0, 1, 2, 3, None, 5, 6, 7, 8], [0.0] + [1.0] * 8])
def test_other_numbers_count_no_rows(tmp_path, numbers):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"n": numbers, "a": X[:9, 0]}), path, row_group_size=4)
    assert fe.open(path).columns == ("n", "a")


def test_the_only_feature_may_count(tmp_path):
    table = pa.table({"n": np.arange(9)})
    pq.write_table(table, tmp_path / "t.parquet")
    for source in (ArrowTable(table, "X").rows(), fe.open(tmp_path / "t.parquet")):
        np.testing.assert_array_equal(source[:].ravel(), np.arange(9))
    labelled = ArrowTable(table.append_column("kind", pa.array(list("abcabcabc"))), "X")
    assert labelled.rows(labels="kind").columns == ("n",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("1,2,3\n4,5,6\n7,8,8\n", True),
        ("0;1;2\n4;0,5;6\n7;8;8\n", True),
        ("0,1,2\n0.5,0.25,1.5\n0.1,0.2,0.3\n", False),
        (",0,1,2\n0,4,5,6\n1,5,6,6\n2,1,1,1\n", False),
        ("5,6,7\n4,5,6\n7,8,8\n", False),
    ],
)
def test_a_first_row_of_numbers_that_is_taken_for_a_header_is_said(tmp_path, content, said):
    path = tmp_path / "t.csv"
    path.write_text(content)
    remarks = [remark for remark in fe.open(path).remarks if "first row" in remark]
    assert len(remarks) == said
    if said:
        assert remarks[0].startswith(f"the first row of {str(path)!r} ({', '.join(content[:5:2])}) counts")
        assert remarks[0].endswith("if it is a row of the table, write a header above it")


def test_a_header_in_another_encoding_is_one_error(tmp_path):
    place = tmp_path / "t.csv"
    place.write_bytes("größe,b\n1,2\n3,4\n".encode("latin-1"))
    with pytest.raises(fe.FastentError, match="not in UTF-8: convert the file"):
        fe.open(place)
