"""What every index can do, wherever the rows lie and whatever does the work."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fastent.runtime.progress import Progress

__all__ = [
    "AMONG",
    "Among",
    "ExternalQueries",
    "Index",
    "IndexQueries",
    "NeighborLists",
    "Wanted",
    "Work",
    "count_of",
    "first_of_class",
    "merged",
    "with_points",
]

Array = NDArray[Any]

# Which rows are searched: all, those of the query's class, or those of all others.
Among = Literal["all", "own class", "other classes"]
AMONG: tuple[Among, ...] = ("all", "own class", "other classes")
# How many neighbours are wanted among which rows.
Wanted = Mapping[Among, int]


class NeighborLists(NamedTuple):
    """The nearest rows of some queries.

    squared : (q, k) float64
        Squared distances, ascending; infinity where there are fewer than k rows.
    indices : (q, k) int64
        Row numbers, ties by the lower; n where there are fewer than k rows.
    """

    squared: NDArray[np.float64]
    indices: NDArray[np.int64]

    @classmethod
    def empty(cls, shape: tuple[int, int], n: int) -> "NeighborLists":
        """Of queries that have found none of n rows."""
        return cls(np.full(shape, np.inf), np.full(shape, n, np.int64))

    def within(self, squared: NDArray[np.float64] | None, n: int) -> "NeighborLists":
        """Without the rows that are farther than a squared distance (q,), if there is one."""
        if squared is None:
            return self
        beyond = self.squared > squared[:, None]
        return NeighborLists(np.where(beyond, np.inf, self.squared), np.where(beyond, n, self.indices))


class ExternalQueries(NamedTuple):
    """Queries that come with their points.

    points : (q, d)
        Of the `kernel_dtype` of the rows.
    excluded : (q,) int64
        The row that each leaves out of its lists, -1 for none.
    classes : (q,) int64
    """

    points: Array
    excluded: NDArray[np.int64]
    classes: NDArray[np.int64]


# Row numbers (q,), each left out of its own lists; points (q, d), which leave out nothing and have no class; or all rows.
IndexQueries = Array | ExternalQueries | None


def with_points(queries: IndexQueries) -> "NDArray[np.int64] | ExternalQueries | None":
    """Points (q, d) as external queries; what else there is, as it is."""
    if isinstance(queries, np.ndarray) and queries.ndim == 2:
        return ExternalQueries(queries, np.full(len(queries), -1), np.zeros(len(queries), np.int64))
    return queries


def count_of(queries: "NDArray[np.int64] | ExternalQueries | None", n: int) -> int:
    """How many queries there are: by their points, by numbers of rows, or all n rows."""
    if queries is None:
        return n
    return len(queries.points if isinstance(queries, ExternalQueries) else queries)


class Work(NamedTuple):
    """What a search took.

    Pairs are told apart by *codes*, points in whole numbers: those that these do not exclude are compared as they were given,
    so that the result is exact. Where all rows are queries, points of one tile meet twice, and those of two tiles once if most
    of both are concerned. For the radii with which long lists begin, some tiles meet once more.

    Attributes
    ----------
    boxes, tiles : int
        Boxes compared; pairs of a tile of queries and a tile of rows that met, but for a tile with itself.
    scanned, survivors, near : int
        Pairs of points of which a bound was computed; pairs that this let pass; pairs whose distance was near enough.
    cells, visits : int
        Where rows do not fit in memory: cells of space, and searches of cells by queries that do not lie in them.
    bytes_read, bytes_written : int
        Of rows, from where they lie and from scratch files; of scratch files and of lists on the way.
    chosen : str
        How rows were searched.
    expected_seconds : float
        Processor time that the plan expected the search to take on this machine; building an index comes on top. For small
        searches by prices of another machine. NaN where there was no plan.
    """

    boxes: int = 0
    tiles: int = 0
    scanned: int = 0
    survivors: int = 0
    near: int = 0
    cells: int = 0
    visits: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    chosen: str = ""
    expected_seconds: float = float("nan")

    def plus(self, counts: Array) -> "Work":
        """With as many more of each of the five counts."""
        names = ("boxes", "tiles", "scanned", "survivors", "near")
        return self._replace(**dict(zip(names, (np.array(self[:5]) + counts).tolist(), strict=True)))


class Index(Protocol):
    """Rows (n, d), with classes (n,) from 0 if they have any, that can be searched; made by `planner.plan_index`.

    What is found depends neither on the implementation nor on the number of threads: distances are decided in double precision
    from the rows as they were given, ties by the lower row number.

    Attributes
    ----------
    work : Work or None
        What the last search took, where that is counted.
    """

    work: Work | None = None

    def search(
        self, wanted: Wanted, queries: IndexQueries = None, *, within: Array | None = None, progress: Progress = None
    ) -> dict[Among, NeighborLists]:
        """Several lists for each query, in as few passes over the rows as the index can.

        Parameters
        ----------
        wanted : dict
            The length of each list.
        queries : (q,) int64, (q, d) of `kernel_dtype`, or ExternalQueries, optional, default all rows
        within : (q,) float64, optional
            Squared distances beyond which no row is wanted.
        """
        ...

    def nearest(
        self,
        k: int,
        queries: IndexQueries = None,
        *,
        among: Among = "all",
        within: Array | None = None,
        progress: Progress = None,
    ) -> NeighborLists:
        """One list for each query: `search` for a single one."""
        return self.search({among: k}, queries, within=within, progress=progress)[among]

    def relabelled(self, classes: NDArray[np.int64]) -> "Index":
        """An index of the same rows with other classes (n,)."""
        ...


def merged(lists: Sequence[tuple[Array, Array]]) -> NeighborLists:
    """The k nearest among several lists (q, k) of the same queries: ascending, ties by the lower row number."""
    k = lists[0][0].shape[1]
    squared = np.concatenate([each for each, _ in lists], axis=1)
    indices = np.concatenate([each for _, each in lists], axis=1)
    order = np.lexsort((indices, squared))[:, :k]
    return NeighborLists(np.take_along_axis(squared, order, 1), np.take_along_axis(indices, order, 1))


def first_of_class(
    index: Index,
    among: Among,
    lists: NeighborLists,
    codes: NDArray[np.int64],
    queries: NDArray[np.int64] | ExternalQueries | None,
    *,
    progress: Progress = None,
) -> NeighborLists:
    """The nearest row of the own class, or of another, from lists among all rows where these reach so far.

    Parameters
    ----------
    lists : NeighborLists
        Of the queries, from the same index.
    codes : (n,) int64
        Classes of the rows.
    """
    squared, neighbours = lists
    known_classes = queries.classes if isinstance(queries, ExternalQueries) else codes if queries is None else codes[queries]
    there = neighbours < len(codes)
    same = codes[np.where(there, neighbours, 0)] == known_classes[:, None]
    wanted = there & (same == (among == "own class"))
    place, known = wanted.argmax(1)[:, None], wanted.any(1)
    if known.mean() < 0.5:  # all in the order of their tiles take no longer than half of them
        return index.nearest(1, queries, among=among, progress=progress)
    nearest = NeighborLists(np.take_along_axis(squared, place, 1), np.take_along_axis(neighbours, place, 1))
    if not known.all():
        left = np.flatnonzero(~known)
        others: IndexQueries
        if isinstance(queries, ExternalQueries):
            others = ExternalQueries(*(each[left] for each in queries))
        else:
            others = left if queries is None else queries[left]
        nearest.squared[left], nearest.indices[left] = index.nearest(1, others, among=among, progress=progress)
    return nearest
