"""S independent fully connected networks that share their data, trained as one batch of matrix products.

Activations are (S, units, points): the S first layers are then one product of a (S units, inputs) matrix with the data, each
deeper layer one batched product, and no transposed copy is ever made. On a CPU everything between the last hidden layer's
activations and its gradient is one kernel; elsewhere torch does the same on the device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastent.kernels.head import RELU, TANH
from fastent.training.points import Points, SparseInputs

__all__ = ["ACTIVATIONS", "Ensemble", "Observation", "class_sums"]


def _tanh(values: Tensor) -> Tensor:
    """In place; on a CPU in single precision by a kernel, which takes a quarter of PyTorch's time for it."""
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return torch.tanh_(values)
    from fastent.kernels.exponential import single_tanh

    single_tanh(values.numpy().reshape(-1))
    return values


# Each activation in place, its derivative as a function of its output, and its name among the kernels.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], int]] = {
    "tanh": (_tanh, lambda output: 1 - output * output, TANH),
    "relu": (torch.relu_, lambda output: (output > 0).to(output.dtype), RELU),
}


@dataclass(frozen=True, eq=False)
class Observation:
    """What one forward pass of S networks over n points shows.

    Attributes
    ----------
    logits : (S, C, n) tensor, points sorted by class
    wrong : (S, n) bool, in the points' original order
        False for a point that a network is trained without.
    sums : one (S, C, h) float64 for each hidden layer
        Of each class's unit vectors.
    directed : one (S, C) int64 for each hidden layer
        How many of them are not zero.
    """

    logits: Tensor
    wrong: NDArray[np.bool_]
    sums: list[NDArray[np.float64]]
    directed: list[NDArray[np.int64]]


class Ensemble:
    """Networks with `widths` = (inputs, hidden..., outputs), one for each of `seeds`.

    Network s starts from the very numbers that ``torch.manual_seed(seeds[s])`` followed by an ``nn.Sequential`` of
    ``nn.Linear`` layers of these widths would draw, times `init_scale`. `used_inputs` keeps some of the inputs only: an input
    that is zero on every point moves nothing and is never moved. The attribute `activation` is the kernels' name for it.
    """

    learns_when_observed = True

    def __init__(
        self,
        widths: Sequence[int],
        seeds: Sequence[int],
        *,
        activation: str,
        dtype: torch.dtype,
        device: torch.device,
        init_scale: float = 1.0,
        used_inputs: Tensor | None = None,
    ) -> None:
        self._activate, self._slope, self.activation = ACTIVATIONS[activation]
        networks = [_initial_parameters(widths, seed, dtype, init_scale) for seed in seeds]
        self._used = torch.ones(widths[0], dtype=torch.bool) if used_inputs is None else used_inputs
        # (S units, unused inputs): as they were at the start, for points that are not zero there.
        self._unused = torch.cat([network[0][:, ~self._used] for network in networks]).to(device)
        for network in networks:
            network[0] = network[0][:, self._used]
        self.parameters = [torch.stack(parts).to(device) for parts in zip(*networks, strict=True)]
        self.buffers: dict[str, Tensor] = {}

    def hidden(self, rows: Tensor) -> list[Tensor]:
        """Activations (S, units, m) of each hidden layer, of rows (m, d) with all inputs."""
        unused = self._unused @ rows[:, ~self._used].T if len(self._unused[0]) else None
        return self._hidden(rows[:, self._used].T, unused)

    def predict(self, rows: Tensor) -> Tensor:
        """Logits (S, outputs, m) of rows (m, d) with all inputs."""
        weight, bias = self._head
        return torch.baddbmm(bias[:, :, None], weight, self.hidden(rows)[-1])

    def observe(self, points: Points, *, learn: bool) -> Observation:
        """Pass all points through all networks, and if wanted set the gradient of every parameter."""
        hidden = self._hidden(points.inputs, sparse=points.sparse)
        fused = points.inputs.device.type == "cpu"
        classes = [class_sums(layer, points) for layer in hidden[: -1 if fused else None]]
        if fused:
            logits, wrong, last, gradient = self._head_in_one_sweep(hidden[-1], points, learn)
            classes.append(last)
        else:
            logits, wrong, gradient = self._head_on_device(hidden[-1], points, learn)
        if learn:
            self._propagate(points, hidden, gradient)
        return Observation(logits, wrong, [sums for sums, _ in classes], [directed for _, directed in classes])

    def learn(self, points: Points) -> None:
        """Set the gradient of every parameter; nothing is recorded."""
        self.observe(points, learn=True)

    @property
    def _layers(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.parameters[::2], self.parameters[1::2], strict=True))

    @property
    def _head(self) -> tuple[Tensor, Tensor]:
        return self.parameters[-2], self.parameters[-1]

    def _hidden(self, inputs: Tensor, unused: Tensor | None = None, sparse: SparseInputs | None = None) -> list[Tensor]:
        n_networks, n = len(self.parameters[0]), inputs.shape[1]
        hidden: list[Tensor] = []
        for weight, bias in self._layers[:-1]:
            if hidden:
                values = torch.baddbmm(bias[:, :, None], weight, hidden[-1])
            elif sparse is not None:
                values = sparse.times(weight, bias)
            else:
                values = torch.addmm(bias.flatten()[:, None], weight.flatten(0, 1), inputs)
                values = (values if unused is None else values.add_(unused)).view(n_networks, -1, n)
            hidden.append(self._activate(values))
        return hidden

    def _head_in_one_sweep(self, hidden: Tensor, points: Points, learn: bool) -> tuple[Tensor, Any, Any, Tensor]:
        """Logits, errors, class sums; with `learn` the gradient before the activation, which takes the place of `hidden`."""
        from fastent.kernels.head import head

        (weight, bias), n = self._head, hidden.shape[2]
        logits = torch.empty((*bias.shape, n), dtype=hidden.dtype)
        wrong = np.empty((len(bias), n), np.bool_)
        sums, directed, head_gradient, bias_gradient = head(
            hidden.numpy(),
            weight.numpy(),
            bias.numpy(),
            points.strips,
            points.original,
            points.weights.numpy(),
            self.activation,
            learn,
            logits.numpy(),
            wrong,
        )
        if learn:
            of_head = torch.from_numpy(head_gradient.sum(1)).to(hidden.dtype)
            weight.grad, bias.grad = of_head[:, :, :-1].contiguous(), of_head[:, :, -1].contiguous()
            self.parameters[-3].grad = torch.from_numpy(bias_gradient.sum(1)).to(hidden.dtype)
        starts = np.searchsorted(points.strips[:, 0], np.arange(len(points.bounds)))
        of_class = [slice(start, stop) for start, stop in pairwise(starts)]
        class_sums = np.stack([sums[:, strips].sum(1) for strips in of_class], axis=1)
        class_directed = np.stack([directed[:, strips].sum(1) for strips in of_class], axis=1)
        return logits, wrong, (class_sums, class_directed), hidden

    def _head_on_device(self, hidden: Tensor, points: Points, learn: bool) -> tuple[Tensor, Any, Tensor]:
        weight, bias = self._head
        logits = torch.baddbmm(bias[:, :, None], weight, hidden)
        wrong = misclassified(logits, points)
        if not learn:
            return logits, wrong, hidden
        targets = torch.nn.functional.one_hot(points.codes, weight.shape[1]).T.to(logits.dtype)
        gradient = torch.softmax(logits, 1).sub_(targets).mul_(points.weights[:, None])
        weight.grad, bias.grad = torch.bmm(gradient, hidden.transpose(1, 2)), gradient.sum(2)
        gradient = torch.bmm(weight.transpose(1, 2), gradient).mul_(self._slope(hidden))
        self.parameters[-3].grad = gradient.sum(2)
        return logits, wrong, gradient

    def _propagate(self, points: Points, hidden: list[Tensor], gradient: Tensor) -> None:
        """Set the gradients below the last hidden layer's bias, given that of the loss before its activation."""
        for layer in range(len(hidden) - 1, 0, -1):
            weight, below = self.parameters[2 * layer], hidden[layer - 1]
            weight.grad = torch.bmm(gradient, below.transpose(1, 2))
            gradient = torch.bmm(weight.transpose(1, 2), gradient).mul_(self._slope(below))
            self.parameters[2 * layer - 1].grad = gradient.sum(2)
        first = self.parameters[0]
        if points.sparse is not None:
            of_bias = self.parameters[1].grad
            assert of_bias is not None
            first.grad = points.sparse.gradient(gradient, of_bias)
        else:
            first.grad = (gradient.flatten(0, 1) @ points.inputs.T).view_as(first)


