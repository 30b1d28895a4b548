"""S independent fully connected networks that share their data, trained as one batch of matrix products.

Activations are (S, units, points): the S first layers are then one product of a (S units, inputs) matrix with the data, each
deeper layer one batched product, and no transposed copy is ever made.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["ACTIVATIONS", "Ensemble"]

# Each activation, and its derivative as a function of its output.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "tanh": (torch.tanh_, lambda output: 1 - output * output),
    "relu": (torch.relu_, lambda output: (output > 0).to(output.dtype)),
}


class Ensemble:
    """Networks with `widths` = (inputs, hidden..., outputs), one for each of `seeds`.

    Network s starts from the very numbers that ``torch.manual_seed(seeds[s])`` followed by an ``nn.Sequential`` of
    ``nn.Linear`` layers of these widths would draw. `used_inputs` keeps some of the inputs only: an input that is zero on
    every point moves nothing and is never moved.
    """

    def __init__(
        self,
        widths: Sequence[int],
        seeds: Sequence[int],
        *,
        activation: str,
        dtype: torch.dtype,
        device: torch.device,
        used_inputs: Tensor | None = None,
    ) -> None:
        self._activate, self._slope = ACTIVATIONS[activation]
        networks = [_initial_parameters(widths, seed, dtype) for seed in seeds]
        if used_inputs is not None:
            for network in networks:
                network[0] = network[0][:, used_inputs]
        self.parameters = [torch.stack(parts).to(device) for parts in zip(*networks, strict=True)]

    def forward(self, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the hidden activations, each (S, units, n), and the logits (S, outputs, n) of `inputs` (d, n)."""
        n_networks, n = len(self.parameters[0]), inputs.shape[1]
        hidden: list[Tensor] = []
        values = inputs
        for weight, bias in self._layers():
            if values is inputs:
                values = torch.addmm(bias.flatten()[:, None], weight.flatten(0, 1), inputs).view(n_networks, -1, n)
            else:
                values = torch.baddbmm(bias[:, :, None], weight, values)
            hidden.append(values)
            if len(hidden) < len(self.parameters) // 2:
                self._activate(values)
        return hidden[:-1], hidden[-1]

    def backward(self, inputs: Tensor, hidden: list[Tensor], logit_gradient: Tensor) -> None:
        """Set the gradient of every parameter, given that of the loss with respect to the logits (S, outputs, n)."""
        gradient = logit_gradient
        for layer in range(len(hidden), -1, -1):
            weight, bias = self.parameters[2 * layer], self.parameters[2 * layer + 1]
            bias.grad = gradient.sum(2)
            if layer:
                below = hidden[layer - 1]
                weight.grad = torch.bmm(gradient, below.transpose(1, 2))
                gradient = torch.bmm(weight.transpose(1, 2), gradient).mul_(self._slope(below))
            else:
                weight.grad = (gradient.flatten(0, 1) @ inputs.T).view_as(weight)

    def _layers(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.parameters[::2], self.parameters[1::2], strict=True))


def _initial_parameters(widths: Sequence[int], seed: int, dtype: torch.dtype) -> list[Tensor]:
    """Weights and biases of one network, drawn as nn.Linear draws them: uniform within 1 / sqrt(inputs)."""
    generator = torch.Generator().manual_seed(seed)
    parameters = []
    for n_in, n_out in pairwise(widths):
        bound = n_in**-0.5
        for shape in ((n_out, n_in), (n_out,)):
            parameter = torch.empty(shape, dtype=dtype).uniform_(-bound, bound, generator=generator)
            parameters.append(parameter)
    return parameters
