"""The exact search as a scikit-learn transformer, for pipelines and for whatever takes one, such as scanpy."""

from typing import Any, Literal, Self

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from fastent.errors import FastentError
from fastent.options import choice, whole_number
from fastent.search.neighbor_graph import KINDS, Kind
from fastent.search.neighbors import neighbors

__all__ = ["KNeighborsTransformer"]


class KNeighborsTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Points to the graph of their nearest neighbours, as scikit-learn's transformer of this name does, but by `fe.neighbors`.

    It can take that one's place wherever the distance is Euclidean or cosine. The differences: each point is the first of its
    own neighbours, even among points that equal it; equal distances are ordered by the lower row number; distances are decided
    in double precision, and rounded to single.

    Parameters
    ----------
    mode : "distance" or "connectivity", default "distance"
        Whether entries are distances or 1.
    n_neighbors : int, default 5
        Entries in each row, the point itself among them; one more if the mode is "distance", as in scikit-learn.
    metric : "euclidean" or "cosine", default "euclidean"
        Cosine distance is 1 - cos; rows of zeros are refused.
    memory_budget : int or str, optional
        Bytes, or like "4GiB"; by default what is available.

    Attributes
    ----------
    n_samples_fit_ : int
        Rows that were fitted, n.
    n_features_in_ : int
    feature_names_in_ : (d,) str
        Only where the columns had names.

    Examples
    --------
    >>> from fastent.integrations.sklearn import KNeighborsTransformer
    >>> graph = KNeighborsTransformer(n_neighbors=1).fit_transform([[0.0], [1.0], [3.0]])
    >>> graph.toarray().tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]
    >>> graph.nnz  # with the points themselves, at distance 0
    6
    """

    def __init__(
        self,
        *,
        mode: Kind = "distance",
        n_neighbors: int = 5,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        memory_budget: int | str | None = None,
    ) -> None:
        self.mode = mode
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.memory_budget = memory_budget

    def fit(self, X: Any, y: Any = None) -> Self:
        """Keep the rows (n, d) that later ones are compared with; they are searched when something is transformed.

        Raises
        ------
        ValueError
            Rows that are sparse, not finite or not two-dimensional; an unknown `mode` or `metric`; too few neighbours.
        """
        self._check_options()
        self._fit_X = validate_data(self, X, order="C")
        self.n_samples_fit_ = self._n_features_out = len(self._fit_X)
        return self

    def transform(self, X: Any) -> csr_matrix:
        """The nearest fitted rows of points (q, d): a CSR matrix (q, n) float64, in each row the nearest first.

        Raises
        ------
        ValueError
            Points of another width, or with other names; more neighbours than there are rows.
        """
        check_is_fitted(self)
        self._check_options()
        points = validate_data(self, X, order="C", reset=False)
        return self._searched(self.n_neighbors + (self.mode == "distance"), points).graph(self.mode)

    def fit_transform(self, X: Any, y: Any = None) -> csr_matrix:
        """The nearest rows of each row, itself first: a CSR matrix (n, n) float64, in each row the nearest first.

        Raises
        ------
        ValueError
            As for `fit` and `transform`.
        """
        others = self.fit(X).n_neighbors - (self.mode == "connectivity")
        if not others:  # each point is its only neighbour
            own = np.arange(self.n_samples_fit_ + 1)
            return csr_matrix((np.ones(len(own) - 1), own[:-1], own))
        return self._searched(others).graph(self.mode, include_self=True)

    def _searched(self, k: int, points: Any = None) -> Any:
        """The k nearest rows of points, or of each row without itself."""
        rows = self.n_samples_fit_
        if k > rows - (points is None):
            raise FastentError(
                f"n_neighbors={self.n_neighbors} with mode={self.mode!r} takes {k + (points is None)} rows, and "
                f"n_samples={rows} were fitted: lower it"
            )
        return neighbors(self._fit_X, k, queries=points, metric=self.metric, memory_budget=self.memory_budget)

    def _check_options(self) -> None:
        choice("mode", self.mode, KINDS)
        choice("metric", self.metric, ("euclidean", "cosine"))
        whole_number("n_neighbors", self.n_neighbors, minimum=1)
