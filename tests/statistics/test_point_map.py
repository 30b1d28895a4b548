"""Maps in two dimensions: the plane against scikit-learn, the share that it keeps against its definition, awkward points."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import fastent as fe
from fastent.errors import FastentError
from fastent.statistics import point_map
from fastent.statistics.planes import PACKAGES, PLANES, principal_plane


def kept_naively(X, coordinates, k):
    """The share of each point's k nearest in X that are among its k nearest on the map, from all distances."""

    def nearest(points):
        apart = np.linalg.norm(points[:, None] - points[None], axis=2)
        np.fill_diagonal(apart, np.inf)
        return np.argsort(apart, axis=1, kind="stable")[:, :k]

    return np.array([len(set(a) & set(b)) / k for a, b in zip(nearest(X), nearest(coordinates), strict=True)])


@pytest.mark.parametrize(("n", "d"), [(200, 64), (60, 300), (1000, 5), (30, 2), (5, 3)])
def test_the_plane_is_that_of_principal_components(n, d):
    X = np.random.default_rng(n).standard_normal((n, d)) * np.linspace(9, 1, d) ** 2 + 50
    plane, explained = principal_plane(X)
    oracle = PCA(2, svd_solver="full").fit(X)
    theirs = oracle.transform(X)
    theirs *= np.sign((theirs * plane).sum(0))
    np.testing.assert_allclose(plane, theirs, atol=1e-4 * np.abs(theirs).max())
    np.testing.assert_allclose(explained, oracle.explained_variance_ratio_, rtol=1e-8)


def test_the_sign_of_an_axis_is_that_of_its_largest_component():
    X = np.zeros((4, 3))
    X[:, 1] = [0, 1, 2, 3]
    for rows in (X, X[::-1]):
        plane, explained = principal_plane(rows)
        np.testing.assert_allclose(plane[:, 0], rows[:, 1] - 1.5)
        np.testing.assert_allclose(explained, [1, 0], atol=1e-12)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1.0, 1e30, 1e300])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_scales_and_offsets_move_nothing(scale, offset):
    X = np.random.default_rng(0).standard_normal((50, 4)) * [5, 3, 1, 1]
    expected, shares = principal_plane(X)
    plane, explained = principal_plane((X + offset) * scale)
    np.testing.assert_allclose(plane / scale, expected, atol=1e-5)
    np.testing.assert_allclose(explained, shares, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 60),
    d=st.integers(1, 6),
    k=st.integers(1, 12),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    seed=st.integers(0, 99),
)
def test_what_is_kept_is_as_defined(n, d, k, dtype, seed):
    X = np.random.default_rng(seed).standard_normal((n, d)).astype(dtype)
    found = fe.map_points(X, k=k)
    assert found.k == min(k, n - 1)
    assert found.coordinates.shape == (n, 2)
    assert found.chance == pytest.approx(found.k / (n - 1))
    oracle = kept_naively(X.astype(np.float64), found.coordinates, found.k)
    # Equally near rows of few bits may be taken in another order.
    assert np.abs(found.kept - oracle).mean() <= (0 if dtype == np.float64 else 0.05)
    assert found.kept_share == found.kept.mean()


def test_a_line_and_a_plane_are_kept_whole_and_noise_by_chance():
    rng = np.random.default_rng(0)
    for d in (1, 2):
        assert fe.map_points(rng.standard_normal((300, d))).kept_share == pytest.approx(1)
    noise = fe.map_points(rng.standard_normal((2000, 500)))
    assert noise.chance < noise.kept_share < 3 * noise.chance


