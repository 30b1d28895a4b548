"""A torch model that is looked at and afterwards is what it was: modes, random states, gradients, place."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from fastent.errors import FastentError
from fastent.threads import heed_fork

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["evaluating", "placed", "torch_device"]


@contextmanager
def evaluating(model: "nn.Module") -> Iterator[None]:
    """Eval mode, no gradients, and random states that may be drawn from; each module's mode and all else as found afterwards.

    Not inference mode: what a model computes once and keeps would be useless to its training.
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
            # Weights that were cast while no gradient was taken would be used again by the next training step.
            torch.clear_autocast_cache()


@contextmanager
def placed(model: "nn.Module", device: Any = None) -> "Iterator[torch.device]":
    """The model on a device, and afterwards where it was; yield the device, which unless said is where its parameters are."""
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
    """A device of torch's that is there, or an error."""
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
