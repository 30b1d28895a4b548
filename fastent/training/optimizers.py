"""Optimisers: PyTorch's own SGD and Adam without its compiler, or any class of its kind."""

import importlib
import inspect
from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from fastent.errors import FastentError

__all__ = ["make_optimizer"]

# Each of these is wrapped so that torch.compile leaves it alone, and the wrapper imports torch._dynamo, 1.2 s, when it is first
# called.
_WRAPPED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def make_optimizer(name: str, parameters: Iterable[Tensor], lr: float, momentum: float) -> torch.optim.Optimizer:
    """PyTorch's "sgd" or "adam", or the optimiser class at "package.module:Class"."""
    options: dict[str, float] = {"lr": lr} | ({"momentum": momentum} if momentum else {})
    if name in ("sgd", "adam"):
        known: Any = _uncompiled(torch.optim.SGD if name == "sgd" else torch.optim.Adam)
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


@cache
def _uncompiled(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """The same optimiser with its methods as they are below their wrappers, where this version of torch has any."""
    methods: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in _WRAPPED}
    # The wrapper of `step` also switches gradients off.
    methods["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), methods)
