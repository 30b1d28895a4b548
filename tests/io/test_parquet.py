"""Parquet as people bring it: lists, tensors, or one column for each feature."""

import base64
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastent as fe
from fastent.io.opening import read_labels

N, D = 50, 6
X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
Y = np.arange(N) % 3


def fixed(array):
    return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])


def write(path, group=20, **columns):
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return path


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


def test_tensors_of_more_axes_are_flattened(tmp_path):
    path = write(tmp_path / "X.parquet", emb=pa.FixedShapeTensorArray.from_numpy_ndarray(X.reshape(N, 2, 3)))
    for source in (fe.open(path), fe.open(f"{path}:emb")):
        assert (source.shape, source.point_shape) == ((N, D), (2, 3))
        np.testing.assert_array_equal(source[:], X)
        np.testing.assert_array_equal(source[[45, 3]], X[[45, 3]])


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float32()), pa.list_(pa.float64())])
@pytest.mark.parametrize("place", ["lists.parquet", "lists.parquet:emb"])
def test_lists_without_a_fixed_size(tmp_path, monkeypatch, kind, place):
    monkeypatch.chdir(tmp_path)
    write("lists.parquet", emb=pa.array(X.tolist(), kind), y=Y)
    np.testing.assert_array_equal(fe.open(place)[:], X)
    write("lists.parquet", emb=pa.array(X.reshape(N, 2, 3).tolist(), pa.list_(kind)), y=Y)
    assert fe.open(place).point_shape == (2, 3)
    np.testing.assert_array_equal(fe.open(place)[[40, 2]], X[[40, 2]])


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([[1.0, 2.0], [3.0]], "has 1 values in row 1, column 'emb', and 2 in the first row"),
        ([[1.0, 2.0], None], "has a null in row 1, column 'emb'"),
        ([[1.0, None], [2.0, 3.0]], "has a null in row 0, column 'emb'"),
        ([[], []], "'emb' of .* has no values in its first row"),
        ([], "'emb' of .* has no values in its first row"),
    ],
)
def test_lists_that_are_no_rows(tmp_path, lists, message):
    write(tmp_path / "X.parquet", emb=pa.array(lists, pa.list_(pa.float32())))
    with pytest.raises(fe.FastentError, match=message):
        fe.open(tmp_path / "X.parquet")[:]


def test_a_column_for_each_feature_is_read_in_parts(tmp_path):
    path = write(tmp_path / "wide.parquet", **{f"f{i}": X[:, i] for i in range(D)}, label=Y)
    source = fe.open(path)
    assert source.columns == tuple(f"f{i}" for i in range(D))
    assert source.remarks[0].startswith("'label' of ")
    np.testing.assert_array_equal(source[15:45], X[15:45])
    np.testing.assert_array_equal(source[[49, 0, 21, 0]], X[[49, 0, 21, 0]])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source))[:], X)
    np.testing.assert_array_equal(fe.open(f"{path}:f3")[:], X[:, [3]])
    np.testing.assert_array_equal(fe.open(f"{path}:f3,f0")[:], X[:, [3, 0]])
    np.testing.assert_array_equal(fe.open(path, "f[24]")[:], X[:, [2, 4]])
    np.testing.assert_array_equal(read_labels(f"{path}:label"), Y)
    assert fe.measure(str(path), "label", metrics=["mixing"]).mixing.overlap == fe.mixing(fe.neighbors(X), Y).overlap
    with pytest.raises(fe.FastentError, match=r"has the columns 'f0', .* and 'g' is not among them"):
        fe.open(path, "f0,g")


def test_shards_with_a_column_for_each_feature(tmp_path):
    for at, columns in enumerate((["a", "b"], ["a", "b"])):
        write(tmp_path / f"{at}.parquet", **{name: X[:, i] for i, name in enumerate(columns)})
    np.testing.assert_array_equal(fe.open(tmp_path)[:], np.concatenate([X[:, :2]] * 2))
    write(tmp_path / "1.parquet", b=X[:, 1], a=X[:, 0])
    with pytest.raises(fe.FastentError, match=r"has other columns than .* b, a and a, b"):
        fe.open(tmp_path)


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


def test_labels_in_half_precision(tmp_path):
    path = write(tmp_path / "y.parquet", y=pa.array(Y.astype(np.float16)))
    near = fe.neighbors(X, 3)
    assert fe.mixing(near, read_labels(f"{path}:y")).overlap == fe.mixing(near, Y).overlap


def test_tensors_of_torch_come_with_their_conversion(tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    torch.save(torch.from_numpy(X).bfloat16(), "X.pt")
    with pytest.raises(fe.FastentError, match="cannot be opened") as error:
        fe.open("X.pt")
    exec(str(error.value).split("convert it with ")[1], {"numpy": np, "torch": torch})
    np.testing.assert_allclose(fe.open("X.npy")[:], X, rtol=1e-2)


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
