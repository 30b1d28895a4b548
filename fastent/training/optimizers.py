"""PyTorch's optimisers, by name or by the place of their class."""

import importlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from fastent.errors import FastentError

__all__ = ["make_optimizer"]


def make_optimizer(name: str, parameters: Iterable[Tensor], lr: float, momentum: float) -> torch.optim.Optimizer:
    """PyTorch's "sgd" or "adam", or the optimiser class at "package.module:Class"."""
    options: dict[str, float] = {"lr": lr} | ({"momentum": momentum} if momentum else {})
    if name in ("sgd", "adam"):
        known: Any = torch.optim.SGD if name == "sgd" else torch.optim.Adam
        return known(parameters, **options)  # type: ignore[no-any-return]
    module, _, kind = name.partition(":")
    try:
        optimizer = getattr(importlib.import_module(module), kind)(parameters, **options)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise FastentError(
            f"optimizer={name!r} cannot be made ({error}): 'sgd', 'adam', or the package.module:Class of a torch optimiser "
            f"that takes {', '.join(options)}"
        ) from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise FastentError(f"optimizer={name!r} is no torch optimiser: name a class of torch.optim.Optimizer's kind")
    return optimizer
