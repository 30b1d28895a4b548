"""The stragglers of a run as a list and a table: their scores, from the run alone, and what else is known of them."""

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.activations.record_files import with_config
from fastent.io.files import output_folder, write_text
from fastent.io.tabular import Tabular
from fastent.printable import printable, storable
from fastent.training.run_records import RunRecords

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Hardness", "Nearest", "Predictions", "Stragglers", "hardness", "straggler_scores"]


class Hardness(NamedTuple):
    """How hard p training points were to learn, each (p,), larger is harder; NaN for points that were not recorded.

    share: of the seeds with an inversion of the point's class, in which it is a straggler. The others are means over all seeds:
    wrong, the share of the records `run.evenly_spaced` at which it is misclassified; forgotten, transitions from right to wrong
    between them; at_end, the share of the seeds that misclassify it at the last epoch.
    """

    share: NDArray[np.float64]
    wrong: NDArray[np.float64]
    forgotten: NDArray[np.float64]
    at_end: NDArray[np.float64]


class Nearest(NamedTuple):
    """The nearest other training point of the same class (hit) and of another (miss) of p points, Euclidean, as stored.

    hit, miss: (p,) distances, NaN where there is none. hit_point, miss_point: (p,) positions among the run's points, or -1.
    """

    hit: NDArray[np.float64]
    hit_point: NDArray[np.int64]
    miss: NDArray[np.float64]
    miss_point: NDArray[np.int64]

    @property
    def nearness(self) -> NDArray[np.float64]:
        """(p,) hit / (hit + miss), in [0, 1]: above 0.5 another class is nearer; 0.5 where both are 0."""
        both = self.hit + self.miss
        return np.where(both == 0, 0.5, self.hit / np.where(both == 0, 1, both))


