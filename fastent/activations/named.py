"""A model's layers by the names that its user gave them, whatever wrappers have been put around its parts."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from fastent.errors import FastentError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["aliases", "all_layers", "named_layers", "unwrapped"]

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
