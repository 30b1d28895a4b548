"""Rows within a radius of each other, or of other points, in as much memory as there is: equal rows are met once."""

import math
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import kernel_dtype
from fastent.errors import FastentError
from fastent.runtime.memory import readable_bytes
from fastent.runtime.progress import Progress
from fastent.search.equal_rows import EqualRows, Pairs, RowsByNumber
from fastent.search.found_neighbors import search_distances
from fastent.search.index import Index
from fastent.search.pairs_within import FIRST, PairSearch, pairs_within, squared_reach
from fastent.search.planner import plan_index

__all__ = ["RadiusSearch"]

Array = NDArray[Any]

# Rows whose nearest neighbours say what a quantile is.
_SAMPLED = 10_000
# Rows whose distances say which radius would do, and entries of their lists unless all have more.
_ASKED, _ENTRIES = 1_000, 1 << 20
# Bytes that a pair takes at most while pairs are sorted and grouped, and the share of the memory that they have in any case.
_PAIR_BYTES, _OF_PAIRS = 128, 4


class RadiusSearch:
    """Rows, what they are compared with, and the index of the distinct ones, which is built when it is needed."""

    def __init__(
        self,
        rows: Array,
        points: Array | None,
        copies: EqualRows,
        unit: bool,
        equal: str,
        memory: int,
        scratch: str | None,
        seed: int,
        progress: Progress,
    ) -> None:
        self._points, self._copies, self._unit, self._equal = points, copies, unit, equal
        self._memory, self._scratch, self._seed, self._progress = memory, scratch, seed, progress
        self._distinct = copies.distinct
        self._n, self._n_rows = len(self._distinct), len(rows)
        self._rows: Array = rows if self._n == self._n_rows else cast(Array, RowsByNumber(rows, self._distinct))
        self._index: Index | None = None
        self._room = memory  # for pairs
        # Pairs of rows that are not equal have no distance of 0 but for the angle, or where squares are out of range.
        self._zero_is_equal = copies.complete and not unit and kernel_dtype(rows) == np.float32

    def radius_of(self, quantile: float) -> tuple[float, int]:
        """The quantile of the distances to the nearest row, and of how many rows."""
        q = self._n_rows if self._points is None else len(self._points)
        if self._points is None and q == 1:
            raise FastentError(f"quantile={quantile:g}: X has one row, which has no nearest row; pass more rows, or radius=")
        some = np.arange(q)
        if q > _SAMPLED:
            some = np.sort(np.random.default_rng(self._seed).choice(q, _SAMPLED, replace=False))
        squared = np.zeros(len(some))
        if self._points is not None:
            squared = self.index.nearest(1, self._points[some], progress=self._progress).squared[:, 0]
        else:
            single = self._copies.sizes[np.searchsorted(self._distinct, self._copies.first[some])] == 1
            if single.any():
                asked = np.searchsorted(self._distinct, some[single])
                squared[single] = self.index.nearest(1, asked, progress=self._progress).squared[:, 0]
        return float(np.quantile(search_distances(squared, self._unit), quantile, method="inverted_cdf")), len(some)

    def pairs(self, radius: float) -> Pairs:
        """All pairs within the radius, by the numbers of the rows."""
        mutual, copies = self._points is None, self._copies
        all_equal = copies.n_pairs * mutual * (self._equal == "all")
        if all_equal > self._most:
            raise FastentError(
                f"{all_equal:,} pairs of rows are equal, and the memory has room for {self._most:,} pairs: pass equal='first', "
                "which pairs each copy with the first of its equals only"
            )
        found = Pairs.none()
        if not (mutual and ((radius == 0 and self._zero_is_equal) or self._n == 1)):
            squared, index = squared_reach(radius, self._unit), self.index

            found = pairs_within(
                PairSearch(
                    index,
                    self._n,
                    self._points,
                    squared,
                    self._most - all_equal,
                    partial(self._too_many, radius),
                    self._seed,
                    self._progress,
                )
            )
        if self._n == self._n_rows:
            return found
        if self._equal == "first":
            rows = self._distinct[found.rows] if mutual else found.rows
            first = Pairs(rows, self._distinct[found.others], found.squared)
            return Pairs.joined([first, copies.copies]) if mutual else first
        n_pairs = copies.n_between(found, one_side=not mutual) + all_equal
        if n_pairs > self._most:
            raise self._too_many(radius, f"{n_pairs:,} pairs")
        expanded = copies.between(found, one_side=not mutual)
        return Pairs.joined([expanded, copies.pairs()]) if mutual else expanded

    @property
    def index(self) -> Index:
        """Of the distinct rows."""
        if self._index is None:
            q, memory = self._n if self._points is None else len(self._points), self._memory * (1 - 1 / _OF_PAIRS)
            plan = plan_index(self._rows, q, {"all": FIRST}, memory=memory, scratch=self._scratch)
            self._room = self._memory - int(min(plan.bytes, memory))
            self._index = plan.build(self._rows, unit=self._unit, seed=self._seed)
        return self._index

    @property
    def _most(self) -> int:
        """How many pairs there is room for."""
        return self._room // _PAIR_BYTES

    def _too_many(self, radius: float, how_many: str) -> FastentError:
        smaller = self._radius_that_does(radius)
        remedy = "use a smaller radius"
        if smaller is not None:
            remedy = f"radius={smaller:.3g} has about half as many as there is room for"
        if self._equal == "all" and self._n < self._n_rows:
            remedy += "; or use equal='first'"
        return FastentError(
            f"radius={radius:g} has {how_many}, and {readable_bytes(self._room)} of memory have room for "
            f"{self._most:,}: {remedy}, or a larger memory_budget"
        )

    def _radius_that_does(self, radius: float) -> float | None:
        """One with about half of the pairs that there is room for, from the nearest rows of some; None if that would be 0."""
        mutual = self._points is None
        q, longest = (self._n, self._n - 1) if mutual else (len(self._points), self._n)  # type: ignore[arg-type]
        each = self._most * (2 if mutual else 1) / q / 2
        k = min(longest, 8 + math.ceil(4 * each))
        some = np.sort(
            np.random.default_rng(self._seed).choice(q, min(q, max(1, min(_ASKED, max(4 * q, _ENTRIES) // k))), replace=False)
        )
        asked = some if self._points is None else self._points[some]
        squared = np.sort(self.index.nearest(k, asked, progress=self._progress).squared, axis=None)
        beyond = squared[min(len(squared) - 1, int(each * len(some)))]
        below = squared[squared < beyond]
        smaller = float(search_distances(below[-1:], self._unit)[0]) if len(below) else 0.0
        return smaller if 0 < smaller < radius else None
