"""Captured activations on disk: shards of rows in .npy files, and a manifest that says what they are.

    FOLDER/manifest.json              model, layers, dtype, what was read; for each shard its rows and the SHA-256 of its files
                                      and of the inputs that it was made of; and a checksum of all this
    FOLDER/00-encoder.1.00003.npy     layer 0 ("encoder.1"), shard 3: rows (m, d), bfloat16 as uint16
    FOLDER/labels.00003.npy           labels of these rows, where the loader had any
    FOLDER/inputs.00003.npy           with pooling="tokens": the number of the input that each row is a token of

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

from fastent.errors import FastentError
from fastent.io.checksums import with_checksum, without_checksum
from fastent.io.files import atomic_path, write_text
from fastent.io.npy import read_npy
from fastent.io.reading import as_path, name_list, parse_json, reading
from fastent.io.sources import NpyFile, Shards, Source
from fastent.printable import printable
from fastent.runtime.progress import Progress, reporting
from fastent.version import __version__

__all__ = [
    "DTYPES", "ShardWriter", "Store", "digest_of_batches", "inputs_of", "new_manifest", "open_store", "read_manifest",
    "remove_leftovers",
]  # fmt: skip

Array = NDArray[Any]
Manifest = dict[str, Any]

_MANIFEST = "manifest.json"
_FORMAT, _VERSION = "fastent activations", 2
_ON_DISK: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "bfloat16": np.dtype("<u2"), "float32": np.dtype("<f4")}
DTYPES = tuple(_ON_DISK)
_SHARD = re.compile(r"(?:\d\d+-[\w.-]+|labels|inputs)\.\d{5,}\.npy")
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

    @cached_property
    def row_ids(self) -> NDArray[np.int64]:
        """(n,) numbers of the inputs in what the loader went through; with pooling="tokens" each repeated for its tokens."""
        if self.manifest["pooling"] != "tokens":
            return np.arange(len(self))
        parts = [_read_verified(self.path, shard["inputs"]) for shard in self.manifest["shards"]]
        return np.concatenate([np.empty(0, np.int64), *parts])

    @cached_property
    def labels(self) -> Array | None:
        """(n,) labels as the loader had them, or None."""
        if self.manifest["labels"] is None:
            return None
        parts = [_read_verified(self.path, shard["labels"]) for shard in self.manifest["shards"]]
        return np.concatenate([np.empty(0, self.manifest["labels"]), *parts])

    def layer(self, name: str | None = None) -> Source:
        """The activations (n, d) of a layer, read as they are asked for; the name may be left out where there is one.

        A shard is compared with its checksum before its first rows are used; one that differs is a FastentError.
        """
        if name is None and len(self.layers) == 1:
            name = self.layers[0]
        if name not in self.layers:
            wanted = "none was named" if name is None else f"{name!r} is none of them"
            raise FastentError(
                f"{str(self.path)!r} holds {name_list(map(repr, self.layers))}, and {wanted}: {self.path.name}:NAME does"
            )
        stored = [shard["files"][self.layers.index(name)] for shard in self.manifest["shards"]]
        files = [each["file"] for each in stored]
        if not files:
            raise FastentError(f"{str(self.path)!r} holds no rows yet: run the same capture again, which goes on from there")
        bfloat16 = self.manifest["dtype"] == "bfloat16"
        return Shards([_VerifiedFile(self.path / each["file"], each["sha256"], bfloat16) for each in stored], files)

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
                    _verify(self.path / stored["file"], stored["sha256"])
                report(i + 1, f"{shard['start'] + shard['rows']:,} rows")

    def __repr__(self) -> str:
        widths = ", ".join(f"{layer['name']} {layer['d']}" for layer in self.manifest["layers"])
        unfinished = "" if self.complete else ", unfinished"
        return printable(f"Store({len(self):,} rows of {self.manifest['dtype']}: {widths}{unfinished})")


class _VerifiedFile(NpyFile):
    """A shard that is compared with its checksum before its first rows are used, and again if the file is another by then."""

    def __init__(self, path: Path, checksum: str, bfloat16: bool) -> None:
        super().__init__(path, bfloat16=bfloat16, remedy=_REMEDY)
        self._checksum, self._verified = checksum, (0, 0, 0)

    def _stored(self) -> Array:
        stored = super()._stored()
        found = os.stat(self._path)
        this = found.st_ino, found.st_size, found.st_mtime_ns
        if this != self._verified:
            _verify(self._path, self._checksum)
            self._verified = this
        return stored


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
    folder = as_path(path, "a folder that fe.capture wrote")
    manifest = read_manifest(folder)
    if manifest is None:
        raise FastentError(f"no {_MANIFEST} in {str(folder)!r}: name a folder that fe.capture wrote")
    if not (manifest["complete"] or unfinished):
        total = "" if manifest["total_rows"] is None else f" of {manifest['total_rows']:,}"
        raise FastentError(
            f"{str(folder)!r} is an unfinished capture with {inputs_of(manifest):,}{total} rows: "
            "run the same capture again, which goes on from there"
        )
    for shard in manifest["shards"]:
        for layer, stored in zip(manifest["layers"], shard["files"], strict=True):
            _see_that_it_agrees(folder / stored["file"], (shard["rows"], layer["d"]), _ON_DISK[manifest["dtype"]])
        if shard["labels"] is not None:
            _see_that_it_agrees(folder / shard["labels"]["file"], (shard["rows"],), np.dtype(manifest["labels"]))
        if shard.get("inputs") is not None:
            _see_that_it_agrees(folder / shard["inputs"]["file"], (shard["rows"],), np.dtype(np.int64))
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
        **({"inputs": 0} if pooling == "tokens" else {}),
    }


def inputs_of(manifest: Manifest) -> int:
    """How many of the loader's inputs the rows in a manifest are of."""
    return int(manifest["inputs"] if manifest["pooling"] == "tokens" else manifest["rows"])