def class_sums(activations: Tensor, points: Points) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sums (S, C, h) of each class's unit vectors and how many are not zero (S, C), from activations (S, h, n)."""
    if activations.device.type == "cpu":
        from fastent.kernels.recording import unit_class_sums

        sums, directed = unit_class_sums(activations.numpy(), points.bounds, points.weights.numpy())
        return sums, directed
    norms = torch.linalg.vector_norm(activations, dim=1, keepdim=True, dtype=torch.float64)
    counted = (norms > 0) & (points.weights[:, None] > 0)
    unit = activations * torch.where(counted, 1 / norms, 0.0)
    pieces = [slice(start, stop) for start, stop in pairwise(points.bounds)]
    of_class = torch.stack([unit[:, :, piece].sum(2) for piece in pieces], dim=1)
    nonzero = torch.stack([counted[:, 0, piece].sum(1) for piece in pieces], dim=1)
    return of_class.cpu().numpy(), nonzero.cpu().numpy()


def _initial_parameters(widths: Sequence[int], seed: int, dtype: torch.dtype, scale: float) -> list[Tensor]:
    """Weights and biases of one network, drawn as nn.Linear draws them: uniform within 1 / sqrt(inputs); times `scale`."""
    generator = torch.Generator().manual_seed(seed)
    parameters = []
    for n_in, n_out in pairwise(widths):
        bound = n_in**-0.5
        for shape in ((n_out, n_in), (n_out,)):
            parameter = torch.empty(shape, dtype=dtype).uniform_(-bound, bound, generator=generator)
            parameters.append(parameter.mul_(scale))
    return parameters


def misclassified(logits: Tensor, points: Points) -> NDArray[np.bool_]:
    """(S, n), in the points' original order, from logits (S, C, n) of the points sorted by class."""
    wrong = np.empty((len(logits), logits.shape[2]), np.bool_)
    wrong[:, points.original] = ((logits.argmax(1) != points.codes) & (points.weights > 0)).cpu().numpy()
    return wrong
