"""Captured activations on disk: shards of rows in .npy files, and a manifest that says what they are.

    FOLDER/manifest.json              model, layers, dtype, what was read; for each shard its rows and the SHA-256 of its files
                                      and of the inputs that it was made of; and a checksum of all this
    FOLDER/00-encoder.1.00003.npy     layer 0 ("encoder.1"), shard 3: rows (m, d), bfloat16 as uint16
    FOLDER/labels.00003.npy           labels of these rows, where the loader had any

A shard counts when the manifest names it; the manifest is written anew, whole, after each. So a capture that is killed loses
the shard it was at, and files that no manifest names are leftovers. SHA-256, because `sha256sum` checks it without fastent and
processors compute it faster (1.7 GB/s here) than models fill shards. A file is compared with its checksum when it
is first read.
"""

import errno
import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from fastent.chunks import NpyFile, Shards, Source
from fastent.errors import FastentError
from fastent.files import atomic_path, first_line, read_npy, write_text
from fastent.options import choice
from fastent.progress import Progress, reporting
from fastent.sealed import with_checksum, without_checksum

__all__ = [
    "DTYPES", "ShardWriter", "Store", "digest_of_batches", "new_manifest", "open_store", "read_manifest", "remove_leftovers",
]  # fmt: skip

Array = NDArray[Any]
Manifest = dict[str, Any]

_MANIFEST = "manifest.json"
_FORMAT, _VERSION = "fastent activations", 2
_ON_DISK: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "bfloat16": np.dtype("<u2"), "float32": np.dtype("<f4")}
DTYPES = tuple(_ON_DISK)
_SHARD = re.compile(r"(?:\d\d+-[\w.-]+|labels)\.\d{5,}\.npy")
_LEFTOVER = re.compile(rf"\.(?:{_SHARD.pattern}|manifest\.json)\..+")
_REMEDY = "restore it, or capture again with overwrite=True"


