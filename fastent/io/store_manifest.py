"""The manifest of captured activations: the layers and shards of a store, with checksums of everything."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastent.errors import FastentError
from fastent.io.checksums import with_checksum, without_checksum
from fastent.io.files import write_text
from fastent.io.reading import name_list, parse_json, reading
from fastent.version import __version__

__all__ = [
    "DTYPES", "MANIFEST", "ON_DISK", "REMEDY", "SHARD", "Manifest", "files_of", "inputs_of", "is_capture", "new_manifest",
    "read_manifest", "write_manifest",
]  # fmt: skip

Manifest = dict[str, Any]

MANIFEST = "manifest.json"
_FORMAT, _VERSION = "fastent activations", 2
# The format is among the first entries.
_BEGINNING = 1 << 12
ON_DISK: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "bfloat16": np.dtype("<u2"), "float32": np.dtype("<f4")}
DTYPES = tuple(ON_DISK)
SHARD = re.compile(r"(?:\d\d+-[\w.-]+|labels|inputs)\.\d{5,}\.npy")
REMEDY = "restore it, or capture again with overwrite=True"


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
    """A manifest without shards; `layers` are names and widths."""
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
    """How many of the loader's inputs the rows of a manifest come from."""
    return int(manifest["inputs"] if manifest["pooling"] == "tokens" else manifest["rows"])


def is_capture(folder: Path) -> bool:
    """Whether a folder has a manifest of `fe.capture`; of a damaged one its shards tell that it was."""
    try:
        with open(folder / MANIFEST, encoding="utf-8", errors="replace") as stream:
            return _FORMAT in stream.read(_BEGINNING) or any(SHARD.fullmatch(name) for name in os.listdir(folder))
    except OSError:
        return os.path.lexists(folder / MANIFEST)  # opening it says why it cannot be read


def read_manifest(folder: Path) -> Manifest | None:
    """Read and check a manifest; None if there is none."""
    place = folder / MANIFEST
    with reading(place, REMEDY, "none of fe.capture"):
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
        manifest = _verified(manifest)
        _check_structure(manifest)
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, whole. The throughput has a checksum of its own, so that equal rows have equal checksums."""
    timeless = {name: value for name, value in manifest.items() if name != "throughput"}
    checked = {**with_checksum(timeless), "throughput": with_checksum(manifest["throughput"])}
    write_text(folder / MANIFEST, json.dumps(checked, indent=1))


def _verified(manifest: Manifest) -> Manifest:
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
        for stored in files_of(shard):
            if not SHARD.fullmatch(stored["file"]) or not isinstance(stored["sha256"], str):
                raise ValueError(f"shard {i} names the file {stored['file']!r:.80}")
        if (manifest["pooling"] == "tokens") != isinstance(shard.get("inputs"), dict):
            raise ValueError(f"shard {i} says {shard.get('inputs')} of inputs with pooling {manifest['pooling']!r}")
        start += shard["rows"]
    complete = manifest["complete"]
    whole = complete and manifest["total_rows"] != inputs_of(manifest)
    if manifest["rows"] != start or not isinstance(complete, bool) or whole:
        raise ValueError(f"{manifest['rows']} rows of {manifest['total_rows']}, {start} in shards, complete {complete}")


def files_of(shard: dict[str, Any]) -> list[dict[str, str]]:
    """Name and SHA-256 of each of a shard's files."""
    return [*shard["files"], *(shard[name] for name in ("labels", "inputs") if shard.get(name) is not None)]
