"""Points in two dimensions, and how much of their neighbourhoods that keeps: a map of many dimensions cannot keep all.

X -- rows shown: all, or a sample of each class --+-- planes: principal axes, UMAP, t-SNE --> coordinates (m, 2)
  -- neighbours of these, found once -------------+-- share of them that are neighbours on the map too
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.class_names import reading_order
from fastent.arrays.labelled import with_labels
from fastent.arrays.ranges import check_range
from fastent.arrays.validation import UnitRows, as_features, as_labels, check_lengths
from fastent.errors import FastentError
from fastent.options import choice, flag, short_repr, whole_number
from fastent.runtime.optional import needed
from fastent.search.found_neighbors import Neighbors, check_neighbors
from fastent.search.neighbors import neighbors
from fastent.statistics.planes import LONGEST_LISTS, PACKAGES, PLANES, principal_plane
from fastent.statistics.strata import stratified_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "MAP_METHODS", "MOST_SHOWN", "MapMethod", "PointMap", "map_methods", "map_points", "most_shown",
    "point_maps",
]  # fmt: skip

MapMethod = Literal["pca", "umap", "tsne"]
MAP_METHODS: tuple[str, ...] = get_args(MapMethod)
TITLES = {"pca": "PCA", "umap": "UMAP", "tsne": "t-SNE"}

# More points hide each other, and take a browser a second to draw.
MOST_SHOWN = 5000
# Multiplications that the neighbours of the points shown may take at most, if these are a sample: less than a second.
_WORK = 2e10
# Shares: of a sample, that the rows to keep may take; of memory, that the rows shown may.
_KEPT, _MEMORY = 1 / 3, 1 / 16


@dataclass(frozen=True, eq=False)
class PointMap:
    """m of n points in two dimensions, and how many of each one's neighbours are its neighbours there too.

    Attributes
    ----------
    method : "pca", "umap" or "tsne"
    rows : (m,) int64
        Row numbers of the points shown, ascending.
    coordinates : (m, 2) float64
        For "pca" in units of X; for the others without a meaning of their own.
    n : int
        How many points there are in all.
    k : int
    kept : (m,) float64
        Share of a point's k nearest neighbours, among the points shown and in all dimensions, that are among its k nearest on
        the map, in [0, 1]; NaN if all points are at one place.
    explained : (2,) float64
        Share of the variance along each axis for "pca", in [0, 1]; NaN for the others, and without variance.
    """

    method: str
    rows: NDArray[np.int64]
    coordinates: NDArray[np.float64]
    n: int
    k: int
    kept: NDArray[np.float64]
    explained: NDArray[np.float64]

    @property
    def kept_share(self) -> float:
        """Mean of `kept`: compare it with `chance`."""
        return float(self.kept.mean())

    @property
    def chance(self) -> float:
        """The share that a map would keep on which the points lie at random."""
        return self.k / (len(self.rows) - 1)

    @property
    def title(self) -> str:
        """The method's name as people write it."""
        return TITLES[self.method]

    @property
    def sentence(self) -> str:
        """How much of the neighbourhoods is kept, in words."""
        if math.isnan(self.kept_share):
            return "All points shown are the same."
        return (
            f"{100 * self.kept_share:.1f} % of a point's {self.k} nearest neighbours are among its {self.k} nearest on the "
            f"map; chance would give {100 * self.chance:.1f} %."
        )

    def plot(
        self, labels: Any = None, *, marked: Any = None, mark: str = "marked", ax: "Axes | None" = None
    ) -> "tuple[Figure, Axes]":
        """Draw the map with matplotlib, and say what it keeps.

        Parameters
        ----------
        labels : array-like (n,), optional
            For the colours, one for each of the n points.
        marked : (n,) bool, optional
            Points that get a ring.
        mark : str, optional
            What the legend calls them.
        ax : matplotlib Axes, optional
            Axes to draw on; by default those of a new figure.

        Returns
        -------
        (Figure, Axes)

        Raises
        ------
        FastentError
            Labels or marks that are not one for each of the n points.
        """
        from fastent.plots.figure import axes_of
        from fastent.plots.points import draw_points

        coded = as_labels(np.zeros(self.n, np.int64) if labels is None else labels, n=self.n)
        rings = np.zeros(self.n, bool) if marked is None else np.asarray(marked)
        if rings.shape != (self.n,) or rings.dtype != bool:
            raise FastentError(f"marked={short_repr(marked)}: a bool for each of {self.n} points is needed")
        figure, axes = axes_of(ax, (7.0, 6.0))
        names = [str(name) for name in coded.classes]
        order = reading_order(coded.classes, names)
        codes = np.argsort(order)[coded.codes[self.rows]]
        shown = [] if labels is None else [names[c] for c in order]
        draw_points(axes, self.coordinates, codes, shown, rings[self.rows], mark)
        axes.set_title(f"{self.title}: {self.sentence}", fontsize="medium", wrap=True)
        if self.method == "pca" and not np.isnan(self.explained).any():
            along = [f"{100 * share:.1f} % of the variance" for share in self.explained]
            axes.set(xlabel=along[0], ylabel=along[1])
        return figure, axes

    def __repr__(self) -> str:
        return f"PointMap({self.title}, {len(self.rows):,} of {self.n:,} points: {self.sentence})"