@dataclass(frozen=True, eq=False)
class Store:
    """What `fe.capture` wrote: activations of some layers for the same rows.

    Attributes
    ----------
    path : Path
    manifest : dict
        What manifest.json says.
    """

    path: Path
    manifest: Manifest

    @property
    def layers(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(layer["name"] for layer in self.manifest["layers"])

    @property
    def complete(self) -> bool:
        """Whether the capture has come to its end."""
        return bool(self.manifest["complete"])

    def __len__(self) -> int:
        return int(self.manifest["rows"])

    @property
    def row_ids(self) -> NDArray[np.int64]:
        """(n,) numbers of the rows in what the loader went through."""
        return np.arange(len(self))

    @cached_property
    def labels(self) -> Array | None:
        """(n,) labels as the loader had them, or None."""
        if self.manifest["labels"] is None:
            return None
        stored = [shard["labels"] for shard in self.manifest["shards"]]
        for each in stored:
            _verify(self.path / each["file"], each["sha256"])
        parts = [read_npy(self.path / each["file"], _REMEDY) for each in stored]
        return np.concatenate([np.empty(0, self.manifest["labels"]), *parts])

    def layer(self, name: str | None = None) -> Source:
        """The activations (n, d) of a layer, read as they are asked for; the name may be left out where there is one."""
        if name is None and len(self.layers) == 1:
            name = self.layers[0]
        if name not in self.layers:
            wanted = "none was named" if name is None else f"{name!r} is none of them"
            raise FastentError(
                f"{str(self.path)!r} holds {', '.join(map(repr, self.layers))}, and {wanted}: {self.path.name}:NAME does"
            )
        files = [shard["files"][self.layers.index(name)] for shard in self.manifest["shards"]]
        if not files:
            raise FastentError(f"{str(self.path)!r} holds no rows yet: run the same capture again, which goes on from there")
        bfloat16 = self.manifest["dtype"] == "bfloat16"
        shards = [_Shard(self.path / each["file"], each["sha256"], bfloat16=bfloat16) for each in files]
        return Shards(shards, [each["file"] for each in files])

    def verify(self, progress: Progress = None) -> None:
        """Read every byte and compare it with the checksums.

        Raises
        ------
        FastentError
            The first file that is not what was written.
        """
        shards = self.manifest["shards"]
        with reporting(progress, "verifying", len(shards)) as report:
            for i, shard in enumerate(shards):
                for stored in _files_of(shard):
                    _verify(self.path / stored["file"], stored["sha256"], anew=True)
                report(i + 1, f"{shard['start'] + shard['rows']:,} rows")

    def __repr__(self) -> str:
        widths = ", ".join(f"{layer['name']} {layer['d']}" for layer in self.manifest["layers"])
        return f"Store({len(self):,} rows of {self.manifest['dtype']}: {widths}{'' if self.complete else ', unfinished'})"


class _Shard(NpyFile):
    """One file of a layer: no row is handed out before all of it was compared with its checksum, once in a process."""

    def __init__(self, path: Path, sha256: str, *, bfloat16: bool) -> None:
        super().__init__(path, bfloat16=bfloat16)
        self._sha256 = sha256

    def read(self, start: int, stop: int) -> Array:
        _verify(self._path, self._sha256)
        return super().read(start, stop)

    def take(self, rows: NDArray[np.int64]) -> Array:
        _verify(self._path, self._sha256)
        return super().take(rows)


def open_store(path: str | os.PathLike[str], *, unfinished: bool = False) -> Store:
    """Open what `fe.capture` wrote, and see that manifest and files agree in presence, shape, dtype and size.

    Parameters
    ----------
    path : path
        The folder.
    unfinished : bool
        Open a capture that was interrupted, too, with the rows that it has.

    Raises
    ------
    FastentError
        No manifest, or a damaged one; a file that is missing, truncated or of another shape; an unfinished capture.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    if manifest is None:
        raise FastentError(f"no {_MANIFEST} in {str(folder)!r}: name a folder that fe.capture wrote")
    if not (manifest["complete"] or unfinished):
        total = "" if manifest["total_rows"] is None else f" of {manifest['total_rows']:,}"
        raise FastentError(
            f"{str(folder)!r} is an unfinished capture with {manifest['rows']:,}{total} rows: "
            "run the same capture again, which goes on from there"
        )
    for shard in manifest["shards"]:
        for layer, stored in zip(manifest["layers"], shard["files"], strict=True):
            _see_that_it_agrees(folder / stored["file"], (shard["rows"], layer["d"]), _ON_DISK[manifest["dtype"]])
        if shard["labels"] is not None:
            _see_that_it_agrees(folder / shard["labels"]["file"], (shard["rows"],), np.dtype(manifest["labels"]))
    return Store(folder, manifest)


def _see_that_it_agrees(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    stored = read_npy(path, _REMEDY)
    if stored.shape != shape or stored.dtype != dtype:
        raise FastentError(
            f"{str(path)!r} has shape {stored.shape} and dtype {stored.dtype}, the manifest says {shape} and {dtype}: {_REMEDY}"
        )
    there, expected = path.stat().st_size, getattr(stored, "offset", 0) + stored.nbytes
    if there != expected:
        raise FastentError(f"{str(path)!r} has {there} bytes, its shape says {expected}: {_REMEDY}")


def new_manifest(
    layers: Sequence[tuple[str, int]],
    *,
    pooling: str,
    dtype: str,
    labels: np.dtype[Any] | None,
    model: dict[str, str],
    loader: dict[str, Any],
    total_rows: int | None,
) -> Manifest:
    """A manifest of no shards yet; `layers` are names and widths."""
    from fastent import __version__

    return {
        "format": _FORMAT,
        "version": _VERSION,
        "fastent": __version__,
        "complete": False,
        "rows": 0,
        "total_rows": total_rows,
        "layers": [{"name": name, "d": d, "dtype": dtype, "pooling": pooling} for name, d in layers],
        "pooling": pooling,
        "dtype": dtype,
        "labels": None if labels is None else labels.str,
        "model": model,
        "loader": loader,
        "throughput": {"seconds": 0.0, "rows_per_second": 0.0, "megabytes_per_second": 0.0},
        "shards": [],
    }


def read_manifest(folder: Path) -> Manifest | None:
    """What the manifest says, which does not contradict itself; None where there is none."""
    place = folder / _MANIFEST
    if not place.is_file():
        return None
    try:
        manifest: Manifest = json.loads(place.read_text(encoding="utf-8"))
        if manifest["format"] != _FORMAT:
            raise ValueError(f"format {manifest['format']!r}")
        known = manifest["version"] == _VERSION
        if known:
            manifest = _unsealed(manifest)
            _check_structure(manifest)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise FastentError(f"{str(place)!r} is damaged or none of fe.capture ({first_line(error)}): {_REMEDY}") from error
    if not known:
        earlier = " (without checksums of the manifest and of the inputs)" if manifest["version"] == 1 else ""
        raise FastentError(
            f"{str(place)!r} has version {manifest['version']!r}{earlier}, not {_VERSION}: use the fastent that wrote it, or "
            "capture again with overwrite=True"
        )
    return manifest


def _sealed(manifest: Manifest) -> Manifest:
    """With checksums; what the clock has a say in has one of its own, so that the same rows have the same."""
    timeless = {name: value for name, value in manifest.items() if name != "throughput"}
    return {**with_checksum(timeless), "throughput": with_checksum(manifest["throughput"])}


def _unsealed(manifest: Manifest) -> Manifest:
    throughput = without_checksum(manifest.pop("throughput"))
    return {**without_checksum(manifest), "throughput": throughput}


def _check_structure(manifest: Manifest) -> None:
    choice("dtype", manifest["dtype"], DTYPES)
    for name in ("model", "pooling", "total_rows", "loader", "throughput"):
        manifest[name]
    labels = None if manifest["labels"] is None else np.dtype(manifest["labels"])
    names = [layer["name"] for layer in manifest["layers"]]
    if not names or len(set(names)) < len(names) or not all(type(layer["d"]) is int for layer in manifest["layers"]):
        raise ValueError(f"layers {names}")
    start = 0
    for i, shard in enumerate(manifest["shards"]):
        if shard["start"] != start or type(shard["rows"]) is not int or shard["rows"] < 1:
            raise ValueError(f"shard {i} starts at row {shard['start']} and has {shard['rows']}, the next is row {start}")
        if len(shard["files"]) != len(names) or (shard["labels"] is None) != (labels is None):
            raise ValueError(f"shard {i} has {len(shard['files'])} files of {len(names)} layers")
        if not isinstance(shard["inputs"], str):
            raise ValueError(f"shard {i} was made of the inputs {shard['inputs']!r}")
        for stored in _files_of(shard):
            if not _SHARD.fullmatch(stored["file"]) or not isinstance(stored["sha256"], str):
                raise ValueError(f"shard {i} names the file {stored['file']!r}")
        start += shard["rows"]
    complete = manifest["complete"]
    if manifest["rows"] != start or not isinstance(complete, bool) or (complete and manifest["total_rows"] != start):
        raise ValueError(f"{manifest['rows']} rows of {manifest['total_rows']}, {start} in shards, complete {complete}")


def _files_of(shard: dict[str, Any]) -> list[dict[str, str]]:
    return [*shard["files"], *([] if shard["labels"] is None else [shard["labels"]])]


# Files that were found to be what was written, as they were then: place, checksum, and what changes when they do.
_VERIFIED: set[tuple[str, str, int, int, int]] = set()


def _verify(path: Path, sha256: str, *, anew: bool = False) -> None:
    """Compare a file with its checksum, unless that was done before; or else `anew`."""
    try:
        there = path.stat()
        state = (str(path.absolute()), sha256, there.st_ino, there.st_size, there.st_mtime_ns)
    except OSError:
        raise _missing(path) from None
    if state in _VERIFIED and not anew:
        return
    if _checksum(path) != sha256:
        raise FastentError(f"{str(path)!r} is not what was written (SHA-256): {_REMEDY}")
    _VERIFIED.add(state)


def _missing(path: Path) -> FastentError:
    return FastentError(f"no file {str(path)!r}, which the manifest names: {_REMEDY}")


def _checksum(path: Path) -> str:
    try:
        with open(path, "rb") as stored:
            return hashlib.file_digest(stored, "sha256").hexdigest()
    except FileNotFoundError:
        raise _missing(path) from None


def remove_leftovers(folder: Path, manifest: Manifest | None) -> None:
    """Remove what a killed capture left half-written, and shards that came to be but not into the manifest."""
    named = set() if manifest is None else {stored["file"] for shard in manifest["shards"] for stored in _files_of(shard)}
    for path in folder.iterdir():
        unnamed = _SHARD.fullmatch(path.name) and path.name not in named
        if unnamed and manifest is None:
            raise FastentError(
                f"{str(folder)!r} has shards ({path.name}) but no {_MANIFEST}: restore it, or capture into another folder"
            )
        if unnamed or _LEFTOVER.fullmatch(path.name):
            path.unlink()


class ShardWriter:
    """Appends batches of rows to a store. A batch is never split: a shard ends before the batch that would overfill it.

    A context manager: an error within it discards the shard that is being filled and leaves the ones before.
    """

    def __init__(self, folder: Path, manifest: Manifest, shard_rows: int) -> None:
        self.manifest = manifest
        self._folder, self._shard_rows = folder, shard_rows
        self._began = time.perf_counter() - manifest["throughput"]["seconds"]
        self._stems = [_stem(i, layer["name"]) for i, layer in enumerate(manifest["layers"])]
        self._stems += [] if manifest["labels"] is None else ["labels"]
        self._kinds: list[tuple[tuple[int, ...], np.dtype[Any]]] = [
            ((layer["d"],), _ON_DISK[manifest["dtype"]]) for layer in manifest["layers"]
        ]
        self._kinds += [] if manifest["labels"] is None else [((), np.dtype(manifest["labels"]))]
        self._filling, self._safe = 0, manifest["rows"]
        self._inputs: list[str] = []
        self._open = ExitStack()
        self._streams: list[tuple[Path, IO[bytes]]] = []

    @property
    def rows(self) -> int:
        """How many there are, with those of the shard that is being filled."""
        return int(self.manifest["rows"]) + self._filling

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._open.__exit__(kind, error, trace)
        except OSError as again:
            error = again
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FastentError(
                f"{str(self._folder)!r}: no space left ({error.strerror}); the first {self._safe:,} rows are safe: "
                "make room and run the same capture again, which goes on from there"
            ) from error

    def add(self, *arrays: Array, inputs: str) -> None:
        """Append a batch: each layer's (b, d) in the dtype on disk, and the labels (b,) if the store has any.

        `inputs` is a digest of what it was made of.
        """
        rows = len(arrays[0])
        if self._filling and self._filling + rows > self._shard_rows:
            self._close_shard()
        if not self._filling:
            self._begin_shard()
        for (_, stream), array in zip(self._streams, arrays, strict=True):
            stream.write(np.ascontiguousarray(array).data)
        self._filling += rows
        self._inputs.append(inputs)

    def finish(self) -> None:
        """Close the last shard and say that the capture is complete."""
        if self._filling:
            self._close_shard()
        self.manifest["complete"], self.manifest["total_rows"] = True, self.manifest["rows"]
        self.write_manifest()

    def _begin_shard(self) -> None:
        self._streams = []
        for stem, (shape, dtype) in zip(self._stems, self._kinds, strict=True):
            place = self._open.enter_context(atomic_path(self._folder / f"{stem}.{len(self.manifest['shards']):05d}.npy"))
            stream = self._open.enter_context(open(place, "wb"))  # noqa: SIM115
            _write_header(stream, (0, *shape), dtype)
            self._streams.append((place, stream))

    def _close_shard(self) -> None:
        """Give the shard's files their names, then name them in the manifest."""
        files = []
        for stem, (place, stream), (shape, dtype) in zip(self._stems, self._streams, self._kinds, strict=True):
            stream.seek(0)
            _write_header(stream, (self._filling, *shape), dtype)
            stream.flush()
            files.append({"file": f"{stem}.{len(self.manifest['shards']):05d}.npy", "sha256": _checksum(place)})
        self._open.close()
        labels = None if self.manifest["labels"] is None else files.pop()
        start = self.manifest["rows"]
        inputs = digest_of_batches(self._inputs)
        shard = {"start": start, "rows": self._filling, "files": files, "labels": labels, "inputs": inputs}
        self.manifest["shards"].append(shard)
        self.manifest["rows"] = start + self._filling
        self._filling, self._inputs = 0, []
        self.write_manifest()

    def throughput(self) -> dict[str, float]:
        """Seconds of all calls that wrote to the store, and what they come to for the rows that are there."""
        rows, seconds = self.rows, time.perf_counter() - self._began
        row_bytes = sum(dtype.itemsize * (shape[0] if shape else 1) for shape, dtype in self._kinds)
        return {
            "seconds": seconds,
            "rows_per_second": rows / seconds,
            "megabytes_per_second": rows * row_bytes / seconds / 1e6,
        }

    def write_manifest(self) -> None:
        self.manifest["throughput"] = {name: round(value, 3) for name, value in self.throughput().items()}
        write_text(self._folder / _MANIFEST, json.dumps(_sealed(self.manifest), indent=1))
        self._safe = self.manifest["rows"]


def digest_of_batches(inputs: Sequence[str]) -> str:
    """What stands in the manifest for the inputs of a shard, given the digests of its batches."""
    return hashlib.sha256(" ".join(inputs).encode()).hexdigest()[:16]


def _write_header(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """A header of the same length for any number of rows: numpy leaves room for the first axis to grow."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)


def _stem(i: int, layer: str) -> str:
    """What a layer's files are called: layers' names may hold anything."""
    return f"{i:02d}-{re.sub(r'[^A-Za-z0-9._-]', '_', layer)[:80] or 'model'}"
