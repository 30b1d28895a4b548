"""What a live model's layers put out: one vector for each input, batch by batch, and the model as it was afterwards.

with watching(model, ["encoder.layers.1", "head"], pooling="mean") as look:
    for inputs, labels in batches(loader, device):
        output, found = look(inputs)  # found["head"]: (b, d)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

from fastent.errors import FastentError
from fastent.evaluation import evaluating
from fastent.options import choice

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["POOLINGS", "Look", "batches", "moved", "n_rows", "named_layers", "unwrapped", "watching"]

POOLINGS = ("mean", "cls", "flatten")
_LABELS = ("labels", "label")
_ALIGNMENT = 64

Inputs = Any  # a tensor, or a mapping of what the model takes by name
Look = Callable[[Inputs], "tuple[Any, dict[str, Tensor]]"]


@contextmanager
def watching(model: "nn.Module", layers: Sequence[str], pooling: str = "mean") -> Iterator[Look]:
    """Yield `look(inputs)`, which runs the model and returns its output and each layer's (b, d).

    The model runs in eval mode without gradients; afterwards everything about it is as found, and no hook is left, also after
    errors.

    Parameters
    ----------
    model : torch.nn.Module
        Wrappers for several devices and for compilation are looked through: their inner module runs.
    layers : sequence of str
        Names as in `model.named_modules()`; "" is the model itself.
    pooling : "mean", "cls" or "flatten"
        Of a layer that puts out (b, channels, positions...) the mean over positions, of (b, tokens, d) the mean over those
        tokens that an `attention_mask` among the inputs lets through, or the first token. Three dimensions are tokens, except
        where the layer's class is called ...1d (Conv1d, BatchNorm1d). (b, d) stays what it is.

    Raises
    ------
    FastentError
        Unknown layers and poolings; in `look`, layers that are not called, or twice in one pass, or that put out no tensor of
        real numbers with one row for each input.
    """
    model = unwrapped(model)
    modules = named_layers(model, layers)
    choice("pooling", pooling, POOLINGS)
    found: dict[str, Tensor] = {}
    inputs: Inputs = None

    def note(name: str, module: "nn.Module", given: Any, output: Any) -> None:
        if name in found:
            raise FastentError(f"layer {name!r} is called more than once in a pass, so it has no one output: choose others")
        tensor = _first_tensor(output)
        rows = n_rows(inputs)
        if tensor is None or not tensor.is_floating_point() or tensor.ndim == 0 or len(tensor) != rows:
            what = "no tensor" if tensor is None else f"{tensor.dtype} of shape {tuple(tensor.shape)}"
            raise FastentError(
                f"layer {name!r} puts out {what} for {rows} inputs: choose layers that put out real numbers, (inputs, ...)"
            )
        positions_last = tensor.ndim > 3 or type(module).__name__.endswith("1d")
        mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
        found[name] = _pooled(name, tensor.detach(), pooling, positions_last, mask)

    def look(given: Inputs) -> "tuple[Any, dict[str, Tensor]]":
        nonlocal inputs
        found.clear()
        inputs = given
        output = model(**given) if isinstance(given, Mapping) else model(given)
        for name in modules:
            if name not in found:
                raise FastentError(f"layer {name!r} is not called by the model: choose others")
        return output, {name: found[name] for name in modules}

    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(partial(note, name)).remove)
        yield look


def batches(loader: Any, device: Any = None) -> "Iterator[tuple[Inputs, Tensor | None]]":
    """Yield (inputs on the device, labels on the CPU or None) of a loader.

    It may yield x, (x,), (x, y), or a mapping of what the model takes by name, of which "labels" or "label" is kept from the
    model. Labels that are not one for each input are None. A generator of the loader's is left as found.

    Raises
    ------
    FastentError
        Batches of another form.
    """
    import torch

    generator = getattr(loader, "generator", None)
    generator = generator if isinstance(generator, torch.Generator) else None
    state = None if generator is None else generator.get_state()
    try:
        for batch in loader:
            inputs, labels = _parted(batch)
            rows = n_rows(inputs)
            if labels is not None:
                labels = torch.as_tensor(labels).detach().cpu()
                if labels.shape != (rows,):
                    labels = None
            if rows:
                yield moved(inputs, device), labels
    finally:
        if generator is not None and state is not None:
            generator.set_state(state)


def n_rows(inputs: Inputs) -> int:
    """How many inputs a batch holds."""
    first = _first_tensor(inputs)
    if first is None or first.ndim == 0:
        raise FastentError(f"loader yields {_form(inputs)}: inputs as a tensor, (inputs, labels) or a mapping are needed")
    return len(first)


def unwrapped(model: Any) -> "nn.Module":
    """The module inside of wrappers for several devices and for compilation."""
    import torch

    if not isinstance(model, torch.nn.Module):
        raise FastentError(f"model is {type(model).__name__}: a torch.nn.Module is needed")
    while True:
        if isinstance(model, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
            model = model.module
        elif "_orig_mod" in model._modules:
            model = model._orig_mod
        else:
            return model  # type: ignore[no-any-return]


def named_layers(model: "nn.Module", layers: Sequence[str]) -> "dict[str, nn.Module]":
    """Modules by name; unknown names are refused with the names that come close."""
    if isinstance(layers, str):
        raise FastentError(f"layers={layers!r}: a sequence of names is needed, for instance [{layers!r}]")
    if not layers:
        raise FastentError("layers is empty: name at least one of model.named_modules()")
    named = dict(model.named_modules())
    for name in layers:
        if name not in named:
            ends = [other for other in named if isinstance(name, str) and other.endswith(f".{name}")]
            near = ends or get_close_matches(str(name), named, n=5) or [other for other in named if other]
            more = f", ... ({len(near)} in all)" if len(near) > 8 else ""
            raise FastentError(f"model has no layer {name!r}: choose from {', '.join(map(repr, near[:8]))}{more}")
    return {name: named[name] for name in layers}


def _pooled(name: str, output: "Tensor", pooling: str, positions_last: bool, mask: Any) -> "Tensor":
    """(b, d) of its own memory: what follows the layer may change its output in place."""
    import torch

    if output.ndim <= 2 or pooling == "flatten":
        return output.reshape(len(output), -1).clone()
    if positions_last:
        if pooling == "cls":
            raise FastentError(
                f"layer {name!r} puts out shape {tuple(output.shape)}, which has no tokens: use pooling='mean' or 'flatten'"
            )
        return output.flatten(2).mean(2)
    if pooling == "cls":
        return output[:, 0].clone()
    if mask is not None and mask.shape == output.shape[:2]:
        kept = (mask != 0)[:, :, None]
        # In float32 at least, where a sum of many halves does not overflow.
        total: Tensor = output.masked_fill(~kept, 0).sum(1, dtype=torch.promote_types(output.dtype, torch.float32))
        mean: Tensor = total / kept.sum(1).clamp(min=1)
        return mean
    return output.mean(1)


def _first_tensor(value: Any) -> "Tensor | None":
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return next((tensor for tensor in map(_first_tensor, value) if tensor is not None), None)
    return None


def _parted(batch: Any) -> tuple[Inputs, Any]:
    """Inputs and labels of a batch."""
    import torch

    if isinstance(batch, torch.Tensor):
        return batch, None
    if isinstance(batch, Mapping):
        labels = next((batch[name] for name in _LABELS if name in batch), None)
        return {name: value for name, value in batch.items() if name not in _LABELS}, labels
    if isinstance(batch, (tuple, list)) and 1 <= len(batch) <= 2 and isinstance(batch[0], (torch.Tensor, Mapping)):
        return batch[0], batch[1] if len(batch) == 2 else None
    raise FastentError(f"loader yields {_form(batch)}: inputs as a tensor, (inputs, labels) or a mapping are needed")


def moved(inputs: Inputs, device: Any) -> Inputs:
    """Inputs on a device; None leaves them where they are."""
    import torch

    if isinstance(inputs, Mapping):
        return {name: moved(value, device) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
    if device is not None:
        inputs = inputs.to(device)
    # Products on a CPU depend on where in memory their factors begin, in the last bits; torch's own memory begins alike.
    return inputs.clone() if inputs.device.type == "cpu" and inputs.data_ptr() % _ALIGNMENT else inputs


def _form(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {', '.join(type(part).__name__ for part in value) or 'nothing'}"
    if isinstance(value, Mapping):
        return f"a mapping of {', '.join(map(str, value)) or 'nothing'}"
    return f"a {type(value).__name__}"
