"""What differences of measurements are made of: what was found of each point, in memory or in a file beside the summary."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.io.checksums import read_checked_npz, write_checked_npz
from fastent.io.reading import reading
from fastent.printable import storable
from fastent.statistics.intervals import Estimate, Population, influences, size_of
from fastent.statistics.point_effects import NearestRows
from fastent.statistics.strata import Strata

__all__ = ["MOST_POINTS", "POINTS_FILE", "HitsAndMisses", "PointValues", "asks_all", "load_point_values", "same_rows"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

POINTS_FILE = "differences.npz"
# Lists of more queries take too much memory for a jackknife, and too much room in a file.
MOST_POINTS = 500_000
_REMEDY = "measure it again"
# Of the rows that were compared with all others; what else is sampled is of the queries.
_OF_SAMPLED = ("lisi/mean", "silhouette/exact", "soft_nearest_neighbor/loss")


class HitsAndMisses(NamedTuple):
    """The nearest row of a query's own class, and of another: distances (q,) and row numbers (q,)."""

    hit: Array
    miss: Array
    hit_index: Rows
    miss_index: Rows


@dataclass(frozen=True, eq=False)
class PointValues:
    """What a measurement found of n points.

    Attributes
    ----------
    statistics : dict of str to Estimate
        NaN for the error and the ends of an interval where none is known.
    classes : (C,)
    codes : (n,) int64
    queries, sampled, of_queries, of_sampled
        As of `Measurement`.
    lists : NearestRows or None
        Of the queries; a file has none of more than `MOST_POINTS`.
    nearest : HitsAndMisses or None
    apart : (n,) float64 or None
        Distance of each row to the mean of its class.
    samples : dict of str to (q,) or (s,) float64
        Values of the sampled rows whose mean is the statistic of that name; none where all rows were asked.
    """

    statistics: dict[str, Estimate]
    classes: NDArray[Any]
    codes: Rows
    queries: Rows
    sampled: Rows
    of_queries: Population
    of_sampled: Population
    lists: NearestRows | None
    nearest: HitsAndMisses | None
    apart: Array | None
    samples: dict[str, Array]

    @classmethod
    def of(cls, measured: Any) -> "PointValues":
        """What a `Measurement` has."""
        intervals, no = measured.intervals(), math.nan
        near, margins = measured.neighbors, measured.margins
        return cls(
            statistics={name: intervals.get(name, Estimate(value, no, no, no)) for name, value in measured.summary().items()},
            classes=measured.classes,
            codes=np.searchsorted(measured.classes, measured.labels),
            queries=measured.queries,
            sampled=measured.sampled,
            of_queries=measured.of_queries,
            of_sampled=measured.of_sampled,
            lists=None if near is None else NearestRows(near.indices, near.distances),
            nearest=None if margins is None else HitsAndMisses(*(getattr(margins, name) for name in HitsAndMisses._fields)),
            apart=measured.apart,
            samples=_samples(measured),
        )

    def population(self, statistic: str) -> Population:
        """What the values in `samples` are a sample of."""
        return self.of_sampled if statistic in _OF_SAMPLED else self.of_queries

    def save(self, folder: Path) -> None:
        """Write everything to a file in the folder, with a checksum, whole or not at all."""
        arrays: dict[str, Any] = {
            "names": np.array(list(self.statistics)),
            "estimates": np.array(list(self.statistics.values()), float).reshape(-1, len(Estimate._fields)),
            "classes": storable(self.classes.astype(str) if self.classes.dtype.hasobject else self.classes),
            **{name: _narrow(getattr(self, name)) for name in ("codes", "queries", "sampled")},
        }
        for name in ("of_queries", "of_sampled"):
            population = getattr(self, name)
            strata = population._asdict() if isinstance(population, Strata) else {"size": np.array(population)}
            arrays |= {f"{name}.{part}": values for part, values in strata.items()}
        for name in ("lists", "nearest"):
            if (part := getattr(self, name)) is not None and (name != "lists" or len(self.queries) <= MOST_POINTS):
                arrays |= {f"{name}.{field}": _narrow(values) for field, values in part._asdict().items()}
        if self.apart is not None:
            arrays["apart"] = self.apart
        arrays |= {f"samples.{name}": values for name, values in self.samples.items()}
        write_checked_npz(folder / POINTS_FILE, arrays)


def load_point_values(folder: str | os.PathLike[str]) -> PointValues | None:
    """What `PointValues.save` wrote into a folder; None if it is not there, as in folders of earlier versions.

    Raises
    ------
    FastentError
        The file is damaged.
    """
    path = Path(folder) / POINTS_FILE
    if not path.is_file():
        return None
    arrays = read_checked_npz(path, _REMEDY)

    def wide(values: NDArray[Any]) -> NDArray[Any]:
        return values.astype(np.int64) if values.dtype.kind in "iu" else values

    def parts(name: str) -> dict[str, Any]:
        start = f"{name}."
        return {key.removeprefix(start): wide(values) for key, values in arrays.items() if key.startswith(start)}

    def population(name: str) -> Population:
        found = parts(name)
        return float(found["size"]) if "size" in found else Strata(**found)

    with reading(path, _REMEDY, "no file that fastent measure wrote"):
        return PointValues(
            statistics={
                name: Estimate(*row) for name, row in zip(arrays["names"].tolist(), arrays["estimates"].tolist(), strict=True)
            },
            classes=arrays["classes"],
            codes=wide(arrays["codes"]),
            queries=wide(arrays["queries"]),
            sampled=wide(arrays["sampled"]),
            of_queries=population("of_queries"),
            of_sampled=population("of_sampled"),
            lists=NearestRows(**found) if (found := parts("lists")) else None,
            nearest=HitsAndMisses(**found) if (found := parts("nearest")) else None,
            apart=arrays.get("apart"),
            samples=parts("samples"),
        )


def asks_all(rows: Rows, population: Population) -> bool:
    """Whether rows are all there are, in any order."""
    return len(rows) >= size_of(population)


def same_rows(one: Rows, other: Rows, of_one: Population, of_other: Population) -> bool:
    return np.array_equal(one, other) or (asks_all(one, of_one) and asks_all(other, of_other))


def _narrow(values: NDArray[Any]) -> NDArray[Any]:
    """Row numbers and codes in half the bytes, where they fit."""
    fits = values.dtype == np.int64 and (not values.size or -(2**31) <= values.min() <= values.max() < 2**31)
    return values.astype(np.int32) if fits else values


def _samples(measured: Any) -> dict[str, Array]:
    found: dict[str, Array] = {}
    mixing, margins, population = measured.mixing, measured.margins, measured.of_queries
    if not asks_all(measured.queries, population):
        if mixing is not None:
            wrong = mixing.vote != measured.labels[measured.queries]
            found["mixing/overlap"] = mixing.purity
            found["mixing/entropy"] = mixing.entropy
            found["mixing/error"] = wrong.astype(np.float64)
        if margins is not None:
            found["margins/relative"] = margins.relative
            found["margins/margin"] = margins.margin
            found["margins/n3"] = margins.missed.astype(np.float64)
            if not math.isnan(margins.n2):
                found["margins/n2"] = influences(margins.hit, margins.miss, population)
    if not asks_all(measured.sampled, measured.of_sampled):
        if measured.lisi is not None:
            found["lisi/mean"] = measured.lisi.per_point
        if measured.silhouette is not None:
            found["silhouette/exact"] = measured.silhouette.exact
        if measured.soft_nearest_neighbor is not None:
            found["soft_nearest_neighbor/loss"] = measured.soft_nearest_neighbor.per_point
    return found
