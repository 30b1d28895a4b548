"""Files that notice damage: each carries a checksum of everything else in it, which is compared before anything is used.

    .npz, .pt   ZIP archives, which may end with a comment: SHA-256 of all bytes before it. numpy and torch ignore the comment.
    .json       SHA-256 of all other values, under "checksum"

SHA-256 because processors compute it faster (1.7 GB/s here) than disks write, and `sha256sum` checks it without fastent.
"""

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.files import atomic_path
from fastent.io.npy import read_npz
from fastent.io.reading import as_path, is_there, nothing_at, reading, require_file

__all__ = [
    "append_checksum", "file_checksum", "read_checked_npz", "read_checked_torch", "verify_checksum", "with_checksum",
    "without_checksum", "write_checked_npz", "write_checked_torch",
]  # fmt: skip

Array = NDArray[Any]

_COMMENT = re.compile(rb"fastent sha256 ([0-9a-f]{64})")
_LENGTH = len("fastent sha256 ") + 64
# The last record of a ZIP archive without a comment.
_END, _END_BYTES = b"PK\x05\x06", 22
# In an .npz with a checksum, so that it cannot pass for one of an earlier version if its checksum is gone.
_MARK = "fastent.sealed"
_CHECKSUM = "checksum"


def file_checksum(path: str | os.PathLike[str], *, but_last: int = 0) -> str:
    """SHA-256 of a file, or of all but its last bytes, in hexadecimal digits."""
    checksum = hashlib.sha256()
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size - but_last
        while size > 0 and (block := stream.read(min(size, 1 << 20))):
            checksum.update(block)
            size -= len(block)
    return checksum.hexdigest()


def append_checksum(path: str | os.PathLike[str]) -> None:
    """End a finished ZIP archive with the checksum of its bytes."""
    with open(path, "r+b") as stream:
        stream.seek(-_END_BYTES, os.SEEK_END)
        end = stream.read()
        if not (end.startswith(_END) and end.endswith(b"\0\0")):
            raise ValueError(f"{str(path)!r} is no ZIP archive without a comment")
        stream.seek(-2, os.SEEK_END)
        stream.write(_LENGTH.to_bytes(2, "little"))
        stream.flush()
        stream.write(f"fastent sha256 {file_checksum(path)}".encode())


def verify_checksum(path: str | os.PathLike[str], remedy: str) -> None:
    """Refuse an archive that is not what was written, or that has no checksum (earlier versions wrote none)."""
    _check(path, _checksum_agrees(path, remedy), remedy)


def write_checked_npz(path: str | os.PathLike[str], arrays: Mapping[str, Any], *, compress: bool = True) -> None:
    """Write an .npz with a checksum, whole or not at all."""
    save = np.savez_compressed if compress else np.savez
    with atomic_path(path) as temporary:
        save(temporary, **{**arrays, _MARK: np.array(True)})
        append_checksum(temporary)


def read_checked_npz(path: str | os.PathLike[str], remedy: str, *, earlier: bool = False) -> dict[str, Array]:
    """Read all arrays of what `write_checked_npz` wrote; anything else is refused with the `remedy`.

    With `earlier` also an .npz that was written before there were checksums, though not one that has lost its own.
    """
    agrees = _checksum_agrees(path, remedy)
    if agrees is not None or not earlier:
        _check(path, agrees, remedy)
    arrays = read_npz(path, remedy)
    if arrays.pop(_MARK, None) is not None and agrees is None:
        _check(path, False, remedy)
    return arrays


def write_checked_torch(path: str | os.PathLike[str], state: Any) -> None:
    """Write tensors and plain values with torch.save and a checksum, whole or not at all."""
    import torch

    with atomic_path(path) as temporary:
        with open(temporary, "wb") as stream:
            torch.save(state, stream)
        append_checksum(temporary)


def read_checked_torch(path: str | os.PathLike[str], remedy: str, kind: str) -> Any:
    """Read what `write_checked_torch` wrote, to the CPU; anything else is refused with the `remedy`."""
    import torch

    verify_checksum(path, remedy)
    with reading(path, remedy, kind):
        return torch.load(path, map_location="cpu", weights_only=True)


def _checksum_agrees(path: str | os.PathLike[str], remedy: str) -> bool | None:
    """Whether the checksum in a file is that of its content; None if it has none."""
    place = as_path(path)
    if not is_there(place):
        raise nothing_at(place, f"restore it, or {remedy}")
    size = require_file(place, remedy)
    with reading(place, remedy):
        with open(place, "rb") as stream:
            stream.seek(max(size - _LENGTH, 0))
            found = _COMMENT.fullmatch(stream.read())
        return None if found is None else file_checksum(place, but_last=_LENGTH) == found[1].decode()


def _check(path: str | os.PathLike[str], agrees: bool | None, remedy: str) -> None:
    if agrees is None and not zipfile.is_zipfile(path):
        what = ".npz of plain arrays" if str(path).endswith(".npz") else "archive of torch's"
        raise FastentError(f"{str(path)!r} is damaged or no {what}: {remedy}")
    if agrees is None:
        raise FastentError(f"{str(path)!r} has no checksum: it is damaged, or of an earlier version of fastent; {remedy}")
    if not agrees:
        raise FastentError(f"{str(path)!r} is damaged, its checksum (SHA-256) does not agree: {remedy}")


def with_checksum(values: Mapping[str, Any]) -> dict[str, Any]:
    """A dict for JSON, and its checksum with it."""
    return {**values, _CHECKSUM: _of_values(values)}


def without_checksum(loaded: Mapping[str, Any]) -> dict[str, Any]:
    """The dict that `with_checksum` was given, from what was loaded of its JSON; ValueError where a value is another."""
    values = dict(loaded)
    if values.pop(_CHECKSUM, None) != _of_values(values):
        raise ValueError("its checksum does not agree")
    return values


def _of_values(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(values), sort_keys=True).encode()).hexdigest()
