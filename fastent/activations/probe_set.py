"""The probe set: the same rows in the same order at every record, in whole batches for each of the processes that train."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastent.activations.batching import Inputs, batches
from fastent.activations.layouts import token_labels
from fastent.activations.loaders import check_order, drawn_alike, seed_with, stretch, total_rows
from fastent.arrays.validation import Labels, as_labels
from fastent.errors import FastentError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ProbeSet", "Ranks", "check_loader"]

Part = TypeVar("Part")


class Ranks(NamedTuple):
    """This process among those of torch.distributed; the only one, without it."""

    rank: int
    size: int

    @classmethod
    def now(cls) -> "Ranks":
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls(0, 1)

    def share(self, total: int) -> tuple[int, int]:
        """Which of so many things in a row are this process's: start, stop. The shares differ by one at most."""
        return self.rank * total // self.size, (self.rank + 1) * total // self.size

    def together(self, work: Callable[[], Part]) -> list[Part]:
        """Do this process's part and return the parts of all, in the order of the ranks.

        An error on one is raised on all of them: the others would wait for it forever.
        """
        if self.size == 1:
            return [work()]
        import torch.distributed as dist

        error: Exception | None = None
        mine: Any = None
        try:
            mine = work()
        except Exception as caught:
            error = caught
        gathered: list[Any] = [None] * self.size
        # Parts differ in size, and some ranks have none: objects travel, not tensors of one shape.
        dist.all_gather_object(gathered, (mine, None if error is None else f"{type(error).__name__}: {error}"))
        if error is not None:
            raise error
        for rank, (_, message) in enumerate(gathered):
            if message is not None:
                raise FastentError(f"rank {rank} could not do its part: {message}")
        return [part for part, _ in gathered]


# What torch's losses leave out: tokens that are special, or parts of a word.
_UNLABELLED = -100
# They give each process other rows, and some rows twice: torch's, and two of accelerate.
_DEALING = {"DistributedSampler", "BatchSamplerShard", "IterableDatasetShard"}


def check_loader(loader: Any) -> None:
    """Refuse a loader whose rows cannot be gone through again in the same order."""
    if hasattr(loader, "__next__"):
        raise FastentError(f"loader is a {type(loader).__name__}, which can be gone through only once: pass what it came from")
    for name in ("sampler", "batch_sampler", "dataset"):
        part = getattr(loader, name, None)
        if _DEALING & {kind.__name__ for kind in type(part).__mro__}:
            raise FastentError(
                f"loader has a {type(part).__name__}, which deals rows to processes, some of them twice: pass the loader of "
                "the whole probe set to every process, and each takes its part"
            )
    check_order(loader)


class Chunk(NamedTuple):
    """A batch of the probe set: the number of its first row, and the classes of its rows.

    Rows are inputs, or with pooling="tokens" those tokens that are neither padding nor labelled -100. `labelled` (tokens,) bool
    then says which of the tokens that are not padding have a label.
    """

    start: int
    inputs: Inputs
    codes: NDArray[np.int64]
    labelled: NDArray[np.bool_] | None


class _Given(NamedTuple):
    """The labels of a batch as they were read, and, of tokens, which have one."""

    labels: NDArray[Any]
    labelled: NDArray[np.bool_] | None

    @property
    def rows(self) -> int:
        return len(self.labels) if self.labelled is None else int(self.labelled.sum())


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
    tokens: tuple[_Given, ...] | None = None

    @classmethod
    def read(cls, loader: Any, ranks: Ranks, kept: "Callable[[Inputs], Tensor] | None" = None) -> "ProbeSet":
        """Go through the loader once for the labels; no model runs, unless `kept` runs it to tell (b, tokens) from padding."""
        check_loader(loader)
        first, last = (0, None) if ranks.size == 1 else ranks.share(_count_batches(loader))

        tokens: list[_Given] = []

        def own() -> NDArray[Any]:
            found = []
            for inputs, given in _batches_of(loader, first, last, None, tokens=kept is not None):
                if given is None:
                    raise FastentError(
                        "loader does not label each of its rows: batches (inputs, labels), or mappings with 'labels', are "
                        "needed"
                    )
                if kept is None:
                    found.append(np.asarray(given))
                else:
                    of_tokens = np.asarray(token_labels(given, kept(inputs)))
                    tokens.append(_Given(np.asarray(given), of_tokens != _UNLABELLED))
                    found.append(of_tokens[of_tokens != _UNLABELLED])
            return np.concatenate(found) if found else np.empty(0, np.int64)

        parts = ranks.together(own)
        ends = np.cumsum([len(part) for part in parts])
        if not ends[-1]:
            raise FastentError("loader has no rows: a probe set of two classes or more is needed")
        given = np.concatenate([part for part in parts if len(part)])
        labels = as_labels(given, minimum_classes=2, name="labels of the loader")
        stop = int(ends[ranks.rank])
        own_tokens = None if kept is None else tuple(tokens)
        return cls(loader, labels, stop - len(parts[ranks.rank]), stop, first, last, own_tokens)

    def __len__(self) -> int:
        return len(self.labels.codes)

    def chunks(self, device: Any, seed: int, skip: int = 0, start: int | None = None) -> Iterator[Chunk]:
        """Yield this process's batches, on the device; but for the first `skip`, after which row `start` comes.

        Random states are changed. What is drawn for a batch (augmentation), and by a model that is then given it, depends on
        the seed and the batch alone: it is the same at every record, whatever is skipped.

        Raises
        ------
        FastentError
            The rows are not those that were read at first.
        """
        codes, classes = self.labels
        at = self.start if start is None else start
        of_tokens = self.tokens is not None
        for i, (inputs, given) in enumerate(
            _batches_of(self.loader, self.first + skip, self.last, device, seed, tokens=of_tokens), skip
        ):
            values, labelled = np.empty(0) if given is None else np.asarray(given), None
            rows = len(values)
            if self.tokens is not None:
                if i >= len(self.tokens) or not np.array_equal(self.tokens[i].labels, values):
                    break
                rows, labelled = self.tokens[i].rows, self.tokens[i].labelled
            here = codes[at : min(at + rows, self.stop)]
            if not of_tokens and (len(here) != rows or not rows or not np.array_equal(classes[here], values)):
                break
            seed_with(seed, at, 1)
            yield Chunk(at, inputs, here, labelled)
            at += rows
        if at != self.stop:
            raise FastentError(
                f"loader gave other labels at row {at} than at first: every record needs the same rows in the same order "
                "(shuffle=False)"
            )


def _count_batches(loader: Any) -> int:
    n = total_rows(loader)
    return sum(1 for _ in batches(loader)) if n is None else -(-n // loader.batch_size)


def _batches_of(
    loader: Any, first: int, last: int | None, device: Any, seed: int | None = None, *, tokens: bool = False
) -> Iterator[tuple[Inputs, Any]]:
    """Batches first..last with their labels. Where the loader can be told to, it loads no others."""
    n = total_rows(loader)
    if n is None:
        every = batches(loader, device, tokens=tokens)
        yield from islice(every if seed is None else drawn_alike(every, seed), first, last)
        return
    start, stop = first * loader.batch_size, n if last is None else min(last * loader.batch_size, n)
    if start < stop:
        # A loader of its own also because the given one may be under way, with workers that a second pass would take from it.
        yield from batches(stretch(loader, start, stop, seed=seed), device, tokens=tokens)
