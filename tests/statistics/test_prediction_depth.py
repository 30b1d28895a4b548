import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

import fastent as fe
from tests import naive


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 60),
    n_layers=st.integers(1, 6),
    n_classes=st.integers(1, 5),
    lattice=st.booleans(),
    own_predictions=st.booleans(),
    sampled=st.booleans(),
)
def test_depth_is_what_its_definition_says(seed, n, n_layers, n_classes, lattice, own_predictions, sampled):
    rng = np.random.default_rng(seed)
    labels = rng.choice(list("abcde")[:n_classes], n)
    k = int(rng.integers(1, n))
    queries = np.unique(rng.integers(0, n, n)) if sampled else np.arange(n)
    layers = [rng.integers(0, 3, (n, 2)) if lattice else rng.standard_normal((n, 3)) for _ in range(n_layers)]
    near = [fe.neighbors(X, k, queries=queries) for X in layers]
    predictions = rng.choice(labels, len(queries)) if own_predictions else None
    found = fe.prediction_depth(near if sampled else layers, labels, k=k, predictions=predictions)
    votes = np.array([fe.mixing(each, labels).vote for each in near]).T
    final = votes[:, -1] if predictions is None else predictions
    depth = naive.prediction_depth(votes, final)
    np.testing.assert_array_equal(found.votes, votes)
    np.testing.assert_array_equal(found.depth, depth)
    np.testing.assert_array_equal(found.prediction, final)
    np.testing.assert_allclose(found.agreement, (votes == final[:, None]).mean(0))
    np.testing.assert_allclose(found.accuracy, (votes == labels[queries][:, None]).mean(0))
    assert found.undefined == np.isnan(depth).mean()
    if not np.isnan(depth).all():
        assert found.mean == found.interval.value == pytest.approx(np.nanmean(depth))
    for name, value in zip(found.classes, found.per_class):
        of_class = depth[(labels[queries] == name) & ~np.isnan(depth)]
        assert value == pytest.approx(of_class.mean()) if len(of_class) else np.isnan(value)


def test_harder_points_are_deeper():
    """Layers that draw the classes apart: points with a wrong label and points between classes are decided later."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 1200)
    given_labels = y.copy()
    given_labels[:60] = (y[:60] + 1) % 3
    noise = rng.standard_normal((1200, 10))
    target = np.eye(3, 10)[given_labels]
    layers = {
        f"layer {i}": 4 * (1 - t) * np.eye(3, 10)[y] + 12 * t * target + noise for i, t in enumerate((0, 0.25, 0.5, 0.75, 1))
    }
    found = fe.prediction_depth(layers, given_labels)
    assert found.undefined == 0
    assert found.depth[:60].mean() > found.depth[60:].mean() + 1
    assert (found.votes[:60, -1] == given_labels[:60]).all()
    assert found.accuracy[-1] == found.agreement[-1] == 1


def test_held_out_digits():
    X, y = load_digits(return_X_y=True)
    layers = {"first": X[:, :8], "half": X[:, :32], "all": X}
    near = {name: fe.neighbors(rows[:1200], 30, queries=rows[1200:]) for name, rows in layers.items()}
    found = fe.prediction_depth(near, y[:1200], query_labels=y[1200:])
    assert found.names == ("first", "half", "all")
    assert found.accuracy[0] < found.accuracy[1] < found.accuracy[2]
    votes = np.array([fe.mixing(each, y[:1200], query_labels=y[1200:]).vote for each in near.values()]).T
    np.testing.assert_array_equal(found.depth, naive.prediction_depth(votes, votes[:, -1]))
    assert found.depth[votes[:, 0] != votes[:, 2]].min() >= 1
    without = fe.prediction_depth(near, y[:1200])
    assert np.isnan(without.accuracy).all()
    assert np.isnan(without.per_class).all()
    np.testing.assert_array_equal(without.depth, found.depth)
    assert len(found.plot()[1].lines) >= 3
    assert len(without.plot()[1].lines) >= 2
    assert repr(found).startswith("PredictionDepth(597 queries, 3 layers, k=30, mean 0.765)")


def test_a_prediction_that_no_row_has_is_never_met():
    X = np.arange(6.0)[:, None]
    found = fe.prediction_depth([X, X], [0, 0, 0, 1, 1, 1], k=1, predictions=[0, 0, 7, 1, 1, 1])
    np.testing.assert_array_equal(
        found.depth, [0, 0, np.nan, np.nan, 0, 0]
    )  # the fourth is as near to the third as to the fifth
    assert found.undefined == 2 / 6
    assert found.prediction.tolist() == [0, 0, 7, 1, 1, 1]


def test_interval_of_sampled_queries():
    X, y = load_digits(return_X_y=True)
    layers = X[:, :8], X[:, :32], X
    full = fe.prediction_depth(layers, y, k=10)
    assert full.interval.standard_error == 0
    some = fe.prediction_depth([fe.neighbors(each, 10, queries=300) for each in layers], y, k=10)
    assert some.interval.low < full.mean < some.interval.high


X = np.arange(6.0)[:, None]
Y = [0, 1, 0, 1, 0, 1]
NEAR = fe.neighbors(X, 2)
REFUSED = [
    (lambda: fe.prediction_depth([], Y), "layers has 0: at least 1 are needed"),
    (lambda: fe.prediction_depth(NEAR, Y), "layers=Neighbors(6 queries"),
    (
        lambda: fe.prediction_depth(X, Y),
        "layers=ndarray of shape (6, 1): pass an array or what fe.neighbors returns for each layer, in a list",
    ),
    (lambda: fe.prediction_depth([NEAR], Y), "k=30: a whole number from 1 to 2 is needed"),
    (lambda: fe.prediction_depth([X], Y), "layer 0: k=30: a whole number from 1 to 5 is needed"),
    (lambda: fe.prediction_depth([X], Y, k=0), "k=0: a whole number of at least 1 is needed"),
    (
        lambda: fe.prediction_depth({"in": X, "out": X[:5]}, Y, k=2),
        "in has 6 rows and out has 5: pass neighbours of the same points",
    ),
    (lambda: fe.prediction_depth([X], Y[:5], k=2), "X has 6 rows but labels has 5"),
    (
        lambda: fe.prediction_depth([X], Y, k=2, predictions=list("ababab")),
        "predictions holds a, and no class that a row has, such as 0",
    ),
    (lambda: fe.prediction_depth([X], Y, k=2, predictions=[0, 1]), "X has 6 rows but predictions has 2"),
    (lambda: fe.prediction_depth([X], Y, k=2, query_labels=Y), "query_labels are for queries that are no rows"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refusals(call, message):
    with pytest.raises(fe.FastentError) as refused:
        call()
    assert message in str(refused.value)
