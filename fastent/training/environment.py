"""The environment of training: versions, the machine, and threads."""

import platform
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import numpy as np
import torch

__all__ = ["environment", "sensible_threads"]

# Floating-point operations of an epoch (some 10 ms on one core) below which threads cost more than they bring, and very much
# more where something else runs on the machine: they wait for each other many times an epoch.
_WORTH_SHARING = 1e9


def sensible_threads(threads: int | None, shape: tuple[int, ...], config: dict[str, Any], n_classes: int) -> int | None:
    """One thread if no number is given and an epoch of the fully connected networks is too short to share; else `threads`."""
    widths: tuple[int, ...] = (shape[1], *config["hidden"], n_classes)
    weights = sum(before * after for before, after in pairwise(widths))
    # Forward, and twice that backward, two operations for each weight and point.
    operations = 6.0 * shape[0] * int(config["seeds"]) * weights
    return 1 if threads is None and operations < _WORTH_SHARING else threads


def environment() -> dict[str, Any]:
    return {
        "fastent": version("fastent"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }
