"""All pairs within a distance: lists that are confined to it, and longer ones for the queries whose list is full.

A list of k rows that ends before its k-th has all rows within the distance. Most rows have few near duplicates, so that lists
begin short; what is within reach is decided by the index, in double precision.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.runtime.progress import Progress
from fastent.search.equal_rows import Pairs
from fastent.search.index import Index, NeighborLists

__all__ = ["FIRST", "PairSearch", "pairs_within", "squared_reach"]

Array = NDArray[Any]

# How long lists are at first, and how many times as long the next ones of queries that they do not suffice for.
FIRST, _LONGER = 4, 8
# Queries whose rows within the distance are counted before lists of many are made longer.
_COUNTED = 128


@dataclass(frozen=True)
class PairSearch:
    """What is searched for.

    index : Index
        Of n rows.
    points : (q, d), optional
        What is paired with rows; by default the rows are paired with each other, the lower number first. The distance is the
        one computed from that row: computed from the other, an angle may be rounded differently.
    squared : float
        The largest squared distance.
    most : int
        How many pairs there may be.
    refuse : function of a sentence's part
        Told how many there are, if there are more; returns the error.
    """

    index: Index
    n: int
    points: Array | None
    squared: float
    most: int
    refuse: Callable[[str], FastentError]
    seed: int
    progress: Progress

    @property
    def q(self) -> int:
        return self.n if self.points is None else len(self.points)

    @property
    def longest(self) -> int:
        """How long a list can be."""
        return self.n - (self.points is None)

    @property
    def ends(self) -> int:
        """In how many lists a pair is."""
        return 2 if self.points is None else 1

    def lists(self, k: int, some: NDArray[np.int64]) -> NeighborLists:
        """The k nearest rows of some queries, none beyond the distance."""
        asked = some if self.points is None else self.points[some]
        within = np.full(len(some), self.squared)
        return self.index.nearest(
            k, None if self.points is None and len(some) == self.n else asked, within=within, progress=self.progress
        )

    @property
    def entries(self) -> int:
        """So many entries of lists there is room for at a time."""
        return max(self.q * FIRST, self.most // 2)

    def at_a_time(self, k: int, queries: int) -> int:
        """Of so many queries, as many as there is room for with lists of k; beside the index, unless all rows search all."""
        count = max(1, self.entries // k)
        return queries if queries == self.q <= count else min(count, max(1, self.q // 8))


def pairs_within(search: PairSearch) -> Pairs:
    """All pairs that are searched for."""
    n, longest, ends = search.n, search.longest, search.ends
    left, k, before, entries, found = np.arange(search.q), min(FIRST, longest), 0, 0, [Pairs.none()]
    while k and len(left):
        size, full = search.at_a_time(k, len(left)), [left[:0]]
        for begin in range(0, len(left), size):
            some = left[begin : begin + size]
            lists = search.lists(k, some)
            within = lists.indices < n
            is_full = within[:, -1] & (k < longest)
            full.append(some[is_full])
            within[is_full] = False
            entries += int(within.sum())
            if search.points is None:
                within &= lists.indices > some[:, None]
            found.append(Pairs(some[np.nonzero(within)[0]], lists.indices[within], lists.squared[within]))
            waiting = len(left) - begin - len(some)
            at_least = (entries + k * sum(map(len, full)) + before * waiting) // ends
            if at_least > search.most:
                raise search.refuse(f"at least {at_least:,} pairs")
        left, before = np.concatenate(full), k
        if len(left):
            k = _longer(search, left, k, entries)
    return Pairs.joined(found)


def _longer(search: PairSearch, left: NDArray[np.int64], k: int, entries: int) -> int:
    """How long the next lists are; many queries' are counted for some of these, which tells what is hopeless at once."""
    longer = min(_LONGER * k, search.longest)
    if len(left) < 8 * _COUNTED:
        return longer
    each = (search.ends * search.most - entries) / len(left)  # so many there may be on average
    most = min(search.longest, max(longer, min(math.ceil(4 * each), search.entries // _COUNTED)))
    some = np.sort(np.random.default_rng(search.seed).choice(left, _COUNTED, replace=False))
    counts = (search.lists(most, some).indices < search.n).sum(1)
    # Counts are cut at 4 times that: a mean of twice that is due to chance in one of 10^7 cases (Hoeffding's inequality).
    if counts.mean() > 2 * each:
        pairs = int((entries + counts.mean() * len(left)) / search.ends)
        raise search.refuse(f"about {pairs:,} pairs or more (counted for {_COUNTED} rows)")
    return min(search.longest, max(longer, int(np.quantile(counts, 0.9)) + 1))


def squared_reach(radius: float, unit: bool) -> float:
    """The largest squared distance whose distance, as it is computed, is at most the radius."""
    if unit:
        return 2 * radius
    with np.errstate(over="ignore", under="ignore"):
        squared = np.float64(radius) ** 2
        while np.sqrt(squared) > radius:
            squared = np.nextafter(squared, 0)
        while np.sqrt(above := np.nextafter(squared, np.inf)) <= radius:
            squared = above
    return float(squared)
