import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

import fastent as fe
from tests import naive


@given(st.integers(0, 2**32 - 1), st.integers(2, 80), st.integers(1, 12), st.integers(1, 20), st.booleans())
def test_mixing_is_what_its_definition_says(seed, n, k, n_classes, lattice):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 3, (n, 2)) if lattice else rng.standard_normal((n, 3))
    labels = rng.integers(0, n_classes, n)
    near = fe.neighbors(X, min(k, n - 1))
    found = fe.mixing(near, labels)
    expected = naive.mixing(near.indices, near.distances, labels, labels, n)
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-12, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(found.matrix.sum(1), 1)
    assert found.occurrence.sum() == near.indices.size


@given(st.integers(0, 2**32 - 1), st.floats(1.5, 20), st.booleans())
def test_lisi_is_what_its_definition_says(seed, perplexity, lattice):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 4, (100, 2)) if lattice else rng.standard_normal((100, 3))
    labels = rng.integers(0, 5, 100)
    near = fe.neighbors(X, 70)
    k = round(3 * perplexity)
    found = fe.lisi(near, labels, perplexity)
    assert ((found >= 1) & (found <= 5)).all()
    # Where so many neighbours are equally near that no beta has that entropy there is nothing to compare.
    usable = np.array([np.sum(row[:k] == row[0]) < perplexity for row in near.distances])
    expected = naive.lisi(near.indices[usable, :k], near.distances[usable, :k], labels, perplexity)
    np.testing.assert_allclose(found[usable], expected, rtol=1e-5)


def test_digits_leave_one_out():
    X, y = load_digits(return_X_y=True)
    near = fe.neighbors(X, 1)
    assert round(fe.mixing(near, y).error * len(y)) == 21
    for k in (3, 4, 10):
        near = fe.neighbors(X, k)
        votes = fe.mixing(near, y).vote
        model = KNeighborsClassifier(k, algorithm="brute").fit(X, y)
        theirs = model.classes_[[np.bincount(y[row], minlength=10).argmax() for row in model.kneighbors(return_distance=False)]]
        tied = [(np.sort(np.bincount(y[row], minlength=10))[-2:] == np.bincount(y[row]).max()).all() for row in near.indices]
        np.testing.assert_array_equal(votes[~np.array(tied)], theirs[~np.array(tied)])


def test_ties_go_to_the_nearer_class_then_to_the_lower():
    near = fe.Neighbors([[1, 2, 3, 4], [0, 2, 3, 4]], [[1, 2, 3, 4], [1, 1, 1, 1]], queries=[0, 1], n=5)
    assert fe.mixing(near, ["a", "c", "b", "b", "c"]).vote.tolist() == ["c", "b"]


def test_identities():
    rng = np.random.default_rng(0)
    collapsed = fe.neighbors(np.repeat(np.eye(3), 40, 0), 30)
    labels = np.repeat([0, 1, 2], 40)
    found = fe.mixing(collapsed, labels)
    assert found.overlap == found.balanced_overlap == 1
    assert found.error == 0
    np.testing.assert_array_equal(found.matrix, np.eye(3))
    np.testing.assert_allclose(fe.lisi(collapsed, labels, perplexity=10), 1)
    near = fe.neighbors(rng.standard_normal((4000, 5)), 10)
    shuffled = fe.mixing(near, rng.choice(3, 4000, p=[0.6, 0.3, 0.1]))
    assert abs(shuffled.overlap - shuffled.chance) < 0.01


def test_queries_that_are_no_rows():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((200, 3)), rng.integers(0, 3, 200)
    points, truth = rng.standard_normal((50, 3)), rng.integers(0, 3, 50)
    near = fe.neighbors(X, 5, queries=points)
    expected = naive.mixing(near.indices, near.distances, y, truth, 200)
    found = fe.mixing(near, y, query_labels=truth)
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-12, err_msg=name)
    with pytest.raises(fe.FastentError, match="pass their labels as query_labels"):
        fe.mixing(near, y)
    with pytest.raises(fe.FastentError, match="query_labels holds 7, which no row has"):
        fe.mixing(near, y, query_labels=np.full(50, 7))


