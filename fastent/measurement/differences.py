"""By how much statistics of two measurements differ, and what other points would leave of that.

    the same points, all of them asked        the jackknife of the differences: other points of the same kind
    the same queries, a sample of the rows    the mean of the differences (Cochran, stratified): all rows
    other queries, or other points            both intervals, as of independent samples (Zou and Donner)

Each interval is one at a time: of twenty differences that are none, one is called one on average.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fastent.measurement.result import Measurement
from fastent.runtime.formatting import count
from fastent.statistics.intervals import (
    MINIMUM_QUERIES,
    SKEWED,
    Estimate,
    Population,
    heaviest,
    influences,
    size_of,
)  # fmt: skip
from fastent.statistics.point_effects import (
    Effects,
    Lists,
    effects_of_margins,
    effects_of_mixing,
    effects_on_radius,
    standard_error,
)  # fmt: skip
from fastent.statistics.strata import Strata

__all__ = ["Differences", "difference"]

Array = NDArray[np.float64]
Differences = dict[str, Estimate]

_Z = 1.959963984540054
# Of fewer points in which two shares differ, or of fewer points of a class, no interval is known to hold.
_DIFFERING = 20
# Lists of more points take too much memory.
_MOST_POINTS = 500_000


def difference(one: Measurement, other: Measurement) -> tuple[Differences, str]:
    """Of each statistic that both have: that of `one` less that of `other`, and its 95 % interval, NaN where none is known;
    and what the intervals are of, in words."""
    values, before = one.summary(), other.summary()
    found = {name: _unknown(values[name] - before[name]) for name in values if name in before}
    same_points = np.array_equal(one.labels, other.labels)
    same_queries = same_points and np.array_equal(one.queries, other.queries)
    if same_queries and np.array_equal(one.sampled, other.sampled):
        intervals = _paired(one, other, found)
        n, q = one.shape[0], len(one.queries)
        if q == n:
            said = f"paired, the same {count(n)} points; intervals are for other points of the same kind"
        else:
            said = f"paired, the same {count(q)} queries; intervals are for all {count(n)} rows, of the radius for other points"
    else:
        intervals = _unpaired(one, other, found, same_points)
        said = "other queries of the same rows" if same_points else "other points"
        said = f"unpaired, {said}; intervals are as of independent samples"
    return found | dict(intervals), said


def _paired(one: Measurement, other: Measurement, found: Differences) -> Iterator[tuple[str, Estimate]]:
    effects, before = _effects(one), _effects(other)
    for name in found.keys() & effects.keys() & before.keys():
        yield name, _of_effects(found[name].value, effects[name], before[name])
    samples, others = _samples(one), _samples(other)
    for name in found.keys() & samples.keys() & others.keys():
        apart, population = samples[name][0] - others[name][0], samples[name][1]
        yield name, _around(found[name].value, apart, _error_of_mean(apart, population), population)


def _unpaired(one: Measurement, other: Measurement, found: Differences, same_points: bool) -> Iterator[tuple[str, Estimate]]:
    a, b = (_alone(each, same_points) for each in (one, other))
    for name in found.keys() & a.keys() & b.keys():
        (x, x_error, x_low, x_high), (y, y_error, y_low, y_high) = a[name], b[name]
        if not (x_low < x_high or y_low < y_high):
            continue
        value = x - y
        low, high = value - math.hypot(x - x_low, y_high - y), value + math.hypot(x_high - x, y - y_low)
        yield name, Estimate(found[name].value, math.hypot(x_error, y_error), low, high)


def _alone(measured: Measurement, same_points: bool) -> Differences:
    """Intervals of one measurement: over its rows where the other is of these too, else for other points."""
    sampled = {name: each for name, each in measured.intervals().items() if not name.startswith("dimension/")}
    if same_points:
        return sampled
    own = {name: _of_effects(measured.summary()[name], each) for name, each in _effects(measured).items()}
    return {name: each for name, each in sampled.items() if each.standard_error > 0} | own


def _of_effects(value: float, effects: Effects, before: Effects | None = None) -> Estimate:
    apart = effects.values if before is None else effects.values - before.values
    return _around(value, apart, standard_error(effects, before))


def _around(value: float, apart: Array, error: float, population: Population = math.inf) -> Estimate:
    """The normal interval, if enough points differ and none of them decides alone."""
    if np.isnan(apart).any() or np.count_nonzero(np.abs(apart - np.median(apart)) > 1e-12) < _DIFFERING:
        return _unknown(value)
    if heaviest(apart, population)[1] > SKEWED:
        return _unknown(value)
    return Estimate(value, error, value - _Z * error, value + _Z * error)


def _error_of_mean(values: Array, population: Population) -> float:
    """Of the mean over all rows, from a sample of them without replacement, from all alike or from each class."""
    if isinstance(population, Strata):
        return math.sqrt(population.variance_of_total(values)) / population.n
    return float(values.std(ddof=1)) * math.sqrt((1 - len(values) / population) / len(values))


def _effects(measured: Measurement) -> dict[str, Effects]:
    """Of statistics of all rows."""
    n, codes = measured.shape[0], np.searchsorted(measured.classes, measured.labels)
    counts = np.bincount(codes, minlength=len(measured.classes))
    found: dict[str, Effects] = {}
    if measured.apart is not None and counts.min() >= _DIFFERING:
        found["geometry/radius"] = effects_on_radius(measured.apart, codes, counts)
    near, margins = measured.neighbors, measured.margins
    if near is None or len(measured.queries) < n or near.indices.shape[1] < 3 or not MINIMUM_QUERIES <= n <= _MOST_POINTS:
        return found
    lists = Lists(near.indices, near.distances)
    if measured.mixing is not None:
        of_mixing = effects_of_mixing(lists, codes, len(measured.classes))
        found |= {f"mixing/{name}": each for name, each in of_mixing.items()}
    if margins is not None:
        index = margins.hit_index, margins.miss_index
        of_margins = effects_of_margins(margins.hit, margins.miss, index, lists, codes)
        found |= {f"margins/{name}": each for name, each in of_margins.items()}
    return found


def _samples(measured: Measurement) -> dict[str, tuple[Array, Population]]:
    """Of statistics of a sample of the rows: values of the queries, and what these are a sample of."""
    found: dict[str, tuple[Array, Population]] = {}
    mixing, margins, silhouette = measured.mixing, measured.margins, measured.silhouette
    population = measured.of_queries
    if len(measured.queries) < size_of(population):
        if mixing is not None:
            wrong = mixing.vote != measured.labels[measured.queries]
            found["mixing/overlap"] = mixing.purity, population
            found["mixing/entropy"] = mixing.entropy, population
            found["mixing/error"] = wrong.astype(np.float64), population
        if margins is not None:
            hit, miss = margins.hit, margins.miss
            found["margins/relative"] = margins.relative, population
            found["margins/margin"] = margins.margin, population
            found["margins/n3"] = margins.missed.astype(np.float64), population
            if not math.isnan(margins.n2):
                found["margins/n2"] = influences(hit, miss, population), population
    population = measured.of_sampled
    if len(measured.sampled) < size_of(population):
        if measured.lisi is not None:
            found["lisi/mean"] = measured.lisi.per_point, population
        if silhouette is not None:
            found["silhouette/exact"] = silhouette.exact, population
        if measured.soft_nearest_neighbor is not None:
            found["soft_nearest_neighbor/loss"] = measured.soft_nearest_neighbor.per_point, population
    return found


def _unknown(value: float) -> Estimate:
    return Estimate(value, math.nan, math.nan, math.nan)
