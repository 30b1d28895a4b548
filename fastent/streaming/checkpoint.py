"""What training needs to go on after any end: one file that is renamed into place when whole, and weights of some moments."""

import os
import shutil
from collections.abc import Set
from pathlib import Path
from typing import Any

import torch

from fastent.errors import FastentError
from fastent.files import atomic_path, first_line, output_folder

__all__ = ["CHECKPOINT_FILE", "Checkpoint"]

CHECKPOINT_FILE = "checkpoint.pt"
_WEIGHTS_FOLDER = "weights"
# Whose temporary files a killed process may have left in the folder.
_OURS = (CHECKPOINT_FILE, "run.npz", "config.json", "summary.json", "curves.parquet", "stragglers.parquet", "report.html")

Moment = tuple[int, int]


class Checkpoint:
    """State and weights in a folder; or weights in memory, and no state, without one.

    Weights are written at once, but forgotten only after a state is kept that does not need them any more: whenever the
    process ends, the state in the folder finds the weights that it knows of.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, *, resume: bool = True) -> None:
        self._folder = None if folder is None else output_folder(folder)
        self._weights: dict[Moment, dict[str, Any]] = {}
        if self._folder is None:
            return
        if not resume:
            for name in _OURS:
                (self._folder / name).unlink(missing_ok=True)
            shutil.rmtree(self._folder / _WEIGHTS_FOLDER, ignore_errors=True)
        for name in _OURS:
            for left in self._folder.glob(f".{name}.*"):
                left.unlink(missing_ok=True)
        for left in (self._folder / _WEIGHTS_FOLDER).glob(".*"):
            left.unlink(missing_ok=True)

    @property
    def folder(self) -> Path | None:
        return self._folder

    def state(self) -> dict[str, Any] | None:
        """What was kept last, if anything was."""
        path = None if self._folder is None else self._folder / CHECKPOINT_FILE
        return None if path is None or not path.exists() else _read(path)

    def keep(self, state: dict[str, Any], needed: Set[Moment]) -> None:
        """Keep the state, then forget all weights but those of the `needed` moments."""
        if self._folder is not None:
            _write(self._folder / CHECKPOINT_FILE, state)
            kept = {self._path(moment) for moment in needed}
            for path in (self._folder / _WEIGHTS_FOLDER).glob("*.pt"):
                if path not in kept:
                    path.unlink(missing_ok=True)
        self.forget_in_memory(needed)

    def forget_in_memory(self, needed: Set[Moment]) -> None:
        self._weights = {moment: weights for moment, weights in self._weights.items() if moment in needed}

    def keep_weights(self, moment: Moment, weights: dict[str, Any]) -> None:
        """Keep copies of a network's `state_dict` at (network, update)."""
        copies = {name: value.detach().to("cpu", copy=True) for name, value in weights.items() if torch.is_tensor(value)}
        if self._folder is None:
            self._weights[moment] = copies
            return
        (self._folder / _WEIGHTS_FOLDER).mkdir(exist_ok=True)
        _write(self._path(moment), copies)

    def weights(self, moment: Moment) -> dict[str, Any]:
        return self._weights[moment] if self._folder is None else _read(self._path(moment))

    def _path(self, moment: Moment) -> Path:
        assert self._folder is not None
        return self._folder / _WEIGHTS_FOLDER / f"network{moment[0]}-update{moment[1]}.pt"


def _write(path: Path, value: Any) -> None:
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as stream:
            torch.save(value, stream)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError of its own
        reason = getattr(error, "strerror", None) or first_line(error)
        raise FastentError(
            f"{str(path)!r} cannot be written ({reason}): make room; what was kept before is whole, and the same call goes on "
            "from there"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
    except Exception as error:  # a damaged file can raise anything
        raise FastentError(
            f"{str(path)!r} is damaged or missing ({first_line(error)}): start anew (resume=False, or --overwrite)"
        ) from error
