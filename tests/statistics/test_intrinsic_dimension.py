import numpy as np
import pytest
import skdim
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

import fastent as fe
from tests import naive

METHODS = ("twonn", "twonn-ml", "mle", "gride")


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(20, 150), d=st.integers(1, 8), k=st.sampled_from([2, 4, 10]))
def test_estimates_are_what_their_definitions_say(method, seed, n, d, k):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    X[n // 5 : n // 5 + 3] = X[:3]
    X[-2:] = X[0]
    near = fe.neighbors(X, k)
    found = fe.intrinsic_dimension(near, method)
    lists = naive.distinct_lists(X, near.indices, near.distances)
    assert (found.used, found.duplicates, found.ties) == (len(lists), n - len(lists), 0)
    assert found.duplicates >= 5
    assert found.left_out == found.duplicates / n
    expected = naive.intrinsic_dimension(lists, method)
    assert found.value == pytest.approx(expected, rel=1e-5 if method == "gride" else 1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_flat_spaces_in_wide_ones(method, d):
    rng = np.random.default_rng(d)
    X = rng.random((6000, d)) @ np.linalg.qr(rng.standard_normal((30, d)))[0].T
    found = fe.intrinsic_dimension(fe.neighbors(X, 8), method)
    assert abs(found.value - d) < 0.07 * d + 4 * found.standard_error
    assert found.duplicates == 0


@pytest.mark.parametrize("method", ["twonn-ml", "mle", "gride"])
def test_standard_errors_are_the_spread_over_data_sets(method):
    values, errors = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        everything = rng.random((4000, 3))
        # Few queries among many rows, whose neighbourhoods hardly overlap.
        found = fe.intrinsic_dimension(fe.neighbors(everything, 4, queries=150, seed=seed), method)
        values.append(found.value)
        errors.append(found.standard_error)
    assert 0.7 < np.std(values) / np.mean(errors) < 1.35


def test_digits_as_scikit_dimension_has_them():
    X = load_digits().data
    near = fe.neighbors(X, 10)
    with np.errstate(divide="ignore"):  # in a line that it also draws without fitting it
        referees = {
            "twonn": skdim.id.TwoNN().fit(X),
            "twonn-ml": skdim.id.TwoNN(method="mle", discard_fraction=0).fit(X),
            "mle": skdim.id.MLE(unbiased=False).fit(X, n_neighbors=10, comb="mle"),
        }
    for method, referee in referees.items():
        assert fe.intrinsic_dimension(near, method).value == pytest.approx(referee.dimension_, rel=1e-6)
    # It leaves out the largest ratios, and has N - 1 where the likelihood has N.
    for n in (2, 4, 5):
        expected = skdim.id.GRIDE(n1=n).fit(X).dimension_
        assert fe.intrinsic_dimension(near, "gride", k=2 * n).value == pytest.approx(expected, rel=1e-3)


def test_classes_have_their_own():
    rng = np.random.default_rng(0)
    X = np.zeros((4000, 12))
    X[:2000, :1], X[2000:, :6] = rng.random((2000, 1)), 50 + rng.random((2000, 6))
    labels = np.repeat(["curve", "cloud"], 2000)
    found = fe.intrinsic_dimension(fe.neighbors(X, 10), "mle", labels)
    assert found.classes.tolist() == ["cloud", "curve"]
    np.testing.assert_allclose(found.per_class, [6, 1], rtol=0.15)
    lone = np.where(np.arange(4000) == 7, "lone", labels)
    assert np.isnan(fe.intrinsic_dimension(fe.neighbors(X, 10), "mle", lone).per_class[2])


def test_scale_and_subset_do_not_matter():
    X = np.random.default_rng(0).standard_normal((500, 4))
    near = fe.neighbors(X, 9)
    for method in METHODS:
        k = 4 if method in ("mle", "gride") else None
        found = fe.intrinsic_dimension(near, method, k=k).value
        assert found == pytest.approx(fe.intrinsic_dimension(fe.neighbors(8 * X, 4), method).value, rel=1e-6)


def test_noise_weighs_less_the_farther_the_neighbours():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.random((4000, 2)), np.zeros((4000, 8))], 1) + 0.003 * rng.standard_normal((4000, 10))
    near = fe.neighbors(X, 128)
    near_by, far = (fe.intrinsic_dimension(near, "gride", k=k).value for k in (2, 128))
    assert near_by > 3 > far


