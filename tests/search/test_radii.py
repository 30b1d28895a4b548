"""The radii that long lists begin with: no neighbour lies beyond them, and they are hardly larger than they have to be."""

import numpy as np
import pytest
from fastent.kernels.lists import LONG
from fastent.kernels.quantized import BITS

from fastent.search import index_costs
from fastent.search.coding import Coding
from fastent.search.exact_index import ExactIndex, View
from fastent.search.index import ExternalQueries
from fastent.search.sketch import take_frame
from tests import naive

N, K = 700, 40
KINDS = ("normal", "clusters", "lattice", "repeated", "far from 0", "outliers", "double", "tiny", "huge", "of all sizes")


def points_of(kind):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, 48))
    if kind == "clusters":
        X = 0.05 * X + 8 * rng.standard_normal((6, 48))[np.arange(N) % 6]
    elif kind == "lattice":
        X = rng.integers(-1, 2, X.shape)
    elif kind == "repeated":
        X = X[rng.integers(0, 20, N)]
    elif kind == "far from 0":
        X += 1e4
    elif kind == "outliers":
        X[::50] *= 1e6
    elif kind in ("tiny", "huge"):
        X *= 1e-17 if kind == "tiny" else 1e15
    elif kind == "of all sizes":
        X *= 10.0 ** rng.integers(-6, 7, (N, 1))
    return X.astype(np.float64 if kind == "double" else np.float32)


def index_of(X, bits, centred, unit, **options):
    frame = take_frame(X, n_axes=15, unit=unit, seed=0)
    return ExactIndex(X, unit=unit, k=K, view=View(frame, Coding(0, bits, centred)), **options)


def farthest_of(X, queries, k, unit, allowed):
    """Squared distances of the k-th of the allowed rows (q, n)."""
    X, queries = (np.asarray(rows, np.float64) for rows in (X, queries))
    if unit:
        X, queries = (rows / np.linalg.norm(rows, axis=1)[:, None] for rows in (X, queries))
    return np.sort(np.where(allowed, naive.squared_distances(queries, X), np.inf), 1)[:, k - 1]


@pytest.fixture
def all_tiles(monkeypatch):
    """Every query meets all points for its radius."""
    monkeypatch.setattr("fastent.search.exact_index.tiles_met_first", lambda *arguments: 1 << 20)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("in_order", [False, True])
def test_k_rows_lie_within(all_tiles, kind, bits, centred, unit, in_order):
    X = points_of(kind)
    index = index_of(X, bits, centred, unit, in_order=in_order)
    prepared = index.prepare(None)
    within = index._squared_radii(prepared, K)
    truth = farthest_of(X, X, K, unit, ~np.eye(N, dtype=bool))[prepared.ids]
    assert (within >= truth).all()
    # Twice what codes of both ends may be off; two units of products; and where tiles have centres, rounding along these.
    codes, scale = index._points.codes, index._points.rows.scale
    off, unit_of_products = 4 * codes.largest_error.max(), 2 * codes.steps.max() ** 2
    along = 2.0**-22 * (X.shape[1] + 8) * 2 * np.linalg.norm(codes.centre, axis=1).max() * np.sqrt(codes.norms.max())
    assert (
        within <= ((np.sqrt(truth) + off / scale) ** 2 + (2 * unit_of_products + 4 * along) / scale**2) * (1 + 2.0**-14)
    ).all()


def test_of_other_points_and_too_few_rows(all_tiles):
    X = points_of("normal")
    index = index_of(X, BITS[-1], False, False)
    queries = ExternalQueries(X[:50] + np.float32(0.1), np.full(50, -1), np.zeros(50, np.int64))
    prepared = index.prepare(queries)
    within = index._squared_radii(prepared, K)
    truth = farthest_of(X, queries.points, K, False, True)[prepared.ids]
    np.testing.assert_allclose(within, truth, rtol=2e-3)
    assert (within >= truth).all()
    few = index_of(X[:K], BITS[-1], False, False)
    assert np.isfinite(few._squared_radii(few.prepare(queries), K)).all()
    assert (few._squared_radii(few.prepare(None), K) == np.inf).all()  # a row is not its own neighbour


def test_nothing_is_known_where_points_are_drawn_in(all_tiles):
    """Distances between these are shortened, which bounds them from one side only."""
    X = points_of("normal").astype(np.float64)
    X[::50] *= 1e30
    index = index_of(X, BITS[-1], False, False)
    assert (index._squared_radii(index.prepare(None), K) == np.inf).all()
    lists = index.nearest(K)
    expected, _ = naive.nearest(naive.squared_distances(X, X), K, np.arange(N))
    np.testing.assert_array_equal(lists.indices, expected)


def test_only_long_lists_of_whole_points_begin_with_one():
    prices = index_costs.prices_for(1, 1)
    whole, sketch = Coding(0, BITS[0], False), Coding(64, BITS[0], False)
    assert index_costs.tiles_met_first(128, whole, LONG, prices) == 0
    assert index_costs.tiles_met_first(128, sketch, 90, prices) == 0
    assert index_costs.tiles_met_first(128, whole, 200, prices) > index_costs.tiles_met_first(128, whole, 50, prices) > 0


def test_fewer_distances_are_taken(monkeypatch):
    X = np.random.default_rng(0).standard_normal((3000, 64)).astype(np.float32)
    index = index_of(X, BITS[-1], False, False)
    with_radii = index.nearest(90), index.work.survivors
    monkeypatch.setattr("fastent.search.exact_index.tiles_met_first", lambda *arguments: 0)
    without = index.nearest(90), index.work.survivors
    np.testing.assert_array_equal(with_radii[0].indices, without[0].indices)
    np.testing.assert_array_equal(with_radii[0].squared, without[0].squared)
    assert with_radii[1] < 0.5 * without[1]


def test_no_radius_is_sought_where_all_queries_have_one():
    X = np.random.default_rng(0).standard_normal((2000, 64)).astype(np.float32)
    index = index_of(X, BITS[-1], False, False)
    whole = index.nearest(90)
    scanned = index.work.scanned
    within = index.nearest(90, within=whole.squared[:, -1])
    np.testing.assert_array_equal(within.indices, whole.indices)
    assert index.work.scanned < scanned - len(X) ** 2 / 2


def test_progress_counts_the_radii():
    X = np.random.default_rng(0).standard_normal((5000, 64)).astype(np.float32)
    seen = []
    index_of(X, BITS[-1], False, False).nearest(90, progress=lambda *seen_now: seen.append(seen_now))
    assert len({total for _, total, _ in seen}) == 2  # tiles, then pairs of their ranges
    assert seen[0][1] == 40
    assert seen[-1][0] == seen[-1][1]
