"""The stragglers and, for contrast, points that never were: which to show, and their pictures in one image."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastent.errors import FastentError
from fastent.report.words import class_names, percent
from fastent.training.run import Run

__all__ = ["Gallery", "gallery"]

_MOST_SHOWN = 240
_NEVER_SHOWN = 24
# Pictures are stored at most this many pixels wide or high, and enlarged by a whole factor up to about the second.
_STORED_SIDE = 40
_SHOWN_SIDE = 64
_SPRITE_COLUMNS = 20


@dataclass(frozen=True)
class Cell:
    """One training point: its position on the image in cells, and what is known of it."""

    label: str
    row: int
    share: str
    width: str
    column: int
    line: int


@dataclass(frozen=True)
class Group:
    """The stragglers of one class that are shown, most frequent first, and its first points that never were one."""

    c: int
    name: str
    total: int
    stragglers: list[Cell]
    never: list[Cell]


@dataclass(frozen=True)
class Gallery:
    """All groups; `sprite` is a data URI (or None) of columns x lines cells, width x height CSS pixels each."""

    groups: list[Group]
    total: int
    shown: int
    sprite: str | None
    width: int
    height: int
    columns: int
    lines: int


def gallery(run: Run, pictures: Any) -> Gallery:
    """Choose the points to show and draw their pictures, `pictures[i]` being that of point i, or None."""
    images = None if pictures is None else _as_images(pictures, len(run.index))
    share = run.straggler_share
    consensus = np.flatnonzero(share >= 0.5)
    shown = consensus[np.lexsort((run.index[consensus], -share[consensus]))][:_MOST_SHOWN]
    classes = np.unique(run.codes[shown])
    in_strip = max(4, _NEVER_SHOWN // max(len(classes), 1)) if images is not None else 0
    chosen: list[int] = []

    def cells(points: NDArray[np.int64]) -> list[Cell]:
        start = len(chosen)
        chosen.extend(points.tolist())
        return [_cell(run, point, start + i) for i, point in enumerate(points.tolist())]

    groups = [
        Group(
            c=int(c),
            name=class_names(run)[c],
            total=int((run.codes[consensus] == c).sum()),
            stragglers=cells(shown[run.codes[shown] == c]),
            never=cells(np.flatnonzero((run.codes == c) & (share == 0))[:in_strip]),
        )
        for c in classes.tolist()
    ]
    sprite, width, height = (None, 0, 0) if images is None or not chosen else _sprite(images[chosen])
    lines = -(-len(chosen) // _SPRITE_COLUMNS)
    return Gallery(groups, len(consensus), len(shown), sprite, width, height, _SPRITE_COLUMNS, lines)


def _cell(run: Run, point: int, place: int) -> Cell:
    share = run.straggler_share[point]
    return Cell(
        label=str(run.labels[point]),
        row=int(run.index[point]),
        share=percent(share, 0),
        width=f"{100 * share:.0f}%",
        column=place % _SPRITE_COLUMNS,
        line=place // _SPRITE_COLUMNS,
    )


def _as_images(pictures: Any, n: int) -> NDArray[np.uint8]:
    """(n, h, w) or (n, h, w, 3) uint8; any other range becomes 0..255 by the least and greatest of all values."""
    images = np.asarray(pictures)
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3) or 0 in images.shape[1:3]:
        raise FastentError(f"pictures has shape {images.shape}: pass (n, height, width) or (n, height, width, 3)")
    if len(images) != n:
        raise FastentError(f"pictures has {len(images)} rows but the run has {n} points: pass raw[run.index], one picture each")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "fiub":
        raise FastentError(f"pictures has dtype {images.dtype}: pass uint8 or float")
    low, high = float(images.min()), float(images.max())
    if not np.isfinite([low, high]).all():
        raise FastentError(f"pictures ranges from {low} to {high}: replace what is not finite")
    scaled = (images.astype(np.float32) - low) * (255 / (high - low) if high > low else 0)
    return scaled.round().astype(np.uint8)


def _sprite(images: NDArray[np.uint8]) -> tuple[str, int, int]:
    """The pictures side by side as a data URI, and the CSS size of one of them."""
    height, width = images.shape[1:3]
    shrunk = min(1.0, _STORED_SIDE / max(height, width))
    size = (max(1, round(width * shrunk)), max(1, round(height * shrunk)))
    sheet = Image.new(
        "L" if images.ndim == 3 else "RGB", (_SPRITE_COLUMNS * size[0], -(-len(images) // _SPRITE_COLUMNS) * size[1])
    )
    for place, pixels in enumerate(images):
        image = Image.fromarray(pixels)
        if shrunk < 1:
            image = image.resize(size, Image.Resampling.BOX)
        sheet.paste(image, (place % _SPRITE_COLUMNS * size[0], place // _SPRITE_COLUMNS * size[1]))
    png = io.BytesIO()
    sheet.save(png, "PNG", optimize=True)
    enlarged = max(1, round(_SHOWN_SIDE / max(size)))
    uri = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode("ascii")
    return uri, enlarged * size[0], enlarged * size[1]
