"""Stragglers among all points of a data set on disk, where training records a sample of them.

training     the weights of some records are kept, spaced evenly on a log scale of updates, those at inversions for longest
last pass    each point passes the network with the weights at its class's inversion
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastent.activations.evaluation import evaluating
from fastent.data.standardization import Standardizer
from fastent.io.sources import blocks_ahead
from fastent.training.checkpoint import Checkpoint, Moment
from fastent.training.schedule import thinned
from fastent.training.streamed_recorder import wrong_of

__all__ = ["StragglerSearch", "Targets"]

# Which classes have their inversion where: (network, update) -> classes.
Targets = dict[Moment, list[int]]

# A multiple of eight: points are bits.
_ROWS = 8192
# Copies of networks that are in memory together; more go over the data again.
_WEIGHTS_BYTES = 256 << 20
# Moments of each network whose weights are kept for the last pass, and the bytes for all of them.
_LEAST_KEPT, _MOST_KEPT = 8, 64
_KEPT_BYTES = 1 << 30


class StragglerSearch:
    """The weights that are kept, and the last pass as far as it got.

    Attributes
    ----------
    needed : set of (network, update)
        Moments whose weights are kept.
    found : dict or None
        What the last pass was asked for and has found: plain values and one array of bits; None before it begins.
    """

    def __init__(self, networks: Sequence[nn.Module], checkpoint: Checkpoint, n_records: int) -> None:
        self._networks, self._checkpoint = networks, checkpoint
        self.needed: set[Moment] = set()
        self.found: dict[str, Any] | None = None
        self._weights_bytes = sum(value.numel() * value.element_size() for value in networks[0].state_dict().values())
        fitting = _KEPT_BYTES // (self._weights_bytes * len(networks))
        self._room = min(max(_LEAST_KEPT, min(_MOST_KEPT, fitting)), n_records)

    @property
    def kept_bytes(self) -> int:
        """The most that kept weights take."""
        return int(self._room * self._weights_bytes * len(self._networks))

    def keep_weights(self, update: int, updates: list[int], inversions: Callable[[], NDArray[Any]], spare: int) -> None:
        """Keep the weights after the last of the recorded `updates`, and of earlier ones as many as there is room for.

        `inversions`, (S, C) of the last layer, are those so far; room is made for `spare` moments more.
        """
        needed: set[Moment] = set()
        known: NDArray[Any] | None = None
        for s, network in enumerate(self._networks):
            self._checkpoint.keep_weights((s, update), network.state_dict())
            kept = sorted({*self._kept(s), update})
            spared = set[int]()
            if len(kept) > self._room + spare:
                known = inversions() if known is None else known
                spared = {_nearest(kept, updates[inversion.index]) for inversion in known[s] if inversion}
            needed |= {(s, each) for each in thinned(kept, spared, self._room + spare)}
        self.needed = needed
        if self._checkpoint.folder is None:
            self._checkpoint.forget_in_memory(needed)

    def forget_others(self, updates: list[int]) -> None:
        """Training goes on: the last pass is to be made again, without weights of records that are no more."""
        self.needed = {moment for moment in self.needed if moment[1] in updates}
        self.found = None

    def lacks(self, updates: list[int]) -> bool:
        """Whether there are records whose weights were not kept, for want of room."""
        return len(self.needed) < len(self._networks) * sum(update > 0 for update in updates)

    def targets(self, updates: list[int], inversions: NDArray[Any]) -> Targets:
        """Which classes have an inversion, by the nearest moment whose weights were kept."""
        targets: Targets = {}
        for (s, c), inversion in np.ndenumerate(inversions):
            if inversion:
                moment = (s, _nearest(self._kept(s), updates[inversion.index]))
                targets.setdefault(moment, []).append(c)
        return targets

    def complete(self, targets: Targets) -> bool:
        """Whether the last pass was made for these targets."""
        return self.found is not None and bool(self.found["complete"]) and self.found["asked"] == _as_lists(targets)

    def search(
        self,
        X: Any,
        codes: NDArray[np.int64],
        targets: Targets,
        standardizer: Standardizer,
        report: Callable[[int, str], None],
        pause: Callable[[], None],
    ) -> None:
        """Make the last pass, from where it stands if it has begun for these targets."""
        n = len(codes)
        if self.found is None or self.found["asked"] != _as_lists(targets):
            bits = np.zeros((len(self._networks), -(-n // 8)), np.uint8)
            self.found = {"asked": _as_lists(targets), "pass": 0, "row": 0, "bits": bits, "complete": False}
        found, moments = self.found, sorted(targets)
        at_once = max(1, _WEIGHTS_BYTES // max(self._weights_bytes, 1))
        groups = [moments[at : at + at_once] for at in range(0, len(moments), at_once)]
        for number in range(found["pass"], len(groups)):
            networks = {moment: self._network_at(moment) for moment in groups[number]}
            bounds = [(at, min(at + _ROWS, n)) for at in range(found["row"], n, _ROWS)]
            for start, stored in blocks_ahead(lambda start, stop: np.array(X[start:stop]), bounds):
                here, rows = codes[start : start + len(stored)], standardizer(stored)
                for moment, network in networks.items():
                    among = np.flatnonzero(np.isin(here, targets[moment]))
                    if len(among):
                        wrong = np.zeros(len(here), bool)
                        with evaluating(network):
                            wrong[among] = wrong_of(network, rows[torch.from_numpy(among).to(rows.device)], here[among])
                        packed = np.packbits(wrong)
                        found["bits"][moment[0], start // 8 : start // 8 + len(packed)] |= packed
                found["row"] = start + len(stored)
                report(round((number + found["row"] / n) / len(groups) * n), "")
                pause()
            found["pass"], found["row"] = number + 1, 0
        found["complete"] = True

    def result(self, updates: list[int], epoch: NDArray[Any], n_classes: int) -> dict[str, NDArray[Any]]:
        """Stragglers and the epochs of the weights that they come from, as `Run` has them; nothing before the pass ended."""
        if self.found is None or not self.found["complete"]:
            return {}
        epochs = np.full((len(self._networks), n_classes), np.nan)
        for network, update, *classes in self.found["asked"]:
            epochs[network, classes] = epoch[updates.index(update)]
        return {"straggler_bits": self.found["bits"], "straggler_epochs": epochs}

    def state_dict(self) -> dict[str, Any]:
        found = None if self.found is None else {**self.found, "bits": torch.from_numpy(self.found["bits"])}
        return {"found": found, "needed": [list(moment) for moment in sorted(self.needed)]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        found = state["found"]
        self.found = None if found is None else {**found, "bits": found["bits"].numpy()}
        self.needed = {(s, update) for s, update in state["needed"]}

    def _kept(self, network: int) -> list[int]:
        return sorted(update for s, update in self.needed if s == network)

    def _network_at(self, moment: Moment) -> nn.Module:
        network = copy.deepcopy(self._networks[moment[0]])
        network.load_state_dict(self._checkpoint.weights(moment))
        return network


def _as_lists(targets: Targets) -> list[list[int]]:
    return [[*moment, *classes] for moment, classes in sorted(targets.items())]


def _nearest(updates: list[int], update: int) -> int:
    """The one of some ascending updates that is nearest on a log scale."""
    return min(updates, key=lambda each: abs(np.log((each + 1) / (update + 1))))
