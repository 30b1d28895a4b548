"""`fastent capture`: parse, call, print."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastent.cli.checkpoints import checkpoint_files, checkpoint_names
from fastent.cli.config import Config
from fastent.cli.existing_output import check_free, check_not_read, remove_other_kinds
from fastent.cli.options import DATA, NETWORK, OUTPUT, AsJson, Device, option
from fastent.cli.output import print_cost, print_json, say, show
from fastent.cli.without_effect import refuse_given
from fastent.errors import FastentError
from fastent.options import whole_number
from fastent.printable import first_line
from fastent.runtime.terminal import text_table

if TYPE_CHECKING:
    from torch import nn

    from fastent.io.store import Store

__all__ = ["capture"]

# Where checkpoints of training keep the weights.
_WITHIN = ("state_dict", "model_state_dict", "model")


def capture(
    context: typer.Context,
    model: Annotated[str | None, option("package.module:factory, a function that returns the torch module.", NETWORK)] = None,
    weights: Annotated[
        Path | None,
        option("The module's state_dict, written by torch.save.", NETWORK, default="the weights that the factory gives it"),
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        option(
            "Instead of --weights, several such files or a pattern in quotes ('ckpt/*.pt'): each is captured into a folder of "
            "its own in --out, in natural order of names. May also be training checkpoints with the weights under state_dict, "
            "model_state_dict or model.",
            NETWORK,
        ),
    ] = None,
    layers: Annotated[str | None, option("Names of the layers, as in named_modules(), separated by commas.", NETWORK)] = None,
    pooling: Annotated[
        str,
        option(
            "What to keep of positions or tokens: their mean, cls (the first token), last (the last token), tokens (a row for "
            "each token) or flatten.",
            NETWORK,
            values=("mean", "cls", "last", "tokens", "flatten"),
        ),
    ] = "mean",
    device: Device = None,
    data: Annotated[
        str | None,
        option(
            "Inputs of the model, row by row: an .npy (n, ...), a member of an .npz, FILE.npz:NAME, or any other source of "
            "rows. Whole numbers of 32 bits and more arrive as int64, anything else as float32; with --transform, as stored.",
            DATA,
        ),
    ] = None,
    transform: Annotated[
        str | None,
        option(
            "package.module:function, which is given each batch of --data as a tensor (b, ...) and returns what the model "
            "takes.",
            DATA,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        option(
            "Labels (n,) to keep with the rows, or (n, tokens) with --pooling tokens: .npy or .npz.",
            DATA,
            default="those of --data FILE.npz, if it has any",
        ),
    ] = None,
    mask: Annotated[
        str | None,
        option(
            "Padding mask (n, tokens) of --data, 1 for tokens and 0 for padding: .npy or .npz. The model is given it too, "
            "if its forward takes an attention_mask or a key_padding_mask.",
            DATA,
        ),
    ] = None,
    batch_size: Annotated[int, option("Rows in each pass through the model.", DATA)] = 256,
    dtype: Annotated[
        str, option("Precision on disk: float16, bfloat16 or float32.", OUTPUT, values=("float16", "bfloat16", "float32"))
    ] = "float16",
    shard_rows: Annotated[int, option("Rows in each file; an interruption loses at most as many.", OUTPUT)] = 65536,
    out: Annotated[Path | None, option("Folder for the activations; an interrupted capture resumes from it.", OUTPUT)] = None,
    overwrite: Annotated[bool, option("Replace another capture in --out.", OUTPUT, "--overwrite")] = False,
    verify: Annotated[
        Path | None, option("Instead of capturing, read a captured folder and check every byte.", OUTPUT, metavar="DIR")
    ] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Run a model over stored data once and keep the activations of its layers, for measuring."""
    if verify is not None:
        others = set(context.params) - {"verify", "as_json"}
        refuse_given(context, others, f"--verify {str(verify)!r} reads what is stored and captures nothing: leave this out")
        from fastent.io.store import open_store

        stored = open_store(verify, unfinished=True)
        stored.verify(progress=True)
        _print(stored, "verified", as_json)
        return
    for name, value in (("--model", model), ("--data", data), ("--layers", layers), ("--out", out)):
        if value is None:
            raise FastentError(f"{name} is missing: --model, --data, --layers and --out are needed, or --verify alone")
    assert model is not None
    assert data is not None
    assert layers is not None
    assert out is not None
    import torch

    from fastent.activations.capture import capture as capture_layers
    from fastent.io.npy import has_labels

    if checkpoint and weights is not None:
        raise FastentError(f"--weights {str(weights)!r} and --checkpoint are both given: use one of them")
    files = checkpoint_files(checkpoint or [])
    chosen: Sequence[Path | None] = files or [weights]
    folders = [out / name for name in checkpoint_names(files)] if files else [out]
    for folder in folders:
        check_not_read(folder, data, labels, mask)
        if not overwrite:
            check_free(folder, "capture")
    batch_size = whole_number("batch-size", batch_size, minimum=1)
    change = None if transform is None else _function(transform)
    if labels is None and has_labels(data):
        labels = data
    rows: Any = _Rows(data, labels, mask, tokens=pooling == "tokens", as_stored=change is not None)
    module = _made(model)
    if mask is not None:
        rows.call_by_name(module, model)
    all_stored: list[Store] = []
    try:
        for file, folder in zip(chosen, folders, strict=True):
            if file is not None:
                _load(module, file, model)
            if files:
                say(f"{len(all_stored) + 1} of {len(files)}: {file}", error=True)
            stored = capture_layers(
                module,
                torch.utils.data.DataLoader(rows, batch_size=batch_size, collate_fn=_as_it_is),
                [name.strip() for name in layers.split(",")],
                folder,
                pooling=pooling,  # type: ignore[arg-type]
                dtype=dtype,  # type: ignore[arg-type]
                transform=change,
                shard_rows=shard_rows,
                device=device,
                overwrite=overwrite,
                progress=True,
            )
            all_stored.append(stored)
            if overwrite:
                remove_other_kinds(folder, "capture")
    except KeyboardInterrupt:
        say(f"Interrupted; the finished shards are in {out}, and the same command resumes from them.", error=True)
        raise
    except FastentError as error:
        raise FastentError(str(error).replace("overwrite=True", "--overwrite")) from error
    except RuntimeError as error:
        raise FastentError(
            f"{model} does not run on the rows of {data}, of shape {rows.row_shape} ({first_line(error)}): "
            "name rows of the shape that the model takes"
        ) from error
    if not files:
        _print(stored, f"in {out}", as_json)
    elif as_json:
        print_json({"folder": str(out), "checkpoints": [_as_json(stored) for stored in all_stored]})
    else:
        _print(stored, f"in each of {len(files)} folders in {out}, {folders[0].name} to {folders[-1].name}", as_json)
    if not as_json:
        seconds = sum(each.manifest["throughput"]["seconds"] for each in all_stored)
        print_cost(seconds, "capturing", torch.get_num_threads())


