"""Points in whole numbers: what codes say of distances, and the products of codes."""

import numpy as np
import pytest
from fastent.kernels.jit import kernel
from fastent.kernels.products import HALF, compare_four, multiply_four
from fastent.kernels.quantized import BITS, LARGEST, coded_coordinates, encode, no_codes
from fastent.kernels.tree import TILE
from hypothesis import given
from hypothesis import strategies as st

from fastent.search.tiles import starts


@kernel(counted=False)
def multiply(bits, points, first, queries, at, stride, count, begin, where, apart, sums, place):
    multiply_four(bits, points, first, queries, at, stride, count, begin, where, apart, sums, place)


@kernel(counted=False)
def compare(sums, place, limits, shifts, first, other_limits, at, masks):
    compare_four(sums, place, limits, shifts, first, other_limits, at, masks)


def encoded(X, origin, bits, centred):
    """In two steps, as where points are coded some tiles at a time."""
    start = starts(len(X))
    codes = no_codes(len(start) - 1, X.shape[1], bits)
    for tiles in (slice(0, 1), slice(1, None)):
        some = start[tiles.start : None if tiles.stop is None else tiles.stop + 1]
        if len(some) > 1:
            points, options = X[some[0] : some[-1]], {"bits": bits, "share": 0.0, "centred": centred}
            encode(points, some - some[0], origin, codes, first_tile=tiles.start, **options)
    return codes


def integers(codes, bits, tile):
    """Codes of the points of a tile, (TILE, m), from their words."""
    words = codes.packed[tile].view(np.int8 if bits == 8 else np.int16).reshape(-1, TILE, 32 // bits)
    return words.transpose(1, 0, 2).reshape(TILE, -1).astype(np.int64)


@given(
    st.integers(2, 300),
    st.sampled_from([1, 5, 16, 33, 64, 100, 200]),
    st.sampled_from(BITS),
    st.booleans(),
    st.sampled_from(["normal", "one large feature", "far away", "outlier", "equal", "tiny", "huge"]),
    st.integers(0, 5),
)
def test_codes_are_as_far_from_points_as_is_said(n, d, bits, centred, kind, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    if kind == "one large feature":
        X[:, 0] *= 1000
    elif kind == "far away":
        X += 10_000
    elif kind == "outlier":
        X[n // 2] = 1e20
    elif kind == "equal":
        X[:] = X[0]
    else:
        X *= {"normal": 1, "tiny": 1e-35, "huge": 1e15}[kind]
    X, origin = X.astype(np.float32), X.mean(0).astype(np.float32)
    codes = encoded(X, origin, bits, centred)
    tile, t = np.divmod(np.arange(n), TILE)  # tiles are full but for the last
    whole = np.stack([integers(codes, bits, each) for each in range(len(codes.steps))])
    assert (np.abs(whole) <= 2 ** (bits - 1) - 1).all()
    assert ((whole**2).sum(2) <= LARGEST).all()
    decoded = whole[tile, t] * codes.steps[tile][:, None] + codes.centre[tile]
    errors, X = codes.errors[tile * TILE + t].astype(np.float64), X.astype(np.float64)
    between = np.linalg.norm(X[:, None] - X, axis=2)
    coded = np.linalg.norm(decoded[:, None] - decoded, axis=2)
    assert (np.abs(between - coded) <= (errors[:, None] + errors) * (1 + 1e-9) + 1e-300).all()
    np.testing.assert_allclose(codes.norms[tile * TILE + t], (whole[tile, t] ** 2).sum(1) * codes.steps[tile] ** 2, rtol=1e-12)
    assert (codes.largest_error[tile] >= codes.errors[tile * TILE + t]).all()
    if kind in ("normal", "far away"):
        assert errors.max() < 0.03 * np.linalg.norm(X - X.mean(0), axis=1).max() + 1e-5 * np.linalg.norm(origin)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("d", [16, 40, 300])
def test_products_are_exact(bits, d):
    rng = np.random.default_rng(d)
    X = rng.standard_normal((2 * TILE, d)).astype(np.float32)
    codes = encoded(X, np.zeros(d, np.float32), bits, False)
    mine, theirs = integers(codes, bits, 0), integers(codes, bits, 1)
    stride = codes.raised.shape[1]
    split = stride // 2
    begin = rng.integers(-1000, 1000, TILE).astype(np.int32)
    for half in range(2):
        points = slice(half * HALF, (half + 1) * HALF)
        sums = np.zeros(6 * HALF, np.int32)
        queries, first, at = codes.raised.ravel(), half * HALF, 12 * stride
        multiply(bits, codes.packed[1], first, queries, at, stride, split, begin, half * HALF, 0, sums, HALF)
        first, at = split * TILE + half * HALF, at + split
        multiply(bits, codes.packed[1], first, queries, at, stride, stride - split, sums, HALF, HALF, sums, HALF)
        expected = mine[12:16] @ theirs[points].T + codes.raise_of[TILE:][points] + begin[points]
        np.testing.assert_array_equal(sums[HALF:-HALF].reshape(4, HALF), expected)
        assert not np.delete(sums, np.arange(HALF, 5 * HALF)).any()


def test_survivors_are_those_that_reach_a_limit_of_either():
    rng = np.random.default_rng(0)
    sums = rng.integers(-(2**29), 2**29, 5 * HALF).astype(np.int32)
    limits, shifts = (rng.integers(-(2**29), 2**29, 8).astype(np.int32) for _ in range(2))
    others, masks = rng.integers(-(2**29), 2**29, 2 * HALF).astype(np.int32), np.zeros(4, np.uint64)
    compare(sums, HALF, limits, shifts, 2, others, HALF, masks)
    totals = sums[HALF:].reshape(4, HALF)
    expected = (totals >= limits[2:6, None]) | (totals >= shifts[2:6, None] + others[HALF:])
    found = np.unpackbits(masks.view(np.uint8), bitorder="little").reshape(4, HALF).astype(bool)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("p", "coded"), [(1, 16), (16, 16), (17, 32), (24, 32), (64, 64), (70, 80), (100, 112), (784, 832)])
def test_coded_coordinates(p, coded):
    assert coded_coordinates(p) == coded
