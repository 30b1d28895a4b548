from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

import fastent as fe
from tests import naive

MEASURES = {"overlap": "share", "jaccard": "jaccard", "rank_similarity": "rank_similarity"}


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 70), st.booleans(), st.booleans())
def test_overlap_is_what_its_definition_says(seed, n, k, lattice, sampled):
    rng = np.random.default_rng(seed)
    X, Y = (rng.integers(0, 3, (n, 2)) if lattice else rng.standard_normal((n, d)) for d in (3, 5))
    queries = np.unique(rng.integers(0, n, n)) if sampled else None
    k = min(k, n - 1)
    a, b = fe.neighbors(X, k, queries=queries), fe.neighbors(Y, k, queries=queries)
    found, other = fe.neighbor_overlap(a, b), fe.neighbor_overlap(b, a)
    expected = naive.neighbor_overlap(a.indices, b.indices)
    for name, of in MEASURES.items():
        values = expected[of]
        np.testing.assert_allclose(getattr(found, of), values, rtol=1e-12, err_msg=of)
        np.testing.assert_array_equal(getattr(other, of), getattr(found, of))
        assert found.intervals[name].value == pytest.approx(values.mean())
        assert 0 <= found.chance[name] <= 1
    assert found.overlap == found.intervals["overlap"].value
    assert k < n - 1 or (found.overlap == found.chance["overlap"] == 1)


@pytest.mark.parametrize(("n", "k"), [(4, 1), (4, 2), (4, 3), (5, 3), (5, 4), (6, 2)])
def test_chance_is_the_mean_over_all_lists(n, k):
    """By symmetry one of the lists may stand still."""
    lists = np.array(list(permutations(range(1, n), k)))
    expected = naive.neighbor_overlap(np.tile(np.arange(1, k + 1), (len(lists), 1)), lists)
    near = fe.neighbors(np.arange(float(n))[:, None], k)
    found = fe.neighbor_overlap(near, near)
    for name, of in MEASURES.items():
        assert found.chance[name] == pytest.approx(expected[of].mean(), rel=1e-12)
        assert found.intervals[name].value == 1


def test_independent_representations_overlap_by_chance():
    rng = np.random.default_rng(0)
    a, b = (fe.neighbors(rng.standard_normal((4000, 3)), 20) for _ in range(2))
    found = fe.neighbor_overlap(a, b)
    for name, of in MEASURES.items():
        values = getattr(found, of)
        assert values.mean() == pytest.approx(found.chance[name], abs=5 * values.std() / np.sqrt(4000))
    assert found.hub_chance == pytest.approx(found.chance["overlap"], rel=0.02)


def test_shared_hubs_raise_the_chance_of_other_lists():
    """One row is a neighbour of all others in both: then lists of any two queries have it in common."""
    lists = [
        np.array([[1, 2], [0, 2], [0, 1], [0, 4], [0, 5], [0, 3]]),
        np.array([[4, 5], [0, 5], [0, 4], [0, 5], [0, 2], [0, 1]]),
    ]
    a, b = (fe.Neighbors(each, np.ones((6, 2))) for each in lists)
    found = fe.neighbor_overlap(a, b)
    pairs = [np.isin(lists[0][i], lists[1][j]).mean() for i in range(6) for j in range(6) if i != j]
    assert found.hub_chance == pytest.approx(np.mean(pairs))
    assert found.hub_chance > found.chance["overlap"] == 0.4


def test_invariances():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((300, 6)), rng.standard_normal((300, 6))
    rotation, order = np.linalg.qr(rng.standard_normal((6, 6)))[0], rng.permutation(300)
    near = fe.neighbors(X, 10)
    assert fe.neighbor_overlap(near, fe.neighbors(X @ rotation * 7 + 3, 10)).overlap == 1
    between = fe.neighbor_overlap(near, fe.neighbors(Y, 10))
    moved = fe.neighbor_overlap(fe.neighbors(X[order], 10), fe.neighbors(Y[order], 10))
    np.testing.assert_array_equal(moved.share, between.share[order])
    assert fe.neighbor_overlap(near, fe.neighbors(Y, 25)).k == 10
    fewer = fe.neighbor_overlap(near, fe.neighbors(Y, 10), k=3)
    np.testing.assert_array_equal(fewer.share, fe.neighbor_overlap(near.subset(3), fe.neighbors(Y, 3)).share)


