"""Parquet as people bring it: read, or refused with a line that converts it, which is run here."""

import base64

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

import fastent as fe
from fastent.io.opening import read_labels

N, D = 50, 6
X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
Y = np.arange(N) % 3
NAMES = {"numpy": np, "pyarrow": pa}


def fixed(array):
    return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])


def write(path, group=20, **columns):
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return path


def run_the_line(error, after):
    exec(str(error.value).split(after, 1)[1].split("; labels can be")[0], dict(NAMES))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint16"])
@pytest.mark.parametrize("make", [fixed, pa.FixedShapeTensorArray.from_numpy_ndarray], ids=["lists", "tensors"])
def test_lists_and_tensors_of_one_axis(tmp_path, dtype, make):
    rows = (X * 40).astype(dtype)
    path = write(tmp_path / "X.parquet", emb=make(rows), y=Y)
    for place in (path, f"{path}:emb"):
        source = fe.open(place)
        assert source.dtype == dtype
        np.testing.assert_array_equal(source[:], rows)
        np.testing.assert_array_equal(source[[49, 0, 21]], rows[[49, 0, 21]])


def test_tensors_of_more_axes_come_with_their_conversion(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("X.parquet", emb=pa.FixedShapeTensorArray.from_numpy_ndarray(X.reshape(N, 2, 3)))
    with pytest.raises(fe.FastentError, match="points of one axis are needed") as error:
        fe.open("X.parquet:emb")
    run_the_line(error, "convert them with ")
    np.testing.assert_array_equal(fe.open("rows.npy")[:], X)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float32()), pa.list_(pa.float64())])
@pytest.mark.parametrize("place", ["lists.parquet", "lists.parquet:emb"])
def test_lists_without_a_fixed_size_come_with_their_conversion(tmp_path, monkeypatch, kind, place):
    monkeypatch.chdir(tmp_path)
    write("lists.parquet", emb=pa.array(X.tolist(), kind), y=Y)
    with pytest.raises(fe.FastentError, match="each list could have another length; all have 6") as error:
        fe.open(place)
    run_the_line(error, "all have 6: ")
    np.testing.assert_array_equal(fe.open("rows.parquet")[:], X)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([[1.0, 2.0], [3.0]], "lists of 1 to 2 values"),
        ([[1.0, 2.0], None], "1 rows or values are null"),
        ([[1.0, None], [2.0, 3.0]], "1 rows or values are null"),
        ([[], []], "lists of 0 to 0 values"),
        ([], "lists of no row"),
    ],
)
def test_lists_that_no_line_converts(tmp_path, lists, message):
    write(tmp_path / "X.parquet", emb=pa.array(lists, pa.list_(pa.float32())))
    with pytest.raises(fe.FastentError, match=message):
        fe.open(tmp_path / "X.parquet")


def test_a_column_for_each_feature_comes_with_its_conversion(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("wide.parquet", **{f"f{i}": X[:, i] for i in range(D)}, label=Y, name=[f"c{v}" for v in Y])
    for place in ("wide.parquet", "wide.parquet:f3"):
        with pytest.raises(fe.FastentError, match=r"but one column for each feature \(f0, f1") as error:
            fe.open(place)
        run_the_line(error, "stack them with ")
        np.testing.assert_array_equal(fe.open("rows.npy")[:], X)
    assert "labels can be read from it as they are, as wide.parquet:label" in str(error.value)
    np.testing.assert_array_equal(read_labels("wide.parquet:label"), Y)
    near = fe.neighbors(X, 3)
    assert fe.mixing(near, read_labels("wide.parquet:name")).overlap == fe.mixing(near, Y).overlap


@pytest.mark.parametrize(
    ("column", "kind"), [(pa.array(["a"] * N), "string"), (pa.array([1] * N).cast(pa.timestamp("s")), "timestamp")]
)
def test_lists_of_what_is_no_number(tmp_path, column, kind):
    lists = pa.FixedSizeListArray.from_arrays(column, 2)
    write(tmp_path / "X.parquet", emb=lists)
    with pytest.raises(fe.FastentError, match=f"'emb' of .* holds values of type {kind}"):
        fe.open(tmp_path / "X.parquet")


def test_names_with_dots_and_columns_within_columns(tmp_path):
    path = write(
        tmp_path / "X.parquet",
        **{"enc": fixed(X), "enc.0": fixed(-X), "y.fine": Y},
        inner=pa.StructArray.from_arrays([fixed(X), pa.array(Y)], ["emb", "y"]),
    )
    np.testing.assert_array_equal(fe.open(f"{path}:enc")[:], X)
    np.testing.assert_array_equal(fe.open(f"{path}:enc.0")[:], -X)
    for column in ("y.fine", "inner.y"):
        np.testing.assert_array_equal(read_labels(f"{path}:{column}"), Y)
    with pytest.raises(fe.FastentError, match=r"'inner' is a struct: flatten it with table.flatten\(\)"):
        fe.open(f"{path}:inner.emb")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("nothing", "'nothing' is not among them"),
        ("lists", "a list or structure: one label for each row is needed"),
        ("gaps", "is null in 1 of 50 rows"),
        ("y.part", "'y' is of type int64"),
    ],
)
def test_labels_that_are_none(tmp_path, column, message):
    path = write(tmp_path / "y.parquet", y=Y, lists=[[int(v)] for v in Y], gaps=[None, *Y[1:].tolist()])
    with pytest.raises(fe.FastentError, match=message):
        read_labels(f"{path}:{column}")


