"""The stragglers of a run, one by one: how hard each was to learn, what the networks take it for, and what lies nearest."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import as_features, check_finite, check_lengths
from fastent.data.stored_rows import stored_pictures
from fastent.data.training_set import DATA_OPTIONS, Data, load_data, reload_data
from fastent.errors import FastentError
from fastent.runtime.progress import Progress
from fastent.search.few_queries import MEMORY, are_few, are_too_many, distances_in_blocks
from fastent.training.run import Run
from fastent.training.straggler_list import Nearest, Predictions, Stragglers, straggler_scores

__all__ = ["as_rows", "nearest", "stragglers", "stragglers_of"]


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
    found = straggler_scores(run)
    points = found.points
    at_inversion, at_end = None, None
    if isinstance(data, Data) and repeat:
        at_inversion, at_end = _predictions(run, data, points, progress, notes)
    elif run.config.get("streamed"):
        notes.append("the run was streamed from disk: what its networks predicted is not known")
    stored = data.raw if isinstance(data, Data) else data
    near = None if stored is None or not len(points) else nearest(as_rows(stored, len(run.index)), run.codes, points)
    if near is None and stored is not None and len(points):
        notes.append("hits and misses are left out: there are too many points to search")
    return replace(found, at_inversion=at_inversion, at_end=at_end, nearest=near, notes=tuple(notes))


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
