"""The map of a report: points in two dimensions, what is known about each, and the pictures of as many as there is room for."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.report.pictures import Sheet, are_pictures, as_images, fitting_sheet
from fastent.runtime.formatting import count
from fastent.statistics.point_map import PointMap

__all__ = ["Fact", "Layout", "MapSection", "map_section"]

# Places are whole numbers on a grid of so many lines each way: finer than any screen.
_GRID = 9999
# Colours, and forms with each of them, tell so many classes apart; of more, the largest are coloured and the others grey.
_COLORS, _FORMS = 7, 3
# What is written of a point, its picture apart.
_POINT_BYTES = 100
# Rings around more of the points, as a share, hide these.
_MOST_RINGED = 0.2
_WARNING = "What looks close here need not be close, and what looks apart need not be apart."
# Pictures on a map are smaller than those of a gallery, and lose some detail: they are many. To write so many takes a second.
_SIDE, _QUALITY, _MOST_PICTURES = 28, 60, 2500


class Layout(NamedTuple):
    """One way to see the points: a name for the choice, what is laid out, and the map."""

    name: str
    of: str
    map: PointMap


class Fact(NamedTuple):
    """What is said of each point: texts, and which of them is whose (n,)."""

    name: str
    texts: Sequence[str]
    of: NDArray[np.int64]


class MapSection(NamedTuple):
    """What the template takes (choices, classes, sentences) and what the script draws."""

    choices: list[tuple[str, str]]
    sentences: list[str]
    classes: list[str]
    order: list[int]  # of the classes, where they are listed
    told: list[int]  # classes in a colour
    forms: int  # how many forms there are of each colour
    mark: str  # what the points with rings are, or ""
    marked: int
    ringed: bool  # whether these are drawn at first
    shown: str
    rings: str  # which points these are
    label: str
    without: str  # why a layer is not shown, or ""
    pictures: str  # of how many points there are pictures, or ""
    sheet: Sheet | None
    figure: dict[str, Any]


def map_section(
    layouts: Sequence[Layout],
    codes: NDArray[np.int64],
    names: Sequence[str],
    *,
    rows: NDArray[np.int64],
    facts: Sequence[Fact],
    marked: NDArray[np.bool_] | None,
    mark: str,
    rings_mark: str,
    order: Sequence[int] | None = None,
    kept: int = 0,
    without: str = "",
    images: Any = None,
    room: int = 0,
) -> MapSection | None:
    """Describe the maps of the same points; None if there are none.

    codes, rows, marked (n,) : class and number of each point, and whether it gets a ring. mark : what such points are called.
    rings_mark : the sentence that says so. order : in which classes are listed. kept : how many points with rings are shown in
    any case. without : a sentence that says why a layer is not shown. images : (n, h, w) or (n, h, w, 3), of which those that
    fit into `room` bytes are shown.
    """
    if not layouts:
        return None
    first = layouts[0].map
    shown = first.rows
    sizes = np.bincount(codes[shown], minlength=len(names))
    told = np.arange(len(names))
    if len(names) > _COLORS * _FORMS:
        told = np.sort(np.argsort(-sizes, kind="stable")[:_COLORS])
    rings = np.flatnonzero(marked[shown]) if marked is not None else np.empty(0, np.int64)
    pictures, pictured = _pictures(images, shown, rings, room - _POINT_BYTES * len(shown))
    figure = {
        "layouts": [_drawn(layout) for layout in layouts],
        "k": first.k,
        "rows": rows[shown].tolist(),
        "codes": codes[shown].tolist(),
        "names": list(names),
        "told": told.tolist(),
        "rings": rings.tolist(),
        "facts": [{"name": fact.name, "texts": list(fact.texts), "of": fact.of[shown].tolist()} for fact in facts],
        "cells": None if pictures is None else {name: getattr(pictures, name) for name in ("width", "height", "columns")},
        "pictures": pictured.tolist(),
    }
    by = " or ".join(dict.fromkeys(layout.map.title for layout in layouts))
    return MapSection(
        choices=[(str(i), layout.name) for i, layout in enumerate(layouts)],
        sentences=[f"{layout.of} {_kept_words(layout.map)}" for layout in layouts],
        classes=list(names),
        order=list(range(len(names)) if order is None else order),
        told=told.tolist(),
        forms=_FORMS,
        mark=mark if marked is not None else "",
        marked=len(rings),
        ringed=len(rings) <= _MOST_RINGED * len(shown),
        shown=_sample_words(first, kept, mark),
        rings=rings_mark if len(rings) else "",
        label=f"{count(len(shown))} points by {by}, coloured by class. {layouts[0].map.sentence}",
        without=without,
        pictures=f"Pictures of {count(len(pictured))} of the points are on this page."
        if 0 < len(pictured) < len(shown)
        else "",
        sheet=pictures,
        figure=figure,
    )


def _drawn(layout: Layout) -> dict[str, Any]:
    places = layout.map.coordinates - layout.map.coordinates.min(0)
    widths = places.max(0)
    scale = _GRID / widths.max() if widths.any() else 0.0
    x, y = np.rint(places * scale).astype(int).T.tolist()
    along = layout.map.explained
    axes = ["", ""] if np.isnan(along).any() else [f"{100 * share:.1f}\u00a0% of the variance" for share in along]
    kept = np.rint(np.nan_to_num(layout.map.kept, nan=-1) * layout.map.k).astype(int).tolist()
    return {"x": x, "y": y, "axes": axes, "kept": kept}


def _kept_words(found: PointMap) -> str:
    sentence = found.sentence.replace(" %", "\u00a0%").replace("'", "\u2019")
    return sentence if np.isnan(found.kept_share) else f"{sentence} {_WARNING}"


def _sample_words(found: PointMap, kept: int, mark: str) -> str:
    """Which points are shown."""
    if len(found.rows) == found.n:
        return f"All {count(found.n)} points are shown."
    also = f", and {count(kept)} {mark} in any case" if kept else ""
    return (
        f"{count(len(found.rows))} of {count(found.n)} points are shown, drawn at random from each class in proportion{also}; "
        "the share above is of neighbours among these."
    )


def _pictures(
    images: Any, shown: NDArray[np.int64], rings: NDArray[np.int64], room: int
) -> tuple[Sheet | None, NDArray[np.int64]]:
    """A sheet of pictures if there are any, and which points it shows: those with rings first, then others at random."""
    if images is None or not are_pictures(images):
        return None, rings[:0]
    pixels = as_images(np.asarray(images[shown]), len(shown))
    others = np.random.default_rng(0).permutation(np.setdiff1d(np.arange(len(shown)), rings))
    order = np.concatenate([rings, others])[:_MOST_PICTURES]
    return fitting_sheet(pixels, order, room, side=_SIDE, quality=_QUALITY)
