"""Networks for data on disk, and their hidden layers."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from fastent.activations.evaluation import evaluating
from fastent.activations.hooks import hooked
from fastent.activations.named import named_layers
from fastent.errors import FastentError
from fastent.training.factories import running
from fastent.training.networks import Factory, find_model, mlp
from fastent.training.options import TrainingOptions

__all__ = ["find_network", "hidden_layers", "widths_of"]

_WITH_WEIGHTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def find_network(options: TrainingOptions, picture: Sequence[int] | None, n_features: int, n_classes: int) -> Factory:
    """A function that makes one network; rows of a square number of features are square pictures."""
    if options.model is None:
        return partial(mlp, n_features, n_classes, hidden=options.hidden, activation=options.activation)
    side = math.isqrt(n_features)
    no_pictures = (
        f"these are rows of {n_features} numbers: store them as (n, h, w) or (n, h, w, colours) in an .npy, or use model='mlp' "
        "or a factory of your own"
    )
    shape = picture or ((side, side) if side * side == n_features else None)
    return find_model(options.model, shape, n_classes, options.activation, no_pictures=no_pictures)


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
