"""Run a model once over a loader and keep what its layers put out."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastent.activations.batching import batches, moved
from fastent.activations.evaluation import named_layers, placed, unwrapped
from fastent.activations.hooks import hooked
from fastent.activations.layouts import POOLINGS, token_labels
from fastent.activations.loaders import add_to_digest, check_order, fingerprint, total_rows
from fastent.activations.resumed_capture import Batch, another_capture, batches_after, check_first_batch, check_same_capture
from fastent.errors import FastentError
from fastent.io.files import alone_in, output_folder
from fastent.io.store import Store, open_store
from fastent.io.store_manifest import DTYPES, Manifest, new_manifest, read_manifest
from fastent.io.store_writer import ShardWriter, remove_leftovers
from fastent.options import choice, whole_number
from fastent.printable import first_line
from fastent.runtime.progress import Progress, interruptible, reporting, say_resumed

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["capture"]


def capture(
    model: "nn.Module",
    loader: Any,
    layers: Sequence[str],
    out: str | os.PathLike[str],
    *,
    pooling: Literal["mean", "cls", "last", "tokens", "flatten"] = "mean",
    dtype: Literal["float16", "bfloat16", "float32"] = "float16",
    transform: Callable[[Any], Any] | None = None,
    shard_rows: int = 65536,
    device: Any = None,
    overwrite: bool = False,
    progress: Progress = None,
) -> Store:
    """Run a model once over a loader and write what the named layers put out to a folder, to be opened by `fe.open`.

    The same call resumes after an interruption, and the result is bit-identical to an uninterrupted call. Rows on disk are
    compared with their checksums and not computed again. Their inputs and labels are loaded again, without the model, and must
    be the same as before, so that a folder never mixes two data sets. The first batch passes through the model again, to check
    that the model still computes the same. A capture cannot resume if the data or the model draw new random numbers in every
    pass.

    Parameters
    ----------
    model : torch.nn.Module
        Runs in eval mode without gradients. The model, its mode and the random states are left as they were.
    loader : DataLoader or iterable
        Yields x, (x, y) or a mapping of the model's arguments, in the order of the rows, without shuffling. Labels, one for
        each row, are stored too.
    layers : sequence of str
        Names as in `model.named_modules()`; "" is the model's own output.
    out : path
        The folder to write to.
    pooling : {"mean", "cls", "last", "tokens", "flatten"}, default "mean"
        What is kept of a layer that puts out tokens (b, tokens, d) or positions (b, channels, positions...) or (b,
        positions..., channels): their mean, the first token, the last one, a row for each token or position, or everything in
        one row. Padding is left out, and is 0 in "flatten": see Notes. Outputs (b, d) are kept as they are, and cannot be
        captured with "tokens".
    dtype : {"float16", "bfloat16", "float32"}, default "float16"
        The dtype on disk. bfloat16 is read as float32.
    transform : callable, optional
        What a batch of inputs becomes before the model is given it, for instance ``lambda x: x.float() / 255``. It is called
        with what the loader yields without the labels, a tensor (b, ...) or a mapping, and returns as many rows. A capture
        resumes only with the same results of it.
    shard_rows : int, default 65536
        Rows in a file, which is also the most that an interruption loses; a batch is never split.
    device : str or torch.device, optional
        Where to run, such as "cuda"; by default where the model is. The model is moved back afterwards.
    overwrite : bool, default False
        Start again, whatever the folder holds.
    progress : bool or callable, optional
        True for a bar on stderr, with rows and megabytes per second; or a function of (done, total, message), in rows.

    Returns
    -------
    Store
        `.layer(name)` is a source (n, d), `.labels` (n,), `.row_ids` (n,), `.verify()`, `.manifest`.

    Raises
    ------
    FastentError
        Unknown layers, or layers that are called twice in a pass; a shuffling loader; masks that cannot be used; values that
        are not finite or out of the dtype's range; a folder that holds a damaged capture, or one of other rows, labels, weights
        or options; no space left (rows written so far are safe).

    Notes
    -----
    Masks are recognised by their names, in batches that are mappings and in the calls that the model makes to its own modules.
    A name ends in `attention_mask` (1 for tokens and 0 for padding, or 0 and large negative numbers) or in `key_padding_mask`
    (True for padding); the shape is (b, tokens) or (b, 1, 1, tokens). `lengths` (b,) count as a mask of padding at the end.
    Masks that the model's forward does not take are used for pooling only. `decoder_...` and `tgt_...` masks apply to the
    layers of a decoder. Nested tensors and packed sequences need no mask. A mask that fits no layer, or inputs that look padded
    and have no mask, are refused or reported in a warning.

    With "tokens" a row has the label of its input, or its own where labels are (b, tokens); `store.row_ids` are the numbers of
    the inputs. All layers of one store need the same tokens.

    Whether channels come second or last, and steps before inputs (`batch_first=False`), is inferred from the model's modules.
    If a layer puts out several tensors, the first is kept. Parts compiled by torch.compile run uncompiled.

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
    asked = _asked(model, loader, names, pooling, dtype)
    folder = output_folder(out)
    with ExitStack() as stack:
        stack.enter_context(alone_in(folder))
        manifest = None if overwrite else read_manifest(folder)
        if manifest is not None:
            check_same_capture(manifest, asked, folder)
        if not overwrite:
            remove_leftovers(folder, manifest)
        if manifest is not None:
            stored = open_store(folder, unfinished=True)
            stored.verify(progress)
            if not stored.complete:
                say_resumed(progress, f"the capture resumes from row {len(stored):,}")
        interrupted = stack.enter_context(interruptible())
        place = stack.enter_context(placed(model, device))
        run_model = stack.enter_context(hooked(model, names, pooling))
        report = stack.enter_context(reporting(progress, "capture", asked["total_rows"] or 0))
        of_tokens = pooling == "tokens"
        loaded = _until_interrupted(batches(loader, tokens=of_tokens), interrupted)
        if transform is not None:
            loaded = _transformed(loaded, transform)
        stream: Iterator[Batch] = (Batch(inputs, labels, fingerprint((inputs, labels))) for inputs, labels in loaded)
        writer = None
        if manifest is not None:
            stream = batches_after(stream, stored, partial(check_first_batch, stored, run_model=run_model, place=place), report)
            if stored.complete:
                for _ in stream:
                    raise another_capture(folder, f"{len(stored):,} rows, and the loader has more")
                return stored
            writer = stack.enter_context(ShardWriter(folder, manifest, shard_rows))
        for inputs, labels, identity in stream:
            _, found = run_model(moved(inputs, place))
            row = 0 if writer is None else writer.rows
            arrays = [_on_disk(name, tensor, dtype, row) for name, tensor in found.items()]
            numbers: tuple[NDArray[np.int64], ...] = ()
            if of_tokens:
                assert run_model.kept_tokens is not None
                labels = token_labels(labels, run_model.kept_tokens)
                numbers = ((0 if writer is None else writer.inputs) + run_model.kept_tokens.nonzero()[:, 0].cpu().numpy(),)
            known = None if labels is None else labels.numpy()
            if writer is None:
                asked["loader"]["first_batch"] = fingerprint(inputs)
                manifest = _manifest(asked, arrays, known)
                writer = stack.enter_context(ShardWriter(folder, manifest, shard_rows))
                writer.write_manifest()
                remove_leftovers(folder, manifest)  # of the store that is overwritten
            _append(writer, names, arrays, known, *numbers, fingerprint=identity)
            speed = writer.throughput()
            report(writer.inputs, f"{speed['rows_per_second']:,.0f} rows/s, {speed['megabytes_per_second']:.1f} MB/s")
        if writer is None:
            raise FastentError("loader has no rows: at least one batch is needed")
        writer.finish()
        return Store(folder, writer.manifest)