def _made(place: str) -> "nn.Module":
    """A new module, with the weights that its factory gives it."""
    import torch

    from fastent.training.networks import find_factory

    factory = find_factory(place, ())
    torch.manual_seed(0)  # so that a module without stored weights is the same when the capture resumes
    try:
        module = factory()
    except Exception as error:  # of the user's code
        raise FastentError(
            f"model={place!r} cannot make its module ({first_line(error)}): call it yourself to see where"
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise FastentError(
            f"model={place!r} returned {type(module).__name__}: a function that returns a torch module is needed"
        )
    return module


def _load(module: "nn.Module", weights: Path, place: str) -> None:
    """Give a module the weights in a file: a state_dict, or a checkpoint of training that has one."""
    import torch

    from fastent.io.reading import require_file

    require_file(weights)
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        if isinstance(state, dict):
            state = next((state[key] for key in _WITHIN if isinstance(state.get(key), dict)), state)
        module.load_state_dict(state)
    except Exception as error:  # a damaged file can raise anything
        raise FastentError(
            f"{str(weights)!r} does not hold the weights of {place} ({' '.join(str(error).split())[:200]}): "
            "save them with torch.save(model.state_dict(), FILE)"
        ) from error


def _function(place: str) -> Any:
    from fastent.training.networks import find_callable

    what = "a function of a batch as package.module:function"
    found = find_callable("transform", place, what)
    if not callable(found):
        raise FastentError(f"transform={place!r} is no callable: name {what}")
    return found


class _Rows:
    """Stored rows, labels and a mask, as a data set of batches."""

    def __init__(self, data: str, labels: str | None, mask: str | None, *, tokens: bool, as_stored: bool) -> None:
        import numpy as np

        from fastent.arrays.validation import as_array, check_lengths
        from fastent.io.npy import read_array
        from fastent.io.opening import read_features

        self._X: Any = read_features(data, any_rank=True)
        self._as_stored = as_stored
        if self._X.ndim < 2 or 0 in self._X.shape or self._X.dtype.kind not in "fiub":
            raise FastentError(
                f"{data} has shape {self._X.shape} and dtype {self._X.dtype}: rows (n, ...) of numbers are needed"
            )
        self._y = None if labels is None else as_array(read_array(labels, "y"), labels)
        if self._y is not None:
            by_token = tokens and self._y.ndim == 2
            if (self._y.ndim != 1 and not by_token) or self._y.dtype.kind not in "iub":
                more = ", or with --pooling tokens for each token," if tokens else ""
                raise FastentError(
                    f"{labels} has shape {self._y.shape} and dtype {self._y.dtype}: one whole number for each row{more} is "
                    "needed"
                )
            check_lengths(len(self._X), len(self._y), features_name=data, labels_name=str(labels))
        self._mask: Any = None if mask is None else read_array(mask, "attention_mask")
        self._names = ("", "", False)
        if self._mask is not None:
            whole = self._mask.ndim == 2 and self._mask.dtype.kind in "iubf"
            if not whole or not np.isin(self._mask, (0, 1)).all():
                raise FastentError(
                    f"{mask} has shape {self._mask.shape} and dtype {self._mask.dtype}: a mask (n, tokens), 1 for tokens and "
                    "0 for padding, is needed"
                )
            check_lengths(len(self._X), len(self._mask), features_name=data, labels_name=str(mask))

    def call_by_name(self, module: "nn.Module", place: str) -> None:
        """Give the module its rows and the mask as its forward names them."""
        from inspect import Parameter, signature

        from fastent.activations.masks import mask_parameters

        named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        first = next((name for name, each in signature(module.forward).parameters.items() if each.kind in named), None)
        if first is None:
            raise FastentError(
                f"the forward of {place} names none of its inputs: --mask needs one that does, as forward(self, x)"
            )
        takes = mask_parameters(module)
        mask = "attention_mask" if "attention_mask" in takes or not takes else takes[0]
        self._names = (first, mask, mask.endswith("padding_mask"))

    @property
    def row_shape(self) -> tuple[int, ...]:
        return tuple(getattr(self._X, "point_shape", None) or self._X.shape[1:])

    def __len__(self) -> int:
        return len(self._X)

    def __getitem__(self, row: int) -> Any:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[int]) -> Any:
        import numpy as np
        import torch

        found = self._X[np.asarray(rows)].reshape(len(rows), *self.row_shape)
        tokens = found.dtype.kind in "iu" and found.dtype.itemsize >= 4
        kind = found.dtype if self._as_stored else np.int64 if tokens else np.float32
        inputs: Any = torch.from_numpy(np.ascontiguousarray(found, kind))
        if self._mask is not None:
            first, name, inverted = self._names
            mask = torch.from_numpy(self._mask[np.asarray(rows)] != 0)
            inputs = {first: inputs, name: ~mask if inverted else mask.long()}
        return inputs if self._y is None else (inputs, torch.from_numpy(self._y[np.asarray(rows)].astype(np.int64)))


