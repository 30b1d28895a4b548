"""How many networks a score of difficulty takes until others would give the same."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.experiments.scores import combined
from fastent.io.result_cache import Arrays

__all__ = ["ScoreStability", "score_stability"]

_SPLITS = 20
# Sets of stragglers are settled where two disjoint halves of the networks share this much of them.
_SETTLED = 0.9


class ScoreStability(NamedTuple):
    """How far scores of disjoint halves of the networks agree.

    Attributes
    ----------
    networks : (M,) int64
        1, 2, ..., half of the networks.
    correlation : dict of (M, 3) float64
        For each score, Spearman's correlation over the points between its values from so many networks and from as many others:
        mean, smallest and largest of 20 random splits; NaN where either half has no such score or a constant one.
    overlap : (M,) float64
        Mean over the splits of ``|A n B| / |A u B|`` of both halves' stragglers (misclassified at the inversion of half of the
        networks at least), in [0, 1].
    settled : int or None
        The smallest number of networks from which on the overlap stays at 0.9 or above; None where it does not.
    """

    networks: NDArray[np.int64]
    correlation: dict[str, NDArray[np.float64]]
    overlap: NDArray[np.float64]
    settled: int | None


def score_stability(per_network: Arrays, *, seed: int = 0) -> ScoreStability:
    """Compare scores of (S, n) from disjoint halves of the networks."""
    n_networks = len(per_network["confidence"])
    rng = np.random.default_rng((seed, 8))
    sizes = np.arange(1, n_networks // 2 + 1)
    found: list[dict[str, list[float]]] = []
    for m in sizes:
        of_size: dict[str, list[float]] = {}
        for _ in range(_SPLITS):
            order = rng.permutation(n_networks)
            one, other = combined(per_network, order[:m]), combined(per_network, order[m : 2 * m])
            for name in one.keys() & other.keys():
                of_size.setdefault(name, []).append(_spearman(one[name], other[name]))
            of_size.setdefault("", []).append(_overlap(one, other))
        found.append(of_size)
    names = sorted(set().union(*found) - {""}) if found else []
    overlap = np.array([_summary(of_size[""])[0] for of_size in found])
    return ScoreStability(
        networks=sizes,
        correlation={name: np.array([_summary(of_size.get(name, [])) for of_size in found]) for name in names},
        overlap=overlap,
        settled=_first_settled(sizes, overlap),
    )


def _first_settled(sizes: NDArray[np.int64], overlap: NDArray[np.float64]) -> int | None:
    below = np.flatnonzero(~(overlap >= _SETTLED))
    first = below[-1] + 1 if len(below) else 0
    return int(sizes[first]) if first < len(sizes) else None


def _overlap(one: Arrays, other: Arrays) -> float:
    a, b = (np.asarray(each.get("straggler share", np.zeros(1))) >= 0.5 for each in (one, other))
    either = (a | b).sum()
    return float((a & b).sum() / either) if either else float("nan")


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    from scipy.stats import rankdata

    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def _summary(values: list[float]) -> tuple[float, float, float]:
    known = np.array([value for value in values if np.isfinite(value)])
    return (float(known.mean()), float(known.min()), float(known.max())) if len(known) else (np.nan, np.nan, np.nan)
