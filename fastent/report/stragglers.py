"""The stragglers of a run and, for contrast, points that never were one: which to show, and what is known about each.

That is how hard a point was to learn, its neighbours, and its unusual features.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.validation import row_blocks
from fastent.report.page import percent
from fastent.report.pictures import Sheet, are_pictures, as_images, fitting_sheet
from fastent.runtime.formatting import NOTHING
from fastent.search.few_queries import MEMORY, are_few, are_too_many, distances_in_blocks
from fastent.search.found_neighbors import Neighbors
from fastent.search.neighbors import neighbors
from fastent.training.run import Run
from fastent.training.straggler_list import Nearest, Stragglers
from fastent.training.stragglers import as_rows, stragglers_of

__all__ = ["Cell", "Gallery", "Group", "gallery", "pictures_of", "points_near", "said_of"]

_MOST_SHOWN = 240
_NEVER_SHOWN = 24
_NEIGHBORS = 8
_FEATURES = 6
# Scores to sort the stragglers by, and what the page calls them.
_ORDERS = {
    "share": "share of the seeds",
    "wrong": "share of the epochs misclassified",
    "forgotten": "times forgotten",
    "at_end": "seeds still wrong at the end",
    "strangers": "neighbours of another class",
    "doubt_at_inversion": "probability of other classes at the inversion",
    "doubt_at_end": "probability of other classes at the end",
    "nearness": "nearness of another class",
}
_TOO_MANY = "Neighbours are not shown, because there are too many points to search."
_NOT_THERE = "Neighbours are not shown, because the training points are not available."


@dataclass(frozen=True)
class Cell:
    """One training point: its number among those that can be opened (or None), its place on the sheet, and its texts.

    Where labels are classes, `name` is that of the class; of classes by parity it is the label, which says more.
    """

    point: int | None
    place: int
    label: str
    name: str
    row: int
    share: str
    width: str
    wrong: str
    forgotten: str
    at_end: str


@dataclass(frozen=True)
class Group:
    """The stragglers of one class that are shown, most frequent first, and its first points that never were stragglers."""

    c: int
    name: str
    total: int
    stragglers: list[Cell]
    never: list[Cell]


@dataclass(frozen=True)
class Gallery:
    """What the page shows.

    Each of the `details`, of a straggler shown, is JSON throughout: row, label, class, scores as numbers and as they are said,
    predictions (when, class, its probability and that of the point's own), near (row, label, class, distance, place on the
    sheet, and whether it is the "hit" or the "miss") and features (number, value, mean of its class, standard deviations away).
    """

    groups: list[Group]
    total: int  # stragglers in at least half of the seeds
    shown: int
    sheet: Sheet | None  # the pictures of all cells, and of neighbours, where points are pictures
    orders: dict[str, str]  # names of the scores by which the stragglers can be sorted, and what they are called
    details: list[dict[str, Any]]
    without_neighbors: str  # why no neighbours are known; "" where they are


def gallery(run: Run, points: Any, room: int, known: Stragglers | None = None) -> Gallery:
    """Choose the points to show and describe them; their pictures take at most about `room` bytes of the page.

    `points[i]` is point i of the run as stored: a picture, or a row of features; None where the data are not at hand.
    `known` is what is known of the stragglers; by default what the run and the points tell.
    """
    images = as_images(points, len(run.index)) if points is not None and are_pictures(points) else None
    rows = None if points is None else as_rows(points, len(run.index))
    known = stragglers_of(run, rows) if known is None else known
    share = run.straggler_share
    consensus = known.take(np.flatnonzero(known.hardness.share >= 0.5))
    found = consensus.take(np.argsort(consensus.codes[:_MOST_SHOWN], kind="stable"))
    shown = found.points
    present = set(run.codes[shown].tolist())
    classes = [c for c in run.class_order if c in present]
    in_strip = max(4, _NEVER_SHOWN // max(len(classes), 1)) if images is not None else 0
    strips = {c: np.flatnonzero((run.codes == c) & (share == 0))[:in_strip] for c in classes}
    near = None if rows is None else points_near(rows, shown)

    chosen = np.concatenate([shown, *strips.values()])
    pictures, place_of = None, dict[int, int]()
    if images is not None and len(chosen):
        pictures, place_of = pictures_of(images, chosen, _others(near, found.nearest), room)
    odd = _oddities(rows, run.codes, shown) if rows is not None and images is None else [[] for _ in shown]
    numbers = _numbers(run, found, near)
    cells = [_cell(run, int(point), i, place_of, numbers[i]) for i, point in enumerate(shown)]
    groups = [
        Group(
            c=c,
            name=run.class_names[c],
            total=int((consensus.codes == c).sum()),
            stragglers=[cell for cell, code in zip(cells, found.codes, strict=True) if code == c],
            never=[_cell(run, int(point), None, place_of, {}) for point in strips[c]],
        )
        for c in classes
    ]
    of_some = {name for each in numbers for name, value in each.items() if value is not None}
    return Gallery(
        groups,
        len(consensus),
        len(shown),
        pictures,
        {name: said for name, said in _ORDERS.items() if name in of_some},
        [
            _detail(run, int(point), numbers[i], _predictions(found, i), _near(run, near, found.nearest, i, place_of), odd[i])
            for i, point in enumerate(shown)
        ],
        "" if near is not None else _NOT_THERE if rows is None else _TOO_MANY,
    )


def _others(near: Neighbors | None, extremes: Nearest | None) -> list[int]:
    """Points near to those shown, each once: hits and misses, then the nearest of all."""
    of_class = [] if extremes is None else [extremes.hit_point, extremes.miss_point]
    of_all = [] if near is None else list(near.indices.T)
    return [point for point in dict.fromkeys(np.concatenate([*of_class, *of_all, []]).astype(int).tolist()) if point >= 0]


def pictures_of(
    images: NDArray[np.uint8], chosen: NDArray[np.int64], near: list[int], room: int
) -> tuple[Sheet | None, dict[int, int]]:
    """Pictures of the chosen points and of as many near ones as there is room for, in their order, and the place of each."""
    order = np.array(list(dict.fromkeys([*chosen.tolist(), *near])), np.int64)
    drawn, order = fitting_sheet(images, order, room, always=len(chosen))
    return drawn, {point: place for place, point in enumerate(order.tolist())}


def _numbers(run: Run, found: Stragglers, near: Neighbors | None) -> list[dict[str, float | None]]:
    """Every score of each straggler shown; None where it is not known."""
    values = found.hardness._asdict()
    if near is not None:
        values["strangers"] = (run.codes[near.indices] != found.codes[:, None]).mean(1)
    for when, said in (("inversion", found.at_inversion), ("end", found.at_end)):
        if said is not None:
            values[f"doubt_at_{when}"] = 1 - said.of(found.codes)
    if found.nearest is not None:
        values["nearness"] = found.nearest.nearness
    return [
        {name: round(float(of[i]), 4) if math.isfinite(of[i]) else None for name, of in values.items()}
        for i in range(len(found))
    ]


def _predictions(found: Stragglers, i: int) -> list[list[Any]]:
    """At the inversion and at the end: the class that most networks predict, its probability, and that of the point's own."""
    known = [(when, of) for when, of in (("inversion", found.at_inversion), ("end", found.at_end)) if of is not None]
    return [
        [when, int(of.predicted[i]), percent(float(of.of(of.predicted)[i])), percent(float(of.of(found.codes)[i]))]
        for when, of in known
        if of.predicted[i] >= 0
    ]


