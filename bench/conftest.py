"""Each task and its peers in one run: every round times fastent and then each peer, so that noise affects all of them alike."""

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.scale import MINUTES, skip_if_late

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
    """Time `ours` with pytest-benchmark and the `peers` between its rounds; store each peer's median and its ratio to ours."""

    def compare(
        ours: Callable[[], Any],
        peers: dict[str, Callable[[], Any] | Part],
        *,
        rounds: int = ROUNDS,
        warmup: bool = True,
        **facts: Any,
    ) -> dict[str, float]:
        seconds: dict[str, list[float]] = {name: [] for name in peers}
        own: list[float] = []

        def time_peers() -> None:
            for name, peer in peers.items():
                work, times = peer if isinstance(peer, Part) else (peer, 1)
                started = time.perf_counter()
                work()
                seconds[name].append(times * (time.perf_counter() - started))

        def timed() -> None:
            started = time.perf_counter()
            ours()
            own.append(time.perf_counter() - started)

        benchmark.pedantic(timed, setup=time_peers, rounds=rounds, warmup_rounds=int(warmup))
        for times in (own, *seconds.values()):
            del times[: int(warmup)]
        ratios = {
            name: statistics.median(peer / ours for peer, ours in zip(times, own, strict=True))
            for name, times in seconds.items()
        }
        benchmark.extra_info.update(
            facts
            | {
                "peers": {
                    name: {"median_s": statistics.median(times), "ratio": ratios[name]} for name, times in seconds.items()
                }
            }
        )
        return ratios

    return compare
