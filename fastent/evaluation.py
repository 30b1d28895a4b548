"""A torch model that is looked at and afterwards is what it was: modes, random states, gradients."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn

__all__ = ["evaluating"]


@contextmanager
def evaluating(model: "nn.Module") -> Iterator[None]:
    """Eval mode, no gradients, and random states that may be drawn from; each module's mode and all else as found afterwards.

    Not inference mode: what a model computes once and keeps would be useless to its training.
    """
    import torch

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
