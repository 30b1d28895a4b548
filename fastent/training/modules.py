"""S networks of the user's own making, trained as one through torch.func."""

import copy
import importlib
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from fastent.errors import FastentError
from fastent.training.ensemble import Observation, class_sums
from fastent.training.points import Points

__all__ = ["ModuleEnsemble", "cnn", "find_factory", "make_network", "mlp"]

# Points that pass through all networks at once.
_ROWS = 1024


class ModuleEnsemble:
    """Networks `factory()`, network s made right after ``torch.manual_seed(seeds[s])``.

    A network takes rows (m, d), as the data set has them, to logits (m, C). It is recorded in evaluation mode and learns in
    training mode; where it drops units at random, it does so alike whenever the same run is repeated or continued.

    Parameters
    ----------
    factory : callable
        Without arguments, returns an nn.Module.
    seeds : sequence of int
    layers : sequence of str, optional
        Modules, by their names in `named_modules()`, whose outputs are the hidden activations, flattened for each point. Unless
        given, what arrives at the last nn.Linear.
    """

    def __init__(
        self,
        factory: Callable[[], nn.Module],
        seeds: Sequence[int],
        *,
        layers: Sequence[str] | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        networks = [make_network(factory, seed).to(device, dtype) for seed in seeds]
        stacked, buffers = stack_module_state(networks)  # type: ignore[arg-type]
        self._names = list(stacked)
        self.parameters = [parameter.detach().clone() for parameter in stacked.values()]
        # How many updates were made: what is dropped at random depends on it and on the seed, not on what else torch drew.
        self.buffers: dict[str, Tensor] = {"updates": torch.zeros((), dtype=torch.int64), **buffers}
        self._seed = seeds[0]
        self._network = copy.deepcopy(networks[0])
        self._alike_in_training = not any(
            isinstance(module, nn.modules.dropout._DropoutNd | nn.modules.batchnorm._NormBase)
            for module in self._network.modules()
        )
        self._captured: list[Tensor] = []
        self.layers = _capture(self._network, layers, self._captured)

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
        """Pass all points through all networks, and if wanted set the gradient of every parameter."""
        if learn and not self._alike_in_training:
            observed = self._sweep(points, learn=False)
            self._sweep(points, learn=True)
            return observed
        return self._sweep(points, learn=learn)

    def learn(self, points: Points) -> None:
        """Set the gradient of every parameter, without looking."""
        self._sweep(points, learn=True)

    def _sweep(self, points: Points, *, learn: bool) -> Observation:
        self._network.train(learn)
        if learn:
            for parameter in self.parameters:
                parameter.grad = torch.zeros_like(parameter)
        logits, sums, directed = [], [], []
        with torch.random.fork_rng(devices=[]):
            if learn:
                torch.manual_seed(hash((self._seed, int(self.buffers["updates"]))) % 2**63)
                self.buffers["updates"] += 1
            for start in range(0, len(points.codes), _ROWS):
                piece = points.piece(start, start + _ROWS)
                scores, hidden = self._learn(piece) if learn else self._look(piece)
                logits.append(scores)
                found = [class_sums(layer.transpose(1, 2).contiguous(), piece) for layer in hidden]
                sums.append([s for s, _ in found])
                directed.append([d for _, d in found])
        all_logits = torch.cat(logits, dim=1).transpose(1, 2).contiguous()
        wrong = np.empty((len(all_logits), len(points.codes)), np.bool_)
        counted = points.weights > 0
        wrong[:, points.original] = ((all_logits.argmax(1) != points.codes) & counted).cpu().numpy()
        return Observation(
            all_logits,
            wrong,
            [np.sum(layer, axis=0) for layer in zip(*sums, strict=True)],
            [np.sum(layer, axis=0) for layer in zip(*directed, strict=True)],
        )

    def _look(self, points: Points) -> tuple[Tensor, list[Tensor]]:
        with torch.no_grad():
            return self._pass(points.inputs.T)

    def _learn(self, points: Points) -> tuple[Tensor, list[Tensor]]:
        with torch.enable_grad():
            for parameter in self.parameters:
                parameter.requires_grad_()
            logits, hidden = self._pass(points.inputs.T)
            targets = points.codes.expand(len(logits), -1)
            losses = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
            gradients = torch.autograd.grad((losses * points.weights.flatten()).sum(), self.parameters)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.requires_grad_(False).grad += gradient
        return logits.detach(), [layer.detach() for layer in hidden]

    def _pass(self, rows: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits (S, m, C) and activations (S, m, features)."""

        def call(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
            self._captured.clear()
            logits = functional_call(self._network, (parameters, buffers), (rows,))
            return logits, [layer.flatten(1) for layer in self._captured]

        parameters = dict(zip(self._names, self.parameters, strict=True))
        buffers = {name: buffer for name, buffer in self.buffers.items() if name != "updates"}
        logits, hidden = vmap(call, randomness="different")(parameters, buffers)
        if logits.ndim != 3 or not hidden:
            raise FastentError(
                f"the model takes rows {tuple(rows.shape)} to {tuple(logits.shape[1:])}: logits (points, classes) are needed"
            )
        return logits, hidden


def cnn(shape: Sequence[int], n_classes: int, *, channels: Sequence[int] = (8, 16), activation: str = "tanh") -> nn.Module:
    """A small convolutional network for pictures (h, w) or (h, w, colours), given as rows.

    Each of the `channels` is a 3 x 3 convolution, the activation and a 2 x 2 maximum, as long as a side of two is left.
    """
    height, width, *colours = shape
    before = colours[0] if colours else 1
    body: list[nn.Module] = [nn.Unflatten(1, (height, width, before)), _ChannelsFirst()]
    for after in channels:
        body += [nn.Conv2d(before, after, 3, padding=1), nn.Tanh() if activation == "tanh" else nn.ReLU()]
        before = after
        if min(height, width) >= 2:
            body.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(before * height * width, n_classes))


def mlp(n_inputs: int, n_classes: int, *, hidden: Sequence[int], activation: str = "relu") -> nn.Module:
    """Fully connected: `hidden` layers of so many units, each with the activation, and a linear one."""
    body: list[nn.Module] = []
    for before, after in pairwise((n_inputs, *hidden)):
        body += [nn.Linear(before, after), nn.Tanh() if activation == "tanh" else nn.ReLU()]
    return nn.Sequential(*body, nn.Linear(hidden[-1], n_classes))


class _ChannelsFirst(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.permute(0, 3, 1, 2)


def find_factory(place: str) -> Callable[[], nn.Module]:
    """The callable at "package.module:name"."""
    module, _, name = place.partition(":")
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise FastentError(
            f"model={place!r} cannot be imported ({error}): name a callable without arguments as package.module:name, or 'cnn'"
        ) from error
    if not callable(factory):
        raise FastentError(f"model={place!r} is no callable: name one without arguments that returns a torch module")
    return factory  # type: ignore[no-any-return]


def make_network(factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = factory()
    if not isinstance(network, nn.Module):
        raise FastentError(f"model() returned {type(network).__name__}: a function that returns a new torch module is needed")
    return network


def _capture(network: nn.Module, layers: Sequence[str] | None, captured: list[Tensor]) -> list[str]:
    """Let every pass leave the activations of the layers in `captured`; return the layers' names."""
    modules = dict(network.named_modules())
    if layers is None:
        linear = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
        if not linear:
            raise FastentError("the model has no nn.Linear before which to look: name layers=, of model.named_modules()")
        modules[linear[-1]].register_forward_pre_hook(lambda module, arguments: captured.append(arguments[0]))
        return [f"before {linear[-1]}"]
    for name in layers:
        if name not in modules or not name:
            raise FastentError(f"the model has no layer {name!r}: it has {', '.join(n for n in modules if n)}")
        modules[name].register_forward_hook(lambda module, arguments, output: captured.append(output))
    return list(layers)
