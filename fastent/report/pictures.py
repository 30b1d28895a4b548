"""Pictures of training points, side by side in one image."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.sources import Source

__all__ = ["Sheet", "StoredPictures", "are_pictures", "as_images", "fitting_sheet", "pictures_in", "sheet"]

# Pictures are stored at most this many pixels wide or high, and enlarged by a whole factor up to about the second.
_STORED_SIDE = 40
_SHOWN_SIDE = 64
_COLUMNS = 20
# Bytes up to this are no pictures of 8 bits, such as scikit-learn's digits of 0 to 16, and would be black.
_FEW_LEVELS = 31


@dataclass(frozen=True)
class Sheet:
    """Pictures as one data URI of columns x lines cells, width x height CSS pixels each, and how many bytes that takes."""

    uri: str
    width: int
    height: int
    columns: int
    lines: int

    @property
    def size(self) -> int:
        return len(self.uri)


class StoredPictures:
    """Pictures (n, h, w) or (n, h, w, 3) of a source whose rows are flattened pictures, read when they are asked for."""

    def __init__(self, source: Source, point_shape: tuple[int, ...]) -> None:
        self._source, self._point_shape = source, point_shape
        self.shape = (len(source), *point_shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        return self._source.take(rows).reshape(-1, *self._point_shape)


def pictures_in(points: Any) -> Any:
    """The pictures that points are, an array or a source, as something with a `shape` that rows are taken from; else None."""
    if isinstance(points, Source):
        points = None if points.point_shape is None else StoredPictures(points, points.point_shape)
    return points if points is not None and are_pictures(points) else None


def are_pictures(points: Any) -> bool:
    """Whether points are (n, h, w) or (n, h, w, 3)."""
    shape = np.shape(points)
    return len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)


def as_images(pictures: Any, n: int) -> NDArray[np.uint8]:
    """(n, h, w) or (n, h, w, 3) uint8; others, and those of few grey levels, become 0..255 by the least and greatest value."""
    images = np.asarray(pictures)
    if 0 in images.shape[1:3]:
        raise FastentError(f"points have shape {images.shape}: pictures need a height and a width")
    if len(images) != n:
        raise FastentError(f"points have {len(images)} rows but the run has {n} points: pass raw[run.index], one row each")
    if images.dtype == np.uint8 and images.max(initial=0) > _FEW_LEVELS:
        return images
    if images.dtype.kind not in "fiub":
        raise FastentError(f"points have dtype {images.dtype}: pass uint8 or float")
    low, high = float(images.min()), float(images.max())
    if not np.isfinite([low, high]).all():
        first = int(np.flatnonzero(~np.isfinite(images.reshape(len(images), -1)).all(1))[0])
        raise FastentError(f"points range from {low} to {high}: replace what is not finite, first in point {first}")
    scaled = (images.astype(np.float32) - low) * (255 / (high - low) if high > low else 0)
    return scaled.round().astype(np.uint8)


def sheet(images: NDArray[np.uint8], *, side: int = _STORED_SIDE, quality: int | None = None) -> Sheet:
    """The pictures, (m, h, w) or (m, h, w, 3), in their order, line by line.

    side : pixels that are kept of each at most. quality : 1 to 100 for WebP, which loses detail; without it nothing more is.
    """
    from PIL import Image

    height, width = images.shape[1:3]
    shrunk = min(1.0, side / max(height, width))
    size = (max(1, round(width * shrunk)), max(1, round(height * shrunk)))
    lines = -(-len(images) // _COLUMNS)
    whole = Image.new("L" if images.ndim == 3 else "RGB", (_COLUMNS * size[0], lines * size[1]))
    for place, pixels in enumerate(images):
        image = Image.fromarray(pixels)
        if shrunk < 1:
            image = image.resize(size, Image.Resampling.BOX)
        whole.paste(image, (place % _COLUMNS * size[0], place // _COLUMNS * size[1]))
    stored = io.BytesIO()
    if quality is None:
        whole.save(stored, "PNG", optimize=True)
    else:
        whole.save(stored, "WEBP", quality=quality)
    enlarged = max(1, round(_SHOWN_SIDE / max(size)))
    kind = "png" if quality is None else "webp"
    uri = f"data:image/{kind};base64," + base64.b64encode(stored.getvalue()).decode("ascii")
    return Sheet(uri, enlarged * size[0], enlarged * size[1], _COLUMNS, lines)


def fitting_sheet(
    images: NDArray[np.uint8], order: NDArray[np.int64], room: int, *, always: int = 0, **options: Any
) -> tuple[Sheet | None, NDArray[np.int64]]:
    """Pictures of the first `always` of these, and of as many more, in this order, as `room` bytes hold; and of which.

    No two pictures compress alike: half of the others are left out, and half again, until they fit. `options` are of `sheet`.
    """
    while len(order):
        drawn = sheet(images[order], **options)
        if drawn.size <= room or len(order) <= always:
            return drawn, order
        order = order[: always + (len(order) - always) // 2]
    return None, order