def map_points(
    X: Any,
    labels: Any = None,
    *,
    method: MapMethod = "pca",
    k: int = 10,
    most: int = MOST_SHOWN,
    keep: Any = None,
    neighbors: Neighbors | None = None,
    normalize: bool = False,
    seed: int = 0,
) -> PointMap:
    """Lay points out in two dimensions, and measure how much of their neighbourhoods the map keeps.

    Of more points than `most`, a sample is shown: each class in proportion, but at least ten points of each (or all of smaller
    classes), and the rows to `keep`. Neighbours are then those among the points shown.

    Parameters
    ----------
    X : array-like (n, d) or Source
        At least two rows.
    labels : array-like (n,) or str, optional
        For the sample, or of a table the name of the label column; without labels it is drawn from all rows alike.
    method : "pca", "umap" or "tsne", optional, default "pca"
        Principal axes; or UMAP or t-SNE, which start from these and take their neighbours from fastent's exact search, and
        which need `pip install '.[map]'`.
    k : int, optional, default 10
        Neighbours by which the map is judged; at most m - 1 of m points shown.
    most : int, optional, default 5000
        How many points are shown at most. Of many features fewer are, so that the neighbours take less than a second: 2,551
        of 3,072 features.
    keep : (r,) int, optional
        Rows to show in any case, the most important first: as many as make up a third of `most`.
    neighbors : Neighbors, optional
        Of all rows, if they are known already; used if all rows are shown and if the lists are long enough: `k`, for UMAP 14
        and for t-SNE 90 neighbours.
    normalize : bool, optional, default False
        Scale rows to unit length first, for the map and the search.
    seed : int, optional, default 0
        Seed of the random sample and of UMAP and t-SNE: the same seed gives the same map.

    Returns
    -------
    PointMap

    Raises
    ------
    FastentError
        Bad input; UMAP or t-SNE without their packages.

    Examples
    --------
    >>> import fastent as fe
    >>> from sklearn.datasets import load_digits
    >>> found = fe.map_points(load_digits().data)
    >>> found.coordinates.shape, round(found.kept_share, 3), round(found.chance, 3)
    ((1797, 2), 0.118, 0.006)
    """
    choice("method", method, MAP_METHODS)
    map_methods("method", method)
    normalize = flag("normalize", normalize)
    X, labels = with_labels(X, labels)
    features = as_features(X)
    n = len(features)
    if n < 2:
        raise FastentError(f"X has {n} row{'s' * (n != 1)}: a map needs two at least")
    coded = as_labels(np.zeros(n, np.int64) if labels is None else labels, n=n)
    most = whole_number("most", most, minimum=2)
    if neighbors is not None:
        check_neighbors(neighbors, k)
        check_lengths(n, neighbors.n, labels_name="neighbors")
    if keep is not None:
        keep = np.asarray(keep)
        if keep.ndim != 1 or keep.dtype.kind not in "iu" or (keep.size and not 0 <= keep.min() <= keep.max() < n):
            raise FastentError(f"keep={short_repr(keep)}: row numbers from 0 to {n - 1} are needed")
    rows: Any = UnitRows(features) if normalize else features
    check_range(rows)
    return point_maps(
        rows, coded.codes, (method,), k=whole_number("k", k, minimum=1), most=most, keep=keep, near=neighbors,
        seed=whole_number("seed", seed, minimum=0),
    )[method]  # fmt: skip


