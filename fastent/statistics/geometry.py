"""Class geometry: radii, distances, scatter ratios and neural collapse, from class moments gathered in one pass."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.cluster import as_shared_source, map_rows_on_cluster
from fastent.arrays.validation import (
    Labels,
    as_array,
    as_features,
    as_labels,
    check_finite,
    check_lengths,
    joined,
    kernel_dtype,
    row_blocks,
    unit_rows,
    which_rows,
    zero_rows,
)
from fastent.errors import FastentError
from fastent.io.sources import parts
from fastent.options import choice, flag, whole_number
from fastent.runtime.memory import check_fits
from fastent.runtime.threads import working_threads
from fastent.statistics.geometry_notes import geometry_notes, rows_of_zeros
from fastent.statistics.neural_collapse import NC2, Between, Head, as_head, nc2, nc3
from fastent.statistics.notes import Note, merged

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "AboutMeans",
    "ClassGeometry",
    "ClassMoments",
    "about_means",
    "centred_means",
    "geometry",
    "geometry_of",
    "moments_of",
]

Array = NDArray[np.float64]

# Squares of values below this, and sums of squares below that, may have lost digits.
_SMALLEST, _VANISHING = 1e-140, 1e-280
# Sums of a part are kept apart in so many runs of rows, if these take no more bytes.
_SUMS, _SUMS_BYTES = 16, 128 << 20


@dataclass(frozen=True, eq=False)
class ClassGeometry:
    """Where the classes of a representation lie, how wide they are and how well they are separated.

    Of unit rows, as the source paper has it, unless `normalize` is False: the two are not comparable.

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

    def plot(self, kind: Literal["distance", "collapse"] = "distance", *, ax: "Axes | None" = None) -> "tuple[Figure, Axes]":
        """Draw a heat map over pairs of classes with matplotlib: distances of their means, or their normalised variance.

        On `ax` or in a new figure. "collapse" shows `cdnv`, with NC1 and NC2 in its title.
        """
        from fastent.plots.figure import axes_of
        from fastent.plots.heat_map import draw_heat_map

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


