"""Loaders whose rows have numbers: row i is the i-th row that is loaded, in every pass."""

import hashlib
import random
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np

from fastent.errors import FastentError

__all__ = [
    "add_to_digest", "check_order", "drawn_alike", "fingerprint", "seed_with", "seekable", "stretch", "total_rows",
]  # fmt: skip


def check_order(loader: Any) -> None:
    """Refuse a loader that goes through its data set in another order."""
    from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler

    if not isinstance(loader, DataLoader):
        if not hasattr(loader, "__iter__"):
            raise FastentError(f"loader is {type(loader).__name__}: a DataLoader, or an iterable of batches, is needed")
        return
    if isinstance(loader.dataset, IterableDataset):
        return
    batched = loader.batch_sampler is None or type(loader.batch_sampler) is BatchSampler
    sampler = loader.sampler if batched else loader.batch_sampler
    if not batched or not isinstance(sampler, SequentialSampler):
        raise FastentError(
            f"loader takes its rows by a {type(sampler).__name__}, so that they cannot be named: use shuffle=False, "
            "and for some of the rows torch.utils.data.Subset"
        )


def seekable(loader: Any) -> bool:
    """Whether batches can be loaded without those before: a plain DataLoader that goes through its data set in order."""
    from torch.utils.data import DataLoader, IterableDataset

    # A subclass may do more than its attributes say.
    plain = type(loader) is DataLoader and not isinstance(loader.dataset, IterableDataset)
    return plain and loader.batch_size is not None


def total_rows(loader: Any) -> int | None:
    """How many rows a pass has, or None if that is unknown before."""
    if not seekable(loader):
        return None
    n = len(loader.dataset)
    return n - n % loader.batch_size if loader.drop_last else n


def stretch(loader: Any, start: int, stop: int, *, workers: int | None = None, seed: int | None = None) -> Any:
    """The batches that begin at rows start..stop of a seekable loader, `start` being the first of a batch.

    With a seed, random numbers drawn for a batch depend only on the seed and the batch's first row.
    """
    from torch.utils.data import DataLoader, Subset

    workers = loader.num_workers if workers is None else workers
    with_workers = {
        "worker_init_fn": loader.worker_init_fn,
        "multiprocessing_context": loader.multiprocessing_context,
        "prefetch_factor": loader.prefetch_factor,
        "timeout": loader.timeout,
    }
    end = min(-(-stop // loader.batch_size) * loader.batch_size, len(loader.dataset))
    rows: Any = Subset(loader.dataset, range(start, end))
    if seed is not None:
        rows = _Seeded(rows, start, seed)
    return DataLoader(
        rows,
        batch_size=loader.batch_size,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        drop_last=loader.drop_last,
        generator=loader.generator,
        num_workers=workers,
        **(with_workers if workers else {}),
    )


class _Seeded:
    """A data set that draws each batch from a random state of its own, in whatever process."""

    def __init__(self, rows: Any, start: int, seed: int) -> None:
        self._rows, self._start, self._seed = rows, start, seed

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, numbers: list[int]) -> Any:
        seed_with(self._seed, self._start + numbers[0])
        return self._rows.__getitems__(numbers)


def drawn_alike(stream: Iterator[Any], seed: int) -> Iterator[Any]:
    """Yield from a stream, each item drawn from a random state that depends only on the seed and the item's number."""
    for number in count():
        seed_with(seed, number)
        try:
            value = next(stream)
        except StopIteration:
            return
        yield value


def seed_with(*numbers: int) -> None:
    """Seed the CPU generators of python, numpy and torch."""
    import torch

    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (a data set may draw from it)
    torch.default_generator.manual_seed(seed)


def fingerprint(batch: Any) -> str:
    """16 digits of the SHA-256 of inputs, or of inputs and labels."""
    digest = hashlib.sha256()
    add_to_digest(digest, batch)
    return digest.hexdigest()[:16]


def add_to_digest(digest: Any, value: Any) -> None:
    """Hash tensors by dtype, shape and bytes, mappings and sequences by their parts."""
    import torch

    if isinstance(value, torch.Tensor) and value.is_nested:
        add_to_digest(digest, value.detach().unbind())
    elif isinstance(value, torch.Tensor):
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        for name in sorted(value, key=str):
            digest.update(f"{name} ".encode())
            add_to_digest(digest, value[name])
    elif isinstance(value, (tuple, list)):
        for part in value:
            add_to_digest(digest, part)
    else:
        digest.update(repr(value).encode())