def _asked(model: "nn.Module", loader: Any, names: list[str], pooling: str, dtype: str) -> dict[str, Any]:
    """What a capture is of, as its manifest has it."""
    digest = hashlib.sha256()
    add_to_digest(digest, model.state_dict())
    return {
        "layers": names,
        "pooling": pooling,
        "dtype": dtype,
        "total_rows": total_rows(loader),
        "model": {"class": type(model).__qualname__, "sha256": digest.hexdigest()},
        "loader": {"batch_size": getattr(loader, "batch_size", None)},
    }


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


def _transformed(stream: Iterator[Any], transform: Callable[[Any], Any]) -> Iterator[Any]:
    for inputs, labels in stream:
        try:
            changed = transform(inputs)
        except Exception as error:  # of the user's code
            shape = getattr(inputs, "shape", None)
            of = "a batch" if shape is None else f"a batch of shape {tuple(shape)} and dtype {inputs.dtype}"
            raise FastentError(f"transform fails on {of} ({type(error).__name__}: {first_line(error)})") from error
        if hasattr(inputs, "shape") and (not hasattr(changed, "shape") or changed.shape[:1] != inputs.shape[:1]):
            found = f"of shape {tuple(changed.shape)}" if hasattr(changed, "shape") else f"that is a {type(changed).__name__}"
            raise FastentError(
                f"transform returns a batch {found} for one of shape {tuple(inputs.shape)}: a tensor of as many rows is needed"
            )
        yield changed, labels


def _manifest(asked: dict[str, Any], arrays: list[NDArray[Any]], labels: NDArray[Any] | None) -> Manifest:
    widths = [(name, array.shape[1]) for name, array in zip(asked["layers"], arrays, strict=True)]
    others = {name: value for name, value in asked.items() if name != "layers"}
    return new_manifest(widths, labels=None if labels is None else labels.dtype, **others)


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
    # A finite sum has finite terms, so each value is checked only if the sum is infinite or overflows.
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