def test_many_classes_and_many_neighbours_without_a_matrix():
    rng = np.random.default_rng(0)
    near = fe.neighbors(rng.standard_normal((12_000, 3)), 256, queries=500)
    labels = np.arange(12_000) % 10_000
    found = fe.mixing(near, labels, matrix=False)
    assert found.matrix is None
    own = labels[near.queries]
    np.testing.assert_allclose(found.purity, (labels[near.indices] == own[:, None]).mean(1))


@pytest.mark.large
def test_intervals_contain_the_full_value():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 3000)
    X = rng.standard_normal((3000, 3)) + 0.7 * y[:, None]
    near, full = fe.neighbors(X, 10), None
    full = fe.mixing(near, y)
    assert full.intervals["overlap"].standard_error == 0
    inside = dict.fromkeys(full.intervals, 0)
    for _ in range(400):
        rows = rng.choice(3000, 300, replace=False)
        sample = fe.mixing(fe.Neighbors(near.indices[rows], near.distances[rows], rows, n=3000), y)
        for name, interval in sample.intervals.items():
            inside[name] += interval.low <= full.intervals[name].value <= interval.high
    for name, count in inside.items():
        assert 365 <= count <= 393, name  # 380 +- 3 standard deviations


NAMED_ONCE = "queries name 1 row more than once, first row 0 (2 times): name each once"
LISTS = [
    (([[1]], [1.0]), "indices have shape (1, 1) and dtype int64, distances (1,)"),
    (([[1.5]], [[1.0]]), "indices have shape (1, 1) and dtype float64"),
    (([[True]], [[1.0]]), "indices have shape (1, 1) and dtype bool"),
    (([[-1]], [[1.0]]), "indices are not within 0..0 in 1 row, first row 0 (-1): pass row numbers, only of neighbours that were found"),
    (([[1, 2], [0, 2**63]], [[1, 2]] * 2, None, 3), "indices have shape (2, 2) and dtype float64"),
    ((np.array([[1, 2], [0, 2**63]], np.uint64), [[1, 2]] * 2, None, 3), f"indices are not within 0..2 in 1 row, first row 1 ({2**63})"),
    (([[0]], [[1.0]]), "indices hold the query itself in 1 row, first row 0 (0): leave it out by its number"),
    (([[1, 2], [2, 2]], [[1, 2]] * 2), "indices hold a neighbour twice in 1 row, first row 1 (2): name each neighbour once"),
    (([[1], [0]], [[1.0], [np.nan]]), "distances are NaN, negative, infinite or beyond float32 in 1 row, first row 1 (nan)"),
    (([[1], [0]], [[1.0], [1e39]]), "distances are NaN, negative, infinite or beyond float32 in 1 row, first row 1 (1e+39)"),
    (([[1], [0]], [[1.0], [-1e-60]]), "distances are NaN, negative, infinite or beyond float32 in 1 row, first row 1 (-1e-60)"),
    (([[1], [0]], [[1.0], [1j]]), "distances have dtype complex128: real numbers are needed"),
    (([[1], [0]], np.array([["1"], ["2"]])), "distances have dtype <U1: real numbers are needed"),
    (([[1, 2], [0, 2], [0, 1]], [[1.0, 0.5]] * 3), "distances are not ascending in 3 rows, first row 0 (1.0): sort them, with their indices"),
    (([[1], [0]], [[1], [1]], [0, 2], 2), "queries are not within 0..1 in 1 row, first row 1 (2): pass the row numbers of the queries"),
    (([[1], [0]], [[1], [1]], [0, -1], 2), "queries are not within 0..1 in 1 row, first row 1 (-1)"),
    (([[1], [0]], [[1], [1]], [0.0, 1.0], 2), "queries have dtype float64: whole row numbers, as integers, are needed"),
    (([[1], [0]], [[1], [1]], [0], 2), "queries have shape (1,) for 2 rows of indices: one each is needed"),
    (([[1], [0]], [[1], [1]], None, -2), "n=-2: a whole number from 0 to"),
    (([[1], [0]], [[1], [1]], None, 2.0), "n=2.0: a whole number from 0 to"),
    (([[1], [0]], [[1], [1]], None, 0, "given", 1.5), "recall=1.5: a number of at least 0 and of at most 1 is needed"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), LISTS, ids=[message[:60] for _, message in LISTS])