class Predictions(NamedTuple):
    """Predictions of several networks for m points.

    votes: (m, C) share of the networks that predict each class. probability: (m, C) mean of their softmax outputs. Both are NaN
    for a point that was asked of no network.
    """

    votes: NDArray[np.float64]
    probability: NDArray[np.float64]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(m,) the class that most networks predict, ties by the mean probability; -1 for a point asked of none."""
        place = np.lexsort((self.probability, self.votes), axis=1)[:, -1]
        return np.where(np.isnan(self.votes[:, 0]), -1, place)

    def of(self, classes: NDArray[np.int64]) -> NDArray[np.float64]:
        """(m,) mean probability of one class for each point; NaN where the class is -1."""
        found = np.take_along_axis(self.probability, np.maximum(classes, 0)[:, None], axis=1)[:, 0]
        return np.where(classes < 0, np.nan, found)


@dataclass(frozen=True, eq=False)
class Stragglers(Tabular):
    """The training points that are stragglers in at least one network, largest share first, ties by the row number.

    Attributes
    ----------
    points : (m,) int64
        Positions among the run's points.
    index : (m,) int64
        Row numbers in the training set as stored.
    labels : (m,)
        Their labels as stored.
    codes : (m,) int64
        Their classes, as positions in `class_names`.
    class_names : tuple of str
    hardness : Hardness
        How hard they were to learn, each (m,).
    at_inversion : Predictions or None
        Of the networks with an inversion of the point's class, with their weights there: `votes` and `probability`, both
        (m, C) in [0, 1], and `predicted` (m,).
    at_end : Predictions or None
        Of all networks, with their last weights.
    nearest : Nearest or None
        Nearest training points, of the same class and of another, as stored.
    neighbor_index : (n,) int64
        Row numbers as stored of all points of the run, for the positions in `nearest`.
    config : dict
        Of the run.
    notes : tuple of str
        Why something is not known.
    """

    points: NDArray[np.int64]
    index: NDArray[np.int64]
    labels: NDArray[Any]
    codes: NDArray[np.int64]
    class_names: tuple[str, ...]
    hardness: Hardness
    at_inversion: Predictions | None
    at_end: Predictions | None
    nearest: Nearest | None
    neighbor_index: NDArray[np.int64]
    config: dict[str, Any]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.points)

    def take(self, places: NDArray[np.int64]) -> "Stragglers":
        """Some of them, by their places in this list."""
        several: dict[str, Any] = {
            name: None if of is None else type(of)(*(each[places] for each in of))
            for name in ("hardness", "at_inversion", "at_end", "nearest")
            for of in (getattr(self, name),)
        }
        single: dict[str, Any] = {name: getattr(self, name)[places] for name in ("points", "index", "labels", "codes")}
        return replace(self, **single, **several)

    def table(self) -> "pyarrow.Table":
        """A row for each straggler: index, label, class, scores, predictions with probabilities, and its hit and miss.

        The probabilities are means over networks, of the class that most of them predict and of the point's own. What is not
        known has no column, or is null where it is not known of some points. The run's configuration is in the metadata.
        """
        import pyarrow

        names = storable(np.array(self.class_names))
        columns: dict[str, Any] = {"index": self.index, "label": storable(self.labels), "class": names[self.codes]}
        columns |= {
            "share": self.hardness.share,
            "epochs_misclassified": self.hardness.wrong,
            "times_forgotten": self.hardness.forgotten,
            "wrong_at_end": self.hardness.at_end,
        }
        for when, found in (("inversion", self.at_inversion), ("end", self.at_end)):
            if found is not None:
                columns |= {
                    f"predicted_at_{when}": pyarrow.array(names[found.predicted], mask=found.predicted < 0),
                    f"probability_at_{when}": found.of(found.predicted),
                    f"own_probability_at_{when}": found.of(self.codes),
                }
        if self.nearest is not None:
            for which in ("hit", "miss"):
                place = getattr(self.nearest, f"{which}_point")
                columns |= {
                    f"{which}_index": pyarrow.array(self.neighbor_index[place], mask=place < 0),
                    f"{which}_distance": getattr(self.nearest, which),
                }
        arrays = {
            name: values if isinstance(values, pyarrow.Array) else pyarrow.array(values, from_pandas=True)
            for name, values in columns.items()
        }
        return with_config(pyarrow.table(arrays), self.config)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `stragglers.parquet` and `stragglers.csv` into a folder, which is made if it is missing."""
        place = output_folder(folder)
        self.to_parquet(place / "stragglers.parquet")
        self.to_csv(place / "stragglers.csv")

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write `table()` as text with commas, whole or not at all; what is not known is empty."""
        import io

        import pyarrow.csv

        written = io.BytesIO()
        pyarrow.csv.write_csv(self.table(), written)
        write_text(path, written.getvalue().decode("utf-8"))

    def __repr__(self) -> str:
        most = int((self.hardness.share >= 0.5).sum())
        known = [said for said, of in (("predictions", self.at_inversion), ("hits and misses", self.nearest)) if of is not None]
        with_what = f", with {' and '.join(known)}" if known else ""
        return printable(f"Stragglers({len(self):,} points, {most:,} of them in at least half of the networks{with_what})")


def straggler_scores(run: RunRecords) -> Stragglers:
    """What the run alone tells of its stragglers: how hard they were to learn."""
    share = run.straggler_share
    points = np.flatnonzero(share > 0)
    points = points[np.lexsort((run.index[points], -share[points]))]
    return Stragglers(
        points=points,
        index=run.index[points],
        labels=run.labels[points],
        codes=run.codes[points],
        class_names=tuple(run.class_names),
        hardness=hardness(run, points),
        at_inversion=None,
        at_end=None,
        nearest=None,
        neighbor_index=run.index,
        config=run.config,
    )


def hardness(run: RunRecords, points: NDArray[np.int64]) -> Hardness:
    """Of the points at these positions, from the points that each network misclassified at each epoch."""
    place = np.arange(len(run.index))
    if run.recorded is not None:
        place = np.full(len(run.index), -1)
        place[run.recorded] = np.arange(len(run.recorded))
    place = place[points]
    wrong, forgotten, at_end = np.zeros((3, len(points)))
    counted = np.append(run.evenly_spaced, -1)[:, None]
    for bits in run.wrong:
        # Bits as numpy.packbits orders them, of these points only: all of them would not fit for long runs.
        mine = (bits[counted, place >> 3] >> (7 - (place & 7)).astype(np.uint8) & 1).astype(bool)
        wrong += mine[:-1].mean(0)
        forgotten += (~mine[:-2] & mine[1:-1]).sum(0)
        at_end += mine[-1]
    unknown = np.where(place < 0, np.nan, 1 / run.n_seeds)
    return Hardness(run.straggler_share[points], wrong * unknown, forgotten * unknown, at_end * unknown)