class ClassMoments:
    """Class counts, sums and squared deviations, accumulated chunk by chunk in float64.

    Moments of disjoint sets of points merge into those of their union, so chunks, threads and machines may each hold a part.

    Parameters
    ----------
    n_classes, n_features : int
    normalize : bool
        Scale each row to unit L2 norm on the fly (a row of zeros stays zero). X is not copied. On by default, as for
        `fe.geometry`.
    scatter : bool
        Keep the (d, d) within-class scatter too, which `nc1` needs: d^2 operations a row instead of d.

    Raises
    ------
    FastentError
        From `update`: wrong width, labels that are no class number, NaN or infinities. The moments are then unchanged.

    Examples
    --------
    >>> import numpy as np
    >>> X, y = np.eye(4, dtype=np.float32), np.array([0, 0, 1, 1])
    >>> halves = [ClassMoments(2, 4), ClassMoments(2, 4)]
    >>> for half, rows in zip(halves, [[0, 2], [1, 3]]):
    ...     half.update(X[rows], y[rows])
    >>> halves[0].merge(halves[1]).compute().radius.round(4)
    array([0.7071, 0.7071])
    """

    def __init__(self, n_classes: int, n_features: int, *, normalize: bool = True, scatter: bool = False) -> None:
        n_classes = whole_number("n_classes", n_classes, minimum=1)
        n_features = whole_number("n_features", n_features, minimum=1)
        self.normalize = flag("normalize", normalize)
        scatter = flag("scatter", scatter)
        needed = 16 * n_classes * (n_features + 1) + 8 * n_features**2 * scatter
        check_fits(needed, f"moments of {n_classes} classes of {n_features} features", "use fewer classes or features")
        # Everything is relative to `_shift`, the first (scaled) row seen of each class: exact zeros for a class of equal
        # rows, no cancellation for a class far from the origin.
        self._shift = np.zeros((n_classes, n_features))
        self._counts = np.zeros(n_classes, np.int64)
        self._sums = np.zeros((n_classes, n_features))
        self._squares = np.zeros(n_classes)
        self._scatter = np.zeros((n_features, n_features)) if scatter else None

    @property
    def n_classes(self) -> int:
        return self._shift.shape[0]

    @property
    def n_features(self) -> int:
        return self._shift.shape[1]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Points seen of each class, (C,) int64."""
        return self._counts.copy()

    def update(self, X: Any, labels: Any) -> None:
        """Add the rows of `X` (n, d), whose classes are the integers `labels` (n,) in [0, n_classes)."""
        features = as_features(X)
        if features.shape[1] != self.n_features:
            raise FastentError(f"X has {features.shape[1]} features but these moments were made for {self.n_features}")
        codes = self._check_codes(labels, len(features))
        self._update(features, codes, None)

    def _update(self, features: Any, codes: NDArray[np.int64], sums: int | None) -> None:
        """In so many sums that are added up at the end; as many as threads unless said."""
        seen = ClassMoments(self.n_classes, self.n_features, normalize=self.normalize, scatter=self._scatter is not None)
        for start, block in row_blocks(features):
            seen._add_block(block, codes[start : start + len(block)], self, sums, start)
        if not np.isfinite(seen._squares).all():
            check_finite(features)
            if self.normalize:
                raise FastentError("X has rows of a norm below 1e-308, which float64 cannot scale to unit length: rescale X")
            raise FastentError(f"X has values up to {_largest(features):g}, whose squares overflow float64: rescale X")
        if not self.normalize and seen._squares.max() < _VANISHING and 0 < _largest(features) < _SMALLEST:
            raise FastentError(f"X has no value above {_largest(features):g}, and squares vanish in float64: rescale X")
        self.merge(seen)

    def merge(self, other: "ClassMoments") -> "ClassMoments":
        """Add the points of `other` to these and return self."""
        if not isinstance(other, ClassMoments):
            raise FastentError(f"other is {type(other).__name__}: pass the ClassMoments of other points")
        mine = (self.n_classes, self.n_features, self.normalize, self._scatter is not None)
        theirs = (other.n_classes, other.n_features, other.normalize, other._scatter is not None)
        if mine != theirs:
            raise FastentError(
                f"moments of (n_classes, n_features, normalize, scatter) = {theirs} cannot be merged into {mine}: "
                "make both with the same arguments"
            )
        new = (self._counts == 0) & (other._counts > 0)
        self._shift[new] = other._shift[new]
        # Sums about their shift, moved to ours.
        move = np.where(other._counts[:, None] > 0, other._shift - self._shift, 0.0)
        counts = other._counts[:, None]
        if self._scatter is not None and other._scatter is not None:
            cross = move.T @ other._sums
            self._scatter += other._scatter + cross + cross.T + move.T @ (counts * move)
        self._squares += other._squares + 2 * (move * other._sums).sum(1) + other._counts * (move * move).sum(1)
        self._sums += other._sums + counts * move
        self._counts += other._counts
        return self

    def compute(self, classes: Any = None) -> ClassGeometry:
        """Return the geometry of all points so far; `classes` (C,) names the classes (default 0..C-1).

        Raises
        ------
        FastentError
            Fewer than two classes, or a class without points.
        """
        names = np.arange(self.n_classes) if classes is None else as_array(classes, "classes")
        if names.shape != (self.n_classes,):
            raise FastentError(f"classes has shape {names.shape}: {self.n_classes} names are needed, one for each class")
        if self.n_classes < 2:
            raise FastentError("geometry needs at least 2 classes, there is 1")
        empty = np.flatnonzero(self._counts == 0)
        if len(empty):
            raise FastentError(f"{len(empty)} of {self.n_classes} classes have no points, first {names[empty[0]]!s}: drop them")
        return _geometry(names, self, Between.of(self.apart), None, None)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of everything, as numpy arrays and booleans, for a checkpoint."""
        return {
            "normalize": self.normalize,
            "shift": self._shift.copy(),
            "counts": self._counts.copy(),
            "sums": self._sums.copy(),
            "squares": self._squares.copy(),
            "scatter": None if self._scatter is None else self._scatter.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace everything by a `state_dict` of moments made with the same arguments."""
        if not isinstance(state, Mapping):
            raise FastentError(f"state is {type(state).__name__}: pass what state_dict() returned")
        expected = self.state_dict()
        if set(state) != set(expected):
            raise FastentError(
                f"state_dict has keys {sorted(state)}, expected {sorted(expected)}: pass what state_dict() returned"
            )
        checked = {name: _checked_part(name, part) for name, part in state.items() if name != "normalize" and part is not None}
        for key, value in expected.items():
            given: Any = flag(key, state[key]) if key == "normalize" else checked.get(key)
            if (
                np.shape(given) != np.shape(value)
                or (given is None) != (value is None)
                or (key == "normalize" and given != value)
            ):
                raise FastentError(f"state_dict is for other moments: {key} is {_describe(given)}, expected {_describe(value)}")
        counts = checked["counts"]
        wrong = np.flatnonzero((counts < 0) | (counts >= 2.0**63) | (counts != np.rint(counts)))
        if len(wrong):
            raise FastentError(
                f"state_dict has a count of {counts[wrong[0]]:g} for class {wrong[0]}: it is damaged, load another"
            )
        self._shift, self._sums, self._squares = checked["shift"], checked["sums"], checked["squares"]
        self._counts, self._scatter = counts.astype(np.int64), checked.get("scatter")

    def _check_codes(self, labels: Any, n: int) -> NDArray[np.int64]:
        codes = as_array(labels, "labels")
        if codes.ndim != 1 or codes.dtype.kind not in "iub":
            raise FastentError(
                f"labels have shape {codes.shape} and dtype {codes.dtype}: class numbers 0..{self.n_classes - 1}, one for each "
                "row, are needed; fe.geometry takes labels of any kind"
            )
        check_lengths(n, len(codes))
        if codes.dtype == np.uint64 and len(codes) and codes.max() >= 2**63:  # negative as int64
            self._refuse_label(codes.max(), int(codes.argmax()))
        return codes.astype(np.int64, copy=False)

    def _refuse_label(self, label: Any, row: int) -> NoReturn:
        classes = f"0..{self.n_classes - 1} are, for n_classes={self.n_classes}"
        raise FastentError(f"label {label} is no class number: {classes}; the first such label is at row {row}")

    def _add_block(
        self, block: NDArray[Any], codes: NDArray[np.int64], origin: "ClassMoments", sums_apart: int | None, start: int = 0
    ) -> None:
        """Add kernel-ready rows; a class not seen before is measured from the shift of `origin`, or else from its first row."""
        from fastent.kernels.moments import class_moments, first_rows

        first, stray = first_rows(codes, self.n_classes)
        if stray >= 0:
            self._refuse_label(codes[stray], start + int(stray))
        new = (self._counts == 0) & (first >= 0)
        known = new & (origin._counts > 0)
        self._shift[known] = origin._shift[known]
        for c in np.flatnonzero(new & ~known):
            self._shift[c] = self._scaled(block[first[c]][None])[0]
        threads = working_threads() if sums_apart is None else sums_apart
        counts, sums, squares = class_moments(block, codes, self._shift, self.normalize, threads)
        self._counts += counts.sum(0)
        self._sums += sums.sum(0)
        self._squares += squares.sum(0)
        if self._scatter is not None:
            for start, rows in row_blocks(block, block_bytes=4 << 20):
                deviations = self._scaled(rows) - self._shift[codes[start : start + len(rows)]]
                self._scatter += deviations.T @ deviations

    def _scaled(self, rows: NDArray[Any]) -> Array:
        return unit_rows(rows) if self.normalize else rows.astype(np.float64)

    @property
    def means(self) -> Array:
        """Class means (C, d) float64."""
        means: Array = self._shift + self._sums / self._counts[:, None]
        return means

    @property
    def apart(self) -> Array:
        """Class means less `origin`, (C, d) float64: what they differ by, in full however far from 0 they lie."""
        apart: Array = (self._shift - self.origin) + self._sums / self._counts[:, None]
        return apart

    @property
    def origin(self) -> Array:
        """A point (d,) float64 of a class that lies as far out as most: none that is far beyond all others."""
        order = np.argsort(np.abs(self._shift).max(1), kind="stable")
        origin: Array = self._shift[order[(len(order) - 1) // 2]]
        return origin

    def squared_distances(self) -> Array:
        """Of the class means from each other, (C, C) float64: each pair's own differences, whatever lies beyond them."""
        offsets = self._sums / self._counts[:, None]
        pairs = zip(self._shift, offsets, strict=True)
        return np.array([(((self._shift - shift) + (offsets - offset)) ** 2).sum(1) for shift, offset in pairs])

    @property
    def variances(self) -> Array:
        """Mean squared distance of each class from its mean, (C,) float64."""
        offsets = self._sums / self._counts[:, None]
        variances: Array = np.maximum(self._squares / self._counts - (offsets * offsets).sum(1), 0.0)
        return variances

    def _within_along(self, directions: Array) -> Array:
        """Within-class variance along each row of `directions` (m, d), from the scatter."""
        along_offsets = (self._sums / self._counts[:, None]) @ directions.T
        assert self._scatter is not None
        total = ((directions @ self._scatter) * directions).sum(1)
        within: Array = np.maximum(total - self._counts @ along_offsets**2, 0.0) / self._counts.sum()
        return within


def _largest(X: Any) -> float:
    return max(max(float(block.max()), -float(block.min())) for _, block in row_blocks(X))


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

    def class_sums(self, values: Array) -> Array:
        return np.bincount(self.codes, values).astype(np.float64)

    def silhouette_parts(self, method: str, moments: ClassMoments) -> tuple[Array, Array]:
        """Distance to the own class and to the next: to the means, or mean squared ones to the points."""
        if method == "simplified":
            return np.sqrt(self.own), np.sqrt(self.other)
        counts = moments.counts[self.codes]
        with np.errstate(invalid="ignore", divide="ignore"):
            return (self.own + moments.variances[self.codes]) * counts / (counts - 1), self.wide


def moments_of(
    X: NDArray[Any], codes: NDArray[np.int64], n_classes: int, *, normalize: bool, client: Any = None
) -> ClassMoments:
    """Moments of all rows, part by part, joined in their order: the same bits wherever rows lie and whoever reads them."""
    moments = ClassMoments(n_classes, X.shape[1], normalize=normalize)
    for part in map_rows_on_cluster(client, X, partial(_moments_of_part, n_classes, normalize), _pieces(X, codes)):
        moments.merge(part)
    return moments


def _pieces(X: NDArray[Any], codes: NDArray[np.int64]) -> list[tuple[int, int, NDArray[np.int64]]]:
    return [(start, stop, codes[start:stop]) for start, stop in parts(X)]


def _moments_of_part(n_classes: int, normalize: bool, rows: NDArray[Any], codes: NDArray[np.int64]) -> ClassMoments:
    moments = ClassMoments(n_classes, rows.shape[1], normalize=normalize)
    moments._update(rows, codes, _sums_apart(n_classes, rows.shape[1]))
    return moments


def _sums_apart(n_classes: int, n_features: int) -> int:
    """In how many runs of rows the sums of a part are kept apart, whatever the number of threads that make them."""
    return max(1, min(_SUMS, _SUMS_BYTES // (8 * n_classes * n_features)))


def about_means(
    X: NDArray[Any],
    codes: NDArray[np.int64],
    moments: ClassMoments,
    directions: Array | None = None,
    head: Head | None = None,
    client: Any = None,
) -> AboutMeans:
    """Pass over X again: distances to the means, deviations along some directions (m, d), decisions of a linear head."""
    directions = np.empty((0, X.shape[1])) if directions is None else directions
    look = _Look(moments.origin, moments.apart, moments.variances, moments.normalize, directions, head)
    pieces = _pieces(X, codes)
    seen = list(map_rows_on_cluster(client, X, look.at, pieces))
    own, other, wide, nearest = (joined([piece[i] for piece in seen]) for i in range(4))
    features, along = np.zeros(X.shape[1]), np.zeros(len(directions))
    for piece in seen:
        features += piece.features
        along += piece.along
    decided = None if head is None else joined([piece.decided for piece in seen])
    zeros = joined([start + piece.zeros for piece, (start, *_) in zip(seen, pieces, strict=True)])
    return AboutMeans(own, other, wide, nearest, features, along, decided, codes, zeros)


class _Look(NamedTuple):
    """At rows, with what is known of all of them; means are less the origin."""

    origin: Array
    means: Array
    variances: Array
    normalize: bool
    directions: Array
    head: Head | None

    def at(self, rows: NDArray[Any], codes: NDArray[np.int64]) -> AboutMeans:
        from fastent.kernels.moments import distances_to_means, squared_projections

        rows = np.ascontiguousarray(rows, kernel_dtype(rows))
        sums = _sums_apart(*self.means.shape)
        about = rows, codes, self.origin, self.means
        own, other, wide, nearest, features = distances_to_means(*about, self.variances, self.normalize, sums)
        along = np.zeros(len(self.directions))
        if len(self.directions):
            along = squared_projections(*about, self.directions, self.normalize, sums).sum(0)
        decided = None if self.head is None else self.head.decide(rows)
        zeros = zero_rows(rows) if self.normalize else np.empty(0, np.int64)
        return AboutMeans(own, other, wide, nearest, features.sum(0), along, decided, codes, zeros)


def geometry_of(
    X: NDArray[Any], labels: Labels, moments: ClassMoments, head: Head | None = None, client: Any = None
) -> tuple[ClassGeometry, AboutMeans]:
    """The geometry from moments of X and a second pass over it, and what that pass saw."""
    between = Between.of(moments.apart)
    # Along the C - 1 directions that matter: far cheaper than the (d, d) scatter.
    about = about_means(X, labels.codes, moments, between.directions, head, client)
    return _geometry(labels.classes, moments, between, about, head), about


def _geometry(
    classes: NDArray[Any], moments: ClassMoments, between: Between, about: AboutMeans | None, head: Head | None
) -> ClassGeometry:
    counts, apart, variances = moments.counts, moments.apart, moments.variances
    n, n_classes = int(counts.sum()), len(counts)
    squared_distance = moments.squared_distances()
    distance = np.sqrt(squared_distance)
    centred = centred_means(apart, counts)
    between_classes, within = float(counts @ (centred**2).sum(1)), float(counts @ variances)
    with np.errstate(divide="ignore", invalid="ignore"):
        cdnv = np.where(squared_distance > 0, (variances[:, None] + variances[None]) / (2 * squared_distance), np.inf)
    np.fill_diagonal(cdnv, 0.0)
    fisher = between_classes / within if within > 0 else math.inf if between_classes > 0 else math.nan
    along = about.along / n if about else moments._within_along(between.directions) if moments._scatter is not None else None
    spread = None if about is None else about.class_sums(np.sqrt(about.own)) / counts
    calinski_harabasz = fisher * (n - n_classes) / (n_classes - 1)
    davies_bouldin = None if spread is None else _davies_bouldin(spread, distance)
    nc1 = None if along is None else between.nc1(along, within)
    simplex = nc2(apart)
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
        counts=counts,
        means=moments.means,
        radius=np.sqrt(variances),
        distance=distance,
        fisher=fisher,
        calinski_harabasz=calinski_harabasz,
        davies_bouldin=davies_bouldin,
        cdnv=cdnv,
        nc1=nc1,
        nc2=simplex,
        nc3=None if head is None else nc3(apart, head.weights),
        nc4=None if about is None or about.decided is None else float((about.decided != about.nearest).mean()),
        normalize=moments.normalize,
        notes=merged(
            [
                *geometry_notes(classes, counts, apart, distance, values),
                *rows_of_zeros(np.empty(0, np.int64) if about is None else about.zeros),
            ]
        ),
    )


def centred_means(means: Array, counts: NDArray[np.int64]) -> Array:
    """Class means (C, d) less the mean of all points: exactly 0 in a feature that is the same for all."""
    apart = means - means[0]
    centred: Array = apart - counts @ apart / counts.sum()
    return centred


def _davies_bouldin(spread: Array, distance: Array) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (spread[:, None] + spread[None]) / distance
    np.fill_diagonal(ratio, 0.0)
    # Two classes that have collapsed to the same mean overlap entirely.
    return float(np.where(np.isnan(ratio), np.inf, ratio).max(1).mean())


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
    normalize : bool
        Scale each row to unit L2 norm first; a row of zeros stays zero. On by default, because the source paper's radii and
        distances are those of unit rows. `fe.measure` takes rows as they are by default: to compare, give both the same value.
    weights : array-like (C, d), optional
        Of the linear layer that follows X, a row for each class in sorted order: for `nc3` and `nc4`, with normalize=False.
    bias : array-like (C,), optional
        Of that layer.
    client : distributed.Client, optional
        Whose workers share the rows of a `fe.open` source: the same bits as without.

    Returns
    -------
    ClassGeometry

    Raises
    ------
    FastentError
        Anything wrong with X or labels, NaN and infinities among it; weights that do not fit.

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
    features = as_shared_source(as_features(X), client)
    coded = as_labels(labels, n=len(features), minimum_classes=2)
    head = as_head(weights, bias, len(coded.classes), features.shape[1], normalize)
    moments = moments_of(features, coded.codes, len(coded.classes), normalize=normalize, client=client)
    return geometry_of(features, coded, moments, head, client)[0]


def _checked_part(name: str, value: Any) -> Array:
    part = as_array(value, name)
    if part.dtype.kind not in "fiu" or not np.isfinite(part).all():
        raise FastentError(f"state_dict has {name} of dtype {part.dtype}: finite numbers are needed, load another one")
    return np.array(part, np.float64)


def _describe(value: Any) -> str:
    return f"of shape {np.shape(value)}" if np.ndim(value) else repr(value)
