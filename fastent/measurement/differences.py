"""By how much statistics of two measurements differ, and what other points would leave of that.

    the same points, all of them asked        the jackknife of the differences: other points of the same kind
    the same queries, a sample of the rows    the mean of the differences (Cochran, stratified): all rows
    other queries of the same rows            both intervals for all rows, as of independent samples (Zou and Donner)
    other points                              both intervals for other points, likewise

Each interval is one at a time: of twenty differences that are none, one is called one on average.
"""

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.measurement.common_neighbors import keep_no_neighbors, same_points, same_queries
from fastent.measurement.differing_settings import confounded
from fastent.measurement.point_values import MOST_POINTS, PointValues, asks_all, same_rows
from fastent.measurement.result import Measurement
from fastent.runtime.formatting import count
from fastent.statistics.intervals import (
    MINIMUM_QUERIES,
    SKEWED,
    Estimate,
    Population,
    Z,
    heaviest,
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


class Terms:
    """What intervals of differences from a measurement come to, each found once."""

    def __init__(self, points: PointValues, settings: Mapping[str, Any]) -> None:
        """settings : what `Measurement.as_json` has of them."""
        self.points, self.settings = points, settings
        self.values = {name: each.value for name, each in points.statistics.items()}

    def less(self, other: "Terms") -> tuple[Differences, str]:
        """As `difference`."""
        one, before = self.points, other.points
        found = {name: _unknown(value - other.values[name]) for name, value in self.values.items() if name in other.values}
        if same_queries(one, before) and same_rows(one.sampled, before.sampled, one.of_sampled, before.of_sampled):
            intervals = self._paired(other, found)
            said = _paired_words(one, before)
        elif same_points(one, before):
            intervals = _unpaired(self.for_these_points, other.for_these_points, found)
            said = "unpaired, other queries of the same rows; intervals are as of independent samples"
        else:
            intervals = _unpaired(self.for_other_points, other.for_other_points, found)
            said = "unpaired, other points; intervals are as of independent samples"
        found |= dict(intervals)
        unlike, why = confounded(self.settings, other.settings, found)
        found |= {name: _unknown(found[name].value) for name in unlike}
        if unlike == found.keys():
            said = said.split(";")[0]
        return found, f"{said}; {why}" if why else said

    def _paired(self, other: "Terms", found: Differences) -> Iterator[tuple[str, Estimate]]:
        for name in found.keys() & self.effects.keys() & other.effects.keys():
            yield name, _of_effects(found[name].value, self.effects[name], other.effects[name])
        for name in found.keys() & self.samples.keys() & other.samples.keys():
            population = self.points.population(name)
            apart = self.samples[name] - other.samples[name]
            yield name, _around(found[name].value, apart, _error_of_mean(apart, population), population)

    @cached_property
    def effects(self) -> dict[str, Effects]:
        """Of statistics of all rows."""
        return _effects(self.points)

    @property
    def samples(self) -> dict[str, Array]:
        """Of statistics of a sample of the rows: values of the sampled rows."""
        return self.points.samples

    @cached_property
    def for_these_points(self) -> Differences:
        """Intervals over all rows, from the sample that was asked."""
        known = {name: each for name, each in self.points.statistics.items() if not math.isnan(each.low)}
        return {name: each for name, each in known.items() if not name.startswith("dimension/")}

    @cached_property
    def for_other_points(self) -> Differences:
        """Intervals for other points of the same kind, of which the rows are a sample, and the queries one of these."""
        found = {name: _of_effects(self.values[name], each) for name, each in self.effects.items()}
        of_all = _errors_of_all(self.points)
        for name, values in self.samples.items():
            if name in of_all:
                error = math.hypot(_error_of_mean(values, self.points.population(name)), of_all[name])
                found[name] = _around(self.values[name], values, error)
        return found


def difference(one: Measurement, other: Measurement) -> tuple[Differences, str]:
    """Of each statistic that both have: that of `one` less that of `other`, and its 95 % interval, NaN where none is known;
    and what the intervals are of, in words."""
    return Terms(PointValues.of(one), one.as_json()).less(Terms(PointValues.of(other), other.as_json()))


def _paired_words(one: PointValues, before: PointValues) -> str:
    """What makes points the same are their labels and the queries alone; neighbours in common are evidence."""
    n, q = count(len(one.codes)), count(len(one.queries))
    alike = keep_no_neighbors(one, before)
    whole = asks_all(one.queries, one.of_queries)
    those = f"{n} points" if whole else f"{q} queries"
    said = f"paired, the same {those}; " if alike is False else f"paired, the same labels, taken for the same {those}; "
    said += (
        "intervals are for other points of the same kind"
        if whole
        else f"intervals are for all {n} rows, of the radius for other points"
    )
    if alike:
        said += (
            "; but they have no more neighbours in common than unrelated points with these labels would: check that these are "
            "the same rows, in the same order"
        )
    return said


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


def _effects(of: PointValues) -> dict[str, Effects]:
    """Of statistics of all rows."""
    counts = np.bincount(of.codes, minlength=len(of.classes))
    found: dict[str, Effects] = {}
    if of.apart is not None and counts.min() >= _DIFFERING:
        found["geometry/radius"] = effects_on_radius(of.apart, of.codes, counts)
    if asks_all(of.queries, of.of_queries):
        found |= _effects_of_lists(of, np.argsort(of.queries))
    return found


def _effects_of_lists(of: PointValues, order: Rows, weights: Array | float = 1.0) -> dict[str, Effects]:
    """Of statistics of the queries' nearest neighbours, for queries in the order of these places."""
    if of.lists is None or of.lists.indices.shape[1] < 3 or not MINIMUM_QUERIES <= len(order) <= MOST_POINTS:
        return {}
    lists, rows = NearestRows(*(part[order] for part in of.lists)), of.queries[order]
    found: dict[str, Effects] = {}
    if "mixing/overlap" in of.statistics:
        of_mixing = effects_of_mixing(lists, of.codes, len(of.classes), rows)
        found |= {f"mixing/{name}": each for name, each in of_mixing.items()}
    if of.nearest is not None:
        hit, miss, hit_index, miss_index = of.nearest
        index = hit_index[order], miss_index[order]
        of_margins = effects_of_margins(hit[order], miss[order], index, lists, of.codes, rows, weights)
        found |= {f"margins/{name}": each for name, each in of_margins.items()}
    return found


def _errors_of_all(of: PointValues) -> dict[str, float]:
    """Standard errors that statistics of all rows have for other points, from a sample of the rows."""
    n, rows, population = len(of.codes), of.queries, of.of_queries
    weights = population.weights if isinstance(population, Strata) else np.full(len(rows), n / len(rows))
    effects = _effects_of_lists(of, np.arange(len(rows)), weights)
    return {name: standard_error_of_all(each, rows, weights, n) for name, each in effects.items()}


def _unknown(value: float) -> Estimate:
    return Estimate(value, math.nan, math.nan, math.nan)
