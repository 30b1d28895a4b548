"""By how much statistics of two measurements differ, and what other points would leave of that.

    the same points, all of them asked        the jackknife of the differences: other points of the same kind
    the same queries, a sample of the rows    the mean of the differences (Cochran, stratified): all rows
    other queries of the same rows            both intervals for all rows, as of independent samples (Zou and Donner)
    other points                              both intervals for other points, likewise

Each interval is one at a time: of twenty differences that are none, one is called one on average.
"""

import math
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fastent.measurement.result import Measurement
from fastent.runtime.formatting import count
from fastent.statistics.intervals import (
    MINIMUM_QUERIES,
    SKEWED,
    Estimate,
    Population,
    Z,
    heaviest,
    influences,
    size_of,
)  # fmt: skip
from fastent.statistics.point_effects import (
    Effects,
    NearestRows,
    effects_of_margins,
    effects_of_mixing,
    effects_on_radius,
    standard_error,
    standard_error_of_all,
)  # fmt: skip
from fastent.statistics.strata import Strata

__all__ = ["Differences", "Terms", "difference"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
Differences = dict[str, Estimate]

# Of fewer points in which two shares differ, or of fewer points of a class, no interval is known to hold.
_DIFFERING = 20
# NearestRows of more points take too much memory.
_MOST_POINTS = 500_000


class Terms:
    """What intervals of differences from a measurement are made of, each found once."""

    def __init__(self, measured: Measurement) -> None:
        self.measured = measured
        self.values = measured.summary()

    def less(self, other: "Terms") -> tuple[Differences, str]:
        """As `difference`."""
        one, before = self.measured, other.measured
        found = {name: _unknown(value - other.values[name]) for name, value in self.values.items() if name in other.values}
        same_points = np.array_equal(one.labels, before.labels)
        same_queries = same_points and _same_rows(one.queries, before.queries, one.of_queries, before.of_queries)
        if same_queries and _same_rows(one.sampled, before.sampled, one.of_sampled, before.of_sampled):
            intervals = self._paired(other, found)
            n, q = one.shape[0], len(one.queries)
            if _asks_all(one.queries, one.of_queries):
                said = f"paired, the same {count(n)} points; intervals are for other points of the same kind"
            else:
                said = f"paired, the same {count(q)} queries; "
                said += f"intervals are for all {count(n)} rows, of the radius for other points"
        elif same_points:
            intervals = _unpaired(self.for_these_points, other.for_these_points, found)
            said = "unpaired, other queries of the same rows; intervals are as of independent samples"
        else:
            intervals = _unpaired(self.for_other_points, other.for_other_points, found)
            said = "unpaired, other points; intervals are as of independent samples"
        return found | dict(intervals), said

    def _paired(self, other: "Terms", found: Differences) -> Iterator[tuple[str, Estimate]]:
        for name in found.keys() & self.effects.keys() & other.effects.keys():
            yield name, _of_effects(found[name].value, self.effects[name], other.effects[name])
        for name in found.keys() & self.samples.keys() & other.samples.keys():
            values, population = self.samples[name]
            apart = values - other.samples[name][0]
            yield name, _around(found[name].value, apart, _error_of_mean(apart, population), population)

    @cached_property
    def effects(self) -> dict[str, Effects]:
        """Of statistics of all rows."""
        return _effects(self.measured)

    @cached_property
    def samples(self) -> dict[str, tuple[Array, Population]]:
        """Of statistics of a sample of the rows: values of the queries, and what these are a sample of."""
        return _samples(self.measured)

    @cached_property
    def for_these_points(self) -> Differences:
        """Intervals over all rows, from the sample that was asked."""
        return {name: each for name, each in self.measured.intervals().items() if not name.startswith("dimension/")}

    @cached_property
    def for_other_points(self) -> Differences:
        """Intervals for other points of the same kind, of which the rows are a sample, and the queries one of these."""
        found = {name: _of_effects(self.values[name], each) for name, each in self.effects.items()}
        of_all = _errors_of_all(self.measured)
        for name, (values, population) in self.samples.items():
            if name in of_all:
                error = math.hypot(_error_of_mean(values, population), of_all[name])
                found[name] = _around(self.values[name], values, error)
        return found


def difference(one: Measurement, other: Measurement) -> tuple[Differences, str]:
    """Of each statistic that both have: that of `one` less that of `other`, and its 95 % interval, NaN where none is known;
    and what the intervals are of, in words."""
    return Terms(one).less(Terms(other))


def _asks_all(rows: Rows, population: Population) -> bool:
    """Whether rows are all there are, in any order."""
    return len(rows) >= size_of(population)


def _same_rows(one: Rows, other: Rows, of_one: Population, of_other: Population) -> bool:
    return np.array_equal(one, other) or (_asks_all(one, of_one) and _asks_all(other, of_other))


def _unpaired(a: Differences, b: Differences, found: Differences) -> Iterator[tuple[str, Estimate]]:
    for name in found.keys() & a.keys() & b.keys():
        (x, x_error, x_low, x_high), (y, y_error, y_low, y_high) = a[name], b[name]
        if not (x_low < x_high or y_low < y_high):
            continue
        value = x - y
        low, high = value - math.hypot(x - x_low, y_high - y), value + math.hypot(x_high - x, y - y_low)
        yield name, Estimate(found[name].value, math.hypot(x_error, y_error), low, high)


def _of_effects(value: float, effects: Effects, before: Effects | None = None) -> Estimate:
    apart = effects.values if before is None else effects.values - before.values
    return _around(value, apart, standard_error(effects, before))


def _around(value: float, apart: Array, error: float, population: Population = math.inf) -> Estimate:
    """The normal interval, if enough points differ and none of them decides alone."""
    if np.isnan(apart).any() or np.count_nonzero(np.abs(apart - np.median(apart)) > 1e-12) < _DIFFERING:
        return _unknown(value)
    if heaviest(apart, population)[1] > SKEWED:
        return _unknown(value)
    return Estimate(value, error, value - Z * error, value + Z * error)


def _error_of_mean(values: Array, population: Population) -> float:
    """Of the mean over all rows, from a sample of them without replacement, from all alike or from each class."""
    if isinstance(population, Strata):
        return math.sqrt(population.variance_of_total(values)) / population.n
    return float(values.std(ddof=1)) * math.sqrt((1 - len(values) / population) / len(values))


def _effects(measured: Measurement) -> dict[str, Effects]:
    """Of statistics of all rows."""
    codes = np.searchsorted(measured.classes, measured.labels)
    counts = np.bincount(codes, minlength=len(measured.classes))
    found: dict[str, Effects] = {}
    if measured.apart is not None and counts.min() >= _DIFFERING:
        found["geometry/radius"] = effects_on_radius(measured.apart, codes, counts)
    if _asks_all(measured.queries, measured.of_queries):
        found |= _effects_of_lists(measured, codes, np.argsort(measured.queries))
    return found


def _effects_of_lists(measured: Measurement, codes: Rows, order: Rows, weights: Array | float = 1.0) -> dict[str, Effects]:
    """Of statistics of the queries' nearest neighbours, for queries in the order of these places."""
    near, margins, q = measured.neighbors, measured.margins, len(order)
    if near is None or near.indices.shape[1] < 3 or not MINIMUM_QUERIES <= q <= _MOST_POINTS:
        return {}
    lists, rows = NearestRows(near.indices[order], near.distances[order]), measured.queries[order]
    found: dict[str, Effects] = {}
    if measured.mixing is not None:
        of_mixing = effects_of_mixing(lists, codes, len(measured.classes), rows)
        found |= {f"mixing/{name}": each for name, each in of_mixing.items()}
    if margins is not None:
        index = margins.hit_index[order], margins.miss_index[order]
        of_margins = effects_of_margins(margins.hit[order], margins.miss[order], index, lists, codes, rows, weights)
        found |= {f"margins/{name}": each for name, each in of_margins.items()}
    return found


def _errors_of_all(measured: Measurement) -> dict[str, float]:
    """Standard errors that statistics of all rows have for other points, from a sample of the rows."""
    n, codes = measured.shape[0], np.searchsorted(measured.classes, measured.labels)
    rows, population = measured.queries, measured.of_queries
    weights = population.weights if isinstance(population, Strata) else np.full(len(rows), n / len(rows))
    effects = _effects_of_lists(measured, codes, np.arange(len(rows)), weights)
    return {name: standard_error_of_all(each, rows, weights, n) for name, each in effects.items()}


def _samples(measured: Measurement) -> dict[str, tuple[Array, Population]]:
    found: dict[str, tuple[Array, Population]] = {}
    mixing, margins, silhouette = measured.mixing, measured.margins, measured.silhouette
    population = measured.of_queries
    if not _asks_all(measured.queries, population):
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
    if not _asks_all(measured.sampled, population):
        if measured.lisi is not None:
            found["lisi/mean"] = measured.lisi.per_point, population
        if silhouette is not None:
            found["silhouette/exact"] = silhouette.exact, population
        if measured.soft_nearest_neighbor is not None:
            found["soft_nearest_neighbor/loss"] = measured.soft_nearest_neighbor.per_point, population
    return found


def _unknown(value: float) -> Estimate:
    return Estimate(value, math.nan, math.nan, math.nan)
