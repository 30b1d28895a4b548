import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from sklearn.neighbors import radius_neighbors_graph

import fastent as fe
from fastent.search import equal_rows as equal_rows_module
from fastent.search.pairs_within import squared_reach
from tests import naive
from tests.awkward import KINDS, data_set
from tests.search.test_neighbors import awkward_points

ROUNDING = 1e-12


def assert_right(found, squared, radius, *, unit=False, mutual=True):
    """The pairs of a brute-force search, but for those whose distance is the radius up to rounding.

    squared : (q, n), squared distances; 1 - cos with `unit`, which is off by 2^-100 if it should be 0.
    """
    limit, off = (float(radius), 2.0**-100) if unit else (float(radius) ** 2, 0.0)
    low, high = (set(naive.near_duplicates(squared, limit + s * (limit * ROUNDING + off), mutual=mutual)) for s in (-1, 1))
    pairs = [tuple(pair) for pair in found.pairs.tolist()]
    assert low <= set(pairs) <= high
    assert pairs == sorted(set(pairs))
    expected = np.array([squared[i, j] for i, j in pairs], float)
    np.testing.assert_allclose(
        found.distances, expected if unit else np.sqrt(expected), rtol=1e-6, atol=1e-30 if unit else 1e-40
    )
    if mutual:
        assert found.groups.tolist() == naive.groups(pairs, len(squared))
        assert np.array_equal(found.keep, found.groups == np.arange(len(squared)))
        pairs = pairs + [(j, i) for i, j in pairs]
    else:
        assert found.groups is None
    near = {i: [j for a, j in pairs if a == i] for i in range(len(squared))} if len(pairs) < 3000 else {}
    for i, others in near.items():
        assert (found.nearest[i] in others) if others else (found.nearest[i] == -1 and np.isnan(found.nearest_distance[i]))
        if others:
            np.testing.assert_allclose(
                squared[i, found.nearest[i]], min(squared[i, j] for j in others), rtol=ROUNDING, atol=off
            )


def some_radius(squared, share, unit=False):
    """One that is a distance between two of the rows, within which about a share of all pairs lie."""
    value = float(np.quantile(squared, share, method="inverted_cdf"))
    return min(value, 2.0) if unit else float(np.sqrt(value))


@given(awkward_points(150), st.floats(0, 0.3), st.sampled_from(["all", "first"]))
def test_all_pairs_and_no_others(X, share, equal):
    squared = naive.squared_distances(X, X)
    radius = some_radius(squared, share)
    found = fe.near_duplicates(X, radius, equal="all")
    assert_right(found, squared, radius)
    once = fe.near_duplicates(X, radius, equal="first")
    assert np.array_equal(once.groups, found.groups)
    assert np.array_equal(once.nearest_distance, found.nearest_distance, equal_nan=True)
    copy = (naive.squared_distances(X, X) == 0).argmax(1) < np.arange(len(X))
    kept = ~copy[found.pairs].any(1)
    first = once.pairs[~copy[once.pairs].any(1)]
    assert np.array_equal(first, found.pairs[kept])


@given(awkward_points(150), st.floats(0, 0.3), st.integers(1, 40), st.booleans())
def test_between_two_sets(X, share, q, cosine):
    points = np.concatenate([X[:q], X[:q] + X[-1]])
    if cosine:
        X, points = (each[np.any(each, axis=1)] for each in (X, points))
        if not len(X) or not len(points):
            return
    squared = (naive.wide_angles if cosine else naive.squared_distances)(points, X)
    radius = some_radius(squared, share, unit=cosine)
    found = fe.near_duplicates(X, radius, queries=points, metric="cosine" if cosine else "euclidean")
    assert_right(found, squared, radius, unit=cosine, mutual=False)
    assert np.array_equal(found.keep, found.nearest < 0)
    assert len(found.keep) == len(points)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_awkward_data(kind):
    for seed in range(3):
        X, _ = data_set(kind, seed, largest=300)
        squared = naive.wide_squared_distances(X, X)
        radius = float(np.sqrt(np.quantile(squared, 0.05, method="inverted_cdf")))
        assert_right(fe.near_duplicates(X, radius), squared, radius)
        assert_right(fe.near_duplicates(X, 0.0), squared, 0.0)
        X = X[np.any(X, axis=1)]
        squared = naive.wide_angles(X, X)
        found = fe.near_duplicates(X, 1e-3, metric="cosine")
        assert_right(found, squared, 1e-3, unit=True)