def _near(run: Run, near: Neighbors | None, extremes: Nearest | None, i: int, place_of: dict[int, int]) -> list[list[Any]]:
    """The nearest points, and the hit and the miss where they are not among these."""
    if near is None:
        return []
    apart = dict(zip(near.indices[i].tolist(), near.distances[i].tolist(), strict=True))
    which: dict[int, str] = {}
    if extremes is not None:
        for name in ("hit", "miss"):
            point = int(getattr(extremes, f"{name}_point")[i])
            if point >= 0:
                which[point] = name
                apart.setdefault(point, float(getattr(extremes, name)[i]))
    return [
        [int(run.index[j]), str(run.labels[j]), int(run.codes[j]), float(f"{distance:.5g}"), place_of.get(j), which.get(j, "")]
        for j, distance in apart.items()
    ]


def _detail(
    run: Run,
    point: int,
    numbers: dict[str, float | None],
    predictions: list[list[Any]],
    near: list[list[Any]],
    odd: list[list[Any]],
) -> dict[str, Any]:
    return {
        "row": int(run.index[point]),
        "label": str(run.labels[point]),
        "c": int(run.codes[point]),
        "scores": numbers,
        "said": {name: said_of(name, value) for name, value in numbers.items()},
        "predictions": predictions,
        "near": near,
        "features": odd,
    }


