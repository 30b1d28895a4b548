import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastent.arrays.validation import as_features, as_labels, check_finite, row_blocks
from fastent.errors import FastentError


def joined(X, **options):
    return np.concatenate([block for _, block in row_blocks(X, **options)])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int16", "int32", "int64", "bool"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_blocks_are_what_kernels_take_and_lose_nothing(dtype, order):
    X = np.asarray(np.arange(60).reshape(12, 5) % 7 * 3, dtype=dtype, order=order)
    blocks = [block for _, block in row_blocks(as_features(X), block_bytes=64)]
    assert all(block.flags.c_contiguous and block.dtype in (np.float32, np.float64) for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks).astype(dtype), X)


def test_wide_integers_keep_their_digits():
    X = np.array([[2**24 + 1], [2**40 + 1]])
    np.testing.assert_array_equal(joined(as_features(X)), X)


def test_no_copy_where_none_is_needed(tmp_path):
    X = np.ones((100, 4), np.float32)
    assert as_features(X) is X
    assert next(iter(row_blocks(X)))[1] is X
    assert np.shares_memory(as_features(torch.from_numpy(X)), X)
    assert np.shares_memory(as_features(X[::2]), X)
    np.save(tmp_path / "X.npy", X)
    stored = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert as_features(stored) is stored


def test_a_memory_map_is_read_block_by_block(tmp_path):
    X = np.random.default_rng(0).standard_normal((1000, 8)).astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    stored = np.load(tmp_path / "X.npy", mmap_mode="r")
    sizes = [len(block) for _, block in row_blocks(stored, block_bytes=3200)]
    assert sizes == [100] * 10
    np.testing.assert_array_equal(joined(stored, block_bytes=3200), X)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32])
def test_torch_tensors(dtype):
    tensor = torch.arange(12).reshape(4, 3).to(dtype).T
    np.testing.assert_array_equal(joined(as_features(tensor)), tensor.to(torch.float64).numpy())
    assert as_features(torch.ones(3, 2, requires_grad=True)).shape == (3, 2)


@pytest.mark.parametrize(
    ("labels", "classes", "codes"),
    [
        ([3, 1, 3], [1, 3], [1, 0, 1]),
        (["b", "a", "b"], ["a", "b"], [1, 0, 1]),
        ([True, False], [False, True], [1, 0]),
        (np.array([2.0, -1.0]), [-1, 2], [1, 0]),
        (np.array(["x", "longer"], object), ["longer", "x"], [1, 0]),
        (torch.tensor([5, 4]), [4, 5], [1, 0]),
        (np.array([2**63, 1], np.uint64), [1, 2**63], [1, 0]),
    ],
)
def test_labels_become_codes_of_sorted_classes(labels, classes, codes):
    result = as_labels(labels)
    assert result.classes.tolist() == classes
    assert result.codes.tolist() == codes
    assert result.codes.dtype == np.int64


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 9)), elements=st.floats(width=32)))
def test_check_finite_finds_what_isfinite_finds(X):
    bad = np.flatnonzero(~np.isfinite(X).all(1))
    if len(bad) == 0:
        check_finite(X)
    else:
        with pytest.raises(FastentError, match=f"in {len(bad)} of {len(X)} rows, first at row {bad[0]}, column"):
            check_finite(X)


def test_large_finite_values_are_finite():
    check_finite(np.full((1000, 100), 3e38, np.float32))
    check_finite(np.full((1000, 100), 60000, np.float16))


def test_paths_are_opened_and_points_of_any_shape_become_rows(tmp_path):
    pictures = np.arange(48, dtype=np.uint8).reshape(4, 3, 4)
    flat, y = pictures.reshape(4, 12), [0, 1, 1, 0]
    np.save(tmp_path / "X.npy", pictures)
    np.save(tmp_path / "F.npy", np.asfortranarray(pictures))
    np.savez(tmp_path / "X.npz", X=pictures, y=y)
    given = [tmp_path / "X.npy", str(tmp_path / "F.npy"), f"{tmp_path}/X.npz:X", pictures, torch.from_numpy(pictures)]
    for X in (*given, np.load(tmp_path / "X.npy", mmap_mode="r"), np.load(tmp_path / "F.npy", mmap_mode="r")):
        notes = []
        found = as_features(X, notes=notes)
        assert notes == ["X has points of shape (3, 4), which are flattened to rows of 12 features"]
        np.testing.assert_array_equal(found[:], flat)
        with pytest.warns(UserWarning, match="flattened to rows of 12 features"):
            as_features(X)
    assert as_labels(f"{tmp_path}/X.npz").codes.tolist() == y
    with pytest.raises(FastentError, match="is empty, shape"):
        as_features(pictures[:0])
