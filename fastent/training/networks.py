"""Networks by name or of the user's own making: their factories, names, digests and layers."""

import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastent.activations.evaluation import evaluating
from fastent.activations.hooks import hooked
from fastent.errors import FastentError
from fastent.printable import first_line
from fastent.training.drawing import drawing, made_with
from fastent.training.factories import checked_logits, running, users_code

__all__ = [
    "Factory", "cnn", "find_callable", "find_factory", "find_model", "hidden_layers", "make_network", "may_draw", "mlp",
    "model_digest", "model_name", "widths_of",
]  # fmt: skip

Factory = Callable[[], nn.Module]

# Modules that do the same in training as in evaluation. Others, a module of the user's own among them, may not: for these the
# networks are recorded in a pass of its own.
_ALIKE = (
    nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Identity, nn.Linear, nn.Bilinear, nn.Conv1d, nn.Conv2d, nn.Conv3d,
    nn.Flatten, nn.Unflatten, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.LayerNorm, nn.GroupNorm, nn.Embedding, nn.Tanh,
    nn.Sigmoid, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Hardtanh,
)  # fmt: skip
_WITH_WEIGHTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
# What identifies a model is what it makes of so many points.
_SHOWN = 16


def cnn(shape: Sequence[int], n_classes: int, *, channels: Sequence[int] = (8, 16), activation: str = "tanh") -> nn.Module:
    """A small convolutional network for pictures (h, w) or (h, w, colours), given as rows.

    Each of the `channels` is a 3 x 3 convolution, the activation and a 2 x 2 maximum, as long as a side of two is left.
    """
    height, width, *colours = shape
    before = colours[0] if colours else 1
    body: list[nn.Module] = [nn.Unflatten(1, (height, width, before)), ChannelsFirst()]
    for after in channels:
        body += [nn.Conv2d(before, after, 3, padding=1), nn.Tanh() if activation == "tanh" else nn.ReLU()]
        before = after
        if min(height, width) >= 2:
            body.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(before * height * width, n_classes))


def mlp(n_inputs: int, n_classes: int, *, hidden: Sequence[int], activation: str = "relu") -> nn.Module:
    """Fully connected: `hidden` layers of these widths, each with the activation, and a linear layer."""
    body: list[nn.Module] = []
    for before, after in pairwise((n_inputs, *hidden)):
        body += [nn.Linear(before, after), nn.Tanh() if activation == "tanh" else nn.ReLU()]
    return nn.Sequential(*body, nn.Linear(hidden[-1], n_classes))


class ChannelsFirst(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.permute(0, 3, 1, 2)


def model_name(model: "str | Factory") -> str:
    """The name of a model in a configuration: its own, or the place of the function that makes it."""
    return model if isinstance(model, str) else f"{model.__module__}:{getattr(model, '__qualname__', type(model).__qualname__)}"


def find_model(
    model: "str | Factory", picture: Sequence[int] | None, n_classes: int, activation: str, *, no_pictures: str
) -> Factory:
    """A function that makes one network: "cnn" for pictures, "package.module:name", or the function itself."""
    if callable(model):
        return model
    if model != "cnn":
        return find_factory(model)
    if picture is None:
        raise FastentError(f"model='cnn' needs pictures, {no_pictures}")
    return partial(cnn, picture, n_classes, activation=activation)


def find_factory(place: str, built_in: Sequence[str] = ("cnn",)) -> Factory:
    """The callable without arguments at "package.module:name"."""
    what = " or ".join(["a callable without arguments as package.module:name", *map(repr, built_in)])
    factory = find_callable("model", place, what)
    if not callable(factory):
        raise FastentError(f"model={place!r} is no callable: name one without arguments that returns a torch module")
    return factory  # type: ignore[no-any-return]


def find_callable(option: str, place: str, what: str) -> Any:
    """What is at "package.module:name", of a package that is installed or lies in the current folder."""
    module, _, name = place.partition(":")
    if not module or not name or "" in module.split("."):
        raise FastentError(f"{option}={place!r}: name {what}")
    if os.getcwd() not in sys.path:  # which the console script does not search
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # the module is the user's code
        said = (
            first_line(error)
            if isinstance(error, ImportError | AttributeError)
            else f"{type(error).__name__}: {first_line(error)}"
        )
        raise FastentError(f"{option}={place!r} cannot be imported ({said}): name {what}") from error


def model_digest(factory: Factory, seed: int, rows: NDArray[np.float32]) -> str:
    """16 hexadecimal digits that identify a model by its initial outputs for some points."""
    network = make_network(factory, seed).eval().float()
    with torch.no_grad(), drawing(0):
        shown = torch.from_numpy(rows[:_SHOWN])
        with running(shown):
            logits = checked_logits(network(shown), len(shown)).float()
    digest = hashlib.sha256(logits.numpy().tobytes())
    for name, value in network.state_dict().items():
        digest.update(f"{name}{tuple(value.shape)}".encode() + value.float().numpy().tobytes())
    return digest.hexdigest()[:16]


def make_network(factory: Factory, seed: int) -> nn.Module:
    if isinstance(factory, nn.Module):
        raise FastentError(f"model is a {type(factory).__name__}: pass a function that returns a new one at each call")
    with users_code("model() cannot make a network", "call it yourself, without arguments, to see where"):
        network = made_with(seed, factory)
    if not isinstance(network, nn.Module):
        raise FastentError(f"model() returned {type(network).__name__}: a function that returns a new torch module is needed")
    return network


def may_draw(network: nn.Module) -> bool:
    """Whether the network may behave differently in training and evaluation, for instance by drawing random numbers."""
    return not all(type(module) in (*_ALIKE, ChannelsFirst) for module in network.modules())


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
    with hooked(network, layers, "flatten") as run_model, running(rows):
        logits, found = run_model(rows)
    if not isinstance(logits, Tensor) or logits.shape != (len(rows), n_classes):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise FastentError(
            f"for {len(rows)} points the model returned shape {shape}: logits (points, classes) for {n_classes} classes are "
            "needed"
        )
    return [found[name].shape[1] for name in layers]
