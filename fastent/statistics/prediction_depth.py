"""From which layer on the nearest neighbours of a point predict what the network predicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import as_array, as_labels
from fastent.errors import FastentError
from fastent.options import whole_number
from fastent.printable import in_queries, printable
from fastent.search.found_neighbors import Neighbors
from fastent.search.neighbors import neighbors
from fastent.statistics.intervals import Estimate, population_of, sample_mean
from fastent.statistics.layers import as_layers, common_k

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PredictionDepth", "prediction_depth"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PredictionDepth:
    """Through how many of L layers q points go before their neighbours predict what the network does.

    Attributes
    ----------
    names : tuple of str
        Names of the layers, the input first.
    k : int
        How many neighbours vote.
    classes : (C,)
        The sorted classes.
    depth : (q,) float64
        Number of the first layer from which on the votes of all layers are the final prediction, from 0 for the first layer to
        L - 1; NaN where not even the last layer's vote is.
    mean : float
        Mean depth of the points that have one.
    undefined : float
        Share of points without a depth, in [0, 1]; 0 if the final prediction is the last layer's vote.
    votes : (q, L)
        The class that each layer's neighbours predict.
    prediction : (q,)
        The final prediction.
    agreement : (L,) float64
        Share of points for which a layer's vote is the final prediction, in [0, 1].
    accuracy : (L,) float64
        Share of points for which it is their label, in [0, 1]; NaN where labels of the queries are not known.
    per_class : (C,) float64
        Mean depth of the points with each label; NaN without such points, or where their labels are not known.
    interval : Estimate
        Of the mean: standard error and 95 % interval over all rows, for queries that are a random sample of them. Without error
        where every row was a query.
    """

    names: tuple[str, ...]
    k: int
    classes: NDArray[Any]
    depth: Array
    mean: float
    undefined: float
    votes: NDArray[Any]
    prediction: NDArray[Any]
    agreement: Array
    accuracy: Array
    per_class: Array
    interval: Estimate

    def plot(self, *, ax: "Axes | None" = None) -> "tuple[Figure, Axes]":
        """Draw by layer which share of the points is decided, and how accurate votes are; on `ax` or in a new figure."""
        from fastent.plots.by_name import draw_error_bars
        from fastent.plots.figure import axes_of

        figure, axes = axes_of(ax)
        decided = np.array([(self.depth <= layer).mean() for layer in range(len(self.names))])
        series = {"decided from here on": decided, "votes that are the final prediction": self.agreement}
        if not np.isnan(self.accuracy).any():
            series["votes that are the label"] = self.accuracy
        draw_error_bars(axes, self.names, {name: (values, np.zeros(len(values))) for name, values in series.items()})
        axes.set(ylabel="share of the points", ylim=(0, 1.02), title=f"mean prediction depth {self.mean:.2f}")
        return figure, axes

    def __repr__(self) -> str:
        said = f", {100 * self.undefined:.1f} % undefined" if self.undefined else ""
        return (
            f"PredictionDepth({in_queries(len(self.depth))}, {len(self.names)} layers, k={self.k}, mean {self.mean:.3f}{said})"
        )


def prediction_depth(
    layers: Mapping[str, Any] | Sequence[Any],
    labels: Any,
    *,
    k: int = 30,
    predictions: Any = None,
    query_labels: Any = None,
) -> PredictionDepth:
    """Find the layer from which on the k nearest neighbours of a point predict what the network predicts.

    Parameters
    ----------
    layers : dict or sequence, of Neighbors or of array-likes (n, d)
        The input first, the last layer last; by name, or in a list, whose names are then "0", "1", ... Of arrays all rows are
        asked, each left out of its own vote. Held-out points are passed as ``fe.neighbors(X_train, k, queries=X_test)`` for
        each layer.
    labels : array-like (n,)
        Labels of the rows that were searched. Training labels ask how the network processes points that it has learned;
        those of held-out points, how it processes new ones.
    k : int
        How many neighbours vote; default 30, as in the paper.
    predictions : array-like (q,), optional
        What the network itself predicts. Points for which the last layer's vote differs have no depth. Default: the last
        layer's vote is the final prediction.
    query_labels : array-like (q,), optional
        Labels of queries that are no rows, for `accuracy` and `per_class`.

    Returns
    -------
    PredictionDepth
        Votes are majorities, ties to the class whose nearest member is nearer.

    Raises
    ------
    FastentError
        No layers; layers of other points; fewer neighbours than k; labels or predictions that do not fit.

    References
    ----------
    Baldock, Maennel, Neyshabur, "Deep learning through the lens of example difficulty", 2021.

    Examples
    --------
    >>> import fastent as fe
    >>> layers = {"input": [[0.0], [1.0], [1.5], [3.0]], "output": [[0.0], [0.1], [5.0], [5.1]]}
    >>> fe.prediction_depth(layers, ["a", "a", "b", "b"], k=1).depth.tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    from fastent.kernels.mixing import label_shares

    k = whole_number("k", k, minimum=1)
    names, given = as_layers(layers, "an array or what fe.neighbors returns", at_least=1)
    lists = [each if isinstance(each, Neighbors) else _searched(name, each, k) for name, each in zip(names, given, strict=True)]
    common_k(names, lists, k)
    first = lists[0]
    codes, classes = as_labels(labels, n=first.n)
    own = _own(first, codes, classes, query_labels)
    q = len(first.indices)
    votes = np.empty((q, len(lists)), np.int64)
    for layer, each in enumerate(lists):
        near = each.subset(k)
        votes[:, layer] = label_shares(near.indices, near.distances, codes, np.zeros(q, np.int64), len(classes))[2]
    final = votes[:, -1] if predictions is None else _codes_of(predictions, q, classes, "predictions")
    agree = votes == final[:, None]
    # How many layers at the end agree.
    last = np.logical_and.accumulate(agree[:, ::-1], 1).sum(1)
    depth = np.where(last > 0, float(len(lists)) - last, np.nan)
    population = population_of(first.queries, first.n if first.queries is not None else q)
    interval = sample_mean(depth, population, least=0, most=len(lists) - 1)
    return PredictionDepth(
        names=names,
        k=k,
        classes=classes,
        depth=depth,
        mean=interval.value,
        undefined=float((last == 0).mean()),
        votes=classes[votes],
        prediction=classes[final] if predictions is None else as_array(predictions, "predictions"),
        agreement=agree.mean(0),
        accuracy=np.full(len(lists), np.nan) if own is None else (votes == own[:, None]).mean(0),
        per_class=_means(depth, own, len(classes)),
        interval=interval,
    )