def map_methods(name: str, asked: Any) -> tuple[str, ...]:
    """The maps to draw where one is asked for: that one and principal axes, or none; a missing package is refused."""
    if choice(name, asked, (*MAP_METHODS, "none")) == "none":
        return ()
    if asked in PACKAGES:
        needed(PACKAGES[asked], extra="map")
    return tuple(dict.fromkeys((asked, "pca")))


def most_shown(d: int) -> int:
    """How many of more points with d features are shown, so that their neighbours take less than a second."""
    return math.isqrt(int(_WORK / d))


def point_maps(
    X: Any,
    codes: NDArray[np.int64],
    methods: Sequence[str],
    *,
    k: int,
    most: int = MOST_SHOWN,
    among: NDArray[np.int64] | None = None,
    keep: NDArray[np.int64] | None = None,
    near: Neighbors | None = None,
    memory: float = math.inf,
    seed: int = 0,
) -> dict[str, PointMap]:
    """Maps by several methods of the same points of X (n, d), whose neighbours are found once; drawn `among` these rows."""
    n, d = X.shape
    room = min(most, most_shown(d), int(min(_MEMORY * memory / (8 * d), n)))
    shown = _shown(codes, np.arange(n) if among is None else among, max(room, 2), keep, seed) if n > room else np.arange(n)
    if among is not None and len(among) < len(shown):
        shown = np.sort(among)
    points = np.asarray(X[shown])
    plane, explained = principal_plane(points)
    k = min(k, len(shown) - 1)
    if not plane.any():
        nowhere = np.full(len(shown), np.nan)
        return {method: PointMap(method, shown, plane, n, k, nowhere, explained) for method in methods}
    longest = min(max([k, *(LONGEST_LISTS.get(method, 0) for method in methods)]), len(shown) - 1)
    if near is None or near.queries is None or near.k < longest or len(shown) < n or (near.queries != shown).any():
        near = neighbors(points, longest, seed=seed)
    found = {}
    for method in methods:
        coordinates = PLANES[method](plane, near, seed) if method in PLANES else plane
        along = explained if method == "pca" else np.full(2, np.nan)
        found[method] = PointMap(method, shown, coordinates, n, k, _kept(near.indices[:, :k], coordinates), along)
    return found


def _shown(
    codes: NDArray[np.int64], among: NDArray[np.int64], room: int, keep: NDArray[np.int64] | None, seed: int
) -> NDArray[np.int64]:
    """Rows to show, at most so many: the first of those to keep, and of the others each class in proportion."""
    kept = np.empty(0, np.int64) if keep is None else keep[: int(room * _KEPT)]
    others = np.setdiff1d(among, kept)
    left = min(room - len(kept), len(others))
    classes, own = np.unique(codes[others], return_inverse=True)
    drawn = others[stratified_rows(own, len(classes), left, seed)[0]] if left else others[:0]
    return np.union1d(kept, drawn)


def _kept(lists: NDArray[np.int64], coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of each point's neighbours (m, k) that are among its k nearest on the map."""
    from scipy.spatial import cKDTree

    m, k = lists.shape
    coordinates = coordinates / np.abs(coordinates).max()
    near = cKDTree(coordinates).query(coordinates, k + 1)[1]
    # Of more than k points at its place, a point may not have found itself.
    itself = near == np.arange(m)[:, None]
    itself[:, -1] |= ~itself.any(1)
    others = near[~itself].reshape(m, k)
    kept: NDArray[np.float64] = np.array([len(np.intersect1d(a, b, True)) for a, b in zip(lists, others, strict=True)]) / k
    return kept
