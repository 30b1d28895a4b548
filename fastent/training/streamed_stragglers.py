"""Stragglers among all points of a data set on disk: one pass, each point through the network of its class's inversion."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastent.activations.evaluation import evaluating
from fastent.data.standardizer import Standard
from fastent.io.sources import blocks_ahead
from fastent.training.streamed_recording import wrong_of

__all__ = ["Asked", "find_stragglers", "is_about", "nothing_found"]

# Which classes have their inversion where: (network, update) -> classes.
Asked = dict[tuple[int, int], list[int]]

# A multiple of eight: points are bits.
_ROWS = 8192
# Copies of networks that are in memory together; more go over the data again.
_WEIGHTS_BYTES = 256 << 20


def nothing_found(asked: Asked, n_networks: int, n: int) -> dict[str, Any]:
    """What `find_stragglers` fills, and goes on with after an interruption: plain values and one array."""
    bits = np.zeros((n_networks, -(-n // 8)), np.uint8)
    return {"asked": _as_lists(asked), "pass": 0, "row": 0, "bits": bits, "complete": False}


def find_stragglers(
    X: Any,
    codes: NDArray[np.int64],
    asked: Asked,
    found: dict[str, Any],
    *,
    network_at: Callable[[tuple[int, int]], nn.Module],
    weights_bytes: int,
    standard: Standard,
    report: Callable[[float], None],
    pause: Callable[[], None],
) -> None:
    """Set the bits of the misclassified points in `found`, from where it stands."""
    moments, n = sorted(asked), len(codes)
    at_once = max(1, _WEIGHTS_BYTES // max(weights_bytes, 1))
    groups = [moments[at : at + at_once] for at in range(0, len(moments), at_once)]
    for number in range(found["pass"], len(groups)):
        networks = {moment: network_at(moment) for moment in groups[number]}
        bounds = [(at, min(at + _ROWS, n)) for at in range(found["row"], n, _ROWS)]
        for start, stored in blocks_ahead(lambda start, stop: np.array(X[start:stop]), bounds):
            here, rows = codes[start : start + len(stored)], standard(stored)
            for moment, network in networks.items():
                among = np.flatnonzero(np.isin(here, asked[moment]))
                if len(among):
                    wrong = np.zeros(len(here), bool)
                    with evaluating(network):
                        wrong[among] = wrong_of(network, rows[torch.from_numpy(among).to(rows.device)], here[among])
                    packed = np.packbits(wrong)
                    found["bits"][moment[0], start // 8 : start // 8 + len(packed)] |= packed
            found["row"] = start + len(stored)
            report((number + found["row"] / n) / len(groups))
            pause()
        found["pass"], found["row"] = number + 1, 0
    found["complete"] = True


def is_about(found: dict[str, Any], asked: Asked) -> bool:
    """Whether it was filled, or begun, for these moments and classes."""
    return bool(found["asked"] == _as_lists(asked))


def _as_lists(asked: Asked) -> list[list[int]]:
    return [[*moment, *classes] for moment, classes in sorted(asked.items())]
