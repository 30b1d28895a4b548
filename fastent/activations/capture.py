"""Run a model once over a loader and keep what its layers put out."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.activations.batching import batches, n_rows
from fastent.activations.evaluation import placed
from fastent.activations.hooks import POOLINGS, Inputs, Look, moved, named_layers, unwrapped, watching
from fastent.activations.loaders import add_to_digest, check_order, fingerprint, total_rows
from fastent.activations.pooling import token_labels
from fastent.errors import FastentError
from fastent.io.files import alone_in, output_folder
from fastent.io.store import Store, open_store
from fastent.io.store_manifest import DTYPES, Manifest, inputs_of, new_manifest, read_manifest
from fastent.io.store_writer import ShardWriter, fingerprint_of_batches, remove_leftovers
from fastent.options import choice, whole_number
from fastent.runtime.progress import Progress, interruptible, reporting

if TYPE_CHECKING:
    from torch import Tensor, nn

    _Batch = tuple[Inputs, Tensor | None, str]  # inputs, labels, and what tells them from others

__all__ = ["capture"]


def capture(
    model: "nn.Module",
    loader: Any,
    layers: Sequence[str],
    out: str | os.PathLike[str],
    *,
    pooling: Literal["mean", "cls", "last", "tokens", "flatten"] = "mean",
    dtype: Literal["float16", "bfloat16", "float32"] = "float16",
    shard_rows: int = 65536,
    device: Any = None,
    overwrite: bool = False,
    progress: Progress = None,
) -> Store:
    """Run a model once over a loader and write what the named layers put out to a folder, to be opened by `fe.open`.

    The same call resumes after an interruption, with the bits of an uninterrupted call. Rows on disk are compared with their
    checksums and not computed again. Their inputs and labels are loaded again, without the model, and must be those of before:
    a folder never mixes two data sets. The first batch passes through the model again, which shows whether it computes what it
    did. What is drawn anew in every pass, in the data or in the model, cannot be continued.

    Parameters
    ----------
    model : torch.nn.Module
        Runs in eval mode without gradients. It, its mode and the random states are as found afterwards.
    loader : DataLoader or iterable
        Yields x, (x, y) or a mapping of what the model takes by name, in the order of the rows: without shuffling.
        Labels, one for each row, are stored too.
    layers : sequence of str
        Names as in `model.named_modules()`; "" is the model's own output.
    out : path
        The folder.
    pooling : "mean", "cls", "last", "tokens" or "flatten"
        What is kept of a layer that puts out tokens (b, tokens, d) or positions (b, channels, positions...) or (b,
        positions..., channels): their mean, the first token, the last one, a row for each token or position, or everything in
        one row. Padding is left out, and is 0 in "flatten": see Notes. (b, d) stays what it is, and has no "tokens".
    dtype : "float16", "bfloat16" or "float32"
        On disk. bfloat16 is read as float32.
    shard_rows : int
        Rows in a file, and what an interruption loses at most; a batch is never split.
    device : optional
        Where to run, as "cuda"; where the model is unless said. The model is moved back afterwards.
    overwrite : bool
        Begin anew, whatever the folder holds.
    progress : bool or callable
        True for a bar on stderr, with rows and megabytes per second; or a function of (done, total, message), in rows.

    Returns
    -------
    Store
        `.layer(name)` is a source (n, d), `.labels` (n,), `.row_ids` (n,), `.verify()`, `.manifest`.

    Raises
    ------
    FastentError
        Unknown layers, or called twice in a pass; a shuffling loader; masks that cannot be used; values that are not finite, or
        out of the dtype's range; a folder that holds a capture of other rows, labels, weights or options, or a damaged one; no
        space left (rows written so far are safe).

    Notes
    -----
    Masks are found by their names, in batches that are mappings and in the calls that the model makes to its own modules. A
    name ends in `attention_mask` (1 for tokens and 0 for padding, or 0 and large negative numbers) or in `key_padding_mask`
    (True for padding); the shape is (b, tokens) or (b, 1, 1, tokens). `lengths` (b,) count as a mask of padding at the end.
    Masks that the model's forward does not take are used for pooling alone. `decoder_...` and `tgt_...` masks are for the
    layers of a decoder. Nested tensors and packed sequences need no mask. A mask that fits no layer, or inputs that look padded
    and have no mask, are refused or reported in a warning.

    With "tokens" a row has the label of its input, or its own where labels are (b, tokens); `store.row_ids` are the numbers of
    the inputs. All layers of one store need the same tokens.

    Whether channels come second or last, and steps before inputs (`batch_first=False`), is read off the model's modules. Of a
    layer that puts out several tensors, the first is kept. Parts compiled by torch.compile run uncompiled.

    Examples
    --------
    >>> import fastent as fe, tempfile, torch
    >>> data = torch.utils.data.TensorDataset(torch.eye(4), torch.tensor([0, 1, 0, 1]))
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh())
    >>> store = fe.capture(model, torch.utils.data.DataLoader(data, batch_size=2), ["1"], tempfile.mkdtemp())
    >>> store
    Store(4 rows of float16: 1 3)
    >>> fe.open(store.path, "1").shape, store.labels.tolist()
    ((4, 3), [0, 1, 0, 1])
    """
    model = unwrapped(model)
    names = list(named_layers(model, layers))
    choice("pooling", pooling, POOLINGS)
    choice("dtype", dtype, DTYPES)
    shard_rows = whole_number("shard_rows", shard_rows, minimum=1)
    check_order(loader)
    total = total_rows(loader)
    asked: dict[str, Any] = {
        "layers": names,
        "pooling": pooling,
        "dtype": dtype,
        "total_rows": total,
        "model": {"class": type(model).__qualname__, "sha256": _model_hash(model)},
        "loader": {"batch_size": getattr(loader, "batch_size", None)},
    }
    folder = output_folder(out)
    with ExitStack() as stack:
        stack.enter_context(alone_in(folder))
        manifest = None if overwrite else read_manifest(folder)
        if manifest is not None:
            _check_that_it_is_the_same(manifest, asked, folder)
        if not overwrite:
            remove_leftovers(folder, manifest)
        if manifest is not None:
            stored = open_store(folder, unfinished=True)
            stored.verify(progress)
        interrupted = stack.enter_context(interruptible())
        place = stack.enter_context(placed(model, device))
        look = stack.enter_context(watching(model, names, pooling))
        report = stack.enter_context(reporting(progress, "capture", total or 0))
        of_tokens = pooling == "tokens"
        stream: Iterator[_Batch] = map(_identified, _until_interrupted(batches(loader, tokens=of_tokens), interrupted))
        writer = None
        if manifest is not None:
            stream = _beyond(stream, stored, partial(_check_first_batch, stored, look=look, place=place), report)
            if stored.complete:
                for _ in stream:
                    raise _another(folder, f"{len(stored):,} rows, and the loader has more")
                return stored
            writer = stack.enter_context(ShardWriter(folder, manifest, shard_rows))
        for inputs, labels, digest in stream:
            _, found = look(moved(inputs, place))
            row = 0 if writer is None else writer.rows
            arrays = [_on_disk(name, tensor, dtype, row) for name, tensor in found.items()]
            numbers: tuple[NDArray[np.int64], ...] = ()
            if of_tokens:
                assert look.keep is not None
                labels = token_labels(labels, look.keep)
                numbers = ((0 if writer is None else writer.inputs) + look.keep.nonzero()[:, 0].cpu().numpy(),)
            known = None if labels is None else labels.numpy()
            if writer is None:
                asked["loader"]["first_batch"] = fingerprint(inputs)
                manifest = _manifest(asked, arrays, known)
                writer = stack.enter_context(ShardWriter(folder, manifest, shard_rows))
                writer.write_manifest()
                remove_leftovers(folder, manifest)  # of the store that is overwritten
            _append(writer, names, arrays, known, *numbers, fingerprint=digest)
            speed = writer.throughput()
            report(writer.inputs, f"{speed['rows_per_second']:,.0f} rows/s, {speed['megabytes_per_second']:.1f} MB/s")
        if writer is None:
            raise FastentError("loader has no rows: at least one batch is needed")
        writer.finish()
        return Store(folder, writer.manifest)


def _until_interrupted(stream: Iterator[Any], interrupted: Callable[[], bool]) -> Iterator[Any]:
    try:
        for batch in stream:
            if interrupted():
                raise KeyboardInterrupt
            yield batch
    except RuntimeError as error:
        if interrupted():  # by Ctrl-C, which ends the loader's processes too
            raise KeyboardInterrupt from error
        raise


def _check_that_it_is_the_same(manifest: Manifest, asked: dict[str, Any], folder: os.PathLike[str]) -> None:
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
            raise _another(folder, f"{name} {was}, not {now[name]}")


def _identified(batch: "tuple[Inputs, Tensor | None]") -> "_Batch":
    inputs, labels = batch
    return inputs, labels, fingerprint((inputs, labels))


def _beyond(
    stream: "Iterator[_Batch]", stored: Store, first: Callable[[Inputs], None], report: Callable[[int, str], None]
) -> "Iterator[_Batch]":
    """The batches after the rows of a store, once all before were found to be what the store was made of.

    `first` is told the inputs of the first batch of all.
    """
    row = 0
    for shard in stored.manifest["shards"]:
        end, digests = _end(stored, shard), list[str]()
        begin = row
        while row < end:
            inputs, _, digest = next(stream, (None, None, ""))
            if inputs is None:
                raise _another(stored.path, f"{inputs_of(stored.manifest):,} rows, and the loader has {row:,}")
            if row == 0:
                first(inputs)
            row += n_rows(inputs)
            digests.append(digest)
            report(row, "comparing the inputs with those of before")
        if row > end:
            raise FastentError(f"loader has no batch that begins at row {end}, as before: use the batch size of the first call")
        if fingerprint_of_batches(digests) != shard["digest"]:
            raise _another(stored.path, f"other inputs or labels in the rows {begin:,} to {end - 1:,}")
    for number, batch in enumerate(stream):
        if row == 0 and number == 0:
            first(batch[0])
        yield batch


def _end(stored: Store, shard: dict[str, Any]) -> int:
    """The number of the input after the last one of a shard."""
    end: int = shard["start"] + shard["rows"]
    return int(stored.row_ids[end - 1]) + 1 if stored.manifest["pooling"] == "tokens" else end


def _check_first_batch(stored: Store, inputs: Inputs, look: Look, place: Any = None) -> None:
    """Refuse inputs, or a model, that give other rows than the store begins with."""
    import torch

    if fingerprint(inputs) != stored.manifest["loader"]["first_batch"]:
        raise _another(stored.path, "other inputs in the first batch")
    if not len(stored):
        return
    _, found = look(moved(inputs, place))
    kind = torch.finfo(getattr(torch, stored.manifest["dtype"]))
    for name, tensor in found.items():
        now = tensor.double().cpu().numpy()
        before = np.asarray(stored.layer(name)[: len(now)], np.float64)
        # Rounded, and perhaps computed by another processor.
        near = 1e-4 * np.abs(before).max() + 2 * kind.smallest_normal * kind.eps
        if before.shape != now.shape or not np.allclose(now, before, rtol=2 * kind.eps, atol=near):
            raise _another(stored.path, f"other outputs of layer {name!r} for the first batch: of another model")


def _another(folder: Any, what: str) -> FastentError:
    return FastentError(
        f"{str(folder)!r} holds a capture with {what}: name another folder, or use overwrite=True to replace what is there"
    )


def _manifest(asked: dict[str, Any], arrays: list[NDArray[Any]], labels: NDArray[Any] | None) -> Manifest:
    widths = [(name, array.shape[1]) for name, array in zip(asked["layers"], arrays, strict=True)]
    return new_manifest(
        widths,
        pooling=asked["pooling"],
        dtype=asked["dtype"],
        labels=None if labels is None else labels.dtype,
        model=asked["model"],
        loader=asked["loader"],
        total_rows=asked["total_rows"],
    )


def _append(
    writer: ShardWriter,
    names: list[str],
    arrays: list[NDArray[Any]],
    labels: NDArray[Any] | None,
    *numbers: NDArray[Any],
    fingerprint: str,
) -> None:
    """Append a batch that is of the same form as those before."""
    for name, array, layer in zip(names, arrays, writer.manifest["layers"], strict=True):
        if array.shape[1] != layer["d"]:
            raise FastentError(
                f"layer {name!r} puts out {layer['d']} and then {array.shape[1]} values a row: pad or crop the data to one "
                "size, or use pooling='mean'"
            )
    kind = None if labels is None else labels.dtype.str
    if kind != writer.manifest["labels"]:
        raise FastentError(
            f"loader yields labels of dtype {writer.manifest['labels']} and then of {kind} at row {writer.rows}: "
            "every row needs one, or none"
        )
    writer.add(*arrays, *(() if labels is None else (labels,)), *numbers, fingerprint=fingerprint)


def _on_disk(name: str, rows: "Tensor", dtype: str, start: int) -> NDArray[Any]:
    """Rows (b, d) in the dtype on disk; what it cannot hold is refused."""
    import torch

    narrow = rows.to(getattr(torch, dtype))
    bad = None
    # A finite sum has finite terms: each is looked at only where it is not, or overflows.
    if not torch.isfinite(narrow.sum(dtype=torch.float32)):
        bad = ~torch.isfinite(narrow)
    if bad is not None and bad.any():
        at = int(bad.any(1).nonzero()[0, 0])
        value = float(rows[at][bad[at]][0])
        place = f"layer {name!r} puts out {value:g} at row {start + at}"
        if not np.isfinite(value):
            raise FastentError(f"{place}: repair the model or that row's data")
        wider = "dtype='bfloat16' or 'float32'" if dtype == "float16" else "dtype='float32', or scale the layer"
        raise FastentError(f"{place}, beyond the range of {dtype}: use {wider}")
    narrow = narrow.cpu()
    return narrow.view(torch.int16).numpy().view(np.uint16) if dtype == "bfloat16" else narrow.numpy()


def _model_hash(model: "nn.Module") -> str:
    """SHA-256 of parameters and buffers, by name."""
    digest = hashlib.sha256()
    add_to_digest(digest, model.state_dict())
    return digest.hexdigest()
