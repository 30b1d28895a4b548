"""Near duplicates as they were found: pairs of rows, the groups that they form, and which rows to keep."""

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.files import output_folder, write_parquet, write_text
from fastent.io.tabular import Tabular
from fastent.printable import storable

if TYPE_CHECKING:
    import pyarrow

__all__ = ["NearDuplicates"]


@dataclass(frozen=True, eq=False)
class NearDuplicates(Tabular):
    """Pairs of rows that lie within a radius of each other, and the groups that they form.

    Attributes
    ----------
    pairs : (m, 2) int64
        Row numbers, the lower one first, each pair once, ascending. With `queries`: a query, and a row of X.
    distances : (m,) float32
        Of each pair, computed and compared with the radius in double precision.
    nearest : (q,) int64
        The nearest row within the radius, of each row of X or of each query; ties to the lower number; -1 if there is none.
    nearest_distance : (q,) float32
        Its distance; NaN if there is none.
    groups : (n,) int64 or None
        The group of each row, named by the lowest row number in it: rows that are joined by pairs, or by chains of pairs, so
        that two rows of a group may lie farther apart than the radius. None with `queries`.
    keep : (q,) bool
        One row of each group, the lowest: `X[keep]` has no near duplicates left. With `queries`: those without a near
        duplicate in X.
    n : int
        How many rows X has.
    radius : float
        The largest distance of a pair.
    metric : str
        "euclidean" or "cosine".
    quantile : float or None
        Where the radius is a quantile of distances to the nearest row.
    sampled : int
        Of how many rows that is the quantile; 0 if the radius was given.
    pair_labels : (m, 2) or None
        Labels of the two rows of each pair.
    queries : int or None
        How many rows of another set were compared with those of X; None if the rows of X were compared with each other.
    """

    pairs: NDArray[np.int64]
    distances: NDArray[np.float32]
    nearest: NDArray[np.int64]
    nearest_distance: NDArray[np.float32]
    groups: NDArray[np.int64] | None
    keep: NDArray[np.bool_]
    n: int
    radius: float
    metric: Literal["euclidean", "cosine"] = "euclidean"
    quantile: float | None = None
    sampled: int = 0
    pair_labels: NDArray[Any] | None = None
    queries: int | None = None

    @property
    def conflicts(self) -> NDArray[np.bool_]:
        """Which pairs have two labels: one of the two may be wrong. (m,) bool."""
        if self.pair_labels is None:
            raise FastentError("labels were not given: call fe.near_duplicates(X, ..., labels=y)")
        differ: NDArray[np.bool_] = self.pair_labels[:, 0] != self.pair_labels[:, 1]
        return differ

    def table(self) -> "pyarrow.Table":
        """A row for each row that has a near duplicate, group by group: row, group, keep, nearest, distance.

        With `queries` there are no groups: row, a query; nearest, a row of X; distance.
        """
        import pyarrow

        rows = np.flatnonzero(self.nearest >= 0)
        columns: dict[str, Any] = {"row": rows}
        if self.groups is not None:
            rows = rows[np.argsort(self.groups[rows], kind="stable")]
            columns = {"row": rows, "group": self.groups[rows], "keep": self.keep[rows]}
        return pyarrow.table(columns | {"nearest": self.nearest[rows], "distance": self.nearest_distance[rows]})

    def pair_table(self) -> "pyarrow.Table":
        """A row for each pair: row, other, distance, and the labels of both if there are any."""
        import pyarrow

        columns: dict[str, Any] = {"row": self.pairs[:, 0], "other": self.pairs[:, 1], "distance": self.distances}
        if self.pair_labels is not None:
            names = ("label", "other_label")
            columns |= {name: storable(np.ascontiguousarray(self.pair_labels[:, i])) for i, name in enumerate(names)}
        return pyarrow.table(columns)

    def summary(self) -> dict[str, Any]:
        """The radius and the counts, by name: `groups` of at least two rows; `conflicts` where there are labels."""
        found: dict[str, Any] = {"rows": self.n}
        if self.queries is not None:
            found["queries"] = self.queries
        found |= {"metric": self.metric, "radius": self.radius}
        if self.quantile is not None:
            found |= {"quantile": self.quantile, "sampled": self.sampled}
        found |= {"pairs": len(self.pairs), "rows_with_duplicates": int((self.nearest >= 0).sum())}
        if self.groups is not None:
            sizes = np.bincount(self.groups)
            found |= {"groups": int((sizes > 1).sum()), "largest_group": int(sizes.max())}
        found["rows_to_drop"] = int((~self.keep).sum())
        if self.pair_labels is not None:
            found["conflicts"] = int(self.conflicts.sum())
        return found

    def save(self, folder: str | os.PathLike[str], *, asked: dict[str, Any] | None = None) -> None:
        """Write `pairs.parquet`, `groups.parquet` and `summary.json` into a folder, which is made if it is missing.

        `asked`, where the rows come from and with which options they were compared, is kept in the summary.
        """
        place = output_folder(folder)
        write_parquet(place / "pairs.parquet", self.pair_table())
        write_parquet(place / "groups.parquet", self.table())
        summary = self.summary() | ({} if asked is None else {"asked": asked})
        write_text(place / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")

    def __repr__(self) -> str:
        found = self.summary()
        said = [_counted(found["pairs"], "pair")]
        if self.groups is not None:
            largest = f" of up to {found['largest_group']:,}" if found["groups"] else ""
            said.append(_counted(found["groups"], "group") + largest)
        said.append(_counted(found["rows_to_drop"], "row") + " to drop")
        if "conflicts" in found:
            said.append(_counted(found["conflicts"], "pair") + " with two labels")
        rows = _counted(len(self.keep), "row") + ("" if self.queries is None else f" against {self.n:,}")
        how = "" if self.quantile is None else f", quantile {self.quantile:g} of the nearest distances of {self.sampled:,} rows"
        return f"NearDuplicates({rows}, {self.metric} radius {self.radius:.6g}{how}: {', '.join(said)})"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
