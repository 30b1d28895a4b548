"""Readers of the original files of MNIST-like data sets (IDX) and CIFAR-10, which trust nothing that they read."""

import gzip
import math
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError

__all__ = ["find_cifar10", "find_idx", "read_cifar10", "read_idx"]

Array = NDArray[Any]

_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_CIFAR_RECORD = 1 + 3 * 32 * 32


def find_idx(folder: Path) -> list[Path] | None:
    """Return the four IDX files (images and labels of training and test) if all are in `folder`, plain or gzipped."""
    found = []
    for name in _IDX_FILES:
        spellings = (name, name.replace("-idx", ".idx"))
        candidates = (folder / f"{spelling}{suffix}" for spelling in spellings for suffix in ("", ".gz"))
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            return None
        found.append(path)
    return found


def read_idx(path: Path) -> Array:
    """Read an IDX file of unsigned bytes: magic 0 0 8 rank, big-endian sizes, then the values."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise FastentError(f"{str(path)!r} cannot be read ({error}): download it again") from error
    rank = content[3] if len(content) >= 4 and content[:3] == b"\0\0\x08" else 0
    if not 1 <= rank <= 3 or len(content) < 4 + 4 * rank:
        raise FastentError(
            f"{str(path)!r} starts with {content[:4].hex(' ')!r}, no IDX file of unsigned bytes: download it again"
        )
    shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * rank)
    if len(values) != math.prod(shape):
        raise FastentError(
            f"{str(path)!r} has {len(values)} values, its header promises {shape}: it is cut off; download it again"
        )
    return values.reshape(shape)


def find_cifar10(folder: Path) -> list[Path] | None:
    """Return the five training files and the test file of CIFAR-10, binary or Python version, if all are there."""
    for place in (folder, folder / "cifar-10-batches-bin", folder / "cifar-10-batches-py"):
        for suffix in (".bin", ""):
            paths = [place / f"{name}{suffix}" for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")]
            if all(path.is_file() for path in paths):
                return paths
    return None


def read_cifar10(path: Path) -> tuple[Array, Array]:
    """Read one file: pictures (n, 32, 32, 3) uint8 and labels (n,) int64."""
    if path.suffix == ".bin":
        content = np.fromfile(path, np.uint8)
        if len(content) == 0 or len(content) % _CIFAR_RECORD:
            raise FastentError(
                f"{str(path)!r} has {len(content)} bytes, no multiple of {_CIFAR_RECORD}: it is cut off; download it again"
            )
        records = content.reshape(-1, _CIFAR_RECORD)
        pictures, labels = records[:, 1:], records[:, 0].astype(np.int64)
    else:
        pictures, labels = _read_batch(path)
    return np.ascontiguousarray(pictures.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles dictionaries, strings, lists and numpy arrays. Whatever else a file asks for is refused, not run."""

    _ALLOWED = frozenset(
        {
            ("_codecs", "encode"),
            ("numpy", "dtype"),
            ("numpy", "ndarray"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _read_batch(path: Path) -> tuple[Array, Array]:
    try:
        with path.open("rb") as stream:
            batch = _ArrayUnpickler(stream, encoding="bytes").load()
        pictures, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"], np.int64)
        if pictures.dtype != np.uint8 or pictures.shape != (len(labels), _CIFAR_RECORD - 1):
            raise ValueError(f"its data are {pictures.dtype} of shape {pictures.shape}, for {len(labels)} labels")
    except Exception as error:  # a damaged pickle can raise anything
        raise FastentError(f"{str(path)!r} is no batch of CIFAR-10 ({error}): download it again") from error
    return pictures, labels
