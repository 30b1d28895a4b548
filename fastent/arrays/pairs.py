"""Points with their labels in one object: (X, y), a mapping or scikit-learn's Bunch, a Dataset or DataLoader of torch."""

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastent.arrays.labels import remedy_for_shape
from fastent.arrays.validation import as_array
from fastent.errors import FastentError, warn
from fastent.io.npy import USUAL_NAMES
from fastent.io.reading import name_list
from fastent.runtime.memory import check_fits

__all__ = ["kind_of_pair", "named_part", "pair_in", "pair_of_torch", "points_in"]

Array = NDArray[Any]

_REMEDY = "pass X and labels, or record a model's layers with fe.capture(model, loader, layers, out)"


def pair_in(data: Any) -> tuple[Any, Any] | None:
    """The points and labels that an object holds, or None if it is of no such kind."""
    if isinstance(data, tuple) and len(data) == 2 and _may_be(data[0], 2) and _may_be(data[1], 1):
        return data
    if isinstance(data, Mapping):
        found = named_part(data, "X"), named_part(data, "y")
        if found[0] is None or found[1] is None:
            raise FastentError(f"the mapping holds {name_list(sorted(map(str, data)))}: X and y are needed")
        return found
    return pair_of_torch(data)


def kind_of_pair(data: Any) -> str | None:
    """What an object is called that `pair_in` would take apart, or None."""
    if isinstance(data, tuple):
        return "pair" if len(data) == 2 and _may_be(data[0], 2) and _may_be(data[1], 1) else None
    return type(data).__name__ if isinstance(data, Mapping) or _is_of_torch(data) else None


def points_in(data: Any) -> Any:
    """The points alone of what `pair_in` takes apart; anything else as it is."""
    if isinstance(data, Mapping):
        found = named_part(data, "X")
        if found is None:
            raise FastentError(f"the mapping holds {name_list(sorted(map(str, data)))}: X is needed")
        return found
    pair = pair_in(data)
    return data if pair is None else pair[0]


def named_part(parts: Mapping[str, Any], what: str) -> Any:
    """What a mapping holds under one of the usual names of "X" or "y", or None."""
    return next((parts[name] for name in USUAL_NAMES[what] if name in parts), None)


def pair_of_torch(data: Any) -> tuple[Any, Any] | None:
    """The points and labels that a Dataset or DataLoader of torch yields, in memory; None of anything else.

    Rows are the items of the data set in their order, also where the loader shuffles; with a sampler of another kind they are
    what it draws once.
    """
    if not _is_of_torch(data):
        return None
    torch = sys.modules["torch"]
    if isinstance(data, torch.utils.data.TensorDataset) and len(data.tensors) == 2:
        y = data.tensors[1]
        return data.tensors[0], y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    kind = type(data).__name__
    total, batches = _batches(data)
    points: list[Any] = []
    labels: list[Any] = []
    for batch in batches:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise FastentError(f"the {kind} yields {_described(batch)}, not points with labels: {_REMEDY}")
        X, y = as_array(batch[0], f"points of the {kind}"), as_array(batch[1], f"labels of the {kind}")
        # One point, a picture of Pillow perhaps; a point of one axis is no batch, whatever its label is.
        if y.ndim == 0 or (X.ndim == 1 and y.ndim == 1) or (y.shape == (1,) and X.ndim > 1 and len(X) != 1):
            X, y = X[None], y[None]
        if X.ndim == 0 or X.dtype.kind not in "fiub" or len(X) != y.size:
            raise FastentError(f"the {kind} yields {_described(batch)}, not points with labels: {_remedy(X, y)}")
        if labels and _mixed(y.dtype.kind, labels[0].dtype.kind):
            raise FastentError(
                f"the {kind} yields labels of types {labels[0].dtype} and {y.dtype}, first in row {sum(map(len, points))}: "
                "classes are integers, strings or booleans, all of one type"
            )
        if points and X.shape[1:] != points[0].shape[1:]:
            raise FastentError(
                f"the {kind} yields points of shapes {points[0].shape[1:]} and {X.shape[1:]}: give all the same, say in a "
                "transform"
            )
        if not points:
            check_fits(X.nbytes / len(X) * (total or len(X)), f"the points of the {kind}", "use a torch.utils.data.Subset")
        points.append(X)
        labels.append(y.reshape(-1))
    if not points:
        raise FastentError(f"the {kind} yields nothing: at least one point is needed")
    return np.concatenate(points), np.concatenate(labels)


def _is_of_torch(data: Any) -> bool:
    torch = sys.modules.get("torch")  # a caller who has one of these has imported torch
    return torch is not None and isinstance(data, torch.utils.data.Dataset | torch.utils.data.DataLoader)


def _batches(data: Any) -> tuple[int | None, Iterator[Any]]:
    """How many points there are, if that is known, and pairs of some of them with their labels."""
    from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler

    if isinstance(data, IterableDataset):
        return None, iter(data)
    rows: Any
    if not isinstance(data, DataLoader):
        n = len(data)
        return n, (data[i] for i in range(n))
    if isinstance(data.dataset, IterableDataset):
        if data.num_workers == 0:
            return None, iter(data)
        # Each worker has a copy of the data set: unless it shares its rows out itself, each row would come several times.
        alone = DataLoader(data.dataset, data.batch_size, collate_fn=data.collate_fn)
        return None, iter(alone)
    sampler: Any = data.sampler if data.batch_sampler is None else getattr(data.batch_sampler, "sampler", None)
    rows, size = data.dataset, getattr(data.batch_sampler, "batch_size", data.batch_size)
    known = type(sampler) in (RandomSampler, SequentialSampler) and type(data.batch_sampler) in (BatchSampler, type(None))
    if not (known and len(sampler.data_source) == len(sampler) == len(rows) and not getattr(sampler, "replacement", False)):
        warn(f"rows are numbered in the order in which the {type(data).__name__} yields them")
        return None, iter(data)
    in_order = DataLoader(
        rows, size, collate_fn=data.collate_fn, num_workers=data.num_workers,
        multiprocessing_context=data.multiprocessing_context, worker_init_fn=data.worker_init_fn,
    )  # fmt: skip
    return len(rows), iter(in_order)


def _mixed(kind: str, other: str) -> bool:
    """Whether numpy would join labels of these two kinds as another one, in which 0, False and "0" may be one class."""
    number = "iuf"
    return "O" not in (kind, other) and kind != other and not (kind in number and other in number)


def _remedy(X: Array, y: Array) -> str:
    """What to do of points and labels that do not go together."""
    rows = y[None] if y.ndim == 1 else y
    if rows.ndim == 2 and X.ndim > 0 and X.dtype.kind in "fiub" and (y.ndim == 1 or len(y) == len(X)):
        what = remedy_for_shape(np.concatenate([rows, rows]), "labels")  # twice: a single row has no remedy of its own
        if "argmax" in what:
            what = what.replace("argmax(1)", "argmax(-1)")
            return f"its labels have shape {rows.shape[1:]}: {what}, as in a target_transform"
    return _REMEDY


def _described(batch: Any) -> str:
    if isinstance(batch, tuple | list):
        return f"({', '.join(type(part).__name__ for part in batch)})"
    return f"a {type(batch).__name__}"


def _may_be(part: Any, axes: int) -> bool:
    """Whether a part is a path, or an array, tensor or frame with at least two axes, or with one; a list has one."""
    if isinstance(part, str | os.PathLike):
        return True
    of_part = 1 if isinstance(part, list) else len(getattr(part, "shape", ()))
    return of_part == 1 if axes == 1 else of_part >= axes