def test_lists_of_your_own_are_checked(arguments, message):
    with pytest.raises(fe.FastentError) as caught:
        fe.Neighbors(*arguments)
    assert str(caught.value).startswith(message)
    if len(arguments) < 5 and "hold the query" not in message:  # whoever found them
        queries = arguments[2] if len(arguments) > 2 and arguments[2] is not None else range(len(arguments[0]))
        with pytest.raises(fe.FastentError, match=re.escape(message)):
            fe.Neighbors(*arguments[:2], queries, *arguments[3:4], method="hnswlib")


def test_only_known_metrics_names_and_resolutions():
    for options, message in (
        ({"metric": "l2"}, "metric='l2': choose one of 'euclidean', 'cosine'"),
        ({"method": None}, "method=None: a name is needed"),
        (
            {"resolution": np.ones(3)},
            "resolution has shape (3,) and dtype float64: a number, or one for each of 2 queries, is needed",
        ),
        ({"resolution": np.nan}, "resolution is no distance in 2 rows, first row 0 (nan): pass 0 where it is unknown"),
    ):
        with pytest.raises(fe.FastentError, match=re.escape(message)):
            fe.Neighbors([[1], [0]], [[1], [1]], **options)


def test_lists_of_your_own_are_copied_whatever_their_layout():
    indices, distances = np.asfortranarray([[1, 2], [0, 2], [1, 0]]), np.asfortranarray([[1.0, 2], [1, 2], [1, 2]])
    distances.flags.writeable = False
    near = fe.Neighbors(indices, distances)
    indices[:] = 10**9
    assert fe.mixing(near, [0, 0, 1]).purity.tolist() == [0.5, 0.5, 0]
    assert near.indices.flags.c_contiguous
    assert near.distances.dtype == np.float32


def test_lists_that_were_written_to_are_not_followed():
    near = fe.neighbors(np.arange(12.0)[:, None], 4)
    near.indices[3, 1] = 10**12
    for call in (
        lambda: fe.mixing(near, np.arange(12) % 2),
        lambda: fe.lisi(near, np.arange(12) % 2, 1.3),
        lambda: fe.intrinsic_dimension(near),
    ):
        with pytest.raises(fe.FastentError, match=r"indices are not within 0\.\.11 in 1 row, first row 3 \(1000000000000\)"):
            call()


def test_a_query_that_is_named_twice_counts_twice_nowhere():
    X = np.arange(12.0)[:, None]
    near = fe.neighbors(X, 3, queries=[0, 0, 5])
    assert near.indices[0].tolist() == near.indices[1].tolist()
    with pytest.raises(fe.FastentError, match=re.escape(NAMED_ONCE)):
        fe.mixing(near, np.arange(12) % 2)


def test_metric_and_resolution_are_known_of_what_is_found():
    X = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    near, cosine = fe.neighbors(X, 5), fe.neighbors(X, 5, metric="cosine")
    assert (near.metric, cosine.metric, near.subset(2).metric, cosine.subset(2).metric) == ("euclidean", "cosine") * 2
    np.testing.assert_allclose(near.resolution, 8 * 2.0**-23 * np.linalg.norm(X, axis=1), rtol=1e-6)
    assert cosine.resolution is None
    assert (fe.neighbors(np.arange(40)[:, None], 2).resolution == 0).all()


def unequal(n=2000):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [n - 210, 10, 200])
    return rng.standard_normal((n, 4)), rng.permutation(y)


def test_chance_is_known_for_each_class_and_for_the_balanced_mean():
    X, y = unequal()
    found, counts = fe.mixing(fe.neighbors(X, 20), y), np.array([1790, 10, 200])
    np.testing.assert_allclose(found.class_chance, (counts - 1) / 1999)
    assert found.chance == pytest.approx((counts / 2000 * (counts - 1) / 1999).sum())
    assert found.balanced_chance == pytest.approx(((counts - 1) / 1999).mean())
    # Classes that are mixed at random are as pure as chance has it, each by itself and balanced.
    np.testing.assert_allclose(np.diag(found.matrix), found.class_chance, atol=0.02)
    np.testing.assert_allclose(found.class_purity, np.diag(found.matrix))
    np.testing.assert_array_equal(found.class_intervals, found.class_purity[:, None].repeat(2, 1))
    np.testing.assert_array_equal(fe.mixing(fe.neighbors(X, 20), y, matrix=False).class_purity, found.class_purity)
    assert found.balanced_overlap == pytest.approx(found.balanced_chance, abs=0.01)
    points = fe.mixing(fe.neighbors(X, 20, queries=X[:50] + 1), y, query_labels=np.repeat([0, 2], 25))
    np.testing.assert_allclose(points.class_chance, counts / 2000)  # these are no rows: none is left out
    assert points.balanced_chance == pytest.approx((1790 + 200) / 2 / 2000)


