"""A torch model while it is evaluated: its layers by name, and modes, random states, gradients and device left as they were."""

import random
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from fastent.errors import FastentError
from fastent.runtime.threads import heed_fork

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["aliases", "all_layers", "evaluating", "named_layers", "placed", "torch_device", "uncompiled", "unwrapped"]

_WRAPPERS = ("_orig_mod", "module")


def unwrapped(model: Any) -> "nn.Module":
    """The module inside of wrappers for several devices and for compilation."""
    import torch

    if not isinstance(model, torch.nn.Module):
        raise FastentError(f"model is {type(model).__name__}: a torch.nn.Module is needed")
    while (inner := _inner(model)) is not None:
        model = getattr(model, inner)
    return model  # type: ignore[no-any-return]


def _inner(module: "nn.Module") -> str | None:
    """The name under which a wrapper keeps the module that it wraps; None for other modules."""
    import torch

    if isinstance(module, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
        return "module"
    return "_orig_mod" if "_orig_mod" in module._modules else None


def named_layers(model: "nn.Module", layers: Sequence[str]) -> "dict[str, nn.Module]":
    """Modules by name; unknown names are refused with the names that come close.

    A module with several names is found by each of them. The parts of a wrapper inside of the model (torch.compile,
    DataParallel) are found with and without what it adds to their names.
    """
    if isinstance(layers, str):
        raise FastentError(f"layers={layers!r}: a sequence of names is needed, for instance [{layers!r}]")
    if not layers:
        raise FastentError("layers is empty: name at least one of model.named_modules(), or '' for the model itself")
    found = {}
    for name, module in _modules_named(model, layers).items():
        if module is None:
            plain = all_layers(model)
            ends = [other for other in plain if isinstance(name, str) and other.endswith(f".{name}")]
            near = ends or get_close_matches(str(name), plain, n=5) or [other for other in plain if other]
            more = f", ... ({len(near)} in all)" if len(near) > 8 else ""
            raise FastentError(f"model has no layer {name!r}: choose from {', '.join(map(repr, near[:8]))}{more}")
        found[name] = module
    return found


def _modules_named(model: "nn.Module", names: Sequence[str]) -> "dict[str, nn.Module | None]":
    """Modules by any of their names, with and without what wrappers add; None where there is none."""
    named = dict(model.named_modules(remove_duplicate=False))
    plain = _plain_names(named)

    def find(name: Any) -> "nn.Module | None":
        short = _without_outer_wrappers(name) if isinstance(name, str) else name
        return next((some[key] for key in (name, short) for some in (named, plain) if key in some), None)

    return {name: find(name) for name in names}


def all_layers(model: "nn.Module") -> "dict[str, nn.Module]":
    """Every module once, by its name without what wrappers add."""
    found: dict[int, str] = {}
    plain = _plain_names(dict(model.named_modules(remove_duplicate=False)))
    for name, module in plain.items():
        found.setdefault(id(module), name)
    return {name: plain[name] for name in found.values()}


def aliases(model: "nn.Module", module: "nn.Module") -> list[str]:
    """All names of a module."""
    return [name for name, other in model.named_modules(remove_duplicate=False) if other is module]


def _plain_names(named: "dict[str, nn.Module]") -> "dict[str, nn.Module]":
    """Modules by the names that they have without wrappers; that of a wrapper is the wrapper's own."""
    added = {f"{name}.{inner}".lstrip(".") for name, module in named.items() if (inner := _inner(module))}
    plain: dict[str, nn.Module] = {}
    for name, module in named.items():
        parts = name.split(".")
        kept = [part for i, part in enumerate(parts) if ".".join(parts[: i + 1]) not in added]
        plain.setdefault(".".join(kept), module)
    return plain


def _without_outer_wrappers(name: str) -> str:
    """A name as in `named_modules()` of the wrapped model, of which the inner model was taken."""
    parts = name.split(".")
    while parts and parts[0] in _WRAPPERS:
        parts.pop(0)
    return ".".join(parts)


_stance_lock = threading.Lock()
_stances: list[Any] = []  # torch's own, then an entry for each `uncompiled` that has been entered


@contextmanager
def evaluating(model: "nn.Module") -> Iterator[None]:
    """Eval mode without gradients; modes and random states are restored afterwards.

    Not inference mode: tensors that a model caches in it could not be used in training.
    """
    import torch

    heed_fork()
    training = [module for module in model.modules() if module.training]
    places = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.device.type == "cuda"}
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (a model may draw from it)
    with torch.random.fork_rng(devices=list(places)), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True
            random.setstate(of_python)
            np.random.set_state(of_numpy)  # noqa: NPY002
            # Else the next training step would use weights that were cast without gradients.
            torch.clear_autocast_cache()


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run compiled parts as they were written: code compiled by torch.compile ignores hooks that were added later.

    torch has one stance for all threads: the first block to enter sets it, the last one to leave restores it.
    """
    import torch

    if "torch._dynamo" not in sys.modules or not hasattr(torch.compiler, "set_stance"):  # nothing is compiled, or torch < 2.6
        yield
        return
    with _stance_lock:
        if not _stances:
            _stances.append(torch.compiler.set_stance("force_eager"))  # setting it, it keeps the one before
        _stances.append(None)
    try:
        yield
    finally:
        with _stance_lock:
            _stances.pop()
            if len(_stances) == 1:
                _stances.pop().__exit__(None, None, None)


@contextmanager
def placed(model: "nn.Module", device: Any = None) -> "Iterator[torch.device]":
    """Move the model to a device for a block of work; by default it stays where its parameters are. Yields the device."""
    import torch

    places = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    if device is None:
        yield next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        return
    wanted = torch_device(device)
    if len(places) > 1:
        raise FastentError(f"model is on {', '.join(map(str, places))}, device={str(device)!r}: leave device= out")
    try:
        model.to(wanted)
        yield wanted
    finally:
        for place in places:
            model.to(place)


def torch_device(name: Any) -> "torch.device":
    """A torch device that exists here, or an error."""
    import torch

    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise FastentError(f"device={str(name)!r}: choose 'cpu' or 'cuda'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise FastentError(f"device={str(name)!r}: torch sees {torch.cuda.device_count()} CUDA devices here; use 'cpu'")
    return device
