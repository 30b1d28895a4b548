"""Folders of pictures, a subfolder for each class, as torchvision's ImageFolder takes them: FOLDER/CLASS/.../PICTURE."""

import math
import os
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.reading import reading, refuse_name
from fastent.io.sources import Reader, Source
from fastent.runtime.memory import available_bytes

__all__ = ["IMAGE_FOLDER", "ImageFolder"]

Array = NDArray[Any]
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
_REMEDY, _KIND = "write it again, or remove it", "no picture"
# Modes of Pillow with one value for each pixel, and those with more than 8 bits in it.
_GRAY, _DEEP = ("1", "L", "LA"), ("I", "F", "I;16", "I;16B", "I;16L")
# How many entries of a folder are looked at to see what it holds.
_LOOKED_AT = 50
# Decoded pictures are kept where all take no more than this share of the memory that is available.
_SHARE_KEPT = 0.25


class ImageFolder(Source):
    """Pictures of one size, uint8, class after class in the order of the folders' names; decoded when rows are requested.

    Where all fit into a quarter of the memory that is available, they are decoded once, and kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with reading(folder, "check the path"):
            found = [(path, name) for name in sorted(_class_folders(folder)) for path in _pictures(folder / name)]
        self._paths = [path for path, _ in found]
        self._classes = [name for _, name in found]
        height, width, gray = self._kind()
        self.point_shape = (height, width) if gray else (height, width, 3)
        self.shape, self.dtype = (len(found), int(np.prod(self.point_shape))), np.dtype(np.uint8)
        self._decoded = np.zeros(len(found), bool)  # which rows of `_kept` are there

    def __reduce__(self) -> Any:
        return ImageFolder, (self._folder.absolute(),)

    @cached_property
    def labels(self) -> Array:
        """The name of each picture's folder."""
        return np.array(self._classes)

    def _kind(self) -> tuple[int, int, bool]:
        """Height and width of all pictures, and whether none has colours; from their headers."""
        from PIL import Image

        sizes: dict[tuple[int, int], Path] = {}
        gray = True
        for path in self._paths:
            with reading(path, _REMEDY, _KIND), Image.open(path) as picture:
                sizes.setdefault(picture.size, path)
                gray = gray and picture.mode in _GRAY
                if picture.mode in _DEEP:
                    raise FastentError(f"{str(path)!r} has more than 8 bits in a pixel (mode {picture.mode}): convert it")
            if len(sizes) > 1:
                (first, one), (second, other) = sizes.items()
                raise FastentError(
                    f"{str(one)!r} has {first[0]} x {first[1]} pixels, {str(other)!r} {second[0]} x {second[1]}: pictures of "
                    "one size are needed; resize them, or capture a layer of a network that takes any size"
                )
        ((width, height),) = sizes
        return height, width, gray

    @cached_property
    def _kept(self) -> Array | None:
        return np.empty(self.shape, np.uint8) if math.prod(self.shape) <= _SHARE_KEPT * available_bytes() else None

    def read(self, start: int, stop: int) -> Array:
        return self.take(np.arange(start, stop))

    def take(self, rows: NDArray[np.int64]) -> Array:
        kept = self._kept
        if kept is None:
            wanted, back = np.unique(rows, return_inverse=True)
            found = np.empty((len(wanted), self.shape[1]), np.uint8)
            for place, row in enumerate(wanted.tolist()):
                found[place] = self._decode(row)
            return found[back]
        # Two threads may decode the same picture, and then write the same bytes.
        for row in np.unique(rows[~self._decoded[rows]]).tolist():
            kept[row] = self._decode(row)
            self._decoded[row] = True
        return kept[rows]

    def _decode(self, row: int) -> Array:
        from PIL import Image

        path, shape = self._paths[row], self.point_shape
        assert shape is not None
        with reading(path, _REMEDY, _KIND), Image.open(path) as picture:
            pixels = np.asarray(picture.convert("L" if len(shape) == 2 else "RGB"))
            if pixels.shape != shape:
                raise ValueError(f"it has shape {pixels.shape}, it had {shape} when the folder was opened")
        return pixels.ravel()


def _class_folders(folder: Path) -> Iterator[str]:
    """The names of the subfolders that are classes: all but hidden ones, where other programs keep their thumbnails."""
    with os.scandir(folder) as entries:
        yield from (entry.name for entry in entries if entry.name[0] != "." and entry.is_dir())


def _pictures(folder: Path) -> list[Path]:
    """In torchvision's order."""
    places = []
    for place, inner, names in os.walk(folder, followlinks=True):
        inner[:] = [name for name in inner if name[0] != "."]
        places.append((Path(place), sorted(filter(_is_picture, names))))
    return [place / name for place, names in sorted(places, key=lambda each: str(each[0])) for name in names]


def _is_picture(name: str) -> bool:
    return name[0] != "." and name.lower().endswith(_SUFFIXES)


def _can_open(path: Path) -> bool:
    """Whether one of the first subfolders holds a picture."""
    try:
        for name in islice(_class_folders(path), _LOOKED_AT):
            with os.scandir(path / name) as entries:
                if any(_is_picture(entry.name) and entry.is_file() for entry in islice(entries, _LOOKED_AT)):
                    return True
    except OSError:  # whoever opens it says why
        return False
    return False


def _open(path: Path, name: str | None) -> ImageFolder:
    refuse_name(path, name)
    return ImageFolder(path)


def _labels(path: Path, name: str | None) -> Array:
    return _open(path, name).labels


IMAGE_FOLDER = Reader("a folder of pictures", _can_open, _open, labels=_labels, whole=True)
