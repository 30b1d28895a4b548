"""Random numbers of torch's from a separate generator: the global one, which other threads may use, does not change."""

import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["drawing", "made_with"]

Made = TypeVar("Made")


@contextmanager
def drawing(*place: int) -> Iterator[None]:
    """Let this thread draw the numbers that it would after ``torch.manual_seed(seed)``, for a seed, or for several numbers.

    Several numbers (a seed, an update, ...) have a seed of their own, the same in every process: hashes of integers are not
    randomised. On GPUs they are the global generators' own, which are afterwards as they were.
    """
    seed = place[0] if len(place) == 1 else hash(place) % 2**63
    states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)
    try:
        with (_Drawing if "torch._dynamo" in sys.modules else _DrawingUncompiled)(seed):
            yield
    finally:
        if states is not None:
            torch.cuda.set_rng_state_all(states)


def made_with(seed: int, factory: Callable[[], Made]) -> Made:
    """What the factory returns right after ``torch.manual_seed(seed)``."""
    before = torch.get_rng_state()
    with drawing(seed):
        made = factory()
    if not _was_seeded(before):
        return made
    # The factory sets the global seed itself, and that is what it is to draw from.
    torch.set_rng_state(before)
    with _global.lock, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return factory()


def _was_seeded(before: torch.Tensor) -> bool:
    now = torch.get_rng_state()
    return not torch.equal(before, now) and torch.equal(now, torch.Generator().manual_seed(torch.initial_seed()).get_state())


class _Global:
    """The lock for the global generator, which a forked child has anew."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.lock = threading.RLock()


_global = _Global()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_global.forget)


class _Drawing(TorchDispatchMode):
    """Gives a generator to whatever draws on the CPU without one."""

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags and kwargs.get("generator") is None and _on_cpu(args, kwargs):
            drawn = _with_generator(func)
            if drawn is not None:
                return drawn(*args, **{**kwargs, "generator": self._generator})
            return self._lend(func, args, kwargs)
        return func(*args, **kwargs)

    def _lend(self, func: Any, args: Any, kwargs: Any) -> Any:
        """For an operator that only knows the global generator: give that our state for the call."""
        with _global.lock:
            before = torch.get_rng_state()
            torch.set_rng_state(self._generator.get_state())
            try:
                return func(*args, **kwargs)
            finally:
                self._generator.set_state(torch.get_rng_state())
                torch.set_rng_state(before)


class _DrawingUncompiled(_Drawing):  # type: ignore[no-untyped-call]
    """The same where nothing has been compiled yet: the wrapper that keeps torch's compiler out imports all of it, 1.2 s."""

    __torch_dispatch__ = inspect.unwrap(_Drawing.__torch_dispatch__)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


def _on_cpu(args: Any, kwargs: Any) -> bool:
    tensors = [value for value in args if isinstance(value, torch.Tensor)]
    device = kwargs.get("device") or (tensors[0].device if tensors else "cpu")
    return torch.device(device).type == "cpu"


@cache
def _with_generator(func: Any) -> Any:
    """The operator, or its overload, that takes a generator as well; None without one."""
    names = [argument.name for argument in func._schema.arguments]
    if "generator" in names:
        return func
    packet = func.overloadpacket
    for overload in map(packet.__getattr__, packet.overloads()):
        others = [argument.name for argument in overload._schema.arguments]
        if "generator" in others and [name for name in others if name != "generator"] == names:
            return overload
    return None
