"""The state from which training continues after an interruption or a crash: one atomic file, and weights of some moments."""

import os
import re
from collections.abc import Set
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from fastent.errors import FastentError
from fastent.io.checksums import read_checked_torch, write_checked_torch
from fastent.io.files import alone_in, output_folder
from fastent.printable import first_line

__all__ = ["CHECKPOINT_FILE", "RUN_FILES", "Checkpoint", "Moment", "remove_weights"]

CHECKPOINT_FILE = "checkpoint.pt"
_WEIGHTS_FOLDER = "checkpoint-weights"
_REMEDY = "start anew (resume=False, or --overwrite)"
# Weights in that folder, or what a killed process left of some.
_WEIGHTS = re.compile(r"network\d+-update\d+\.pt|\.network\d+-update\d+\.pt\..+\.pt")
# What a run is, and all that is written of one, weights apart.
_RUN = (CHECKPOINT_FILE, "run.npz")
RUN_FILES = (
    *_RUN, "config.json", "summary.json", "curves.parquet", "stragglers.parquet", "stragglers.csv", "report.html",
)  # fmt: skip

# A network and the update after which it has these weights.
Moment = tuple[int, int]


class Checkpoint:
    """State and weights in a folder; or weights in memory, and no state, without one.

    Weights are written at once, but forgotten only after a state is kept that does not need them any more: whenever the
    process ends, the state in the folder finds the weights that it knows of. What is not of a run is left alone. State and
    weights carry checksums: what is damaged is refused.

    A context manager: within it no other process trains in the folder.

    Parameters
    ----------
    resume : bool
        Or else a run in the folder counts as none, and makes room when there is something to keep in its place.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, *, resume: bool = True) -> None:
        self.folder = None if folder is None else output_folder(folder)
        self._weights: dict[Moment, dict[str, Any]] = {}
        self._replaces = not resume
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self.folder is not None:
            self._open.enter_context(alone_in(self.folder))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def holds_run(self) -> bool:
        """Whether there is a run that can neither be continued nor be replaced."""
        return self.folder is not None and not self._replaces and (self.folder / "run.npz").exists() and self.state() is None

    def state(self) -> dict[str, Any] | None:
        """The last state that was kept, if there is one to continue from."""
        path = None if self.folder is None or self._replaces else self.folder / CHECKPOINT_FILE
        return None if path is None or not path.exists() else _read(path)

    def keep(self, state: dict[str, Any], needed: Set[Moment]) -> None:
        """Keep the state, then forget all weights but those of the `needed` moments."""
        if self.folder is not None:
            self._replace()
            _write(self.folder / CHECKPOINT_FILE, state)
            remove_weights(self.folder, but={self._path(moment).name for moment in needed})
        self.forget_in_memory(needed)

    def forget_in_memory(self, needed: Set[Moment]) -> None:
        self._weights = {moment: weights for moment, weights in self._weights.items() if moment in needed}

    def keep_weights(self, moment: Moment, weights: dict[str, Any]) -> None:
        """Keep copies of a network's `state_dict` at (network, update)."""
        copies = {name: value.detach().to("cpu", copy=True) for name, value in weights.items() if torch.is_tensor(value)}
        if self.folder is None:
            self._weights[moment] = copies
            return
        self._replace()
        _write(self._path(moment), copies)

    def weights(self, moment: Moment) -> dict[str, Any]:
        return self._weights[moment] if self.folder is None else _read(self._path(moment))

    def _replace(self) -> None:
        """Remove the run that was there, if that is still to be done."""
        if self.folder is None or not self._replaces:
            return
        if any((self.folder / name).exists() for name in _RUN):
            for name in RUN_FILES:
                (self.folder / name).unlink(missing_ok=True)
            remove_weights(self.folder)
        self._replaces = False

    def _path(self, moment: Moment) -> Path:
        assert self.folder is not None
        return self.folder / _WEIGHTS_FOLDER / f"network{moment[0]}-update{moment[1]}.pt"


def remove_weights(folder: Path, but: Set[str] = frozenset()) -> None:
    """Remove the weights that a run keeps in its folder while it trains; nothing else."""
    place = folder / _WEIGHTS_FOLDER
    if not place.is_dir():
        return
    for path in list(place.iterdir()):
        if path.name not in but and _WEIGHTS.fullmatch(path.name):
            path.unlink(missing_ok=True)
    with suppress(OSError):  # it holds something
        place.rmdir()


def _write(path: Path, value: Any) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        write_checked_torch(path, value)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError of its own
        reason = getattr(error, "strerror", None) or first_line(error)
        raise FastentError(
            f"{str(path)!r} cannot be written ({reason}): make room; what was kept before is whole, and the same call goes on "
            "from there"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    return read_checked_torch(path, _REMEDY, "no checkpoint of fastent's")  # type: ignore[no-any-return]
