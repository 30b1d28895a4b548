"""Class geometry: radii, distances, scatter ratios and neural collapse, from class moments gathered in one pass."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from fastent.arrays import as_features, as_labels, check_finite, check_lengths, row_blocks
from fastent.errors import FastentError
from fastent.options import whole_number

__all__ = ["NC2", "ClassGeometry", "ClassMoments", "geometry"]

Array = NDArray[np.float64]

# Singular values of the class means below this share of the largest are directions in which the means do not differ.
_RANK_TOLERANCE = 1e-10


class NC2(NamedTuple):
    """How far the centred class means are from a simplex equiangular tight frame (0, 0); Papyan et al. 2020.

    `norm_spread` is std / mean of their norms, `angle_deviation` the mean over pairs of |cos + 1 / (C - 1)|.
    """

    norm_spread: float
    angle_deviation: float


@dataclass(frozen=True, eq=False)
class ClassGeometry:
    """Where the classes of a representation lie, how wide they are and how well they are separated.

    Attributes
    ----------
    classes : (C,)
        The sorted class labels; all arrays below follow their order.
    counts : (C,) int64
    means : (C, d) float64
        Class means; of the unit rows, and not renormalised, if `normalize` was on.
    radius : (C,) float64
        Gyration radius, root mean squared distance to the class mean; in [0, 1] for unit rows.
    distance : (C, C) float64
        Euclidean distances between class means.
    nc1 : float or None
        Within-class over between-class variation, tr(S_W S_B^+) / C, >= 0, 0 when every class has collapsed to its mean,
        inf when the means coincide but the classes have not collapsed. None if no scatter was kept.
    nc2 : NC2
    cdnv : (C, C) float64
        Class-distance normalised variance (s_a^2 + s_b^2) / (2 |m_a - m_b|^2), diagonal 0; inf where two means coincide.
    fisher : float
        Trace of the between-class over trace of the within-class scatter; inf when every class has collapsed.
    calinski_harabasz : float
        The same ratio per degree of freedom; inf when every class has collapsed.

    References
    ----------
    Ciceri et al., Nature Machine Intelligence 2024 (radius, distance); Papyan, Han, Donoho, PNAS 2020 (nc1, nc2);
    Galanti, Gyorgy, Hutter, ICLR 2022 (cdnv); Calinski, Harabasz 1974.
    """

    classes: NDArray[Any]
    counts: NDArray[np.int64]
    means: Array
    radius: Array
    distance: Array
    nc1: float | None
    nc2: NC2
    cdnv: Array
    fisher: float
    calinski_harabasz: float


class ClassMoments:
    """Class counts, sums and squared deviations, accumulated chunk by chunk in float64.

    Moments of disjoint sets of points merge into those of their union, so chunks, threads and machines may each hold a part.

    Parameters
    ----------
    n_classes, n_features : int
    normalize : bool
        Scale each row to unit L2 norm on the fly (a row of zeros stays zero). X is not copied.
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
        self.normalize = bool(normalize)
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
        seen = ClassMoments(self.n_classes, self.n_features, normalize=self.normalize, scatter=self._scatter is not None)
        for start, block in row_blocks(features):
            seen._add_block(block, codes[start : start + len(block)], self)
        if not np.isfinite(seen._squares).all():
            check_finite(features)
            raise FastentError(f"X has values up to {np.abs(features).max():g}, whose squares overflow float64: rescale X")
        self.merge(seen)

    def merge(self, other: "ClassMoments") -> "ClassMoments":
        """Add the points of `other` to these and return self."""
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
        names = np.arange(self.n_classes) if classes is None else np.asarray(classes)
        if self.n_classes < 2:
            raise FastentError("geometry needs at least 2 classes, there is 1")
        empty = np.flatnonzero(self._counts == 0)
        if len(empty):
            raise FastentError(f"{len(empty)} of {self.n_classes} classes have no points, first {names[empty[0]]!s}: drop them")
        within_along = None if self._scatter is None else self._within_along
        return _geometry(names, self._counts, self._means(), self._variances(), within_along)

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
        expected = self.state_dict()
        if set(state) != set(expected):
            raise FastentError(f"state_dict has keys {sorted(state)}, expected {sorted(expected)}")
        for key, value in expected.items():
            if np.shape(state[key]) != np.shape(value) or (key == "normalize" and state[key] != value):
                raise FastentError(
                    f"state_dict is for other moments: {key} is {_describe(state[key])}, expected {_describe(value)}"
                )
        self._shift, self._sums = np.array(state["shift"], np.float64), np.array(state["sums"], np.float64)
        self._counts, self._squares = np.array(state["counts"], np.int64), np.array(state["squares"], np.float64)
        self._scatter = None if state["scatter"] is None else np.array(state["scatter"], np.float64)

    def _check_codes(self, labels: Any, n: int) -> NDArray[np.int64]:
        codes = np.asarray(labels.detach().cpu() if hasattr(labels, "detach") else labels)
        if codes.ndim != 1 or codes.dtype.kind not in "iub":
            raise FastentError(
                f"labels have shape {codes.shape} and dtype {codes.dtype}: class numbers 0..{self.n_classes - 1}, one for each "
                "row, are needed; fe.geometry takes labels of any kind"
            )
        check_lengths(n, len(codes))
        return codes.astype(np.int64, copy=False)

    def _add_block(self, block: NDArray[Any], codes: NDArray[np.int64], origin: "ClassMoments") -> None:
        """Add kernel-ready rows; a class not seen before is measured from the shift of `origin`, or else from its first row."""
        import numba

        from fastent.kernels.moments import class_moments, first_rows

        first, stray = first_rows(codes, self.n_classes)
        if stray >= 0:
            raise FastentError(
                f"label {codes[stray]} is no class number: 0..{self.n_classes - 1} are, for n_classes={self.n_classes}"
            )
        new = (self._counts == 0) & (first >= 0)
        known = new & (origin._counts > 0)
        self._shift[known] = origin._shift[known]
        for c in np.flatnonzero(new & ~known):
            self._shift[c] = self._scaled(block[first[c]][None])[0]
        counts, sums, squares = class_moments(block, codes, self._shift, self.normalize, numba.get_num_threads())
        self._counts += counts.sum(0)
        self._sums += sums.sum(0)
        self._squares += squares.sum(0)
        if self._scatter is not None:
            for start, rows in row_blocks(block, block_bytes=4 << 20):
                deviations = self._scaled(rows) - self._shift[codes[start : start + len(rows)]]
                self._scatter += deviations.T @ deviations

    def _scaled(self, rows: NDArray[Any]) -> Array:
        return _unit_rows(rows) if self.normalize else rows.astype(np.float64)

    def _means(self) -> Array:
        means: Array = self._shift + self._sums / self._counts[:, None]
        return means

    def _variances(self) -> Array:
        """Mean squared distance to the class mean."""
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


