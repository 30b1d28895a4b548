"""The geometry of the classes of a representation, from two passes over its rows.

pass 1    class moments -> means and variances
pass 2    distances to the means, deviations along the directions in which these differ, decisions of a linear layer
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.cluster import as_shared_source, map_rows_on_cluster
from fastent.arrays.labelled import as_labelled
from fastent.arrays.validation import Labels, joined, kernel_dtype, zero_rows
from fastent.options import flag
from fastent.statistics.class_geometry import ClassGeometry, ClassMeans, geometry_from
from fastent.statistics.class_moments import labelled_parts, moments_of, sums_apart
from fastent.statistics.neural_collapse import Between, Head, as_head

__all__ = ["AboutMeans", "about_means", "geometry", "geometry_of"]

Array = NDArray[np.float64]


class AboutMeans(NamedTuple):
    """What a second pass over some rows, with the class means at hand, sees: see `fastent.kernels.moments.distances_to_means`.

    features : sums of squared deviations in each feature. along : in each of some directions. zeros : rows of zeros, by number,
    if rows are scaled.
    """

    own: Array
    other: Array
    wide: Array
    nearest: NDArray[np.int64]
    features: Array
    along: Array
    decided: NDArray[np.int64] | None
    codes: NDArray[np.int64]
    zeros: NDArray[np.int64]


def geometry(
    X: Any, labels: Any, *, normalize: bool = True, weights: Any = None, bias: Any = None, client: Any = None
) -> ClassGeometry:
    """Measure where the classes of a representation lie and how well they are separated.

    Parameters
    ----------
    X : array-like (n, d)
        Activations of any real dtype and memory order, on any device; a memory map is read block by block, twice.
    labels : array-like (n,)
        Integers, strings or booleans; at least two classes.
    normalize : bool, optional
        Scale each row to unit L2 norm first; a row of zeros stays zero. Default True, because the source paper's radii and
        distances are those of unit rows. `fe.measure` takes rows as they are by default: to compare, give both the same value.
    weights : array-like (C, d), optional
        Weights of the linear layer that follows X, a row for each class in sorted order, for `nc3` and `nc4`; they take
        normalize=False.
    bias : array-like (C,), optional
        Bias of that layer.
    client : distributed.Client, optional
        Dask cluster whose workers share the rows of a `fe.open` source; the result is bit-identical.

    Returns
    -------
    ClassGeometry

    Raises
    ------
    FastentError
        Bad X or labels, including NaN and infinities; weights that do not fit.

    References
    ----------
    Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.

    Examples
    --------
    >>> import fastent as fe
    >>> result = fe.geometry([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0], [-0.6, -0.8]], ["a", "a", "b", "b"])
    >>> result.radius.round(4), result.distance.round(4)[0, 1]
    (array([0.4472, 0.4472]), np.float64(1.7889))
    """
    normalize = flag("normalize", normalize)
    points, coded = as_labelled(X, labels)
    features = as_shared_source(points, client)
    head = as_head(weights, bias, len(coded.classes), features.shape[1], normalize)
    moments = moments_of(features, coded.codes, len(coded.classes), normalize=normalize, client=client)
    return geometry_of(features, coded, moments.class_means(), head, client)[0]


def geometry_of(
    X: NDArray[Any], labels: Labels, means: ClassMeans, head: Head | None = None, client: Any = None
) -> tuple[ClassGeometry, AboutMeans]:
    """The geometry from the class means of X and a second pass over it, and what that pass found."""
    between = Between.of(means.apart)
    # Along the C - 1 directions that matter: far cheaper than the (d, d) scatter.
    about = about_means(X, labels.codes, means, between.directions, head, client)
    spread = np.bincount(labels.codes, np.sqrt(about.own)).astype(np.float64) / means.counts
    nc4 = None if about.decided is None else float((about.decided != about.nearest).mean())
    along = about.along / len(labels.codes)
    return geometry_from(
        labels.classes, means, between, along=along, spread=spread, head=head, nc4=nc4, zeros=about.zeros
    ), about


def about_means(
    X: NDArray[Any],
    codes: NDArray[np.int64],
    means: ClassMeans,
    directions: Array | None = None,
    head: Head | None = None,
    client: Any = None,
) -> AboutMeans:
    """Pass over X again: distances to the means, deviations along some directions (m, d), decisions of a linear head."""
    directions = np.empty((0, X.shape[1])) if directions is None else directions
    over = _SecondPass(means.origin, means.apart, means.variances, means.normalize, directions, head)
    pieces = labelled_parts(X, codes)
    seen = list(map_rows_on_cluster(client, X, over.part, pieces))
    own, other, wide, nearest = (joined([piece[i] for piece in seen]) for i in range(4))
    features, along = np.zeros(X.shape[1]), np.zeros(len(directions))
    for piece in seen:
        features += piece.features
        along += piece.along
    decided = None if head is None else joined([piece.decided for piece in seen])
    zeros = joined([start + piece.zeros for piece, (start, *_) in zip(seen, pieces, strict=True)])
    return AboutMeans(own, other, wide, nearest, features, along, decided, codes, zeros)


class _SecondPass(NamedTuple):
    """Over rows, with what is known of all of them; means are less the origin."""

    origin: Array
    means: Array
    variances: Array
    normalize: bool
    directions: Array
    head: Head | None

    def part(self, rows: NDArray[Any], codes: NDArray[np.int64]) -> AboutMeans:
        from fastent.kernels.moments import distances_to_means, squared_projections

        rows = np.ascontiguousarray(rows, kernel_dtype(rows))
        sums = sums_apart(*self.means.shape)
        about = rows, codes, self.origin, self.means
        own, other, wide, nearest, features = distances_to_means(*about, self.variances, self.normalize, sums)
        along = np.zeros(len(self.directions))
        if len(self.directions):
            along = squared_projections(*about, self.directions, self.normalize, sums).sum(0)
        decided = None if self.head is None else self.head.decide(rows)
        zeros = zero_rows(rows) if self.normalize else np.empty(0, np.int64)
        return AboutMeans(own, other, wide, nearest, features.sum(0), along, decided, codes, zeros)
