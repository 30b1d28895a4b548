"""Other tools find on our neighbours what they find on those of a brute-force search, which knows nothing of fastent."""

import warnings

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.cluster import DBSCAN, HDBSCAN, SpectralClustering
from sklearn.exceptions import EfficiencyWarning
from sklearn.manifold import TSNE, Isomap
from sklearn.neighbors import KNeighborsTransformer as Theirs
from sklearn.neighbors import LocalOutlierFactor

import fastent as fe
from fastent.integrations.sklearn import KNeighborsTransformer
from fastent.runtime.threads import limit_threads
from tests import naive

K = 15


@pytest.fixture(autouse=True)
def one_thread():
    with limit_threads(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        warnings.simplefilter("error", EfficiencyWarning)  # rows that are not sorted by distance
        yield


@pytest.fixture(scope="module")
def X():
    """Four clusters, one of them twice as wide, and four points that are there twice."""
    rng = np.random.default_rng(0)
    centres = 6 * rng.standard_normal((4, 10))
    X = centres[np.arange(300) % 4] + rng.standard_normal((300, 10)) * (1 + (np.arange(300) % 4 == 3))[:, None]
    X[[50, 51, 52, 53]] = X[[10, 11, 12, 13]]
    return X


@pytest.fixture(scope="module")
def distinct(X):
    """Without the second of equal points, which every search may order as it likes."""
    return np.delete(X, [50, 51, 52, 53], axis=0)


@pytest.fixture(scope="module")
def near(X):
    return fe.neighbors(X, K)


@pytest.fixture(scope="module")
def connected(X):
    """As many neighbours as connect the clusters."""
    return fe.neighbors(X, 200)


@pytest.fixture(scope="module")
def labels():
    return np.arange(300) % 4


def brute_lists(X, k=K, *, include_self):
    indices, distances = naive.nearest(naive.squared_distances(X, X), k, np.arange(len(X)))
    if include_self:
        indices = np.hstack([np.arange(len(X))[:, None], indices])
        distances = np.hstack([np.zeros((len(X), 1)), distances])
    return indices, distances.astype(np.float32)


def brute_graph(X, k=K, *, include_self=True):
    indices, distances = brute_lists(X, k, include_self=include_self)
    starts = np.arange(0, indices.size + 1, indices.shape[1])
    return csr_matrix((distances.ravel().astype(float), indices.ravel(), starts), shape=(len(X), len(X)))


def symmetric(graph):
    """Both directions, with zeros as entries: of edges one by one."""
    edges = {}
    for row, (start, stop) in enumerate(zip(graph.indptr[:-1], graph.indptr[1:])):
        for column, distance in zip(graph.indices[start:stop], graph.data[start:stop]):
            edges[row, column] = edges[column, row] = distance
    rows, columns = np.array(list(edges)).T
    return csr_matrix((list(edges.values()), (rows, columns)), shape=graph.shape)


OF_SCIKIT_LEARN = {
    "t-SNE": (TSNE(metric="precomputed", init="random", perplexity=4, max_iter=250, random_state=0), "embedding_"),
    "spectral clustering": (
        SpectralClustering(4, affinity="precomputed_nearest_neighbors", n_neighbors=K, random_state=0), "labels_",
    ),
    "DBSCAN": (DBSCAN(3.5, metric="precomputed", min_samples=5), "labels_"),
    "local outlier factor": (LocalOutlierFactor(10, metric="precomputed"), "negative_outlier_factor_"),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_SCIKIT_LEARN)
def test_scikit_learn(name, X, near):
    estimator, attribute = OF_SCIKIT_LEARN[name]
    found = getattr(estimator.fit(near.graph(include_self=True)), attribute).copy()
    transformed = getattr(estimator.fit(KNeighborsTransformer(n_neighbors=K).fit_transform(X)), attribute).copy()
    expected = getattr(estimator.fit(brute_graph(X)), attribute)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(transformed, found)
    assert len(np.unique(found, axis=0)) > 3


def test_dbscan_of_few_neighbours_is_that_of_all_pairs(X):
    """As docs/other-tools.md says: core points if min_samples <= k + 1, and clusters if no more than k are within eps."""
    squared, eps = naive.squared_distances(X, X), 2.5
    within = (np.sqrt(squared) <= eps).sum(1) - 1
    expected = DBSCAN(eps, min_samples=5).fit(X)
    enough = DBSCAN(eps, min_samples=5, metric="precomputed").fit(fe.neighbors(X, within.max()).graph(include_self=True))
    np.testing.assert_array_equal(enough.labels_, expected.labels_)
    assert len(set(expected.labels_)) > 3
    few = DBSCAN(eps, min_samples=5, metric="precomputed").fit(fe.neighbors(X, 4).graph(include_self=True))
    np.testing.assert_array_equal(few.core_sample_indices_, expected.core_sample_indices_)
    assert within.max() > 4


def test_isomap(X, connected):
    estimator = Isomap(metric="precomputed", n_neighbors=200)
    found = estimator.fit(connected.graph(include_self=True)).dist_matrix_
    np.testing.assert_allclose(found, estimator.fit(brute_graph(X, 200)).dist_matrix_, rtol=1e-6)


def test_hdbscan_of_scikit_learn(X, connected):
    estimator = HDBSCAN(min_samples=5, min_cluster_size=20, metric="precomputed", copy=True)
    found = estimator.fit(connected.graph(include_self=True, symmetric=True)).labels_.copy()
    np.testing.assert_array_equal(found, estimator.fit(symmetric(brute_graph(X, 200))).labels_)
    assert len(set(found) - {-1}) == 4


def test_hdbscan(X, connected):
    hdbscan = pytest.importorskip("hdbscan")
    clusters = hdbscan.HDBSCAN(metric="precomputed", min_samples=5, min_cluster_size=20)
    found = clusters.fit(connected.graph(include_self=True, symmetric=True)).labels_.copy()
    np.testing.assert_array_equal(found, clusters.fit(symmetric(brute_graph(X, 200))).labels_)
    assert len(set(found) - {-1}) == 4


@pytest.mark.large
def test_umap(X, near):
    umap = pytest.importorskip("umap")
    options = {"n_neighbors": K + 1, "n_epochs": 20, "random_state": 0, "init": "random"}
    found = umap.UMAP(precomputed_knn=near.arrays(include_self=True), **options).fit(X)
    expected = umap.UMAP(precomputed_knn=brute_lists(X, include_self=True), **options).fit(X)
    np.testing.assert_array_equal(found.graph_.toarray(), expected.graph_.toarray())
    np.testing.assert_array_equal(found.embedding_, expected.embedding_)


@pytest.mark.large
def test_umap_itself_finds_the_same_among_few_points(distinct):
    umap = pytest.importorskip("umap")
    options, near = {"n_neighbors": K + 1, "n_epochs": 20, "random_state": 0}, fe.neighbors(distinct, K)
    its_own = umap.UMAP(**options).fit(distinct).graph_.toarray()
    found = umap.UMAP(precomputed_knn=near.arrays(include_self=True), **options).fit(distinct)
    np.testing.assert_allclose(found.graph_.toarray(), its_own, atol=1e-4)
    graph = near.graph(include_self=True, symmetric=True)
    np.testing.assert_allclose(umap.UMAP(metric="precomputed", **options).fit(graph).graph_.toarray(), its_own, atol=1e-4)


def test_opentsne(X, near, distinct):
    pytest.importorskip("openTSNE")
    from openTSNE import affinity
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    found, expected = (
        affinity.PerplexityBasedNN(knn_index=PrecomputedNeighbors(*lists), perplexity=5).P.toarray()
        for lists in (near.arrays(), brute_lists(X, include_self=False))
    )
    np.testing.assert_array_equal(found, expected)
    few = PrecomputedNeighbors(*fe.neighbors(distinct, K).arrays())
    its_own = affinity.PerplexityBasedNN(distinct, perplexity=5, method="exact").P.toarray()
    np.testing.assert_allclose(affinity.PerplexityBasedNN(knn_index=few, perplexity=5).P.toarray(), its_own, atol=1e-6)


@pytest.mark.large
@pytest.mark.spawn
@pytest.mark.parametrize("method", ["umap", "gauss"])
def test_scanpy(distinct, method):
    scanpy, anndata = pytest.importorskip("scanpy"), pytest.importorskip("anndata")
    found = []
    for transformer in (KNeighborsTransformer(n_neighbors=K), Theirs(n_neighbors=K, algorithm="brute")):
        cells = anndata.AnnData(distinct)
        scanpy.pp.neighbors(cells, transformer=transformer, use_rep="X", method=method)
        found.append(cells.obsp["connectivities"].toarray())
    np.testing.assert_allclose(*found, atol=1e-4)
    assert found[0].any()


@pytest.mark.large
def test_cleanlab(X, near, labels):
    cleanlab = pytest.importorskip("cleanlab")
    found = []
    for graph in (near.graph(), brute_graph(X, include_self=False)):
        lab = cleanlab.Datalab({"y": labels}, label_name="y", verbosity=0)
        lab.find_issues(knn_graph=graph, issue_types={"outlier": {}, "near_duplicate": {}, "non_iid": {}})
        found.append(lab.get_issues())
    assert found[0].equals(found[1])
    assert np.flatnonzero(found[0]["is_near_duplicate_issue"]).tolist() == [10, 11, 12, 13, 50, 51, 52, 53]


@pytest.mark.large
def test_scib_metrics(X, labels):
    metrics = pytest.importorskip("scib_metrics")
    from scib_metrics.nearest_neighbors import NeighborsResults

    near = fe.neighbors(X, 60)
    found, expected = (
        NeighborsResults(*near.arrays(include_self=True)),
        NeighborsResults(*brute_lists(X, 60, include_self=True)),
    )
    np.testing.assert_array_equal(metrics.lisi_knn(found, labels), metrics.lisi_knn(expected, labels))
    assert metrics.clisi_knn(found, labels) == metrics.clisi_knn(expected, labels)
    assert metrics.kbet(found, labels)[0] == metrics.kbet(expected, labels)[0]
    of_both = (each.knn_graph_connectivities.toarray() for each in (found, expected))
    np.testing.assert_array_equal(*of_both)