def test_a_class_without_queries_has_no_overlap_and_is_named():
    X, y = unequal()
    rows = np.flatnonzero(y != 1)[:300]
    found, whole = (fe.mixing(fe.neighbors(X, 8, queries=asked), y) for asked in (rows, None))
    interval = found.intervals["balanced_overlap"]
    assert np.isnan(found.class_purity[1])
    assert ((found.class_intervals[:, 0] <= whole.class_purity) & (whole.class_purity <= found.class_intervals[:, 1])).all()
    assert found.class_intervals[1].tolist() == [0, 1]
    assert np.isnan(found.balanced_overlap)
    assert interval.low < whole.balanced_overlap < interval.high
    assert interval.high - interval.low > 1 / 3  # all that the class can be
    assert found.notes[0].startswith("class 1 has no query: purity there and balanced_overlap are unknown")
    assert "hubness is unknown: it takes all rows as queries" in found.notes
    assert whole.notes == ()
    names = np.array(["cat", "dog\n", "emu"])[y]
    assert fe.mixing(fe.neighbors(X, 8, queries=rows), names).notes[0].startswith("class dog\\n has no query: ")
    outside = fe.mixing(fe.neighbors(X, 8, queries=X[:40] + 1), y, query_labels=np.repeat([0, 2], 20))
    assert outside.notes == ("class 1 has no query: balanced_overlap and balanced_chance are means over the other classes",)
    assert outside.balanced_overlap == pytest.approx(np.mean([outside.purity[:20].mean(), outside.purity[20:].mean()]))


def test_the_purity_of_a_class_of_one_point_is_known_without_a_query():
    X, y = unequal()
    y[y == 1], y[7] = 0, 1
    found, whole = (fe.mixing(fe.neighbors(X, 10, queries=asked), y) for asked in (np.arange(8, 400), None))
    assert found.notes[0] == "class 1 has no query: the purity of a class of one point is 0 all the same"
    interval = found.intervals["balanced_overlap"]
    assert interval.low < whole.balanced_overlap < interval.high < 2 / 3
    assert interval.low < found.balanced_overlap < interval.high


def test_classes_too_small_to_be_pure_are_named():
    X, y = unequal()
    note = "class 1 has fewer than 10 points that could be neighbours: purity cannot reach 1 there"
    assert fe.mixing(fe.neighbors(X, 10), y).notes == (note,)
    each = fe.mixing(fe.neighbors(X[:30], 5), np.arange(30)).notes[0]
    assert each.startswith("30 of 30 classes have fewer than 5 points that could be neighbours (0, 1, 2, 3, 4 and 25 more)")


def test_plot_of_purity_beside_chance():
    X, y = unequal()
    found = fe.mixing(fe.neighbors(X, 8), y, matrix=False)
    axes = found.plot("purity")[1]
    drawn = {line.get_label(): line.get_ydata() for line in axes.lines if not line.get_label().startswith("_")}
    np.testing.assert_array_equal(drawn["purity"], found.class_purity)
    np.testing.assert_array_equal(drawn["chance"], found.class_chance)
    with pytest.raises(fe.FastentError, match="kind='heat': choose one of 'matrix', 'purity'"):
        found.plot("heat")


def test_lists_of_equally_near_rows_are_noted():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 200)
    lattice = fe.mixing(fe.neighbors(rng.integers(0, 2, (600, 2)), 10), labels)
    assert "in 100 % of the lists all 10 neighbours are equally far" in lattice.notes[-1]
    rows = rng.standard_normal((600, 3))
    assert not any("equally far" in note for note in fe.mixing(fe.neighbors(rows, 10), labels).notes)
    assert not any("equally far" in note for note in fe.mixing(fe.neighbors(rows, 1), labels).notes)
