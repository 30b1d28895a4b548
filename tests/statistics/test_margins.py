import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

import fastent as fe
from tests import naive

MNIST = Path(os.environ.get("FASTENT_DATA", Path(__file__).parents[2] / "../shared/data")) / "mnist.npz"


def assert_margins(found, X, labels):
    same = labels[:, None] == labels
    squared, own = naive.squared_distances(X, X), np.arange(len(X))
    hit_index, hit = (a[:, 0] for a in naive.nearest(squared, 1, own, same))
    miss_index, miss = (a[:, 0] for a in naive.nearest(squared, 1, own, ~same))
    alone = np.isinf(hit)
    np.testing.assert_allclose(found.miss, miss, rtol=1e-12)
    np.testing.assert_allclose(found.hit[~alone], hit[~alone], rtol=1e-12)
    np.testing.assert_array_equal(found.miss_index, miss_index)
    np.testing.assert_array_equal(found.hit_index[~alone], hit_index[~alone])
    assert np.isnan(found.hit[alone]).all()
    assert found.alone == alone.sum()
    nearest = naive.nearest(squared, 1, own)[0][:, 0]
    assert found.n3 == pytest.approx(np.mean(labels[nearest] != labels))
    if not alone.all():
        ratio = hit[~alone].sum() / miss[~alone].sum() if miss[~alone].sum() else np.inf
        if np.isfinite(ratio):
            assert found.n2 == pytest.approx(ratio / (1 + ratio))


@given(st.integers(0, 2**32 - 1), st.integers(2, 500), st.integers(2, 40), st.sampled_from([2, 5, 40]), st.booleans())
def test_margins_are_what_their_definition_says(seed, n, n_classes, d, lattice):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 3, (n, d)).astype(float) if lattice else rng.standard_normal((n, d))
    labels = rng.integers(0, n_classes, n)
    labels[:2] = 0, 1
    assert_margins(fe.margins(X, labels), X, labels)


@pytest.mark.parametrize("n_classes", [2, 10, 300])
def test_trees_of_classes(n_classes):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, n_classes, 5000)
    X = rng.standard_normal((n_classes, 30))[labels] + 0.6 * rng.standard_normal((5000, 30))
    found = fe.margins(X, labels.astype(str))
    rows = np.arange(0, 5000, 25)
    some = fe.margins(X, labels, queries=rows)
    np.testing.assert_array_equal(found.hit[rows], some.hit)
    np.testing.assert_array_equal(found.miss_index[rows], some.miss_index)
    squared = naive.squared_distances(X[rows], X)
    same = labels[rows][:, None] == labels
    np.testing.assert_array_equal(naive.nearest(squared, 1, rows, same)[0][:, 0], some.hit_index)
    np.testing.assert_array_equal(naive.nearest(squared, 1, rows, ~same)[0][:, 0], some.miss_index)


def test_digits_leave_one_out():
    X, y = load_digits(return_X_y=True)
    found = fe.margins(X, y)
    assert round(found.n3 * len(y)) == 21
    assert ((found.relative >= -1) & (found.relative <= 1)).all()
    assert found.margin.mean() == pytest.approx(found.intervals["margin"].value)


@pytest.mark.large
@pytest.mark.skipif(not MNIST.is_file(), reason="no MNIST on this machine")
def test_mnist_nearest_neighbour_errors():
    data = np.load(MNIST)
    near = fe.neighbors(data["x_train"].reshape(60_000, -1), 1, queries=data["x_test"].reshape(10_000, -1))
    errors = fe.mixing(near, data["y_train"], query_labels=data["y_test"]).error * 10_000
    assert round(errors) == 309


@pytest.mark.large
def test_intervals_contain_the_full_value():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 2000)
    X = rng.standard_normal((2000, 3)) + 0.7 * y[:, None]
    full = fe.margins(X, y)
    inside = dict.fromkeys(full.intervals, 0)
    for seed in range(200):
        sample = fe.margins(X, y, queries=300, seed=seed)
        for name, interval in sample.intervals.items():
            inside[name] += interval.low <= full.intervals[name].value <= interval.high
    for name, count in inside.items():
        assert 180 <= count <= 199, name  # 190 +- 3 standard deviations


def test_cosine():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((100, 4)), rng.integers(0, 3, 100)
    unit = naive.unit_rows(X)
    found = fe.margins(X, y, metric="cosine")
    cosine = np.where(y[:, None] != y, 1 - unit @ unit.T, np.inf)
    np.testing.assert_allclose(found.miss, cosine.min(1), rtol=1e-6)


def test_what_margins_leave_out_is_named():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((200, 3)), rng.integers(0, 2, 200)
    assert fe.margins(X, y).notes == ()
    y[[7, 20]] = 5, 9
    found = fe.margins(X, y)
    left_out = "margin, relative and n2 leave the point out, for it has no hit, and n3 counts it as an error"
    assert found.notes == (f"classes 5 and 9 have one point: {left_out}",)
    # All rows were asked, so that means of those that have a hit are certain.
    assert all(each.low == each.value == each.high for each in found.intervals.values())
    assert fe.margins(X, y, queries=np.arange(100, 200)).notes == ()  # neither of them is asked
    alone = fe.margins(X, y, queries=[7, 20])
    assert "margin, relative and n2 are unknown: every query is alone in its class" in alone.notes
    X[:] = 0
    level = fe.margins(X, y, queries=np.arange(60, 160)).notes
    assert "n2 is unknown: every hit and every miss is at distance 0" in level
    together = "100 queries coincide with a point of their class and one of another (rows 60, 61, 62, 63, 64 and 95 more)"
    assert f"{together}: relative is 0 there" in level


def test_intervals_that_may_be_too_narrow_are_named():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((2000, 3)), rng.integers(0, 2, 2000)
    few = "20 usable queries, where values without bounds take 50: "
    assert fe.margins(X, y, queries=20).notes == (
        f"{few}the interval of margin may be too narrow; the interval of n2 may be too narrow",
    )
    assert fe.margins(X, y, queries=50).notes == ()
    X[77] *= 1000
    found = fe.margins(X, y, queries=np.arange(400))
    assert found.notes[0].startswith("row 77 makes up ")
    assert "of the variance of n2" in " ".join(found.notes)
    assert fe.margins(X, y).notes == ()  # all rows: nothing is open