def test_as_scipy_and_scikit_learn():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.standard_normal((1500, 6)), np.repeat(rng.standard_normal((50, 6)), 4, 0), np.zeros((30, 6))])
    radius = 0.8
    found = fe.near_duplicates(X, radius)
    assert set(map(tuple, found.pairs.tolist())) == cKDTree(X).query_pairs(radius)
    graph = radius_neighbors_graph(X, radius, mode="connectivity")
    assert len(found.pairs) * 2 == graph.nnz


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int64"])
@pytest.mark.parametrize("squared", [0, 1, 2, 3, 5, 6, 7, 8])
def test_a_distance_that_is_the_radius_is_within(dtype, squared):
    X = np.stack(np.meshgrid(*[np.arange(5)] * 3), -1).reshape(-1, 3).astype(dtype)
    distances = naive.squared_distances(X, X)
    for radius, limit in ((np.sqrt(squared), squared), (np.nextafter(np.sqrt(squared), 9), squared)):
        assert [tuple(p) for p in fe.near_duplicates(X, radius).pairs.tolist()] == naive.near_duplicates(distances, limit)
    if squared:
        below = fe.near_duplicates(X, np.nextafter(np.sqrt(squared), 0))
        assert [tuple(p) for p in below.pairs.tolist()] == naive.near_duplicates(distances, squared - 1)


@given(st.floats(0, allow_infinity=False))
def test_the_squared_radius_is_the_largest_whose_root_is_within(radius):
    squared = squared_reach(radius, False)
    assert np.sqrt(squared) <= radius or squared == 0
    with np.errstate(over="ignore"):
        assert np.sqrt(np.nextafter(squared, np.inf)) > radius


def test_differences_far_below_the_size_of_the_values():
    rng = np.random.default_rng(0)
    X = 1e6 + rng.standard_normal((500, 20))
    X[250:] = X[:250] + 1e-9
    found = fe.near_duplicates(X, 1e-7)
    assert found.pairs.tolist() == [[i, i + 250] for i in range(250)]
    single = X.astype(np.float32)
    squared = naive.squared_distances(single, single)
    assert_right(fe.near_duplicates(single, 0.5), squared, 0.5)


@pytest.mark.parametrize("equal", ["all", "first"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_all_rows_equal(equal, metric):
    found = fe.near_duplicates(np.full((40, 3), 0.1), 0, metric=metric, equal=equal)
    expected = [[i, j] for i in range(40) for j in range(i + 1, 40) if equal == "all" or i == 0]
    assert found.pairs.tolist() == expected
    assert not found.distances.any()
    assert not found.groups.any()
    assert found.keep.sum() == 1
    assert fe.near_duplicates(np.full((40, 3), 0.1), quantile=0.5, metric=metric).radius == 0


def test_zeros_of_both_signs_are_equal():
    assert fe.near_duplicates([[0.0, 1.0], [-0.0, 1.0], [0.0, -1.0]], 0).pairs.tolist() == [[0, 1]]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_rows(n):
    X = np.arange(n, dtype=float)[:, None]
    assert len(fe.near_duplicates(X, 1).pairs) == n - 1
    assert len(fe.near_duplicates(X, 0.5).pairs) == 0
    assert fe.near_duplicates(X, 0.5, queries=[[0.25]]).pairs.tolist() == [[0, 0]]


def test_hashes_that_collide_lose_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 3, (200, 2)).astype(np.float32)
    expected = [fe.near_duplicates(X, radius).pairs for radius in (0, 1)]
    monkeypatch.setattr(equal_rows_module, "hash", lambda data: len(data), raising=False)
    for radius, pairs in zip((0, 1), expected):
        assert np.array_equal(fe.near_duplicates(X, radius).pairs, pairs)


def planted(n, copies, d=16, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)).astype(np.float32)
    both = rng.permutation(n)[: 2 * copies].reshape(2, copies)
    X[both[1]] = X[both[0]] + 1e-4 * rng.standard_normal((copies, d)).astype(np.float32)
    pairs = np.sort(both.T, axis=1)
    return X, pairs[np.lexsort(pairs.T[::-1])]


@pytest.mark.parametrize("budget", [None, "8MiB"])
def test_rows_on_disk_in_cells_of_space(tmp_path, budget):
    X, pairs = planted(60_000, 600)
    X[:20] = X[0]  # equal rows, of which a copy without repeats is taken where it lies
    expected = fe.near_duplicates(X, 0.01)
    assert set(map(tuple, pairs[pairs[:, 0] >= 20].tolist())) <= set(map(tuple, expected.pairs.tolist()))
    np.save(tmp_path / "X.npy", X)
    for source in (fe.open(tmp_path / "X.npy"), np.load(tmp_path / "X.npy", mmap_mode="r")):
        found = fe.near_duplicates(source, 0.01, memory_budget=budget, scratch=tmp_path)
        assert np.array_equal(found.pairs, expected.pairs)
        assert np.array_equal(found.distances, expected.distances)
        assert np.array_equal(found.groups, expected.groups)


def test_planted_copies_and_no_others():
    X, pairs = planted(20_000, 200)
    found = fe.near_duplicates(X, 0.01)
    assert np.array_equal(found.pairs, pairs)
    assert (~found.keep).sum() == 200
    assert not len(fe.near_duplicates(X[found.keep], 0.01).pairs)
    assert repr(found) == (
        "NearDuplicates(20,000 rows, euclidean radius 0.01: 200 pairs, 200 groups of up to 2, 200 rows to drop)"
    )


