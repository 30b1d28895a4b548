"""A capture that goes on where an earlier one stopped, or finds that the folder holds a capture of something else."""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastent.activations.batching import Inputs, moved, n_rows
from fastent.activations.hooks import HookedModel
from fastent.activations.loaders import fingerprint
from fastent.errors import FastentError
from fastent.io.store import Store
from fastent.io.store_manifest import Manifest, inputs_of
from fastent.io.store_writer import fingerprint_of_batches

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Batch", "another_capture", "batches_after", "check_first_batch", "check_same_capture"]


class Batch(NamedTuple):
    """Inputs and labels of a batch, and the fingerprint that tells them from others."""

    inputs: Inputs
    labels: "Tensor | None"
    fingerprint: str


def check_same_capture(manifest: Manifest, asked: dict[str, Any], folder: os.PathLike[str]) -> None:
    there = {
        "layers": [layer["name"] for layer in manifest["layers"]],
        "batch_size": manifest["loader"].get("batch_size"),
        "model": manifest["model"].get("sha256"),
        **{name: manifest[name] for name in ("pooling", "dtype", "total_rows")},
    }
    now = {**asked, "batch_size": asked["loader"]["batch_size"], "model": asked["model"]["sha256"]}
    if now["total_rows"] is None:  # it shows at the end
        now["total_rows"] = there["total_rows"]
    for name, was in there.items():
        if was != now[name]:
            raise another_capture(folder, f"{name} {was}, not {now[name]}")


def batches_after(
    stream: Iterator[Batch], stored: Store, first: Callable[[Inputs], None], report: Callable[[int, str], None]
) -> Iterator[Batch]:
    """The batches after the rows of a store, after checking that the earlier ones are those that the store was made of.

    `first` is told the inputs of the first batch of all.
    """
    row = 0
    for shard in stored.manifest["shards"]:
        end, fingerprints = _end(stored, shard), list[str]()
        begin = row
        while row < end:
            batch = next(stream, None)
            if batch is None:
                raise another_capture(stored.path, f"{inputs_of(stored.manifest):,} rows, and the loader has {row:,}")
            if row == 0:
                first(batch.inputs)
            row += n_rows(batch.inputs)
            fingerprints.append(batch.fingerprint)
            report(row, "comparing the inputs with those of before")
        if row > end:
            raise FastentError(f"loader has no batch that begins at row {end}, as before: use the batch size of the first call")
        if fingerprint_of_batches(fingerprints) != shard["digest"]:
            raise another_capture(stored.path, f"other inputs or labels in the rows {begin:,} to {end - 1:,}")
    for number, batch in enumerate(stream):
        if row == 0 and number == 0:
            first(batch.inputs)
        yield batch


def _end(stored: Store, shard: dict[str, Any]) -> int:
    """The number of the input after the last one of a shard."""
    end: int = shard["start"] + shard["rows"]
    return int(stored.row_ids[end - 1]) + 1 if stored.manifest["pooling"] == "tokens" else end


def check_first_batch(stored: Store, inputs: Inputs, run_model: HookedModel, place: Any = None) -> None:
    """Refuse inputs, or a model, that give other rows than the store begins with."""
    import torch

    if fingerprint(inputs) != stored.manifest["loader"]["first_batch"]:
        raise another_capture(stored.path, "other inputs in the first batch")
    if not len(stored):
        return
    _, found = run_model(moved(inputs, place))
    kind = torch.finfo(getattr(torch, stored.manifest["dtype"]))
    for name, tensor in found.items():
        now = tensor.double().cpu().numpy()
        before = np.asarray(stored.layer(name)[: len(now)], np.float64)
        # Rounded, and perhaps computed by another processor.
        near = 1e-4 * np.abs(before).max() + 2 * kind.smallest_normal * kind.eps
        if before.shape != now.shape or not np.allclose(now, before, rtol=2 * kind.eps, atol=near):
            raise another_capture(stored.path, f"other outputs of layer {name!r} for the first batch: of another model")


def another_capture(folder: Any, what: str) -> FastentError:
    return FastentError(
        f"{str(folder)!r} holds a capture with {what}: name another folder, or use overwrite=True to replace what is there"
    )
