"""A search for neighbours under way: what is searched and how, and the exact lists of some of its queries."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.queries import Queries
from fastent.arrays.ranges import resolution_of
from fastent.arrays.validation import in_memory
from fastent.printable import in_queries
from fastent.runtime.memory import check_fits
from fastent.runtime.progress import Progress
from fastent.search.found_neighbors import Neighbors, exact_neighbors

if TYPE_CHECKING:
    from fastent.search.index import NeighborLists, Wanted, Work
    from fastent.search.planner import IndexPlan

__all__ = ["SPARE", "NeighborSearch"]

Array = NDArray[Any]

# faiss and torch rank in single precision by |a|^2 + |b|^2 - 2 ab: so many candidates more are ranked again.
SPARE = 16


class NeighborSearch(NamedTuple):
    """What is to be searched, checked.

    memory : bytes that may be used, None for what is available; memory_budget : the same as users gave it. plan : how the rows
    are searched, where that is settled.
    """

    X: Array
    queries: Queries
    k: int
    unit: bool
    method: str
    seed: int
    options: dict[str, Any]
    progress: Progress
    client: Any
    scratch: str | None
    memory: int | None
    memory_budget: int | str | None
    plan: "IndexPlan | None"

    def planned(self, n_queries: int) -> "IndexPlan":
        from fastent.search.planner import plan_index

        wanted: Wanted = {"all": self.k}
        return plan_index(
            self.X, n_queries, wanted, memory=self.memory, client=self.client, scratch=self.scratch, searched_once=True
        )

    def searched(self, queries: Array) -> "tuple[NeighborLists, Work | None]":
        """Exact lists of some of the queries, and what finding them took."""
        index = (self.plan or self.planned(len(queries))).build(self.X, unit=self.unit, seed=self.seed)
        return index.nearest(self.k, queries, progress=self.progress), index.work

    def exact(self) -> Neighbors:
        """The exact lists of all queries."""
        (squared, found), work = self.searched(self.queries.given)
        return self.finished(squared, found, 1.0, work)

    def in_memory(self) -> Array:
        """The rows, if there is room for what other libraries take."""
        n, d = self.X.shape
        check_fits(
            16 * n * d + len(self.queries) * (24 * (self.k + SPARE) + 16 * d),
            f"the {self.method} search for {self.k} neighbours of {in_queries(len(self.queries))} among {n} x {d} points",
            "use fewer queries, or method='exact', which takes the rows chunk by chunk",
            self.memory_budget,
        )
        return in_memory(self.X)

    def finished(self, squared: NDArray[np.float64], found: NDArray[np.int64], recall: float, work: Any = None) -> Neighbors:
        resolution = None if self.unit else resolution_of(self.X, self.queries.rows, self.queries.points)
        return exact_neighbors(
            (squared, found), self.queries.rows, len(self.X), resolution,
            unit=self.unit, method=self.method, recall=recall, work=work,
        )  # fmt: skip
