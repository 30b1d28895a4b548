"""Networks for data on disk: by name or of the user's own making, their hidden layers, and any torch optimiser."""

import importlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fastent.activations.evaluation import evaluating
from fastent.activations.hooks import hooked
from fastent.activations.named import named_layers
from fastent.errors import FastentError
from fastent.training.factories import running
from fastent.training.modules import cnn, find_factory, mlp
from fastent.training.options import TrainingOptions

__all__ = ["Factory", "find_network", "hidden_layers", "make_optimizer", "widths_of"]

Factory = Callable[[], nn.Module]

_WITH_WEIGHTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def find_network(options: TrainingOptions, picture: Sequence[int] | None, n_features: int, n_classes: int) -> Factory:
    """A function that makes one network: fully connected, "cnn", "package.module:factory" or the function itself."""
    model, activation = options.model, options.activation
    if model is None:
        return partial(mlp, n_features, n_classes, hidden=options.hidden, activation=activation)
    if callable(model):
        return model  # type: ignore[no-any-return]
    if model != "cnn":
        return find_factory(model)
    side = math.isqrt(n_features)
    if picture is None and side * side != n_features:
        raise FastentError(
            f"model='cnn' needs pictures, these are rows of {n_features} numbers: store them as (n, h, w) or (n, h, w, "
            "colours) in an .npy, or use model='mlp' or a factory of your own"
        )
    return partial(cnn, picture or (side, side), n_classes, activation=activation)


def hidden_layers(network: nn.Module, rows: Tensor) -> list[str]:
    """Names of the modules whose outputs arrive at the layers with weights (linear, convolutions) after the first."""
    made: dict[int, str] = {}
    outputs: list[Any] = []  # kept, so that no two have the same id
    arrived: list[str | None] = []

    def note_output(name: str, output: Any) -> None:
        outputs.append(output)
        made[id(output)] = name

    def note_input(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        arrived.append(made.get(id(given[0] if given else named.get("input"))))

    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, _WITH_WEIGHTS):
            hooks.append(module.register_forward_pre_hook(note_input, with_kwargs=True))
        if name:
            hooks.append(module.register_forward_hook(lambda _, given, output, name=name: note_output(name, output)))
    try:
        with evaluating(network), running(rows):
            network(rows)
    finally:
        for hook in hooks:
            hook.remove()
    layers = list(dict.fromkeys(name for name in arrived[1:] if name is not None))
    if not layers:
        raise FastentError(
            "the model has no layer whose output arrives at an nn.Linear or a convolution: name layers=, of "
            "model.named_modules()"
        )
    return layers


def widths_of(network: nn.Module, layers: Sequence[str], rows: Tensor, n_classes: int) -> list[int]:
    """Features of each layer, flattened; a network that does not take rows to logits is refused."""
    named_layers(network, layers)
    with hooked(network, layers, "flatten") as run_model, running(rows):
        logits, found = run_model(rows)
    if not isinstance(logits, Tensor) or logits.shape != (len(rows), n_classes):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise FastentError(
            f"for {len(rows)} points the model returned shape {shape}: logits (points, classes) for {n_classes} classes are "
            "needed"
        )
    return [found[name].shape[1] for name in layers]


def make_optimizer(place: str, network: nn.Module, lr: float, momentum: float) -> torch.optim.Optimizer:
    """PyTorch's "sgd" or "adam", or the optimiser class at "package.module:Class"."""
    options: dict[str, float] = {"lr": lr} | ({"momentum": momentum} if momentum else {})
    if place in ("sgd", "adam"):
        kind: Any = torch.optim.SGD if place == "sgd" else torch.optim.Adam
        return kind(network.parameters(), **options)  # type: ignore[no-any-return]
    module, _, name = place.partition(":")
    try:
        kind = getattr(importlib.import_module(module), name)
        optimizer = kind(network.parameters(), **options)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise FastentError(
            f"optimizer={place!r} cannot be made ({error}): 'sgd', 'adam', or the package.module:Class of a torch optimiser "
            f"that takes {', '.join(options)}"
        ) from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise FastentError(f"optimizer={place!r} is no torch optimiser: name a class of torch.optim.Optimizer's kind")
    return optimizer
