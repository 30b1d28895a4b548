"""The points of a measurement that lie deepest in another class, as pictures, each with its neighbours, hit and miss."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.class_names import reading_order
from fastent.errors import FastentError
from fastent.measurement.result import Measurement
from fastent.report.pictures import are_pictures, as_images
from fastent.report.stragglers import Cell, Gallery, Group, pictures_of, said_of
from fastent.training.straggler_list import Nearest

__all__ = ["deepest"]

_MOST_SHOWN = 120
_NEIGHBORS = 8
_ORDERS = {"nearness": "nearness of another class", "strangers": "neighbours of another class"}


def deepest(measured: Measurement, images: Any, room: int) -> Gallery | None:
    """The points of the smallest relative margins, by class; None without margins or without pictures of the points.

    images : (n, h, w) or (n, h, w, 3), of all rows; only those shown are read. Their sheet takes at most about `room` bytes.

    Raises
    ------
    FastentError
        Pictures of another number of points, or no pictures.
    """
    margins = measured.margins
    if images is None or margins is None:
        return None
    n = measured.shape[0]
    if not are_pictures(images) or len(images) != n:
        raise FastentError(
            f"images have shape {np.shape(images)}: pictures ({n}, height, width[, 3]) are needed, one of each row"
        )
    known = np.flatnonzero(~np.isnan(margins.relative))
    places = known[np.argsort(margins.relative[known], kind="stable")][:_MOST_SHOWN]
    codes = np.searchsorted(measured.classes, measured.labels)
    rows = margins.queries[places]
    order = np.argsort(codes[rows], kind="stable")
    places, rows = places[order], rows[order]
    nearness = Nearest(
        margins.hit[places], margins.hit_index[places], margins.miss[places], margins.miss_index[places]
    ).nearness
    near = [_near(measured, place) for place in places.tolist()]
    others = dict.fromkeys(row for points in near for row in points)
    sheet, place_of = _sheet(images, rows, [row for row in others if row not in set(rows.tolist())], room)
    details = [
        _detail(measured, place, codes, float(share), points, place_of)
        for place, share, points in zip(places, nearness, near, strict=True)
    ]
    cells = [_cell(i, each, measured.class_names, place_of) for i, each in enumerate(details)]
    groups = [
        Group(c, measured.class_names[c], sum(each["c"] == c for each in details), _of_class(cells, details, c), [])
        for c in reading_order(measured.classes, measured.class_names)
        if c in codes[rows]
    ]
    orders = {name: said for name, said in _ORDERS.items() if any(each["scores"].get(name) is not None for each in details)}
    return Gallery(groups, len(known), len(details), sheet, orders, details, "")


def _near(measured: Measurement, place: int) -> dict[int, tuple[float, str]]:
    """Rows near to a query, nearest first, with their distance: its neighbours, and its hit and miss by name."""
    margins = measured.margins
    assert margins is not None
    found: dict[int, tuple[float, str]] = {}
    if measured.neighbors is not None:
        lists = measured.neighbors.indices[place, :_NEIGHBORS], measured.neighbors.distances[place, :_NEIGHBORS]
        found = {row: (distance, "") for row, distance in zip(*(each.tolist() for each in lists), strict=True)}
    for name in ("hit", "miss"):
        distance = float(getattr(margins, name)[place])
        found[int(getattr(margins, f"{name}_index")[place])] = distance, name
    return dict(sorted(found.items(), key=lambda item: item[1][0]))


def _sheet(images: Any, rows: NDArray[np.int64], others: list[int], room: int) -> tuple[Any, dict[int, int]]:
    """Pictures of the rows and of as many others as there is room for, and the place of each row among them."""
    wanted = np.unique(np.concatenate([rows, np.array(others, np.int64)]))
    pixels = as_images(np.asarray(images[wanted]), len(wanted))
    chosen, near = np.searchsorted(wanted, rows), np.searchsorted(wanted, others)
    sheet, place_of = pictures_of(pixels, chosen, near.tolist(), room)
    return sheet, {int(wanted[position]): place for position, place in place_of.items()}


def _detail(
    measured: Measurement,
    place: int,
    codes: NDArray[np.int64],
    nearness: float,
    near: dict[int, tuple[float, str]],
    place_of: dict[int, int],
) -> dict[str, Any]:
    """What is known of a point, as `Gallery` has it."""
    margins = measured.margins
    assert margins is not None
    row = int(margins.queries[place])
    scores = {"nearness": round(nearness, 4)}
    if measured.mixing is not None:
        scores["strangers"] = round(1 - float(measured.mixing.purity[place]), 4)
    return {
        "row": row,
        "label": str(measured.labels[row]),
        "c": int(codes[row]),
        "scores": scores,
        "said": {name: said_of(name, value) for name, value in scores.items()},
        "predictions": [],
        "near": [
            [other, str(measured.labels[other]), int(codes[other]), float(f"{distance:.5g}"), place_of.get(other), which]
            for other, (distance, which) in near.items()
        ],
        "features": [],
    }


def _cell(i: int, detail: dict[str, Any], names: Sequence[str], place_of: dict[int, int]) -> Cell:
    share, nothing = detail["said"]["nearness"], ""
    width = f"{100 * detail['scores']['nearness']:.0f}%"
    place, name = place_of[detail["row"]], names[detail["c"]]
    return Cell(i, place, detail["label"], name, detail["row"], share, width, nothing, nothing, nothing)


def _of_class(cells: list[Cell], details: list[dict[str, Any]], c: int) -> list[Cell]:
    return [cell for cell, each in zip(cells, details, strict=True) if each["c"] == c]
