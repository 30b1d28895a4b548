"""The processes that train one model together: who they are, and how what each has seen comes together on all of them."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from fastent.errors import FastentError

__all__ = ["Ranks"]

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