def read_manifest(folder: Path) -> Manifest | None:
    """What the manifest says, which does not contradict itself; None where there is none."""
    place = folder / _MANIFEST
    with reading(place, _REMEDY, "none of fe.capture"):
        if not place.is_file():
            return None
        manifest: Manifest = parse_json(place.read_text(encoding="utf-8"))
        if manifest["format"] != _FORMAT:
            raise ValueError(f"format {manifest['format']!r:.80}")
        if manifest["version"] != _VERSION:
            earlier = " (without checksums of the manifest and of the inputs)" if manifest["version"] == 1 else ""
            raise FastentError(
                f"{str(place)!r} has version {manifest['version']!r:.80}{earlier}, not {_VERSION}: use the fastent that wrote "
                "it, or capture again with overwrite=True"
            )
        manifest = _unsealed(manifest)
        _check_structure(manifest)
    return manifest


def _sealed(manifest: Manifest) -> Manifest:
    """With checksums; what the clock has a say in has one of its own, so that the same rows have the same."""
    timeless = {name: value for name, value in manifest.items() if name != "throughput"}
    return {**with_checksum(timeless), "throughput": with_checksum(manifest["throughput"])}


def _unsealed(manifest: Manifest) -> Manifest:
    throughput = without_checksum(manifest.pop("throughput"))
    return {**without_checksum(manifest), "throughput": throughput}


def _check_structure(manifest: Manifest) -> None:
    if manifest["dtype"] not in DTYPES:
        raise ValueError(f"dtype {manifest['dtype']!r:.80}")
    kinds = {"model": dict, "loader": dict, "throughput": dict, "pooling": str, "layers": list, "shards": list}
    for name, kind in kinds.items():
        if not isinstance(manifest[name], kind):
            raise ValueError(f"{name} is a {type(manifest[name]).__name__}")
    if type(manifest["rows"]) is not int or not (manifest["total_rows"] is None or type(manifest["total_rows"]) is int):
        raise ValueError(f"{manifest['rows']!r:.40} rows of {manifest['total_rows']!r:.40}")
    if not isinstance(manifest["throughput"]["seconds"], float | int):
        raise ValueError(f"throughput {str(manifest['throughput'])[:80]}")
    labels = None if manifest["labels"] is None else np.dtype(manifest["labels"])
    if labels is not None and labels.kind not in "iubUSf":
        raise ValueError(f"labels of dtype {labels}")
    names = [layer["name"] for layer in manifest["layers"]]
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError(f"layers {name_list(names)}")
    if not all(type(layer["d"]) is int and layer["d"] > 0 for layer in manifest["layers"]):
        raise ValueError(f"widths {name_list(layer['d'] for layer in manifest['layers'])}")
    start = 0
    for i, shard in enumerate(manifest["shards"]):
        if shard["start"] != start or type(shard["rows"]) is not int or shard["rows"] < 1:
            raise ValueError(f"shard {i} starts at row {shard['start']} and has {shard['rows']}, the next is row {start}")
        if len(shard["files"]) != len(names) or (shard["labels"] is None) != (labels is None):
            raise ValueError(f"shard {i} has {len(shard['files'])} files of {len(names)} layers")
        if not isinstance(shard["digest"], str):
            raise ValueError(f"shard {i} was made of the inputs {shard['digest']!r:.80}")
        for stored in _files_of(shard):
            if not _SHARD.fullmatch(stored["file"]) or not isinstance(stored["sha256"], str):
                raise ValueError(f"shard {i} names the file {stored['file']!r:.80}")
        if (manifest["pooling"] == "tokens") != isinstance(shard.get("inputs"), dict):
            raise ValueError(f"shard {i} says {shard.get('inputs')} of inputs with pooling {manifest['pooling']!r}")
        start += shard["rows"]
    complete = manifest["complete"]
    whole = complete and manifest["total_rows"] != inputs_of(manifest)
    if manifest["rows"] != start or not isinstance(complete, bool) or whole:
        raise ValueError(f"{manifest['rows']} rows of {manifest['total_rows']}, {start} in shards, complete {complete}")


