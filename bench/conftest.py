"""Each task and its peers in one run: every round times fastent and then each peer, so that noise affects all of them alike."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.blas import loaded_kernels
from bench.machine import load
from bench.scale import MINUTES, skip_if_late
from bench.timing import Times, median_ratio, median_times, settle, timed, unsettled

ROUNDS = 5


class Part(NamedTuple):
    """A peer that does only a part of the task, and the factor by which its time is extrapolated."""

    work: Callable[[], Any]
    times: float


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """If the time may not suffice for all tasks, the first task of each file runs before the second of any file."""
    if not math.isfinite(MINUTES):
        return
    seen: Counter[Path] = Counter()
    rank = {}
    for item in items:
        rank[item.nodeid] = seen[item.path]
        seen[item.path] += 1
    items.sort(key=lambda item: rank[item.nodeid])


def pytest_runtest_setup() -> None:
    skip_if_late()


@pytest.fixture
def side_by_side(benchmark: Any) -> Callable[..., dict[str, float]]:
    """Time `ours` with pytest-benchmark and the `peers` between its rounds; store each peer's medians and its ratios to ours.

    Returned are the ratios of wall time. Stored too are processor times, the BLAS kernels and the load at the start.
    """

    def compare(
        ours: Callable[[], Any],
        peers: dict[str, Callable[[], Any] | Part],
        *,
        rounds: int = ROUNDS,
        warmup: bool = True,
        **facts: Any,
    ) -> dict[str, float]:
        taken: dict[str, list[Times]] = {name: [] for name in peers}
        own: list[Times] = []
        busy = load()

        def time_peers() -> None:
            for name, peer in peers.items():
                work, times = peer if isinstance(peer, Part) else (peer, 1)
                taken[name].append(timed(work) * times)
            settle()

        def time_ours() -> None:
            own.append(unsettled(ours))

        benchmark.pedantic(time_ours, setup=time_peers, rounds=rounds, warmup_rounds=int(warmup))
        for times in (own, *taken.values()):
            del times[: int(warmup)]
        figures = {}
        for name, times in taken.items():
            median, ratio = median_times(times), median_ratio(times, own)
            figures[name] = {
                "median_s": median.wall, "ratio": ratio.wall, "processor_s": median.processor, "processor_ratio": ratio.processor,
            }  # fmt: skip
        measured = {"processor_s": median_times(own).processor, "blas": loaded_kernels(), "load": busy, "peers": figures}
        benchmark.extra_info.update(facts | measured)
        return {name: each["ratio"] for name, each in figures.items()}

    return compare