def test_noise_lowers_the_overlap_on_digits():
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(X.shape)
    layers = {f"{size}": fe.neighbors(X + size * noise, 30) for size in (0, 1, 3, 10, 100)}
    found = fe.overlap_matrix(layers)
    assert found.names == ("0", "1", "3", "10", "100")
    assert (np.diff(found.overlap[0]) < 0).all()
    assert found.overlap[0, -1] < 0.1
    np.testing.assert_array_equal(found.overlap, found.overlap.T)
    for i, a in enumerate(layers.values()):
        for j, b in enumerate(layers.values()):
            pair = fe.neighbor_overlap(a, b, labels=y)
            for name in MEASURES:
                assert getattr(found, name)[i, j] == pair.intervals[name].value
                assert found.standard_errors[name][i, j] == pair.intervals[name].standard_error == 0
            np.testing.assert_allclose(pair.per_class, [pair.share[y == c].mean() for c in range(10)])


def test_intervals_of_sampled_queries_contain_the_value_of_all_rows():
    X = load_digits(return_X_y=True)[0]
    Y = X + 3 * np.random.default_rng(0).standard_normal(X.shape)
    full = fe.neighbor_overlap(fe.neighbors(X, 10), fe.neighbors(Y, 10))
    inside = 0
    for seed in range(40):
        a, b = (fe.neighbors(each, 10, queries=200, seed=seed) for each in (X, Y))
        some = fe.neighbor_overlap(a, b).intervals["overlap"]
        assert some.standard_error > 0
        inside += some.low <= full.overlap <= some.high
    assert inside >= 35
    errors = fe.overlap_matrix([a, b]).standard_errors["overlap"]
    assert errors[0, 0] == 0 < errors[0, 1] == some.standard_error


def test_points_that_are_no_rows():
    rng = np.random.default_rng(0)
    X, points, labels = rng.standard_normal((50, 3)), rng.standard_normal((20, 3)), rng.choice(["cat", "dog"], 20)
    a, b = (fe.neighbors(X[:, :d], 5, queries=points[:, :d]) for d in (2, 3))
    found = fe.neighbor_overlap(a, b, labels=labels)
    assert found.chance["overlap"] == 5 / 50
    np.testing.assert_allclose(found.per_class, [found.share[labels == name].mean() for name in ("cat", "dog")])
    one = fe.neighbor_overlap(*(fe.neighbors(X[:, :d], 5, queries=points[:1, :d]) for d in (2, 3)))
    assert np.isnan(one.hub_chance)


def test_plot():
    near = [fe.neighbors(np.random.default_rng(seed).standard_normal((40, 3)), 5) for seed in range(3)]
    axes = fe.overlap_matrix(near).plot()[1]
    assert len(axes.texts) == 9
    assert "chance 0.1282" in repr(fe.overlap_matrix(near))


NEAR = fe.neighbors(np.arange(6.0)[:, None], 2)
REFUSED = [
    (lambda: fe.neighbor_overlap(NEAR, np.ones((6, 2))), "neighbors is ndarray: pass what fe.neighbors(X, k=10) returns"),
    (lambda: fe.neighbor_overlap(NEAR, NEAR, k=3), "k=3: a whole number from 1 to 2 is needed"),
    (lambda: fe.neighbor_overlap(NEAR, NEAR, labels=[1, 2]), "X has 6 rows but labels has 2"),
    (
        lambda: fe.neighbor_overlap(NEAR, fe.neighbors(np.arange(7.0)[:, None], 2)),
        "a has 6 rows and b has 7: pass neighbours of the same points",
    ),
    (
        lambda: fe.neighbor_overlap(NEAR, fe.neighbors(np.arange(6.0)[:, None], 2, queries=[1])),
        "a has 6 queries and b has 1 query: pass neighbours of the same queries",
    ),
    (
        lambda: fe.neighbor_overlap(NEAR, fe.neighbors(np.arange(6.0)[:, None], 2, queries=np.ones((6, 1)))),
        "a has 6 queries and b has 6 queries, no rows: pass",
    ),
    (
        lambda: fe.overlap_matrix({"x": NEAR, "y": fe.neighbors(np.arange(6.0)[:, None], 2, queries=[1, 2, 3, 4, 5, 0])}),
        "queries of x and y differ: search with the same queries=, in the same order",
    ),
    (lambda: fe.overlap_matrix(NEAR), "layers=Neighbors(6 queries, k=2"),
    (lambda: fe.overlap_matrix([NEAR]), "layers has 1: at least 2 are needed, each what fe.neighbors returns"),
    (lambda: fe.overlap_matrix("ab"), "layers='ab': pass what fe.neighbors returns for each layer, in a list"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refusals(call, message):
    with pytest.raises(fe.FastentError) as refused:
        call()
    assert message in str(refused.value)
