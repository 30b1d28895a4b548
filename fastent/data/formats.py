"""Readers of the original files of MNIST-like data sets (IDX) and CIFAR-10, which do not trust the files."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.data.pickled import read_plain_pickle
from fastent.errors import FastentError
from fastent.io.reading import name_list, reading
from fastent.printable import first_line
from fastent.runtime.memory import available_bytes, readable_bytes

__all__ = ["find_cifar10", "find_idx", "read_cifar10", "read_idx"]

Array = NDArray[Any]

_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_CIFAR_RECORD = 1 + 3 * 32 * 32
# One byte of what deflate packs becomes at most so many.
_DEFLATE = 1032
_REMEDY = "download it again"


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
    with reading(path, _REMEDY, "no IDX file"):
        size = path.stat().st_size
        packed = path.suffix == ".gz"
        with gzip.open(path, "rb") if packed else path.open("rb") as stream:
            try:
                return _idx_values(path, stream, size, packed)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise FastentError(f"{str(path)!r} cannot be read ({first_line(error)}): {_REMEDY}") from error


def _idx_values(path: Path, stream: Any, size: int, packed: bool) -> Array:
    head = stream.read(4)
    rank = head[3] if len(head) == 4 and head[:3] == b"\0\0\x08" else 0
    sizes = stream.read(4 * rank) if 1 <= rank <= 3 else b""
    if not sizes or len(sizes) < 4 * rank:
        stream.read(1 << 20)  # should the packing be damaged, that is said instead
        raise FastentError(f"{str(path)!r} starts with {head.hex(' ')!r}, no IDX file of unsigned bytes: {_REMEDY}")
    shape = struct.unpack(f">{rank}I", sizes)
    promised = math.prod(shape)
    # No more is unpacked than the header promises, and it can promise no more than the file can hold.
    if promised > (_DEFLATE * size if packed else size):
        raise FastentError(f"{str(path)!r} has {size} bytes, its header promises {shape}: it is cut off; {_REMEDY}")
    if promised > available_bytes():
        raise FastentError(
            f"{str(path)!r} holds {readable_bytes(promised)}, and {readable_bytes(available_bytes())} of memory are available: "
            "use a machine with more memory"
        )
    values = stream.read(promised)
    beyond = len(stream.read(1 << 16)) if len(values) == promised else 0
    if len(values) != promised or beyond:
        found = f"{len(values)}" if not beyond else f"more than {promised}"
        raise FastentError(
            f"{str(path)!r} has {found} values, its header promises {shape}: it is truncated or has trailing bytes; {_REMEDY}"
        )
    return np.frombuffer(values, np.uint8).reshape(shape)


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
    with reading(path, _REMEDY, "no batch of CIFAR-10"):
        content = path.read_bytes()
    if path.suffix == ".bin":
        if len(content) == 0 or len(content) % _CIFAR_RECORD:
            raise FastentError(
                f"{str(path)!r} has {len(content)} bytes, no multiple of {_CIFAR_RECORD}: it is cut off; {_REMEDY}"
            )
        records = np.frombuffer(content, np.uint8).reshape(-1, _CIFAR_RECORD)
        pictures, labels = records[:, 1:], records[:, 0].astype(np.int64)
    else:
        pictures, labels = _read_batch(path, content)
    strange = np.flatnonzero((labels < 0) | (labels > 9))
    if len(strange):
        raise FastentError(
            f"{str(path)!r} has the label {labels[strange[0]]} at row {strange[0]}, not one of 0 to 9: {_REMEDY}"
        )
    return np.ascontiguousarray(pictures.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


def _read_batch(path: Path, content: bytes) -> tuple[Array, Array]:
    try:
        batch = read_plain_pickle(content)
        if not isinstance(batch, dict):
            raise ValueError(f"it holds a {type(batch).__name__}")
        by_name = {name.decode("latin-1") if isinstance(name, bytes) else name: value for name, value in batch.items()}
        if not {"data", "labels"} <= by_name.keys():
            raise ValueError(f"it holds {name_list(by_name)}, not data and labels")
        pictures, labels = by_name["data"], _labels(by_name["labels"])
        if not isinstance(pictures, np.ndarray):
            raise ValueError(f"its data are a {type(pictures).__name__}")
        if pictures.dtype != np.uint8 or pictures.shape != (len(labels), _CIFAR_RECORD - 1):
            raise ValueError(f"its data are {pictures.dtype} of shape {pictures.shape}, for {len(labels)} labels")
    except Exception as error:  # a damaged pickle can raise anything
        raise FastentError(f"{str(path)!r} is no batch of CIFAR-10 ({first_line(error)}): {_REMEDY}") from error
    return pictures, labels


def _labels(found: Any) -> NDArray[np.int64]:
    if isinstance(found, np.ndarray):
        if found.ndim != 1 or found.dtype.kind not in "iu":
            raise ValueError(f"its labels are {found.dtype} of shape {found.shape}")
        return found.astype(np.int64)
    if not isinstance(found, list | tuple) or not all(type(label) is int and 0 <= label < 1 << 31 for label in found):
        raise ValueError("its labels are no list of whole numbers")
    return np.array(found, np.int64)
