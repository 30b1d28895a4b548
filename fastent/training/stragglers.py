"""The stragglers of a run, one by one: how hard each was to learn, what the networks take it for, and what lies nearest."""

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.activations.record_files import with_config
from fastent.arrays.validation import as_features, check_finite, check_lengths
from fastent.data.stored_rows import stored_pictures
from fastent.data.training_set import DATA_OPTIONS, Data, load_data, reload_data
from fastent.errors import FastentError
from fastent.io.files import output_folder, write_text
from fastent.io.tabular import Tabular
from fastent.printable import printable, storable
from fastent.runtime.progress import Progress
from fastent.search.few_queries import MEMORY, are_few, are_too_many, distances_in_blocks
from fastent.training.run import Run

if TYPE_CHECKING:
    import pyarrow

    from fastent.training.predictions import Predictions

__all__ = ["Hardness", "Nearest", "Stragglers", "as_rows", "hardness", "nearest", "stragglers", "stragglers_of"]


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
    at_inversion: "Predictions | None"
    at_end: "Predictions | None"
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


def stragglers(run: Run, data: Any = None, *, progress: Progress = None) -> Stragglers:
    """Describe each straggler of a run: how hard it was to learn, what networks predict, and its nearest hit and miss.

    The weights at the inversions are not kept with a run. Training is repeated up to the last of them, which takes as long as
    it took before, and the repeated training must misclassify the same points.

    Parameters
    ----------
    run : Run
        From `fe.train`. Of a run over data on disk (`fe.train_streamed`) there are scores, but no predictions.
    data : optional
        What the run was trained on: the result of `fe.load_data`, or arrays or a path as `fe.train` takes them, to which the
        options of the run are applied. By default they are read again from where they were. Without them there are scores only.
    progress : bool or callable, optional
        As for `fe.train`.

    Returns
    -------
    Stragglers

    Raises
    ------
    FastentError
        Other data than the run was trained on.

    References
    ----------
    Ciceri et al., "Inversion dynamics of class manifolds in deep learning reveals tradeoffs underlying generalization", 2024.

    Examples
    --------
    >>> import fastent as fe
    >>> found = fe.stragglers(fe.train("digits", seeds=2, epochs=300))
    >>> found.table().column_names[:4]
    ['index', 'label', 'class', 'share']
    """
    if not isinstance(run, Run):
        raise FastentError(f"run is a {type(run).__name__}: pass what fe.train or fe.load_run returned")
    notes: list[str] = []
    if run.config.get("streamed"):
        if data is not None:
            raise FastentError("the run was streamed from disk, and its data are read from there: leave data out")
        return stragglers_of(run, stored_pictures(run.config, run.codes))
    if data is None:
        try:
            data = reload_data(run.config)
        except FastentError as error:
            notes.append(f"without data: {error}")
    elif not isinstance(data, Data):
        data = load_data(data, **{name: run.config[name] for name in DATA_OPTIONS})
    return stragglers_of(run, data, progress=progress, notes=notes)


def stragglers_of(
    run: Run, data: Any = None, *, repeat: bool = True, progress: Progress = None, notes: "list[str] | None" = None
) -> Stragglers:
    """The same of `Data`, of the points as stored where that is all there is, or of the run alone.

    `repeat` says whether training may be repeated, for the predictions.
    """
    notes = [] if notes is None else notes
    share = run.straggler_share
    points = np.flatnonzero(share > 0)
    points = points[np.lexsort((run.index[points], -share[points]))]
    at_inversion, at_end = None, None
    if isinstance(data, Data) and repeat:
        at_inversion, at_end = _predictions(run, data, points, progress, notes)
    elif run.config.get("streamed"):
        notes.append("the run was streamed from disk: what its networks predicted is not known")
    stored = data.raw if isinstance(data, Data) else data
    near = None if stored is None or not len(points) else nearest(as_rows(stored, len(run.index)), run.codes, points)
    if near is None and stored is not None and len(points):
        notes.append("hits and misses are left out: there are too many points to search")
    return Stragglers(
        points=points,
        index=run.index[points],
        labels=run.labels[points],
        codes=run.codes[points],
        class_names=tuple(run.class_names),
        hardness=hardness(run, points),
        at_inversion=at_inversion,
        at_end=at_end,
        nearest=near,
        neighbor_index=run.index,
        config=run.config,
        notes=tuple(notes),
    )


def _predictions(
    run: Run, data: Data, points: NDArray[np.int64], progress: Progress, notes: list[str]
) -> "tuple[Predictions | None, Predictions | None]":
    """At the inversions, and at the end; a note where they cannot be known."""
    from fastent.training.predictions import predictions_at_end, predictions_at_inversions
    from fastent.training.remade import check_data_of

    check_data_of(run, data)
    try:
        at_end = predictions_at_end(run, data, points)
        return predictions_at_inversions(run, data, points, progress=progress), at_end
    except FastentError as error:
        notes.append(f"predictions are not known: {error}")
        return None, None


def hardness(run: Run, points: NDArray[np.int64]) -> Hardness:
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


def as_rows(points: Any, n: int) -> Any:
    """Points (n, ...) as checked rows (n, d), which stay where they are."""
    if getattr(points, "ndim", 2) > 2:
        points = points.reshape(len(points), -1)
    rows = as_features(points, name="points")
    check_lengths(n, len(rows), features_name="run", labels_name="points")
    check_finite(rows, name="points")
    return rows


def nearest(rows: Any, codes: NDArray[np.int64], points: NDArray[np.int64]) -> Nearest | None:
    """The nearest rows of those at these positions, of the same class and of another; None if there are too many to read."""
    if are_too_many(len(points), rows.shape):
        return None
    if are_few(len(points), rows.shape) or len(np.unique(codes)) < 2:
        return _of_all_pairs(rows, codes, points)
    from fastent.statistics.margins import margins

    found = margins(rows, codes, queries=points, memory_budget=MEMORY)
    alone = np.isnan(found.hit)
    return Nearest(found.hit, np.where(alone, -1, found.hit_index), found.miss, found.miss_index)


def _of_all_pairs(rows: Any, codes: NDArray[np.int64], points: NDArray[np.int64]) -> Nearest:
    """The same result as `fe.margins`, ties by the lower row number too; with one class there are no misses."""
    distance, place = np.full((2, len(points)), np.nan), np.full((2, len(points)), -1)
    for some, apart in distances_in_blocks(rows, points):
        own = codes[points[some]][:, None] == codes[None]
        for which, mask in enumerate((own, ~own)):
            masked = np.where(mask, apart, np.inf)
            first = masked.argmin(1)
            found = np.take_along_axis(masked, first[:, None], 1)[:, 0]
            known = np.isfinite(found)
            distance[which, some], place[which, some] = np.where(known, found, np.nan), np.where(known, first, -1)
    return Nearest(distance[0], place[0], distance[1], place[1])
