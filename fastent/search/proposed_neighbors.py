"""Neighbours that faiss or torch propose, ranked again in double precision; what they may have missed is searched for."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import joined, row_blocks
from fastent.search.backends import PROPOSERS
from fastent.search.found_neighbors import Neighbors
from fastent.search.neighbor_search import SPARE, NeighborSearch

if TYPE_CHECKING:
    from fastent.search.index import Work

__all__ = ["proposed_neighbors"]

Array = NDArray[Any]

# Sums in double precision may be off by less.
_DOUBLE = 1 + 2.0**-40
_RECALL_QUERIES = 200


def proposed_neighbors(task: NeighborSearch) -> Neighbors:
    """Candidates from another library, ranked again; what it may have missed is searched for, or estimated on a sample."""
    task = task._replace(X=task.in_memory())
    squared, found, doubtful, complete = _ranked(task)
    q, work = len(task.queries), None
    if len(doubtful):
        (squared[doubtful], found[doubtful]), work = task.searched(task.queries.given[doubtful])
        work = _of_some(work, f"{len(doubtful)} of {q} queries were left open and searched exactly")
    if complete:
        return task.finished(squared, found, 1.0, work)
    sample = np.sort(np.random.default_rng(task.seed).choice(q, min(_RECALL_QUERIES, q), replace=False))
    nearest, _ = task.searched(task.queries.given[sample])
    recall = (squared[sample] <= nearest.squared[:, -1:] * _DOUBLE).mean()
    return task.finished(squared, found, float(recall), work)


def _of_some(work: "Work | None", which: str) -> "Work":
    """What an exact search took, and for which of the queries it was made."""
    from fastent.search.index import Work

    work = work or Work()
    return work._replace(chosen=f"{which}{work.chosen and ': '}{work.chosen}")


def _ranked(task: NeighborSearch) -> tuple[Array, Array, NDArray[np.int64], bool]:
    """Lists of what another library proposes; which of them may miss something; whether the others miss nothing."""
    from fastent.kernels.distance import squared_lengths
    from fastent.kernels.lists import rank_candidates
    from fastent.search.exact_index import as_compared
    from fastent.search.sketch import take_frame

    X, queries, k = task.X, task.queries, task.k
    frame = take_frame(X, n_axes=0, unit=task.unit, seed=task.seed)
    points = X[queries.rows] if queries.points is None else queries.points
    excluded = np.full(len(queries), -1) if queries.rows is None else queries.rows
    wanted = min(k + SPARE + 1, len(X))
    propose = PROPOSERS[task.method]
    proposed, beyond = propose(frame.whole(X), frame.whole(points), wanted, task.seed, task.options)
    compared = [joined([as_compared(block, task.unit) for _, block in row_blocks(some)]) for some in (X, points)]
    lengths = [squared_lengths(some) if task.unit else np.empty(0) for some in compared]
    squared, found = rank_candidates(compared[0], lengths[0], compared[1], lengths[1], excluded, proposed, k, task.unit)
    doubtful = np.isinf(squared[:, -1])  # an index that searches few places may come back with fewer than k
    if beyond is not None and wanted < len(X):
        bounds = frame.bounds
        doubtful |= ~(np.sqrt(squared[:, -1]) * (bounds.scale * _DOUBLE) + bounds.slack < beyond)
    return squared, found, np.flatnonzero(doubtful), beyond is not None
