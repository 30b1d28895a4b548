"""What a loader yields, split into inputs and labels, on the device where the model runs."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from fastent.errors import FastentError, warn
from fastent.printable import first_line

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Inputs", "batches", "first_tensor", "form_of", "moved", "n_rows"]

_LABELS = ("labels", "label")
_ALIGNMENT = 64

Inputs = Any  # a tensor, or a mapping of what the model takes by name


def batches(loader: Any, device: Any = None, *, tokens: bool = False) -> "Iterator[tuple[Inputs, Tensor | None]]":
    """Yield (inputs on the device, labels on the CPU or None) of a loader.

    The loader may yield x, (x,), (x, y), or a mapping of the model's arguments, from which "labels" or "label" is removed. If
    there is not one label for each input, labels are None; with `tokens`, they may be (b, tokens). A generator of the loader
    is left as it was.

    Raises
    ------
    FastentError
        Batches of another form; labels that are no numbers.
    """
    import torch

    generator = getattr(loader, "generator", None)
    generator = generator if isinstance(generator, torch.Generator) else None
    state = None if generator is None else generator.get_state()
    try:
        for batch in loader:
            inputs, labels = _parted(batch)
            rows = n_rows(inputs)
            if rows:
                given = None if labels is None else _usable(labels, rows, tokens)
                if given is None and isinstance(labels, torch.Tensor) and not isinstance(batch, Mapping):
                    _say_if_mask(labels, rows)
                yield moved(inputs, device), given
    finally:
        if generator is not None and state is not None:
            generator.set_state(state)


def _usable(labels: Any, rows: int, tokens: bool) -> "Tensor | None":
    import torch

    try:
        found = torch.as_tensor(labels).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise FastentError(
            f"loader yields labels that are no tensor of numbers ({first_line(error)}): number the classes, "
            "as numpy.unique(labels, return_inverse=True) does"
        ) from error
    by_token = tokens and found.ndim == 2 and len(found) == rows
    return found if found.shape == (rows,) or by_token else None


def _say_if_mask(labels: "Tensor", rows: int) -> None:
    if labels.ndim != 2 or len(labels) != rows or labels.is_floating_point():
        return
    ones = labels == 1
    of_two = bool((ones | (labels == 0)).all()) and 0 < int(ones.sum()) < labels.numel()
    if of_two:
        warn(
            f"the loader's labels of shape {tuple(labels.shape)} are not one for each input and are ignored; if they are a "
            "mask, yield mappings with it as 'attention_mask'"
        )


def n_rows(inputs: Inputs) -> int:
    """How many inputs a batch holds."""
    first = first_tensor(inputs)
    if first is None or first.ndim == 0:
        raise FastentError(f"loader yields {form_of(inputs)}: inputs as a tensor, (inputs, labels) or a mapping are needed")
    return first.size(0)


def first_tensor(value: Any) -> "Tensor | None":
    """A tensor, or the first of the tensors that a mapping, a sequence or a dataclass holds."""
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, Mapping):
        value = tuple(value.values())
    elif is_dataclass(value) and not isinstance(value, type):
        value = tuple(getattr(value, field.name) for field in fields(value))
    if isinstance(value, (tuple, list)):
        return next((tensor for tensor in map(first_tensor, value) if tensor is not None), None)
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
        inputs, labels = batch[0], batch[1] if len(batch) == 2 else None
        if labels is None and isinstance(inputs, Mapping):
            return _parted(inputs)
        return inputs, labels
    raise FastentError(f"loader yields {form_of(batch)}: inputs as a tensor, (inputs, labels) or a mapping are needed")


def moved(inputs: Inputs, device: Any) -> Inputs:
    """Inputs on a device; None leaves them where they are."""
    import torch

    if isinstance(inputs, Mapping):
        return {name: moved(value, device) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
    if device is not None:
        inputs = inputs.to(device)
    if inputs.is_nested:
        return inputs
    # On a CPU, the last bits of products depend on the alignment of the factors; memory that torch allocates is aligned.
    return inputs.clone() if inputs.device.type == "cpu" and inputs.data_ptr() % _ALIGNMENT else inputs


def form_of(value: Any) -> str:
    """What a loader yields, in words."""
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {', '.join(type(part).__name__ for part in value) or 'nothing'}"
    if isinstance(value, Mapping):
        return f"a mapping of {', '.join(map(str, value)) or 'nothing'}"
    return f"a {type(value).__name__}"