def manifold(seed, d, n=2400, width=64):
    """Points of a d-dimensional Gaussian, turned and bent a little into many features."""
    rng = np.random.default_rng(seed)
    flat = rng.standard_normal((n, d))
    turned = flat @ np.linalg.qr(rng.standard_normal((width, d)))[0].T
    return (turned + 0.1 * np.sin(turned)).astype(np.float32)


def repeated(X, share, change):
    """With a share of its rows again at the end, changed."""
    return np.concatenate([X, change(X[: int(share * len(X))])])


CHANGES = {
    "repeated": lambda rows: rows.copy(),
    "three times": lambda rows: np.concatenate([rows, rows]),
    "last bit": lambda rows: np.nextafter(rows, np.float32(np.inf)),
    "a few bits": lambda rows: rows * np.float32(1 + 3e-7),
    "last bit of half of the numbers": lambda rows: np.where(np.arange(64) % 2, rows, np.nextafter(rows, np.float32(-9))),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("d", [2, 9])
def test_rows_that_repeat_others_up_to_rounding_count_once(d, change):
    X = manifold(d, d)
    Z = repeated(X, 0.04, CHANGES[change])
    for method in METHODS:
        clean = fe.intrinsic_dimension(fe.neighbors(X, 10), method)
        found = fe.intrinsic_dimension(fe.neighbors(Z, 10), method)
        assert (clean.used, clean.duplicates, clean.suspects) == (len(X), 0, 0)
        assert (found.used, found.duplicates) == (len(X), len(Z) - len(X))
        assert abs(found.value - clean.value) < clean.standard_error  # lists with a copy are shorter by one


def test_lists_longer_than_the_copies_give_what_rows_without_copies_give():
    X = manifold(0, 3, n=500)
    found = fe.intrinsic_dimension(fe.neighbors(np.concatenate([X, X, X, X]), 12), "twonn-ml")
    assert found.value == pytest.approx(fe.intrinsic_dimension(fe.neighbors(X, 2), "twonn-ml").value, rel=1e-12)
    with pytest.raises(
        fe.FastentError, match=r"hold fewer than two rows that differ .* drop repeated rows, or search for more"
    ):
        fe.intrinsic_dimension(fe.neighbors(np.concatenate([X, X, X, X]), 3), "twonn-ml")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, "bfloat16"])
def test_what_a_precision_does_not_resolve_is_one_point(dtype):
    X = torch.from_numpy(manifold(1, 4)).to(getattr(torch, dtype if dtype == "bfloat16" else np.dtype(dtype).name))
    Z = torch.cat([X, torch.nextafter(X[:100].cpu(), torch.full_like(X[:100], torch.inf))])
    clean, found = (fe.intrinsic_dimension(fe.neighbors(rows, 10), "twonn-ml") for rows in (X, Z))
    assert found.duplicates >= 100 > 10 > clean.duplicates
    assert abs(found.value - clean.value) < clean.standard_error


def test_queries_that_are_a_sample_or_no_rows_leave_out_repetitions_too():
    X = manifold(2, 8)
    Z = repeated(X, 0.04, CHANGES["last bit"])
    clean = fe.intrinsic_dimension(fe.neighbors(X, 10), "twonn-ml")
    for queries in (np.arange(0, len(Z), 2), Z[::2]):
        found = fe.intrinsic_dimension(fe.neighbors(Z, 10, queries=queries), "twonn-ml")
        assert abs(found.value - clean.value) < 2 * found.standard_error
    copied = fe.intrinsic_dimension(fe.neighbors(X, 10, queries=Z[-90:]), "twonn-ml")
    assert abs(copied.value - clean.value) < 3 * copied.standard_error


