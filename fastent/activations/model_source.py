"""A source whose rows are computed on request: what a layer of a model puts out for the inputs of a loader."""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastent.activations.batching import batches, moved
from fastent.activations.evaluation import placed, unwrapped
from fastent.activations.hooks import hooked
from fastent.activations.loaders import check_order, seekable, stretch, total_rows
from fastent.arrays.validation import as_array
from fastent.errors import FastentError
from fastent.io.sources import Array, Source

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ModelSource"]


class ModelSource(Source):
    """What a layer of a model puts out for the rows of a loader, (n, d), computed again whenever rows are requested.

    Use it for statistics that need one pass (geometry), or when disk space is short; if rows are read many times, use
    `fe.capture`. Rows are computed in the loader's own batches, so they have the same bits whichever are requested, and are
    loaded in this process whatever `num_workers` is. The model runs as in `fe.capture` and is left as it was.

    Parameters
    ----------
    model : torch.nn.Module
        It runs on the device where it is.
    loader : DataLoader
        Over a data set, in its order (shuffle=False).
    layer : str
        As in `model.named_modules()`; "" is the model's own output.
    pooling : {"mean", "cls", "last", "flatten"}, default "mean"
        As in `fe.capture`; "tokens" is only possible there.

    Raises
    ------
    FastentError
        Unknown layers; loaders that cannot load a row by its number.

    Examples
    --------
    >>> import fastent as fe, torch
    >>> data = torch.utils.data.TensorDataset(torch.eye(5))
    >>> rows = fe.ModelSource(torch.nn.Linear(5, 2), torch.utils.data.DataLoader(data, batch_size=2), "")
    >>> rows
    ModelSource(5 x 2, float32)
    >>> rows[[4, 0]].shape
    (2, 2)
    """

    def __init__(self, model: "nn.Module", loader: Any, layer: str, *, pooling: str = "mean") -> None:
        if pooling == "tokens":
            raise FastentError(
                "pooling='tokens': how many rows there will be is not known before the model runs; use fe.capture"
            )
        check_order(loader)
        if not seekable(loader):
            raise FastentError(
                f"loader, a {type(loader).__name__}, cannot be asked for a row by its number: use a DataLoader over a data set "
                "with len() and [i], or fe.capture"
            )
        n = total_rows(loader)
        if not n:
            raise FastentError("loader has no rows: at least one batch is needed")
        self._model, self._loader, self._layer, self._pooling = unwrapped(model), loader, layer, pooling
        # Hooks and modes are the model's: one thread at a time.
        self._one = threading.Lock()
        first = self._batch_rows([0])[0]
        self.shape, self.dtype = (n, first.shape[1]), first.dtype

    def read(self, start: int, stop: int) -> Array:
        size = self._loader.batch_size
        wanted = range(start // size, -(-stop // size)) if stop > start else range(0)
        rows = np.empty((stop - start, self.shape[1]), self.dtype)
        with self._one:
            for at, found in self._batch_rows(wanted).items():
                begin, end = max(start, at * size), min(stop, at * size + len(found))
                rows[begin - start : end - start] = found[begin - at * size : end - at * size]
        return rows

    def take(self, rows: NDArray[np.int64]) -> Array:
        size = self._loader.batch_size
        found = np.empty((len(rows), self.shape[1]), self.dtype)
        batch = rows // size
        with self._one:
            for at in np.unique(batch).tolist():
                here = batch == at
                found[here] = self._batch_rows([at])[at][rows[here] - at * size]
        return found

    def _batch_rows(self, wanted: Sequence[int]) -> dict[int, Array]:
        """The layer's rows of some batches that follow each other. Nothing is kept: the model may be trained between reads."""
        if not wanted:
            return {}
        size = self._loader.batch_size
        loader = stretch(self._loader, wanted[0] * size, wanted[-1] * size + 1, workers=0)
        with placed(self._model) as device, hooked(self._model, [self._layer], self._pooling) as run_model:
            outputs = (run_model(moved(inputs, device))[1][self._layer] for inputs, _ in batches(loader))
            return {at: as_array(output, self._layer) for at, output in zip(wanted, outputs, strict=True)}
