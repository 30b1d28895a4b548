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