def geometry(X: Any, labels: Any, *, normalize: bool = True) -> ClassGeometry:
    """Measure where the classes of a representation lie and how well they are separated.

    Parameters
    ----------
    X : array-like (n, d)
        Activations of any real dtype and memory order, on any device; a memory map is read block by block, twice.
    labels : array-like (n,)
        Integers, strings or booleans; at least two classes.
    normalize : bool
        Scale each row to unit L2 norm first, as the source paper does; a row of zeros stays zero.

    Returns
    -------
    ClassGeometry

    Raises
    ------
    FastentError
        Anything wrong with X or labels, NaN and infinities among it.

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
    features = as_features(X)
    codes, classes = as_labels(labels, n=len(features), minimum_classes=2)
    moments = ClassMoments(len(classes), features.shape[1], normalize=normalize)
    moments.update(features, codes)
    means = moments._means()

    def within_along(directions: Array) -> Array:
        # A second pass, along the C - 1 directions that matter, is far cheaper than the (d, d) scatter.
        import numba

        from fastent.kernels.moments import squared_projections

        total = np.zeros(len(directions))
        for start, block in row_blocks(features):
            its_codes = codes[start : start + len(block)]
            parts = squared_projections(block, its_codes, means, directions, normalize, numba.get_num_threads())
            total += parts.sum(0)
        return total / len(features)

    return _geometry(classes, moments.counts, means, moments._variances(), within_along)


def _geometry(
    classes: NDArray[Any],
    counts: NDArray[np.int64],
    means: Array,
    variances: Array,
    within_along: Callable[[Array], Array] | None,
) -> ClassGeometry:
    n, n_classes = int(counts.sum()), len(counts)
    squared_distance = cdist(means, means, "sqeuclidean")
    centred = means - counts @ means / n
    between = float(counts @ (centred**2).sum(1))
    within = float(counts @ variances)
    with np.errstate(divide="ignore", invalid="ignore"):
        cdnv = np.where(squared_distance > 0, (variances[:, None] + variances[None]) / (2 * squared_distance), np.inf)
    np.fill_diagonal(cdnv, 0.0)
    fisher = between / within if within > 0 else math.inf
    return ClassGeometry(
        classes=classes,
        counts=counts.copy(),
        means=means,
        radius=np.sqrt(variances),
        distance=np.sqrt(squared_distance),
        nc1=None if within_along is None else _nc1(means, float(within), within_along),
        nc2=_nc2(means),
        cdnv=cdnv,
        fisher=fisher,
        calinski_harabasz=fisher * (n - n_classes) / (n_classes - 1) if within > 0 else math.inf,
    )


def _nc1(means: Array, within: float, within_along: Callable[[Array], Array]) -> float:
    """tr(S_W S_B^+) / C with S_B = M^T M / C, M the centred means: only S_W along M's right singular vectors is needed."""
    if within == 0:
        return 0.0
    _, singular, directions = np.linalg.svd(means - means.mean(0), full_matrices=False)
    kept = singular > _RANK_TOLERANCE * max(singular[0], np.abs(means).max())
    if not kept.any():
        return math.inf
    return float((within_along(directions[kept]) / singular[kept] ** 2).sum())


def _nc2(means: Array) -> NC2:
    n_classes = len(means)
    centred = means - means.mean(0)
    norms = np.sqrt((centred**2).sum(1))
    if norms.mean() == 0:
        return NC2(0.0, math.inf)
    unit = _unit_rows(centred)
    cosines = (unit @ unit.T)[~np.eye(n_classes, dtype=bool)]
    return NC2(float(norms.std() / norms.mean()), float(np.abs(cosines + 1 / (n_classes - 1)).mean()))


def _unit_rows(rows: NDArray[Any]) -> Array:
    """Rows in float64, scaled to unit L2 norm; a row of zeros stays zero."""
    wide = rows.astype(np.float64)
    with np.errstate(over="ignore"):  # ClassMoments.update tells of norms that overflow
        norms = np.sqrt((wide * wide).sum(1, keepdims=True))
    unit: Array = wide * np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    return unit


def _describe(value: Any) -> str:
    return f"of shape {np.shape(value)}" if np.ndim(value) else repr(value)