def _as_it_is(batch: Any) -> Any:
    return batch


def _as_json(stored: "Store") -> dict[str, Any]:
    layers = []
    for i, layer in enumerate(stored.manifest["layers"]):
        files = [stored.path / shard["files"][i]["file"] for shard in stored.manifest["shards"]]
        layers.append({**layer, "bytes": sum(file.stat().st_size for file in files)})
    folder, labels = str(stored.path), stored.manifest["labels"] is not None
    of = {"folder": folder, "complete": stored.complete, "rows": len(stored), "labels": labels, "layers": layers}
    return {**of, **stored.manifest["throughput"]}


def _print(stored: "Store", what: str, as_json: bool) -> None:
    from fastent.runtime.memory import readable_bytes

    found = _as_json(stored)
    if as_json:
        print_json(found)
        return
    layers, speed = found["layers"], stored.manifest["throughput"]
    rows = [
        (layer["name"] or "(the model)", str(layer["d"]), layer["dtype"], layer["pooling"], readable_bytes(layer["bytes"]))
        for layer in layers
    ]
    title = f"{len(stored):,} rows {what}{'' if stored.complete else ', unfinished'}"
    show(text_table(title, ("layer", "d", "dtype", "pooling", "on disk"), rows))
    say(f"{speed['rows_per_second']:,.0f} rows/s, {speed['megabytes_per_second']:.1f} MB/s")