def test_the_quantile_is_that_of_nearest_distances():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.standard_normal((300, 3)), np.ones((5, 3))])
    nearest = np.sort(fe.neighbors(X, 1).distances[:, 0])
    for quantile in (0, 0.01, 0.3, 1):
        found = fe.near_duplicates(X, quantile=quantile)
        at = max(0, int(np.ceil(quantile * len(X))) - 1)
        assert found.radius == pytest.approx(nearest[at], rel=1e-6)
        assert (found.nearest >= 0).sum() >= quantile * len(X)
        assert (found.quantile, found.sampled) == (quantile, len(X))
    points = rng.standard_normal((50, 3))
    found = fe.near_duplicates(X, quantile=0.5, queries=points)
    assert (found.nearest >= 0).sum() == 25
    assert "quantile 0.5 of the nearest distances of 50 rows" in repr(found)


def test_pairs_with_two_labels(tmp_path):
    X, names = [[0.0], [0.1], [5.0], [5.1], [9.0]], ["cat", "dog", "ä", "ä", "cat"]
    found = fe.near_duplicates(X, 0.2, labels=names)
    assert found.conflicts.tolist() == [True, False]
    assert found.pair_labels.tolist() == [["cat", "dog"], ["ä", "ä"]]
    assert repr(found).endswith("1 pair with two labels)")
    found.save(tmp_path)
    pairs = pyarrow.parquet.read_table(tmp_path / "pairs.parquet").to_pydict()
    assert (pairs["label"], pairs["other_label"], pairs["other"]) == (["cat", "ä"], ["dog", "ä"], [1, 3])
    groups = pyarrow.parquet.read_table(tmp_path / "groups.parquet").to_pydict()
    assert (groups["row"], groups["group"]) == ([0, 1, 2, 3], [0, 0, 2, 2])
    assert groups["keep"] == [True, False, True, False]
    leaked = fe.near_duplicates(X, 0.2, labels=names, queries=[[9.05], [7.0]], query_labels=["dog", "bird"])
    assert leaked.pair_labels.tolist() == [["dog", "cat"]]
    assert leaked.keep.tolist() == [False, True]
    assert leaked.table().to_pydict()["nearest"] == [4]


def test_too_many_pairs_are_refused_with_a_radius_that_does():
    X = np.random.default_rng(0).standard_normal((5000, 8))
    with pytest.raises(fe.FastentError, match=r"radius=3 has about [0-9,]+ pairs or more") as refused:
        fe.near_duplicates(X, 3, memory_budget="8MiB")
    radius = float(str(refused.value).split(": radius=")[1].split()[0])
    found = fe.near_duplicates(X, radius, memory_budget="8MiB")
    room = int(str(refused.value).split("room for ")[1].split(":")[0].replace(",", ""))
    assert room / 4 < len(found.pairs) <= room
    with pytest.raises(fe.FastentError, match=r"19,999,900,000 pairs .* equal='first'"):
        fe.near_duplicates(np.ones((200_000, 2)), 0, memory_budget="64MiB")
    assert len(fe.near_duplicates(np.ones((20_000, 2)), 0, memory_budget="64MiB", equal="first").pairs) == 19_999
    with pytest.raises(fe.FastentError, match="radius=3 has about"):
        fe.near_duplicates(X, 3, memory_budget="8MiB", queries=X[:2000])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "neither is given"),
        ({"radius": 1, "quantile": 0.1}, "both are given"),
        ({"radius": -1}, "radius=-1"),
        ({"radius": np.nan}, "radius=nan"),
        ({"radius": np.inf}, "radius=inf"),
        ({"radius": 2.5, "metric": "cosine"}, "at most 2"),
        ({"quantile": 1.5}, "quantile=1.5"),
        ({"radius": 1, "metric": "manhattan"}, "choose one of"),
        ({"radius": 1, "equal": "none"}, "choose one of"),
        ({"radius": 1, "queries": [[1.0]]}, "queries have 1 feature, X has 2"),
        ({"radius": 1, "queries": [[1.0, np.nan]]}, "queries has NaN"),
        ({"radius": 1, "query_labels": [1]}, "query_labels are for queries="),
        ({"radius": 1, "labels": [1]}, "X has 3 rows but labels has 1"),
        ({"radius": 1, "labels": [1, 2, 3], "queries": [[1.0, 1.0]]}, "needed together"),
        ({"radius": 1, "labels": [1, 2, 3], "queries": [[1.0, 1.0]], "query_labels": ["a"]}, "both of one kind"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(fe.FastentError, match=message):
        fe.near_duplicates([[1.0, 2.0], [3.0, 4.0], [5.0, 5.0]], **options)


def test_bad_rows():
    with pytest.raises(fe.FastentError, match="NaN"):
        fe.near_duplicates([[1.0], [np.nan]], 1)
    with pytest.raises(fe.FastentError, match="row of zeros"):
        fe.near_duplicates([[1.0], [0.0]], 1, metric="cosine")
    with pytest.raises(fe.FastentError, match="X has one row"):
        fe.near_duplicates([[1.0]], quantile=0.5)
    with pytest.raises(fe.FastentError, match="labels were not given"):
        fe.near_duplicates([[1.0]], 1).conflicts  # noqa: B018
