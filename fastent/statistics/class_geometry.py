"""Class geometry: radii, distances, scatter ratios and neural collapse, from the means and variances of the classes."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import which_rows
from fastent.io.tabular import Tabular
from fastent.options import choice
from fastent.printable import storable
from fastent.statistics.neural_collapse import NC2, ROUNDING, Between, Head, centred_alike, nc2, nc3
from fastent.statistics.notes import Note, listed, merged, of_classes, one_point

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ClassGeometry", "ClassMeans", "centred_means", "geometry_from", "rows_of_zeros"]

Array = NDArray[np.float64]

_OF_SCATTER = ("fisher", "calinski_harabasz")


@dataclass(frozen=True, eq=False)
class ClassGeometry(Tabular):
    """Where the classes of a representation lie, how wide they are and how well they are separated.

    Rows are scaled to unit length first, as in the source paper, unless `normalize` is False; the two are not comparable.

    Attributes
    ----------
    classes : (C,)
        The sorted class labels; all arrays below follow their order.
    counts : (C,) int64
    means : (C, d) float64
        Class means; of the unit rows, and not renormalised, if `normalize` is on.
    radius : (C,) float64
        Gyration radius, root mean squared distance to the class mean; in [0, 1] for unit rows.
    distance : (C, C) float64
        Euclidean distances between class means.
    fisher : float
        Trace of the between-class over trace of the within-class scatter; inf when every class has collapsed,
        NaN when all points are equal.
    calinski_harabasz : float
        The same ratio per degree of freedom.
    davies_bouldin : float or None
        Mean over classes of the largest (s_a + s_b) / |m_a - m_b|, s the mean distance to the class mean; inf where two means
        coincide. None from `ClassMoments`: it takes a second pass.
    cdnv : (C, C) float64
        Class-distance normalised variance (s_a^2 + s_b^2) / (2 |m_a - m_b|^2), diagonal 0; inf where two means coincide.
    nc1 : float or None
        Within-class over between-class variation, tr(S_W S_B^+) / C, >= 0, 0 when every class has collapsed to its mean,
        inf when the means coincide but the classes have not collapsed, NaN when all points are equal. None if no scatter was
        kept.
    nc2 : NC2
    nc3 : float or None
        How far the weights are from the centred means, |W / |W| - M / |M||^2 in Frobenius norms, in [0, 4]. None without
        weights.
    nc4 : float or None
        Share of points that the linear layer and the nearest class mean decide differently, in [0, 1]. None without weights.
    normalize : bool
        Whether rows were scaled to unit length first.
    notes : tuple of str
        Classes with one point, classes whose means coincide and what is infinite or NaN for it; rows of zeros that `normalize`
        cannot scale (not from `ClassMoments`).

    References
    ----------
    Ciceri et al., Nature Machine Intelligence 2024 (radius, distance); Papyan, Han, Donoho, PNAS 2020 (nc1 to
    nc4); Galanti, Gyorgy, Hutter, ICLR 2022 (cdnv); Calinski, Harabasz 1974; Davies, Bouldin 1979.
    """

    classes: NDArray[Any]
    counts: NDArray[np.int64]
    means: Array
    radius: Array
    distance: Array
    fisher: float
    calinski_harabasz: float
    davies_bouldin: float | None
    cdnv: Array
    nc1: float | None
    nc2: NC2
    nc3: float | None
    nc4: float | None
    normalize: bool = True
    notes: tuple[Note, ...] = ()

    def __repr__(self) -> str:
        n_classes, d = self.means.shape
        return (
            f"ClassGeometry({self.counts.sum():,} x {d}, {n_classes} classes, {which_rows(self.normalize)}: "
            f"mean radius {self.radius.mean():.4f}, fisher {self.fisher:.4f})"
        )

    def table(self, kind: Literal["classes", "pairs"] = "classes") -> "pa.Table":
        """The geometry as a table.

        Parameters
        ----------
        kind : "classes" or "pairs", default "classes"
            "classes": points and radius of each class. "pairs": distance and CDNV of each pair of classes, once.
        """
        import pyarrow as pa

        choice("kind", kind, ("classes", "pairs"))
        classes = storable(self.classes)
        if kind == "classes":
            return pa.table({"class": classes, "count": self.counts, "radius": self.radius})
        a, b = np.triu_indices(len(classes), 1)
        found = {"distance": self.distance[a, b], "cdnv": self.cdnv[a, b]}
        return pa.table({"class": classes[a], "other_class": classes[b], **found})

    def plot(self, kind: Literal["distance", "collapse"] = "distance", *, ax: "Axes | None" = None) -> "tuple[Figure, Axes]":
        """Draw a heat map over pairs of classes with matplotlib: distances of their means, or their normalised variance.

        On `ax` or in a new figure. "collapse" shows `cdnv`, with NC1 and NC2 in its title.
        """
        from fastent.plots.by_name import draw_heat_map
        from fastent.plots.figure import axes_of

        choice("kind", kind, ("distance", "collapse"))
        figure, axes = axes_of(ax, (6, 5))
        same = np.eye(len(self.classes), dtype=bool)
        if kind == "distance":
            values = np.where(same, np.nan, self.distance)
            draw_heat_map(axes, values, self.classes, "linear", "distance of class means")
            means = f"mean distance {np.nanmean(values):.3g}, mean radius {self.radius.mean():.3g}"
            title = f"{means}, {which_rows(self.normalize)}"
        else:
            label = "class-distance normalised variance (0: collapsed)"
            draw_heat_map(axes, np.where(same, np.nan, self.cdnv), self.classes, "logarithmic", label)
            nc1 = "" if self.nc1 is None else f"NC1 {self.nc1:.3g}, "
            title = f"{nc1}NC2 angles {self.nc2.angle_deviation:.3g}, norms {self.nc2.norm_spread:.3g}"
        axes.set(xlabel="class", ylabel="class", title=title)
        return figure, axes


class ClassMeans(NamedTuple):
    """Means (C, d) and variances (C,) of classes, float64; a variance is the mean squared distance of a class from its mean.

    origin : (d,), a point of a class that lies as far out as most: none that is far beyond all others.
    apart : (C, d), the means less `origin`: what they differ by, in full however far from 0 they lie.
    squared_distances : (C, C), between the means, from each pair's own differences, whatever lies beyond them.
    """

    counts: NDArray[np.int64]
    means: Array
    variances: Array
    origin: Array
    apart: Array
    squared_distances: Array
    normalize: bool


def centred_means(means: Array, counts: NDArray[np.int64]) -> Array:
    """Class means (C, d) less the mean of all points: exactly 0 in a feature that is the same for all."""
    apart = means - means[0]
    centred: Array = apart - counts @ apart / counts.sum()
    return centred


def geometry_from(
    classes: NDArray[Any],
    of: ClassMeans,
    between: Between,
    *,
    along: Array | None = None,
    spread: Array | None = None,
    head: Head | None = None,
    nc4: float | None = None,
    zeros: NDArray[np.int64] | None = None,
) -> ClassGeometry:
    """The geometry of classes from their means and variances, and from what a second pass over the rows may have found.

    along : (m,), within-class variance along each of the directions `between` the means. spread : (C,), mean distance to the
    class mean. zeros : rows of zeros, by number, if rows are scaled.
    """
    n, n_classes = int(of.counts.sum()), len(of.counts)
    distance = np.sqrt(of.squared_distances)
    centred = centred_means(of.apart, of.counts)
    between_classes, within = float(of.counts @ (centred**2).sum(1)), float(of.counts @ of.variances)
    with np.errstate(divide="ignore", invalid="ignore"):
        pairs = of.variances[:, None] + of.variances[None]
        cdnv = np.where(of.squared_distances > 0, pairs / (2 * of.squared_distances), np.inf)
    np.fill_diagonal(cdnv, 0.0)
    fisher = between_classes / within if within > 0 else math.inf if between_classes > 0 else math.nan
    calinski_harabasz = fisher * (n - n_classes) / (n_classes - 1)
    davies_bouldin = None if spread is None else _davies_bouldin(spread, distance)
    nc1 = None if along is None else between.nc1(along, within)
    simplex = nc2(of.apart)
    values = {
        "fisher": fisher,
        "calinski_harabasz": calinski_harabasz,
        "davies_bouldin": davies_bouldin,
        "cdnv": float(cdnv.max()),
        "nc1": nc1,
        **{f"nc2_{name}": value for name, value in simplex._asdict().items()},
    }
    return ClassGeometry(
        classes=classes,
        counts=of.counts,
        means=of.means,
        radius=np.sqrt(of.variances),
        distance=distance,
        fisher=fisher,
        calinski_harabasz=calinski_harabasz,
        davies_bouldin=davies_bouldin,
        cdnv=cdnv,
        nc1=nc1,
        nc2=simplex,
        nc3=None if head is None else nc3(of.apart, head.weights),
        nc4=nc4,
        normalize=of.normalize,
        notes=merged(
            [
                *_notes(classes, of.counts, of.apart, distance, values),
                *rows_of_zeros(np.empty(0, np.int64) if zeros is None else zeros),
            ]
        ),
    )


def _davies_bouldin(spread: Array, distance: Array) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (spread[:, None] + spread[None]) / distance
    np.fill_diagonal(ratio, 0.0)
    # Two classes that have collapsed to the same mean overlap entirely.
    return float(np.where(np.isnan(ratio), np.inf, ratio).max(1).mean())


def rows_of_zeros(rows: NDArray[np.int64]) -> Iterator[Note]:
    """On rows of zeros that were to be scaled to unit length, by their numbers."""
    if len(rows):
        one = len(rows) == 1
        what = f"row {rows[0]} is" if one else f"{len(rows):,} rows are"
        where = "" if one else f" ({listed(rows)})"
        yield Note(
            f"{what} all zeros{where}", f"{'it has' if one else 'they have'} no direction and cannot be scaled to unit length"
        )


def _notes(
    classes: NDArray[Any], counts: NDArray[np.int64], means: Array, distance: Array, values: Mapping[str, float | None]
) -> Iterator[Note]:
    """On class means (C, d), their distances (C, C), and statistics by name, None where there are none."""
    known = {name: value for name, value in values.items() if value is not None}
    scatter = {name: value for name, value in known.items() if name in _OF_SCATTER}
    if math.isnan(known["fisher"]):
        yield Note("all rows are equal", "there is nothing to tell classes apart")
    if not all(map(math.isfinite, scatter.values())):
        yield Note("every class is a single point", _not_finite(scatter))
    sizes = np.abs(means).max(1)
    pairs = np.argwhere(np.triu(distance <= ROUNDING * np.maximum(sizes[:, None], sizes), 1))
    if len(pairs):
        rest = {name: value for name, value in known.items() if name not in _OF_SCATTER}
        effect = _not_finite(rest) or "davies_bouldin and cdnv are made of rounding errors"
        yield Note(_coincident(classes, pairs), effect)
    yield from one_point(classes, counts, "the radius is 0, and averages over classes give the class full weight")
    central = centred_alike(means)
    if central.any() and not central.all():
        reason = of_classes(classes, central, "has its mean", "have their means") + " at the centre of all class means"
        yield Note(reason, "nc2_angle_deviation counts angles there as 90 degrees")


def _coincident(classes: NDArray[Any], pairs: NDArray[np.int64]) -> str:
    if len(pairs) == 1:
        return f"the means of classes {listed(classes[pairs[0]])} coincide"
    return f"the means of {len(pairs):,} pairs of classes coincide ({listed([f'{a} with {b}' for a, b in classes[pairs]])})"


def _not_finite(values: Mapping[str, float]) -> str:
    """`fisher is infinite`, `nc1 is infinite, nc2_norm_spread is unknown`."""
    said = []
    for kind, wrong in (("infinite", math.isinf), ("unknown", math.isnan)):
        names = [name for name, value in values.items() if wrong(value)]
        if names:
            said.append(f"{listed(names)} {'is' if len(names) == 1 else 'are'} {kind}")
    return ", ".join(said)