def _files_of(shard: dict[str, Any]) -> list[dict[str, str]]:
    return [*shard["files"], *(shard[name] for name in ("labels", "inputs") if shard.get(name) is not None)]


def _checksum(path: Path) -> str:
    if not path.exists():
        raise FastentError(f"no file {str(path)!r}, which the manifest names: {_REMEDY}")
    with reading(path, _REMEDY), open(path, "rb") as stored:
        return hashlib.file_digest(stored, "sha256").hexdigest()


def _verify(path: Path, checksum: str) -> None:
    if _checksum(path) != checksum:
        raise FastentError(f"{str(path)!r} is not what was written (SHA-256): {_REMEDY}")


def _read_verified(folder: Path, stored: dict[str, str]) -> Array:
    _verify(folder / stored["file"], stored["sha256"])
    return read_npy(folder / stored["file"], _REMEDY)


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
        self._of_tokens = manifest["pooling"] == "tokens"
        if self._of_tokens:
            self._stems.append("inputs")
            self._kinds.append(((), np.dtype(np.int64)))
        self._inputs = inputs_of(manifest)
        self._filling, self._safe = 0, manifest["rows"]
        self._digests: list[str] = []
        self._open = ExitStack()
        self._streams: list[tuple[Path, IO[bytes]]] = []

    @property
    def rows(self) -> int:
        """How many there are, with those of the shard that is being filled."""
        return int(self.manifest["rows"]) + self._filling

    @property
    def inputs(self) -> int:
        """Of how many inputs these are."""
        return self._inputs if self._of_tokens else self.rows

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

    def add(self, *arrays: Array, digest: str) -> None:
        """Append a batch: each layer's (b, d) in the dtype on disk, and the labels (b,) if the store has any.

        With pooling="tokens" last of all (b,) int64, the numbers of the inputs, ascending. `digest` is one of the inputs and
        labels that the batch was made of.
        """
        rows = len(arrays[0])
        if self._filling and self._filling + rows > self._shard_rows:
            self._close_shard()
        if not self._filling:
            self._begin_shard()
        for (_, stream), array in zip(self._streams, arrays, strict=True):
            stream.write(np.ascontiguousarray(array).data)
        self._filling += rows
        self._digests.append(digest)
        if self._of_tokens:
            self._inputs = int(arrays[-1][-1]) + 1

    def finish(self) -> None:
        """Close the last shard and say that the capture is complete."""
        if self._filling:
            self._close_shard()
        self.manifest["complete"], self.manifest["total_rows"] = True, inputs_of(self.manifest)
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
        inputs = {"inputs": files.pop()} if self._of_tokens else {}
        labels = None if self.manifest["labels"] is None else files.pop()
        start = self.manifest["rows"]
        digest = digest_of_batches(self._digests)
        shard = {"start": start, "rows": self._filling, "files": files, "labels": labels, **inputs, "digest": digest}
        self.manifest["shards"].append(shard)
        self.manifest["rows"] = start + self._filling
        if self._of_tokens:
            self.manifest["inputs"] = self._inputs
        self._filling, self._digests = 0, []
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


def digest_of_batches(digests: Sequence[str]) -> str:
    """What stands in the manifest for the inputs of a shard, given the digests of its batches."""
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]


def _write_header(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """A header of the same length for any number of rows: numpy leaves room for the first axis to grow."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)


def _stem(i: int, layer: str) -> str:
    """What a layer's files are called: layers' names may hold anything."""
    return f"{i:02d}-{re.sub(r'[^A-Za-z0-9._-]', '_', layer)[:80] or 'model'}"
