"""Folders of pictures, a subfolder for each class, as torchvision's ImageFolder takes them: FOLDER/CLASS/.../PICTURE."""

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.reading import reading, refuse_name
from fastent.io.sources import Reader, Source

__all__ = ["IMAGE_FOLDER", "ImageFolder"]

Array = NDArray[Any]
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
_REMEDY, _KIND = "write it again, or remove it", "no picture"
# Modes of Pillow with one value for each pixel, and those with more than 8 bits in it.
_GRAY, _DEEP = ("1", "L", "LA"), ("I", "F", "I;16", "I;16B", "I;16L")
# How many entries of a folder are looked at to see what it holds.
_LOOKED_AT = 50


class ImageFolder(Source):
    """Pictures of one size, uint8, class after class in the order of the folders' names; decoded when rows are requested."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with reading(folder, "check the path"):
            classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
            found = [(path, name) for name in classes for path in _pictures(folder / name)]
        self._paths = [path for path, _ in found]
        self._classes = [name for _, name in found]
        height, width, gray = self._kind()
        self.point_shape = (height, width) if gray else (height, width, 3)
        self.shape, self.dtype = (len(found), int(np.prod(self.point_shape))), np.dtype(np.uint8)

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

    def read(self, start: int, stop: int) -> Array:
        from PIL import Image

        rows = np.empty((stop - start, self.shape[1]), np.uint8)
        assert self.point_shape is not None
        mode = "L" if len(self.point_shape) == 2 else "RGB"
        for row, path in zip(rows, self._paths[start:stop], strict=True):
            with reading(path, _REMEDY, _KIND), Image.open(path) as picture:
                pixels = np.asarray(picture.convert(mode))
                if pixels.shape != self.point_shape:
                    raise ValueError(f"it has shape {pixels.shape}, it had {self.point_shape} when the folder was opened")
            row[:] = pixels.ravel()
        return rows


def _pictures(folder: Path) -> list[Path]:
    """In torchvision's order."""
    places = sorted(os.walk(folder, followlinks=True))
    return [Path(place) / name for place, _, names in places for name in sorted(names) if _is_picture(name)]


def _is_picture(name: str) -> bool:
    return name[0] != "." and name.lower().endswith(_SUFFIXES)


def _can_open(path: Path) -> bool:
    """Whether one of the first subfolders holds a picture."""
    try:
        with os.scandir(path) as entries:
            folders = [entry.path for _, entry in zip(range(_LOOKED_AT), entries, strict=False) if entry.is_dir()]
        for folder in folders:
            with os.scandir(folder) as entries:
                if any(_is_picture(entry.name) for _, entry in zip(range(_LOOKED_AT), entries, strict=False)):
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
