"""Space cut into cells: the leaves of a k-d tree of a sample, and boxes around the rows that come to lie in each.

Rows are seen by their sketches, as in an index. A cut goes through the median of what it cuts, along the coordinate with the
largest variance; rows that lie on it go to both sides, in shares that keep cells of equal size, however many rows are equal.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.kernels.reach import boxes_within
from fastent.search.sketch import Frame, take_frame

__all__ = ["ROOM", "SKETCHED", "CellBoxes", "Partition", "boxes_of_cells", "take_partition"]

Array = NDArray[Any]

# Rows of the sample that decides where space is cut: for each cell, so that the cells differ little in size; and at least.
_SAMPLE_OF_CELL, _SAMPLE = 1024, 4096
# What a cell may hold at most beyond its share: of 64 cells of a sample of 1,024 each, 12 % have been seen.
ROOM = 1.2
# Numbers of a sketch: coordinates, and the norm of the rest. Rows of no more features are their own.
SKETCHED = 16


class CellBoxes(NamedTuple):
    """Boxes around the rows of each cell, (cells, m) float32, widened by what a sketch may be off; the wrong way round where a
    cell has no row."""

    lower: NDArray[np.float32]
    upper: NDArray[np.float32]


class Partition(NamedTuple):
    """How space is cut.

    frame : Frame
        In which rows are sketched.
    columns, cuts, shares : (cells - 1,)
        Of each node of the tree: the coordinate that it cuts, where, and which share of the rows that lie there goes below.
    children : (cells - 1, 2) int64
        Of each node: what lies below and above, other nodes or, as ~c, cells.
    """

    frame: Frame
    columns: NDArray[np.int64]
    cuts: NDArray[np.float32]
    shares: NDArray[np.float64]
    children: NDArray[np.int64]

    def as_arrays(self) -> dict[str, Array]:
        """For a file: another processor may find other axes."""
        frame = {"unit": np.array(self.frame.unit), "scale": np.array(self.frame.scale)}
        frame |= {"origin": self.frame.origin, "axes": self.frame.axes}
        return frame | {name: getattr(self, name) for name in ("columns", "cuts", "shares", "children")}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array]) -> "Partition":
        frame = Frame(bool(arrays["unit"]), float(arrays["scale"]), arrays["origin"], arrays["axes"])
        return cls(frame, *(arrays[name] for name in ("columns", "cuts", "shares", "children")))

    @property
    def n_cells(self) -> int:
        return len(self.cuts) + 1

    def sketch(self, rows: Array) -> NDArray[np.float32]:
        """What rows are told apart by: (m, d) if the frame has no axes, else one number more than these."""
        return _sketch(self.frame, rows)

    def dealt(self, sketch: NDArray[np.float32], numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows (m,) by their places, cell after cell and ascending within each; and how many (cells,) each cell holds.

        numbers : (m,) of the rows among all, which decide where those go that lie on a cut
        """
        order, counts = [], np.zeros(self.n_cells, np.int64)
        stack = [(0 if len(self.cuts) else -1, np.arange(len(sketch)), 0)]
        while stack:
            node, places, depth = stack.pop()
            if node < 0:
                order.append((~node, places))
                counts[~node] = len(places)
                continue
            values, cut = sketch[places, self.columns[node]], self.cuts[node]
            below = values < cut
            level = np.flatnonzero(values == cut)
            below[level] = _shares(numbers[places[level]], depth) < self.shares[node]
            for child, some in zip(self.children[node].tolist(), (below, ~below), strict=True):
                stack.append((child, places[some], depth + 1))
        return np.concatenate([places for _, places in sorted(order, key=lambda each: each[0])]), counts

    def reached(self, sketch: NDArray[np.float32], farthest: NDArray[np.float64], cells: CellBoxes) -> NDArray[np.bool_]:
        """Which cells (m, cells) may hold rows that lie within squared distances (m,) of points, given by their sketches."""
        bounds = self.frame.bounds
        norms = np.sqrt(np.einsum("ij,ij->i", sketch, sketch, dtype=np.float64))
        with np.errstate(over="ignore"):  # a radius beyond single precision is infinite
            radii = (np.sqrt(farthest) * bounds.scale + bounds.slack + norms * bounds.error) * _WIDER
            reached: NDArray[np.bool_] = boxes_within(sketch, radii.astype(np.float32), *cells)
        return reached


