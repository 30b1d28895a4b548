"""Moments of classes: counts, sums and squared deviations, gathered in one pass over the rows, in any parts."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.cluster import map_rows_on_cluster
from fastent.arrays.ranges import largest_value
from fastent.arrays.validation import as_array, as_features, check_finite, check_lengths, row_blocks, unit_rows
from fastent.errors import FastentError
from fastent.io.sources import parts
from fastent.options import flag, whole_number
from fastent.runtime.memory import check_fits
from fastent.runtime.threads import working_threads
from fastent.statistics.class_geometry import ClassGeometry, ClassMeans, geometry_from
from fastent.statistics.neural_collapse import Between

__all__ = ["ClassMoments", "labelled_parts", "moments_of", "sums_apart"]

Array = NDArray[np.float64]

# Squares of values below this, and sums of squares below that, may have lost digits.
_SMALLEST, _VANISHING = 1e-140, 1e-280
# Sums of a part are kept apart in so many runs of rows, if these take no more bytes.
_SUMS, _SUMS_BYTES = 16, 128 << 20


class ClassMoments:
    """Class counts, sums and squared deviations, accumulated chunk by chunk in float64.

    Moments of disjoint sets of points merge into those of their union, so chunks, threads and machines may each hold a part.

    Parameters
    ----------
    n_classes, n_features : int
    normalize : bool, optional
        Scale each row to unit L2 norm on the fly (a row of zeros stays zero). X is not copied. Default True, as for
        `fe.geometry`.
    scatter : bool, optional
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
        """Add the rows in `sums` runs, whose sums are added up at the end; default as many as threads."""
        seen = ClassMoments(self.n_classes, self.n_features, normalize=self.normalize, scatter=self._scatter is not None)
        for start, block in row_blocks(features):
            seen._add_block(block, codes[start : start + len(block)], self, sums, start)
        if not np.isfinite(seen._squares).all():
            check_finite(features)
            if self.normalize:
                raise FastentError("X has rows of a norm below 1e-308, which float64 cannot scale to unit length: rescale X")
            raise FastentError(f"X has values up to {largest_value(features):g}, whose squares overflow float64: rescale X")
        if not self.normalize and seen._squares.max() < _VANISHING and 0 < largest_value(features) < _SMALLEST:
            raise FastentError(f"X has no value above {largest_value(features):g}, and squares vanish in float64: rescale X")
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
        found = self.class_means()
        between = Between.of(found.apart)
        along = None if self._scatter is None else self._within_along(between.directions)
        return geometry_from(names, found, between, along=along)

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
        return np.ascontiguousarray(codes, np.int64)

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
    def _offsets(self) -> Array:
        """Class means less their shift."""
        offsets: Array = self._sums / self._counts[:, None]
        return offsets

    @property
    def means(self) -> Array:
        """Class means (C, d) float64."""
        return self._shift + self._offsets

    @property
    def variances(self) -> Array:
        """Mean squared distance of each class from its mean, (C,) float64."""
        variances: Array = np.maximum(self._squares / self._counts - (self._offsets**2).sum(1), 0.0)
        return variances

    def class_means(self) -> ClassMeans:
        """What the moments come to, for classes that all have points."""
        offsets = self._offsets
        order = np.argsort(np.abs(self._shift).max(1), kind="stable")
        origin = self._shift[order[(len(order) - 1) // 2]]
        pairs = zip(self._shift, offsets, strict=True)
        squared = np.array([(((self._shift - shift) + (offsets - offset)) ** 2).sum(1) for shift, offset in pairs])
        apart = (self._shift - origin) + offsets
        return ClassMeans(self.counts, self.means, self.variances, origin, apart, squared, self.normalize)

    def _within_along(self, directions: Array) -> Array:
        """Within-class variance along each row of `directions` (m, d), from the scatter."""
        assert self._scatter is not None
        along_offsets = self._offsets @ directions.T
        total = ((directions @ self._scatter) * directions).sum(1)
        within: Array = np.maximum(total - self._counts @ along_offsets**2, 0.0) / self._counts.sum()
        return within


def moments_of(
    X: NDArray[Any], codes: NDArray[np.int64], n_classes: int, *, normalize: bool, client: Any = None
) -> ClassMoments:
    """Moments of all rows, part by part, joined in their order: the same bits wherever rows lie and whoever reads them."""
    moments = ClassMoments(n_classes, X.shape[1], normalize=normalize)
    for part in map_rows_on_cluster(client, X, partial(_moments_of_part, n_classes, normalize), labelled_parts(X, codes)):
        moments.merge(part)
    return moments


def labelled_parts(X: NDArray[Any], codes: NDArray[np.int64]) -> list[tuple[int, int, NDArray[np.int64]]]:
    return [(start, stop, codes[start:stop]) for start, stop in parts(X)]


def _moments_of_part(n_classes: int, normalize: bool, rows: NDArray[Any], codes: NDArray[np.int64]) -> ClassMoments:
    moments = ClassMoments(n_classes, rows.shape[1], normalize=normalize)
    moments._update(rows, codes, sums_apart(n_classes, rows.shape[1]))
    return moments


def sums_apart(n_classes: int, n_features: int) -> int:
    """In how many runs of rows the sums of a part are kept apart, whatever the number of threads that make them."""
    return max(1, min(_SUMS, _SUMS_BYTES // (8 * n_classes * n_features)))


def _checked_part(name: str, value: Any) -> Array:
    part = as_array(value, name)
    if part.dtype.kind not in "fiu" or not np.isfinite(part).all():
        raise FastentError(f"state_dict has {name} of dtype {part.dtype}: finite numbers are needed, load another one")
    return np.array(part, np.float64)


def _describe(value: Any) -> str:
    return f"of shape {np.shape(value)}" if np.ndim(value) else repr(value)
