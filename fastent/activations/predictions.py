"""Errors and loss of a model on labelled rows, from what it returns for them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.errors import warn

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Predictions", "logits_by_token"]


class Predictions:
    """Which rows the model gets wrong, and its cross-entropy, where it returns logits of these classes."""

    def __init__(self, classes: NDArray[Any]) -> None:
        self._classes = classes
        self._wrong: list[NDArray[np.bool_]] | None = [] if classes.dtype.kind in "iub" and classes.min() >= 0 else None
        self._warned = False
        self.loss = 0.0

    def add(self, output: Any, codes: NDArray[np.int64]) -> None:
        import torch

        logits = _logits(output)
        if self._wrong is not None and logits is not None and len(self._classes) == logits.shape[1] <= self._classes.max():
            warn(
                f"labels go up to {self._classes.max()} and the model has outputs for 0..{logits.shape[1] - 1}: "
                "no error, loss or stragglers are recorded"
            )
        if not self._warned and logits is not None and self._classes.dtype.kind in "iu" and self._classes.min() < 0:
            self._warned = True
            warn(
                f"labels go down to {self._classes.min()}, which no output of the model is for: no error, loss or stragglers "
                "are recorded; leave rows without a label out of the probe set"
            )
        if self._wrong is None or logits is None or len(logits) != len(codes) or logits.shape[1] <= self._classes.max():
            self._wrong = None
            return
        targets = torch.from_numpy(self._classes[codes].astype(np.int64)).to(logits.device)
        losses = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        self.loss += float(losses.cpu().double().sum())
        self._wrong.append((logits.argmax(1) != targets).cpu().numpy())

    def wrong(self) -> NDArray[np.bool_] | None:
        return np.concatenate(self._wrong) if self._wrong else None


def logits_by_token(output: Any, keep: "Tensor | None", labelled: NDArray[np.bool_] | None) -> Any:
    """Logits for each token that has a row: its own, or those of its input."""
    import torch

    logits = _first_logits(output)
    if labelled is None or keep is None or not isinstance(logits, torch.Tensor):
        return output
    if logits.ndim == 2 and len(logits) == len(keep):
        logits = logits.repeat_interleave(keep.sum(1), 0)
    elif logits.ndim == 3 and logits.shape[:2] == keep.shape:
        logits = logits[keep]
    else:
        return None
    if len(logits) != len(labelled):
        return None
    return logits[torch.from_numpy(labelled).to(logits.device)]


def _first_logits(output: Any) -> Any:
    if isinstance(output, Mapping):
        return output.get("logits")
    return output[0] if isinstance(output, (tuple, list)) and output else output


def _logits(output: Any) -> "Tensor | None":
    """(b, C) logits among what a model returns: itself, an item called logits, or the first of a tuple."""
    import torch

    output = _first_logits(output)
    usable = isinstance(output, torch.Tensor) and output.ndim == 2 and output.shape[1] > 1 and output.is_floating_point()
    return output if usable else None
