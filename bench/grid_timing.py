"""The cells of the grid, one after another in this process, whose BLAS kernels all of them use.

Answers are compared with brute force in double precision before anything is timed. Exact peers scan, in a time proportional to
the number of queries: where they take long, a round is of a part of the queries; peers without a chance are not timed again
after a trial.
"""

import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import fastent as fe
from bench.blas import loaded_kernels
from bench.grid_cells import APPROXIMATE, CELLS, LEAST_ROWS, Cell, points_of
from bench.machine import load
from bench.oracle import Oracle
from bench.peers import APPROXIMATE as APPROXIMATE_PEERS
from bench.peers import EXACT, Peer, faiss_panorama, installed
from bench.scale import scaled
from bench.timing import Times, median_ratio, median_times, timed

__all__ = ["K", "run", "timed_cell"]

Array = NDArray[Any]

K = 10
_CHECKED = 200
# Processor time of a peer's trial and of a round, which searches a block of queries even so, as BLAS likes large ones.
_TRIAL_SECONDS, _ROUND_SECONDS, _BLOCK = 0.5, 1.5, 2048
# A trial that takes so many times the best peer's.
_NO_CHANCE = 2.5
# What takes less than this is repeated within a round.
_SHORT_SECONDS, _MOST_REPEATS = 0.1, 100


class Task(NamedTuple):
    """Rows (n, d), and queries (q, d), which may be the rows; then each list leaves out its query."""

    X: Array
    points: Array
    rows_are_queries: bool
    metric: str

    @classmethod
    def of(cls, cell: Cell) -> "Task":
        X, points = points_of(cell)
        return cls(X, X if points is None else points, points is None, cell.metric)

    def neighbors(self) -> fe.Neighbors:
        queries = None if self.rows_are_queries else self.points
        return fe.neighbors(self.X, K, queries=queries, metric=self.metric, method="auto")  # type: ignore[arg-type]

    def oracle(self) -> Oracle:
        rows_are_queries = self.rows_are_queries
        return Oracle(self.X, self.points, K, metric=self.metric, rows_are_queries=rows_are_queries, checked=_CHECKED)


class Contender:
    """A peer and its times in a task; `whole` ones search all queries at once, others the first `part` of them."""

    def __init__(self, peer: Peer, task: Task, oracle: Oracle, *, whole: bool) -> None:
        self._build, self._task, self._wanted = peer, task, K + task.rows_are_queries
        self._search = peer(task.X, task.metric)  # imports, and compiles
        count = len(task.points)
        answer = self._found(slice(count))[oracle.queries] if whole else self._found(oracle.queries)
        distances = oracle.distances_to(answer)
        self.agreement = {"recall": oracle.recall(distances), "exact_lists": oracle.share_exact(distances)}
        # Few queries are not extrapolated from fewer, as products of few rows are slower.
        self.part = count if whole or count <= _BLOCK else self._trial_part(len(oracle.queries))
        self.rounds: list[Times] = []
        self.trial = self._timed()
        self._longer = count if whole else min(count, max(_BLOCK, int(_ROUND_SECONDS / self.trial.processor * count)))

    def round(self) -> None:
        self.part = self._longer
        self.rounds.append(self._timed())

    def figures(self, own: list[Times]) -> dict[str, Any]:
        rounds = self.rounds or [self.trial] * len(own)
        ratio = median_ratio(rounds, own)
        return {
            **_seconds(rounds),
            "ratio": ratio.processor,
            "wall_ratio": ratio.wall,
            "queries_timed": self.part,
            "rounds": len(self.rounds) or 1,
            **self.agreement,
        }

    def _trial_part(self, least: int) -> int:
        """As many queries as a trial has time for, up to a block."""
        seconds = timed(lambda: self._found(slice(least))).processor
        return max(least, min(_BLOCK, int(_TRIAL_SECONDS / seconds * least)))

    def _timed(self) -> Times:
        """Of all queries, from those of the part; for the rows it is built once."""
        built = timed(self._rebuild)
        return built + _timed_at_length(lambda: self._found(slice(self.part))) * (len(self._task.points) / self.part)

    def _rebuild(self) -> None:
        self._search = self._build(self._task.X, self._task.metric)

    def _found(self, queries: Array | slice) -> Array:
        return self._search(self._task.points[queries], self._wanted)


def timed_cell(cell: Cell, peers: dict[str, Peer], rounds: int, *, whole: bool = False) -> dict[str, Any]:
    """The figures of a cell as bench/results/grid.json has them."""
    began, busy = time.perf_counter(), load()
    task = Task.of(cell)
    oracle, found = task.oracle(), task.neighbors()
    share = oracle.share_exact(found.distances[oracle.queries].astype(np.float64))
    if share < 1:
        raise AssertionError(f"{cell.name}: {1 - share:.1%} of {_CHECKED} lists of fastent are not those of brute force")
    contenders = {name: Contender(peer, task, oracle, whole=whole) for name, peer in peers.items()}
    best = min(contender.trial.processor for contender in contenders.values())
    own = []
    for _ in range(rounds):
        own.append(_timed_at_length(task.neighbors))
        for contender in contenders.values():
            if contender.trial.processor <= _NO_CHANCE * best:
                contender.round()
    return {
        "cell": cell.name, **cell._asdict(), "n": len(task.X), **_seconds(own), "rounds": rounds, "method": found.method,
        "work": repr(found.work), "peers": {name: each.figures(own) for name, each in contenders.items()},
        "blas": loaded_kernels(), "load": busy, "took_s": round(time.perf_counter() - began, 1),
    }  # fmt: skip


def _timed_at_length(work: Callable[[], Any]) -> Times:
    """Of one call: what is short is repeated."""
    once = timed(work)
    if once.wall >= _SHORT_SECONDS:
        return once
    return timed(work, min(_MOST_REPEATS, math.ceil(_SHORT_SECONDS / once.wall)))


def _seconds(rounds: list[Times]) -> dict[str, float]:
    median = median_times(rounds)
    return {"processor_s": median.processor, "wall_s": median.wall}


def run() -> None:
    """Print a line of JSON for each cell: {"cells": names, "approximate": bool, "rounds": int, "until": seconds} in sys.argv.

    None for a cell whose data are not here, nor for those that have not begun at `until`, in seconds since the epoch.
    """
    asked = json.loads(sys.argv[1])
    whole = asked["approximate"]
    cells, peers = (APPROXIMATE, APPROXIMATE_PEERS) if whole else (CELLS, EXACT)
    for cell in (cell for cell in cells if cell.name in asked["cells"]):
        if asked["until"] is not None and time.time() > asked["until"]:
            return
        try:
            figures = timed_cell(cell, _with_a_chance(installed(peers), cell), asked["rounds"], whole=whole)
        except pytest.skip.Exception as reason:
            print(f"left out: {cell.name}: {reason}", file=sys.stderr, flush=True)
            continue
        except AssertionError as error:
            figures = {"cell": cell.name, "failed": str(error)}
        print(json.dumps(figures | {"approximate": whole}), flush=True)


def _with_a_chance(peers: dict[str, Peer], cell: Cell) -> dict[str, Peer]:
    """Panorama needs directions that tell more than others, and at least as many rows as features to find them."""
    suits = cell.decays and scaled(cell.n, LEAST_ROWS) >= cell.d
    return {name: peer for name, peer in peers.items() if suits or peer is not faiss_panorama}
