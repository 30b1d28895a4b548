"""What two tiles know of each other excludes no row that a query wants, wherever points lie and however they are coded."""

import numpy as np
import pytest
from fastent.kernels.target import has_feature
from fastent.kernels.tree import TILE
from hypothesis import given
from hypothesis import strategies as st

from fastent.search.coding import codings
from fastent.search.exact_index import ExactIndex, View
from fastent.search.index import ExternalQueries
from fastent.search.sketch import take_frame
from tests import naive

SHAPES = ("normal", "lattice", "repeated", "one feature", "one outlier")


def cloud(rng, shape, n, d, scale):
    """Points about 0; each kind has ties, or codes that are far off for some of its points."""
    points = rng.standard_normal((n, d))
    if shape == "lattice":
        points = rng.integers(-2, 3, (n, d)).astype(float)
    if shape == "repeated":
        points = points[rng.integers(0, min(n, 4), n)]
    if shape == "one feature":
        points[:, 1:] *= 2.0**-20
    if shape == "one outlier":
        points[0] *= 2.0**20
    return points * 2.0**scale


def two_clouds(shapes, sizes, d, scales, apart, offset, dtype, seed):
    """Two clouds of points, some distance apart, both seen from far away; all powers of two."""
    rng = np.random.default_rng(seed)
    first, second = (cloud(rng, *each, d, scale) for each, scale in zip(zip(shapes, sizes, strict=True), scales, strict=True))
    direction = rng.standard_normal(d)
    second += direction / np.linalg.norm(direction) * 2.0**apart
    return (np.concatenate([first, second]) + 2.0**offset * rng.choice([-1, 0, 1], d)).astype(dtype)


def assert_nothing_is_excluded(index, n, queries, own, truth, rank, among="all", blur=0.0):
    """All rows in the order of their distances are known where no limit applies: any limit has to leave a beginning of that."""
    whole = index.nearest(n - (own is not None), queries, among=among)
    if among == "all":
        assert not naive.wrong_lists(whole.indices, truth, own, blur=blur).any()
    else:
        classes = index._points.rows.classes[index._position]
        for own_class in range(2):
            its_queries = np.flatnonzero(classes[own] == own_class)
            rows = np.flatnonzero((classes == own_class) == (among == "own class"))
            found = whole.indices[its_queries, : len(rows) - (among == "own class")]
            if found.size:
                its_own = np.searchsorted(rows, own[its_queries]) if among == "own class" else None
                its_truth = truth[np.ix_(its_queries, rows)]
                assert not naive.wrong_lists(np.searchsorted(rows, found), its_truth, its_own, blur=blur).any()
    # As far as to one of the rows, which is wanted, but not nearer; and with the limit that a list of so many sets itself.
    limits = whole.squared[:, min(rank, whole.squared.shape[1] - 1)]
    within = index.nearest(whole.squared.shape[1], queries, among=among, within=limits)
    wanted = (whole.squared <= limits[:, None]) & (whole.indices < n)
    np.testing.assert_array_equal(within.indices, np.where(wanted, whole.indices, n))
    np.testing.assert_array_equal(within.squared, np.where(wanted, whole.squared, np.inf))
    k = min(rank + 1, whole.squared.shape[1])
    np.testing.assert_array_equal(index.nearest(k, queries, among=among).indices, whole.indices[:, :k])
    if among == "all":
        nearer = (whole.squared < limits[:, None]).sum(1)
        np.testing.assert_array_equal(index.count_nearer(limits, queries), nearer)


@given(
    shapes=st.tuples(*2 * [st.sampled_from(SHAPES)]), sizes=st.tuples(*2 * [st.integers(1, TILE)]),
    d=st.sampled_from([1, 2, 5, 16, 17, 40, 130]), scales=st.tuples(*2 * [st.integers(-145, 40)]), apart=st.integers(-145, 60),
    offset=st.none() | st.integers(-145, 60), dtype=st.sampled_from([np.float32, np.float64]), unit=st.booleans(),
    in_order=st.booleans(), coded=st.integers(0, 99), rank=st.integers(0, 120), seed=st.integers(0, 99),
)  # fmt: skip
def test_no_wanted_pair_is_excluded(
    shapes, sizes, d, scales, apart, offset, dtype, unit, in_order, coded, rank, seed
):  # fmt: skip
    offset = -1000 if offset is None else offset
    X = two_clouds(shapes, sizes, d, scales, apart, offset, dtype, seed)
    if unit:
        if not has_feature("fma"):  # then angles in a narrow cone are not the true ones: docs/limits.md
            return
        X = X[X.any(1)]
    if len(X) < 3:
        return
    rng, n = np.random.default_rng(seed), len(X)
    frame = take_frame(X, n_axes=min(d, 127) if d > 16 else 0, unit=unit, seed=0)
    choices = codings(d, frame.axes.shape[1], 100)
    classes = rng.integers(0, 2, n)
    view = View(frame, choices[coded % len(choices)])
    index = ExactIndex(X, classes=classes, unit=unit, view=view, in_order=in_order)
    distances = naive.wide_angles if unit else naive.wide_squared_distances
    truth = distances(X, X)
    blur = 2.0**-60 if unit else 0.0
    assert_nothing_is_excluded(index, n, None, np.arange(n), truth, rank, blur=blur)
    some = np.sort(rng.choice(n, min(n, 30), replace=False))
    assert_nothing_is_excluded(index, n, some, some, truth[some], rank, blur=blur)
    moved = rng.permutation(X)[:30]
    assert_nothing_is_excluded(index, n, moved, None, distances(moved, X), rank, blur=blur)
    others = ExternalQueries(X[some], some, classes[some])
    for among in ("own class", "other classes"):
        assert_nothing_is_excluded(index, n, others, some, truth[some], rank, among, blur)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_at_the_limit_itself_of_tiles_that_lie_far_apart(dtype):
    """In one dimension all products are along the line between the centres, and sums of whole numbers come closest to limits."""
    for apart in (0, 3, 20, 60):
        X = np.concatenate([np.arange(128.0), 2.0**apart + np.arange(128.0)]).astype(dtype)[:, None]
        truth = naive.wide_squared_distances(X, X)
        for in_order in (False, True):
            for rank in (0, 1, 2, 127, 128, 200):
                assert_nothing_is_excluded(ExactIndex(X, in_order=in_order), 256, None, np.arange(256), truth, rank)
