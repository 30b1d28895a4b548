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
from fastent.io.reading import as_path, is_there, reading, require_file

__all__ = ["append_checksum", "read_checked_npz", "verify_checksum", "with_checksum", "without_checksum", "write_checked_npz"]

Array = NDArray[Any]

_SEAL = re.compile(rb"fastent sha256 ([0-9a-f]{64})")
_LENGTH = len("fastent sha256 ") + 64
# The last record of a ZIP archive without a comment.
_END, _END_BYTES = b"PK\x05\x06", 22
# In an .npz that was sealed, so that it cannot pass for one of an earlier version if its seal is gone.
_MARK = "fastent.sealed"
_CHECKSUM = "checksum"


def append_checksum(path: str | os.PathLike[str]) -> None:
    """End a finished ZIP archive with the checksum of its bytes."""
    with open(path, "r+b") as stream:
        stream.seek(-_END_BYTES, os.SEEK_END)
        end = stream.read()
        if not (end.startswith(_END) and end.endswith(b"\0\0")):
            raise ValueError(f"{str(path)!r} is no ZIP archive without a comment")
        stream.seek(-2, os.SEEK_END)
        stream.write(_LENGTH.to_bytes(2, "little"))
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0, os.SEEK_END)
        stream.write(f"fastent sha256 {digest}".encode())


def verify_checksum(path: str | os.PathLike[str], remedy: str) -> None:
    """Refuse an archive that is not what was written, or has no checksum, as those of earlier versions, with the `remedy`."""
    _check(path, _state(path, remedy), remedy)


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
    agrees = _state(path, remedy)
    if agrees is not None or not earlier:
        _check(path, agrees, remedy)
    arrays = read_npz(path, remedy)
    if arrays.pop(_MARK, None) is not None and agrees is None:
        _check(path, False, remedy)
    return arrays


def _state(path: str | os.PathLike[str], remedy: str) -> bool | None:
    """Whether the checksum agrees; None where there is none."""
    place = as_path(path)
    if not is_there(place):
        raise FastentError(f"no file {str(path)!r}: restore it, or {remedy}")
    require_file(place, remedy)
    with reading(place, remedy), open(place, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        stream.seek(max(size - _LENGTH, 0))
        found = _SEAL.fullmatch(stream.read())
        if found is None:
            return None
        stream.seek(0)
        return _digest(stream, size - _LENGTH) == found[1].decode()


def _digest(stream: Any, size: int) -> str:
    digest = hashlib.sha256()
    while size > 0 and (block := stream.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()


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