# More than rounding to single precision takes off a radius.
_WIDER = 1 + 2.0**-20


def take_partition(X: Array, n_cells: int, *, unit: bool, seed: int) -> Partition:
    """Cut the space of rows (n, d) into cells of about as many rows each."""
    n, d = X.shape
    frame = take_frame(X, n_axes=min(d, SKETCHED - 1) if d > SKETCHED else 0, unit=unit, seed=seed)
    size = min(n, max(_SAMPLE, _SAMPLE_OF_CELL * n_cells))
    numbers = np.sort(np.random.default_rng(seed).choice(n, size, replace=False))
    sketch = _sketch(frame, X[numbers])
    columns, cuts = np.zeros(n_cells - 1, np.int64), np.zeros(n_cells - 1, np.float32)
    shares, children = np.zeros(n_cells - 1), np.zeros((n_cells - 1, 2), np.int64)
    n_nodes = 0

    def cut(places: Array, first: int, last: int, depth: int) -> int:
        """Cells first..last from some rows of the sample; the node, or the cell."""
        nonlocal n_nodes
        if last - first == 1:
            return ~first
        node, middle = n_nodes, (first + last) // 2
        n_nodes += 1
        some = sketch[places]
        column = int(some.var(0, dtype=np.float64).argmax()) if len(some) else 0
        values = some[:, column]
        wanted = round(len(values) * (middle - first) / (last - first))
        at = np.partition(values, wanted)[wanted] if wanted < len(values) else np.float32(np.inf)
        level = np.flatnonzero(values == at)
        share = (wanted - np.count_nonzero(values < at)) / max(1, len(level))
        below = values < at
        below[level] = _shares(numbers[places[level]], depth) < share
        columns[node], cuts[node], shares[node] = column, at, share
        children[node] = cut(places[below], first, middle, depth + 1), cut(places[~below], middle, last, depth + 1)
        return node

    cut(np.arange(size), 0, n_cells, 0)
    return Partition(frame, columns, cuts, shares, children)


def boxes_of_cells(partition: Partition, sketch: NDArray[np.float32], counts: NDArray[np.int64]) -> CellBoxes:
    """Boxes around rows that were dealt, from their sketches in that order, and how many each cell holds."""
    lower = np.full((len(counts), sketch.shape[1]), np.inf, np.float32)
    upper, some = -lower, counts > 0
    begins = (np.cumsum(counts) - counts)[some]
    if len(begins):
        norms = np.sqrt(np.einsum("ij,ij->i", sketch, sketch, dtype=np.float64))
        error = np.maximum.reduceat(norms, begins)[:, None] * (partition.frame.bounds.error * _WIDER)
        low, high = np.minimum.reduceat(sketch, begins) - error, np.maximum.reduceat(sketch, begins) + error
        lower[some] = np.nextafter(low.astype(np.float32), np.float32(-np.inf))
        upper[some] = np.nextafter(high.astype(np.float32), np.float32(np.inf))
    return CellBoxes(lower, upper)


def _sketch(frame: Frame, rows: Array) -> NDArray[np.float32]:
    return frame.sketch(rows, frame.axes.shape[1] + 1) if frame.axes.shape[1] else frame.whole(rows)


def _shares(numbers: NDArray[np.int64], depth: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) that look random, others at each depth: a finalizer of Steele et al., SplitMix (2014)."""
    mixed = numbers.astype(np.uint64) + np.uint64((depth + 1) * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed ^ (mixed >> np.uint64(31))).astype(np.float64) * 2.0**-64
