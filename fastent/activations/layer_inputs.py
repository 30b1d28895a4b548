"""The inputs of a model's layers in one pass, for gradients with respect to them."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from fastent.activations.batching import form_of
from fastent.activations.evaluation import all_layers, named_layers
from fastent.activations.layouts import Layouts
from fastent.errors import FastentError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["called_once", "chosen_layers", "followed", "inputs_of", "labelled_batches"]


def chosen_layers(model: "nn.Module", layers: Sequence[str] | None) -> "dict[str, nn.Module]":
    """The layers of these names, or every linear and convolutional one."""
    import torch

    if layers is None:
        kinds = (torch.nn.Linear, torch.nn.modules.conv._ConvNd)
        found: dict[str, nn.Module] = {name: module for name, module in all_layers(model).items() if isinstance(module, kinds)}
        if not found:
            raise FastentError("model has no linear or convolutional layer: name its layers=, for instance '' for its input")
        return found
    return named_layers(model, layers)


@contextmanager
def inputs_of(modules: "dict[str, nn.Module]") -> "Iterator[dict[str, list[tuple[Tensor, int]]]]":
    """Yield a dict that fills with each layer's inputs, and their versions, as the model calls it."""
    import torch

    seen: dict[str, list[tuple[Tensor, int]]] = {}

    def note(name: str, module: "nn.Module", given: tuple[Any, ...], named: dict[str, Any]) -> None:
        tensors = [value for value in (*given, *named.values()) if isinstance(value, torch.Tensor)]
        if not tensors or not tensors[0].is_floating_point():
            found = f"a tensor of {tensors[0].dtype}" if tensors else "no tensor"
            raise FastentError(f"the input of layer {name!r} is {found}: choose layers with floating-point input")
        if not tensors[0].requires_grad:
            tensors[0].requires_grad_()
        seen.setdefault(name, []).append((tensors[0], tensors[0]._version))

    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_pre_hook(partial(note, name), with_kwargs=True).remove)
        yield seen


def labelled_batches(loader: Any) -> "Iterator[tuple[Tensor, Tensor]]":
    """Yield what a loader of (inputs, labels) yields, checked, without empty batches."""
    import torch

    for batch in loader:
        usable = isinstance(batch, (tuple, list)) and len(batch) == 2 and all(isinstance(part, torch.Tensor) for part in batch)
        if not usable:
            raise FastentError(f"loader yields {form_of(batch)}: pairs of tensors (inputs, labels) are needed")
        inputs, labels = batch
        whole = not labels.is_floating_point() and not labels.is_complex()
        if labels.ndim != 1 or not whole or inputs.ndim == 0 or len(inputs) != len(labels):
            raise FastentError(
                f"loader yields inputs of shape {tuple(inputs.shape)} with labels of shape {tuple(labels.shape)} and dtype "
                f"{labels.dtype}: one class number for each row is needed"
            )
        if len(labels):
            yield inputs, labels


def followed(inputs: "Tensor") -> "Tensor":
    """Inputs with a gradient: a copy, for a model may change them in place."""
    return inputs.detach().requires_grad_().clone() if inputs.is_floating_point() else inputs


def called_once(
    seen: "dict[str, list[tuple[Tensor, int]]]", modules: "dict[str, nn.Module]", n_rows: int, layouts: Layouts
) -> "dict[str, Tensor]":
    """Each layer's one input in this pass, in the order of the calls."""
    for name in modules:
        if name not in seen:
            raise FastentError(f"layer {name!r} is not called by the model: choose others")
    for name, calls in seen.items():
        tensor, version = calls[0]
        if len(calls) > 1:
            raise FastentError(f"layer {name!r} is called {len(calls)} times in a pass, so it has no one input: choose others")
        if tensor._version != version:
            raise FastentError(f"the input of layer {name!r} is changed in place afterwards: use inplace=False there")
        if tensor.ndim == 0 or layouts.steps_first(name, tensor, n_rows) is not False:
            raise FastentError(
                f"the input of layer {name!r} has shape {tuple(tensor.shape)} for {n_rows} points: "
                "choose layers whose input has one row for each point"
            )
    return {name: calls[0][0] for name, calls in seen.items()}