def _searched(name: str, X: Any, k: int) -> Neighbors:
    try:
        return neighbors(X, k)
    except FastentError as error:
        raise FastentError(f"layer {printable(name)}: {error}") from None


def _own(near: Neighbors, codes: NDArray[np.int64], classes: NDArray[Any], query_labels: Any) -> NDArray[np.int64] | None:
    """Codes of the queries' labels; None where they are not known."""
    if near.queries is None:
        return None if query_labels is None else _codes_of(query_labels, len(near.indices), classes, "query_labels")
    if query_labels is not None:
        raise FastentError("query_labels are for queries that are no rows: these have the rows' labels")
    return codes[near.queries]


def _codes_of(labels: Any, q: int, classes: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Codes among the classes; -1 for a class that no row has, and that no vote can be."""
    codes, found = as_labels(labels, n=q, name=name)
    known = np.isin(found, classes)
    if not known.any():
        raise FastentError(f"{name} holds {found[0]!s}, and no class that a row has, such as {classes[0]!s}: pass class labels")
    return np.where(known, np.searchsorted(classes, found), -1)[codes]


def _means(depth: Array, own: NDArray[np.int64] | None, n_classes: int) -> Array:
    if own is None:
        return np.full(n_classes, np.nan)
    usable = ~np.isnan(depth) & (own >= 0)
    with np.errstate(invalid="ignore"):
        means: Array = np.bincount(own[usable], depth[usable], n_classes) / np.bincount(own[usable], minlength=n_classes)
    return means
