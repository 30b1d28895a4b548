"""Label statistics of neighbour lists."""

import math
from typing import Any

import numpy as np

from .arrays import read_only
from .exponential import exponential
from .jit import SUMS, driver, kernel, step
from .sharing import parallel_for

__all__ = ["count_classes", "count_occurrences", "inverse_simpson", "label_shares"]

_STEPS = 100


@kernel()
def _label_shares(
    begin: int, end: int, indices: Any, distances: Any, codes: Any, own: Any, n_classes: int, purity: Any,
    entropy: Any, vote: Any,
) -> None:  # fmt: skip
    k = indices.shape[1]
    counts = np.zeros(n_classes, np.int64)
    for i in range(begin, end):
        for j in range(k):
            counts[codes[indices[i, j]]] += 1
        purity[i] = counts[own[i]] / k
        best, most, nearest = np.int64(-1), np.int64(0), np.float32(0)
        for j in range(k):  # nearest first, so a class is met at its nearest member
            c = codes[indices[i, j]]
            count = counts[c]
            if count == 0:
                continue
            share = count / k
            entropy[i] -= share * np.log(share)
            if count > most or (count == most and distances[i, j] == nearest and c < best):
                best, most, nearest = c, count, distances[i, j]
            counts[c] = 0
        vote[i] = best


@driver(_label_shares)
def label_shares(indices: Any, distances: Any, codes: Any, own: Any, n_classes: int) -> Any:
    """Purity, entropy and majority vote of each list.

    Parameters
    ----------
    indices : (q, k) int64
    distances : (q, k) float32
    codes : (n,) int64
        Classes of the rows that `indices` name.
    own : (q,) int64
        Classes of the queries.
    n_classes : int

    Returns
    -------
    purity, entropy : (q,) float64
    vote : (q,) int64
        Ties to the class whose nearest member is nearer, then to the lower class.
    """
    q = len(indices)
    purity, entropy, vote = np.zeros(q), np.zeros(q), np.empty(q, np.int64)
    indices, distances, codes, own = (read_only(each) for each in (indices, distances, codes, own))
    parallel_for(_label_shares, q, indices, distances, codes, own, n_classes, purity, entropy, vote)
    return purity, entropy, vote


@kernel()
def _count_classes(begin: int, end: int, indices: Any, codes: Any, order: Any, bounds: Any, counts: Any) -> None:
    for c in range(begin, end):
        row = counts[c]
        for place in range(bounds[c], bounds[c + 1]):
            near = indices[order[place]]
            for j in range(near.shape[0]):
                row[codes[near[j]]] += 1


@driver(_count_classes)
def count_classes(indices: Any, codes: Any, order: Any, bounds: Any) -> Any:
    """How often each class (column) is among the neighbours of each class (row).

    Parameters
    ----------
    indices : (q, k) int64
    codes : (n,) int64
    order : (q,) int64
        Queries, class by class.
    bounds : (C + 1,) int64
        Where each class begins in `order`.

    Returns
    -------
    (C, C) int64
    """
    n_classes = len(bounds) - 1
    counts = np.zeros((n_classes, n_classes), np.int64)
    parallel_for(_count_classes, n_classes, read_only(indices), read_only(codes), order, bounds, counts)
    return counts


@kernel()
def _count_occurrences(indices: Any, codes: Any, own: Any, occurrence: Any, bad: Any) -> None:
    for i in range(indices.shape[0]):
        near = indices[i]
        for j in range(near.shape[0]):
            neighbour = near[j]
            occurrence[neighbour] += 1
            bad[neighbour] += codes[neighbour] != own[i]


@driver(_count_occurrences)
def count_occurrences(indices: Any, codes: Any, own: Any) -> Any:
    """How often each row is a neighbour, and how often one of a query with another label: (n,) int64 each."""
    occurrence, bad = np.zeros(len(codes), np.int64), np.zeros(len(codes), np.int64)
    _count_occurrences(read_only(indices), read_only(codes), read_only(own), occurrence, bad)
    return occurrence, bad


@step(fastmath=SUMS)
def _weights_at(beta: float, reduced: Any, weights: Any) -> Any:
    """Write exp(-beta r), and return the sums of that, of r times that and of r^2 times that."""
    total = first = second = 0.0
    for j in range(weights.shape[0]):
        weights[j] = exponential(-beta * reduced[j])
        total += weights[j]
        first += reduced[j] * weights[j]
        second += reduced[j] * reduced[j] * weights[j]
    return total, first, second


@step()
def _weigh(distances: Any, target: float, reduced: Any, weights: Any) -> None:
    """Weights exp(-beta d), beta such that their entropy is `target`: Newton's steps in log beta, kept within a bracket."""
    low, high, beta = 0.0, np.inf, 1.0
    nearest = np.float64(distances[0])
    n = weights.shape[0]
    scale = np.float64(distances[n - 1]) - nearest
    if scale == 0.0:
        weights[:] = 1 / n
        return
    for j in range(n):
        reduced[j] = (distances[j] - nearest) / scale
    total = 0.0
    for _ in range(_STEPS):
        total, first, second = _weights_at(beta, reduced, weights)
        mean = first / total
        surplus = np.log(total) + beta * mean - target
        if abs(surplus) < 1e-12:
            break
        if surplus > 0:
            low = beta
        else:
            high = beta
        # The entropy falls by beta^2 var(d) for each unit of log beta.
        slope = beta * beta * (second / total - mean * mean)
        change = surplus / slope if slope > 0 else np.inf
        inside = abs(change) < 2 and low < beta * np.exp(change) < high
        beta = beta * np.exp(change) if inside else 2 * beta if np.isinf(high) else (low + high) / 2
    for j in range(n):
        weights[j] /= total


@kernel()
def _inverse_simpson(
    begin: int, end: int, indices: Any, distances: Any, codes: Any, n_classes: int, entropy: float, result: Any
) -> None:
    k = indices.shape[1]
    shares, reduced, weights = np.zeros(n_classes), np.empty(k), np.empty(k)
    for i in range(begin, end):
        _weigh(distances[i], entropy, reduced, weights)
        for j in range(k):
            shares[codes[indices[i, j]]] += weights[j]
        squares = 0.0
        for j in range(k):
            c = codes[indices[i, j]]
            squares += shares[c] * shares[c]
            shares[c] = 0.0
        effective = 1 / squares
        result[i] = effective if effective > 1.0 else 1.0  # below by rounding only


@driver(_inverse_simpson)
def inverse_simpson(indices: Any, distances: Any, codes: Any, n_classes: int, perplexity: float) -> Any:
    """Effective number of classes around each query, (q,) float64."""
    result = np.empty(len(indices))
    indices, distances, codes = (read_only(each) for each in (indices, distances, codes))
    parallel_for(_inverse_simpson, len(result), indices, distances, codes, n_classes, math.log(perplexity), result)
    return result