def test_near_duplicates_that_differ_by_more_than_rounding_are_counted():
    X = manifold(3, 9)
    noise = np.random.default_rng(0).standard_normal((90, 64)).astype(np.float32)
    Z = repeated(X, 90 / len(X), lambda rows: rows + 1e-4 * noise)
    assert fe.intrinsic_dimension(fe.neighbors(X, 10), "twonn").suspects == 0
    assert 150 <= fe.intrinsic_dimension(fe.neighbors(Z, 10), "twonn").suspects <= 180
    found = fe.measure(Z, np.arange(len(Z)) % 3, metrics="dimension")
    assert any("near duplicates" in note for note in found.notes)


def test_equal_distances_are_left_out_and_counted():
    grid = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), -1).reshape(-1, 2)
    for rows in (grid, 0.1 * grid, (0.1 * grid + 3).astype(np.float32)):
        near = fe.neighbors(rows, 10)
        for method in ("twonn", "twonn-ml"):
            with pytest.raises(fe.FastentError, match="all 400 queries have neighbours at one distance, as on a grid"):
                fe.intrinsic_dimension(near, method)
        for method in ("mle", "gride"):
            assert abs(fe.intrinsic_dimension(near, method).value - 2) < 0.5
        found = fe.measure(rows, rows[:, 0] > rows.mean(), metrics="all")
        assert np.isfinite([found.dimension[method].value for method in found.dimension]).all()
        assert any("no dimension by twonn, twonn-ml: all 400 queries" in note for note in found.notes)


@pytest.mark.parametrize(("method", "most"), [("twonn", 0.3), ("twonn-ml", 0.15), ("mle", 0.15), ("gride", 0.15)])
def test_rounding_to_a_fine_grid_hardly_changes_the_dimension(method, most):
    X = np.random.default_rng(0).random((3000, 4))
    clean = fe.intrinsic_dimension(fe.neighbors(X, 10), method)
    fine = fe.intrinsic_dimension(fe.neighbors(np.round(X, 2), 10), method)
    assert abs(fine.value - clean.value) < 3 * clean.standard_error
    coarse = fe.intrinsic_dimension(fe.neighbors(np.round(30 * X).astype(np.uint8), 10), method)
    assert abs(coarse.value - clean.value) < most * clean.value
    assert fine.ties + fine.used + fine.duplicates == coarse.ties + coarse.used + coarse.duplicates == 3000
    if method != "mle":
        assert coarse.ties > fine.ties


def test_repeated_rows_of_two_classes_count_once_in_each():
    X = manifold(4, 3, n=300)
    Z, labels = np.concatenate([X, X]), np.repeat(["a", "b"], 300)
    found = fe.intrinsic_dimension(fe.neighbors(Z, 6), "twonn-ml", labels)
    assert found.used == 300
    np.testing.assert_allclose(found.per_class, found.value, rtol=1e-12)


def test_what_cannot_be_a_ratio_of_distances_is_refused():
    X = manifold(5, 3, n=60)
    with pytest.raises(fe.FastentError, match="neighbors have metric='cosine'"):
        fe.intrinsic_dimension(fe.neighbors(X, 5, metric="cosine").subset(3))
    with pytest.raises(fe.FastentError, match=r"queries name 1 row more than once, first row 4 \(2 times\): name each once"):
        fe.intrinsic_dimension(fe.neighbors(X, 5, queries=[4, 4, 7]))


def test_intervals_of_sampled_queries_cover_the_dimension_of_all():
    """Also where points differ in how far their neighbours are, which the model does not know of."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1200, 8)) * rng.standard_cauchy((1200, 1))
    methods = ("twonn", "twonn-ml", "mle", "gride")
    whole = {method: fe.intrinsic_dimension(fe.neighbors(X, 10), method).value for method in methods}
    near = [fe.neighbors(X, 10, queries=200, seed=seed) for seed in range(60)]
    for method in methods:
        found = [fe.intrinsic_dimension(each, method) for each in near]
        covered = [abs(each.value - whole[method]) <= 1.96 * each.standard_error for each in found]
        assert np.mean(covered) >= 0.9, method