def _cell(run: Run, point: int, number: int | None, place_of: dict[int, int], numbers: dict[str, float | None]) -> Cell:
    share, label = numbers.get("share"), str(run.labels[point])
    return Cell(
        point=number,
        place=place_of.get(point, 0),
        label=label,
        name=label if run.parity else run.class_names[run.codes[point]],
        row=int(run.index[point]),
        share=said_of("share", share),
        width=f"{100 * (share or 0):.0f}%",
        wrong=said_of("wrong", numbers.get("wrong")),
        forgotten=said_of("forgotten", numbers.get("forgotten")),
        at_end=said_of("at_end", numbers.get("at_end")),
    )


def said_of(name: str, value: float | None) -> str:
    """A score as people read it."""
    if value is None:
        return NOTHING
    if name == "nearness":
        return f"{value:.2f}"
    return f"{value:.1f}\u00a0\u00d7" if name == "forgotten" else percent(value, 0)


def points_near(rows: Any, points: NDArray[np.int64]) -> Neighbors | None:
    """Exact nearest rows of those at these positions; None if there are no such rows, or too many to read."""
    n = len(rows)
    if not len(points) or n < 2 or are_too_many(len(points), rows.shape):
        return None
    k = min(_NEIGHBORS, n - 1)
    if not are_few(len(points), rows.shape):
        return neighbors(rows, k, queries=points, memory_budget=MEMORY)
    indices, distances = np.empty((len(points), k), np.int64), np.empty((len(points), k), np.float32)
    for some, apart in distances_in_blocks(rows, points):  # ties by the lower row number, as there
        indices[some] = np.argsort(apart, axis=1, kind="stable")[:, :k]
        distances[some] = np.take_along_axis(apart, indices[some], 1)
    return Neighbors(indices, distances, points, n)


def _oddities(rows: Any, codes: NDArray[np.int64], points: NDArray[np.int64]) -> list[list[list[Any]]]:
    """For each point the features farthest from its class: number, value, the mean of its class, standard deviations away."""
    found: list[list[list[Any]]] = [[] for _ in points]
    for c in np.unique(codes[points]):
        mean, deviation = _mean_and_deviation(rows, codes == c)
        for place in np.flatnonzero(codes[points] == c):
            values = np.asarray(rows[points[place]], np.float64)
            away = np.abs(values - mean) / np.where(deviation > 0, deviation, np.inf)
            for feature in np.argsort(-away, kind="stable")[:_FEATURES]:
                if away[feature] > 0:
                    signed = np.copysign(away[feature], values[feature] - mean[feature])
                    said = [float(f"{x:.6g}") for x in (values[feature], mean[feature])]
                    found[place].append([int(feature), *said, f"{signed:.1f}"])
    return found


def _mean_and_deviation(rows: Any, chosen: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each feature over the chosen rows, block by block."""
    mean, squares = np.zeros((2, rows.shape[1]))
    for start, block in row_blocks(rows):
        mean += block[chosen[start : start + len(block)]].sum(0, dtype=np.float64)
    mean /= chosen.sum()
    for start, block in row_blocks(rows):
        squares += ((block[chosen[start : start + len(block)]] - mean) ** 2).sum(0)
    return mean, np.sqrt(squares / chosen.sum())
