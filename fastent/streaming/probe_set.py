"""The probe set: the same rows in the same order at every look, whole batches of them for each process."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastent.arrays import Labels, as_labels
from fastent.errors import FastentError
from fastent.streaming.layers import Inputs, batches
from fastent.streaming.ranks import Ranks

__all__ = ["ProbeSet", "check_loader"]

_SHUFFLING = ("RandomSampler", "SubsetRandomSampler", "WeightedRandomSampler")
# They give each process other rows, and some rows twice: torch's, and two of accelerate.
_DEALING = ("DistributedSampler", "BatchSamplerShard", "IterableDatasetShard")


def check_loader(loader: Any) -> None:
    """Refuse a loader whose rows cannot be gone through again in the same order."""
    if not hasattr(loader, "__iter__") and not hasattr(loader, "__getitem__"):
        raise FastentError(f"loader is {type(loader).__name__}: a DataLoader, or a list of batches, is needed")
    if hasattr(loader, "__next__"):
        raise FastentError(f"loader is a {type(loader).__name__}, which can be gone through only once: pass what it came from")
    batch_sampler = getattr(loader, "batch_sampler", None)
    for part in (
        getattr(loader, "sampler", None),
        batch_sampler,
        getattr(batch_sampler, "sampler", None),
        getattr(loader, "dataset", None),
    ):
        kinds = {kind.__name__ for kind in type(part).__mro__}
        if kinds & set(_DEALING):
            raise FastentError(
                f"loader has a {type(part).__name__}, which deals rows to processes, some of them twice: pass the loader of "
                "the whole probe set to every process, and each takes its part"
            )
        if kinds & set(_SHUFFLING):
            raise FastentError(
                f"loader has a {type(part).__name__}: rows keep their numbers from look to look, pass one with shuffle=False"
            )


class Chunk(NamedTuple):
    """A batch of the probe set: the row number of its first input, and the classes of its inputs."""

    start: int
    inputs: Inputs
    codes: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ProbeSet:
    """n rows that a loader gives, in its order; rows start..stop are this process's, those of the batches first..last.

    Attributes
    ----------
    labels : Labels
        Codes of all n rows, and the sorted labels that they stand for.
    """

    loader: Any
    labels: Labels
    start: int
    stop: int
    first: int
    last: int | None

    @classmethod
    def read(cls, loader: Any, ranks: Ranks) -> "ProbeSet":
        """Go through the loader once for the labels; no model runs."""
        check_loader(loader)
        first, last = (0, None) if ranks.size == 1 else ranks.share(_count_batches(loader))

        def own() -> NDArray[Any]:
            found = [given for _, given in _batches_of(loader, first, last, None)]
            if any(given is None for given in found):
                raise FastentError(
                    "loader does not label each of its rows: batches (inputs, labels), or mappings with 'labels', are needed"
                )
            return np.concatenate([np.asarray(given) for given in found]) if found else np.empty(0, np.int64)

        parts = ranks.together(own)
        ends = np.cumsum([len(part) for part in parts])
        if not ends[-1]:
            raise FastentError("loader has no rows: a probe set of two classes or more is needed")
        given = np.concatenate([part for part in parts if len(part)])
        labels = as_labels(given, minimum_classes=2, name="labels of the loader")
        stop = int(ends[ranks.rank])
        return cls(loader, labels, stop - len(parts[ranks.rank]), stop, first, last)

    def __len__(self) -> int:
        return len(self.labels.codes)

    def chunks(self, device: Any, skip: int = 0, start: int | None = None) -> Iterator[Chunk]:
        """Yield this process's batches, on the device; but for the first `skip`, after which row `start` comes.

        Raises
        ------
        FastentError
            The rows are not those that were read at first.
        """
        codes, classes = self.labels
        at = self.start if start is None else start
        for inputs, given in _batches_of(self.loader, self.first + skip, self.last, device):
            values = np.empty(0) if given is None else np.asarray(given)
            here = codes[at : min(at + len(values), self.stop)]
            if len(here) != len(values) or not len(here) or not np.array_equal(classes[here], values):
                break
            yield Chunk(at, inputs, here)
            at += len(here)
        if at != self.stop:
            raise FastentError(
                f"loader gave other labels at row {at} than at first: the same rows in the same order are needed at every look "
                "(shuffle=False)"
            )


class _Part:
    """Some consecutive batches of a batch sampler."""

    def __init__(self, batch_sampler: Any, first: int, last: int | None) -> None:
        self._batch_sampler, self._first, self._last = batch_sampler, first, last

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self._batch_sampler), self._first, self._last)

    def __len__(self) -> int:
        total = len(self._batch_sampler)
        return max(0, (total if self._last is None else min(self._last, total)) - self._first)


def _has_rows_by_number(loader: Any) -> bool:
    from torch.utils.data import DataLoader, IterableDataset

    return (
        isinstance(loader, DataLoader)
        and type(loader).__iter__ is DataLoader.__iter__
        and loader.batch_sampler is not None
        and not isinstance(loader.dataset, IterableDataset)
    )


def _count_batches(loader: Any) -> int:
    return len(loader.batch_sampler) if _has_rows_by_number(loader) else sum(1 for _ in batches(loader))


def _batches_of(loader: Any, first: int, last: int | None, device: Any) -> Iterator[tuple[Inputs, Any]]:
    """Batches first..last with their labels. Where the loader can be told to, it loads no others."""
    from torch.utils.data import DataLoader

    if not _has_rows_by_number(loader):
        yield from islice(batches(loader, device), first, last)
        return
    # A loader of its own also because the given one may be under way, with workers that a second iteration would take from it.
    part: Any = _Part(loader.batch_sampler, first, last)
    own: Any = DataLoader(
        loader.dataset,
        batch_sampler=part,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
    )
    yield from batches(own, device)
