"""Updates of networks that share their rows: from each batch, or from all rows, whose gradients are added up piece by piece.

A pass over all rows may take long, so an update can be kept halfway: the gradients so far are part of the state.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from fastent.errors import FastentError
from fastent.training.drawing import drawing
from fastent.training.factories import check_trainable, running
from fastent.training.networks import may_draw

__all__ = ["Learner"]


class Learner:
    """Networks, their optimisers, and the update under way.

    Parameters
    ----------
    networks, optimizers, seeds
        One of each for every network.
    pieces : int
        Pieces of rows that make an update: 1 (a batch), or more if an update takes all rows.
    n : int
        How many rows there are.

    Attributes
    ----------
    piece : int
        Pieces of the update under way whose gradients are in the networks already.
    losses : (S,) tensor
        Of the last update, or of the pieces so far.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        optimizers: Sequence[torch.optim.Optimizer],
        seeds: Sequence[int],
        pieces: int,
        n: int,
    ) -> None:
        self._networks, self._optimizers, self._seeds, self._pieces, self._n = networks, optimizers, seeds, pieces, n
        self.piece = 0
        self.losses = torch.zeros(len(networks))
        self._buffers: list[dict[str, Tensor]] = []  # running statistics as they were when the update began

    def learn(self, inputs: Tensor, targets: Tensor, update: int) -> bool:
        """Add the gradients of a piece, and after the last one update the parameters; whether that was done."""
        first, last = self.piece == 0, self.piece == self._pieces - 1
        share = 1.0 if self._pieces == 1 else len(targets) / self._n
        if first and not last:
            self._buffers = [{name: value.clone() for name, value in each.named_buffers()} for each in self._networks]
        for s, (network, optimizer) in enumerate(zip(self._networks, self._optimizers, strict=True)):
            own = inputs if s == len(self._networks) - 1 else inputs.clone()  # a model may change its inputs
            calls = count()

            def loss_and_gradient(
                network: nn.Module = network, rule: Any = optimizer, own: Tensor = own, calls: Any = calls
            ) -> Tensor:
                if next(calls) and self._pieces > 1:
                    raise FastentError(
                        f"optimizer={type(rule).__name__} evaluates the loss several times in an update, each over all rows: "
                        "give it a batch_size, or use another optimizer"
                    )
                if first:
                    rule.zero_grad()
                with running(own):
                    logits = network(own)
                loss = nn.functional.cross_entropy(logits, targets) * share
                check_trainable(loss)
                loss.backward()  # type: ignore[no-untyped-call]
                return loss

            # What is dropped at random depends on the seed, the update and the piece alone: there is no random state to keep.
            with drawing(self._seeds[s], update, self.piece) if may_draw(network) else nullcontext():
                loss: Any = optimizer.step(loss_and_gradient) if last else loss_and_gradient()  # type: ignore[arg-type]
            self.losses[s] = loss.detach() + (0.0 if first else self.losses[s])
        self.piece = 0 if last else self.piece + 1
        return last

    def abandon(self) -> None:
        """Forget the pieces of the update under way."""
        if self.piece:
            for network, kept in zip(self._networks, self._buffers, strict=True):
                for name, value in network.named_buffers():
                    value.copy_(kept[name])
            self.piece = 0

    def state_dict(self) -> dict[str, Any]:
        """Of the update under way; parameters, buffers and optimisers have states of their own."""
        halfway = self.piece > 0
        return {
            "piece": self.piece,
            "losses": self.losses,
            "gradients": [[each.grad for each in network.parameters()] for network in self._networks] if halfway else [],
            "buffers": self._buffers if halfway else [],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.piece, self._buffers = state["piece"], state["buffers"]
        self.losses.copy_(state["losses"])
        for network, gradients in zip(self._networks, state["gradients"], strict=False):  # none between two updates
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.grad = None if gradient is None else gradient.to(parameter.device)
