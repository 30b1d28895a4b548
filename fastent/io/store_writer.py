"""Writing captured activations: batches of rows into shards, and the manifest anew after each shard."""

import errno
import hashlib
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from fastent.errors import FastentError
from fastent.io.checksums import file_checksum
from fastent.io.files import atomic_path
from fastent.io.store_manifest import MANIFEST, ON_DISK, SHARD, Manifest, files_of, inputs_of, write_manifest

__all__ = ["ShardWriter", "fingerprint_of_batches", "remove_leftovers"]

Array = NDArray[Any]

_LEFTOVER = re.compile(rf"\.(?:{SHARD.pattern}|manifest\.json)\..+")


def remove_leftovers(folder: Path, manifest: Manifest | None) -> None:
    """Remove half-written files of a killed capture, and shards that the manifest does not name."""
    named = set() if manifest is None else {stored["file"] for shard in manifest["shards"] for stored in files_of(shard)}
    for path in folder.iterdir():
        unnamed = SHARD.fullmatch(path.name) and path.name not in named
        if unnamed and manifest is None:
            raise FastentError(
                f"{str(folder)!r} has shards ({path.name}) but no {MANIFEST}: restore it, or capture into another folder"
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
            ((layer["d"],), ON_DISK[manifest["dtype"]]) for layer in manifest["layers"]
        ]
        self._kinds += [] if manifest["labels"] is None else [((), np.dtype(manifest["labels"]))]
        self._of_tokens = manifest["pooling"] == "tokens"
        if self._of_tokens:
            self._stems.append("inputs")
            self._kinds.append(((), np.dtype(np.int64)))
        self._inputs = inputs_of(manifest)
        self._filling, self._safe = 0, manifest["rows"]
        self._fingerprints: list[str] = []
        self._open = ExitStack()
        self._streams: list[tuple[Path, IO[bytes]]] = []

    @property
    def rows(self) -> int:
        """How many rows there are, including those of the shard that is being filled."""
        return int(self.manifest["rows"]) + self._filling

    @property
    def inputs(self) -> int:
        """How many inputs these rows come from."""
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

    def add(self, *arrays: Array, fingerprint: str) -> None:
        """Append a batch: each layer's (b, d) in the dtype on disk, and the labels (b,) if the store has any.

        With pooling="tokens" last of all (b,) int64, the numbers of the inputs, ascending. `fingerprint` is that of
        the inputs and labels that the batch was made of.
        """
        rows = len(arrays[0])
        if self._filling and self._filling + rows > self._shard_rows:
            self._close_shard()
        if not self._filling:
            self._begin_shard()
        for (_, stream), array in zip(self._streams, arrays, strict=True):
            stream.write(np.ascontiguousarray(array).data)
        self._filling += rows
        self._fingerprints.append(fingerprint)
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
            files.append({"file": f"{stem}.{len(self.manifest['shards']):05d}.npy", "sha256": file_checksum(place)})
        self._open.close()
        inputs = {"inputs": files.pop()} if self._of_tokens else {}
        labels = None if self.manifest["labels"] is None else files.pop()
        start = self.manifest["rows"]
        shard = {"start": start, "rows": self._filling, "files": files, "labels": labels, **inputs}
        shard["digest"] = fingerprint_of_batches(self._fingerprints)
        self.manifest["shards"].append(shard)
        self.manifest["rows"] = start + self._filling
        if self._of_tokens:
            self.manifest["inputs"] = self._inputs
        self._filling, self._fingerprints = 0, []
        self.write_manifest()

    def throughput(self) -> dict[str, float]:
        """Seconds of all calls that wrote to the store, and the resulting rows and megabytes per second."""
        rows, seconds = self.rows, time.perf_counter() - self._began
        row_bytes = sum(dtype.itemsize * (shape[0] if shape else 1) for shape, dtype in self._kinds)
        return {
            "seconds": seconds,
            "rows_per_second": rows / seconds,
            "megabytes_per_second": rows * row_bytes / seconds / 1e6,
        }

    def write_manifest(self) -> None:
        self.manifest["throughput"] = {name: round(value, 3) for name, value in self.throughput().items()}
        write_manifest(self._folder, self.manifest)
        self._safe = self.manifest["rows"]


def fingerprint_of_batches(fingerprints: Sequence[str]) -> str:
    """The fingerprint of the inputs of a shard, from those of its batches; "digest" in the manifest."""
    return hashlib.sha256(" ".join(fingerprints).encode()).hexdigest()[:16]


def _write_header(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """A header of the same length for any number of rows: numpy leaves room for the first axis to grow."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)


def _stem(i: int, layer: str) -> str:
    """The start of the names of a layer's files; names of layers may hold any characters."""
    return f"{i:02d}-{re.sub(r'[^A-Za-z0-9._-]', '_', layer)[:80] or 'model'}"
