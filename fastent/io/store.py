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

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.checksums import file_checksum
from fastent.io.npy import read_npy
from fastent.io.reading import as_path, chosen_name, is_there, nothing_at, reading
from fastent.io.sources import NpyFile, Reader, Shards, Source
from fastent.io.store_manifest import MANIFEST, ON_DISK, REMEDY, Manifest, files_of, inputs_of, is_capture, read_manifest
from fastent.printable import printable
from fastent.runtime.progress import Progress, reporting

__all__ = ["CAPTURED", "Store", "open_store"]

Array = NDArray[Any]


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
        """Names of the layers."""
        return tuple(layer["name"] for layer in self.manifest["layers"])

    @property
    def complete(self) -> bool:
        """Whether the capture was finished."""
        return bool(self.manifest["complete"])

    def __len__(self) -> int:
        return int(self.manifest["rows"])

    @cached_property
    def row_ids(self) -> NDArray[np.int64]:
        """(n,) numbers of the inputs, in the order of the loader; with pooling="tokens" each is repeated for its tokens."""
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
        """The activations (n, d) of a layer, read when they are requested; the name may be left out if there is one layer.

        A shard is compared with its checksum before its first rows are used; one that differs is a FastentError.
        """
        at = self.layers.index(chosen_name(self.path, self.layers, name, "layer"))
        stored = [shard["files"][at] for shard in self.manifest["shards"]]
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
            The first file that differs from what was written.
        """
        shards = self.manifest["shards"]
        with reporting(progress, "verifying", len(shards)) as report:
            for i, shard in enumerate(shards):
                for stored in files_of(shard):
                    _verify(self.path / stored["file"], stored["sha256"])
                report(i + 1, f"{shard['start'] + shard['rows']:,} rows")

    def __repr__(self) -> str:
        widths = ", ".join(f"{layer['name']} {layer['d']}" for layer in self.manifest["layers"])
        unfinished = "" if self.complete else ", unfinished"
        return printable(f"Store({len(self):,} rows of {self.manifest['dtype']}: {widths}{unfinished})")


class _VerifiedFile(NpyFile):
    """A shard that is compared with its checksum before its first rows are used, and again if the file has changed since."""

    def __init__(self, path: Path, checksum: str, bfloat16: bool) -> None:
        super().__init__(path, bfloat16=bfloat16, remedy=REMEDY)
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
    """Open what `fe.capture` wrote, and check that the files have the shapes, dtypes and sizes of the manifest.

    Parameters
    ----------
    path : path
        The folder.
    unfinished : bool, default False
        Also open an interrupted capture, with the rows that it has.

    Raises
    ------
    FastentError
        No manifest, or a damaged one; a file that is missing, truncated or of another shape; an unfinished capture.
    """
    folder = as_path(path, "a folder that fe.capture wrote")
    manifest = read_manifest(folder)
    if manifest is None:
        raise nothing_at(folder / MANIFEST, "name a folder that fe.capture wrote")
    if not (manifest["complete"] or unfinished):
        total = "" if manifest["total_rows"] is None else f" of {manifest['total_rows']:,}"
        raise FastentError(
            f"{str(folder)!r} is an unfinished capture with {inputs_of(manifest):,}{total} rows: "
            "run the same capture again, which goes on from there"
        )
    for shard in manifest["shards"]:
        for layer, stored in zip(manifest["layers"], shard["files"], strict=True):
            _see_that_it_agrees(folder / stored["file"], (shard["rows"], layer["d"]), ON_DISK[manifest["dtype"]])
        if shard["labels"] is not None:
            _see_that_it_agrees(folder / shard["labels"]["file"], (shard["rows"],), np.dtype(manifest["labels"]))
        if shard.get("inputs") is not None:
            _see_that_it_agrees(folder / shard["inputs"]["file"], (shard["rows"],), np.dtype(np.int64))
    return Store(folder, manifest)


def _see_that_it_agrees(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    stored = read_npy(path, REMEDY)
    if stored.shape != shape or stored.dtype != dtype:
        raise FastentError(
            f"{str(path)!r} has shape {stored.shape} and dtype {stored.dtype}, the manifest says {shape} and {dtype}: {REMEDY}"
        )
    there, expected = path.stat().st_size, getattr(stored, "offset", 0) + stored.nbytes
    if there != expected:
        raise FastentError(f"{str(path)!r} has {there} bytes, its shape says {expected}: {REMEDY}")


def _verify(path: Path, checksum: str) -> None:
    if not is_there(path):
        raise nothing_at(path, REMEDY)
    with reading(path, REMEDY):
        found = file_checksum(path)
    if found != checksum:
        raise FastentError(f"{str(path)!r} is not what was written (SHA-256): {REMEDY}")


def _read_verified(folder: Path, stored: dict[str, str]) -> Array:
    _verify(folder / stored["file"], stored["sha256"])
    return read_npy(folder / stored["file"], REMEDY)


def _open_layer(path: Path, name: str | None) -> Source:
    return open_store(path).layer(name)


def _labels(path: Path, _: str | None) -> Array:
    labels = open_store(path).labels
    if labels is None:
        raise FastentError(f"the loader that {str(path)!r} was captured from had no labels: give a file of labels")
    return labels


CAPTURED = Reader("captured folder", is_capture, _open_layer, labels=_labels)
