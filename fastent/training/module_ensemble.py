"""S networks from the user's own model, trained as one through torch.func."""

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from fastent.errors import FastentError
from fastent.training.drawing import drawing
from fastent.training.ensemble import Observation, class_sums, misclassified
from fastent.training.factories import check_trainable, checked_logits, checked_networks, running
from fastent.training.networks import Factory, make_network, may_draw
from fastent.training.points import Points

__all__ = ["ModuleEnsemble"]

# Points that pass through all networks at once, unless what becomes of one depends on the others.
_ROWS = 1024


class ModuleEnsemble:
    """Networks `factory()`, network s made right after ``torch.manual_seed(seeds[s])``.

    A network takes rows (m, d), as the data set has them, to logits (m, C). It is recorded in evaluation mode and learns in
    training mode; where it drops units at random, it does so alike whenever the same run is repeated or continued. All random
    numbers are drawn from generators of its own: the global one stays as it is, and what other threads do with it is no matter.

    Parameters
    ----------
    factory : callable
        Without arguments, returns an nn.Module.
    seeds : sequence of int
    layers : sequence of str, optional
        Modules, by their names in `named_modules()`, whose outputs are the hidden activations, flattened for each point. Unless
        given, what arrives at the last nn.Linear.

    Raises
    ------
    FastentError
        No module is made; a layer that does not exist; points (d,) that it does not take to `n_classes` logits.
    """

    def __init__(
        self,
        factory: Factory,
        seeds: Sequence[int],
        *,
        n_inputs: int,
        n_classes: int,
        layers: Sequence[str] | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        networks = checked_networks(partial(make_network, factory), seeds, lambda network: network.to(device, dtype))
        stacked, buffers = stack_module_state(networks)  # type: ignore[arg-type]
        self._names = list(stacked)
        self.parameters = [parameter.detach().clone() for parameter in stacked.values()]
        # How often networks learnt whose training draws at random: what is drawn depends on it and on the seed, not on what
        # else torch drew.
        self.buffers: dict[str, Tensor] = {"updates": torch.zeros((), dtype=torch.int64), **buffers}
        self._seed = seeds[0]
        self._network = copy.deepcopy(networks[0])
        modules = list(self._network.modules())
        # Whether `observe` sets gradients too, in the very pass that is recorded; else `learn` does, in training mode.
        self.learns_when_observed = not may_draw(self._network)
        # What a batch is made of tells on each of its points: it must pass as one piece.
        self.mixes_points = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in modules)
        self._captured: dict[str, Tensor] = {}
        self.layers = _capture(self._network, layers, self._captured)
        found = self.predict(torch.zeros((2, n_inputs), dtype=dtype, device=device)).shape[1]
        if found != n_classes:
            raise FastentError(f"the model takes a point to {found} logits: {n_classes}, one for each class, are needed")

    def predict(self, rows: Tensor) -> Tensor:
        """Logits (S, C, m) of rows (m, d)."""
        self._network.eval()
        with torch.no_grad():
            return torch.cat([self._pass(piece)[0] for piece in torch.split(rows, _ROWS)], dim=1).transpose(1, 2)

    def hidden(self, rows: Tensor) -> list[Tensor]:
        """Activations of rows (m, d) in each of the `layers`, (S, features, m)."""
        self._network.eval()
        with torch.no_grad():
            pieces = [self._pass(piece)[1] for piece in torch.split(rows, _ROWS)]
        return [torch.cat(layer, dim=1).transpose(1, 2) for layer in zip(*pieces, strict=True)]

    def observe(self, points: Points, *, learn: bool) -> Observation:
        """Pass all points through all networks; set the gradient of every parameter if wanted and `learns_when_observed`."""
        return self._sweep(points, learn=learn and self.learns_when_observed)

    def learn(self, points: Points) -> None:
        """Set the gradient of every parameter; nothing is recorded."""
        self._sweep(points, learn=True)

    def _sweep(self, points: Points, *, learn: bool) -> Observation:
        self._network.train(learn)
        if learn:
            for parameter in self.parameters:
                parameter.grad = torch.zeros_like(parameter)
        logits, sums, directed = [], [], []
        n = len(points.codes)
        rows = n if learn and self.mixes_points else _ROWS
        with self._drawing():
            if learn and not self.learns_when_observed:
                self.buffers["updates"] += 1
            for start in range(0, n, rows):
                piece = points.piece(start, start + rows)
                scores, hidden = self._learn(piece) if learn else self._evaluate(piece)
                logits.append(scores)
                found = [class_sums(layer.transpose(1, 2).contiguous(), piece) for layer in hidden]
                sums.append([s for s, _ in found])
                directed.append([d for _, d in found])
        all_logits = torch.cat(logits, dim=1).transpose(1, 2).contiguous()
        return Observation(
            all_logits,
            misclassified(all_logits, points),
            [np.sum(layer, axis=0) for layer in zip(*sums, strict=True)],
            [np.sum(layer, axis=0) for layer in zip(*directed, strict=True)],
        )

    def _drawing(self) -> AbstractContextManager[None]:
        """Random numbers for networks that may draw some."""
        if self.learns_when_observed:
            return nullcontext()
        return drawing(self._seed, int(self.buffers["updates"]))

    def _evaluate(self, points: Points) -> tuple[Tensor, list[Tensor]]:
        with torch.no_grad():
            return self._pass(points.inputs.T)

    def _learn(self, points: Points) -> tuple[Tensor, list[Tensor]]:
        with torch.enable_grad():
            for parameter in self.parameters:
                parameter.requires_grad_()
            logits, hidden = self._pass(points.inputs.T)
            targets = points.codes.expand(len(logits), -1)
            losses = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
            total = (losses * points.weights.flatten()).sum()
            check_trainable(total)
            # Zeros for a parameter that the model does not use.
            gradients = torch.autograd.grad(total, self.parameters, allow_unused=True, materialize_grads=True)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.requires_grad_(False).grad += gradient
        return logits.detach(), [layer.detach() for layer in hidden]

    def _pass(self, rows: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits (S, m, C) and activations (S, m, features)."""

        def call(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
            self._captured.clear()
            logits = checked_logits(functional_call(self._network, (parameters, buffers), (rows,)), len(rows))
            missing = [layer for layer in self.layers if layer not in self._captured]
            if missing:
                raise FastentError(f"the model does not pass through its layer {missing[0]!r}: choose others as layers=")
            return logits, [self._captured[layer].flatten(1) for layer in self.layers]

        parameters = dict(zip(self._names, self.parameters, strict=True))
        buffers = {name: buffer for name, buffer in self.buffers.items() if name != "updates"}
        with running(rows):
            logits, hidden = vmap(call, randomness="different")(parameters, buffers)
        return logits, hidden


def _capture(network: nn.Module, layers: Sequence[str] | None, captured: dict[str, Tensor]) -> list[str]:
    """Let every pass leave the activations of the layers in `captured`; return the layers' names."""
    modules = dict(network.named_modules())

    def keep(name: str, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise FastentError(f"layer {name!r} returns {type(output).__name__}, not a tensor: choose another as layers=")
        if name in captured:
            raise FastentError(f"the model passes through its layer {name!r} more than once: choose others as layers=")
        captured[name] = output.detach().clone()  # what follows may write into it

    linear = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
    if layers is None or (linear and list(layers) == [f"before {linear[-1]}"]):  # as the configuration of a run has it
        if not linear:
            raise FastentError(
                "the model has no nn.Linear whose input could be recorded: name layers=, of model.named_modules()"
            )
        name = f"before {linear[-1]}"
        modules[linear[-1]].register_forward_pre_hook(
            lambda module, arguments, named: keep(name, arguments[0] if arguments else named["input"]), with_kwargs=True
        )
        return [name]
    for name in layers:
        if name not in modules or not name:
            raise FastentError(f"the model has no layer {name!r}: it has {', '.join(n for n in modules if n)}")
        if list(layers).count(name) > 1:
            raise FastentError(f"layers={list(layers)} name {name!r} more than once: name each once")
        modules[name].register_forward_hook(lambda module, arguments, output, name=name: keep(name, output))
    return list(layers)
