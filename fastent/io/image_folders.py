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

from fastent.io.pictures import pixels, shared_shape
from fastent.io.reading import reading, refuse_name
from fastent.io.sources import Reader, Source
from fastent.runtime.memory import available_bytes

__all__ = ["IMAGE_FOLDER", "ImageFolder", "is_picture_file"]

Array = NDArray[Any]
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
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
        self.point_shape = shared_shape((str(path), path) for path in self._paths)
        self.shape, self.dtype = (len(found), int(np.prod(self.point_shape))), np.dtype(np.uint8)
        self._decoded = np.zeros(len(found), bool)  # which rows of `_kept` are there

    def __reduce__(self) -> Any:
        return ImageFolder, (self._folder.absolute(),)

    @cached_property
    def labels(self) -> Array:
        """The name of each picture's folder."""
        return np.array(self._classes)

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
        path, shape = self._paths[row], self.point_shape
        assert shape is not None
        return pixels((str(path), path), shape).ravel()


def _class_folders(folder: Path) -> Iterator[str]:
    """The names of the subfolders that are classes: all but hidden ones, where other programs keep their thumbnails."""
    with os.scandir(folder) as entries:
        yield from (entry.name for entry in entries if entry.name[0] != "." and entry.is_dir())


def _pictures(folder: Path) -> list[Path]:
    """In torchvision's order."""
    places = []
    for place, inner, names in os.walk(folder, followlinks=True):
        inner[:] = [name for name in inner if name[0] != "."]
        places.append((Path(place), sorted(filter(is_picture_file, names))))
    return [place / name for place, names in sorted(places, key=lambda each: str(each[0])) for name in names]


def is_picture_file(name: str) -> bool:
    return name[0] != "." and name.lower().endswith(_SUFFIXES)


def _can_open(path: Path) -> bool:
    """Whether one of the first subfolders holds a picture."""
    try:
        for name in islice(_class_folders(path), _LOOKED_AT):
            with os.scandir(path / name) as entries:
                if any(is_picture_file(entry.name) and entry.is_file() for entry in islice(entries, _LOOKED_AT)):
                    return True
    except OSError:  # opening it says why
        return False
    return False


def _open(path: Path, name: str | None) -> ImageFolder:
    refuse_name(path, name)
    return ImageFolder(path)


def _labels(path: Path, name: str | None) -> Array:
    return _open(path, name).labels


IMAGE_FOLDER = Reader("a folder of pictures", _can_open, _open, labels=_labels, whole=True)