def test_the_map_of_digits_is_the_same_each_time_and_with_known_neighbours(monkeypatch):
    X, y = load_digits(return_X_y=True)
    first, near = fe.map_points(X, y), fe.neighbors(X, 10)
    monkeypatch.setattr(point_map, "neighbors", None)  # no second search
    again = fe.map_points(X, y, neighbors=near)
    for name in ("rows", "coordinates", "kept", "explained"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


def test_points_without_variance_have_no_map():
    for X in (np.zeros((9, 3)), np.full((5000, 3), 0.1), np.full((2, 1), -1e30)):
        found = fe.map_points(X)
        assert not found.coordinates.any()
        assert np.isnan(found.kept_share)
        assert "All points shown are the same." in repr(found)
        found.plot()


def test_many_duplicates_and_a_constant_feature():
    X = np.repeat(np.arange(6.0)[:, None] * np.array([1, 2, 0]), 50, axis=0) + np.array([0, 0, 0.1])
    found = fe.map_points(X, k=10)
    assert len(np.unique(found.coordinates.round(9), axis=0)) == 6
    assert 0 <= found.kept_share <= 1
    np.testing.assert_allclose(found.explained, [1, 0], atol=1e-12)


def test_a_sample_has_each_class_and_the_rows_to_keep():
    rng = np.random.default_rng(0)
    labels = np.r_[np.zeros(5990), np.ones(10)].astype(int)
    keep = np.array([17, 3, 4000])
    found = fe.map_points(rng.standard_normal((6000, 3)), labels, most=600, keep=keep)
    assert len(found.rows) == 600
    assert np.isin(keep, found.rows).all()
    assert (np.diff(found.rows) > 0).all()
    assert (labels[found.rows] == 1).sum() == 10
    many = fe.map_points(rng.standard_normal((6000, 3)), labels, most=30, keep=np.arange(100))
    assert np.isin(np.arange(10), many.rows).all()
    assert len(many.rows) == 30
    others = fe.map_points(rng.standard_normal((6000, 3)), labels, most=600, keep=keep, seed=1)
    assert not np.array_equal(found.rows, others.rows)


def test_kept_neighbours_of_a_sample_are_those_within_it():
    X = np.random.default_rng(0).standard_normal((900, 8))
    found = fe.map_points(X, most=200)
    np.testing.assert_allclose(found.kept, kept_naively(X[found.rows], found.coordinates, 10))


def test_many_features_show_fewer_points():
    X = np.random.default_rng(0).standard_normal((400, 5), np.float32) @ np.ones((5, 200_000), np.float32)
    assert len(fe.map_points(X).rows) == 316  # 316^2 x 200,000 = 2e10


def test_normalized_rows_are_mapped_as_such():
    X = np.random.default_rng(0).standard_normal((100, 4))
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    found, oracle = fe.map_points(X, normalize=True), fe.map_points(unit)
    np.testing.assert_allclose(found.coordinates, oracle.coordinates, atol=1e-12)


def test_a_measurement_maps_its_queries():
    X, y = load_digits(return_X_y=True)
    found = fe.measure(X, y, metrics="mixing", map="pca", queries=300)
    assert set(found.maps["pca"].rows) == set(found.queries)
    assert found.maps["pca"].n == len(X)
    assert fe.measure(X, y, metrics="mixing").maps is None
    assert fe.measure(X[:300], y[:300], map="none").maps is None
    whole = fe.measure(X, y, metrics=["mixing", "margins"], map="pca")
    np.testing.assert_array_equal(whole.maps["pca"].coordinates, fe.map_points(X, y).coordinates)
    assert whole.outvoted.mean() == pytest.approx(whole.mixing.error)
    assert fe.measure(X, y, metrics="margins").outvoted.mean() == pytest.approx(whole.margins.n3)
    _, axes = whole.plot("map")
    assert "11.8 %" in axes.get_title()
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == [*map(str, range(10)), f"outvoted ({whole.outvoted.sum()})"]


def test_ties_are_outvoted_as_n3_counts_them():
    """The lower of two rows at the same distance is the nearest, and a point alone in its class has no hit."""
    X, y = np.array([[0.0], [0], [1], [1], [1], [1], [5], [5], [9]]), np.array([0, 1, 0, 1, 0, 1, 0, 1, 2])
    found = fe.measure(X, y, metrics="margins")
    assert found.outvoted.mean() == found.margins.n3 == found.margins.missed.mean()
    nearest = fe.neighbors(X, k=1).indices[:, 0]
    assert found.outvoted.tolist() == (y[nearest] != y).tolist()


def test_more_classes_than_can_be_told_apart_are_grey_but_the_largest():
    X = np.random.default_rng(0).standard_normal((400, 3))
    labels = np.minimum(np.arange(400), 25)
    _, axes = fe.map_points(X).plot(labels)
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(texts) == 8
    assert texts[0] == "19 other classes"
    assert "25" in texts


@pytest.mark.parametrize("method", ["umap", "tsne"])
def test_a_missing_package_is_said_before_any_work(method, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, PACKAGES[method], None)
    with pytest.raises(FastentError, match=r"is not installed: pip install '\.\[map\]' in the clone"):
        fe.measure(np.zeros((4, 2)), [0, 1, 0, 1], map=method)


@pytest.mark.parametrize("method", ["umap", "tsne"])
def test_umap_and_tsne_take_our_neighbours(method, monkeypatch):
    pytest.importorskip(PACKAGES[method])
    if method == "umap":
        import umap.umap_ as theirs

        monkeypatch.setattr(theirs, "nearest_neighbors", None)
    X, y = load_digits(return_X_y=True)
    X, y = X[:600], y[:600]
    first, again = (fe.map_points(X, y, method=method) for _ in range(2))
    np.testing.assert_array_equal(first.coordinates, again.coordinates)
    plane = fe.map_points(X, y)
    assert first.kept_share > 2 * plane.kept_share
    np.testing.assert_allclose(first.kept, kept_naively(X, first.coordinates, 10), atol=0.11)
    # With lists that lead elsewhere the points of a class are no longer together.
    shuffled = np.random.default_rng(0).permutation(600)
    near = fe.neighbors(X[shuffled], 90)
    elsewhere = PLANES[method](plane.coordinates, near, 0)
    assert fe.mixing(fe.neighbors(first.coordinates, 10), y).overlap > 0.8
    assert fe.mixing(fe.neighbors(elsewhere, 10), y).overlap < 0.5


@pytest.mark.parametrize("method", ["umap", "tsne"])
@pytest.mark.parametrize("n", [2, 3, 16, 40])
def test_umap_and_tsne_of_few_points_and_of_duplicates(method, n):
    pytest.importorskip(PACKAGES[method])
    X = np.random.default_rng(0).standard_normal((n, 3))
    for rows in (X, np.repeat(X[:2], n, axis=0), np.ones((n, 3))):
        found = fe.map_points(rows, method=method)
        assert np.isfinite(found.coordinates).all()
        assert found.coordinates.shape == (len(rows), 2)


REFUSED = [
    (lambda X: fe.map_points(X[:1]), "X has 1 row: a map needs two at least"),
    (lambda X: fe.map_points(X, method="mds"), "method='mds': choose one of 'pca', 'umap', 'tsne'"),
    (lambda X: fe.map_points(X, k=0), "k=0: a whole number of at least 1 is needed"),
    (lambda X: fe.map_points(X, most=1), "most=1: a whole number of at least 2 is needed"),
    (lambda X: fe.map_points(X, keep=[9]), "row numbers from 0 to 4 are needed"),
    (lambda X: fe.map_points(X, [0, 1]), "X has 5 rows but labels has 2"),
    (lambda X: fe.map_points(X, neighbors=fe.neighbors(X[:4], 2)), "X has 5 rows but neighbors has 4"),
    (lambda X: fe.map_points(X * np.nan), "NaN"),
    (lambda X: fe.map_points(X).plot(marked=[True]), "a bool for each of 5 points is needed"),
    (lambda X: fe.measure(X, [0, 1, 0, 1, 0], map="mds"), "map='mds': choose one of 'pca', 'umap', 'tsne', 'none'"),
    (lambda X: fe.measure(X, [0, 1, 0, 1, 0], k=2, metrics="mixing").plot("map"), "call fe.measure with map='pca'"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "said"), REFUSED)
def test_bad_input_is_refused(call, said):
    with pytest.raises(FastentError) as caught:
        call(np.random.default_rng(0).standard_normal((5, 3)))
    assert said in str(caught.value)
