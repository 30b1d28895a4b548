import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastent as fe
from tests import naive


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 60),
    d=st.integers(2, 30),
    e=st.integers(2, 30),
    offset=st.sampled_from([0.0, 1e4]),
)
def test_against_the_definitions(seed, n, d, e, offset):
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((n, d)) + offset, rng.standard_normal((n, e))
    assert fe.participation_ratio(X) == pytest.approx(naive.participation_ratio(X), rel=1e-6)
    assert fe.cka(X, Y) == pytest.approx(naive.cka(X, Y), rel=1e-6)
    assert fe.cka(Y, X) == pytest.approx(fe.cka(X, Y), rel=1e-9)


def test_many_rows_of_any_kind():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_000, 40)).astype(np.float16)
    Y = np.asfortranarray(np.tanh(X.astype(np.float32) @ rng.standard_normal((40, 60)).astype(np.float32)))
    assert fe.participation_ratio(Y) == pytest.approx(naive.participation_ratio(Y), rel=1e-9)
    assert fe.cka(X, Y) == pytest.approx(naive.cka(X, Y), rel=1e-9)


def test_invariances():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((300, 7)), rng.standard_normal((300, 9))
    rotation = np.linalg.qr(rng.standard_normal((7, 7)))[0]
    order = rng.permutation(300)
    for moved in (X @ rotation * 7 + 3, X * 1e-30, X * 1e30):
        assert fe.participation_ratio(moved) == pytest.approx(fe.participation_ratio(X))
        assert fe.cka(moved, Y) == pytest.approx(fe.cka(X, Y))
        assert fe.cka(moved, X) == pytest.approx(1)
    assert fe.cka(X[order], Y[order]) == pytest.approx(fe.cka(X, Y))


def test_how_many_directions():
    X = np.zeros((100, 6))
    X[np.arange(100), np.arange(100) % 4] = 1
    assert fe.participation_ratio(X) == pytest.approx(3)  # four corners of a simplex
    assert np.isnan(fe.participation_ratio(np.ones((5, 3))))
    assert fe.participation_ratio(np.arange(10.0)[:, None] * [1, 2, 3]) == pytest.approx(1)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.5, 1e20])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_rows_vary_in_no_direction_whatever_they_are(value, dtype):
    X = np.full((1000, 3), value, dtype)
    assert np.isnan(fe.participation_ratio(X))
    for width in (3, 60):  # more rows than features, and fewer
        with pytest.raises(fe.FastentError, match="all rows of X are equal"):
            fe.cka(np.full((50, width), value, dtype), np.random.default_rng(0).standard_normal((50, 4)))
    for labels in ([0, 1], [0, 1, 2]):
        found = fe.measure(X, np.resize(labels, 1000), metrics="geometry")
        assert np.isnan(found.geometry.fisher)
        assert any("all rows are equal" in note for note in found.notes)


@pytest.mark.parametrize("size", [1e-90, 1e90])
def test_directions_do_not_depend_on_the_unit(size):
    X = np.random.default_rng(0).standard_normal((200, 5))
    assert fe.participation_ratio(X * size) == pytest.approx(fe.participation_ratio(X))


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(5, 60),
    d=st.integers(1, 30),
    e=st.integers(1, 30),
    shared=st.booleans(),
    offset=st.sampled_from([0.0, 100.0]),
)
def test_debiased_alignment_is_the_direct_formula(seed, n, d, e, shared, offset):
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((n, d)), rng.standard_normal((n, e))
    if shared:
        Y = Y + X[:, :1]
    expected = naive.debiased_cka(X, Y)
    found = fe.cka(X + offset, Y, debiased=True)
    assert -1 <= found <= 1
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert fe.cka(Y, X + offset, debiased=True) == pytest.approx(found, rel=1e-9, abs=1e-12)


def test_independent_representations_are_not_alike_however_wide():
    """A known flaw of the biased one, about d / (n + d) for two of d features."""
    rng = np.random.default_rng(0)
    for n, d in ((50, 2000), (200, 1000), (2000, 100)):
        X, Y = rng.standard_normal((n, d)), rng.standard_normal((n, d))
        assert fe.cka(X, Y) == pytest.approx(d / (n + d), rel=0.05)
        assert abs(fe.cka(X, Y, debiased=True)) < 4 / n
        assert fe.cka(X, X, debiased=True) == pytest.approx(1, abs=1e-12)


def test_debiased_is_unbiased_and_agrees_with_many_points():
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((20, 30))

    def pair(n):
        X = rng.standard_normal((n, 20))
        return X, np.tanh(X @ mixed / 4) + rng.standard_normal((n, 30))

    many = pair(50_000)
    limit = fe.cka(*many, debiased=True)
    assert limit == pytest.approx(fe.cka(*many), rel=0.02)
    few = [pair(40) for _ in range(200)]
    assert np.mean([fe.cka(X, Y, debiased=True) for X, Y in few]) == pytest.approx(limit, abs=0.02)
    assert np.mean([fe.cka(X, Y) for X, Y in few]) > limit + 0.15


def test_debiased_invariances():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((300, 7)), rng.standard_normal((300, 9))
    rotation, order = np.linalg.qr(rng.standard_normal((7, 7)))[0], rng.permutation(300)
    expected = fe.cka(X, Y, debiased=True)
    for moved in (X @ rotation * 7 + 3, X * 1e-90, X * 1e90, np.pad(X, ((0, 0), (0, 400)))):
        assert fe.cka(moved, Y, debiased=True) == pytest.approx(expected, rel=1e-9)
    assert fe.cka(X[order], Y[order], debiased=True) == pytest.approx(expected)
    half = X.astype(np.float16)
    assert fe.cka(half, Y, debiased=True) == pytest.approx(naive.debiased_cka(half, Y), rel=1e-9)


def test_debiased_reads_a_source_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr("fastent.statistics.covariance._BLOCK_BYTES", 2000)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 6)).astype(np.float32) + np.arange(500)[:, None] / 50  # means move along the file
    np.save(tmp_path / "X.npy", X)
    source = fe.open(tmp_path / "X.npy")
    Y = X[:, :3] ** 2
    assert fe.cka(source, Y, debiased=True) == pytest.approx(naive.debiased_cka(X, Y), rel=1e-9)


@pytest.mark.parametrize("d", [3, 80])
def test_what_debiased_alignment_refuses(d):
    rng = np.random.default_rng(0)
    Y = rng.standard_normal((40, d))
    right_angles = np.eye(40) * np.arange(1, 41)[:, None]
    for X in (np.full((40, d), 1 / 3), np.eye(40), right_angles):
        with pytest.raises(fe.FastentError, match="the rows of X are all equal, or all at right angles: there is nothing"):
            fe.cka(X, Y, debiased=True)
    with pytest.raises(fe.FastentError, match="X has 3 rows: debiased=True takes at least 4"):
        fe.cka(Y[:3], Y[:3], debiased=True)
    with pytest.raises(fe.FastentError, match="debiased='yes': True or False is needed"):
        fe.cka(Y, Y, debiased="yes")
    Y[7, 1] = np.inf
    with pytest.raises(fe.FastentError, match="Y has NaN or infinity in 1 of 40 rows, first at row 7"):
        fe.cka(np.nan_to_num(Y, posinf=0), Y, debiased=True)
