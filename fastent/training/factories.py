"""Checks of the user's own networks: an exception in their code becomes one clear error that says where."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fastent.errors import DivergedError, FastentError

__all__ = ["check_trainable", "checked_logits", "checked_networks", "diverged", "running", "users_code"]

_NEVER_FINITE = (
    "the networks' outputs are not finite before any training: check the initial weights, which model= or init_scale= set, "
    "and the scale of the data"
)
_REMEDY = (
    "rows (points, features) come in, as stored and flattened; unflatten them there, as nn.Unflatten(1, (1, 28, 28)) does, and "
    "make what the model needs on its rows' device"
)


@contextmanager
def users_code(what: str, remedy: str) -> Iterator[None]:
    """Turn exceptions of the user's code into one error; fastent's own errors and those of full memory pass."""
    try:
        yield
    except (FastentError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        why = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise FastentError(f"{what} ({why[:300]}): {remedy}") from error


def running(rows: Tensor) -> Any:
    """While a network of the user's takes rows (m, d)."""
    return users_code(f"the model does not take rows {tuple(rows.shape)}", _REMEDY)


def checked_networks(
    make: Callable[[int], nn.Module], seeds: Sequence[int], place: Callable[[nn.Module], nn.Module]
) -> list[nn.Module]:
    """A network for each seed, at its place: with parameters, of one shape, and none of them another's."""
    networks: list[nn.Module] = []
    owner: dict[int, int] = {}
    for seed in seeds:
        network = make(seed)
        parameters = dict(network.named_parameters())
        if not parameters:
            raise FastentError(
                f"model() returned a {type(network).__name__} without parameters: it has no nn.Linear or other layer to train"
            )
        if any(isinstance(parameter, nn.UninitializedParameter) for parameter in parameters.values()):
            raise FastentError("model() returned a module with lazy layers: give their sizes, or pass a batch through it first")
        taken = {owner.setdefault(id(parameter), seed) for parameter in parameters.values()} - {seed}
        if taken:
            raise FastentError(
                f"model() returned the same parameters for seeds {min(taken)} and {seed}: make a new module at each call"
            )
        with users_code("the module that model() returned cannot be moved to the device", "make it on the CPU, not on 'meta'"):
            networks.append(place(network))
        first, here = (_shapes(each) for each in (networks[0], networks[-1]))
        if first != here:
            name = next(iter(dict(sorted(first.items() ^ here.items()))))
            raise FastentError(
                f"model() returned other parameters for seed {seed} than for seed {seeds[0]}, such as {name!r}: make the same "
                "layers at each call"
            )
    return networks


def checked_logits(logits: Any, n: int) -> Tensor:
    """What a network returns for n points, if that is a row of real numbers for each."""
    if not isinstance(logits, Tensor):
        raise FastentError(f"the model returns {type(logits).__name__}: a tensor of logits (points, classes) is needed")
    if not logits.is_floating_point():
        raise FastentError(f"the model returns numbers of {logits.dtype}: logits in floating point are needed, no decisions")
    if logits.ndim != 2 or len(logits) != n:
        raise FastentError(
            f"for {n} points the model returned shape {tuple(logits.shape)}: logits (points, classes) are needed"
        )
    return logits


def check_trainable(loss: Tensor) -> None:
    if not loss.requires_grad:
        raise FastentError("the model's logits do not depend on its parameters: return them without detach() or no_grad()")


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}


def diverged(update: int, when: str, lr: float) -> DivergedError:
    """The error of networks whose outputs are not finite after an update."""
    if not update:
        return DivergedError(_NEVER_FINITE)
    return DivergedError(f"training diverged {when}: the networks' outputs are no longer finite; lower lr={lr}")
