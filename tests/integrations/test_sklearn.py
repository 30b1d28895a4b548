import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neighbors import KNeighborsTransformer as Theirs
from sklearn.neighbors._base import _is_sorted_by_data
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastent as fe
from fastent.integrations.sklearn import KNeighborsTransformer
from fastent.runtime.threads import limit_threads

MODES = pytest.mark.parametrize("mode", ["distance", "connectivity"])


@pytest.fixture(autouse=True)
def one_thread():
    with limit_threads(1):
        yield


def points(n=150, d=7, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def assert_same_graph(found, expected):
    assert found.shape == expected.shape
    assert _is_sorted_by_data(found)
    np.testing.assert_array_equal(found.indptr, expected.indptr)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.data, expected.data, rtol=1e-6, atol=1e-6)


@parametrize_with_checks([KNeighborsTransformer(), KNeighborsTransformer(mode="connectivity")])
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


@MODES
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("n_neighbors", [1, 2, 5, 149])
def test_it_is_what_scikit_learn_has(mode, metric, n_neighbors):
    X, others = points(), points(20, seed=1)
    options = {"mode": mode, "metric": metric, "n_neighbors": n_neighbors}
    ours, theirs = KNeighborsTransformer(**options), Theirs(algorithm="brute", **options)
    expected = theirs.fit_transform(X)
    found = ours.fit_transform(X)
    assert type(found) is type(expected)
    assert_same_graph(found, expected)
    assert_same_graph(ours.transform(others), theirs.transform(others))
    assert_same_graph(ours.fit(X).transform(X), theirs.transform(X))
    np.testing.assert_array_equal(ours.get_feature_names_out(), theirs.get_feature_names_out())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64, bool])
def test_other_dtypes(dtype):
    X = (4 * points()).astype(dtype)
    graph = KNeighborsTransformer(n_neighbors=3).fit_transform(X)
    assert graph.dtype == np.float64
    expected = fe.neighbors(X, 3).graph(include_self=True)
    assert_same_graph(graph, expected)


@MODES
def test_each_point_comes_first_among_those_that_equal_it(mode):
    X = np.repeat(points(3), 20, axis=0)
    graph = KNeighborsTransformer(mode=mode, n_neighbors=4).fit_transform(X)
    np.testing.assert_array_equal(graph.indices[graph.indptr[:-1]], np.arange(60))
    assert graph.nnz == 60 * (4 + (mode == "distance"))


def test_in_a_pipeline_it_classifies_as_theirs():
    X, y = load_digits(return_X_y=True)
    X = X + 1e-3 * points(*X.shape)
    predicted = []
    for transformer in (KNeighborsTransformer(n_neighbors=6), Theirs(n_neighbors=6, algorithm="brute")):
        pipeline = make_pipeline(transformer, KNeighborsClassifier(5, metric="precomputed"))
        predicted.append(pipeline.fit(X[:900], y[:900]).predict(X[900:]))
    np.testing.assert_array_equal(*predicted)
    assert (predicted[0] == y[900:]).mean() > 0.9


def test_it_is_cloned_and_pickled():
    ours = KNeighborsTransformer(n_neighbors=3, metric="cosine", memory_budget="1GiB")
    assert clone(ours).get_params() == ours.get_params()
    X = points()
    again = pickle.loads(pickle.dumps(ours.fit(X)))
    assert_same_graph(again.transform(X), ours.transform(X))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "weights"}, "mode='weights': choose one of"),
        ({"metric": "manhattan"}, "metric='manhattan': choose one of 'euclidean', 'cosine'"),
        ({"n_neighbors": 0}, "n_neighbors=0: a whole number of at least 1"),
        ({"n_neighbors": 2.0}, r"n_neighbors=2\.0: a whole number"),
        ({"n_neighbors": 10}, "n_neighbors=10 with mode='distance' takes 11 rows, and n_samples=10"),
        ({"n_neighbors": 11, "mode": "connectivity"}, "takes 11 rows"),
        ({"memory_budget": "much"}, "memory_budget='much'"),
    ],
)
def test_options_that_are_none(options, says):
    with pytest.raises(fe.FastentError, match=says):
        KNeighborsTransformer(**options).fit_transform(points(10))


def test_points_that_will_not_do():
    ours = KNeighborsTransformer(n_neighbors=2)
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        ours.fit(ours.fit_transform(points()))
    with pytest.raises(ValueError, match="NaN"):
        ours.fit([[0.0], [np.nan], [1.0]])
    with pytest.raises(fe.FastentError, match="1 row of zeros"):
        KNeighborsTransformer(metric="cosine", n_neighbors=1).fit_transform([[0.0], [1.0], [2.0]])
    with pytest.raises(ValueError, match="n_neighbors=5 with mode='distance' takes 6 rows"):
        KNeighborsTransformer().fit(points(5)).transform(points(9))
    with pytest.raises(ValueError, match="3 features"):
        ours.fit(points()).transform(points(4, 3))


def test_columns_with_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(points(30, 2), columns=["a", "b"])
    ours = KNeighborsTransformer(n_neighbors=2)
    assert_same_graph(ours.fit_transform(frame), ours.fit_transform(frame.to_numpy()))
    assert ours.fit(frame).feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="names"):
        ours.transform(frame[["b", "a"]])