def test_a_damaged_row_group_is_met_where_it_is_read(tmp_path):
    path = write(tmp_path / "X.parquet", emb=fixed(X))
    source = fe.open(path)
    content = bytearray(path.read_bytes())
    where = pq.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    content[where : where + 60] = bytes(60)
    path.write_bytes(content)
    np.testing.assert_array_equal(source[:40], X[:40])
    for look in (lambda: source[:], lambda: source[[1, 45]], lambda: fe.geometry(source, Y)):
        with pytest.raises(fe.FastentError, match=r"X\.parquet' is damaged or no Parquet file"):
            look()
    path.unlink()
    with pytest.raises(fe.FastentError, match=r"nothing at '.*X\.parquet': check the path"):
        source[:25]


def test_a_table_of_text_comes_with_its_conversion(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [",".join(map(str, row)) for row in X.tolist()]
    files = {
        "plain.csv": "\n".join(lines),
        "header.csv": "\n".join([",".join(f"f{i}" for i in range(D)), *lines]),
        "labels.csv": "\n".join(["label," + ",".join(f"f{i}" for i in range(D)), *(f"3,{line}" for line in lines)]),
        "names.csv": "\n".join([",".join(f"f{i}" for i in range(D)) + ",kind", *(f"{line},cat" for line in lines)]),
        "semicolons.csv": "\n".join(line.replace(",", ";") for line in lines),
        "tabs.tsv": "\n".join(line.replace(",", "\t") for line in lines),
        "blanks.txt": "\n".join(line.replace(",", " ") for line in lines),
        "windows.csv": "\ufeff" + "\r\n".join(lines),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
        for look, words in ((fe.open, "cannot be opened"), (fe.load_data, "unknown data")):
            with pytest.raises(fe.FastentError, match=rf"{words}.*convert it with ") as error:
                look(name)
        run_the_line(error, "convert it with ")
        np.testing.assert_allclose(fe.open(f"{name[:-4]}.npy")[:], X, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("content", [b"\n\n", b"a,b,c\n", b"one,two\nx,y\n", bytes(range(256)) * 9])
def test_text_without_numbers_comes_without_a_line(tmp_path, content):
    (tmp_path / "X.csv").write_bytes(content)
    with pytest.raises(fe.FastentError, match=r"X\.csv' cannot be opened: .* is needed$"):
        fe.open(tmp_path / "X.csv")


def test_labels_in_half_precision(tmp_path):
    path = write(tmp_path / "y.parquet", y=pa.array(Y.astype(np.float16)))
    near = fe.neighbors(X, 3)
    assert fe.mixing(near, read_labels(f"{path}:y")).overlap == fe.mixing(near, Y).overlap


def test_tensors_of_torch_and_arrow_files_come_with_their_conversion(tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    torch.save(torch.from_numpy(X).bfloat16(), "X.pt")
    pyarrow.feather.write_feather(pa.table({"emb": fixed(X)}), "Z.feather")
    for name, made in (("X.pt", "X.npy"), ("Z.feather", "Z.parquet")):
        with pytest.raises(fe.FastentError, match="cannot be opened") as error:
            fe.open(name)
        exec(str(error.value).split("convert it with ")[1], NAMES | {"torch": torch})
        np.testing.assert_allclose(fe.open(made)[:], X, rtol=1e-2)


def test_a_width_that_the_values_contradict(tmp_path):
    """As a flipped bit makes of it: no room is made for rows of that width."""
    path = write(tmp_path / "X.parquet", emb=fixed(np.zeros((N, 37), np.float32)))
    kept = pq.read_metadata(path).metadata[b"ARROW:schema"]
    schema = base64.b64decode(kept)
    assert schema.count((37).to_bytes(4, "little")) == 1
    wide = base64.b64encode(schema.replace((37).to_bytes(4, "little"), (1 << 30).to_bytes(4, "little")))
    path.write_bytes(path.read_bytes().replace(kept, wide))
    source = fe.open(path)
    assert source.shape == (N, 1 << 30)
    for rows in (slice(None), slice(30, 40), [49, 0]):
        with pytest.raises(fe.FastentError, match=r"X\.parquet' is damaged .* lists to be of size=1073741824"):
            source[rows]
