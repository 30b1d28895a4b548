"""A measurement under way: what is asked for, who meets whom, and what was noted and timed so far."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import Labels, row_blocks
from fastent.errors import FastentError
from fastent.io.result_cache import Arrays, PartialResult, ResultCache
from fastent.runtime.clock import working_seconds
from fastent.runtime.progress import Progress
from fastent.search.index import Wanted
from fastent.search.planner import IndexPlan
from fastent.search.sweep import LabelledPoints
from fastent.statistics.intervals import Population
from fastent.statistics.soft_nearest_neighbor import Temperature
from fastent.statistics.strata import Strata

__all__ = ["Plan", "Stage", "Task"]

Array = NDArray[Any]
T = TypeVar("T")


class Stage(NamedTuple):
    """A part of the work: what it did, seconds, and how often it read all of X."""

    name: str
    seconds: float
    passes: int


class Plan(NamedTuple):
    """Whose neighbours are found, and which rows are sampled to meet all rows (None for all rows).

    strata : the classes of the sampled rows, if each was sampled by itself. lists : how many neighbours of `rows`, among which
    rows. of_sample : how many of each sampled row besides, because those of
    `rows` are fewer; 0 if there is no need. index_plan : what they are found with.
    """

    rows: NDArray[np.int64] | None
    sampled: NDArray[np.int64] | None
    strata: Strata | None
    lists: Wanted
    of_sample: int
    index_plan: IndexPlan
    notes: tuple[str, ...]

    @property
    def k(self) -> int:
        """How many neighbours of `rows` are found."""
        return self.lists.get("all", 0)

    def of_queries(self, n: int) -> Population:
        """What `rows` are a sample of, of n rows in all."""
        return n if self.rows is None else self.of_sampled(n)

    def of_sampled(self, n: int) -> Population:
        """What the sampled rows are a sample of, of n rows in all."""
        return n if self.strata is None else self.strata


class Task(NamedTuple):
    """What is to be measured, checked.

    lists : how many neighbours are found of the rows that meet all rows, among which rows. lists_of_all : how many of all rows
    where these are too many for that. pairwise : whether rows of all pairs meet. bytes_kept : what labels, counts and results
    take. features : their names, if X is a table.
    """

    X: Array
    features: tuple[str, ...] | None
    points: LabelledPoints
    labels: Labels
    wanted: frozenset[str]
    named: bool
    k: int
    lists: Wanted
    lists_of_all: Wanted
    pairwise: bool
    bytes_kept: int
    normalize: bool
    standardize: bool
    temperature: Temperature
    memory: int
    memory_budget: int | str | None
    seed: int
    progress: Progress
    notes: list[str]
    stages: list[Stage]
    parts: ResultCache
    depends_on: dict[str, Any]
    client: Any
    scratch: str | None

    def identified(self, plan: Plan) -> "Task":
        """With all that the result depends on, to which kept parts belong; X is read once where any are kept."""
        if not self.parts.keeps:
            return self
        blocks = (block for _, block in row_blocks(self.X))
        digest = _digest(chain(blocks, (self.points.codes, plan.rows, plan.sampled)))
        names = ("k", "normalize", "temperature", "seed")
        return self._replace(
            depends_on={
                "data": digest,
                "wanted": sorted(self.wanted),
                "way": plan.index_plan.kind,
                "lists": [*sorted(plan.lists.items()), plan.of_sample],
                "threads": "any",  # no number depends on how many there are
                **{name: getattr(self, name) for name in names},
            }
        )

    def kept(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        """A part of the result, made now unless an earlier call or process has made it."""
        return self.parts.keep(name, self.depends_on, make)

    def unfinished(self, name: str, order: NDArray[np.int64] | None = None) -> PartialResult:
        """Where a long part keeps what it has so far, which may depend on the order in which it goes through the rows."""
        way = {"spread": self.client is not None, "order": None if order is None else _digest([order])}
        return self.parts.unfinished(name, self.depends_on | way)

    @contextmanager
    def stage(self, name: str, passes: int = 0) -> Iterator[None]:
        began = working_seconds()
        yield
        self.stages.append(Stage(name, working_seconds() - began, passes))

    def attempt(self, what: str, call: Callable[[], T]) -> T | None:
        """What cannot be measured of these points is left out of everything, but refused to those who named it."""
        try:
            return call()
        except FastentError as error:
            if self.named:
                raise
            self.notes.append(f"no {what}: {error}")
            return None


def _digest(arrays: Iterable[Array | None]) -> str:
    """Of arrays one after the other, none of which is held."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(b"all" if array is None else np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()
