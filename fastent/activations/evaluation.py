"""Evaluating a torch model and leaving it as it was: modes, random states, gradients, device."""

import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from fastent.errors import FastentError
from fastent.runtime.threads import heed_fork

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["evaluating", "placed", "torch_device", "uncompiled"]

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
