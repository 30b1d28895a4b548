import numpy as np
import pytest
import skdim
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

import fastent as fe
from tests import naive

METHODS = ("twonn", "twonn-ml", "mle", "gride")


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(20, 150), d=st.integers(1, 8), k=st.sampled_from([2, 4, 10]))
@settings(max_examples=15, deadline=None)
def test_estimates_are_what_their_definitions_say(method, seed, n, d, k):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    X[: n // 5] = X[0]
    near = fe.neighbors(X, k)
    found = fe.intrinsic_dimension(near, method)
    usable = near.distances[:, 0] > 0
    if method == "gride" and k > 2:
        usable &= near.distances[:, -1] > near.distances[:, k // 2 - 1]
    assert (found.used, found.duplicates) == (usable.sum(), (~usable).sum())
    assert found.duplicates >= n // 5
    expected = naive.intrinsic_dimension(near.distances[usable].astype(np.float64), method)
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
