"""Pictures as points: the shape that they share, told from their headers, and their pixels."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.reading import reading

__all__ = ["is_picture", "pictures_of", "pixels", "shared_shape"]

# Modes of Pillow with one value for each pixel, and those with more than 8 bits in it.
_GRAY, _DEEP = ("1", "L", "LA"), ("I", "F", "I;16", "I;16B", "I;16L")
_REMEDY, _KIND = "write it again, or remove it", "no picture"

# What messages call a picture, and the path or the file in memory that Pillow opens.
Stored = tuple[str, Any]


def shared_shape(pictures: Iterable[Stored]) -> tuple[int, ...]:
    """(h, w) if no picture has colours, otherwise (h, w, 3); nothing if there are none. One size is needed."""
    from PIL import Image

    sizes: dict[tuple[int, int], str] = {}
    gray = True
    for name, file in pictures:
        with reading(name, _REMEDY, _KIND), Image.open(file) as picture:
            sizes.setdefault(picture.size, name)
            gray = gray and picture.mode in _GRAY
            if picture.mode in _DEEP:
                raise FastentError(f"{name!r} has more than 8 bits in a pixel (mode {picture.mode}): convert it")
        if len(sizes) > 1:
            (first, one), (second, other) = sizes.items()
            raise FastentError(
                f"{one!r} has {first[0]} x {first[1]} pixels, {other!r} {second[0]} x {second[1]}: pictures of "
                "one size are needed; resize them, or capture a layer of a network that takes any size"
            )
    return tuple(size for width, height in sizes for size in ((height, width) if gray else (height, width, 3)))


def pixels(picture: Stored, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The values of a picture of this shape, as they are stored: an orientation that cameras note is not applied."""
    from PIL import Image

    name, file = picture
    with reading(name, _REMEDY, _KIND), Image.open(file) as opened:
        found = np.asarray(opened.convert("L" if len(shape) == 2 else "RGB"))
        if found.shape != shape:
            raise ValueError(f"it has shape {found.shape}, it had {shape} when it was opened")
    return found


def is_picture(kind: Any) -> bool:
    """Whether a column of Arrow is one of pictures as Hugging Face keeps them: the bytes of a file, or its path."""
    import pyarrow as pa

    types = pa.types
    if not types.is_struct(kind) or {field.name for field in kind} != {"bytes", "path"}:
        return False
    stored, path = kind.field("bytes").type, kind.field("path").type
    binary = types.is_binary(stored) or types.is_large_binary(stored)
    return bool(binary and (types.is_string(path) or types.is_large_string(path) or types.is_null(path)))


def pictures_of(pieces: Iterable[Any], column: str, place: str, first_row: int = 0) -> Iterator[Stored]:
    """The pictures in the pieces of such a column of a table."""
    row = first_row
    for piece in pieces:
        for value in piece:
            found = value.as_py() or {}
            if found.get("bytes") is not None:
                yield f"{place.strip(chr(39))}, row {row} of {column}", io.BytesIO(found["bytes"])
            elif found.get("path"):
                yield found["path"], Path(found["path"])
            else:
                raise FastentError(f"{place} has no picture in row {row}, column {column!r}: drop such rows")
            row += 1
