"""What was recorded of all networks, and after which updates: it grows, loses some again, and is kept and taken up."""

from collections.abc import Sequence, Set
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastent.training.streamed_recording import Record

__all__ = ["Curves"]

_OF_RECORDS = ("radius", "distance", "mixing", "neighbor_error")
_NAMES = ("train_error", "test_error", "wrong", *_OF_RECORDS)


class Curves:
    """Records by the update that they were made after, ascending.

    Attributes
    ----------
    updates : list of int
    """

    def __init__(self) -> None:
        self.updates: list[int] = []
        self._records: dict[str, list[NDArray[Any]]] = {name: [] for name in _NAMES}

    @property
    def last(self) -> int:
        """The last update that there is a record of; -1 without any."""
        return self.updates[-1] if self.updates else -1

    def add(self, update: int, found: Sequence[Record], test_error: Sequence[float]) -> None:
        """A record of each network."""
        self.updates.append(update)
        self._records["train_error"].append(np.array([each.wrong.mean() for each in found]))
        self._records["test_error"].append(np.array(test_error))
        self._records["wrong"].append(np.stack([np.packbits(each.wrong) for each in found]))
        for name in _OF_RECORDS:
            self._records[name].append(np.stack([getattr(each, name) for each in found]))

    def only(self, updates: Set[int]) -> None:
        """Forget the records of all other updates."""
        kept = [i for i, update in enumerate(self.updates) if update in updates]
        self.updates = [self.updates[i] for i in kept]
        self._records = {name: [values[i] for i in kept] for name, values in self._records.items()}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """(networks, records, ...) for each name, as a `Run` has them."""
        return {name: np.array(values).swapaxes(0, 1) for name, values in self._records.items()}

    def state_dict(self) -> dict[str, Any]:
        records = {name: torch.from_numpy(np.array(values)) for name, values in self._records.items()}
        return {"updates": list(self.updates), "records": records}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = list(state["updates"])
        self._records = {name: list(values.numpy()) for name, values in state["records"].items()}
